"""The normalization of a batch by several threads: the three steps' own bits, and no trace left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.data import normalize as module
from featx.data.normalize import _BLOCK, _WORTH_A_THREAD, normalize
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


def numbers_of_new_threads(n: int) -> list[int]:
    """What torch says in threads that ask it for the first time."""
    found: list[int] = []
    for _ in range(n):
        other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        other.start()
        other.join()
    return found


def test_torchs_threads_stay_as_many_as_they_were() -> None:
    """Also where the caller's number is not the process' own, which new threads begin with."""
    module._made_threads.cache_clear()
    with torch_threads(5):
        (process,) = numbers_of_new_threads(1)
        assert process == 5
        in_caller = []

        def call() -> None:
            with torch_threads(3):
                torch.set_num_threads(3)
                reset = threading.Thread(target=torch.set_num_threads, args=(5,))
                reset.start()
                reset.join()
                normalize(pixels(4, 200, 200), MEAN, STD, 255.0, torch.channels_last)
                in_caller.extend([torch.get_num_threads(), *numbers_of_new_threads(2)])

        caller = threading.Thread(target=call)
        caller.start()
        caller.join()
    assert in_caller == [3, 5, 5]


def test_each_part_is_computed_by_its_thread_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    both = threading.Barrier(2)
    real = torch.addcdiv

    def addcdiv(*args: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        both.wait(60)
        seen.add((threading.current_thread().name, torch.get_num_threads(), out.numel()))
        return real(*args, out=out)

    monkeypatch.setattr(torch, "addcdiv", addcdiv)
    x = pixels(4, 200, 200)
    with torch_threads(2):
        normalize(x, MEAN, STD, 255.0, torch.channels_last)
    names, numbers, sizes = map(set, zip(*seen, strict=True))
    assert len(names) == 2
    assert all(name.startswith("featx-normalize") for name in names)
    assert numbers == {1}
    assert 2**16 < max(sizes) <= _BLOCK


@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", [(16, 32, 32), (1, 224, 224), (2, 100, 100), (3, 1, 30000)])
def test_what_is_not_divided_is_too_small_for_torch_to_divide(
    shape: tuple[int, int, int], order: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    real = torch.addcdiv

    def addcdiv(*args: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        sizes.append(out.numel())
        return real(*args, out=out)

    monkeypatch.setattr(module, "_WORTH_A_THREAD", 10**9)
    monkeypatch.setattr(torch, "addcdiv", addcdiv)
    x = pixels(*shape)
    with torch_threads(3):
        got = normalize(x, MEAN, STD, 255.0, order)
    # A row of pixels is not divided.
    assert max(sizes) <= max(2**15, 3 * shape[2])
    np.testing.assert_array_equal(got.numpy(), by_steps(x))


def test_many_callers_at_once_get_their_own_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    module._made_threads.cache_clear()
    pools = []

    def slowly(*args: int | str) -> ThreadPoolExecutor:
        pools.append(args)
        time.sleep(0.1)
        return ThreadPoolExecutor(*args)

    monkeypatch.setattr(module, "ThreadPoolExecutor", slowly)
    batches = [pixels(4, 200, 150 + i, seed=i) for i in range(6)]
    found: dict[int, torch.Tensor] = {}
    with torch_threads(3):

        def call(i: int) -> None:
            found[i] = normalize(batches[i], MEAN, STD, 255.0, torch.channels_last)

        callers = [threading.Thread(target=call, args=(i,)) for i in range(6)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert numbers_of_new_threads(1) == [3]
    assert len(pools) == 1
    for i, batch in enumerate(batches):
        np.testing.assert_array_equal(found[i].numpy(), by_steps(batch))


def test_a_system_that_gives_no_thread_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    module._made_threads.cache_clear()
    real = threading.Thread.start
    started = []

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("featx-normalize") and len(started) == 1:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        real(thread)

    x = pixels(4, 200, 200)
    with torch_threads(3), monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        got = normalize(x, MEAN, STD, 255.0, torch.channels_last)
    np.testing.assert_array_equal(got.numpy(), by_steps(x))
    # The one that was started waits for nobody.
    started[0].join(20)
    assert not started[0].is_alive()
    assert module._lone_threads(3) is not None


def test_batches_are_normalized_while_the_interpreter_ends() -> None:
    script = """
import threading, time, torch
from featx.data.normalize import normalize
torch.set_num_threads(2)
x = torch.zeros(4, 3, 200, 200, dtype=torch.uint8)
def call():
    normalize(x, (0.5,) * 3, (0.5,) * 3, 255.0, torch.channels_last)
call()
def late():
    threading.main_thread().join()
    time.sleep(0.3)
    call()
    print("done")
threading.Thread(target=late).start()
"""
    end = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60
    )
    assert (end.returncode, end.stdout, end.stderr) == (0, "done\n", "")


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
