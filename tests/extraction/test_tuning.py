"""`tune` keeps the fastest of what is open, and says the same the next time."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from featx.backbones.numerics import Numerics
from featx.errors import UsageError
from featx.extraction import cut_points, make_settings, tune, tuning
from featx.extraction.tuning import FREE


@pytest.fixture
def settings(backbone, split):
    return make_settings(backbone, split.images.size, image_size="native")


@pytest.fixture
def points(backbone, settings):
    return list(cut_points(backbone, ["layer1"], settings).values())


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tuning, "can_compile", lambda device: True)
    monkeypatch.setattr(tuning, "n_cpus", lambda: 4)


def stopwatch(monkeypatch, seconds_of) -> list:
    """Let each setting take the seconds that a function of it says; return what was measured."""
    measured = []

    def one_pass(backbone, modules, settings):
        measured.append(settings)
        return seconds_of(settings)

    monkeypatch.setattr(tuning, "_one_pass", one_pass)
    return measured


def per_image(settings) -> float:
    """Seconds that make channels-first, bf16, batches of 32 and 2 threads the best."""
    cost = 1.0
    cost *= 1.0 if settings.channels_last else 0.5
    cost *= 0.5 if settings.precision == "bf16" else 1.0
    cost *= 0.8 if settings.batch_sizes()[0] == 32 else 1.0
    cost *= 0.7 if settings.threads == 2 else 1.0
    cost *= 2.0 if settings.compile else 1.0
    return cost * settings.batch_sizes()[0]


def test_the_fastest_is_kept_and_remembered(backbone, points, settings, monkeypatch) -> None:
    measured = stopwatch(monkeypatch, per_image)
    found = tune(backbone, points, settings, free=FREE, precisions=("fp32", "bf16"))
    best = replace(settings, channels_last=False, precision="bf16", auto_batch=32, threads=2)
    assert found.settings == best
    assert not found.remembered
    assert [trial.what for trial in found.trials if trial.kept] == [
        "fp32, channels-first, BatchNorm folded", "bf16, channels-first, BatchNorm folded",
        "batches of 32", "2 threads", "bf16, channels-first, BatchNorm folded",
    ]  # fmt: skip
    measured.clear()
    again = tune(backbone, points, settings, free=FREE, precisions=("fp32", "bf16"))
    assert measured == []
    assert again.settings == best
    assert again.remembered
    assert again.trials == found.trials


def test_settings_that_compute_alike_are_measured_once(
    backbone, points, settings, monkeypatch
) -> None:
    measured = stopwatch(monkeypatch, lambda s: s.batch_sizes()[0] * 1.0)
    monkeypatch.setattr(tuning, "device_name", lambda device: "a card")
    # In fp32 a GPU has channels first whatever was asked for.
    gpu = replace(settings, device=torch.device("cuda"))
    tune(backbone, points, gpu, free=("channels_last", "fold"))
    assert len(measured) == 2 * (tuning.ROUNDS + 1)
    assert {str(s.numerics) for s in measured} == {
        "fp32, channels-first, BatchNorm folded", "fp32, channels-first",
    }  # fmt: skip
    assert all(s.channels_last for s in measured)


def test_what_is_set_stays_and_what_is_not_allowed_is_not_tried(
    backbone, points, settings, monkeypatch
) -> None:
    measured = stopwatch(monkeypatch, per_image)
    fixed = replace(settings, batch_size=8)
    found = tune(backbone, points, fixed, free=("threads", "precision"), precisions=("fp32",))
    assert found.settings == replace(fixed, threads=2)
    assert {setting.precision for setting in measured} == {"fp32"}
    assert all(s.channels_last and s.fold and not s.compile for s in measured)
    assert {s.batch_sizes()[0] for s in measured} == {8}
    assert [t.what for t in found.trials if "thread" in t.what] == [
        "torch's own threads", "1 thread", "2 threads", "4 threads",
    ]  # fmt: skip


def test_a_gain_within_the_noise_changes_nothing(backbone, points, settings, monkeypatch) -> None:
    stopwatch(monkeypatch, lambda s: s.batch_sizes()[0] * (1.0 if s == settings else 0.98))
    assert tune(backbone, points, settings, free=FREE).settings == settings


def test_settings_are_measured_in_turns(backbone, points, settings, monkeypatch) -> None:
    measured = stopwatch(monkeypatch, per_image)
    tune(backbone, points, settings, free=("channels_last", "fold"))
    assert len(measured) == 4 * (tuning.ROUNDS + 1)
    assert measured[:4] == measured[4:8]
    assert len(set(map(str, measured[:4]))) == 4


def test_what_is_far_slower_twice_is_measured_no_more(
    backbone, points, settings, monkeypatch
) -> None:
    def seconds(chosen):
        return chosen.batch_sizes()[0] * (1.0 if chosen.channels_last else 2.1)

    measured = stopwatch(monkeypatch, seconds)
    found = tune(backbone, points, settings, free=("channels_last", "fold"))
    # In the turn that warms up and in two that count.
    assert sum(not s.channels_last for s in measured) == 2 * 3
    assert sum(s.channels_last for s in measured) == 2 * (tuning.ROUNDS + 1)
    speeds = {trial.what: trial.images_per_s for trial in found.trials}
    assert speeds["fp32, channels-first, BatchNorm folded"] == pytest.approx(1 / 2.1)


def test_one_slow_moment_drops_nothing(backbone, points, settings, monkeypatch) -> None:
    # The setting of the run itself is never dropped, however slow.
    never = stopwatch(monkeypatch, lambda s: 64.0 * (3.0 if s.channels_last else 1.0))
    tune(backbone, points, settings, free=("channels_last",))
    assert len(never) == 2 * (tuning.ROUNDS + 1)
    monkeypatch.setattr(tuning, "_read", lambda *args: None)
    # Two settings in a turn: the second one is slow in the first turn that counts.
    slow = iter([1.0, 1.0, 1.0, 9.0, *[1.0] * 100])
    measured = stopwatch(monkeypatch, lambda chosen: chosen.batch_sizes()[0] * next(slow))
    tune(backbone, points, settings, free=("channels_last",))
    assert len(measured) == 2 * (tuning.ROUNDS + 1)


def test_without_measuring_only_what_is_remembered_is_taken(
    backbone, points, settings, monkeypatch
) -> None:
    measured = stopwatch(monkeypatch, per_image)
    nothing = tune(backbone, points, settings, free=("threads",), measure=False)
    assert (nothing.settings, nothing.measured, measured) == (settings, False, [])
    found = tune(backbone, points, settings, free=("threads",))
    again = tune(backbone, points, settings, free=("threads",), measure=False)
    assert again.settings == found.settings != settings


def test_what_does_not_fit_in_memory_is_not_chosen(backbone, points, settings, monkeypatch) -> None:
    def seconds(chosen):
        if chosen.batch_sizes()[0] > 64:
            raise MemoryError
        return chosen.batch_sizes()[0] ** 0.5

    stopwatch(monkeypatch, seconds)
    assert tune(backbone, points, settings, free=("batch_size",)).settings == settings


def test_what_cannot_be_compiled_is_not_chosen(backbone, points, settings, monkeypatch) -> None:
    def one_pass(backbone, modules, settings) -> float:
        if settings.compile:
            raise UsageError("This network cannot be compiled here")
        return 1.0

    monkeypatch.setattr(tuning, "_one_pass", one_pass)
    found = tune(backbone, points, settings, free=("compile",))
    assert not found.settings.compile
    assert [trial.kept for trial in found.trials] == [True]


@pytest.mark.parametrize(
    "change",
    [
        {"found": {}}, {"trials": None}, {"trials": [{}]}, {"threads": "two"}, {"threads": 0},
        {"fold": 1}, {"precision": "int8"}, {"auto_batch": True},
    ],
)  # fmt: skip
def test_a_file_that_says_other_things_is_measured_again(
    backbone, points, settings, monkeypatch, change: dict
) -> None:
    measured = stopwatch(monkeypatch, per_image)
    found = tune(backbone, points, settings, free=("threads",))
    (path,) = tuning.user_cache_dir().glob("tuned/*.json")
    kept = json.loads(path.read_text())
    for name, value in change.items():
        (kept if name in kept else kept["found"])[name] = value
    path.write_text(json.dumps(kept))
    measured.clear()
    assert tune(backbone, points, settings, free=("threads",)).settings == found.settings
    assert measured


@pytest.mark.parametrize("text", ["", "{", "[]", '{"about": {}}', "null"])
def test_a_damaged_file_is_measured_again(
    backbone, points, settings, monkeypatch, tmp_path, text
) -> None:
    measured = stopwatch(monkeypatch, per_image)
    found = tune(backbone, points, settings, free=("threads",))
    (file,) = (tmp_path / "featx" / "tuned").iterdir()
    file.write_text(text)
    measured.clear()
    assert tune(backbone, points, settings, free=("threads",)).settings == found.settings
    assert measured


def test_another_size_cut_or_machine_is_another_question(
    backbone, points, settings, monkeypatch
) -> None:
    measured = stopwatch(monkeypatch, per_image)

    def asks(points=points, settings=settings, free=("threads",), precisions=("fp32",)) -> bool:
        measured.clear()
        tune(backbone, points, settings, free=free, precisions=precisions)
        return bool(measured)

    assert asks()
    assert not asks()
    assert asks(settings=replace(settings, input_size=(64, 64)))
    assert asks(points=list(cut_points(backbone, ["layer2"], settings).values()))
    assert asks(free=("threads", "fold"))
    monkeypatch.setattr(tuning, "cpu_name", lambda: "another processor")
    assert asks()


def test_what_was_found_with_other_numerics_is_measured_again(
    backbone, points, settings, monkeypatch
) -> None:
    """A version of featx may make more of the same settings."""
    stopwatch(monkeypatch, per_image)
    tune(backbone, points, settings, free=FREE)
    assert tune(backbone, points, settings, free=FREE).remembered
    before = Numerics(settings.precision, settings.channels_last, settings.fold)
    assert before != settings.numerics
    monkeypatch.setattr(type(settings), "numerics", property(lambda self: before))
    assert not tune(backbone, points, settings, free=FREE).remembered


def test_a_real_measurement(backbone, points, settings, monkeypatch) -> None:
    monkeypatch.setattr(tuning, "ROUNDS", 1)
    small = replace(settings, batch_size=2)
    found = tune(backbone, points, small, free=("channels_last",))
    assert len(found.trials) == 2
    assert all(trial.images_per_s > 0 for trial in found.trials)
