"""The compiler's limit on what it makes of one function never ends in plain features.

Its first half, which reads the code, runs here alone: what it makes is run as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from featx.backbones.compiled import CompiledPass
from featx.errors import UsageError

N_PASSES = 12
COMPILE = torch.compile


@pytest.fixture(autouse=True)
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def translate(function: Any, **options: Any) -> Any:
        return COMPILE(function, dynamic=options["dynamic"], backend="eager")

    monkeypatch.setattr(torch, "compile", translate)
    torch._dynamo.reset()
    with torch.inference_mode():
        yield


class Broken(nn.Module):
    """The compiler cannot make one function of it."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        return self.part(x)


def compiled(model: nn.Module) -> CompiledPass:
    values: dict[str, torch.Tensor] = {}
    model.register_forward_hook(lambda module, args, output: values.update(out=output))
    return CompiledPass(model, values, ["out"])


def test_a_process_may_compile_any_number_of_passes() -> None:
    from torch._dynamo.utils import counters

    before = counters["frames"]["ok"]
    for n in range(N_PASSES):
        model, x = nn.Linear(3, 2 + n), torch.randn(1 + n, 3)
        found = compiled(model)(x)["out"]
        torch.testing.assert_close(found, x @ model.weight.T + model.bias)
    assert counters["frames"]["ok"] - before == N_PASSES


def test_parts_beyond_the_limit_are_refused_not_run_as_they_are() -> None:
    def compile_many() -> None:
        for n in range(N_PASSES):
            compiled(Broken())(torch.randn(1 + n, 3))

    with pytest.raises(UsageError, match=r"cannot be compiled here: .*limit.*Leave --compile out"):
        compile_many()


def test_a_compiler_that_is_turned_off_is_not_taken_for_one() -> None:
    from torch._dynamo import config

    with (
        config.patch(disable=True),
        pytest.raises(UsageError, match=r"Nothing .* was compiled: .*DISABLE.* Turn it on, or"),
    ):
        compiled(nn.Linear(3, 2))(torch.randn(30, 3))


def test_code_that_torch_has_given_up_on_is_not_taken_for_compiled() -> None:
    """The user's own compiled functions have met the limit before."""
    for n in range(N_PASSES):
        torch.compile(Broken(), dynamic=False)(torch.randn(1 + n, 3))
    with pytest.raises(UsageError, match=r"Nothing .* was compiled: .* given up"):
        compiled(Broken())(torch.randn(30, 3))


def test_errors_of_the_compiler_are_not_suppressed(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo import config

    def fails(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(
        torch, "compile", lambda function, **_: COMPILE(function, dynamic=False, backend=fails)
    )
    with (
        config.patch(suppress_errors=True),
        pytest.raises(UsageError, match=r"cannot be compiled here: .*no compiler"),
    ):
        compiled(nn.Linear(3, 2))(torch.randn(2, 3))
