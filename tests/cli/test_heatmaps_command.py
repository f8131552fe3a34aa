"""``featx heatmaps``: a picture per image, and messages for what cannot be."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from featx.cli import app
from featx.heads import LinearHead
from featx.pipeline.heat_pictures import _stems

SMALL = ["--backbone", "resnet18", "--weights", "none", "--image-size", "32", "--device", "cpu"]
DIGITS = ["--dataset", "digits", "--limit", "8", "--stratified"]


def featx(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture(scope="module")
def head_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head that a run has saved."""
    folder = tmp_path_factory.mktemp("run")
    places = ["--cache-dir", str(folder / "cache"), "--out", str(folder), "--name", "run"]
    result = featx("fit-svm", *SMALL, *DIGITS, "--cut", "layer2", "--C", "0.01", *places)
    assert result.exit_code == 0, result.output
    return folder / "run" / "heads" / "layer2.safetensors"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "my photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_every_image_file_gets_a_picture(tmp_path: Path, photo: Path) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / photo.name
    Image.open(photo).resize((30, 30)).save(other)
    cuts = ["--cut", "layer3", "--cut", "layer1"]
    out = tmp_path / "maps"
    images = ["--image", str(photo), "--image", str(other)]
    result = featx("heatmaps", *SMALL, *cuts, *images, "--channel", "70", "--out", str(out))
    assert result.exit_code == 0, result.output
    pictures = sorted(out.iterdir())
    assert [path.name for path in pictures] == ["my-photo-2.png", "my-photo.png"]
    assert sorted(result.stdout.split("\n")[:2]) == [str(path) for path in pictures]
    for path in pictures:
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "PNG"


def test_a_head_shows_its_evidence_for_random_images(tmp_path: Path, head_file: Path) -> None:
    words = ["--head", str(head_file), "--class", "3", "--n", "2", "--out", str(tmp_path)]
    result = featx("heatmaps", *SMALL, *DIGITS, *words)
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2
    assert all(re.fullmatch(r"test-\d+\.png", name) for name in names)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cut", "layer1"], "Images come from files or from a data set: give --image FILE"),
        (["--cut", "layer1", "--image", "PHOTO", *DIGITS], "and not both."),
        (["--image", "PHOTO"], "No cut is given. List those of the network: featx layers resnet18"),
        (["--cut", "layer5", "--image", "PHOTO"], "Cut 'layer5' is not in resnet18. Closest:"),
        (["--cut", "fc", "--image", "PHOTO"], "Cut 'fc' of resnet18 is a vector of 1000 values"),
        (["--cut", "layer1", "--image", "TEXT"], "text.jpg: it is not an image of a known format"),
        (
            ["--cut", "layer1", "--image", "gone.jpg"],
            "There is no file 'gone.jpg': expected an image file.",
        ),
        (
            ["--cut", "layer1", "--image", "."],
            "'.' is a folder: expected an image file. For images",
        ),
        (["--cut", "layer1", "--image", "PHOTO", "--class", "3"], "none is given: --head FILE"),
        (["--head", "HEAD", "--image", "PHOTO", "--class", "33"], "Class '33' is not in this head"),
        (
            ["--head", "HEAD", "--image", "PHOTO", "--crop", "none", "--cut", "layer1"],
            "Add it: --cut layer2",
        ),
        (
            ["--head", "HEAD", "--image", "PHOTO", "--image-size", "64"],
            "The head was fitted on images with image_size 32",
        ),
        (["--head", "HEAD", "--image", "PHOTO", "--seed", "1"], "Give those: --backbone and"),
        (["--head", "MUTE", "--image", "PHOTO"], "does not say which cut, pooling and"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, photo: Path, head_file: Path, words: list[str], said: str
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    mute = replace(LinearHead.load(head_file), provenance={}).save(tmp_path / "mute.safetensors")
    files = {"PHOTO": photo, "TEXT": text, "HEAD": head_file, "MUTE": mute}
    result = featx(
        "heatmaps", *SMALL, *(str(files.get(word, word)) for word in words), "--out",
        str(tmp_path / "maps"),
    )  # fmt: skip
    assert result.exit_code == 2, result.output
    assert said in re.sub(r"\s+", " ", result.stderr)
    assert not (tmp_path / "maps").exists()


def test_more_images_than_there_are_is_said(tmp_path: Path) -> None:
    words = ["--cut", "layer1", "--n", "500", "--out", str(tmp_path), "--limit", "1"]
    result = featx("heatmaps", *SMALL, *DIGITS, *words)
    assert result.exit_code == 0, result.output
    n = len(list(tmp_path.iterdir()))
    assert n < 500
    said = f"warning: 500 images were asked for, the split has {n}."
    assert said in re.sub(r"\s+", " ", result.stderr)


def test_a_head_with_the_statistics_of_every_split_warns(
    tmp_path: Path, photo: Path, head_file: Path
) -> None:
    head = LinearHead.load(head_file)
    said = {**head.provenance, "standardize": "per-split"}
    own = replace(head, provenance=said).save(tmp_path / "own.safetensors")
    words = ["--head", str(own), "--image", str(photo), "--out", str(tmp_path / "maps")]
    words += ["--crop", "none"]
    result = featx("heatmaps", *SMALL, *words)
    assert result.exit_code == 0, result.output
    assert "carries the training split's statistics" in re.sub(r"\s+", " ", result.stderr)


def test_pictures_keep_the_names_of_their_images_in_any_alphabet() -> None:
    files = [Path(name) for name in ("犬.png", "猫.png", "x.png", "X.png", "a b.png", "...png")]
    assert _stems(files) == ["犬", "猫", "x", "X-2", "a-b", "image"]


def test_grad_cam_names_its_extra(
    tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    words = ["--cut", "layer2", "--image", str(photo), "--grad-cam", "--out", str(tmp_path / "x")]
    result = featx("heatmaps", *SMALL, *words)
    assert result.exit_code == 2
    assert "pip install 'featx[gradcam]'" in re.sub(r"\s+", " ", result.stderr)


@pytest.mark.skipif(find_spec("pytorch_grad_cam") is None, reason="featx[gradcam] is missing")
def test_grad_cam_is_one_row_more(tmp_path: Path, photo: Path) -> None:
    heights = []
    for flags in ([], ["--grad-cam"]):
        words = ["--cut", "layer2", "--image", str(photo), "--out", str(tmp_path / "x"), *flags]
        result = featx("heatmaps", *SMALL, *words)
        assert result.exit_code == 0, result.output
        with Image.open(tmp_path / "x" / "my-photo.png") as picture:
            heights.append(picture.height)
    # 0.7 inches of text, and 2.75 for a row.
    assert heights[1] / heights[0] == pytest.approx((0.7 + 2 * 2.75) / (0.7 + 2.75), rel=0.01)
