"""Checkpoints, good and hostile, and the feed-forward stylizer's recurrence and streaming."""

import io
import json
import os
import pickle
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nststab.frames import as_frames
from nststab.methods.feed_forward import FeedForward
from nststab.networks.checkpoints import (
    FORMAT,
    TARGET_FORMAT,
    Checkpoint,
    load_checkpoint,
    load_target,
    read_tensors,
    save_checkpoint,
    save_target,
)
from nststab.networks.perceptual import load_perceptual
from nststab.networks.transformation import NetworkConfig, TransformationNetwork
from nststab.vgg import Normalization, PerceptualNetwork, Pooling
from tests.conftest import TINY_RECURRENT, psnr, stylized, tiny_state_dict

TINY = NetworkConfig(widths=(4, 6, 8), blocks=2)


def network(config: NetworkConfig = TINY) -> TransformationNetwork:
    torch.manual_seed(0)
    return TransformationNetwork(config)


def style() -> dict[str, Tensor]:
    features = torch.randn(1, 8, 50, generator=torch.Generator().manual_seed(1)) * 300
    return {"relu1_2": features @ features.mT / 400, "relu4_3": torch.eye(4)[None] * 1e-3}


def clip(length: int = 4, size: int = 20) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(1, 3, size, size, generator=generator) for _ in range(length)]


# Checkpoints


@pytest.mark.parametrize("config", [TINY, TINY_RECURRENT])
def test_a_checkpoint_comes_back(tmp_path: Path, config: NetworkConfig) -> None:
    path = tmp_path / "style.safetensors"
    training = {"steps": 6000, "losses": {"content": 0.5}, "layers": ["relu1_2"], "name": "große Welle"}
    original = network(config)
    save_checkpoint(path, Checkpoint(original, style(), training))
    loaded = load_checkpoint(path)
    assert loaded.network.config == config
    assert loaded.training == training
    for name, value in original.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value.half().float()), name
    for layer, gram in style().items():
        assert loaded.style[layer].dtype == torch.float32
        assert (loaded.style[layer] - gram).norm() / gram.norm() < 1e-3
    assert list(loaded.style) == list(style())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_one_checkpoint_gives_one_file(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.safetensors" for number in range(6)]  # unsorted, one in six would agree by chance
    for path in files:
        save_checkpoint(path, Checkpoint(network(), style(), {"steps": 3}))
    assert len({path.read_bytes() for path in files}) == 1
    assert int.from_bytes(files[0].read_bytes()[:8], "little") % 8 == 0


def test_targets_come_back_and_one_training_gives_one_file(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.safetensors" for number in range(6)]
    training = {"perceptual": "0123", "style_size": 512}
    for path in files:
        save_target(path, style(), training)
    assert len({path.read_bytes() for path in files}) == 1
    loaded, record = load_target(files[0])
    assert record == training
    assert {layer: gram.half().float().tolist() for layer, gram in style().items()} == {
        layer: gram.tolist() for layer, gram in loaded.items()
    }
    assert {gram.dtype for gram in loaded.values()} == {torch.float32}
    with safe_open(files[0], "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118
        assert file.metadata()["format"] == TARGET_FORMAT


def test_the_targets_of_a_checkpoint_are_those_of_a_file(tmp_path: Path) -> None:
    one, other = tmp_path / "network.safetensors", tmp_path / "target.safetensors"
    loud = style() | {"relu3_3": torch.tensor([[[90000.0, 1.0], [1.0, 2.0]]])}  # beyond float16
    save_checkpoint(one, Checkpoint(network(), loud))
    save_target(other, loud, {})
    kept, target = load_checkpoint(one).style, load_target(other)[0]
    assert kept.keys() == target.keys()
    assert all(torch.equal(kept[layer], target[layer]) for layer in target)
    assert torch.equal(kept["relu3_3"], loud["relu3_3"])  # infinity would turn every later loss into NaN


def test_weights_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    broken = network()
    broken.load_state_dict(broken.state_dict() | {"output.bias": torch.tensor([0.0, torch.nan, 0.0])})
    for checkpoint in (
        Checkpoint(broken),
        Checkpoint(network(), style() | {"relu3_3": torch.full((1, 2, 2), -torch.inf)}),
    ):
        with pytest.raises(
            ValueError, match=r"not written: (network\.output\.bias|style\.relu3_3) holds NaN or infinity"
        ):
            save_checkpoint(tmp_path / "mine.safetensors", checkpoint)
    assert not list(tmp_path.iterdir())


def test_whole_matrices_of_older_files_are_read_like_triangles(tmp_path: Path) -> None:
    gram = torch.tensor([[[4.0, 1.0, 2.0], [1.0, 5.0, 3.0], [2.0, 3.0, 6.0]]])
    save_target(tmp_path / "target.safetensors", {"relu1_2": gram}, {})
    assert read_tensors(tmp_path / "target.safetensors")[0]["style.relu1_2"].tolist() == [4, 1, 2, 5, 3, 6]
    save_file({"style.relu1_2": gram}, tmp_path / "old.safetensors", {"format": "nststab-target-1"})
    for name in ("target", "old"):
        assert torch.equal(load_target(tmp_path / f"{name}.safetensors")[0]["relu1_2"], gram)


GRAM = {"style.relu1_2": torch.eye(4)[None]}
NO_TARGETS: dict[str, tuple[dict[str, Tensor], dict[str, str]]] = {
    "another format": (GRAM, {"format": "nststab-target-3"}),
    "no format": (GRAM, {}),
    "no targets": ({"relu1_2": torch.eye(4)[None]}, {"format": TARGET_FORMAT}),
    "not square": ({"style.relu1_2": torch.zeros(1, 4, 5)}, {"format": TARGET_FORMAT}),
    "two of a layer": ({"style.relu1_2": torch.zeros(2, 4, 4)}, {"format": TARGET_FORMAT}),
    "a number": ({"style.relu1_2": torch.tensor(1.0)}, {"format": TARGET_FORMAT}),
    "no triangle": ({"style.relu1_2": torch.zeros(5)}, {"format": TARGET_FORMAT}),
    "nothing": ({"style.relu1_2": torch.zeros(0)}, {"format": TARGET_FORMAT}),
    "not finite": ({"style.relu1_2": torch.full((1, 4, 4), torch.inf)}, {"format": TARGET_FORMAT}),
    "record no object": (GRAM, {"format": TARGET_FORMAT, "training": "[1]"}),
}


@pytest.mark.parametrize(("tensors", "metadata"), NO_TARGETS.values(), ids=NO_TARGETS.keys())
def test_what_are_no_targets_is_refused_in_one_line(
    tmp_path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]
) -> None:
    path = tmp_path / "target.safetensors"
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match=r"^[^\n]*target\.safetensors[^\n]*$"):
        load_target(path)


def test_files_of_targets_and_networks_are_told_apart(tmp_path: Path) -> None:
    network_file, target_file = tmp_path / "network.safetensors", tmp_path / "target.safetensors"
    save_checkpoint(network_file, Checkpoint(network(), style()))
    save_target(target_file, style(), {})
    with pytest.raises(ValueError, match=r"network\.safetensors holds no Gram targets of nststab .*nststab-target-2"):
        load_target(network_file)
    with pytest.raises(ValueError, match=r"target\.safetensors holds no transformation network of nststab"):
        load_checkpoint(target_file)
    with pytest.raises(FileNotFoundError, match=r"missing\.safetensors"):
        load_target(tmp_path / "missing.safetensors")
    with pytest.raises(ValueError, match=r"\.safetensors files, got target\.pth"):
        save_target(tmp_path / "target.pth", style(), {})


def test_a_checkpoint_is_float16_and_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    save_checkpoint(path, Checkpoint(network(), style()))
    with safe_open(path, "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118
        metadata = file.metadata()
    assert metadata["format"] == FORMAT
    assert json.loads(metadata["network"]) == {**asdict(TINY), "widths": [4, 6, 8], "styles": []}


def test_in_integers_each_weight_is_within_half_a_step_and_the_picture_the_same_to_the_eye(tmp_path: Path) -> None:
    trained = network()
    state = trained.state_dict()
    state["encoder.0.convolution.weight"][1] *= 100  # a step of its own
    state["encoder.0.convolution.weight"][2] = 0
    trained.load_state_dict(state)
    save_checkpoint(tmp_path / "a.safetensors", Checkpoint(trained), torch.int8)
    save_checkpoint(tmp_path / "b.safetensors", Checkpoint(trained))
    read = load_checkpoint(tmp_path / "a.safetensors").network
    for name, value in trained.named_parameters():
        step = value.abs().amax((1, 2, 3), keepdim=True) / 47 if value.ndim == 4 else value.abs() / 500
        assert bool(((read.state_dict()[name] - value).abs() <= 0.51 * step + 1e-9).all()), name
    weight = read.state_dict()["encoder.0.convolution.weight"]
    assert bool((weight[2] == 0).all())
    save_checkpoint(tmp_path / "c.safetensors", Checkpoint(read), torch.int8)
    again = load_checkpoint(tmp_path / "c.safetensors").network.state_dict()
    assert all(torch.allclose(again[name], value, rtol=1e-3) for name, value in read.state_dict().items())
    frame = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert psnr(read(frame), trained(frame)) > 45


def test_a_pth_of_the_same_tensors_is_the_same_network(tmp_path: Path) -> None:
    for config in (TINY, TINY_RECURRENT):
        safe, pickled = tmp_path / "style.safetensors", tmp_path / "style.pth"
        save_checkpoint(safe, Checkpoint(network(config), style()))
        torch.save(read_tensors(safe)[0], pickled)
        expected, loaded = load_checkpoint(safe), load_checkpoint(pickled)
        assert loaded.network.config == config
        assert loaded.training == {}
        with torch.no_grad():
            assert torch.equal(loaded.network(clip()[0]), expected.network(clip()[0]))
        assert all(torch.equal(loaded.style[layer], gram) for layer, gram in expected.style.items())


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.trace}'",)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, form: str) -> None:
    trace, path = tmp_path / "trace", tmp_path / "evil.pth"
    payload = {"network.output.weight": torch.zeros(3), "evil": Hostile(trace)}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(Hostile(trace)))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ValueError, match=r"^refused to load [^\n]*$"):
        load_checkpoint(path)
    assert not trace.exists()


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def state() -> dict[str, Tensor]:
    return {f"network.{name}": value for name, value in network().state_dict().items()}


NO_CHECKPOINTS = {
    "empty.safetensors": b"",
    "text.safetensors": b"Dear diary, today I trained a network.\n" * 9,
    "picture.safetensors": b"\x89PNG\r\n\x1a\n" + bytes(99),
    "cut.safetensors": struct.pack("<Q", 100) + b'{"a":',
    "empty.pth": b"",
    "text.pth": b"Dear diary, today I trained a network.\n" * 9,
    "zeros.pt": bytes(99),
    "cut.pth": pickled(state())[:3000],
    "broken.pth": pickled(state()).replace(b"torch._utils", b"torch._utilz"),
    "list.pth": pickled([torch.zeros(2)]),
    "numbered.pth": pickled({1: torch.zeros(2)}),
    "nested.pth": pickled({"state_dict": state()}),
    "vgg.pth": pickled({"features.0.weight": torch.zeros(4, 3, 3, 3)}),
    "flat.pth": pickled({f"network.encoder.{index}.convolution.weight": torch.zeros(2) for index in range(3)}),
    "partial.pth": pickled(dict(list(state().items())[:5])),
    "weights.onnx": b"x",
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", NO_CHECKPOINTS)
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(NO_CHECKPOINTS[name])
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        load_checkpoint(path)


DESCRIPTIONS = {
    "wider": {"network": json.dumps({"widths": [4, 6, 16], "blocks": 2, "recurrent": False})},
    "longer": {"network": json.dumps({"widths": [4, 6, 8], "blocks": 3, "recurrent": False})},
    "recurrent": {"network": json.dumps({"widths": [4, 6, 8], "blocks": 2, "recurrent": True})},
    "newer setting": {"network": json.dumps({"widths": [4, 6, 8], "blocks": 2, "attention": True})},
    "no JSON": {"network": "{"},
    "a list": {"network": "[]"},
    "two widths": {"network": json.dumps({"widths": [4, 6]})},
    "text as widths": {"network": json.dumps({"widths": "abc"})},
    "another format": {"format": "nststab-network-2"},
    "record no JSON": {"training": "{"},
    "record no object": {"training": "[1]"},
}


@pytest.mark.parametrize("metadata", DESCRIPTIONS.values(), ids=DESCRIPTIONS.keys())
def test_weights_and_description_must_fit(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tmp_path / "other.safetensors"
    save_file(state(), path, {"format": FORMAT, **metadata})
    with pytest.raises(ValueError, match=r"^[^\n]*other\.safetensors[^\n]*$"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["missing.safetensors", "missing.pth"])
def test_a_missing_file_is_said_to_be_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=name):
        load_checkpoint(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=name):
        read_tensors(tmp_path / name)


def test_perceptual_weights_are_read_with_what_they_expect(tmp_path: Path) -> None:
    path = tmp_path / "vgg.safetensors"
    save_file(tiny_state_dict(), path, {"mean": "0.1,0.2,0.3", "std": "1,2,3"})
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    other = Normalization((0.1, 0.2, 0.3), (1, 2, 3))
    poolings: tuple[Pooling, ...] = ("max", "average")
    for pooling in poolings:
        expected = PerceptualNetwork(tiny_state_dict(), other, pooling)
        found = load_perceptual(path, pooling)
        assert torch.equal(found(images, ["relu2_2"])["relu2_2"], expected(images, ["relu2_2"])["relu2_2"])
        assert found.fingerprint == expected.fingerprint


def test_a_network_in_place_of_perceptual_weights_is_named(tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    save_checkpoint(path, Checkpoint(network()))
    with pytest.raises(ValueError, match=r"^[^\n]*style\.safetensors: expected VGG-16 or VGG-19 weights"):
        load_perceptual(path)


def test_nothing_is_left_behind_where_a_checkpoint_cannot_be_written(tmp_path: Path) -> None:
    occupied = tmp_path / "folder.safetensors"
    occupied.mkdir()
    with pytest.raises(OSError, match=r"folder\.safetensors"):
        save_checkpoint(occupied, Checkpoint(network()))
    with pytest.raises(FileNotFoundError, match=r"nowhere/style\.safetensors"):
        save_checkpoint(tmp_path / "nowhere" / "style.safetensors", Checkpoint(network()))
    with pytest.raises(ValueError, match=r"\.safetensors files, got style\.pth"):
        save_checkpoint(tmp_path / "style.pth", Checkpoint(network()))
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "style.safetensors", Checkpoint(network(), {}, {"path": tmp_path}))
    assert list(tmp_path.rglob("*")) == [occupied]


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "style.safetensors"
    save_checkpoint(path, Checkpoint(network()))
    before = path.read_bytes()

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, Checkpoint(network(TINY_RECURRENT)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# The feed-forward stylizer


def test_an_independent_network_draws_frame_by_frame() -> None:
    model = network()
    outputs = list(stylized(FeedForward(model), clip()))
    with torch.no_grad():
        for frame, output in zip(clip(), outputs, strict=True):
            assert torch.equal(output, model(frame))


def test_a_recurrent_network_is_fed_its_last_picture() -> None:
    model = network(TINY_RECURRENT)
    outputs = list(stylized(FeedForward(model), clip()))
    previous = torch.zeros_like(clip()[0])
    with torch.no_grad():
        for frame, output in zip(clip(), outputs, strict=True):
            previous = model(frame, previous)
            assert torch.equal(output, previous)
        assert not torch.allclose(outputs[-1], model(clip()[-1]), atol=1e-3)


def test_a_frame_is_taken_only_when_it_is_due() -> None:
    source = as_frames(clip(9))
    outputs = FeedForward(network(TINY_RECURRENT))(source)
    next(outputs), next(outputs)
    assert next(source).number == 2


def test_a_result_can_take_part_in_a_loss() -> None:
    output = next(stylized(FeedForward(network()), clip()))
    assert (output * torch.ones(1, requires_grad=True)).requires_grad  # unlike an inference tensor


@pytest.mark.parametrize("config", [TINY, TINY_RECURRENT])
def test_bfloat16_is_close(config: NetworkConfig) -> None:
    exact = list(stylized(FeedForward(network(config)), clip()))
    fast = list(stylized(FeedForward(network(config), precision="bfloat16"), clip()))
    for a, b in zip(exact, fast, strict=True):
        assert b.dtype == torch.float32
        assert 0 < (a - b).abs().mean() < 0.01


def test_a_light_network_of_several_styles_comes_back_with_their_names(tmp_path: Path) -> None:
    config = NetworkConfig(True, (4, 6, 8), 1, 16, "light", ("the_great_wave@512", "mosaic@1024"))
    model = network(config)
    save_checkpoint(tmp_path / "all.safetensors", Checkpoint(model), torch.float32)
    again = load_checkpoint(tmp_path / "all.safetensors").network
    assert again.config == config
    frame, style = torch.rand(1, 3, 21, 30), torch.tensor([[0.25, 0.75]])
    assert torch.equal(again(frame, None, style), model(frame, None, style))
