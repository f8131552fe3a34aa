"""What is frozen is frozen bit for bit, what is trained is trained, and tails are the network."""

from __future__ import annotations

import copy

import pytest
import torch
from training_cases import SIZE, inputs, network, settings

from featx.backbones.probe import modules_up_to
from featx.backbones.trainable import Trainable, load_trainable
from featx.errors import UnknownName, UsageError
from featx.training import make_learner, tail_behind, train


def resnet() -> Trainable:
    return load_trainable("resnet18", "none", n_classes=3, image_size=(32, 32), seed=1)


def states(trainable: Trainable) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in trainable.model.state_dict().items()}


@pytest.mark.parametrize(
    ("mode", "cut", "trained"),
    [
        ("frozen", None, {"fc"}),
        ("finetune", "layer3", {"layer4", "fc"}),
        ("finetune", "conv4_block2_out", {"layer4", "fc"}),
        ("finetune", "layer4.0", {"layer4.1", "fc"}),
    ],
)
def test_a_frozen_part_does_not_change_by_a_bit(mode: str, cut: str | None, trained: set) -> None:
    trainable = resnet()
    a = make_learner(trainable, mode, cut)
    before = states(trainable)
    train(a, inputs(12), settings(epochs=2, batch_size=6), n_classes=3, image_size=SIZE)
    after = trainable.model.state_dict()
    for name, value in before.items():
        # Running statistics and counters of BatchNorm are part of it.
        inside = any(name.startswith(module + ".") for module in trained)
        assert torch.equal(value, after[name]) == (not inside), name
    expected = sum(
        p.numel()
        for name, p in trainable.model.named_parameters()
        if any(name.startswith(module + ".") for module in trained)
    )
    assert a.n_trained == expected


@pytest.mark.parametrize("mode", ["scratch", "finetune", "lp-ft"])
def test_everything_is_trained_otherwise(mode: str) -> None:
    trainable = network("custom")
    a = make_learner(trainable, mode)
    assert a.frozen_up_to is None
    assert a.n_trained == sum(p.numel() for p in trainable.model.parameters())
    before = states(trainable)
    train(a, inputs(32), settings(epochs=2), n_classes=3, image_size=SIZE)
    changed = [n for n, v in before.items() if not torch.equal(v, trainable.model.state_dict()[n])]
    assert set(changed) == set(before)


def test_dropout_of_the_frozen_part_is_off() -> None:
    trainable = load_trainable("alexnet", "none", n_classes=3, image_size=(64, 64))
    # As if its classifier had come with the weights: the last layer alone is new.
    last = copy.copy(trainable)
    object.__setattr__(last, "head", ("classifier.6",))
    a = make_learner(last, "frozen")
    a.train_mode()
    assert not trainable.model.get_submodule("classifier.0").training
    assert not trainable.model.get_submodule("classifier.3").training
    assert trainable.model.get_submodule("classifier.6").training
    assert a.n_trained == 4096 * 3 + 3


@pytest.mark.parametrize(
    ("cut", "error", "words"),
    [
        ("layer9", UnknownName, ["'layer9'", "'layer4'", "featx layers resnet18"]),
        ("fc", UsageError, ["cut 'fc'", "nothing stands behind it"]),
    ],
)
def test_a_cut_that_cannot_be_frozen_up_to(cut: str, error: type, words: list[str]) -> None:
    with pytest.raises(error) as caught:
        make_learner(resnet(), "finetune", cut)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("name", "size", "module"),
    [
        ("resnet18", 32, "avgpool"),
        ("resnet18", 32, "layer2"),
        ("densenet121", 32, "features"),
        ("googlenet", 64, "dropout"),
        ("timm/resnet18", 32, "layer3"),
        # Its first layers pad by the size of the image, which no graph can hold.
        ("tf_efficientnet_lite0", 32, "global_pool"),
        ("cnn-a", 32, "pool1"),
        ("cerberus", 32, "pool2"),
    ],
)
def test_a_tail_computes_what_the_network_does(name: str, size: int, module: str) -> None:
    trainable = load_trainable(name, "none", n_classes=5, image_size=(size, size))
    model = trainable.model.eval()
    tail = tail_behind(model, module, modules_up_to(trainable.trace, module))
    assert tail is not None
    caught = {}
    handle = model.get_submodule(module).register_forward_hook(
        lambda layer, args, output: caught.update(output=output)
    )
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(tail.eval()(caught["output"]), expected)
    handle.remove()
    shared = {id(p) for p in model.parameters()}
    assert all(id(p) in shared for p in tail.parameters())
    assert sum(p.numel() for p in tail.parameters()) < sum(p.numel() for p in model.parameters())


def test_there_is_no_tail_where_another_way_leads_past_the_cut() -> None:
    trainable = resnet()
    # The block's shortcut goes around its first convolution.
    assert tail_behind(trainable.model, "layer2.1.conv1") is None
    assert trainable.model.training


def test_there_is_no_tail_of_what_torch_cannot_trace() -> None:
    class Moody(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(4, 4)
            self.last = torch.nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            return self.last(x if x.sum() > 0 else -x)

    assert tail_behind(Moody(), "first") is None


def test_there_is_no_tail_that_would_forget_its_dropout() -> None:
    class Functional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(4, 4)
            self.last = torch.nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.nn.functional.dropout(self.first(x), 0.5, training=self.training)
            return self.last(x)

    assert tail_behind(Functional(), "first") is None
