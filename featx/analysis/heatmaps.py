"""Heat maps: what a network does with an image at every cut, and what speaks for a class there.

`activation_maps` and `evidence_maps` give the numbers; `heat_maps` gives every kind of map of some
images from one pass, with captions, and `heat_map_exhibits` makes pictures of them for a report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from featx.analysis.activations import Activation, activations
from featx.analysis.evidence import Evidence, check_has_places, class_evidence
from featx.analysis.gradcam import grad_cam_maps
from featx.analysis.overlays import colour_range, picture
from featx.errors import UsageError
from featx.evaluate.exhibits import EXHIBITS_FOLDER, HeatMapExhibit

if TYPE_CHECKING:
    from featx.backbones import Backbone
    from featx.data import Images
    from featx.evaluate.exhibits import ShownImage
    from featx.extraction import Settings
    from featx.heads import LinearHead

ExhibitKind = Literal["activation", "channel", "evidence"]
KINDS: tuple[ExhibitKind, ...] = ("activation", "channel", "evidence")


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A map of one image at one cut.

    Attributes
    ----------
    what : {"activation", "channel", "evidence", "grad-cam"}
        Mean over the channels, one channel, what each place adds to a head's score of a class, or
        what the network's own score hangs on.
    cut : str
    values : ndarray of shape (rows, columns), float32 or float64
    about : str
        The caption: its range and size; the channel; the class with its score.
    label : int or None
        The class of evidence, or the network's own of Grad-CAM.
    """

    what: ExhibitKind | Literal["grad-cam"]
    cut: str
    values: np.ndarray
    about: str
    label: int | None = None

    @property
    def signed(self) -> bool:
        """Whether the map speaks for (above zero) and against something."""
        return self.what == "evidence"


def mean_map(activation: Activation) -> np.ndarray:
    """Return the mean over the channels of every place, (rows, columns) float32."""
    return activation.places().mean(axis=0, dtype=np.float64).astype(np.float32)


def channel_map(activation: Activation, channel: int) -> np.ndarray:
    """Return one channel, (rows, columns) float32; past the last one, counting begins anew."""
    places = activation.places()
    return places[channel % len(places)]


def activation_maps(
    backbone: Backbone,
    cuts: Sequence[str],
    images: Images,
    settings: Settings,
    channel: int | None = None,
) -> dict[str, np.ndarray]:
    """Return the activations of images at every cut: the mean over channels, or one channel.

    Parameters
    ----------
    cuts : sequence of str
        Any of their names.
    settings : Settings
        Geometry, normalization and device; the pooling has no effect.
    channel : int, optional
        Index of a channel, counted anew (modulo) at cuts with fewer.

    Returns
    -------
    dict of str to ndarray of shape (n, rows, columns), float32
        By cut; the grid is the cut's own.

    Raises
    ------
    ShapeError
        For a cut without places: a vector, or tokens that form no grid.
    UsageError
        When the network cannot be cut there.
    """
    found: dict[str, list[np.ndarray]] = {cut: [] for cut in cuts}
    with closing(activations(backbone, cuts, images, settings)) as per_image:
        for at_cuts in per_image:
            for cut, activation in at_cuts.items():
                one = mean_map(activation) if channel is None else channel_map(activation, channel)
                found[cut].append(one)
    return {cut: np.stack(maps) for cut, maps in found.items()}


def evidence_maps(
    backbone: Backbone,
    heads: Mapping[str, LinearHead],
    images: Images,
    settings: Settings,
    label: int | None = None,
) -> dict[str, list[Evidence]]:
    """Return what each place of images adds to the score that the head of a cut gives a class.

    Parameters
    ----------
    heads : mapping of str to LinearHead
        By cut; fitted on features made with these settings.
    settings : Settings
        As the heads' features were made, with their pooling.
    label : int, optional
        The class; for each image and cut the predicted one otherwise.

    Returns
    -------
    dict of str to list of Evidence
        By cut, one per image; each adds up to the head's score exactly, but for rounding.

    Raises
    ------
    ShapeError
        For a cut without places, or a head that was fitted on something else.
    UsageError
        For a pooling that is no sum over places, or a label that a head does not know.
    """
    check_has_places(settings.pool)
    found: dict[str, list[Evidence]] = {cut: [] for cut in heads}
    with closing(activations(backbone, list(heads), images, settings)) as per_image:
        for at_cuts in per_image:
            for cut, activation in at_cuts.items():
                found[cut].append(class_evidence(activation, heads[cut], settings.pool, label))
    return found


def heat_maps(
    backbone: Backbone,
    cuts: Sequence[str],
    images: Images,
    settings: Settings,
    *,
    channel: int | None = None,
    heads: Mapping[str, LinearHead] | None = None,
    label: int | None = None,
) -> list[list[HeatMap]]:
    """Return every map of every image, from one pass through the network.

    Parameters
    ----------
    channel : int, optional
        Channel maps are made if it is given; see `activation_maps`.
    heads : mapping of str to LinearHead, optional
        Evidence is made for the cuts that have one; see `evidence_maps`.

    Returns
    -------
    list of list of HeatMap
        One list per image: kind by kind, each in the order of `cuts`.

    Raises
    ------
    UsageError
        As `activation_maps` and `evidence_maps`.
    """
    if channel is not None and channel < 0:
        raise UsageError(f"Channel {channel} is not possible: give 0 or more.")
    heads = heads or {}
    if heads:
        check_has_places(settings.pool)
    found = []
    with closing(activations(backbone, cuts, images, settings)) as per_image:
        for at_cuts in per_image:
            maps = [_activation(at_cuts[cut]) for cut in cuts]
            if channel is not None:
                maps += [_channel(at_cuts[cut], channel) for cut in cuts]
            maps += [
                _evidence(at_cuts[cut], heads[cut], settings.pool, label)
                for cut in cuts
                if cut in heads
            ]
            found.append(maps)
    return found


def grad_cams(
    backbone: Backbone, cuts: Sequence[str], images: Images, settings: Settings
) -> list[list[HeatMap]]:
    """Return the Grad-CAM of the class that the network itself predicts, by image, then by cut.

    Raises
    ------
    UsageError
        As `featx.analysis.gradcam.grad_cam_maps`.
    """
    found: list[list[HeatMap]] = [[] for _ in range(len(images))]
    for cut in cuts:
        for of_image, values, label in zip(
            found, *grad_cam_maps(backbone, cut, images, settings), strict=True
        ):
            about = f"class {label} of the network, the predicted one; scaled to 0 to 1"
            of_image.append(HeatMap("grad-cam", cut, values, about, int(label)))
    return found


def _activation(activation: Activation) -> HeatMap:
    values = mean_map(activation)
    return HeatMap("activation", activation.cut, values, _range_of(values))


def _channel(activation: Activation, channel: int) -> HeatMap:
    values = channel_map(activation, channel)
    n = len(activation.places())
    about = f"channel {channel % n} of {n}, {_range_of(values)}"
    return HeatMap("channel", activation.cut, values, about)


def _evidence(activation: Activation, head: LinearHead, pool: str, label: int | None) -> HeatMap:
    found = class_evidence(activation, head, pool, label)
    name = head.class_names[int(np.flatnonzero(head.classes == found.label)[0])]
    sign = "-" if found.elsewhere < 0 else "+"
    about = (
        f"{name}: score {found.score:.3g} = {found.values.sum():.3g} on the map {sign} "
        f"{abs(found.elsewhere):.3g}, {_range_of(found.values, signed=True)}"
    )
    return HeatMap("evidence", activation.cut, found.values, about, found.label)


def _range_of(values: np.ndarray, *, signed: bool = False) -> str:
    """Return what the colours of a map stand for, and its size."""
    low, high = colour_range(values, signed=signed)
    return f"colours {low:.3g} to {high:.3g}, {values.shape[0]}x{values.shape[1]} places"


def heat_map_exhibits(
    maps: Sequence[Sequence[HeatMap]],
    seen: Sequence[np.ndarray],
    shown: Sequence[ShownImage],
    split: str,
) -> tuple[list[HeatMapExhibit], dict[str, bytes]]:
    """Return the exhibits of some images, and their pictures.

    Each picture is scaled to its own map's range, which its caption in `about` says.

    Parameters
    ----------
    maps : sequence of sequence of HeatMap
        From `heat_maps`, by image.
    seen : sequence of ndarray of shape (H, W, 3), uint8
        The images as the network sees them.
    shown : sequence of ShownImage
        Which images of the split they are.
    split : str
        ``"test"``.

    Returns
    -------
    exhibits : list of HeatMapExhibit
        One per image and kind.
    files : dict of str to bytes
        WebP by name, relative to the report's folder; names do not depend on what is in a recipe.
    """
    exhibits: list[HeatMapExhibit] = []
    files: dict[str, bytes] = {}
    for of_image, image, known in zip(maps, seen, shown, strict=True):
        for what in KINDS:
            chosen = [heat_map for heat_map in of_image if heat_map.what == what]
            if not chosen:
                continue
            names = {}
            for number, heat_map in enumerate(chosen):
                name = f"{EXHIBITS_FOLDER}/heat-{what}-{split}-{known.index}-{number}.webp"
                names[heat_map.cut] = name
                files[name] = picture(image, heat_map.values, signed=heat_map.signed)
            predicted = {heat_map.label for heat_map in chosen}
            exhibits.append(
                HeatMapExhibit(
                    what=what,
                    split=split,
                    # Of heads that do not agree, each caption says what it predicts.
                    image=known.model_copy(
                        update={"predicted": predicted.pop() if len(predicted) == 1 else None}
                    ),
                    files=names,
                    about={heat_map.cut: heat_map.about for heat_map in chosen},
                    exact=what == "evidence",
                )
            )
    return exhibits, files
