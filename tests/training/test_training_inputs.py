"""Images and features as they are trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_cases import images

from featx.data import TORCH, ArrayImages, Split
from featx.errors import BudgetExceeded
from featx.training import (
    FeatureInputs,
    ImageInputs,
    check_room,
    encode,
    pixel_statistics,
    resident_images,
)


def test_pixel_statistics_are_numpys() -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (300, 9, 7, 3), dtype=np.uint8)
    array[..., 1] //= 3
    mean, std = pixel_statistics(torch.from_numpy(array))
    flat = array.reshape(-1, 3).astype(np.float64) / 255
    np.testing.assert_allclose(mean, flat.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, flat.std(axis=0), rtol=1e-12)


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_batch_is_what_extraction_gives_the_network(channels_last: bool) -> None:
    x, y = images(12)
    inputs = ImageInputs(x, y, TORCH.with_size(None), channels_last)
    rows = torch.tensor([3, 1, 7])
    expected = TORCH.with_size(None).to_input(x[rows], "cpu", already_sized=True)
    batch = inputs.batch(rows)
    assert torch.equal(batch, expected)
    order = torch.channels_last if channels_last else torch.contiguous_format
    assert batch.is_contiguous(memory_format=order)


def test_resident_images_are_resized_as_extraction_resizes_them() -> None:
    x, y = images(300)
    preprocess = TORCH.with_size(24, crop="none", interpolation="bicubic")
    split = Split("train", ArrayImages(x.numpy()), y.numpy())
    resident = resident_images(split, preprocess, torch.device("cpu"))
    assert resident.shape == (300, 24, 24, 3)
    assert torch.equal(resident, preprocess.sized(x, "cpu"))


def test_labels_become_positions() -> None:
    found = encode(np.array([9, 5, 7, 5]), [5, 7, 9], torch.device("cpu"))
    assert found.tolist() == [2, 0, 1, 0]


def test_images_that_do_not_fit_are_refused_before_they_are_read() -> None:
    check_room(100, (32, 32), 100 * 32 * 32 * 3)
    with pytest.raises(BudgetExceeded) as caught:
        check_room(50_000, (224, 224), 10**9)
    for word in ("50,000 images of 224 x 224 px take 7.53 GB", "1 GB", "--image-size", "--limit"):
        assert word in str(caught.value)


def test_a_layer_that_writes_in_place_leaves_the_features_alone() -> None:
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    kept = features.clone()
    inputs = FeatureInputs(features, torch.zeros(6, dtype=torch.int64))
    torch.nn.SiLU(inplace=True)(inputs.batch(slice(0, 6)))
    torch.nn.SiLU(inplace=True)(inputs.batch(torch.tensor([1, 2])))
    assert torch.equal(features, kept)
