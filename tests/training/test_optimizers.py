"""Each optimizer takes the step that its paper's formula gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from featx.errors import UnknownName, UsageError
from featx.training.optimizers import OPTIMIZERS, make_optimizer

START = np.array([0.5, -1.0, 2.0])
GRADIENTS = (np.array([0.1, -0.2, 0.3]), np.array([-0.4, 0.5, 0.6]), np.array([0.7, 0.8, -0.9]))
LR, DECAY = 0.1, 0.05


def steps_of(**settings: Any) -> np.ndarray:
    """Return the parameter after the three gradients."""
    parameter = torch.nn.Parameter(torch.tensor(START))
    optimizer = make_optimizer([parameter], lr=LR, device="cpu", **settings)
    for gradient in GRADIENTS:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    return parameter.detach().numpy()


def adam_by_hand(l2: float, decoupled: float) -> np.ndarray:
    """Algorithm 1 of Kingma and Ba (2015), algorithm 2 of Loshchilov and Hutter (2019)."""
    x, m, v = START.copy(), np.zeros(3), np.zeros(3)
    for t, gradient in enumerate(GRADIENTS, start=1):
        x = x - LR * decoupled * x
        g = gradient + l2 * x
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        x = x - LR * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return x


def sgd_by_hand(momentum: float, nesterov: bool) -> np.ndarray:
    """Sutskever et al. (2013) in torch's form: the rate multiplies the velocity."""
    x, velocity = START.copy(), np.zeros(3)
    for gradient in GRADIENTS:
        g = gradient + DECAY * x
        velocity = momentum * velocity + g
        x = x - LR * (g + momentum * velocity if nesterov else velocity)
    return x


def test_adam_adds_the_decay_to_the_gradient() -> None:
    got = steps_of(name="adam", weight_decay=DECAY)
    np.testing.assert_allclose(got, adam_by_hand(DECAY, 0.0), rtol=1e-10)


def test_adamw_decays_beside_the_step() -> None:
    got = steps_of(name="adamw", weight_decay=DECAY)
    np.testing.assert_allclose(got, adam_by_hand(0.0, DECAY), rtol=1e-10)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.5, False), (0.9, True)])
def test_sgd(momentum: float, nesterov: bool) -> None:
    got = steps_of(name="sgd", momentum=momentum, nesterov=nesterov, weight_decay=DECAY)
    np.testing.assert_allclose(got, sgd_by_hand(momentum, nesterov), rtol=1e-10)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_decay_unless_it_is_asked_for_and_biases_decay_too(name: str) -> None:
    layer = torch.nn.Linear(2, 2)
    for weight_decay in (0.0, DECAY):
        layer.bias.data.fill_(1.0)
        optimizer = make_optimizer(
            layer.parameters(), name=name, lr=LR, weight_decay=weight_decay, device="cpu"
        )
        layer.bias.grad = torch.zeros(2)
        layer.weight.grad = torch.zeros(2, 2)
        optimizer.step()
        assert (layer.bias.detach() < 1).all() == (weight_decay > 0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fused_on_the_cpu_and_not_where_torch_has_no_kernel(name: str) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    fused = make_optimizer(parameters, name=name, lr=LR, device="cpu")
    plain = make_optimizer(parameters, name=name, lr=LR, device=torch.device("meta"))
    assert fused.param_groups[0]["fused"] is True
    assert plain.param_groups[0]["fused"] is False


def test_unknown_names_say_the_closest() -> None:
    with pytest.raises(UnknownName, match=r"Optimizer 'adamax'.*'adam'"):
        steps_of(name="adamax")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "adam", "momentum": 1.0}, "Momentum 1.0"),
        ({"name": "sgd", "momentum": -0.1}, r"Momentum -0\.1"),
        ({"name": "sgd", "weight_decay": -1e-3}, r"Weight decay -0\.001"),
        ({"name": "sgd", "weight_decay": math.inf}, "Weight decay inf"),
        ({"name": "sgd", "momentum": 0.0, "nesterov": True}, "Nesterov needs momentum"),
        ({"name": "adamw", "nesterov": True}, "adamw has none"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        steps_of(**settings)


@pytest.mark.parametrize("lr", [0.0, -1.0, math.nan, math.inf])
def test_impossible_rates_are_refused(lr: float) -> None:
    with pytest.raises(UsageError, match=f"Learning rate {lr}"):
        make_optimizer([torch.nn.Parameter(torch.zeros(1))], name="adam", lr=lr, device="cpu")


def test_a_network_frozen_from_end_to_end_is_refused() -> None:
    with pytest.raises(UsageError, match="No parameter is left to train"):
        make_optimizer(iter(()), name="sgd", lr=LR, device="cpu")
