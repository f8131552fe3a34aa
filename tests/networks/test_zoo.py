"""The documents' networks: their layers, their published numbers, and the sizes they take."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from featx.errors import ShapeError, UnknownName, UsageError
from featx.networks import about_zoo, build_zoo, zoo_names

PUBLISHED = {
    "conv2": 62_006,
    "conv3": 110_598,
    "conv5": 3_154_982,
    "cerberus": 3_223_882,
    "cnn-a": 591_274,
    "cnn-b": 550_570,
    "cnn-c": 1_304_746,
    "custom": 4_294_218,
}
# Network -> smallest side, from its kernels and poolings.
SMALLEST = {
    # (s - 4) / 2, - 4, / 2: two rows must be left before the last pooling.
    "conv2": 2 * (2 + 4) + 4,
    "conv3": 2 * (2 * (2 + 2) + 2) + 2,
    "conv5": 8,
    "cerberus": 8,
    "cnn-a": 4,
    "cnn-b": 8,
    "cnn-c": 16,
    "custom": 4,
    "grid-relu": 8,
    "grid-relu-bn": 8,
    "grid-leaky-bn": 8,
    "grid-leaky-bn-dropout": 8,
}
KINDS = {
    "conv": nn.Conv2d,
    "fc": nn.Linear,
    "output": nn.Linear,
    "bn": (nn.BatchNorm1d, nn.BatchNorm2d),
    "pool": nn.MaxPool2d,
    "dropout": nn.Dropout,
    "flatten": nn.Flatten,
    "relu": nn.ReLU,
    "leaky": nn.LeakyReLU,
    "gelu": nn.GELU,
}

# The tables of the documents, read by a person.
LAYERS = {
    "conv2": "conv1 relu1 pool1 conv2 relu2 pool2 flatten fc1 relu3 fc2 relu4 output",
    "conv3": "conv1 relu1 pool1 conv2 relu2 pool2 conv3 relu3 pool3 flatten "
    "fc1 gelu1 dropout1 fc2 gelu2 dropout2 fc3 gelu3 output",
    "conv5": "conv1 bn1 relu1 conv2 bn2 relu2 pool1 conv3 bn3 relu3 pool2 conv4 bn4 relu4 "
    "conv5 bn5 relu5 pool3 flatten dropout1 fc1 relu6 dropout2 fc2 relu7 dropout3 "
    "fc3 relu8 output",
    "cerberus": "conv1 relu1 bn1 conv2 relu2 bn2 conv3 relu3 bn3 conv4 relu4 bn4 pool1 "
    "conv5 relu5 bn5 conv6 relu6 bn6 conv7 relu7 bn7 conv8 relu8 bn8 pool2 "
    "conv9 relu9 bn9 conv10 relu10 bn10 conv11 relu11 bn11 conv12 relu12 bn12 pool3 "
    "flatten fc1 relu13 dropout1 output",
    "cnn-a": "conv1 relu1 conv2 relu2 pool1 conv3 relu3 conv4 relu4 pool2 flatten fc1 relu5 output",
    "cnn-b": "conv1 relu1 conv2 relu2 pool1 conv3 relu3 conv4 relu4 pool2 "
    "conv5 relu5 conv6 relu6 pool3 flatten fc1 relu7 output",
    "cnn-c": "conv1 relu1 conv2 relu2 pool1 conv3 relu3 conv4 relu4 pool2 "
    "conv5 relu5 conv6 relu6 pool3 conv7 relu7 conv8 relu8 pool4 flatten fc1 relu9 output",
    "custom": "conv1 relu1 pool1 conv2 relu2 pool2 conv3 relu3 flatten "
    "fc1 bn1 relu4 dropout1 output dropout2",
    "grid-relu": "conv1 relu1 conv2 relu2 pool1 conv3 relu3 pool2 conv4 relu4 pool3 "
    "flatten fc1 relu5 fc2 relu6 output",
    "grid-relu-bn": "conv1 bn1 relu1 conv2 bn2 relu2 pool1 conv3 bn3 relu3 pool2 "
    "conv4 bn4 relu4 pool3 flatten fc1 relu5 fc2 relu6 output",
    "grid-leaky-bn": "conv1 bn1 relu1 conv2 bn2 relu2 pool1 conv3 bn3 relu3 pool2 "
    "conv4 bn4 relu4 pool3 flatten fc1 leaky1 fc2 leaky2 output",
    "grid-leaky-bn-dropout": "conv1 bn1 relu1 conv2 bn2 relu2 pool1 conv3 bn3 relu3 pool2 "
    "conv4 bn4 relu4 pool3 flatten fc1 leaky1 dropout1 fc2 leaky2 dropout2 output",
}


def n_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def widths(model: nn.Module) -> list[int]:
    """Outputs of convolutions and dense layers."""
    return [p.shape[0] for name, p in model.named_parameters() if p.ndim > 1]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_network_has_the_published_number_of_parameters(name: str) -> None:
    assert n_parameters(build_zoo(name)) == PUBLISHED[name]


@pytest.mark.parametrize("name", [name for name in SMALLEST if name.startswith("grid")])
@pytest.mark.parametrize("n_classes", [2, 10])
def test_the_grid_is_as_large_as_its_layers(name: str, n_classes: int) -> None:
    filters = [3, 3, 32, 64, 128]
    convolutions = sum(9 * into * out + out for into, out in itertools.pairwise(filters))
    # Three poolings leave 4 x 4 of 32 x 32.
    dense = [128 * 4 * 4, 256, 128, n_classes]
    vectors = sum((into + 1) * out for into, out in itertools.pairwise(dense))
    normalized = 2 * sum(filters[1:]) if "bn" in name else 0
    assert n_parameters(build_zoo(name, n_classes)) == convolutions + vectors + normalized


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_the_documents_in_their_order(name: str) -> None:
    model = build_zoo(name)
    names = [layer for layer, _ in model.named_children()]
    assert names == LAYERS[name].split()
    for layer, module in model.named_children():
        assert isinstance(module, KINDS[layer.rstrip("0123456789")]), layer
        assert not getattr(module, "inplace", False)


def test_every_network_is_told_of_in_one_line() -> None:
    assert set(zoo_names()) == set(SMALLEST)
    for name in zoo_names():
        assert "\n" not in about_zoo(name)
        assert about_zoo(name).endswith(("(D2)", "(D3)", "(D4)", "(D3's grid)"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conv2", [6, 16, 120, 84, 10]),
        ("conv3", [32, 64, 64, 128, 96, 84, 10]),
        ("conv5", [32, 64, 128, 256, 256, 512, 128, 84, 10]),
        ("cerberus", [64] * 4 + [128] * 4 + [256] * 4 + [128, 10]),
        ("cnn-a", [32, 32, 64, 64, 128, 10]),
        ("cnn-b", [32, 32, 64, 64, 128, 128, 128, 10]),
        ("cnn-c", [32, 32, 64, 64, 128, 128, 256, 256, 128, 10]),
        ("custom", [32, 64, 128, 512, 10]),
        ("grid-leaky-bn-dropout", [3, 32, 64, 128, 256, 128, 10]),
    ],
)
def test_widths_are_the_documents(name: str, expected: list[int]) -> None:
    assert widths(build_zoo(name)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conv3", [0.2, 0.2]),
        ("conv5", [0.2, 0.2, 0.2]),
        ("cerberus", [0.2]),
        ("custom", [0.5, 0.5]),
        ("grid-leaky-bn", []),
        ("grid-leaky-bn-dropout", [0.2, 0.2]),
    ],
)
def test_dropouts_have_the_documents_probability(name: str, expected: list[float]) -> None:
    model = build_zoo(name)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == expected


def test_the_output_of_conv2_is_that_of_its_formula() -> None:
    model = build_zoo("conv2").eval()
    w = dict(model.named_parameters())
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = x
    for n in (1, 2):
        expected = nn.functional.conv2d(expected, w[f"conv{n}.weight"], w[f"conv{n}.bias"])
        expected = nn.functional.max_pool2d(expected.clamp(min=0), 2)
    expected = expected.reshape(2, 400)
    for n in (1, 2):
        expected = (expected @ w[f"fc{n}.weight"].T + w[f"fc{n}.bias"]).clamp(min=0)
    expected = expected @ w["output.weight"].T + w["output.bias"]
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", list(SMALLEST))
def test_the_smallest_size_works_and_is_named_where_it_does_not(name: str) -> None:
    side = SMALLEST[name]
    assert build_zoo(name, 3, side).eval()(torch.zeros(1, 3, side, side)).shape == (1, 3)
    for size in (side - 1, (64, side - 1), (side - 1, 64)):
        with pytest.raises(ShapeError) as caught:
            build_zoo(name, 3, size)
        height, width = (size, size) if isinstance(size, int) else size
        assert f"Images of {height} x {width} px are too small for {name}" in str(caught.value)
        assert f"The smallest square size that works is {side} x {side}." in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(["conv2", "conv3", "cnn-a", "grid-relu-bn"]),
    height=st.integers(22, 50),
    width=st.integers(22, 50),
    n_classes=st.integers(2, 12),
)
def test_any_size_and_number_of_classes_will_do(
    name: str, height: int, width: int, n_classes: int
) -> None:
    model = build_zoo(name, n_classes, (height, width)).eval()
    assert model(torch.zeros(2, 3, height, width)).shape == (2, n_classes)


@pytest.mark.parametrize("size", [0, -3, (32, 0)])
def test_a_size_that_is_none_is_refused(size: int | tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match="The smallest square size that works is 4 x 4"):
        build_zoo("cnn-a", 10, size)


@pytest.mark.parametrize(("n_classes", "said"), [(1, "1 class has"), (0, "0 classes has")])
def test_one_class_is_refused(n_classes: int, said: str) -> None:
    with pytest.raises(UsageError, match=f"A network for {said} nothing to tell apart"):
        build_zoo("cnn-a", n_classes)


def test_an_unknown_name_gets_the_closest() -> None:
    for function in (build_zoo, about_zoo):
        with pytest.raises(UnknownName, match=r"'cnn-d' is not in featx' own networks\. .*'cnn-"):
            function("cnn-d")


def test_weights_are_torchs_own_under_the_callers_seed() -> None:
    torch.manual_seed(5)
    model = build_zoo("custom")
    torch.manual_seed(5)
    first = nn.Conv2d(3, 32, 3, padding=1)
    second = nn.Conv2d(32, 64, 3, padding=1)
    state = model.state_dict()
    assert torch.equal(state["conv1.weight"], first.weight)
    assert torch.equal(state["conv2.bias"], second.bias)


@pytest.mark.parametrize("name", list(SMALLEST))
def test_networks_can_be_traced_symbolically(name: str) -> None:
    model = build_zoo(name).eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.fx.symbolic_trace(model)(x), model(x))


def test_names_cost_no_import_of_torch() -> None:
    code = (
        "import sys; from featx.networks import about_zoo, zoo_names;"
        "[about_zoo(name) for name in zoo_names()]; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
