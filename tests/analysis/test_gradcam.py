"""Grad-CAM is what autograd gives by hand, and says what it needs."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from heat_cases import network, network_input, noise, settings_for

from featx.analysis.gradcam import grad_cam_maps
from featx.errors import ShapeError, UsageError, WeightsError

needs_library = pytest.mark.skipif(
    find_spec("pytorch_grad_cam") is None, reason="the extra featx[gradcam] is not installed"
)


@needs_library
def test_it_is_the_mean_gradient_times_the_activation() -> None:
    # features.28 is a convolution, and the ReLU behind it writes in place.
    cut = "features.28"
    vgg16, images = network("vgg16"), noise()
    maps, labels = grad_cam_maps(vgg16, cut, images, settings_for(vgg16), label=3)
    assert labels.tolist() == [3, 3]
    kept: list[torch.Tensor] = []

    def keep(module: object, args: object, output: torch.Tensor) -> torch.Tensor:
        kept.append(output)
        return output.clone()

    handle = vgg16.model.get_submodule(cut).register_forward_hook(keep)
    x = network_input(vgg16, images).requires_grad_()
    score = vgg16.model(x)[:, 3].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept)
    cam = (gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(1).clamp(min=0)
    for one, expected in zip(maps, cam.detach().numpy(), strict=True):
        assert one.shape == (64, 64)
        assert (one.min(), one.max()) == (0.0, pytest.approx(1.0, abs=1e-3))
        # Each of the 4 x 4 places is 16 px wide; its value lies between its pixels 7 and 8.
        scaled = (expected - expected.min()) / (expected.max() - expected.min())
        middles = (one[7::16, 7::16] + one[8::16, 8::16]) / 2
        assert np.corrcoef(middles.ravel(), scaled.ravel())[0, 1] > 0.98


@needs_library
def test_patches_of_a_vit_are_laid_out_and_hooks_are_gone() -> None:
    vit = network("timm/vit_tiny_patch16_224")
    maps, labels = grad_cam_maps(vit, "blocks.10", noise(1), settings_for(vit))
    assert maps.shape == (1, 224, 224)
    with torch.no_grad():
        x = settings_for(vit).preprocess.to_input(torch.from_numpy(noise(1).array), "cpu", False)
        assert labels[0] == int(vit.model(x).argmax())
    with pytest.raises(UsageError, match="Class 1000 is not one of the 1000"):
        grad_cam_maps(vit, "blocks.10", noise(1), settings_for(vit), label=1000)
    assert not any(module._forward_hooks for module in vit.model.modules())


@needs_library
def test_what_has_no_places_or_no_classifier_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resnet18 = network("resnet18")
    with pytest.raises(ShapeError, match="'fc' of resnet18 is a vector"):
        grad_cam_maps(resnet18, "fc", noise(), settings_for(resnet18))
    monkeypatch.setattr(resnet18, "absent", ("fc",))
    with pytest.raises(WeightsError, match="does not bring 'fc'"):
        grad_cam_maps(resnet18, "layer4", noise(), settings_for(resnet18))


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    resnet18 = network("resnet18")
    with pytest.raises(UsageError, match=r"pip install 'featx\[gradcam\]'"):
        grad_cam_maps(resnet18, "layer4", noise(), settings_for(resnet18))
