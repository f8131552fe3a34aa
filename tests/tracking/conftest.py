"""Fixtures of tracking: the user's settings of MLflow are not the tests'."""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest import mock

import pytest
from tracking_cases import Listener


@pytest.fixture(autouse=True)
def _no_settings_of_the_user() -> Iterator[None]:
    with mock.patch.dict(os.environ):
        for name in list(os.environ):
            if name.startswith("MLFLOW_"):
                del os.environ[name]
        yield


@pytest.fixture
def listener() -> Listener:
    return Listener()
