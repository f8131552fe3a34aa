"""Shapes on the meta device are torch's own, without its compiler."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from featx.backbones.operators import watching_operators

sizes = st.lists(st.integers(1, 5), min_size=0, max_size=4)


def seen(call: Any) -> tuple[list[str], list[Any]]:
    """Return the operators that a call runs on the meta device, and what each put out."""
    names: list[str] = []
    outputs: list[Any] = []

    def after(func: Any, args: Any, kwargs: Any, output: Any) -> None:
        names.append(func.overloadpacket.__name__)
        outputs.append(output)

    with torch.no_grad(), watching_operators(after=after):
        call()
    return names, outputs


def facts(output: Any) -> list[tuple[Any, ...]]:
    tensors = output if isinstance(output, (tuple, list)) else [output]
    return [(tuple(t.shape), t.dtype, t.device.type) for t in tensors]


@given(shape=sizes, keepdim=st.booleans(), data=st.data())
def test_means(shape: list[int], keepdim: bool, data: st.DataObject) -> None:
    x = torch.empty(shape, device="meta", dtype=torch.float64)
    # A scalar has one dimension by torch's count.
    n = max(1, len(shape))
    dims = data.draw(st.lists(st.integers(-n, n - 1), max_size=n, unique_by=lambda d: d % n))
    names, outputs = seen(lambda: torch.ops.aten.mean.dim(x, dims, keepdim))
    assert names == ["mean"]
    assert facts(outputs[0]) == facts(torch.ops.aten.mean.dim(x, dims, keepdim))
    # Without dimensions, and in another type.
    for more in ({"keepdim": keepdim}, {"dtype": torch.float32}):
        named = seen(lambda more=more: torch.ops.aten.mean.dim(x, None, **more))[1][0]
        assert facts(named) == facts(torch.ops.aten.mean.dim(x, None, **more))


@given(shape=sizes.filter(len), data=st.data())
def test_layer_norms(shape: list[int], data: st.DataObject) -> None:
    x = torch.empty(shape, device="meta")
    normalized = shape[data.draw(st.integers(0, len(shape) - 1)) :]
    call = torch.ops.aten.native_layer_norm.default
    names, outputs = seen(lambda: call(x, normalized, None, None, 1e-5))
    assert names == ["native_layer_norm"]
    assert facts(outputs[0]) == facts(call(x, normalized, None, None, 1e-5))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_batch_norms(training: bool, channels_last: bool) -> None:
    order = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.ones(2, 3, 5, 4).to(memory_format=order)
    tensors = [x, *(torch.ones(3) for _ in range(4))]
    call = torch.ops.aten.native_batch_norm.default
    # As on a processor: in eval mode there are no moments of the batch.
    real = call(*tensors, training, 0.1, 1e-5)
    meta = [tensor.to("meta") for tensor in tensors]
    names, outputs = seen(lambda: call(*meta, training, 0.1, 1e-5))
    assert names == ["native_batch_norm"]
    shapes = [tuple(output.shape) for output in outputs[0]]
    assert shapes == [tuple(output.shape) for output in real]
    assert outputs[0][0].stride() == real[0].stride()
    assert {output.device.type for output in outputs[0]} == {"meta"}


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_linear_layers(n: int, inner: int, out: int) -> None:
    tensors = (torch.empty(out), torch.empty(n, inner), torch.empty(inner, out))
    meta = [tensor.to("meta") for tensor in tensors]
    names, outputs = seen(lambda: torch.ops.aten.addmm.default(*meta))
    assert names == ["addmm"]
    assert facts(outputs[0]) == [((n, out), torch.float32, "meta")]
    assert torch.addmm(*tensors).shape == outputs[0].shape


def test_what_is_there_is_computed() -> None:
    x = torch.arange(24.0).reshape(2, 3, 2, 2)
    mean = torch.zeros(3), torch.ones(3)
    for call in (
        lambda: nn.functional.batch_norm(x, *mean),
        lambda: nn.functional.layer_norm(x, (2, 2)),
        lambda: x.mean((2, 3), keepdim=True),
        lambda: torch.addmm(torch.ones(4), x.reshape(6, 4), torch.ones(4, 4)),
    ):
        _, outputs = seen(call)
        last = outputs[-1]
        first = last[0] if isinstance(last, tuple) else last
        torch.testing.assert_close(first, call())
