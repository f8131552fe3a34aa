"""What each kind of image file becomes, and which files are bad."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from featx.data import decode as decoding
from featx.data.decode import Header, decode, extensions, probe, probe_all
from featx.errors import DataError


def gradient(height: int = 40, width: int = 24) -> Image.Image:
    """Return a smooth picture without any symmetry."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(
        np.stack([x * 10, y * 6, (x + 2 * y) * 2], axis=-1).clip(0, 255).astype(np.uint8)
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif", ".webp"])
def test_exif_orientation_is_applied(tmp_path: Path, ending: str, orientation: int) -> None:
    path = tmp_path / f"turned{ending}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    gradient().save(path, exif=exif)
    got = decode(path)
    with Image.open(path) as opened:
        expected = ImageOps.exif_transpose(opened).convert("RGB")
    np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))
    header = probe(path)
    assert isinstance(header, Header)
    assert header.size == (got.height, got.width) == ((40, 24) if orientation < 5 else (24, 40))


@pytest.mark.parametrize(
    "exif",
    [
        b"nonsense, not a TIFF header",
        b"II*\0\x08\0\0\0\xff\xff",  # 65,535 tags announced, none there: Pillow warns
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0\0\0\0\0",  # a text for a number
    ],
)
def test_a_damaged_orientation_leaves_the_pixels_as_they_are(tmp_path: Path, exif: bytes) -> None:
    path = tmp_path / "odd.jpg"
    gradient().save(path, exif=b"Exif\0\0" + exif)
    assert decode(path).size == (24, 40)
    (header,) = probe_all([path], tmp_path, 1)
    assert header.size == (40, 24)


def test_a_pillow_that_raises_on_a_damaged_orientation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older Pillow does: "not a TIFF file (header ... not valid)"."""
    gradient().save(tmp_path / "odd.png")

    def raising(self: Image.Image) -> None:
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", raising)
    assert isinstance(probe(tmp_path / "odd.png"), Header)


def test_a_phones_pair_of_pictures_gives_the_first(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    pair = [Image.new("RGB", (16, 8), color) for color in ("red", "blue")]
    pair[0].save(path, "MPO", save_all=True, append_images=pair[1:])
    header = probe(path)
    assert isinstance(header, Header)
    assert header.size == (8, 16)
    assert np.asarray(decode(path))[0, 0].tolist() == [254, 0, 0]


def test_16_bit_greys_are_scaled(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257], [32767, 65406, 65407, 65535]], dtype=np.uint16)
    expected = np.round(values / 257).astype(np.uint8)
    for ending in (".png", ".tif"):
        path = tmp_path / f"deep{ending}"
        Image.fromarray(values).save(path)
        got = np.asarray(decode(path))
        for channel in range(3):
            np.testing.assert_array_equal(got[..., channel], expected)
        assert isinstance(probe(path), Header)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full((2, 2), 70000, np.int32), "do not fit 16 bits"),
        (np.full((2, 2), -1, np.int32), "do not fit 16 bits"),
        (np.full((2, 2), 0.5, np.float32), "floats without a known range"),
    ],
)
def test_pixels_without_a_known_range_are_bad(
    tmp_path: Path, values: np.ndarray, reason: str
) -> None:
    path = tmp_path / "science.tif"
    Image.fromarray(values).save(path)
    assert reason in str(probe(path))
    with pytest.raises(DataError, match=reason):
        decode(path)


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "YCbCr", "P", "LA", "RGBA"])
def test_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    picture = gradient().convert(mode)
    path = tmp_path / ("m.png" if mode in ("L", "1", "P", "LA", "RGBA") else "m.tif")
    picture.save(path)
    got = decode(path)
    assert got.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(got), np.asarray(picture.convert("RGB")))


def test_transparency_is_dropped_not_blended(tmp_path: Path) -> None:
    pixels = np.full((2, 2, 4), (200, 100, 50, 0), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    assert (np.asarray(decode(tmp_path / "clear.png")) == (200, 100, 50)).all()


def test_a_palette_with_a_table_of_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 4))
    picture.putpalette([0, 0, 0, 10, 20, 30])
    picture.putdata([1] * 16)
    picture.save(tmp_path / "p.png", transparency=bytes([0, 128]))
    assert (np.asarray(decode(tmp_path / "p.png")) == (10, 20, 30)).all()


@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_the_first_frame_of_an_animation(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "lime")]
    path = tmp_path / f"moving{ending}"
    options = {"lossless": True} if ending == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert (np.asarray(decode(path)) == (255, 0, 0)).all()
    assert isinstance(probe(path), Header)


def test_extensions_are_those_of_formats_pillow_decodes_by_itself() -> None:
    assert {".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".bmp"} <= extensions()
    assert not {".eps", ".pdf", ".h5", ".mpg", ".ps", ".wmf"} & extensions()


def write_bad_files(folder: Path) -> dict[str, str]:
    """Write one file per kind of damage; return name -> part of the reason."""
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, "JPEG", quality=95)
    png = io.BytesIO()
    Image.fromarray(noise).save(png, "PNG")
    flipped = bytearray(png.getvalue())
    flipped[len(flipped) // 2] ^= 0xFF
    contents = {
        "a_empty.jpg": b"",
        "b_text.jpg": b"this is no picture",
        "c_cut_in_half.jpg": whole.getvalue()[: len(whole.getvalue()) // 2],
        "d_cut_in_half.png": png.getvalue()[: len(png.getvalue()) // 2],
        "e_flipped.png": bytes(flipped),
        "f_postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {
        "a_empty.jpg": "it is empty",
        "b_text.jpg": "not an image of a known format",
        "c_cut_in_half.jpg": "truncated",
        "d_cut_in_half.png": "truncated",
        "e_flipped.png": "",
        "f_postscript.jpg": "not an image of a known format",
    }


def test_all_bad_files_are_listed_with_their_reason(tmp_path: Path) -> None:
    reasons = write_bad_files(tmp_path)
    gradient().save(tmp_path / "good.png")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(DataError) as caught:
        probe_all(sorted(tmp_path.iterdir()), tmp_path, 2)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"7 of 8 images in {tmp_path} cannot be decoded:"
    listed = dict(line.strip().split(": ", 1) for line in lines[1:-1])
    assert listed.pop("gone.jpg") == "No such file or directory"
    assert list(listed) == list(reasons)
    for name, reason in reasons.items():
        assert reason in listed[name]


@pytest.mark.parametrize("name", ["c_cut_in_half.jpg", "d_cut_in_half.png", "e_flipped.png"])
def test_decoding_a_bad_file_names_it(tmp_path: Path, name: str) -> None:
    write_bad_files(tmp_path)
    with pytest.raises(DataError, match=f"{name} cannot be decoded"):
        decode(tmp_path / name)


def test_a_long_list_is_cut_and_counted(tmp_path: Path) -> None:
    for i in range(23):
        (tmp_path / f"{i:02d}.jpg").touch()
    with pytest.raises(DataError, match="and 3 more") as caught:
        probe_all(sorted(tmp_path.iterdir()), tmp_path, 2)
    assert "19.jpg" in str(caught.value)
    assert "20.jpg" not in str(caught.value)


@pytest.mark.parametrize("limit", [900, 400])
def test_a_decompression_bomb_is_a_bad_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """960 pixels: a warning of Pillow's above 900 (its limit), an error above 800 (twice it)."""
    gradient().save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match=f"bomb.png: it has more than the {limit} pixels"):
            probe_all([tmp_path / "bomb.png"], tmp_path, 1)
        with pytest.raises(DataError, match="cannot be decoded: it has more than"):
            decode(tmp_path / "bomb.png")


def test_the_header_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    gradient().save(first)
    second.write_bytes(first.read_bytes())
    assert probe(first) == probe(second)
    second.write_bytes(first.read_bytes() + b"\0")
    assert probe(first) != probe(second)


def test_names_are_relative_where_they_can_be(tmp_path: Path) -> None:
    assert decoding.relative_name(tmp_path / "a" / "b.png", tmp_path) == "a/b.png"
    assert decoding.relative_name(Path("/x/b.png"), tmp_path) == "/x/b.png"


@pytest.mark.parametrize(
    ("side", "size"), [(None, (640, 320)), (48, (160, 80)), (9999, (640, 320))]
)
def test_a_jpeg_is_decoded_as_finely_as_is_asked_for(
    side: int | None, size: tuple[int, int], tmp_path: Path
) -> None:
    picture = gradient().resize((640, 320))
    picture.save(tmp_path / "wide.jpg", quality=95)
    found = decode(tmp_path / "wide.jpg", side)
    # Of 1/8, 1/4, 1/2 and 1 the smallest with 48 pixels in height is a quarter.
    assert found.size == size
    expected = np.asarray(picture.resize(size, Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(found).astype(int) - expected).mean() < 4
