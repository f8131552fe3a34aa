"""The normalization of a batch by several threads: the three steps' own bits, and no trace left."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.data.normalize import _BLOCK, _WORTH_A_THREAD, _lone_threads, normalize
from featx.machine import torch_threads

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pixels(n: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    values = np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), np.uint8)
    return torch.from_numpy(values).permute(0, 3, 1, 2)


def by_steps(x: torch.Tensor) -> np.ndarray:
    """The formula in NumPy's float32, one operation after the other."""
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (MEAN, STD))
    return (x.numpy().astype(np.float32) / np.float32(255) - mean) / std


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(0, 9),
    height=st.integers(1, 130),
    width=st.integers(1, 130),
    threads=st.integers(1, 5),
    channels_last=st.booleans(),
)
def test_any_batch_has_the_bits_of_the_three_steps(
    n: int, height: int, width: int, threads: int, channels_last: bool
) -> None:
    order = torch.channels_last if channels_last else torch.contiguous_format
    x = pixels(n, height, width)
    with torch_threads(threads):
        got = normalize(x, MEAN, STD, 255.0, order)
    assert got.is_contiguous(memory_format=order)
    np.testing.assert_array_equal(got.numpy(), by_steps(x))


@pytest.mark.parametrize("inference", [False, True])
def test_threads_may_write_what_the_caller_made(inference: bool) -> None:
    x = pixels(4, 200, 200)
    assert x.numel() > max(_BLOCK, 3 * _WORTH_A_THREAD)
    with torch_threads(3), torch.inference_mode(inference):
        got = normalize(x, MEAN, STD, 255.0, torch.channels_last)
    assert got.is_inference() is inference
    np.testing.assert_array_equal(got.numpy(), by_steps(x))


def test_torchs_threads_stay_as_many_as_they_were() -> None:
    found = []
    _lone_threads.cache_clear()
    with torch_threads(3):
        normalize(pixels(4, 200, 200), MEAN, STD, 255.0, torch.channels_last)
        other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        other.start()
        other.join()
        assert [torch.get_num_threads(), *found] == [3, 3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_makes_threads_of_its_own() -> None:
    x = pixels(4, 200, 200)
    with torch_threads(3):
        normalize(x, MEAN, STD, 255.0, torch.channels_last)
        child = os.fork()
        if child == 0:  # pragma: no cover
            done = threading.Thread(
                target=normalize, args=(x, MEAN, STD, 255.0, torch.channels_last), daemon=True
            )
            done.start()
            done.join(20)
            os._exit(int(done.is_alive()))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
