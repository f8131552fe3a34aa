"""What a training did and found, as the record its report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from featx.evaluate import NetworkRecord, SplitMetrics, TrainingRecord
from featx.machine import device_names
from featx.pipeline.about import about_run, image_notes
from featx.pipeline.recording import dataset_record

if TYPE_CHECKING:
    from featx.pipeline.train_prepare import PreparedTraining
    from featx.training import Learner, Outcome


def make_training_record(
    prepared: PreparedTraining,
    learner: Learner,
    outcome: Outcome,
    splits: Mapping[str, SplitMetrics],
    timing: Mapping[str, float],
    notes: Sequence[str],
    *,
    cached: bool,
    model: tuple[str, int] | None,
) -> TrainingRecord:
    """Return the record of a finished training.

    Parameters
    ----------
    cached : bool
        Whether the frozen part's features came from the cache.
    model : tuple of str and int, or None
        Name and bytes of the model file.
    """
    about = about_run(
        prepared.recipe,
        device_names([prepared.device]),
        numerics=prepared.settings.precision,
        marks=prepared.marks,
    )
    return TrainingRecord(
        **about,
        dataset=dataset_record(prepared.dataset),
        network=_network_record(prepared, learner),
        mode=prepared.mode,
        settings=prepared.settings.as_dict(),
        features="cached" if cached else "computed",
        state=outcome.state,
        message=outcome.message,
        history=list(outcome.history),
        best_epoch=outcome.best_epoch,
        kept_by=outcome.kept_by.replace("_", " "),
        splits=dict(splits),
        model_file=model[0] if model else None,
        model_bytes=model[1] if model else None,
        timing=dict(timing),
        notes=[*notes, *_notes(prepared, outcome)],
    )


def _network_record(prepared: PreparedTraining, learner: Learner) -> NetworkRecord:
    trainable = prepared.trainable
    network, weights = trainable.network, trainable.weights
    return NetworkRecord(
        name=network.name,
        library=network.library,
        weights=weights.tag,
        source=weights.source,
        digest=weights.digest,
        random=weights.random,
        preprocess=prepared.preprocess.as_dict(),
        image_size=list(prepared.input_size),
        n_parameters=sum(p.numel() for p in trainable.model.parameters()),
        n_trained=learner.n_trained,
        multiply_adds=max(seen.multiply_adds for seen in trainable.trace.seen.values()),
        frozen_up_to=learner.frozen_up_to,
    )


def _notes(prepared: PreparedTraining, outcome: Outcome) -> list[str]:
    """Return what a reader must know before believing the numbers."""
    recipe = prepared.recipe
    notes = image_notes(recipe, prepared.dataset)
    if prepared.mode == "scratch" and recipe.weights not in ("default", "none"):
        notes.append("Mode scratch begins with random weights: --weights was not used.")
    if "val" not in prepared.dataset.splits:
        notes.append("There is no validation split: the weights of the last epoch are kept.")
    if outcome.state == "still improving":
        notes.append(
            "The last epoch was still clearly better than all before it: more epochs would help."
        )
    if prepared.mode == "frozen" and prepared.trainable.weights.random:
        notes.append("The frozen network's weights are random: only its head has learned.")
    return notes
