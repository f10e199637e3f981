"""The perceptual network, against torchvision's own VGG with a sixteenth of the channels and random weights."""

from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from nststab.networks.checkpoints import read_tensors
from nststab.styles.shipped import perceptual_weights
from nststab.vgg import CAFFE, TORCHVISION, Normalization, PerceptualNetwork, normalization
from tests.conftest import tiny_state_dict

PARTS = [(number, part) for number in (0, 3) for part in ("weight", "bias")]

VGG16 = ["relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2", "relu3_3"]
VGG16 += ["relu4_1", "relu4_2", "relu4_3", "relu5_1", "relu5_2", "relu5_3"]
VGG19 = ["relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2", "relu3_3", "relu3_4"]
VGG19 += ["relu4_1", "relu4_2", "relu4_3", "relu4_4", "relu5_1", "relu5_2", "relu5_3", "relu5_4"]


def torchvision_layers(kind: str, batch_norm: bool = False) -> nn.Sequential:
    """`features` of torchvision's VGG-16 ("D") or VGG-19 ("E"), slim, with weights that keep features' size."""
    torch.manual_seed(0)
    widths = [width if isinstance(width, str) else width // 16 for width in cfgs[kind]]
    layers: nn.Sequential = make_layers(widths, batch_norm=batch_norm)
    for module in layers:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias)  # type: ignore[arg-type]
    return layers.requires_grad_(False)


def state_dict(layers: nn.Sequential) -> dict[str, Tensor]:
    return {f"features.{name}": value for name, value in layers.state_dict().items()}


@pytest.mark.parametrize(("kind", "names"), [("D", VGG16), ("E", VGG19)])
def test_equals_torchvision_at_every_layer(kind: str, names: list[str]) -> None:
    layers = torchvision_layers(kind)
    images = torch.rand(2, 3, 35, 33)
    x = images * 255 - torch.tensor([123.68, 116.78, 103.94]).view(3, 1, 1)
    expected = []
    for module in layers:
        x = module(x)
        if isinstance(module, nn.ReLU):
            expected.append(x.clone())

    network = PerceptualNetwork(state_dict(layers))
    assert network.layers == tuple(names)
    features = network(images, names)
    assert list(features) == names
    for name, reference in zip(names, expected, strict=True):
        error = (features[name] - reference).norm() / reference.norm()
        assert error < 1e-4, name


def test_a_truncated_network_ends_early() -> None:
    weights = {key: value for key, value in state_dict(torchvision_layers("D")).items() if int(key.split(".")[1]) <= 21}
    assert PerceptualNetwork(weights).layers == tuple(VGG16[:10])


@pytest.mark.parametrize(("layers", "convolutions"), [(["relu1_1"], 1), (["relu2_1", "relu1_2"], 3), (["relu4_3"], 10)])
def test_computes_no_deeper_than_asked(
    tiny_vgg: PerceptualNetwork, monkeypatch: pytest.MonkeyPatch, layers: list[str], convolutions: int
) -> None:
    convolve = Mock(wraps=F.conv2d)
    monkeypatch.setattr(F, "conv2d", convolve)
    assert set(tiny_vgg(torch.rand(1, 3, 16, 16), layers)) == set(layers)
    assert convolve.call_count == convolutions


def test_small_images_serve_the_layers_before_the_pooling(tiny_vgg: PerceptualNetwork) -> None:
    assert tiny_vgg(torch.rand(1, 3, 1, 5), ["relu1_2"])["relu1_2"].shape == (1, 4, 1, 5)
    with pytest.raises(ValueError, match="5x1 pixels are too small for relu2_1"):
        tiny_vgg(torch.rand(1, 3, 1, 5), ["relu2_1"])


def test_an_unknown_layer_is_answered_with_the_reach(tiny_vgg: PerceptualNetwork) -> None:
    with pytest.raises(ValueError, match="no layer relu5_1; they reach relu1_1 to relu4_3"):
        tiny_vgg(torch.rand(1, 3, 32, 32), ["relu1_1", "relu5_1"])
    with pytest.raises(ValueError, match="no layer conv1_1"):
        tiny_vgg.require(["conv1_1"])


def without(key: str) -> dict[str, Tensor]:
    weights = state_dict(torchvision_layers("D"))
    del weights[key]
    return weights


FOREIGN = {
    "nothing": {},
    "batch normalisation": state_dict(torchvision_layers("D", batch_norm=True)),
    "AlexNet": {"features.0.weight": torch.zeros(64, 3, 11, 11), "features.0.bias": torch.zeros(64)},
    "SqueezeNet": {"features.0.weight": torch.zeros(8, 3, 3, 3), "features.3.squeeze.weight": torch.zeros(4, 8, 1, 1)},
    "DenseNet": {"features.conv0.weight": torch.zeros(64, 3, 7, 7)},
    "ResNet": {"conv1.weight": torch.zeros(64, 3, 7, 7)},
    "a transformation network": {"network.output.weight": torch.zeros(3, 32, 9, 9)},
    "a missing bias": without("features.5.bias"),
    "a missing first convolution": without("features.0.weight"),
    "a missing convolution": without("features.7.weight"),
}


@pytest.mark.parametrize("weights", FOREIGN.values(), ids=FOREIGN.keys())
def test_other_weights_are_refused_in_one_line(weights: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"^expected [^\n]*$"):
        PerceptualNetwork(weights)


def test_a_gap_between_the_blocks_is_refused() -> None:
    weights = state_dict(torchvision_layers("D"))
    shifted = {key.replace("features.28", "features.32"): value for key, value in weights.items()}
    with pytest.raises(ValueError, match=r"features\.26 and features\.32"):
        PerceptualNetwork(shifted)


def test_weights_are_frozen_and_gradients_reach_the_images(tiny_vgg: PerceptualNetwork) -> None:
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    torch.autograd.backward(tiny_vgg(images, ["relu4_3"])["relu4_3"].sum())
    assert images.grad is not None
    assert images.grad.norm() > 0
    assert not any(parameter.requires_grad for parameter in tiny_vgg.parameters())


def test_the_bundled_weights() -> None:
    tensors, metadata = read_tensors(perceptual_weights())
    network = PerceptualNetwork(tensors)
    assert network.layers == tuple(VGG16[:10])
    assert [len(tensors[f"features.{index}.bias"]) for index in (0, 5, 10, 21)] == [64, 128, 256, 512]
    features = network(torch.full((1, 3, 9, 9), 0.5), ["relu1_1"])["relu1_1"]
    assert features.isfinite().all()
    inside = features[..., 1:-1, 1:-1]
    assert torch.allclose(inside, inside[..., :1, :1].expand_as(inside), atol=1e-3)  # flat in, flat out
    assert 0 < inside.mean() < 255

    assert "Visual Geometry Group" in metadata["source"]
    assert "CC BY 4.0" in metadata["source"]
    assert [float(number) for number in metadata["mean"].split(",")] == list(CAFFE.mean)
    assert [float(number) for number in metadata["std"].split(",")] == pytest.approx(list(CAFFE.std))


def test_the_bundled_weights_tell_an_edge_from_a_flat_picture() -> None:
    """Trained filters are tuned to edges, so an edge changes relu2_2 more than as much change of brightness does."""
    network = PerceptualNetwork(read_tensors(perceptual_weights())[0])
    flat, bright, edge = (torch.full((1, 3, 16, 16), value) for value in (0.45, 0.55, 0.45))
    edge[..., 8:] = 0.55
    grey, brighter, edged = (network(image, ["relu2_2"])["relu2_2"][..., 2:-2, 2:-2] for image in (flat, bright, edge))
    assert (edged - grey).norm() > (brighter - grey).norm()
    with safe_open(perceptual_weights(), "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118


def test_average_pooling_by_hand() -> None:
    """The second convolution passes on the means, or the largest, of 2x2 pixels of the first."""
    identity = torch.zeros(3, 3, 3, 3)
    identity[range(3), range(3), 1, 1] = 1
    state = {f"features.{n}.{part}": identity if part == "weight" else torch.zeros(3) for n, part in PARTS}
    plain = Normalization((0, 0, 0), (1, 1, 1))
    images = torch.tensor([[1.0, 2, 3, 4], [5, 6, 0, 9]]).expand(1, 3, 2, 4) / 10
    for pooling, expected in (("average", [0.35, 0.4]), ("max", [0.6, 0.9])):
        pooled = PerceptualNetwork(state, plain, pooling)(images, ["relu2_1"])["relu2_1"]  # type: ignore[arg-type]
        torch.testing.assert_close(pooled, torch.tensor(expected).expand(1, 3, 1, 2))


def test_beside_repeated_features_a_flat_picture_has_no_edge() -> None:
    flat = torch.full((1, 3, 24, 32), 0.9)
    for padding in ("zeros", "replicate"):
        network = PerceptualNetwork(tiny_state_dict(), padding=padding)
        features = network(flat, ["relu2_1"])["relu2_1"]
        spread = float((features - features[:, :, 6:7, 8:9]).abs().amax())
        assert (spread < 1e-3) == (padding == "replicate")


def test_the_fingerprint_tells_weights_and_pooling_apart() -> None:
    own = PerceptualNetwork(tiny_state_dict()).fingerprint
    assert own == PerceptualNetwork(tiny_state_dict()).fingerprint
    others = {PerceptualNetwork(tiny_state_dict(1)).fingerprint}
    others.add(PerceptualNetwork(tiny_state_dict(), pooling="average").fingerprint)
    assert len(others - {own}) == 2


def test_another_pooling_is_refused() -> None:
    with pytest.raises(ValueError, match="max or average pooling, got mean"):
        PerceptualNetwork({}, pooling="mean")  # type: ignore[arg-type]


def test_the_normalization_follows_the_metadata_or_the_classifier() -> None:
    plain = {"features.0.weight": torch.zeros(4, 3, 3, 3)}
    assert normalization(plain, {}) == CAFFE
    assert normalization({**plain, "classifier.0.bias": torch.zeros(2)}, {}) == TORCHVISION
    assert normalization({**plain, "classifier.0.bias": torch.full((2,), torch.nan)}, {}) == CAFFE  # ..._FEATURES
    stated = normalization({**plain, "classifier.0.bias": torch.zeros(2)}, {"mean": "0.1,0.2,0.3", "std": "1,2,3"})
    assert stated == ((0.1, 0.2, 0.3), (1, 2, 3))


def test_weights_see_the_input_normalized_as_they_expect() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(4, 3, 3, 3, generator=generator), torch.randn(4, generator=generator)
    images = torch.rand(1, 3, 8, 8, generator=generator)
    network = PerceptualNetwork({"features.0.weight": weight, "features.0.bias": bias}, TORCHVISION)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in TORCHVISION)
    expected = F.relu(F.conv2d((images - mean) / std, weight, bias, padding=1))
    torch.testing.assert_close(network(images, ["relu1_1"])["relu1_1"], expected)
