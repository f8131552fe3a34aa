"""featx' sides, by its public functions."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lines import made


def arrays(
    network: str,
    size: int,
    cuts: Sequence[str],
    pool: str,
    n: int,
    batch_size: int,
    precision: str = "fp32",
) -> Callable[[], dict[str, Any]]:
    """uint8 images in memory to features in memory: `featx.extract`."""
    import featx

    backbone = made.backbone(network)
    found = made.images(n, size)
    deepest = backbone.describe_cuts(cuts, size)[-1]

    def extract() -> dict[str, Any]:
        return featx.extract(
            backbone, cuts, found, image_size=size, pool=pool, device="cpu",
            precision=precision, batch_size=batch_size,
        )  # fmt: skip

    def run() -> dict[str, Any]:
        seconds, features = made.timed(extract)
        return {
            "s": seconds,
            "gflops": 2e-9 * deepest.multiply_adds * n / seconds,
            "samples": [made.sample(features[cut]) for cut in cuts],
        }

    return run


def _settings(backbone: Any, size: int, options: dict[str, Any]) -> Any:
    from featx.extraction import make_settings

    return make_settings(backbone, (size, size), image_size=size, **options)


def whole(
    network: str, size: int, cut: str, data: str, options: dict[str, Any]
) -> Callable[[], dict[str, Any]]:
    """Images on disk to a cache on disk whose digests have all been checked."""
    import featx
    from lines.limits import status

    backbone = made.backbone(network)

    def run() -> dict[str, Any]:
        settings = _settings(backbone, size, options)
        root = Path(tempfile.mkdtemp(dir=Path(data).parent))
        store = featx.FeatureStore(root)

        def extract() -> int:
            split = featx.load_dataset(f"npz:{data}", val=0).splits["train"]
            found = featx.extract_to_store(backbone, [cut], split, store, settings)[cut]
            found.verify()
            return len(split)

        try:
            seconds, n = made.timed(extract)
        finally:
            shutil.rmtree(root)
        return {"s": seconds, "images_per_s": n / seconds, "peak_bytes": status("VmHWM")}

    return run


def bare(
    network: str, size: int, cut: str, n: int, options: dict[str, Any]
) -> Callable[[], dict[str, Any]]:
    """The forward pass alone, with the same settings, on one batch that lies on the device."""
    from featx.backbones import Capture
    from featx.extraction.forward import arithmetic
    from lines.limits import status

    backbone = made.backbone(network)
    settings = _settings(backbone, size, options)
    batch_size = settings.batch_sizes()[0]
    backbone.to(settings.device)
    x = made.inputs(backbone, batch_size, size, batch_size)[0].to(settings.device)

    def passes() -> None:
        capturing = Capture(
            backbone, [cut], settings.pool, settings.numerics, batch_size=batch_size
        )
        with arithmetic(settings), capturing as capture:
            for start in range(0, n, batch_size):
                last = capture(x[: n - start])
        # Waits for a device that runs behind.
        last[cut].cpu()

    def run() -> dict[str, Any]:
        seconds, _ = made.timed(passes)
        return {"s": seconds, "images_per_s": n / seconds, "peak_bytes": status("VmHWM")}

    return run


def bare_compiled(
    network: str, size: int, n: int, batch_size: int, device: str
) -> Callable[[], dict[str, Any]]:
    """The whole network compiled by torch, bf16 and channels-last, on one batch on the device.

    On a GPU its kernels are replayed as a CUDA graph. ``max-autotune`` would search for minutes,
    and for the convolutions, which are nearly all of the time, it took cuDNN's in the end.
    """
    import torch

    backbone = made.backbone(network)
    model = backbone.model.to(device, memory_format=torch.channels_last)
    mode = "reduce-overhead" if device == "cuda" else "default"
    compiled = torch.compile(model, mode=mode)
    x = made.inputs(backbone, batch_size, size, batch_size)[0]
    x = x.to(device, memory_format=torch.channels_last)

    def passes() -> None:
        with torch.inference_mode(), torch.autocast(device, dtype=torch.bfloat16):
            for _ in range(0, n, batch_size):
                last = compiled(x)
        last.float().cpu()

    def run() -> dict[str, Any]:
        seconds, _ = made.timed(passes)
        return {"s": seconds, "images_per_s": -(-n // batch_size) * batch_size / seconds}

    return run
