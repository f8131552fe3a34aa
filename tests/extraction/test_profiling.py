"""Costs of stages and cuts: what is counted is counted right; nothing here depends on the time."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from featx.backbones import Backbone, layer_rows, load_backbone
from featx.backbones.convolutions import prepare_convolutions, set_fusions
from featx.backbones.deferred import is_waiting
from featx.backbones.fusing import find_fusions
from featx.backbones.numerics import Numerics
from featx.errors import FeatxError, UsageError
from featx.extraction import Settings, make_settings, profile_network, watching
from featx.progress import Progress

N = 3


def settings_for(backbone: Backbone, **changes) -> Settings:
    wanted = {"image_size": "native", "device": "cpu", "batch_size": N, **changes}
    return make_settings(backbone, (32, 32), crop="none", **wanted)


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every look at the clock take one second."""
    ticks = itertools.count()
    monkeypatch.setattr(watching.time, "perf_counter", lambda: float(next(ticks)))


def n_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_every_cut_has_the_time_at_which_it_was_done(backbone: Backbone, ticking: None) -> None:
    found = profile_network(backbone, settings_for(backbone), repeats=3)
    points = backbone.cut_points(32)
    assert [cut.point for cut in found.cuts] == points
    # The n-th module ends n seconds after the start, and the pass a second after the last.
    assert [cut.seconds for cut in found.cuts] == list(range(1, len(points) + 1))
    assert found.seconds == len(points) + 1
    assert all(cut.low_s == cut.seconds == cut.high_s for cut in found.cuts)
    layer3 = next(cut for cut in found.cuts if cut.point.module == "layer3")
    assert layer3.images_per_s == N / layer3.seconds
    assert layer3.gflops_per_s == pytest.approx(
        2 * layer3.point.multiply_adds * N / layer3.seconds / 1e9
    )
    assert (found.batch_size, found.repeats) == (N, 3)
    assert found.threads == torch.get_num_threads()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_stages_add_up_to_the_whole_pass(backbone: Backbone, precision: str) -> None:
    found = profile_network(backbone, settings_for(backbone, precision=precision), repeats=3)
    names = [(stage.name, stage.end) for stage in found.stages]
    assert names == [*((f"stage{n}", f"layer{n}") for n in range(1, 5)), ("behind", "")]
    assert sum(stage.seconds for stage in found.stages) == pytest.approx(found.seconds)
    assert min(stage.seconds for stage in found.stages) >= 0
    whole = sum(row.multiply_adds for row in layer_rows(backbone.model, 32))
    assert sum(stage.multiply_adds for stage in found.stages) == whole
    assert max(stage.memory_bytes for stage in found.stages) == found.cuts[-1].memory_bytes
    times = [cut.seconds for cut in found.cuts]
    # All are of the same passes.
    assert times == sorted(times)


def test_a_network_without_named_stages_is_divided_at_its_top_modules(ticking: None) -> None:
    network = load_backbone("mobilenet_v3_small", "none")
    found = profile_network(network, settings_for(network, pool="max"), repeats=3)
    assert [stage.name for stage in found.stages] == [
        "features", "avgpool", "classifier", "behind",
    ]  # fmt: skip
    assert sum(stage.seconds for stage in found.stages) == found.seconds
    assert found.stages[-1].multiply_adds == 0


def test_stages_are_told_where_the_pooling_takes_none_of_their_ends(backbone: Backbone) -> None:
    found = profile_network(backbone, settings_for(backbone, pool="cls"), repeats=3)
    assert [cut.point.module for cut in found.cuts] == ["fc"]
    assert [stage.end for stage in found.stages] == ["layer1", "layer2", "layer3", "layer4", ""]


def test_the_first_passes_do_not_count(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    lasting = iter([70.0, 60.0, 2.0, 3.0, 4.0])

    def run(self, x):
        if x.device.type != "meta":
            now[0] += next(lasting, 0.0)
        return original(self, x)

    original = type(backbone.model).forward
    monkeypatch.setattr(type(backbone.model), "forward", run)
    monkeypatch.setattr(watching.time, "perf_counter", lambda: now[0])
    found = profile_network(backbone, settings_for(backbone, pool="cls"), repeats=3)
    assert found.seconds == 3.0
    assert (found.cuts[0].low_s, found.cuts[0].high_s) == (2.5, 3.5)


def test_memory_is_that_of_the_tensors_that_are_held() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),  # 4 x 8 x 8
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, padding=1, stride=2),  # 6 x 4 x 4
        nn.Flatten(),
        nn.Linear(96, 10),
    )
    x = torch.zeros(5, 3, 8, 8)
    found = watching.memory_between(model, ["0", "1", "2", "3", "4"], x)
    image, first, second, last = (4 * 5 * n for n in (3 * 64, 4 * 64, 6 * 16, 10))
    assert found["0"] == found["1"] == image + first
    # Behind its convolution the first map is let go.
    assert found["2"] == image + first + second
    assert found["4"] == image + second + last
    assert n_hooks(model) == 0


def test_the_first_cuts_memory_is_its_input_and_output(backbone: Backbone) -> None:
    plain = settings_for(backbone, fold=False, channels_last=False)
    found = profile_network(backbone, plain, repeats=3)
    image, map_ = 4 * N * 3 * 32 * 32, 4 * N * 64 * 16 * 16
    assert [cut.memory_bytes for cut in found.cuts][:2] == [image + map_, image + 2 * map_]
    # A BatchNorm that is folded into the convolution makes no map of its own.
    folded = profile_network(backbone, settings_for(backbone), repeats=3)
    assert [cut.memory_bytes for cut in folded.cuts][:2] == [image + map_, image + map_]
    state = backbone.model.state_dict().values()
    assert found.weights_bytes == sum(tensor.nbytes for tensor in state)


def test_no_hook_is_left_even_after_an_error(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile_network(backbone, settings_for(backbone), repeats=3)
    assert n_hooks(backbone.model) == 0
    monkeypatch.setattr(type(backbone.model.avgpool), "forward", lambda self, x: 1 / 0)
    backbone._traces[(32, 32)] = backbone._trace(32)
    with pytest.raises(ZeroDivisionError):
        profile_network(backbone, settings_for(backbone), repeats=3)
    assert n_hooks(backbone.model) == 0


def limit_network(monkeypatch: pytest.MonkeyPatch, backbone: Backbone, largest: int) -> None:
    run = type(backbone.model).forward

    def forward(self, x):
        if len(x) > largest and x.device.type != "meta":
            raise torch.OutOfMemoryError("no memory")
        return run(self, x)

    monkeypatch.setattr(type(backbone.model), "forward", forward)


class Heard(Progress):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_an_auto_batch_is_halved_until_it_fits(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_network(monkeypatch, backbone, 4)
    heard = Heard()
    settings = settings_for(backbone, batch_size="auto")
    found = profile_network(backbone, settings, repeats=3, progress=heard)
    assert found.batch_size == 4
    assert heard.warnings[-1] == "Out of memory with batches of 8 images; trying 4."
    with pytest.raises(FeatxError, match="Out of memory on cpu with batches of 8 images"):
        profile_network(backbone, settings_for(backbone, batch_size=8), repeats=3)


def test_fewer_than_three_repeats_are_refused(backbone: Backbone) -> None:
    with pytest.raises(UsageError, match="2 repeats say nothing of the spread"):
        profile_network(backbone, settings_for(backbone), repeats=2)


def test_what_waits_is_done_when_the_next_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution that is computed together with its ReLU has no time before it."""
    marks: list[tuple[str, bool]] = []
    computed = [False]

    class Waiting(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            computed[0] = False
            return x

    class Ready(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            computed[0] = True
            return x + 1

    class Clock:
        def mark(self, name: str) -> None:
            marks.append((name, computed[0]))

    monkeypatch.setattr(watching, "is_waiting", lambda output: not computed[0])
    model = nn.Sequential(Waiting(), nn.Identity(), Ready(), nn.Identity())
    with watching.marking(model, ["0", "1", "2", "3"], Clock()):
        model(torch.zeros(1))
    assert marks == [("0", True), ("1", True), ("2", True), ("3", True)]
    assert n_hooks(model) == 0


def test_what_waits_at_the_end_is_done_with_the_network() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.second(torch.relu(self.first(x))))

    model = Functional().eval().requires_grad_(False)
    fusions = find_fusions(model, (64, 64))
    assert set(fusions) == {"first", "second"}
    numerics = Numerics(channels_last=True, fold=True)
    prepare_convolutions(model, dict(model.named_parameters()), numerics, may_fuse=True)
    set_fusions(model, fusions)
    marks: list[str] = []

    class Clock:
        def mark(self, name: str) -> None:
            marks.append(name)

    with watching.marking(model, ["first", "second"], Clock()), torch.inference_mode():
        waiting = [is_waiting(model.first(torch.zeros(2, 3, 64, 64)))]
        marks.clear()
        model(torch.zeros(2, 3, 64, 64))
    assert waiting == [True]
    assert marks[-2:] == ["first", "second"]
