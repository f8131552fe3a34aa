"""The built wheel works outside the checkout: `featx demo`, with everything it needs inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(REPO)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(folder.glob("featx-*.whl"))


def test_the_wheel_holds_recipes_templates_types_and_license(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in ("featx/pipelines/demo.yaml", "featx/py.typed", "featx/cli/__init__.py"):
        assert wanted in names
    assert any(name.startswith("featx/report/templates/") for name in names)
    for wanted in ("static/page.js", "static/page.css", "templates/page.html.j2"):
        assert f"featx/report/page/{wanted}" in names
    assert any(name.endswith("LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "cache/", "reports/")) for name in names)


def test_the_demo_runs_from_the_wheel_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def python(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words], cwd=work, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    where = python("-c", "import featx; print(featx.__file__)").stdout.strip()
    assert Path(where).is_relative_to(site)
    done = python("-m", "featx", "demo")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("Report: reports/demo/report.md")
    assert "Warning" not in done.stderr
    record = json.loads((work / "reports/demo/results.json").read_text())
    best = max(result["accuracy"]["val"] for result in record["results"])
    # Ten balanced digits: chance is 0.1; pixels alone give about 0.95 with a linear SVM.
    assert best > 0.9
    assert len(record["results"]) >= 4
