"""From a recipe to everything a training needs, before the first step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from featx.data import FileImages, load_dataset, resolve_crop
from featx.errors import DataError, RecipeError, UsageError, quoted
from featx.extraction import memory_budget_bytes
from featx.machine import n_cpus, pick_device, pick_precision
from featx.pipeline.input_marks import InputMarks, input_marks
from featx.pipeline.prepare import check_writable
from featx.recipes import DEFAULT_LR, DEFAULT_TRAIN_BATCH
from featx.training import (
    Learner,
    TrainSettings,
    check_room,
    make_learner,
    pixel_statistics,
    resident_images,
)

if TYPE_CHECKING:
    import torch

    from featx.backbones.registry import Network
    from featx.backbones.saved import SavedModel
    from featx.backbones.trainable import Trainable
    from featx.data import Dataset, Preprocess
    from featx.recipes import Recipe


@dataclass(frozen=True)
class PreparedTraining:
    """A recipe with its images and its network found; nothing trained yet.

    Attributes
    ----------
    recipe : Recipe
    dataset : Dataset
    trainable : Trainable
        The network, with what of it is new.
    learner : Learner
        What of it is trained.
    mode : str
        The recipe's mode, decided.
    settings : TrainSettings
    preprocess : Preprocess
        Geometry and normalization of the input.
    input_size : tuple of int
        Height and width in pixels of what enters the network.
    device : torch.device
    images : dict of str to Tensor
        Resized images that were needed to prepare (their statistics normalize them), by split.
    marks : InputMarks
        Of the files, as they were before they were read.
    """

    recipe: Recipe
    dataset: Dataset
    trainable: Trainable
    learner: Learner
    mode: str
    settings: TrainSettings
    preprocess: Preprocess
    input_size: tuple[int, int]
    device: torch.device
    images: dict[str, torch.Tensor]
    marks: InputMarks

    @property
    def labels(self) -> list[int]:
        """The labels in the order of the network's outputs."""
        return list(self.dataset.classes)

    @property
    def workers(self) -> int:
        """Threads that decode image files."""
        return decoders(self.recipe, self.dataset)

    def identity(self) -> dict[str, Any]:
        """Return what makes this run itself: a checkpoint of another one is refused."""
        weights = self.trainable.weights
        return {
            "network": self.trainable.network.name,
            "weights": weights.digest,
            "mode": self.mode,
            "frozen up to": self.learner.frozen_up_to,
            "classes": [self.dataset.classes[label] for label in self.labels],
            "image size": list(self.input_size),
            "preprocess": self.preprocess.as_dict(),
            "storage": self.recipe.storage,
            "test each epoch": self.recipe.test_each_epoch,
            **{f"{name} images": split.digest for name, split in self.dataset.splits.items()},
            **self.settings.as_dict(),
        }


def prepare_training(recipe: Recipe) -> PreparedTraining:
    """Load images and network of a recipe and freeze what its mode freezes.

    Raises
    ------
    FeatxError
        A wrong name, size, label, file or setting: before anything is trained or written.
    """
    from featx.backbones.load import find_source
    from featx.backbones.trainable import load_trainable

    if not recipe.network:
        raise RecipeError(
            "No network is given. Small ones: featx networks. Then: --network NAME (any network "
            "of torchvision or timm is fine)"
        )
    device = pick_device(recipe.device)
    network, saved = find_source(recipe.network, recipe.weights)
    mode = recipe.training_mode
    settings = train_settings(recipe, mode)
    check_writable(recipe.report_path)
    marks = input_marks(recipe)
    dataset = load_dataset(
        recipe.dataset,
        data_dir=recipe.data_dir,
        classes=recipe.classes or None,
        val=recipe.val,
        test=recipe.test,
        stratified=recipe.stratified,
        seed=recipe.seed,
        limit=recipe.limit,
    )
    classes = dataset.classes.values()
    if len(classes) < 2:
        raise DataError(
            f"There is only one class ({quoted(classes)}): a network needs two or more to tell "
            "apart."
        )
    side = _side(recipe, dataset, network, saved)
    size = (side, side) if side is not None else dataset.size
    if size is None:
        raise UsageError(
            "image_size is native, but the images have many sizes. Give one: --image-size 64"
        )
    trainable = load_trainable(
        recipe.network,
        "none" if mode == "scratch" else recipe.weights,
        n_classes=len(dataset.classes),
        image_size=size,
        preprocess=recipe.preprocess,
        seed=recipe.seed,
    )
    if mode != "scratch" and trainable.weights.random and recipe.weights != "none":
        raise UsageError(
            f"{network.short_name} has no pretrained weights, and mode {mode} needs some. Use "
            "--mode scratch, or bring weights: --weights FILE"
        )
    learner = make_learner(trainable, mode, recipe.from_cut)
    preprocess, images = _preprocess(recipe, dataset, trainable.preprocess, side, size, device)
    return PreparedTraining(
        recipe,
        dataset,
        trainable,
        learner,
        mode,
        settings,
        preprocess,
        size,
        device,
        images,
        marks,
    )


def train_settings(recipe: Recipe, mode: str) -> TrainSettings:
    """Return the settings of the loop, every default decided."""
    batch = DEFAULT_TRAIN_BATCH if recipe.batch_size == "auto" else int(recipe.batch_size)
    return TrainSettings(
        epochs=recipe.epochs,
        batch_size=batch,
        optimizer=recipe.optimizer,
        lr=DEFAULT_LR[mode] if recipe.lr is None else recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        schedule=recipe.schedule,
        lr_end=recipe.lr_end,
        warmup_epochs=recipe.warmup_epochs,
        step_epochs=recipe.step_epochs,
        step_gamma=recipe.step_gamma,
        label_smoothing=recipe.label_smoothing,
        augment=recipe.augment,
        patience=recipe.patience,
        monitor=recipe.monitor,
        keep_best=recipe.val != 0 if recipe.keep == "auto" else recipe.keep == "best",
        clip_norm=recipe.clip_norm,
        precision=pick_precision(recipe.precision, recipe.allow, pick_device(recipe.device)),
        ema=recipe.ema,
        channels_last=recipe.channels_last,
        compile=recipe.compile,
        seed=recipe.seed,
    )


def decoders(recipe: Recipe, dataset: Dataset) -> int:
    """Return how many threads decode image files: none where there are no files."""
    if recipe.workers != "auto":
        return int(recipe.workers)
    files = any(isinstance(split.images, FileImages) for split in dataset.splits.values())
    return n_cpus() if files else 0


def _side(
    recipe: Recipe, dataset: Dataset, network: Network, saved: SavedModel | None
) -> int | None:
    """Return the pixels a side of the input; None for the images' own size."""
    from featx.backbones.preprocessing import preprocess_of_tag

    if recipe.image_size == "native":
        return None
    if recipe.image_size != "auto":
        return int(recipe.image_size)
    if saved is not None:
        return saved.image_size[0]
    # The small networks take any size: that of the images where they share one.
    if network.library == "featx" and dataset.size is not None:
        return None
    return preprocess_of_tag(network, "default").image_size or 224


def _preprocess(
    recipe: Recipe,
    dataset: Dataset,
    known: Preprocess | None,
    side: int | None,
    size: tuple[int, int],
    device: torch.device,
) -> tuple[Preprocess, dict[str, torch.Tensor]]:
    """Return the preprocessing, and the images that had to be read for it.

    Without pretrained weights the training images' own mean and deviation normalize the input.
    """
    from featx.data import TORCH

    preprocess = (known or TORCH).with_size(
        side,
        crop=resolve_crop(recipe.crop, dataset.size),
        interpolation=None if recipe.interpolation == "auto" else recipe.interpolation,
    )
    if known is not None:
        return preprocess, {}
    check_room(len(dataset.splits["train"]), size, memory_budget_bytes(recipe.memory_budget))
    train = resident_images(
        dataset.splits["train"], preprocess, device, workers=decoders(recipe, dataset)
    )
    mean, std = pixel_statistics(train)
    own = replace(
        preprocess,
        name="training-images",
        mean=mean,
        # A channel without any variation is left as it is.
        std=(std[0] or 1.0, std[1] or 1.0, std[2] or 1.0),
        scale=1 / 255,
    )
    return own, {"train": train}
