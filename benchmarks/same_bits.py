"""Whether convolutions that add and clip by themselves give the bits of one after the other.

Networks with random weights and lively BatchNorms, some of their cuts, flattened; batches of 1, 3
and 17 images, two batches each, because torch clips the first one; one thread and two; fp32 and,
where the processor has it, bf16. Prints a line a network and ends with 1 if a bit differs.

    python benchmarks/same_bits.py
    ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/same_bits.py resnet50 mobilenet_v2
"""

from __future__ import annotations

import argparse

import torch
from forward import apart

import featx
from featx.backbones import Backbone, Capture
from featx.backbones.numerics import Numerics
from featx.machine import cpu_has_bf16

NETWORKS = (
    "resnet18", "resnet50", "vgg16", "vgg16_bn", "alexnet", "mobilenet_v2", "mobilenet_v3_small",
    "densenet121", "regnet_y_400mf", "regnet_x_400mf", "resnext50_32x4d", "shufflenet_v2_x1_0",
    "squeezenet1_1", "googlenet", "inception_v3", "efficientnet_b0", "mnasnet1_0", "convnext_tiny",
    "timm/resnet10t", "timm/resnet26d", "timm/resnetv2_50", "timm/wide_resnet50_2",
    "timm/seresnet50", "timm/ecaresnet26t", "timm/skresnet18", "timm/res2net50_26w_4s",
    "timm/nf_resnet50", "timm/cspresnet50", "timm/hrnet_w18_small", "timm/dla34", "timm/dpn68",
    "timm/darknet53", "timm/selecsls42b", "timm/xception41", "timm/repvgg_a0", "timm/ghostnet_100",
    "timm/tf_efficientnet_lite0", "timm/ese_vovnet19b_dw", "timm/mobilenetv4_conv_small",
    "timm/fbnetc_100", "timm/efficientvit_b0", "timm/levit_128s", "timm/edgenext_small",
    "timm/vit_tiny_patch16_224",
)  # fmt: skip
SIDE = 96
N_CUTS = 7
BATCHES = ((3, 2), (1, 1), (17, 2))  # images, threads


def side_of(backbone: Backbone) -> int:
    """Return `SIDE`, or the network's own size where it takes no other."""
    try:
        backbone.cut_points(SIDE)
    except featx.FeatxError:
        return backbone.image_size[0]
    return SIDE


def features(
    backbone: Backbone, cuts: list[str], numerics: Numerics, x: torch.Tensor
) -> list[torch.Tensor]:
    """Return the features of every cut, of two batches of the same images."""
    with Capture(backbone, cuts, "flatten", numerics, batch_size=len(x)) as capture:
        return [found.clone() for _ in range(2) for found in capture(x).values()]


def differing(backbone: Backbone, precision: str) -> list[str]:
    """Return which of the comparisons of a network found another bit."""
    side = side_of(backbone)
    places = [point.module for point in backbone.cut_points(side, "flatten", all_modules=True)]
    step = max(1, len(places) // N_CUTS)
    cuts = places[::-step][:N_CUTS]
    numerics = Numerics(precision, True, True, small_maps_first=precision == "fp32")
    found = []
    for n_images, threads in BATCHES:
        torch.set_num_threads(threads)
        x = torch.randn(n_images, 3, side, side, generator=torch.Generator().manual_seed(1))
        fused = features(backbone, cuts, numerics, x)
        with apart():
            plain = features(backbone, cuts, numerics, x)
        pairs = zip(fused, plain, strict=True)
        if not all(torch.equal(a.view(torch.int32), b.view(torch.int32)) for a, b in pairs):
            found.append(f"{precision}, {n_images} images, {threads} threads")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    args = parser.parse_args()
    n_wrong = 0
    for name in args.networks:
        try:
            backbone = featx.load_backbone(name, "none")
        except featx.FeatxError as error:
            parser.error(str(error))
        generator = torch.Generator().manual_seed(0)
        for key, tensor in backbone.model.named_buffers():
            if key.endswith("running_mean"):
                tensor.normal_(0, 0.1, generator=generator)
        wrong = [
            line
            for precision in ("fp32", *(("bf16",) if cpu_has_bf16() else ()))
            for line in differing(backbone, precision)
        ]
        n_wrong += len(wrong)
        print(f"{name}: {'; '.join(wrong) or 'the same bits'}", flush=True)
    return 1 if n_wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
