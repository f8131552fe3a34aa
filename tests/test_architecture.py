"""The layout is as docs/architecture.md says: imports, length of files, public names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import featx

PACKAGE = Path(featx.__file__).parent
DOC = PACKAGE.parent / "docs" / "architecture.md"
TABLE = re.findall(r"^\| `(\w+)` \|", DOC.read_text(), re.MULTILINE)
FILES = sorted(PACKAGE.rglob("*.py"))


def _layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported_layers(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = [name.split(".") for name in names]
    return {p[1] for p in parts if p[0] == "featx" and len(p) > 1 and p[1] in TABLE}


def test_every_module_is_in_the_table() -> None:
    layers = {_layer(path) for path in FILES} - {"__init__", "__main__"}
    assert layers == set(TABLE)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_up_the_table(path: Path) -> None:
    layer = _layer(path)
    if layer in ("__init__", "__main__"):
        return
    allowed = set(TABLE[: TABLE.index(layer) + 1])
    assert _imported_layers(path) <= allowed


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_is_far_over_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 440


def test_the_public_names_are_these() -> None:
    assert featx.__all__ == [
        "Backbone", "Dataset", "FeatureSet", "FeatureStore", "FeatxError", "LinearHead",
        "Preprocess", "Recipe", "RunRecord", "Scaler", "__version__", "evaluate_predictions",
        "extract", "extract_to_store", "fit_logistic", "fit_svm", "load_backbone",
        "load_dataset", "load_recipe", "run", "write_report",
    ]  # fmt: skip
    for name in featx.__all__:
        assert getattr(featx, name) is not None
    assert callable(featx.extract)
    assert callable(featx.run)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        featx.nothing  # noqa: B018


def test_importing_featx_and_its_command_line_leaves_heavy_libraries_alone() -> None:
    code = (
        "import sys, featx, featx.cli;"
        "heavy = {'torch', 'torchvision', 'timm', 'sklearn', 'h5py', 'matplotlib', 'scipy', 'PIL'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
