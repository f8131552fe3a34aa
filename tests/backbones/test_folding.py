"""BatchNorm is folded where that is right, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from featx.backbones.folding import find_folds, fold


class Net(nn.Module):
    """A convolution and a BatchNorm with statistics, put together by a test's `forward`."""

    def __init__(self, conv: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = conv or nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.other = nn.BatchNorm2d(4)
        self.nothing = nn.Dropout()
        torch.manual_seed(0)
        for norm in (self.norm, self.other):
            for tensor in (norm.weight, norm.running_var):
                nn.init.uniform_(tensor, 0.5, 2)
            for tensor in (norm.bias, norm.running_mean):
                nn.init.normal_(tensor)
        self.eval().requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class Wrapped(Net):
    def __init__(self) -> None:
        super().__init__()
        self.around = nn.Sequential(self.conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.nothing(self.around(x)))


class Added(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class ChangedBefore(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x).relu_())


class TwoNorms(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + self.other(y)


class ConvTwice(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) + self.conv(x + 1)


class NormTwice(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.norm(self.conv(x)))


class Returned(Net):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.conv(x)
        return self.norm(y), y


class WeightElsewhere(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) * self.conv.weight.mean()


class StatisticsElsewhere(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) * self.norm.running_var.mean()


class Standardized(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = (self.weight - self.weight.mean()) / self.weight.std()
        return nn.functional.conv2d(x, weight, self.bias)


class Doubled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight / weight.norm()


def batch_statistics() -> Net:
    net = Net()
    net.norm = nn.BatchNorm2d(4, track_running_stats=False).eval()
    return net


def in_training() -> Net:
    net = Net()
    net.norm.train()
    return net


def with_hook() -> Net:
    net = Net()
    net.conv.register_forward_hook(lambda module, args, output: output * 2)
    return net


def parametrized() -> Net:
    net = Net()
    parametrize.register_parametrization(net.conv, "weight", Doubled())
    return net


@pytest.mark.parametrize("net", [Net(), Wrapped(), Net(nn.Conv2d(3, 4, 3, bias=False))])
def test_a_pair_is_folded_to_the_same_values(net: Net) -> None:
    x = torch.randn(2, 3, 8, 8)
    wanted = net(x)
    found = find_folds(net, (8, 8))
    assert found.norms == {"conv": "norm"}
    fold(net, found.norms)
    torch.testing.assert_close(net(x), wanted, rtol=1e-5, atol=1e-6)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in (net.norm,))


@pytest.mark.parametrize(
    "net",
    [
        Added(), ChangedBefore(), TwoNorms(), ConvTwice(), NormTwice(), Returned(),
        WeightElsewhere(), StatisticsElsewhere(), Net(Standardized(3, 4, 3)), batch_statistics(),
        in_training(), with_hook(), parametrized(),
    ],
    ids=lambda net: type(net).__name__,
)  # fmt: skip
def test_what_folding_would_break_is_left_alone(net: Net) -> None:
    assert find_folds(net, (8, 8)).norms == {}
    assert not any(m._forward_pre_hooks for m in net.modules())


def test_modules_that_put_out_a_convolutions_output_are_known() -> None:
    assert find_folds(Wrapped(), (8, 8)).same == dict.fromkeys(
        ("conv", "around", "nothing"), "conv"
    )


def test_a_network_that_cannot_run_dry_is_looked_at_for_real() -> None:
    class Stubborn(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert float(x.sum()) == 0
            return super().forward(x)

    assert find_folds(Stubborn(), (8, 8)).norms == {"conv": "norm"}
