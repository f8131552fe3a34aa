"""Maps of activations equal a plain forward pass, their pictures the library's interpolation."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from heat_cases import head_on, network, network_input, noise, settings_for
from PIL import Image
from torch import nn

from featx.analysis.activations import cut_grid, cut_grids, seen_images
from featx.analysis.heatmaps import activation_maps, heat_map_exhibits, heat_maps
from featx.analysis.overlays import PICTURE_PX, overlay, resized
from featx.backbones import Backbone
from featx.data import ArrayImages
from featx.errors import ShapeError, UnknownName, UsageError
from featx.evaluate.exhibits import ShownImage
from featx.extraction import make_settings


def plain_outputs(
    backbone: Backbone, modules: list[str], images: ArrayImages
) -> dict[str, np.ndarray]:
    """Return what modules put out in a whole forward pass, by plain hooks."""
    found: dict[str, np.ndarray] = {}
    handles = [
        backbone.model.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: found.update({name: output.numpy().copy()})
        )
        for name in modules
    ]
    with torch.no_grad():
        backbone.model(network_input(backbone, images))
    for handle in handles:
        handle.remove()
    return found


def n_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_maps_are_means_over_channels() -> None:
    resnet18 = network("resnet18")
    images = noise()
    cuts = ["layer1", "layer4"]
    found = activation_maps(resnet18, cuts, images, settings_for(resnet18))
    for cut, output in plain_outputs(resnet18, cuts, images).items():
        assert found[cut].dtype == np.float32
        np.testing.assert_allclose(found[cut], output.mean(axis=1), rtol=1e-4, atol=1e-5)


def test_a_channel_is_counted_modulo() -> None:
    resnet18 = network("resnet18")
    images = noise()
    cuts = ["layer1", "layer2"]
    found = activation_maps(resnet18, cuts, images, settings_for(resnet18), channel=70)
    outputs = plain_outputs(resnet18, cuts, images)
    # 64 and 128 channels.
    np.testing.assert_allclose(found["layer1"], outputs["layer1"][:, 6], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["layer2"], outputs["layer2"][:, 70], rtol=1e-4, atol=1e-5)


def test_patches_of_a_vit_lie_row_by_row_without_the_class_token() -> None:
    vit, images = network("timm/vit_tiny_patch16_224"), noise()
    found = activation_maps(vit, ["blocks.1"], images, settings_for(vit))["blocks.1"]
    tokens = plain_outputs(vit, ["blocks.1"], images)["blocks.1"]
    assert (tokens.shape[1], found.shape) == (197, (2, 14, 14))
    for row, column in [(0, 0), (0, 13), (1, 0), (7, 4), (13, 13)]:
        expected = tokens[:, 1 + 14 * row + column].mean(axis=1)
        np.testing.assert_allclose(found[:, row, column], expected, rtol=1e-4, atol=1e-5)


def test_a_grid_of_patches_has_the_proportion_of_the_image() -> None:
    vit = network("timm/vit_tiny_patch16_224")
    (point,) = vit.describe_cuts(["blocks.1"], 224)
    wide = replace(point, shape=(1 + 4 * 9, 192))
    assert cut_grid(vit, "blocks.1", wide, (64, 144)) == (4, 9)
    assert cut_grid(vit, "blocks.1", wide, (144, 64)) == (9, 4)
    # 36 patches also form a square.
    assert cut_grid(vit, "blocks.1", wide, (96, 96)) == (6, 6)
    said = "a row of 37 tokens, 1 of them class token or registers. The other 36 form no grid"
    with pytest.raises(ShapeError, match=said):
        cut_grid(vit, "blocks.1", wide, (64, 128))


def test_channels_last_maps_are_turned() -> None:
    swin, images = network("swin_t"), noise(1)
    found = activation_maps(swin, ["features.1"], images, settings_for(swin))
    output = plain_outputs(swin, ["features.1"], images)["features.1"]
    assert output.shape[-1] == 96
    np.testing.assert_allclose(found["features.1"], output.mean(axis=-1), rtol=1e-4, atol=1e-5)


def test_a_vector_has_no_map() -> None:
    resnet18 = network("resnet18")
    images = noise()
    settings = settings_for(resnet18)
    said = "Cut 'fc' of resnet18 is a vector of 1000 values: it has no places"
    with pytest.raises(ShapeError, match=said):
        activation_maps(resnet18, ["fc"], images, settings)
    grids, refused = cut_grids(resnet18, ["layer4", "fc"], settings)
    assert grids == {"layer4": (2, 2)}
    assert list(refused) == ["fc"]


def test_an_unknown_cut_is_refused_by_name() -> None:
    resnet18 = network("resnet18")
    images = noise()
    with pytest.raises(UnknownName, match="Cut 'layer5' is not in resnet18"):
        activation_maps(resnet18, ["layer5"], images, settings_for(resnet18))
    with pytest.raises(UsageError, match="Channel -1 is not possible"):
        heat_maps(resnet18, ["layer1"], images, settings_for(resnet18), channel=-1)


def test_hooks_are_gone_after_errors() -> None:
    resnet18 = network("resnet18")
    images = noise()
    settings = settings_for(resnet18)
    head, _ = head_on(resnet18, "layer2", "avg")
    assert n_hooks(resnet18.model) == 0
    # Raised between two images, while the hooks are on; the traceback keeps every frame alive.
    with pytest.raises(ShapeError) as caught:
        heat_maps(resnet18, ["layer3"], images, settings, heads={"layer3": head})
    assert n_hooks(resnet18.model) == 0
    assert caught.tb is not None


def test_a_map_is_resized_as_torch_does_it() -> None:
    values = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float32)
    expected = nn.functional.interpolate(
        torch.from_numpy(values)[None, None], (64, 96), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(resized(values, (64, 96)), expected[0, 0].numpy(), atol=1e-5)


def test_a_constant_map_stays_constant() -> None:
    np.testing.assert_allclose(resized(np.full((3, 4), 2.7), (50, 31)), 2.7, rtol=1e-6)
    image = np.full((20, 20, 3), 100, dtype=np.uint8)
    for signed in (False, True):
        assert (
            len(np.unique(overlay(image, np.zeros((3, 3)), signed=signed).reshape(-1, 3), axis=0))
            == 1
        )


def test_colours_are_those_of_the_range() -> None:
    from matplotlib import colormaps

    image = np.zeros((2, 2, 3), dtype=np.uint8)
    values = np.array([[-1.0, 0.0], [1.0, 3.0]])
    found = overlay(image, values, alpha=1.0)
    assert found[0, 0].tolist() == [round(255 * c) for c in colormaps["viridis"](0.0)[:3]]
    assert found[1, 1].tolist() == [round(255 * c) for c in colormaps["viridis"](1.0)[:3]]
    # From -3 to 3: zero keeps the image, a third of the way a third of Okabe and Ito's colours.
    found = overlay(image, values, signed=True, alpha=1.0)
    assert found[0, 1].tolist() == [0, 0, 0]
    assert found[1, 1].tolist() == [230, 159, 0]
    assert found[1, 0].tolist() == [round(c / 3) for c in (230, 159, 0)]
    assert found[0, 0].tolist() == [round(c / 3) for c in (0, 114, 178)]
    grey = overlay(np.full((2, 2, 3), (255, 0, 0), dtype=np.uint8), values, alpha=0.0)
    assert (grey == 76).all()


def test_what_is_no_image_and_no_map_is_refused() -> None:
    with pytest.raises(ShapeError, match=re.escape("An image of shape (4, 4), uint8")):
        overlay(np.zeros((4, 4), dtype=np.uint8), np.zeros((2, 2)))
    with pytest.raises(ShapeError, match=re.escape("A map of shape (2,)")):
        overlay(np.zeros((4, 4, 3), dtype=np.uint8), np.zeros(2))


def test_images_are_shown_as_the_network_sees_them() -> None:
    resnet18 = network("resnet18")
    wide = ArrayImages(np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8))
    settings = make_settings(resnet18, wide.size, image_size=64, device="cpu")
    found = seen_images(wide, settings)
    expected = settings.preprocess.geometry(Image.fromarray(wide.array[1]))
    np.testing.assert_array_equal(found[1], expected)


def test_exhibits_have_a_picture_for_every_map() -> None:
    resnet18 = network("resnet18")
    images = noise()
    settings = settings_for(resnet18)
    head, X = head_on(resnet18, "layer2", "avg")
    maps = heat_maps(
        resnet18, ["layer1", "layer2"], images, settings, channel=3, heads={"layer2": head}
    )
    shown = [ShownImage(index=8, label=4), ShownImage(index=2, label=7)]
    exhibits, files = heat_map_exhibits(maps, seen_images(images, settings), shown, "test")
    assert [(e.what, e.image.index, e.exact, list(e.files)) for e in exhibits] == [
        (what, index, what == "evidence", cuts)
        for index in (8, 2)
        for what, cuts in [
            ("activation", ["layer1", "layer2"]),
            ("channel", ["layer1", "layer2"]),
            ("evidence", ["layer2"]),
        ]
    ]
    assert {name for e in exhibits for name in e.files.values()} == set(files)
    for name, data in files.items():
        assert name.startswith("exhibits/")
        with Image.open(io.BytesIO(data)) as picture:
            assert (picture.format, picture.size) == ("WEBP", (PICTURE_PX, PICTURE_PX))
    evidence = exhibits[2]
    assert evidence.image.predicted == head.predict(X)[0]
    assert f"score {head.decision_function(X)[0].max():.3g} = " in evidence.about["layer2"]
    assert exhibits[1].about["layer1"].startswith("channel 3 of 64, colours ")
