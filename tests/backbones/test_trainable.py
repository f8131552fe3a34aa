"""Networks that are ready to be trained: what came, what is new, what the head is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from featx.backbones import classifiers, load_backbone
from featx.backbones.registry import Network, build
from featx.backbones.saved import model_bytes
from featx.backbones.trainable import Trainable, load_trainable
from featx.backbones.weight_files import inside
from featx.backbones.weights import weights_digest
from featx.data import CAFFE, Preprocess
from featx.errors import ShapeError, UnknownName, UsageError, WeightsError

WANTS = Preprocess("mine", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), image_size=32, crop="none")


def file_of(folder: Path, name: str, *, without: str = "-", n_classes: int | None = None) -> Path:
    """Weights of seed 7 in a file, as a library publishes them."""
    library = "timm" if name.startswith("timm/") else "torchvision"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = build(Network(library, name.removeprefix("timm/")), n_classes)
    path = folder / "w.pth"
    torch.save({n: t for n, t in model.state_dict().items() if not inside(n, [without])}, path)
    return path


def saved_file(folder: Path, name: str = "cnn-a", n_classes: int = 3, size: int = 32) -> Path:
    network = Network("featx", name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = build(network, n_classes, size)
    path = folder / "model.safetensors"
    path.write_bytes(
        model_bytes(
            model=model,
            network=network,
            n_classes=n_classes,
            class_names=[f"class {n}" for n in range(n_classes)],
            labels=range(n_classes),
            image_size=(size, size),
            preprocess=WANTS,
            provenance={},
        )
    )
    return path


def differing(found: Trainable, tensors: dict[str, torch.Tensor]) -> set[str]:
    """Parameters that are not what was in the file."""
    return {
        name
        for name, p in found.model.named_parameters()
        if name not in tensors
        or p.shape != tensors[name].shape
        or not torch.equal(p, tensors[name])
    }


@pytest.mark.parametrize("n_classes", [5, 1000])
def test_all_but_the_head_comes_from_the_weights(tmp_path: Path, n_classes: int) -> None:
    path = file_of(tmp_path, "resnet18")
    found = load_trainable("resnet18", str(path), n_classes=n_classes, image_size=(32, 32))
    tensors = torch.load(path, weights_only=True)
    assert (found.head, found.new) == (("fc",), ("fc",))
    assert differing(found, tensors) == {"fc.weight", "fc.bias"}
    assert found.model.fc.weight.shape == (n_classes, 512)
    assert (found.n_classes, found.image_size) == (n_classes, (32, 32))
    assert found.network.name == "torchvision/resnet18"
    assert not found.weights.random
    assert found.weights.tag == "w.pth"
    kept = {name: t for name, t in tensors.items() if not name.startswith("fc.")}
    assert found.weights.digest == weights_digest(kept)
    assert found.preprocess is not None
    assert found.preprocess.name == "IMAGENET1K_V1"
    assert "'fc' is new, with the random weights of seed 0" in found.notes[0]
    assert "does not say its preprocessing" in found.notes[1]


def test_it_is_ready_to_be_trained() -> None:
    found = load_trainable("googlenet", "none", n_classes=4, image_size=(64, 64))
    assert all(module.training for module in found.model.modules())
    assert all(p.requires_grad and p.device.type == "cpu" for p in found.model.parameters())
    # Auxiliary heads would make the output something else than logits.
    out = found.model(torch.randn(4, 3, 64, 64))
    nn.functional.cross_entropy(out, torch.arange(4)).backward()
    assert all(p.grad is not None for p in found.model.parameters())
    # Looking at the network has left no trace in its statistics.
    assert (
        load_trainable("resnet18", "none", n_classes=4, image_size=(64, 64))
        .model.bn1.running_var.eq(1)
        .all()
    )


def test_random_parts_follow_the_seed_and_leave_torchs_alone(tmp_path: Path) -> None:
    path = str(file_of(tmp_path, "squeezenet1_1"))
    before = torch.random.get_rng_state()
    one, again, other = (
        load_trainable("squeezenet1_1", path, n_classes=3, image_size=(64, 64), seed=seed)
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    heads = [found.model.get_submodule("classifier.1").weight for found in (one, again, other)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert one.weights == other.weights


def test_a_classifier_of_several_layers_keeps_those_that_came(tmp_path: Path) -> None:
    path = file_of(tmp_path, "mobilenet_v3_small")
    found = load_trainable("mobilenet_v3_small", str(path), n_classes=5, image_size=(64, 64))
    assert (found.head, found.new) == (("classifier.3",), ("classifier.3",))
    tensors = torch.load(path, weights_only=True)
    assert differing(found, tensors) == {"classifier.3.weight", "classifier.3.bias"}


def test_a_classifier_that_did_not_come_is_all_new(tmp_path: Path) -> None:
    path = file_of(tmp_path, "mobilenet_v3_small", without="classifier")
    found = load_trainable("mobilenet_v3_small", str(path), n_classes=5, image_size=(64, 64))
    assert (found.head, found.new) == (("classifier",), ("classifier",))
    differ = differing(found, torch.load(path, weights_only=True))
    assert differ == {n for n, _ in found.model.named_parameters() if n.startswith("classifier.")}


def test_auxiliary_heads_in_the_weights_are_left_there(tmp_path: Path) -> None:
    path = file_of(tmp_path, "googlenet")
    tensors = torch.load(path, weights_only=True)
    assert any(name.startswith("aux1.") for name in tensors)
    found = load_trainable("googlenet", str(path), n_classes=5, image_size=(64, 64))
    assert differing(found, tensors) == {"fc.weight", "fc.bias"}
    assert not any(name.startswith("aux") for name, _ in found.model.named_parameters())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path, "squeezenet1_1")
    with pytest.raises(WeightsError, match="do not fit"):
        load_trainable("resnet18", str(path), n_classes=5, image_size=(32, 32))


def test_a_network_of_timm_has_its_head_too(tmp_path: Path) -> None:
    name = "timm/resnet18"
    path = file_of(tmp_path, name)
    found = load_trainable(name, str(path), n_classes=5, image_size=(32, 32))
    assert (found.head, found.new) == (("fc",), ("fc",))
    assert differing(found, torch.load(path, weights_only=True)) == {"fc.weight", "fc.bias"}


def test_from_scratch_everything_is_new_and_nothing_says_the_preprocessing() -> None:
    found = load_trainable("cnn-a", "none", n_classes=5, image_size=(32, 48), seed=3)
    torch.manual_seed(3)
    expected = build(Network("featx", "cnn-a"), 5, (32, 48)).state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in found.model.state_dict().items())
    assert (found.head, found.preprocess, found.notes) == (("output",), None, ())
    assert found.new == ("conv1", "conv2", "conv3", "conv4", "fc1", "output")
    assert found.weights.random
    assert found.weights.digest == weights_digest(expected)


def test_parameters_outside_of_modules_are_new_too() -> None:
    found = load_trainable("vit_b_32", "none", n_classes=5, image_size=(224, 224))
    assert found.head == ("heads",)
    assert all(inside(name, found.new) for name in found.model.state_dict())
    assert "class_token" in found.new


@pytest.mark.parametrize("weights", ["none", "file"])
def test_preprocessing_by_name_is_taken(tmp_path: Path, weights: str) -> None:
    name = str(saved_file(tmp_path)) if weights == "file" else "cnn-a"
    found = load_trainable(
        name,
        "default" if weights == "file" else "none",
        n_classes=3,
        image_size=(32, 32),
        preprocess="caffe",
    )
    assert found.preprocess is not None
    assert (found.preprocess.mean, found.preprocess.image_size) == (CAFFE.mean, 32)


def test_small_networks_have_no_weights_by_default() -> None:
    with pytest.raises(WeightsError, match="featx train --network cnn-a"):
        load_trainable("cnn-a", n_classes=3, image_size=(32, 32))


@pytest.mark.parametrize("as_weights", [False, True])
def test_a_saved_model_goes_on_with_its_head(tmp_path: Path, as_weights: bool) -> None:
    path = str(saved_file(tmp_path))
    name, weights = ("cnn-a", path) if as_weights else (path, "default")
    found = load_trainable(name, weights, n_classes=3, image_size=(32, 32), seed=1)
    donor = load_backbone(path)
    assert found.new == ()
    assert found.head == ("output",)
    assert found.weights == donor.weights
    assert differing(found, donor.model.state_dict()) == set()
    assert (found.preprocess, found.notes) == (WANTS, ())


def test_a_saved_model_gets_a_new_head_for_other_classes(tmp_path: Path) -> None:
    path = str(saved_file(tmp_path))
    found = load_trainable(path, n_classes=4, image_size=(32, 32))
    assert (found.head, found.new) == (("output",), ("output",))
    donor = load_backbone(path).model.state_dict()
    assert differing(found, donor) == {"output.weight", "output.bias"}


def test_a_saved_model_from_scratch(tmp_path: Path) -> None:
    path = str(saved_file(tmp_path))
    found = load_trainable(path, "none", n_classes=3, image_size=(32, 32), seed=2)
    scratch = load_trainable("cnn-a", "none", n_classes=3, image_size=(32, 32), seed=2)
    assert found.weights == scratch.weights
    assert found.preprocess is None


def test_a_saved_model_of_another_image_size_says_its_own(tmp_path: Path) -> None:
    path = saved_file(tmp_path)
    with pytest.raises(ShapeError) as caught:
        load_trainable(str(path), n_classes=3, image_size=(64, 64))
    assert "takes images of 32 x 32 px, not of 64 x 64" in str(caught.value)
    assert "'fc1.weight' is of that size" in str(caught.value)
    assert "--image-size 32" in str(caught.value)
    # Where the poolings round the difference away, nothing is in the way.
    assert load_trainable(str(path), n_classes=3, image_size=(35, 33)).new == ()


@pytest.mark.parametrize("n_classes", [1, 0])
def test_one_class_is_refused(n_classes: int) -> None:
    with pytest.raises(UsageError, match="2 classes or more"):
        load_trainable("squeezenet1_1", "none", n_classes=n_classes, image_size=(64, 64))


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("squeezenet1_1", (8, 8), "The smallest square size that works is 17 x 17"),
        ("cnn-c", (8, 8), "The smallest square size that works is 16 x 16"),
        ("timm/vit_tiny_patch16_224", (96, 96), "smallest square size that works is 224 x 224"),
    ],
)
def test_a_size_that_a_network_cannot_take_is_refused(
    name: str, size: tuple[int, int], said: str
) -> None:
    with pytest.raises(ShapeError, match=said):
        load_trainable(name, "none", n_classes=3, image_size=size)


def test_a_wrong_preprocessing_is_said_before_weights_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Closest: 'caffe'"):
        load_trainable(
            "squeezenet1_1",
            str(tmp_path / "no.pth"),
            n_classes=3,
            image_size=(64, 64),
            preprocess="cafe",
        )


def test_cuts_have_the_names_they_have_in_a_backbone() -> None:
    found = load_trainable("resnet18", "none", n_classes=3, image_size=(32, 32))
    assert found.resolve("conv4_block2_out") == "layer3.1"
    assert found.trace.seen["layer3.1"].output == (2, 256, 2, 2)
    with pytest.raises(UnknownName, match="featx layers resnet18"):
        found.resolve("layer9")


def test_heads_are_found_where_a_network_cannot_be_built_without_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = classifiers.build
    devices = []

    def numbers_needed(*words: object) -> nn.Module:
        devices.append(str(torch.get_default_device()))
        if devices[-1] == "meta":
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")
        return real(*words)

    monkeypatch.setattr(classifiers, "build", numbers_needed)
    network = Network("featx", "conv2")
    before = torch.random.get_rng_state()
    assert classifiers.head_modules(network, real(network, 3, 32), 3, (32, 32)) == ("output",)
    assert devices == ["meta", "cpu"]
    torch.random.set_rng_state(before)
    real(network, 3, 32)
    built_once = torch.random.get_rng_state()
    torch.random.set_rng_state(before)
    classifiers.head_modules(network, real(network, 3, 32), 3, (32, 32))
    assert torch.equal(torch.random.get_rng_state(), built_once)


def test_names_inside_of_others_are_left_out() -> None:
    names = ["a.b", "a", "ab", "c.d", "c.d.e", "a"]
    assert classifiers.outermost(names) == ("a", "ab", "c.d")


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "file", "head"),
    [
        ("vgg16", "vgg16.IMAGENET1K_FEATURES.safetensors", "classifier"),
        ("resnet18", "resnet18.IMAGENET1K_V1.safetensors", "fc"),
        ("resnet50", "resnet50.IMAGENET1K_V1.nofc.safetensors", "fc"),
    ],
)
def test_real_weights_come_without_their_classifier(
    shared_dir: Path, name: str, file: str, head: str
) -> None:
    from safetensors.torch import load_file

    path = shared_dir / "weights" / file
    found = load_trainable(name, str(path), n_classes=10, image_size=(32, 32))
    assert (found.head, found.new) == ((head,), (head,))
    tensors = {n: tensor.float() for n, tensor in load_file(path).items()}
    own = {n for n, _ in found.model.named_parameters() if inside(n, [head])}
    assert differing(found, tensors) == own
