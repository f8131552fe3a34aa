"""Other tools' sides, and the folder that holds those that are not part of the environment.

thingsvision pins old versions of everything. It is installed without its dependencies, beside the
environment's torch, with the two small packages that it imports; TensorFlow and numba, which its
PyTorch extractors never call, are stood in for by empty modules.

Every peer gets float32 batches that are ready for the network, and so saves the preprocessing that
featx does; all of them put out the same features, flattened, in memory.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lines import made

THINGSVISION = "2.7.3"
PACKAGES = (f"thingsvision=={THINGSVISION}", "torchtyping==0.1.5", "typeguard==2.13.3")
ABSENT = ("tensorflow", "numba")


def install(folder: Path) -> str:
    """Install what the environment lacks into a folder; return why not, or nothing."""
    if (folder / f"thingsvision-{THINGSVISION}.dist-info").is_dir():
        return ""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--target", str(folder), *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    said = done.stderr.strip().splitlines() or ["no reason given"]
    return f"thingsvision {THINGSVISION} could not be installed: {said[-1]}"


def thingsvision(
    network: str, size: int, cuts: Sequence[str], n: int, batch_size: int
) -> Callable[[], dict[str, Any]]:
    """One `extract_features` per cut, each a pass through the whole network."""
    import numpy as np

    from featx.torchvision_compat import import_timm

    sys.meta_path.insert(0, _StandIns())
    # NumPy 2 has moved it.
    if not hasattr(np, "AxisError"):
        np.AxisError = np.exceptions.AxisError  # type: ignore[attr-defined]
    import_timm()
    from thingsvision import get_extractor_from_model

    backbone = made.backbone(network)
    extractor = get_extractor_from_model(model=backbone.model, device="cpu", backend="pt")
    batches = made.inputs(backbone, n, size, batch_size)
    return _rounds(
        cuts,
        lambda cut: extractor.extract_features(
            batches=batches, module_name=cut, flatten_acts=True, output_type="ndarray"
        ),
    )


def create_feature_extractor(
    network: str, size: int, cuts: Sequence[str], n: int, batch_size: int
) -> Callable[[], dict[str, Any]]:
    """torchvision's graph, traced and cut behind the node, a pass per cut."""
    from featx.torchvision_compat import import_torchvision

    import_torchvision()
    from torchvision.models.feature_extraction import create_feature_extractor as extractor_of

    backbone = made.backbone(network)
    batches = made.inputs(backbone, n, size, batch_size)
    models = {cut: extractor_of(backbone.model, {cut: "out"}) for cut in cuts}
    return _rounds(cuts, lambda cut: _collected(batches, lambda x: models[cut](x)["out"]))


def features_only(
    network: str, size: int, cuts: Sequence[str], n: int, batch_size: int
) -> Callable[[], dict[str, Any]]:
    """timm's `features_only`, a network per cut; a stage's index is that of ``layer<index>``."""
    from featx.torchvision_compat import import_timm

    timm = import_timm()
    backbone = made.backbone(network)
    state = backbone.model.state_dict()
    batches = made.inputs(backbone, n, size, batch_size)
    models = {}
    for cut in cuts:
        model = timm.create_model(network, features_only=True, out_indices=[_index(cut)]).eval()
        missing = model.load_state_dict(state, strict=False).missing_keys
        assert not missing, missing
        models[cut] = model
    return _rounds(cuts, lambda cut: _collected(batches, lambda x: models[cut](x)[0]))


def forward_intermediates(
    network: str, size: int, cuts: Sequence[str], n: int, batch_size: int
) -> Callable[[], dict[str, Any]]:
    """timm's `forward_intermediates`, told to stop early, a pass per cut."""
    from featx.torchvision_compat import import_timm

    timm = import_timm()
    backbone = made.backbone(network)
    model = timm.create_model(network).eval()
    model.load_state_dict(backbone.model.state_dict())
    batches = made.inputs(backbone, n, size, batch_size)

    def output(x: Any, cut: str) -> Any:
        return model.forward_intermediates(
            x, indices=[_index(cut)], intermediates_only=True, stop_early=True
        )[0]

    return _rounds(cuts, lambda cut: _collected(batches, lambda x: output(x, cut)))


def _index(cut: str) -> int:
    """Return a stage's place in timm's list, which begins with the stem."""
    return int(cut.removeprefix("layer"))


def _collected(batches: Sequence[Any], forward: Callable[[Any], Any]) -> Any:
    """Return all batches' outputs as one array, as a user of the library would."""
    import torch

    with torch.inference_mode():
        return torch.cat([forward(x).flatten(1) for x in batches]).numpy()


def _rounds(cuts: Sequence[str], extract: Callable[[str], Any]) -> Callable[[], dict[str, Any]]:
    def run() -> dict[str, Any]:
        seconds, features = made.timed(lambda: [extract(cut) for cut in cuts])
        return {"s": seconds, "samples": [made.sample(each) for each in features]}

    return run


class _Meta(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


class _Nothing(metaclass=_Meta):
    """Any name of a module that is not there: a class, a function, a falsy result."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        pass

    def __bool__(self) -> bool:
        return False


class _EmptyModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for every name in a package of `ABSENT`."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.partition(".")[0] in ABSENT:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return _EmptyModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass
