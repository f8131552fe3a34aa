"""Types of a recipe's fields: what the command line writes, read as what a YAML file holds."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from featx.recipes.yaml_text import read_yaml


def split_commas(value: Any) -> Any:
    """Take ``a,b,c`` for a list, as the command line gives it."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def split_number_list(value: Any) -> Any:
    """Take ``0.1,1,10`` for a list of numbers; leave one number or a word as it is."""
    return split_commas(value) if isinstance(value, str) and "," in value else value


def split_limits(value: Any) -> Any:
    """Take ``train=600,test=1000`` for a mapping."""
    if isinstance(value, str) and "=" in value:
        pairs = [part.partition("=") for part in split_commas(value)]
        return {split.strip(): limit for split, _, limit in pairs}
    return value


def split_names(value: Any) -> Any:
    """Take ``3`` for ``"3"`` in a list of class names, as YAML gives the digits' classes."""
    value = split_commas(value)
    return (
        [str(v) if isinstance(v, int) else v for v in value] if isinstance(value, list) else value
    )


def read_amount(value: Any) -> Any:
    """Take ``0.2`` for a fraction and ``5000`` for a count."""
    if isinstance(value, str):
        return int(value) if value.strip().isdigit() else float(value)
    return value


def read_mapping(value: Any) -> Any:
    """Take YAML or JSON text for a mapping, as the command line gives it."""
    if isinstance(value, str):
        try:
            return read_yaml(value)
        except ValueError:
            return value
    return value


Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
HoldOut = Annotated[int | float, BeforeValidator(read_amount), Field(ge=0)]
