"""One process computes, the others wait; and without locks nothing is lost but time."""

from __future__ import annotations

import threading
from pathlib import Path

import filelock
import pytest
from cache_cases import Ears, make_key

from featx.cache.locks import computing

KEYS = [make_key(split=split) for split in ("train", "val", "test")]


def test_the_second_waits_with_a_message_and_knows_that_it_did(tmp_path: Path) -> None:
    ears, order = Ears(), []

    def second() -> None:
        with computing(tmp_path, KEYS[1:], ears) as waited:
            order.append(("second", waited))

    with computing(tmp_path, KEYS[:2]) as waited:
        thread = threading.Thread(target=second)
        thread.start()
        assert ears.heard.wait(20)
        order.append(("first", waited))
    thread.join(20)
    assert order == [("first", False), ("second", True)]
    assert ears.said == [
        "Another process is extracting resnet18 at layer3.1 (val): waiting for it. Ctrl-C stops "
        "this one only."
    ]


def test_many_in_any_order_do_not_wait_for_each_other_forever(tmp_path: Path) -> None:
    at_work, most, done = [0], [0], []

    def work(keys: list) -> None:
        for _ in range(20):
            with computing(tmp_path, keys):
                at_work[0] += 1
                most[0] = max(most[0], at_work[0])
                at_work[0] -= 1
        done.append(keys)

    orders = [KEYS, KEYS[::-1], [KEYS[1], KEYS[2], KEYS[0]], [KEYS[2], KEYS[0], KEYS[1]]]
    threads = [threading.Thread(target=work, args=(keys,)) for keys in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 4
    assert most == [1]


@pytest.mark.parametrize("error", [NotImplementedError("no locks"), OSError(38, "not implemented")])
def test_where_there_are_no_locks_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(self: filelock.FileLock, **_: object) -> None:
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with computing(tmp_path, KEYS) as waited:
        assert not waited


def test_a_folder_that_cannot_be_written_to_has_no_locks(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with computing(tmp_path / "file", KEYS) as waited:
        assert not waited
