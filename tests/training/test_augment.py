"""Every image of a batch is changed in its own way, as the seed says and within the bounds."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from augment_cases import DEVICES, noise
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.errors import UnknownName, UsageError
from featx.torchvision_compat import import_torchvision
from featx.training import color, geometry
from featx.training.augment import AUGMENTATIONS, _mixed, make_augment

SIZE = (20, 26)
OF_IMAGES = [name for name in AUGMENTATIONS if name != "mixup"]
SETS = [[name] for name in OF_IMAGES] + [["affine", "perspective"], OF_IMAGES]
each_set = pytest.mark.parametrize("names", SETS, ids="+".join)
each_device = pytest.mark.parametrize("device", DEVICES)


def distinct(x: torch.Tensor) -> int:
    return len(torch.unique(x.cpu().flatten(1), dim=0))


@each_device
@each_set
def test_shape_type_and_layout_stay_and_the_input_is_not_written_to(
    names: list[str], device: str
) -> None:
    x = noise(9).to(device)
    before = x.clone()
    out = make_augment(names, SIZE).images(x)
    assert out.shape == x.shape
    assert out.dtype == torch.uint8
    assert out.device == x.device
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, before)


@each_device
@each_set
def test_the_seed_decides_and_nothing_else(names: list[str], device: str) -> None:
    x = noise(16).to(device)
    augment = make_augment(names, SIZE)

    def seeded(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return augment.images(x)

    numpy_state, python_state = np.random.get_state()[1].copy(), random.getstate()
    first = seeded(1)
    assert torch.equal(seeded(1), first)
    assert not torch.equal(seeded(2), first)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert random.getstate() == python_state


@each_device
@pytest.mark.parametrize("name", OF_IMAGES)
def test_copies_of_one_image_come_out_different(name: str, device: str) -> None:
    torch.manual_seed(0)
    out = make_augment([name], SIZE).images(noise(1).expand(48, -1, -1, -1).to(device))
    # Two of flip, 25 of crop (of 26 // 8 = 2 pixels: 5 x 5), RandAugment's six groups of eight.
    least = {"flip": 2, "crop": 15, "randaugment": 5}.get(name, 48)
    assert distinct(out) >= least


def test_half_of_the_images_are_mirrored() -> None:
    torch.manual_seed(0)
    x = noise(1, 2, 2).expand(4000, -1, -1, -1)
    out = make_augment(["flip"], (2, 2)).images(x)
    mirrored = int((out == x.flip(-1)).flatten(1).all(1).sum())
    # Five standard deviations of a fair coin.
    assert abs(mirrored - 2000) < 5 * math.sqrt(1000)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), padding=st.integers(1, 10))
def test_a_crop_is_some_window_of_the_framed_image(seed: int, padding: int) -> None:
    torch.manual_seed(seed)
    x = noise(3)
    out = make_augment([f"crop:{padding}"], SIZE).images(x)
    framed = torch.nn.functional.pad(x, [padding] * 4)
    windows = framed.unfold(2, 20, 1).unfold(3, 26, 1)
    for i in range(3):
        same = (windows[i] == out[i, :, None, None]).flatten(3).all(3).all(0)
        assert same.any()


def drawn(monkeypatch: pytest.MonkeyPatch, module: Any, function: str, name: str) -> dict[str, Any]:
    """Return what `function` is called with when 4,000 images are augmented."""
    seen: dict[str, Any] = {}
    original = getattr(module, function)

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.update(enumerate(args))
        seen.update(kwargs)
        return original(*args, **kwargs)

    monkeypatch.setattr(module, function, spy)
    torch.manual_seed(0)
    make_augment([name], (4, 6)).images(noise(4000, 4, 6))
    return seen


def assert_uniform(values: torch.Tensor, low: float, high: float) -> None:
    """Assert that values fill a range evenly: ends, mean and deviation."""
    width = high - low
    assert low <= float(values.min()) < low + 0.01 * width
    assert high - 0.01 * width < float(values.max()) <= high
    assert float(values.double().mean()) == pytest.approx((low + high) / 2, abs=0.03 * width)
    assert float(values.double().std()) == pytest.approx(width / math.sqrt(12), rel=0.05)


def test_offsets_of_a_crop_are_even(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = drawn(monkeypatch, geometry, "crop", "crop:2")
    assert seen[1] == 2
    for offsets in (seen[2], seen[3]):
        counts = torch.bincount(offsets, minlength=5)
        assert len(counts) == 5
        assert (counts - 800).abs().max() < 5 * math.sqrt(4000 * 0.2 * 0.8)
    assert abs(np.corrcoef(seen[2], seen[3])[0, 1]) < 0.08


def test_factors_of_jitter_fill_their_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = drawn(monkeypatch, color, "jitter", "jitter:0.6")
    for position in (1, 2, 3):
        assert_uniform(seen[position], 0.4, 1.6)
    assert_uniform(seen[4], -0.15, 0.15)
    assert (np.corrcoef(torch.stack([seen[k] for k in (1, 2, 3, 4)])) - np.eye(4)).max() < 0.08


@pytest.mark.parametrize(("degrees", "shear"), [(20.0, 10.0), (180.0, 30.0)])
def test_affine_parameters_fill_their_ranges(
    monkeypatch: pytest.MonkeyPatch, degrees: float, shear: float
) -> None:
    seen = drawn(monkeypatch, geometry, "affine_map", f"affine:{degrees}")
    assert seen["size"] == (4, 6)
    assert_uniform(torch.rad2deg(seen["angle"]), -degrees - 1e-3, degrees + 1e-3)
    assert_uniform(torch.rad2deg(seen["shear"]), -shear - 1e-3, shear + 1e-3)
    assert_uniform(seen["shift"], -0.1, 0.1)
    assert_uniform(seen["scale"], 0.9, 1.1)


def test_corners_of_a_perspective_fill_their_range(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = drawn(monkeypatch, geometry, "perspective_map", "perspective:0.5")
    assert_uniform(seen[0], 0, 0.5)


def test_affine_and_perspective_are_one_resampling(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = []
    original = geometry.warp
    monkeypatch.setattr(geometry, "warp", lambda x, m: (maps.append(m), original(x, m))[1])
    torch.manual_seed(3)
    make_augment(["perspective", "affine"], SIZE).images(noise(4))
    torch.manual_seed(3)
    both = [make_augment([name], SIZE)._maps(noise(4)) for name in ("affine", "perspective")]
    assert len(maps) == 1
    torch.testing.assert_close(maps[0], both[0] @ both[1])


def test_randaugment_is_torchvisions_on_each_image_of_a_group() -> None:
    import_torchvision()
    from torchvision.transforms import v2

    for seed in range(12):
        x = noise(8)
        torch.manual_seed(seed)
        out = make_augment(["randaugment:12"], SIZE).images(x)
        for image, changed in zip(x, out, strict=True):
            torch.manual_seed(seed)
            assert torch.equal(v2.RandAugment(magnitude=12)(image), changed)


def test_the_order_of_names_does_not_matter() -> None:
    results = []
    for names in (OF_IMAGES, OF_IMAGES[::-1]):
        torch.manual_seed(0)
        results.append(make_augment(names, SIZE).images(noise(5)))
    assert torch.equal(*results)


def test_nothing_is_done_without_names() -> None:
    augment = make_augment([], SIZE)
    x, y = noise(2), torch.tensor([1, 0])
    assert augment.is_identity
    assert augment.images(x) is x
    assert augment.mix(x, y, 2) == (x, y)


def test_only_mixup_mixes() -> None:
    augment = make_augment(OF_IMAGES, SIZE)
    x, y = noise(2).float(), torch.tensor([1, 0])
    assert not augment.is_identity
    assert augment.mix(x, y, 2) == (x, y)
    mixup = make_augment(["mixup"], SIZE)
    assert mixup.mix(x, y, 2)[1].shape == (2, 2)
    assert not mixup.is_identity
    assert torch.equal(mixup.images(noise(2)), noise(2))


def test_mixed_images_and_targets_are_the_same_convex_combination() -> None:
    x = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([2, 0, 1, 2])
    share, partner = torch.tensor([0.0, 0.25, 0.5, 1.0]), torch.tensor([1, 2, 3, 0])
    mixed, targets = _mixed(x, y, 3, share, partner)
    for i, (part, j) in enumerate(zip(share.tolist(), partner.tolist(), strict=True)):
        np.testing.assert_allclose(mixed[i], part * x[i] + (1 - part) * x[j], rtol=1e-5, atol=1e-6)
        expected = np.zeros(3)
        expected[y[i]] += part
        expected[y[j]] += 1 - part
        np.testing.assert_allclose(targets[i], expected, atol=1e-7)


@each_device
@pytest.mark.parametrize("alpha", [1e-3, 0.2, 1.0, 100.0])
def test_mixup_draws_its_shares_from_a_beta_distribution(alpha: float, device: str) -> None:
    torch.manual_seed(0)
    n = 1500
    # Each image is a class of its own: a mixed row shows its two shares.
    rows, labels = torch.eye(n, device=device), torch.arange(n, device=device)
    mixed, targets = make_augment([f"mixup:{alpha}"], SIZE).mix(rows, labels, n)
    assert torch.equal(mixed, targets)
    torch.testing.assert_close(targets.sum(1), torch.ones(n, device=device))
    shares = targets.diag().double()
    if alpha >= 0.2:
        assert float(shares.mean()) == pytest.approx(0.5, abs=0.05)
        assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.12)


def test_mixup_is_decided_by_the_seed() -> None:
    x, y = torch.randn(6, 3, 4, 4), torch.arange(6)
    augment = make_augment(["mixup"], SIZE)
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        results.append(augment.mix(x, y, 6))
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    assert not torch.equal(results[0][0], results[2][0])


@pytest.mark.parametrize(
    ("size", "padding"), [((32, 32), 4), ((64, 48), 6), ((8, 8), 1), ((7, 40), 1)]
)
def test_a_crop_pads_an_eighth_unless_it_is_told(size: tuple[int, int], padding: int) -> None:
    assert make_augment(["crop"], size).strengths == {"crop": padding}
    assert make_augment(["crop:3"], size).strengths == {"crop": 3}


def test_strengths_have_their_defaults() -> None:
    strengths = make_augment(AUGMENTATIONS[::-1], (32, 32)).strengths
    assert tuple(strengths) == AUGMENTATIONS
    assert strengths == {
        "flip": 0.5,
        "crop": 4,
        "jitter": 0.4,
        "affine": 15,
        "perspective": 0.3,
        "randaugment": 9,
        "mixup": 0.2,
    }


def test_unknown_names_say_the_closest() -> None:
    with pytest.raises(UnknownName, match=r"Augmentation 'fliip' .*'flip'"):
        make_augment(["fliip"], SIZE)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["flip", "crop", "flip"], "'flip' is given twice"),
        (["crop:2", "crop:3"], "'crop' is given twice"),
        (["flip:0.5"], "'flip' has no strength, and '0.5'"),
        (["crop:0"], "'crop:0' is not possible: .*1 to 10"),
        (["crop:11"], "'crop:11' is not possible"),
        (["crop:2.5"], "'crop:2.5' is not possible"),
        (["jitter:1.1"], "above 0 and at most 1"),
        (["jitter:"], "'jitter:' is not possible"),
        (["jitter:0"], "'jitter' alone is 'jitter:0.4'"),
        (["affine:-5"], "rotation in degrees"),
        (["affine:181"], "at most 180"),
        (["perspective:0.7"], r"at most 0\.65"),
        (["randaugment:31"], "the magnitude, 1 to 30"),
        (["randaugment:9.5"], "1 to 30"),
        (["mixup:nan"], "'mixup:nan' is not possible"),
        (["mixup:much"], "'mixup:much' is not possible"),
    ],
)
def test_impossible_strengths_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_augment(names, SIZE)
