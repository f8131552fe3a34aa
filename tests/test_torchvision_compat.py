"""torchvision imports everywhere, and where it is healthy nothing is touched."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HEALTHY = "__version__ = '9.9'\n"

# What a torchvision for CUDA does beside a CPU-only torch: it registers shape functions for
# operators that its extension did not declare.
MISMATCHED = """
import torch
from torchvision import _meta_registrations
__version__ = '9.8'
"""

REGISTRATIONS = """
import torch

@torch.library.register_fake("torchvision::featx_test_a")
def meta_a(x):
    return x

@torch.library.register_fake('torchvision::featx_test_b')
def meta_b(x):
    return x
"""


def run(code: str, *, path: Path | None = None) -> str:
    """Run code in a fresh interpreter, with `path` first on the import path."""
    setup = f"import sys; sys.path.insert(0, {str(path)!r})\n" if path else ""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", setup + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fake_torchvision(folder: Path, init: str, registrations: str = "") -> Path:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(init)
    if registrations:
        (package / "_meta_registrations.py").write_text(registrations)
    return folder


def test_timm_creates_a_network_on_this_machine() -> None:
    out = run("""
        from featx.torchvision_compat import import_timm
        import_timm()
        import timm
        print(sum(p.numel() for p in timm.create_model("resnet18").parameters()))
    """)
    assert out.strip() == "11689512"


def test_a_healthy_torchvision_is_left_alone(tmp_path: Path) -> None:
    fake_torchvision(tmp_path, HEALTHY)
    out = run(
        """
        import torch

        def refuse(*args, **kwargs):
            raise AssertionError("a library was created")

        torch.library.Library = refuse
        from featx import torchvision_compat
        first = torchvision_compat.import_torchvision()
        assert torchvision_compat.import_torchvision() is first is sys.modules["torchvision"]
        print(torchvision_compat.torchvision_health())
    """,
        path=tmp_path,
    )
    assert out.strip() == "Health(ok=True, detail='torchvision 9.9')"


def test_missing_operators_are_found_in_the_file_and_declared_once(tmp_path: Path) -> None:
    fake_torchvision(tmp_path, MISMATCHED, REGISTRATIONS)
    out = run(
        """
        from concurrent.futures import ThreadPoolExecutor
        from featx import torchvision_compat as compat
        with ThreadPoolExecutor(4) as pool:
            modules = list(pool.map(lambda _: compat.import_torchvision(), range(8)))
        assert len({id(module) for module in modules}) == 1
        import torch
        assert len(compat._libraries) == 1
        for name in ("featx_test_a", "featx_test_b"):
            try:
                getattr(torch.ops.torchvision, name)(torch.ones(2))
            except NotImplementedError:
                print("raises")
        assert not hasattr(torch.ops.torchvision, "featx_test_c")
        health = compat.torchvision_health()
        print(health.ok, health.detail)
    """,
        path=tmp_path,
    )
    first, second, third = out.strip().splitlines()
    assert first == second == "raises"
    assert third.startswith("False torchvision 9.8 was built for another torch")
    assert "featx_test_a, featx_test_b" in third
    assert "install torch and torchvision from the same index" in third


@pytest.mark.parametrize(
    "init",
    ["raise RuntimeError('operator other::nms does not exist')", "raise ImportError('broken')"],
)
def test_any_other_error_is_passed_on(tmp_path: Path, init: str) -> None:
    fake_torchvision(tmp_path, init)
    out = run(
        """
        from featx import torchvision_compat as compat
        for name in ("import_torchvision", "import_timm"):
            try:
                getattr(compat, name)()
            except (RuntimeError, ImportError) as error:
                print(error)
        assert not compat._libraries
        health = compat.torchvision_health()
        print(health.ok, health.detail)
    """,
        path=tmp_path,
    )
    first, second, third = out.strip().splitlines()
    assert first == second
    assert first in init
    assert third.startswith("False torchvision does not import")
    assert first in third


def test_importing_the_module_imports_nothing_heavy() -> None:
    out = run("""
        import sys
        import featx.torchvision_compat, featx.backbones
        print([name for name in ("torch", "torchvision", "timm", "numpy") if name in sys.modules])
    """)
    assert out.strip() == "[]"


def test_health_names_the_version_that_imports_here(monkeypatch: pytest.MonkeyPatch) -> None:
    from featx import torchvision_compat as compat

    version = compat.import_torchvision().__version__
    assert f"torchvision {version}" in compat.torchvision_health().detail
    assert compat.torchvision_health().ok is not bool(compat._declared)

    def broken() -> None:
        raise ImportError("no such thing")

    monkeypatch.setattr(compat, "import_torchvision", broken)
    health = compat.torchvision_health()
    assert not health.ok
    assert "ImportError: no such thing" in health.detail


def test_the_compiler_is_imported_when_it_is_asked_for() -> None:
    out = run("""
        import importlib, sys
        import featx
        from featx.torchvision_compat import import_torchvision
        import_torchvision()
        featx.load_backbone("resnet18", "none").cut_points((32, 32))
        print("torch._dynamo" in sys.modules, "torch._dynamo.utils" in sys.modules)
        # What torchvision has taken is what torch has.
        taken = importlib.import_module("torchvision.ops.roi_align").is_compile_supported
        print(taken("cpu"))
        from torch._dynamo import utils
        print(utils.is_compile_supported("cpu"), utils.is_compile_supported is taken)
    """)
    before, taken, real = out.splitlines()
    assert before == "False False"
    assert real == f"{taken} False"


def test_whoever_asks_for_more_of_the_compiler_gets_it_meanwhile(tmp_path: Path) -> None:
    fake_torchvision(
        tmp_path,
        HEALTHY
        + "from torch._dynamo.utils import is_compile_supported, counters\n"
        + "import torch._dynamo\n",
    )
    out = run(
        """
        from featx.torchvision_compat import import_torchvision
        found = import_torchvision()
        import torch._dynamo.utils
        print(torch._dynamo.utils.counters is found.counters)
        print(torch._dynamo.utils.__file__ is not None)
        """,
        path=tmp_path,
    )
    assert out.split() == ["True", "True"]
