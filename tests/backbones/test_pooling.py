from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.backbones import parse_pooling
from featx.errors import ShapeError, UnknownName, UsageError
from featx.torchvision_compat import import_timm

MAP_POOLINGS = ["flatten", "avg", "max", "avgmax", "gem", "grid:1", "grid:2", "grid:3", "mean"]
TOKEN_POOLINGS = ["flatten", "avg", "max", "avgmax", "gem", "cls", "mean"]

maps = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))
seeds = st.integers(0, 2**31)


def random(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(shape=maps, seed=seeds, name=st.sampled_from(MAP_POOLINGS))
def test_maps_have_the_features_that_were_promised(
    shape: tuple[int, int, int, int], seed: int, name: str
) -> None:
    pooling = parse_pooling(name)
    out = pooling.apply(random(shape, seed).half(), "map")
    assert out.shape == (shape[0], pooling.n_features("map", shape[1:]))
    assert out.dtype == torch.float32
    assert out.is_contiguous()


@settings(max_examples=60, deadline=None)
@given(shape=maps, seed=seeds)
def test_laws_of_pooling(shape: tuple[int, int, int, int], seed: int) -> None:
    x = random(shape, seed)
    avg, top, both, gem = (
        parse_pooling(name).apply(x, "map") for name in ("avg", "max", "avgmax", "gem")
    )
    channels = shape[1]
    assert torch.equal(both, torch.cat([avg, top], 1))
    assert (top >= avg - 1e-6).all()
    # A power mean lies between the mean and the maximum of what it sees.
    floor = x.clamp(min=1e-6)
    assert (gem <= floor.amax((2, 3)) * (1 + 1e-5)).all()
    assert (gem >= floor.mean((2, 3)) * (1 - 1e-5)).all()
    one_cell = parse_pooling("grid:1").apply(x, "map")
    torch.testing.assert_close(one_cell, avg)
    flat = parse_pooling("flatten").apply(x, "map")
    assert np.array_equal(flat.numpy(), x.numpy().reshape(shape[0], -1, order="C"))
    # The average does not care where in the map a value stands, the flattened map does.
    torch.testing.assert_close(parse_pooling("avg").apply(x.flip(3), "map"), avg)
    grid = parse_pooling("grid:2").apply(x, "map").view(-1, channels, 2, 2)
    flipped = parse_pooling("grid:2").apply(x.flip(3), "map").view(-1, channels, 2, 2)
    torch.testing.assert_close(grid, flipped.flip(3))


def test_avgmax_and_max_equal_timms() -> None:
    import_timm()
    from timm.layers import SelectAdaptivePool2d

    x = random((3, 7, 5, 4), 0)
    for ours, theirs in (("avg", "avg"), ("max", "max"), ("avgmax", "catavgmax")):
        wanted = SelectAdaptivePool2d(pool_type=theirs, flatten=True)(x)
        torch.testing.assert_close(parse_pooling(ours).apply(x, "map"), wanted)


def test_gem_is_the_formula_of_the_paper() -> None:
    x = random((2, 3, 4, 5), 0).numpy().astype(np.float64)
    # f = (1/|X| sum x^p)^(1/p), after the clamp of the authors' code.
    wanted = (np.clip(x, 1e-6, None) ** 3).reshape(2, 3, -1).mean(2) ** (1 / 3)
    found = parse_pooling("gem").apply(torch.from_numpy(x).float(), "map")
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5)


def test_grid_averages_cells() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert parse_pooling("grid:2").apply(x, "map").tolist() == [[2.5, 4.5, 10.5, 12.5]]


@pytest.mark.parametrize("name", TOKEN_POOLINGS)
def test_tokens(name: str) -> None:
    x = random((2, 6, 3), 0)
    pooling = parse_pooling(name)
    out = pooling.apply(x, "tokens", prefix_tokens=2, class_token=True)
    patches = x[:, 2:]
    wanted = {
        "flatten": x.flatten(1),
        "avg": patches.mean(1),
        "mean": patches.mean(1),
        "max": patches.amax(1),
        "avgmax": torch.cat([patches.mean(1), patches.amax(1)], 1),
        "gem": patches.clamp(min=1e-6).pow(3).mean(1).pow(1 / 3),
        "cls": x[:, 0],
    }[name]
    torch.testing.assert_close(out, wanted)
    assert out.shape[1] == pooling.n_features("tokens", (6, 3))


@pytest.mark.parametrize("name", [*MAP_POOLINGS, "cls"])
def test_a_vector_stays_as_it_is(name: str) -> None:
    x = random((4, 9), 0)
    pooling = parse_pooling(name)
    assert torch.equal(pooling.apply(x, "vector"), x)
    assert pooling.n_features("vector", (9,)) == 9


@pytest.mark.parametrize("name", [*MAP_POOLINGS, "cls"])
def test_nothing_shares_memory_with_the_network(name: str) -> None:
    kinds = {"vector": (2, 3)} if name == "cls" else {"vector": (2, 3), "map": (2, 3, 1, 1)}
    for kind, shape in kinds.items():
        x = random(shape, 0)
        out = parse_pooling(name).apply(x, kind)
        kept = out.clone()
        x.zero_()
        assert torch.equal(out, kept)
    tokens = random((2, 1, 3), 0)
    if not name.startswith("grid"):
        out = parse_pooling(name).apply(tokens, "tokens", class_token=True)
        kept = out.clone()
        tokens.zero_()
        assert torch.equal(out, kept)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ShapeError, match="takes the class token of a transformer"):
        parse_pooling("cls").n_features("map", (3, 2, 2))
    with pytest.raises(ShapeError, match="takes the class token of a transformer"):
        parse_pooling("cls").apply(random((1, 3, 2, 2), 0), "map")
    with pytest.raises(ShapeError, match="needs a map of positions"):
        parse_pooling("grid:2").n_features("tokens", (4, 3))
    with pytest.raises(ShapeError, match="needs a class token"):
        parse_pooling("cls").apply(random((1, 4, 3), 0), "tokens")


@pytest.mark.parametrize("text", ["grid", "grid:", "grid:0", "grid:-1", "grid:2x2", "grid:²"])
def test_a_grid_needs_a_number(text: str) -> None:
    with pytest.raises(UsageError, match="1 or more"):
        parse_pooling(text)


def test_an_unknown_pooling_gets_the_closest() -> None:
    with pytest.raises(UnknownName, match=r"Pooling 'averagemax' is not known\. Closest: 'avgmax'"):
        parse_pooling("averagemax")
    assert parse_pooling("grid:03") == parse_pooling("grid:3")


@given(shape=maps)
def test_flatten_counts_every_value(shape: tuple[int, int, int, int]) -> None:
    assert parse_pooling("flatten").n_features("map", shape) == math.prod(shape)
