"""Bad input ends in one clear line and exit code 1 or 2: nothing half-written, no temporary file, no traceback."""

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from nststab.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from nststab.networks.transformation import TransformationNetwork
from nststab.video.images import write_picture
from tests.conftest import TINY, TINY_RECURRENT, Run, cli, save_vgg, tiny_state_dict, tiny_target, told


class Hostile:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def save_clip(name: str, frames: int, **options: str) -> bytes:
    with av.open(name, "w", options=options) as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        container.start_encoding()
        for _ in range(frames):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.asarray(Image.open("photo.png")), format="rgb24"))
            )
        container.mux(stream.encode(None))
    return Path(name).read_bytes()


def save_clips() -> None:
    Path("cut.mp4").write_bytes(save_clip("clip.mp4", 3)[:400])
    whole = save_clip("headed.mp4", 3, movflags="faststart")  # its index comes first, so a piece can be opened
    Path("headed.mp4").write_bytes(whole[: whole.index(b"mdat") + 4])
    save_clip("frameless.mp4", 0)
    with av.open("sound.mp4", "w") as container:
        track: Any = container.add_stream("aac", rate=48000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        sound.sample_rate, sound.pts = 48000, 0
        container.mux([*track.encode(sound), *track.encode(None)])
    Path("text.mp4").write_text("this is no video\n" * 40)


def save_pictures() -> None:
    picture = F.interpolate(torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(0)), (24, 32))
    write_picture(Path("photo.png"), picture)
    write_picture(Path("style.png"), picture.flip(1))
    write_picture(Path("tall.png"), picture[..., :16])
    Path("text.png").write_text("this is no picture")
    Path("half.png").write_bytes(Path("photo.png").read_bytes()[:60])
    Path("notes.txt").write_text("this is no style")
    for folder in ("empty", "folder.mp4", "folder.safetensors", "film", "mixed", "damaged"):
        Path(folder).mkdir()
    for name, other in (("film", "photo.png"), ("mixed", "tall.png"), ("damaged", "text.png")):
        Path(name, "1.png").write_bytes(Path("photo.png").read_bytes())
        Path(name, "2.png").write_bytes(Path(other).read_bytes())


def save_weights() -> None:
    state = tiny_state_dict()
    save_vgg(Path())
    save_file({name: value for name, value in state.items() if int(name.split(".")[1]) < 17}, "short.safetensors")
    style = tiny_target(torch.rand(1, 3, 32, 32))
    wide = {layer: torch.eye(64)[None] for layer in style}
    for name, recurrent, grams in (
        ("independent", False, style),
        ("recurrent", True, style),
        ("foreign", False, wide),
        ("gramless", False, {}),
    ):
        network = TransformationNetwork(TINY_RECURRENT if recurrent else TINY)
        save_checkpoint(Path(f"{name}.safetensors"), Checkpoint(network, grams))
    metadata = {"format": "nststab-network-1", "network": '{"recurrent": false, "widths": [9, 9, 9], "blocks": 2}'}
    save_file({"network.encoder.0.convolution.weight": torch.zeros(4, 3, 9, 9)}, "shapes.safetensors", metadata)
    Path("garbage.safetensors").write_bytes(b"\xff\x00garbage" * 40)
    save_numbers_that_are_none(state)
    for name in ("page.safetensors", "page.pth"):  # what a download leaves where a login was asked for
        Path(name).write_text("<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n")
    whole = Path("independent.safetensors").read_bytes()
    Path("short_of_bytes.safetensors").write_bytes(whole[: len(whole) // 2])
    torch.save({f"module.{name}": value for name, value in network.state_dict().items()}, "module.pth")
    Path("short_of_bytes.pth").write_bytes(Path("module.pth").read_bytes()[:-40])
    torch.save({"network.weight": Hostile()}, "hostile.pth")
    Path("hostile.pt").write_bytes(pickle.dumps({"features.0.weight": Hostile()}))


def save_numbers_that_are_none(vgg: dict[str, torch.Tensor]) -> None:
    """Files whose numbers are NaN or infinite, and a network of finite ones whose pictures are not."""
    independent = load_checkpoint(Path("independent.safetensors")).network.state_dict()
    metadata = {"network": '{"recurrent": false, "widths": [4, 6, 8], "blocks": 1}'}
    for name, weight, value in (
        ("nan", "blocks.0.first.convolution.weight", float("nan")),
        ("infinite", "output.bias", float("inf")),
        ("overflowing", "encoder.1.convolution.weight", 3e38),
    ):
        changed = {f"network.{key}": one.clone() for key, one in independent.items()}
        changed[f"network.{weight}"].view(-1)[::2] = value
        changed[f"network.{weight}"].view(-1)[1::2] = -value
        save_file(changed, f"{name}.safetensors", metadata)
    save_file({**vgg, "features.7.bias": vgg["features.7.bias"] * torch.nan}, "nan_vgg.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is good, bad and hostile; no test of a refusal changes it."""
    path = tmp_path_factory.mktemp("bad")
    with contextlib.chdir(path):
        save_pictures()
        save_clips()
        save_weights()
    return path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return cli


def tree() -> dict[Path, tuple[int, int]]:
    """Each file with its size and when it was written last."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in Path().rglob("*")}


INDEPENDENT = "--style independent.safetensors --method independent"
VGG = "--vgg-weights vgg.safetensors"
GATYS = f"--style style.png --method gatys --iterations 1 {VGG}"
CASES = [
    # what comes in
    (f"nothing.mp4 -o out.mp4 {INDEPENDENT}", 2, "'nothing.mp4' does not exist"),
    (f"text.mp4 -o out.mp4 {INDEPENDENT}", 1, "text.mp4: expected a video"),
    (f"cut.mp4 -o out.mp4 {INDEPENDENT}", 1, "cut.mp4: expected a video"),
    (f"headed.mp4 -o out.mp4 {INDEPENDENT}", 1, "headed.mp4: the video ends before its first frame"),
    (f"sound.mp4 -o out.mp4 {INDEPENDENT}", 1, "sound.mp4"),
    (f"frameless.mp4 -o out.mp4 {INDEPENDENT}", 1, "frameless.mp4"),
    (f"folder.mp4 -o out.mp4 {INDEPENDENT}", 1, "folder.mp4: expected a folder of pictures"),
    (f"empty -o out.mp4 {INDEPENDENT}", 1, "empty: expected a folder of pictures"),
    (f"mixed -o out.mp4 {INDEPENDENT}", 1, "2.png: expected 32x24 pixels"),
    (f"damaged -o out.mp4 {INDEPENDENT}", 1, "2.png: expected a picture"),
    (f"text.png -o out.png {INDEPENDENT}", 1, "text.png: expected a picture"),
    (f"half.png -o out.png {INDEPENDENT}", 1, "half.png"),
    # where it goes
    (f"clip.mp4 -o out.avi {INDEPENDENT}", 2, "cannot write .avi; expected .gif, .mkv, .mp4"),
    (f"clip.mp4 -o out {INDEPENDENT}", 2, "cannot write a name without a suffix"),
    (f"clip.mp4 -o out.png {INDEPENDENT}", 2, "a clip does not fit into one picture"),
    (f"clip.mp4 -o clip.mp4 -y {INDEPENDENT}", 2, "the output is the input itself"),
    (f"film -o film/ -y {INDEPENDENT}", 2, "the output is the input itself"),
    (f"clip.mp4 -o out/out.mp4 {INDEPENDENT}", 2, "out: the folder to write to does not exist"),
    (f"clip.mp4 -o notes.txt/ -y {INDEPENDENT}", 1, "notes.txt: expected a folder"),
    (f"clip.mp4 -o /proc/out.mp4 {INDEPENDENT}", 1, "/proc"),
    # the style
    ("clip.mp4 -o out.mp4 --style nothing.png", 2, "the style nothing.png does not exist"),
    ("clip.mp4 -o out.mp4 --style notes.txt", 2, "the style notes.txt is neither a picture nor weights"),
    ("clip.mp4 -o out.mp4 --style empty/", 2, "the style empty/ is a folder"),
    ("clip.mp4 -o out.mp4 --style no_such_style", 2, "no style is named 'no_such_style'"),
    ("clip.mp4 -o out.mp4 --style style.png", 2, "style.png is a picture; train one with `nststab train style`"),
    (
        "clip.mp4 -o out.mp4 --style independent.safetensors",
        2,
        "a network for the method independent, not recurrent",
    ),
    (
        f"clip.mp4 -o out.mp4 {INDEPENDENT.replace('=', ' ').replace('independent.', 'recurrent.')}",
        2,
        "not independent",
    ),
    ("clip.mp4 -o out.mp4 --style vgg.safetensors", 1, "vgg.safetensors holds no transformation network"),
    (
        "clip.mp4 -o out.mp4 --style shapes.safetensors",
        1,
        "shapes.safetensors holds the weights of another architecture",
    ),
    ("clip.mp4 -o out.mp4 --style page.safetensors", 1, "page.safetensors is not a readable .safetensors file"),
    ("clip.mp4 -o out.mp4 --style page.pth", 1, "refused to load page.pth"),
    ("clip.mp4 -o out.mp4 --style short_of_bytes.safetensors", 1, "short_of_bytes.safetensors is not a readable"),
    ("clip.mp4 -o out.mp4 --style short_of_bytes.pth", 1, "refused to load short_of_bytes.pth: it is damaged"),
    ("clip.mp4 -o out.mp4 --style module.pth", 1, "module.pth holds no transformation network of nststab"),
    (
        "clip.mp4 -o out.mp4 --style nan.safetensors --method independent",
        1,
        "nan.safetensors is of no use: network.blocks.0.first.convolution.weight holds NaN or infinity",
    ),
    ("clip.mp4 -o out.mp4 --style infinite.safetensors --method independent", 1, "network.output.bias holds NaN"),
    ("photo.png -o out.png --style overflowing.safetensors --method independent", 1, "its weights overflow"),
    ("clip.mp4 -o out.mp4 --style overflowing.safetensors --method independent", 1, "its weights overflow"),
    ("clip.mp4 -o out.mp4 --style garbage.safetensors", 1, "garbage.safetensors is not a readable .safetensors"),
    ("clip.mp4 -o out.mp4 --style hostile.pth", 1, "refused to load hostile.pth"),
    ("clip.mp4 -o out.mp4 --style hostile.pt", 1, "refused to load hostile.pt"),
    (f"photo.png -o out.png --style gramless.safetensors --method gatys {VGG}", 1, "carries no Gram targets"),
    (f"photo.png -o out.png --style foreign.safetensors --method gatys {VGG}", 1, "of another perceptual network"),
    # the perceptual network
    (f"photo.png -o out.png {GATYS} --vgg-weights nothing.pth", 2, "'nothing.pth' does not exist"),
    (f"photo.png -o out.png {GATYS} --vgg-weights folder.safetensors", 2, "is a directory"),
    (f"photo.png -o out.png {GATYS} --vgg-weights hostile.pth", 1, "refused to load hostile.pth"),
    (f"photo.png -o out.png {GATYS} --vgg-weights independent.safetensors", 1, "expected VGG-16 or VGG-19 weights"),
    (f"photo.png -o out.png {GATYS} --vgg-weights short.safetensors", 1, "these weights have no layer relu4_3"),
    (f"photo.png -o out.png {GATYS} --vgg-weights nan_vgg.safetensors", 1, "nan_vgg.safetensors is of no use"),
    (f"photo.png -o out.png {GATYS} --vgg-weights notes.txt", 1, "expected weights in a .safetensors, .pth or .pt"),
    # numbers and names
    (
        f"clip.mp4 -o out.mp4 {INDEPENDENT} --size 1080p",
        2,
        "'--size': expected the longest side in pixels, got '1080p', which is 1920 of a clip of 16:9",
    ),
    (f"clip.mp4 -o out.mp4 {INDEPENDENT} --size big", 2, "'--size': expected the longest side in pixels, got 'big'"),
    (f"photo.png -o out.png {GATYS} --iterations -3", 2, "'--iterations': expected at least 1, got -3"),
    (f"photo.png -o out.png {GATYS} --iterations 1,2", 2, "--iterations takes one number, and for ruder two at most"),
    (f"photo.png -o out.png {GATYS} --set loss.tv_weight=inf", 2, "loss.tv_weight: expected at least 0, got inf"),
    (f"photo.png -o out.png {GATYS} --seed 99999999999999999999", 2, "'--seed'"),
    (
        f"photo.png -o out.png {GATYS} --init nothing",
        2,
        "--init: nothing: expected content, noise, style:NAME or an existing",
    ),
    (f"photo.png -o out.png {GATYS} --init tall.png", 1, "expected a start picture of the frame's size 32x24"),
    (f"clip.mp4 -o out.mp4 {INDEPENDENT} --device cuda", 1, "no cuda device is available here"),
    # options without effect
    (f"clip.mp4 -o out.mp4 {INDEPENDENT} --iterations 3", 2, "--iterations has no effect on independent"),
    (f"photo.png -o out.png {GATYS} --temporal-weight 3", 2, "--temporal-weight has no effect on gatys"),
    (f"photo.png -o out.png {GATYS} --set gatys.learning_rate=1", 2, "has no effect with gatys.optimizer lbfgs"),
    (f"photo.png -o out.png {GATYS} --set gatys.coarse_iterations=9", 2, "has no effect without several gatys.scales"),
    (
        f"photo.png -o out.png {GATYS} --memory 4G --protect faces",
        2,
        "memory has no effect on a picture that is masked",
    ),
    (f"photo.png -o out.png {GATYS} --precision float16", 2, "--precision: float16 has not the range for gatys"),
    (
        f"photo.png -o out.png --style independent.safetensors --method gatys --set gatys.style_scale=2 {VGG}",
        2,
        "gatys.style_scale has no effect on independent.safetensors",
    ),
]
OTHERS = [
    (f"optimize nothing.png style.png -o out.png {VGG}", 2, "'nothing.png' does not exist"),
    (f"optimize photo.png nothing.png -o out.png {VGG}", 2, "the style nothing.png does not exist"),
    (f"optimize photo.png text.png -o out.png {VGG}", 1, "text.png: expected a picture"),
    (f"optimize photo.png style.png -o out.png {VGG} --temporal-weight 3", 2, "has no effect on gatys"),
    (
        "train average independent.safetensors recurrent.safetensors -o out.safetensors",
        1,
        "independent.safetensors and recurrent.safetensors have no average: expected two networks of one training, "
        "got two kinds: independent and recurrent",
    ),
    (f"stylize clip.mp4 -o photo.png {INDEPENDENT}", 2, "photo.png exists; say -y to overwrite it"),
    ("stylize clip.mp4 -o out.mp4", 2, "--style: none was given; there are "),
    ("train average independent.safetensors nan.safetensors -o out.safetensors", 1, "nan.safetensors is of no use"),
    (f"optimize clip.mp4 style.png -o out.png {VGG}", 2, "a clip does not fit into one picture"),
    (f"compare clip.mp4 -o out.mp4 --style style.png --methods independent {VGG}", 2, "needs a trained style"),
    (f"compare clip.mp4 -o out.mp4 --style independent.safetensors {VGG}", 2, "not recurrent"),
    (f"compare damaged -o out.mp4 --style independent.safetensors --methods independent {VGG}", 1, "2.png"),
    (f"compare clip.mp4 -o out.mp4 --style style.png --patches 0 {VGG}", 2, "'--patches'"),
    (f"compare clip.mp4 -o out.mp4 --style independent.safetensors --methods , {VGG}", 2, "'--methods'"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "message"), [(f"stylize {case[0]}", *case[1:]) for case in CASES] + OTHERS
)
def test_bad_input_ends_in_one_line(run: Run, arguments: str, code: int, message: str) -> None:
    before = tree()
    assert message in told(run(arguments), code)
    assert tree() == before  # so nothing was written, and the hostile pickle made no folder


def test_the_hostile_pickles_are_hostile(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads((folder / "hostile.pt").read_bytes())
    assert Path("executed").is_dir()
