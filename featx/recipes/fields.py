"""The fields of every recipe: images, machine, places; and those of a probe."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from featx.machine import parse_bytes
from featx.recipes.values import (
    Count,
    HoldOut,
    Positive,
    split_commas,
    split_limits,
    split_names,
    split_number_list,
)

CGrid = Literal["auto", "dinov2", "vissl"]
C_WORDS: tuple[str, ...] = get_args(CGrid)


class SharedFields(BaseModel):
    """What every task needs: which images, on which machine, with results where."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Literal["probe", "train", "compare"] = Field(
        "probe",
        description="probe (a linear head per cut), train (one network) or compare (both, in "
        "one table).",
    )
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="Name of the run: its report goes to OUT/NAME. Default: made from the rest.",
    )
    description: str = Field("", description="What the run is for; printed in the report.")
    weights: str = Field(
        "default",
        description="default, a tag (IMAGENET1K_V1), a .safetensors or .pth file, package:NAME "
        "or none.",
    )
    preprocess: str = Field(
        "auto", description="auto (what the weights say), torch, caffe, or a weights tag."
    )
    image_size: Count | Literal["auto", "native"] = Field(
        "auto", description="Pixels a side, native, or auto (the weights' own)."
    )
    crop: Literal["auto", "center", "none"] = Field(
        "auto", description="center (the weights' own crop), none, auto (none if square and equal)."
    )
    interpolation: Literal["auto", "bilinear", "bicubic"] = Field(
        "auto", description="bilinear, bicubic or auto (the weights' own); always antialiased."
    )
    dataset: str = Field(
        "cifar5",
        description="cifar10, cifar5, digits, fashion-mnist, folder:PATH or npz:PATH.",
    )
    data_dir: str | None = Field(
        None, description="Where data lie or are downloaded to (FEATX_DATA_DIR)."
    )
    classes: Annotated[tuple[str, ...], BeforeValidator(split_names)] = Field(
        (), description="Keep these classes only: a,b,c."
    )
    val: HoldOut = Field(
        0.2, description="Validation images held out of training: a fraction, a count, or 0."
    )
    test: HoldOut = Field(
        0.2, description="Test images held out, where the source has no test split."
    )
    stratified: bool = Field(False, description="Hold out the same share of every class.")
    limit: Annotated[Count | dict[str, Count | None] | None, BeforeValidator(split_limits)] = Field(
        None, description="Images per class at most: N, or train=N,test=M."
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        0, description="Seed of hold-out, limits, random weights and solvers."
    )
    device: str = Field(
        "auto",
        description="auto, cpu, cuda, cuda:N or mps; to extract on several GPUs, a process each: "
        "cuda:all or cuda:0,cuda:1.",
    )
    precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        "fp32",
        description="Arithmetic of the forward pass; auto: the fastest of fp32 and --allow here.",
    )
    allow: Annotated[tuple[Literal["bf16", "fp16"], ...], BeforeValidator(split_commas)] = Field(
        (), description="Precisions that --precision auto may take besides fp32: bf16,fp16."
    )
    channels_last: bool = Field(
        True,
        description="Memory order of maps, where it is the faster one: not in fp32 on a CUDA "
        "GPU when extracting.",
    )
    fold: bool = Field(
        True, description="Fold BatchNorms into the convolutions before them when extracting."
    )
    compile: bool = Field(False, description="Compile the network with torch.compile.")
    threads: Count | Literal["auto"] = Field(
        "auto",
        description="Of torch, when extracting; auto: as torch decides. May change last digits "
        "behind dense layers, attention, SiLU or GELU, which then have a key of their own.",
    )
    batch_size: Count | Literal["auto"] = Field(
        "auto", description="Images a batch; auto halves it when memory runs out."
    )
    storage: Literal["float32", "float16"] = Field("float32", description="Type of cached values.")
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="Threads that decode image files."
    )
    jobs: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="Heads fitted, or runs of a study, at the same time; auto: as cores and memory "
        "allow.",
    )
    memory_budget: Annotated[int, BeforeValidator(parse_bytes)] | None = Field(
        None, description="Memory to stay within, like 8GB. Default: 80 % of what is free."
    )
    rebuild: bool = Field(False, description="Compute the features anew even if they are cached.")
    cache_dir: str | None = Field(
        None, description="Where features are cached (FEATX_CACHE_DIR). Default: cache."
    )
    out: str = Field("reports", description="Where reports go.")
    exhibits: bool = Field(
        True,
        description="Keep what a report shows beside its numbers: thumbnails, curves, maps.",
    )
    map_method: Literal["pca", "tsne", "umap"] = Field(
        "pca",
        description="How a report draws the features of a cut in two dimensions; umap needs the "
        "package umap-learn.",
    )
    repeats: Count = Field(
        1, description="Runs of the same settings, each with the next seed and its own images."
    )
    track: Literal["none", "mlflow", "tensorboard"] = Field(
        "none", description="Where runs are logged besides the report (MLFLOW_TRACKING_URI)."
    )
    published: dict[str, Any] = Field(
        {},
        description="Figures of a source, shown beside ours in the report: of a network "
        "{conv2: {top1: 0.62}}, of a study's group {image_size32: {top1: 0.48}}, of a probe's cut "
        "{layer3: {val: 0.84}}.",
    )


class ProbeFields(SharedFields):
    """What a linear probe needs besides: a pretrained network, cuts, a head."""

    tune: bool = Field(
        False,
        description="Measure how this machine extracts fastest, once; what was set stays as it is.",
    )

    backbone: str = Field(
        "resnet50", description="A torchvision or timm network: resnet50, vgg16, timm/NAME."
    )
    cuts: Annotated[tuple[str, ...], BeforeValidator(split_commas)] = Field(
        (), description="Where to cut: a Keras, module or stage name (featx layers NETWORK)."
    )
    pool: str = Field(
        "avg", description="avg, max, avgmax, gem, flatten, grid:N; for tokens: cls, mean, flatten."
    )
    standardize: Literal["train", "per-split", "none"] = Field(
        "train", description="Statistics of train for all, of each split by itself, or none."
    )
    head: Literal["svm", "logistic"] = Field("svm", description="The linear head.")
    C: Annotated[
        Positive | Annotated[tuple[Positive, ...], Field(min_length=1)] | CGrid | None,
        BeforeValidator(split_number_list),
    ] = Field(
        None,
        description="A value, a list, or a grid: auto, dinov2, vissl. Several are compared on the "
        "validation split, or by --cv; auto goes on upwards while its largest is the best. "
        "Default: 12 (svm), 1 (logistic).",
    )
    cv: Annotated[int, Field(ge=0)] = Field(
        0, description="Folds of the training images to choose C by; 0: the validation split."
    )
    solver: Literal["featx", "liblinear", "lbfgs"] = Field(
        "featx",
        description="featx, or scikit-learn's: liblinear (svm), lbfgs (logistic).",
    )
    max_iter: Count = Field(1000, description="Iterations of the solver at most.")
    tol: Positive | None = Field(
        None,
        description="Tolerance. Default: a relative duality gap of 1e-6 (featx), 1e-4 as "
        "scikit-learn means it (liblinear, lbfgs).",
    )
    refit: bool = Field(
        False, description="Fit once more on train and validation after C is chosen."
    )
