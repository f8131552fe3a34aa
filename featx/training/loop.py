"""The one training loop: from scratch, behind a frozen part, or everything.

Every epoch begins with seeds of its own, made of the run's seed and the epoch's number: order,
dropout and augmentation of an epoch do not depend on what ran before it in the same process. A run
that continues from a checkpoint therefore does what an undisturbed one does, bit for bit on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.errors import UsageError
from featx.evaluate.training_records import EpochRecord, State
from featx.machine import peak_memory_bytes, plain_fp32
from featx.progress import SILENT, Progress
from featx.training.augment import make_augment
from featx.training.checkpoint import load_checkpoint, save_checkpoint
from featx.training.ending import ending
from featx.training.evaluation import autocast, score, scores_of
from featx.training.optimizers import make_optimizer
from featx.training.schedules import make_schedule
from featx.training.steps import Batches, Divergence, check_steps, run_epoch

if TYPE_CHECKING:
    import torch

    from featx.training.inputs import Inputs
    from featx.training.learner import Learner
    from featx.training.settings import TrainSettings

_SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class Outcome:
    """What a training came to; the learner's network holds the kept weights.

    Attributes
    ----------
    history : tuple of EpochRecord
        Every epoch that was finished.
    best_epoch : int
        Whose weights were kept; 0 where no epoch was finished.
    kept_by : str
        ``"val_loss"``, ``"val_top1"`` or ``"last epoch"``.
    state : State
        How it ended.
    message : str or None
        Of a divergence.
    before : dict
        What came before the first epoch, as the call that began the training gave it.
    """

    history: tuple[EpochRecord, ...]
    best_epoch: int
    kept_by: str
    state: State
    message: str | None = None
    before: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Best:
    """The epoch that is kept so far: its number, its score (larger is better), its weights."""

    epoch: int = 0
    score: float = -math.inf
    weights: dict[str, torch.Tensor] = field(default_factory=dict)


def train(
    learner: Learner,
    inputs: Mapping[str, Inputs],
    settings: TrainSettings,
    *,
    n_classes: int,
    image_size: tuple[int, int],
    checkpoint: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    resume: bool = False,
    before: Mapping[str, Any] | None = None,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
    progress: Progress = SILENT,
) -> Outcome:
    """Train a network and leave the kept weights in it.

    Parameters
    ----------
    learner : Learner
        On the device of the inputs.
    inputs : mapping of str to Inputs
        ``"train"``, and what is evaluated behind each epoch: ``"val"``, ``"test"``. Only ``val``
        takes part in a choice.
    settings : TrainSettings
    image_size : tuple of int
        Height and width of the images, for the augmentation.
    checkpoint : Path, optional
        Written behind every epoch.
    identity : mapping, optional
        What makes this run itself, for the checkpoint.
    resume : bool
        Continue from the checkpoint where there is one.
    before : mapping of str to JSON values, optional
        What a record tells of the time before the first epoch: checkpoints keep it for a run that
        is resumed.
    on_epoch : callable
        Hears every epoch's record once it is done.

    Raises
    ------
    UsageError
        For settings that cannot work together.
    CheckpointError
        When the checkpoint cannot be continued.
    CacheWriteError
        When the disk refuses a checkpoint.
    """
    import torch

    device = inputs["train"].targets.device
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), plain_fp32():
        run = _Run(learner, inputs, settings, n_classes, image_size)
        run.before = dict(before or {})
        if resume and checkpoint is not None:
            if checkpoint.is_file():
                run.load(load_checkpoint(checkpoint, identity or {}))
                progress.say(f"Continuing behind epoch {run.epoch} of {settings.epochs}.")
            else:
                progress.say(f"There is no checkpoint at {checkpoint}: beginning at epoch 1.")
        total = settings.epochs * len(inputs["train"])
        done = run.epoch * len(inputs["train"])
        with progress.task("train", total, "images", done=done) as advance:
            while run.goes_on():
                record = run.one_epoch(advance)
                if record is None:
                    break
                if checkpoint is not None:
                    save_checkpoint(checkpoint, identity or {}, run.state())
                progress.say(epoch_line(record, settings.epochs))
                on_epoch(record)
        return run.finish()


class _Run:
    """The state of a training between two epochs."""

    def __init__(
        self,
        learner: Learner,
        inputs: Mapping[str, Inputs],
        settings: TrainSettings,
        n_classes: int,
        image_size: tuple[int, int],
    ) -> None:
        import torch
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        self.learner, self.inputs, self.settings = learner, inputs, settings
        self.n_classes = n_classes
        self.device = inputs["train"].targets.device
        _check(learner, inputs, settings)
        if settings.channels_last:
            learner.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.batches = Batches(len(inputs["train"]), settings.batch_size)
        self.augment = make_augment(settings.augment, image_size)
        self.optimizer = make_optimizer(
            list(learner.parameters.values()), name=settings.optimizer, lr=settings.lr,
            momentum=settings.momentum, nesterov=settings.nesterov,
            weight_decay=settings.weight_decay, device=self.device,
        )  # fmt: skip
        self.schedule = make_schedule(
            self.optimizer, name=settings.schedule, lr=settings.lr, lr_end=settings.lr_end,
            epochs=settings.epochs, steps_per_epoch=len(self.batches),
            warmup_epochs=settings.warmup_epochs, step_epochs=settings.step_epochs,
            step_gamma=settings.step_gamma,
        )  # fmt: skip
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=settings.precision == "fp16" and self.device.type == "cuda"
        )
        self.average = None
        if settings.ema is not None:
            self.average = AveragedModel(
                learner.module, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True
            )
        self.forward: Any = torch.compile(learner.module) if settings.compile else learner.module
        self.epoch = 0
        self.waited = 0
        self.best = _Best()
        self.history: list[EpochRecord] = []
        self.divergence: Divergence | None = None
        self.before: dict[str, Any] = {}

    def goes_on(self) -> bool:
        """Return whether another epoch is to be run."""
        patience = self.settings.patience
        return self.epoch < self.settings.epochs and (patience is None or self.waited < patience)

    def one_epoch(self, advance: Callable[[int], None]) -> EpochRecord | None:
        """Train and evaluate one epoch; None where the loss was not finite."""
        import torch

        number = self.epoch + 1
        torch.manual_seed((self.settings.seed * _SEED_STRIDE + number) % 2**63)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        start = time.perf_counter()
        result = run_epoch(self, number, advance)
        seconds = time.perf_counter() - start
        if isinstance(result, Divergence):
            self.divergence = result
            return None
        start = time.perf_counter()
        scores = {"train": result} | {
            split: score(self.outputs(split), self.inputs[split].targets)
            for split in ("val", "test")
            if split in self.inputs
        }
        bad = next((s.loss for s in scores.values() if not math.isfinite(s.loss)), None)
        if bad is not None:
            # The last step's weights are past saving, which no training loss has shown yet.
            self.divergence = Divergence(number, len(self.batches), bad, result.learning_rate)
            return None
        on_gpu = self.device.type == "cuda"
        record = EpochRecord(
            epoch=number,
            learning_rate=result.learning_rate,
            loss={split: s.loss for split, s in scores.items()},
            top1={split: s.top1 for split, s in scores.items()},
            top5={split: s.top5 for split, s in scores.items() if s.top5 is not None},
            seconds=seconds,
            evaluation_s=time.perf_counter() - start,
            images_per_s=len(self.inputs["train"]) / seconds,
            peak_memory_bytes=peak_memory_bytes(),
            peak_gpu_bytes=torch.cuda.max_memory_allocated(self.device) if on_gpu else None,
        )
        self.epoch = number
        self.history.append(record)
        self._keep(record)
        return record

    def outputs(self, split: str) -> torch.Tensor:
        """Return the outputs for a split, of the averaged weights where there are some."""
        module = self.forward if self.average is None else self.average.module
        return scores_of(module, self.inputs[split], self.settings.precision)

    def context(self) -> torch.autocast:
        """Return the precision of the forward pass."""
        return autocast(self.device, self.settings.precision)

    def _keep(self, record: EpochRecord) -> None:
        """Keep this epoch's weights if it is the best so far, or if the last ones are kept."""
        monitored = record.top1 if self.settings.monitor == "val_top1" else record.loss
        value = monitored.get("val")
        better = True
        if value is not None:
            value = value if self.settings.monitor == "val_top1" else -value
            better = value > self.best.score
            self.waited = 0 if better else self.waited + 1
        if better or not self.settings.keep_best:
            top = max(self.best.score, value) if value is not None else -math.inf
            module = self.learner.module if self.average is None else self.average.module
            weights = {k: v.detach().clone() for k, v in module.state_dict().items()}
            self.best = _Best(record.epoch, top, weights)

    def state(self) -> dict[str, Any]:
        """Return everything that the next epoch depends on."""
        return {
            "epoch": self.epoch,
            "waited": self.waited,
            "module": self.learner.module.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": {
                "epoch": self.best.epoch,
                "score": self.best.score,
                "weights": self.best.weights,
            },
            "history": [record.model_dump(mode="json") for record in self.history],
            "before": self.before,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave."""
        self.epoch, self.waited = state["epoch"], state["waited"]
        self.learner.module.load_state_dict(state["module"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        best = state["best"]
        weights = {k: v.to(self.device) for k, v in best["weights"].items()}
        self.best = _Best(best["epoch"], best["score"], weights)
        self.history = [EpochRecord.model_validate(record) for record in state["history"]]
        self.before = state["before"]

    def finish(self) -> Outcome:
        """Put the kept weights into the network and say how it went."""
        if self.best.weights:
            self.learner.module.load_state_dict(self.best.weights)
        self.learner.module.eval()
        chosen = self.settings.keep_best and "val" in self.inputs
        val = self.inputs.get("val")
        state, message = ending(
            self.history,
            self.settings,
            self.divergence,
            self.best.epoch,
            val or self.inputs["train"],
        )
        kept_by = self.settings.monitor if chosen else "last epoch"
        return Outcome(tuple(self.history), self.best.epoch, kept_by, state, message, self.before)


def _check(learner: Learner, inputs: Mapping[str, Inputs], settings: TrainSettings) -> None:
    """Refuse what cannot work, before the first step."""
    if settings.patience is not None and "val" not in inputs:
        raise UsageError(
            f"patience {settings.patience} stops by {settings.monitor}, and there is no "
            "validation split. Hold out validation images (--val 0.2)."
        )
    check_steps(learner, inputs["train"], settings)


def epoch_line(record: EpochRecord, epochs: int) -> str:
    """Return one epoch in a line: ``epoch 3/30: val loss 0.912, top-1 68.1 %; ...``."""
    parts = [
        f"{split} loss {record.loss[split]:.3f}, top-1 {100 * record.top1[split]:.1f} %"
        for split in record.loss
        if split != "test"
    ]
    return (
        f"epoch {record.epoch}/{epochs}: {'; '.join(parts)}; {record.images_per_s:,.0f} images/s, "
        f"rate {record.learning_rate:.2g}"
    )
