"""Fixtures shared by the tests: a tiny random VGG and a seeded generator."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# More threads gain nothing on 32x32 pixels, and wait for those of other workers. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import av
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from torch import Tensor

from nststab import vgg
from nststab.cli import group
from nststab.frames import Frame, Stylizer, as_frames, pictures_of
from nststab.losses import LossSettings, PerceptualLoss, style_target
from nststab.methods import build
from nststab.networks.checkpoints import Checkpoint, save_checkpoint
from nststab.networks.transformation import NetworkConfig, TransformationNetwork
from nststab.vgg import PerceptualNetwork
from nststab.video.clip import open_clip
from nststab.video.images import to_uint8, write_picture

Run = Callable[..., Result]
NETWORKS = ("independent", "recurrent")
TINY = NetworkConfig(widths=(4, 6, 8), blocks=1)
TINY_RECURRENT = NetworkConfig(recurrent=True, widths=(4, 6, 8), blocks=1)
LONGEST = ("test_cli_plan", "test_kill", "test_runner", "test_shares", "test_fuzz", "test_speed", "test_web")
_PLAN = {
    "0": (3, 4),
    "2": (4, 4),
    "5": (4, 6),
    "7": (6, 6),
    "10": (6, 8),
    "12": (8, 8),
    "14": (8, 8),
    "17": (8, 8),
    "19": (8, 8),
    "21": (8, 8),
}


def tiny_state_dict(seed: int = 0) -> dict[str, Tensor]:
    """VGG-16's blocks 1 to 4 with a few random channels, in torchvision's names."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for index, (inputs, outputs) in _PLAN.items():
        state[f"features.{index}.weight"] = (
            torch.randn(outputs, inputs, 3, 3, generator=generator) * (2 / (9 * inputs)) ** 0.5
        )
        state[f"features.{index}.bias"] = torch.randn(outputs, generator=generator) * 0.1
    return state


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first: at the end one worker would have such a file, and the others nothing."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture
def tiny_weights() -> dict[str, Tensor]:
    return tiny_state_dict()


@pytest.fixture
def tiny_vgg() -> PerceptualNetwork:
    return PerceptualNetwork(tiny_state_dict())


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flows that tests compute stay out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of a test need outlive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def cli(arguments: str, **options: Any) -> Result:
    """What `nststab ...` says, and how it ends."""
    return CliRunner().invoke(group, arguments.split(), **options)


@pytest.fixture(autouse=True)
def torch_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch runs the networks where no engine was asked for: compiling for each tiny size takes most of the time."""
    monkeypatch.setattr(build, "best_engine", lambda *_: "torch")


@pytest.fixture
def averaging_vgg(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled VGG's convolutions only average channels: for tests that do not look at what its features tell."""

    def averaged(x: Tensor, weight: Tensor, _bias: Tensor, padding: int = 0) -> Tensor:
        inside = x if padding else x[..., 1:-1, 1:-1]
        return inside.mean(1, keepdim=True) * torch.linspace(0.5, 1.5, len(weight))[:, None, None]

    monkeypatch.setattr(vgg, "F", SimpleNamespace(**vars(F) | {"conv2d": averaged}))


@pytest.fixture
def unrendered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn but, save for tests marked `rendered`, not rendered, which takes longer than experiments."""
    if request.node.get_closest_marker("rendered") is None:
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda _, file, **__: file.write(b"rendered"))


def done(result: Result) -> Result:
    """The result of a command that went well."""
    assert result.exit_code == 0, result.stderr
    return result


def told(result: Result, code: int = 2) -> str:
    """The one line of a refusal, which has this code and says nothing else."""
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


def contents(path: str | Path) -> dict[str, bytes]:
    """The files of a folder, or one file, by name."""
    files = sorted(Path(path).iterdir()) if Path(path).is_dir() else [Path(path)]
    return {file.name: file.read_bytes() for file in files}


def frames_of(clip: str | Path) -> list[Tensor]:
    return [frame.rgb for frame in open_clip(clip).frames()]


def save_frames(folder: str | Path, frames: Iterable[Tensor], name: str = "{:05}.png") -> Path:
    """Writes pictures, (1, 3, H, W) each or (N, 3, H, W), in their order into a folder."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        write_picture(Path(folder) / name.format(number), frame.reshape(1, *frame.shape[-3:]))
    return Path(folder)


def save_davis(davis: str | Path, sequence: str, frames: Sequence[Tensor], foreground: Tensor | None = None) -> None:
    """Adds a sequence to a DAVIS: its frames, and the same foreground (1, 3, H, W) in each of them."""
    masks = [torch.zeros_like(frames[0]) if foreground is None else foreground] * len(frames)
    save_frames(Path(davis, "JPEGImages", "480p", sequence), frames, "{:05}.jpg")
    save_frames(Path(davis, "Annotations", "480p", sequence), masks)


def save_clip(path: str | Path, frames: Iterable[Tensor], codec: str = "libx264", **options: str) -> Path:
    """Codes pictures (1, 3, H, W) at 25 a second, with options of the codec."""
    frames = list(frames)
    if codec == "libx264":  # whose macroblock tree codes tiny frames to other bits in a few runs of a hundred
        options = {"mbtree": "0"} | options
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames[0].shape[-2:]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(to_uint8(frame), format="rgb24")))
        container.mux(stream.encode(None))
    return Path(path)


def pan(frames: int, height: int, width: int, seed: int = 0, step: int = 1) -> list[Tensor]:
    """Pictures of a scene that moves to the left, so many pixels a frame."""
    scene = texture(height, width + step * frames, seed, (12, 24))
    return [scene[..., step * number :][..., :width] for number in range(frames)]


def refused_in_one_line(run: Callable[[str], Result], arguments: str, code: int, message: str) -> None:
    """Beside a folder without pictures, one with a single picture and a text that calls itself one, nothing is left."""
    Path("empty").mkdir()
    Path("one").mkdir()
    write_picture(Path("one/1.png"), torch.rand(1, 3, 48, 48))
    Path("text.png").write_text("this is no picture")
    before = set(Path().rglob("*"))
    assert message in told(run(arguments), code)
    assert set(Path().rglob("*")) == before


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def texture(height: int, width: int, seed: int = 0, cells: tuple[int, int] = (6, 8)) -> Tensor:
    """A smooth picture (1, 3, H, W) of random colours, so many of them down and across."""
    return F.interpolate(rand(1, 3, *cells, seed=seed), (height, width), mode="bicubic").clamp(0, 1)


def random_network(config: NetworkConfig, seed: int = 0) -> TransformationNetwork:
    torch.manual_seed(seed)
    return TransformationNetwork(config)


def tiny_target(picture: Tensor) -> dict[str, Tensor]:
    """The Gram matrices of a picture (1, 3, H, W) by the tiny VGG."""
    return style_target(PerceptualNetwork(tiny_state_dict()), picture, LossSettings().style_layers)


def tiny_loss(picture: Tensor, settings: LossSettings | None = None) -> PerceptualLoss:
    """A loss by the tiny VGG, whose style is that of a picture."""
    return PerceptualLoss(PerceptualNetwork(tiny_state_dict()), tiny_target(picture), settings or LossSettings())


@pytest.fixture
def loss(generator: torch.Generator) -> PerceptualLoss:
    return tiny_loss(torch.rand(1, 3, 32, 32, generator=generator))


def save_vgg(folder: Path) -> Path:
    """Saves the tiny VGG as vgg.safetensors."""
    save_file(tiny_state_dict(), folder / "vgg.safetensors")
    return folder / "vgg.safetensors"


def save_networks(folder: Path, picture: Tensor, methods: Iterable[str] = NETWORKS, seed: int = 0) -> None:
    """Random networks of a few channels in the style of a picture, as a style's folder holds them."""
    folder.mkdir(parents=True, exist_ok=True)
    for method in methods:
        network = random_network(TINY_RECURRENT if method == "recurrent" else TINY, seed)
        save_checkpoint(folder / f"{method}.safetensors", Checkpoint(network, tiny_target(picture)))


def translated(length: int, side: int = 32, shift: int = 2) -> list[Tensor]:
    """A picture that moves to the right, with a little sensor noise of each frame's own."""
    generator = torch.Generator().manual_seed(3)
    wide = torch.rand(1, 3, side, side + shift * length, generator=generator)
    frames = [wide[..., shift * (length - t) :][..., :side] for t in range(length)]
    return [(frame + 0.02 * torch.randn(frame.shape, generator=generator)).clamp(0, 1) for frame in frames]


def noise(count: int, channels: int, height: int, width: int) -> list[Tensor]:
    """Pictures (1, C, H, W) that never look like the paper or the ink of a layout."""
    generator = torch.Generator().manual_seed(0)
    return [0.2 + 0.5 * torch.rand(1, channels, height, width, generator=generator) for _ in range(count)]


def moving_picture(index: int, height: int = 48, width: int = 64) -> Tensor:
    """A smooth picture that differs from frame to frame: a bright column which moves, over a ramp."""
    ramp = torch.linspace(0.2, 0.6, height).view(1, 1, height, 1).expand(1, 3, height, width).clone()
    column = torch.exp(-(((torch.arange(width) - 3 - 5 * index % width) / 5.0) ** 2))
    ramp[:, index % 3] += 0.35 * column
    return ramp.clamp(0, 1)


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean() + 1e-12))


def corner(canvas: Tensor, picture: Tensor) -> tuple[int, int]:
    """Where a picture stands in a canvas, pixel by pixel."""
    height, width = picture.shape[-2:]
    for y, x in (canvas[0, 0] == picture[0, 0, 0, 0]).nonzero().tolist():
        if torch.equal(canvas[..., y : y + height, x : x + width], picture):
            return y, x
    raise AssertionError("the picture is not in the canvas")


def on_pictures(function: Callable[[Iterable[Tensor]], Iterator[Tensor]]) -> Stylizer:
    """A stylizer that makes a stream of pictures (1, 3, H, W) of another."""

    def stylizer(frames: Iterable[Frame]) -> Iterator[Frame]:
        taken: deque[Frame] = deque()

        def pictures() -> Iterator[Tensor]:
            for frame in frames:
                taken.append(frame)
                yield frame.rgb

        for picture in function(pictures()):
            yield taken.popleft().with_rgb(picture)

    return stylizer


def stylized(stylizer: Stylizer, pictures: Iterable[Tensor]) -> Iterator[Tensor]:
    """What a stylizer makes of pictures (1, 3, H, W)."""
    return pictures_of(stylizer(as_frames(pictures)))
