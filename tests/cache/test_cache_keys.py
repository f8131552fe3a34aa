"""Keys: golden values, every ingredient counts, and nothing else does."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from cache_cases import make_key
from campaign import note
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.cache import SCHEMA_VERSION, FeatureKey, keys, shard_rows_for
from featx.errors import UnknownName, UsageError

# From sha256sum, given the text in the test below.
GOLDEN = "bd6777924d44ee166b9655dedb0b666c4ef200974c9c6e7e2bdb3edf3022d698"
CHANGES: dict[str, Any] = {
    "backbone": "resnet34",
    "weights_digest": "w" * 63 + "v",
    "dataset_digest": "d" * 63 + "e",
    "split": "test",
    "preprocess": {"size": [32, 33], "interpolation": "bilinear", "mean": [0.485, 0.456]},
    "module": "layer3.0",
    "pool": "max",
    "storage": "float16",
    "precision": "bf16",
    "numerics": "channels-first",
    "device_kind": "cuda",
    "batch_size": 2,
    "shard_rows": 12,
    "versions": "torch 2.14",
}


def test_golden_key() -> None:
    key = make_key()
    assert SCHEMA_VERSION == 2
    assert key.canonical() == (
        '{"backbone":"resnet18","batch_size":4,"dataset_digest":"' + "d" * 64 + '",'
        '"device_kind":"cpu","module":"layer3.1","numerics":"channels-last, '
        'BatchNorm folded","pool":"avg","precision":"fp32","preprocess":'
        '{"interpolation":"bilinear","mean":[0.485,0.456],"size":[32,32]},"schema":2,'
        '"shard_rows":8,"split":"train","storage":"float32","versions":"torch 2.13",'
        '"weights_digest":"' + "w" * 64 + '"}'
    )
    assert key.digest == GOLDEN


def test_every_ingredient_changes_the_key_and_is_named() -> None:
    assert set(CHANGES) == set(make_key().describe())
    digests = {make_key().digest}
    for name, value in CHANGES.items():
        changed = make_key(**{name: value})
        expected = "preprocess.size" if name == "preprocess" else name
        assert make_key().difference(changed) == [expected]
        assert changed != make_key()
        digests.add(changed.digest)
    assert len(digests) == len(CHANGES) + 1
    note("The key covers everything", ingredients=len(CHANGES))


@pytest.mark.parametrize(
    "preprocess",
    [
        {"size": [32, 32], "interpolation": "bilinear"},
        {"size": [32, 32], "interpolation": "bilinear", "mean": [0.485, 0.456], "std": [1]},
        {"size": [32, 32], "interpolation": "bilinear", "mean": [0.485, 0.4560001]},
        {"size": [32, 32.0], "interpolation": "bilinear", "mean": [0.485, 0.456]},
        {"size": [32, 32], "interpolation": None, "mean": [0.485, 0.456]},
    ],
)
def test_anything_in_the_preprocessing_changes_the_key(preprocess: dict[str, Any]) -> None:
    changed = make_key(preprocess=preprocess)
    assert changed.digest != make_key().digest
    assert len(make_key().difference(changed)) == 1


def test_equal_numbers_of_different_types_are_told_apart() -> None:
    keys_of = [make_key(preprocess={"resize": value}) for value in (1, 1.0, True)]
    assert len({key.digest for key in keys_of}) == 3
    assert keys_of[0].difference(keys_of[2]) == ["preprocess.resize"]


def test_the_schema_version_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_key().digest
    monkeypatch.setattr(keys, "SCHEMA_VERSION", 3)
    assert make_key().digest != before


def test_order_and_tuples_change_nothing() -> None:
    shuffled = {"mean": (0.485, 0.456), "size": (32, 32), "interpolation": "bilinear"}
    key = make_key(preprocess=shuffled)
    assert key == make_key()
    assert hash(key) == hash(make_key())
    assert key.difference(make_key()) == []
    assert key != "resnet18"


def test_later_changes_of_the_mapping_do_not_reach_the_key() -> None:
    mapping = {"size": [32, 32]}
    key = make_key(preprocess=mapping)
    before = key.digest
    mapping["size"][0] = 64
    assert key.digest == before


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
            ),
            max_leaves=6,
        ),
        max_size=4,
    )
)
def test_keys_survive_json(preprocess: dict[str, Any]) -> None:
    key = make_key(preprocess=preprocess)
    again = FeatureKey.from_dict(json.loads(json.dumps(key.describe())))
    assert again == key
    assert again.digest == key.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": ""}, "backbone is ''"),
        ({"versions": None}, "versions is None"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": True}, "batch_size is True"),
        ({"shard_rows": 8.0}, "shard_rows is 8.0"),
        ({"shard_rows": 10}, "not a multiple of the batch size 4"),
        ({"preprocess": {"size": np.int64(3)}}, "only JSON values"),
        ({"preprocess": {"size": float("nan")}}, "only JSON values"),
        ({"preprocess": {1: 2}}, "names as keys"),
        ({"preprocess": [1]}, "names as keys"),
    ],
)
def test_ingredients_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_key(**change)


@pytest.mark.parametrize(
    ("name", "wrong", "closest"),
    [
        ("storage", "float23", "float32"),
        ("precision", "fp32x", "fp32"),
        ("device_kind", "cud", "cuda"),
    ],
)
def test_choices_name_the_closest(name: str, wrong: str, closest: str) -> None:
    with pytest.raises(UnknownName, match=f"'{wrong}' is not known.*'{closest}'"):
        make_key(**{name: wrong})


def test_from_dict_names_what_is_missing_and_unknown() -> None:
    ingredients = make_key().describe()
    del ingredients["pool"]
    with pytest.raises(UsageError, match=r"missing \['pool'\], unknown \['size'\]"):
        FeatureKey.from_dict(ingredients | {"size": 3})


@pytest.mark.parametrize(
    ("n_features", "batch_size", "storage", "expected"),
    [
        (512, 128, "float32", 4096),  # the row limit
        (512, 100, "float32", 4000),  # whole batches
        (16384, 64, "float32", 1024),  # 64 MiB
        (16384, 64, "float16", 2048),
        (802816, 16, "float32", 16),  # 20 rows fit
        (802816, 64, "float32", 64),  # one batch at least
        (10, 5000, "float32", 5000),
    ],
)
def test_shards_are_whole_batches_of_about_64_mb(
    n_features: int, batch_size: int, storage: str, expected: int
) -> None:
    assert shard_rows_for(n_features, batch_size, storage) == expected


def test_shard_rows_of_an_unknown_storage_type() -> None:
    with pytest.raises(UnknownName, match="'float8'"):
        shard_rows_for(10, 10, "float8")
