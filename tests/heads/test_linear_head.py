"""`LinearHead`: predictions by hand, and its file: exact, checked, readable by others."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from head_cases import blobs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as save_tensors
from sklearn.preprocessing import StandardScaler

from featx.errors import CacheWriteError, HeadError, ShapeError
from featx.heads import LinearHead, fit_logistic, fit_svm
from featx.scaling import Moments, Scaler

NAMES = ('tab\there "quoted"', "émilie 日本 \u202e", "", "\ud800 lone", "{}}\\x00\x00")
PROVENANCE = {"cut": "layer3.5", "n": 3, "deep": {"list": [1, 2.5, None, True], "name": "ß\n"}}


def make_head(n_classes: int = 3, *, scaled: bool = True, d: int = 4) -> LinearHead:
    rng = np.random.default_rng(n_classes)
    scaler = None
    if scaled:
        scaler = Scaler(rng.standard_normal(d), rng.uniform(0.1, 3.0, d), 17)
    return LinearHead(
        kind="svm",
        # Neither C order nor a buffer of its own: what is saved must not depend on it.
        coef=rng.standard_normal((d, 2 * n_classes)).T[::2],
        intercept=rng.standard_normal(n_classes),
        classes=np.array([-4, 5, 2**40, 7, 8])[:n_classes],
        class_names=NAMES[:n_classes],
        scaler=scaler,
        provenance=PROVENANCE,
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return make_head().save(tmp_path / "head.safetensors")


def test_scores_and_labels_by_hand() -> None:
    head = LinearHead(
        kind="svm",
        coef=np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]]),
        intercept=np.array([0.0, 0.5, 1.0]),
        classes=np.array([5, 7, 9]),
        class_names=("a", "b", "c"),
        scaler=Scaler(np.array([1.0, 10.0]), np.array([2.0, 5.0]), 4),
    )
    X = np.array([[5.0, 10.0], [1.0, 20.0], [-3.0, 0.0]], dtype=np.float32)
    # Standardized: (2, 0), (0, 2), (-2, -2).
    expected = [[2.0, 0.5, -1.0], [0.0, 4.5, -1.0], [-2.0, -3.5, 5.0]]
    assert head.decision_function(X).tolist() == expected
    assert head.predict(X).tolist() == [5, 7, 9]


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("fit_head", [fit_svm, fit_logistic])
def test_raw_features_give_what_scaled_ones_give_without_a_scaler(
    n_classes: int, fit_head: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = blobs(80, 6, n_classes)
    X = 30 * X + 100
    Z = StandardScaler().fit_transform(X.astype(np.float64)).astype(np.float32)
    fit = fit_head(Z, y)
    names = tuple("abcd"[:n_classes])
    head = LinearHead(
        fit.kind, fit.coef, fit.intercept, fit.classes, names, Scaler.from_moments(Moments.of(X))
    )
    expected = Z.astype(np.float64) @ fit.coef.T + fit.intercept
    decision = head.decision_function(X)
    assert decision.shape == (80, n_classes)
    assert decision.dtype == np.float64
    np.testing.assert_allclose(decision, expected, atol=1e-5)
    assert (head.predict(X) == fit.classes[expected.argmax(axis=1)]).all()
    assert np.mean(head.predict(X) == y) > 0.6
    monkeypatch.setattr("featx.heads.blocks._BLOCK_VALUES", 13)
    np.testing.assert_allclose(head.decision_function(X), decision, rtol=1e-12)


def test_no_rows_have_no_predictions() -> None:
    assert make_head().predict(np.empty((0, 4))).shape == (0,)
    assert make_head().decision_function(np.empty((0, 4))).shape == (0, 3)


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 5), (1, 2, 4)])
def test_features_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        make_head().predict(np.zeros(shape, dtype=np.float32))
    assert str(caught.value) == f"Features of shape {shape}: this head expects (n_samples, 4)."


@pytest.mark.parametrize(
    "wrong",
    [
        {"coef": np.zeros((2, 4))},
        {"coef": np.zeros(3)},
        {"coef": np.zeros((3, 5))},
        {"intercept": np.zeros((3, 1))},
        {"classes": np.array([[1], [2], [3]])},
        {"class_names": ("a", "b")},
        {"scaler": Scaler(np.zeros(3), np.ones(3), 1)},
        {"scaler": Scaler(np.zeros(4), np.ones(3), 1)},
        {"scaler": Scaler(np.zeros((4, 1)), np.ones((4, 1)), 1)},
    ],
)
def test_parts_that_do_not_belong_together_are_refused(wrong: dict[str, Any]) -> None:
    good = vars(make_head())
    with pytest.raises(ShapeError, match="these do not belong together"):
        LinearHead(**{**good, **wrong})


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_comes_back_bit_for_bit(scaled: bool, n_classes: int, tmp_path: Path) -> None:
    head = make_head(n_classes, scaled=scaled)
    path = tmp_path / "new" / "folder" / "head.safetensors"
    assert head.save(str(path)) == path
    back = LinearHead.load(str(path))
    for name in ("coef", "intercept", "classes"):
        before, after = getattr(head, name), getattr(back, name)
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)
    assert (back.kind, back.class_names, back.provenance) == ("svm", NAMES[:n_classes], PROVENANCE)
    if head.scaler is None:
        assert back.scaler is None
    else:
        assert back.scaler is not None
        np.testing.assert_array_equal(back.scaler.mean_, head.scaler.mean_)
        np.testing.assert_array_equal(back.scaler.scale_, head.scaler.scale_)
        assert back.scaler.n_samples_ == 17
    X = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    np.testing.assert_array_equal(back.decision_function(X), head.decision_function(X))
    # The same head is the same file.
    assert back.save(tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(names=st.tuples(st.text(), st.text()), note=st.text())
def test_any_name_comes_back(names: tuple[str, str], note: str, tmp_path: Path) -> None:
    head = LinearHead("svm", np.eye(2), np.zeros(2), np.arange(2), names, None, {note: note})
    back = LinearHead.load(head.save(tmp_path / "named.safetensors"))
    assert back.class_names == names
    assert back.provenance == {note: note}


def test_keys_of_the_provenance_come_back_as_json_has_them(tmp_path: Path) -> None:
    head = LinearHead("svm", np.eye(2), np.zeros(2), np.arange(2), ("a", "b"), None, {9: 1, 10: 2})
    back = LinearHead.load(head.save(tmp_path / "head.safetensors"))
    assert back.provenance == {"9": 1, "10": 2}


def test_other_readers_of_the_format_can_read_it(saved: Path) -> None:
    head = make_head()
    with safetensors.safe_open(saved, "numpy") as file:
        assert set(file.keys()) == {"coef", "intercept", "classes", "scaler_mean", "scaler_scale"}
        np.testing.assert_array_equal(file.get_tensor("coef"), head.coef)
        np.testing.assert_array_equal(file.get_tensor("classes"), head.classes)
        about = json.loads(file.metadata()["featx"])
    assert about["format"] == "featx.linear-head"
    assert about["class_names"] == list(head.class_names)
    assert about["provenance"] == PROVENANCE


def refused(path: Path) -> str:
    """Return what loading a file says; it must be a `HeadError` that names the file."""
    with pytest.raises(HeadError) as caught:
        LinearHead.load(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 1
    return str(caught.value)


def test_every_truncation_is_refused(saved: Path) -> None:
    data = saved.read_bytes()
    for length in range(0, len(data), 7):
        saved.write_bytes(data[:length])
        refused(saved)
    saved.write_bytes(data + b"\0")
    refused(saved)


def content(head: LinearHead) -> tuple[Any, ...]:
    """Return everything a head is made of, to be compared."""
    scaler = head.scaler
    arrays = [head.coef, head.intercept, head.classes]
    arrays += [] if scaler is None else [scaler.mean_, scaler.scale_, np.array(scaler.n_samples_)]
    return (head.kind, head.class_names, head.provenance, [array.tolist() for array in arrays])


def test_a_flipped_bit_is_refused_or_changes_nothing(saved: Path) -> None:
    data = saved.read_bytes()
    rng = np.random.default_rng(0)
    messages, harmless = [], 0
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(8))
        saved.write_bytes(changed)
        try:
            head = LinearHead.load(saved)
        except HeadError as error:
            messages.append(str(error))
        else:
            # The digits of an escaped character may be of either case.
            assert content(head) == content(make_head())
            harmless += 1
    assert harmless < 10
    assert all(str(saved) in message for message in messages)


def rewritten(path: Path, **changes: Any) -> Path:
    """Write a file as `save` does, with a right digest, but with other content."""
    from featx.heads.linear import _digest

    with safetensors.safe_open(path, "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["featx"])
    for name, value in changes.items():
        place: dict[str, Any] = tensors if name in tensors or name == "extra" else about
        if value is None:
            del place[name]
        else:
            place[name] = value
    del about["sha256"]
    about["sha256"] = _digest(about, tensors)
    path.write_bytes(save_tensors(tensors, {"featx": json.dumps(about)}))
    return path


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"version": 2}, "has format version 2; this featx reads version 1"),
        ({"version": None}, "has format version None; this featx reads version 1"),
        ({"format": "other"}, "is not a head that featx saved"),
        ({"kind": "tree"}, "its kind is 'tree', not one of"),
        ({"class_names": ["a"]}, "1 class names"),
        ({"class_names": None}, "is damaged"),
        ({"provenance": 3}, "is damaged"),
        ({"scaler_n_samples": "many"}, "is damaged"),
        ({"intercept": None}, "it holds the arrays"),
        ({"extra": np.zeros(2)}, "it holds the arrays"),
        ({"coef": np.full((3, 4), np.nan)}, "'coef' holds NaN or Inf"),
        ({"coef": np.zeros((3, 4), np.float32)}, "'coef' is float32, not float64"),
        ({"classes": np.zeros(3)}, "'classes' is float64, not int64"),
        ({"intercept": np.zeros(4)}, "these do not belong together"),
    ],
)
def test_content_that_is_no_head_is_refused(
    changes: dict[str, Any], text: str, saved: Path
) -> None:
    assert text in refused(rewritten(saved, **changes))


def header_only(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08",
        save_tensors({"coef": np.zeros((3, 4))}),
        save_tensors({"coef": np.zeros((3, 4))}, {"featx": "[1, 2]"}),
        pickle.dumps({"coef": [1.0]}),
        b"PK\x03\x04" + bytes(100),
        struct.pack("<Q", 2**63) + b"{}",
        header_only(b"[" * 100_000),
        header_only(b"[]"),
        header_only(b'{"__metadata__": {"featx": 5}}'),
        header_only(b'{"__metadata__": []}'),
        header_only(b"\xff\xfe"),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_foreign_files_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(data)
    assert "is not a head that featx saved: it has no featx header" in refused(path)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "executed"),))

    path = tmp_path / "bomb.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    refused(path)
    assert not (tmp_path / "executed").exists()


def test_no_such_file_and_a_folder(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.safetensors")
    assert "cannot be read" in refused(tmp_path)


def test_only_saved_as_safetensors(tmp_path: Path) -> None:
    with pytest.raises(HeadError, match=r"not as 'head\.pkl'"):
        make_head().save(tmp_path / "head.pkl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("operation", ["write", "fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(
    operation: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, operation, fail)
        if operation == "replace":
            patch.setattr(Path, "replace", fail)
        with pytest.raises(CacheWriteError, match="No space left on device"):
            make_head(5).save(saved)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_the_package_says_what_it_does_not_have() -> None:
    import featx.heads

    assert all(getattr(featx.heads, name) is not None for name in featx.heads.__all__)
    with pytest.raises(AttributeError, match=r"'featx\.heads' has no attribute 'Ridge'"):
        featx.heads.Ridge  # noqa: B018
