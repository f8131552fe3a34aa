"""``featx heatmaps``: one picture per image, with the maps of all cuts side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from featx.analysis.activations import seen_images
from featx.analysis.evidence import label_of
from featx.analysis.gradcam import check_installed
from featx.analysis.heatmaps import grad_cams, heat_maps
from featx.backbones import load_backbone
from featx.cache import fsio
from featx.data import FileImages
from featx.errors import UsageError
from featx.extraction import cut_points, make_settings
from featx.heads import LinearHead
from featx.machine import first_device
from featx.pipeline.heat_figures import heat_figure
from featx.pipeline.heat_maps import last_split, random_rows
from featx.pipeline.prepare import check_writable, prepare
from featx.progress import SILENT, Progress

if TYPE_CHECKING:
    from featx.backbones import Backbone
    from featx.data import Images
    from featx.extraction import Settings
    from featx.recipes import Recipe

# What a run writes into the heads it saves, and what it takes to use one of them.
_SAID = ("module", "pool", "preprocess", "weights_digest")


@dataclass(frozen=True)
class _Sources:
    """A network, how images go into it, and some images with their titles and file names."""

    backbone: Backbone
    settings: Settings
    images: Images
    titles: list[str]
    stems: list[str]


def draw_heat_maps(
    recipe: Recipe,
    folder: Path,
    *,
    files: Sequence[Path] = (),
    n: int = 4,
    channel: int | None = None,
    head_file: Path | None = None,
    class_name: str | None = None,
    grad_cam: bool = False,
    progress: Progress = SILENT,
) -> list[Path]:
    """Write a PNG per image with its maps at every cut.

    Parameters
    ----------
    recipe : Recipe
        Network, cuts, geometry; the images, where no `files` are given.
    folder : Path
        Where the pictures go.
    files : sequence of Path
        Image files.
    n : int
        Random images of the test split (of another, where there is none) without `files`.
    channel : int, optional
        Adds a row with one channel.
    head_file : Path, optional
        A head that a run saved: adds its evidence at its cut. Without any cut in the recipe, its
        cut is the one that is shown.
    class_name : str, optional
        The class of the evidence; the predicted one otherwise.
    grad_cam : bool
        Adds a row with the Grad-CAM of the class that the network itself predicts.
    progress : Progress, optional
        Hears what is not as it was asked for.

    Returns
    -------
    list of Path
        The pictures, in the order of the images.

    Raises
    ------
    UsageError
        When images, cuts or head cannot be used, or do not belong together.
    HeadError
        When the file holds no head.
    CacheWriteError
        If the disk refuses.
    """
    if class_name is not None and head_file is None:
        raise UsageError(f"Class '{class_name}' is of a head, and none is given: --head FILE")
    if grad_cam:
        check_installed()
    head = None if head_file is None else _read_head(head_file)
    label = label_of(head, class_name) if head and class_name is not None else None
    if head and not recipe.cuts:
        recipe = recipe.model_copy(update={"cuts": (head.provenance["module"],)})
    if not recipe.cuts:
        raise UsageError(
            f"No cut is given. List those of the network: featx layers {recipe.backbone}. "
            "Then: --cut NAME (more than one is fine)"
        )
    check_writable(folder)
    found = _from_files(recipe, files) if files else _from_dataset(recipe, n)
    if not files and len(found.images) < n:
        progress.warn(f"{n} images were asked for, the split has {len(found.images)}.")
    if head and head.provenance.get("standardize") == "per-split":
        progress.warn(
            "The head was fitted with --standardize per-split and carries the training split's "
            "statistics: scores of other images are not those of the run's report."
        )
    heads = {}
    settings = found.settings
    if head:
        heads = {_cut_of(head, found, recipe.cuts): head}
        settings = replace(settings, pool=head.provenance["pool"])
    points = cut_points(found.backbone, recipe.cuts, settings)
    cuts = sorted(recipe.cuts, key=lambda cut: points[cut].order)
    maps = heat_maps(
        found.backbone, cuts, found.images, settings, channel=channel, heads=heads, label=label
    )
    if grad_cam:
        of_network = grad_cams(found.backbone, cuts, found.images, settings)
        maps = [[*own, *more] for own, more in zip(maps, of_network, strict=True)]
    fsio.make_folder(folder)
    written = []
    seen = seen_images(found.images, settings)
    for of_image, image, title, stem in zip(maps, seen, found.titles, found.stems, strict=True):
        path = folder / f"{stem}.png"
        fsio.publish(path, heat_figure(image, of_image, title))
        written.append(path)
    return written


def _from_files(recipe: Recipe, files: Sequence[Path]) -> _Sources:
    """Return image files, and the network that they will go through."""
    for path in files:
        if path.is_dir():
            raise UsageError(
                f"'{path}' is a folder: expected an image file. For images of a folder: --dataset "
                f"folder:{path}"
            )
        if not path.exists():
            raise UsageError(f"There is no file '{path}': expected an image file.")
    images = FileImages(files)
    size = images.size
    backbone = load_backbone(
        recipe.backbone,
        recipe.weights,
        preprocess=recipe.preprocess,
        seed=recipe.seed,
        image_size=recipe.image_size if isinstance(recipe.image_size, int) else None,
    )
    settings = make_settings(
        backbone,
        size,
        image_size=recipe.image_size,
        crop=recipe.crop,
        interpolation=recipe.interpolation,
        device=first_device(recipe.device),
        precision=recipe.precision,
        allow=recipe.allow,
        workers=0,
    )
    titles = [path.name for path in files]
    return _Sources(backbone, settings, images, titles, _stems(files))


def _stems(files: Sequence[Path]) -> list[str]:
    """Return a file name per image, without its suffix: each once, in any alphabet and case."""
    stems: list[str] = []
    taken: set[str] = set()
    for path in files:
        plain = re.sub(r"[^\w.-]+", "-", path.stem).strip("-.") or "image"
        stem, number = plain, 2
        # Some file systems take names for equal that differ in case.
        while stem.casefold() in taken:
            stem, number = f"{plain}-{number}", number + 1
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def _from_dataset(recipe: Recipe, n: int) -> _Sources:
    """Return random images of a source, and the network that they will go through."""
    prepared = prepare(recipe)
    name = last_split(prepared.dataset)
    split = prepared.dataset.splits[name]
    rows = random_rows(split, n, recipe.seed)
    classes = prepared.dataset.classes
    return _Sources(
        prepared.backbone,
        prepared.settings,
        split.images.take(rows),
        [f"{name} image {row}, {classes[int(split.y[row])]}" for row in rows],
        [f"{name}-{row}" for row in rows],
    )


def _read_head(path: Path) -> LinearHead:
    """Return a head that says how its features were made."""
    head = LinearHead.load(path)
    if any(key not in head.provenance for key in _SAID):
        raise UsageError(
            f"Head {path} does not say which cut, pooling and preprocessing it was fitted with. "
            "Take one that a run saved in its report (heads/), or give the settings in Python: "
            "featx.analysis.heatmaps.evidence_maps"
        )
    return head


def _cut_of(head: LinearHead, found: _Sources, cuts: Sequence[str]) -> str:
    """Return the cut that a head was fitted on, if network, images and cuts are the head's."""
    said, backbone = head.provenance, found.backbone
    if said["weights_digest"] != backbone.weights.digest:
        raise UsageError(
            f"The head was fitted on features of {said.get('backbone')} with weights "
            f"{said.get('weights')}, not of {backbone.name} with {backbone.weights.tag}. "
            "Give those: --backbone and --weights"
        )
    given = found.settings.preprocess.as_dict()
    wrong = [name for name, value in given.items() if said["preprocess"].get(name) != value]
    if wrong:
        both = ", ".join(f"{name} {said['preprocess'].get(name)}" for name in wrong)
        now = ", ".join(f"{name} {given[name]}" for name in wrong)
        raise UsageError(
            f"The head was fitted on images with {both}; here it is {now}. Prepare them alike: "
            "--image-size, --crop, --interpolation, --preprocess"
        )
    for cut in cuts:
        if backbone.resolve(cut) == said["module"]:
            return cut
    raise UsageError(
        f"The head was fitted on cut '{said['module']}', which is not among those given. "
        f"Add it: --cut {said['module']}"
    )
