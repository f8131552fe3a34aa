"""The learning-rate range test leaves the network as it was and finds the steepest descent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_cases import SIZE, inputs, learner, settings

from featx.errors import UsageError
from featx.training import rate_range
from featx.training.range_test import steepest


def test_the_steepest_descent_of_a_known_curve() -> None:
    rates = np.geomspace(1e-6, 1, 400)
    # A logistic fall in the logarithm of the rate is steepest in its middle.
    losses = 2 - 1 / (1 + np.exp(-3 * (np.log(rates) - np.log(3e-3))))
    assert steepest(rates.tolist(), losses.tolist()) == pytest.approx(3e-3, rel=0.05)
    assert steepest(rates.tolist(), rates.tolist()) is None
    assert steepest([1e-3, 1e-2], [1.0, 0.5]) is None


def test_rates_rise_losses_fall_and_the_network_is_put_back() -> None:
    a = learner("custom")
    before = {k: v.clone() for k, v in a.module.state_dict().items()}
    some = inputs(96)
    found = rate_range(a, some["train"], settings(), n_classes=3, image_size=SIZE, steps=80)
    for name, value in a.module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert found.rates[0] == pytest.approx(1e-6)
    ratios = np.diff(np.log(found.rates))
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-6)
    assert min(found.losses) < found.losses[0]
    assert found.suggestion is not None
    assert found.rates[0] < found.suggestion < 1


def test_it_ends_early_where_the_loss_explodes() -> None:
    some = inputs(96)["train"]
    how = settings(optimizer="sgd")
    found = rate_range(learner(), some, how, n_classes=3, image_size=SIZE, high=1e6, steps=60)
    assert len(found.rates) < 60
    assert np.isfinite(found.losses).all()


@pytest.mark.parametrize("values", [{"low": 1.0, "high": 0.1}, {"steps": 5}, {"low": 0.0}])
def test_an_impossible_range_is_refused(values: dict) -> None:
    with pytest.raises(UsageError, match="range test from"):
        rate_range(
            learner(), inputs(8)["train"], settings(), n_classes=3, image_size=SIZE, **values
        )


@pytest.mark.parametrize(
    ("values", "word"), [({"batch_size": 1}, "BatchNorm"), ({"precision": "fp16"}, "fp16")]
)
def test_what_could_not_be_trained_is_not_tested_either(values: dict, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        rate_range(
            learner("custom"), inputs(8)["train"], settings(**values), n_classes=3, image_size=SIZE
        )
