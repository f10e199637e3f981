"""The commands of README and docs: each is one of ours, with options and names that there are, and does not fail.

They run in a folder of small inputs. What takes long and can be planned is planned; an experiment is read up to the
call of the library; a program of benchmarks/ up to its options.
"""

import argparse
import ast
import inspect
import re
import runpy
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import av
import pytest
import torch
from click.testing import CliRunner

import nststab
from nststab import experiments
from nststab.cli import group
from nststab.cli.evaluate import EXPERIMENTS
from nststab.flow.files import write_flo
from nststab.losses import LossSettings
from nststab.methods.settings import OptimizationSettings
from nststab.networks.checkpoints import Checkpoint, save_checkpoint
from nststab.networks.rows import PHOTOGRAPH
from nststab.networks.transformation import NetworkConfig, TransformationNetwork
from nststab.tasks import clip_plan, plan, preview, train_network
from nststab.tasks.plan import Measured, Seconds
from nststab.video.formats import PICTURE_SUFFIXES
from nststab.video.images import to_uint8, write_picture
from tests.conftest import done

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_PROGRAMS = ("nststab", "python", "pytest", "make", "ffmpeg")
_OUTPUTS = ("-o", "--output", "--html", "--json", "--sheet", "--latex", "--csv", "--figure")
_VIDEOS = {
    ".mp4": "libx264",
    ".mkv": "libx264",
    ".mov": "libx264",
    ".avi": "mpeg4",
    ".webm": "libvpx-vp9",
    ".gif": "gif",
}
_PLANNED = ("stylize", "optimize", "compare", "train", "flow estimate")
pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="a source distribution has no docs")


def commands(page: Path) -> list[str]:
    """Commands in lines of code, which may go on after a backslash; and in the text, of which only options are read."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    lines = re.findall(r"^    (?:\.venv/bin/)?(\S.*)$", text, re.MULTILINE)
    mentioned = re.findall(r"`(nststab [^`]+)`", text)
    return [line for line in lines if line.split()[0] in _PROGRAMS] + [
        f"{' '.join(line.split())} --help" for line in mentioned if "..." not in line
    ]


def programs(command: str) -> Iterator[list[str]]:
    """The words of each program of a pipe."""
    for part in re.split(r" \| ", command):
        yield [word.removesuffix(",...") for word in shlex.split(part, comments=True) if word != "..."]


def outputs(words: list[str]) -> list[str]:
    return [word for before, word in pairwise(words) if before in _OUTPUTS and word != "-"]


PIPES = [(page, command) for page in PAGES for command in commands(page)]
OURS = [(page, words) for page, command in PIPES for words in programs(command) if words[0] == "nststab"]
ONCE = {" ".join(words[1:]): (page, words) for page, words in reversed(OURS)}

OTHERS = [words for _, command in PIPES for words in programs(command) if words[0] in ("python", "pytest", "make")]


def picture() -> torch.Tensor:
    ramp = torch.linspace(0, 1, 64)
    return torch.stack([ramp.expand(48, 64), ramp.flip(0).expand(48, 64), ramp[:48, None].expand(48, 64)])[None]


def save_clip(path: Path) -> None:
    """Six frames; some of a film are where documents cut a part from it, which has two."""
    later = {"film": (2000, 2001, 18750, 18751), "part": ()}.get(path.stem, range(2, 6))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(_VIDEOS[path.suffix], rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "rgb8" if path.suffix == ".gif" else "yuv420p"
        for number in (*range(2), *later):
            frame = av.VideoFrame.from_ndarray(to_uint8(picture()), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode(None))


def provide(name: str) -> None:
    """Makes what a word of a command names, by its looks, where it is not there."""
    path = Path(name)
    suffix = path.suffix.lower()
    is_style = name == "painting" or path.parent.name.lower() == "styles"
    if re.match(r"DAVIS/|results/", name):  # a folder of sequences
        path = path / "camel"
        name = f"{path}/"
    if path.exists() or name.startswith("-") or not (suffix or name.endswith("/") or name.isupper() or is_style):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix in PICTURE_SUFFIXES and "%" not in name:
        write_picture(path, picture())
    elif suffix in PICTURE_SUFFIXES:
        path.parent.mkdir(exist_ok=True)
        for number in range(6):
            write_picture(path.with_name(path.name % number), picture())
    elif suffix in _VIDEOS:
        save_clip(path)
    elif suffix == ".safetensors":
        save_network(path, "recurrent" in path.stem)
    elif suffix == ".flo":
        write_flo(path, torch.zeros(1, 2, 48, 64))
    elif is_style:
        path.mkdir()
        for method in ("independent", "recurrent"):
            save_network(path / f"{method}.safetensors", method == "recurrent")
    else:
        path.mkdir()
        write_flo(path / "forward_1_2.flo", torch.zeros(1, 2, 48, 64))
        for number in range(6):
            write_picture(path / f"{number}.png", picture())


def save_network(path: Path, recurrent: bool) -> None:
    own: Any = {"kind": "light", "styles": ("own@700", PHOTOGRAPH)} if path.stem == "own" else {}  # of `train network`
    network = TransformationNetwork(NetworkConfig(recurrent, (4, 6, 8), 1, **own))
    layers = LossSettings().style_layers
    sides = (64, 128, 256, 512)  # of the bundled network
    save_checkpoint(
        path, Checkpoint(network, {layer: torch.eye(side)[None] for layer, side in zip(layers, sides, strict=True)})
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which nothing is measured for a plan, and optimisations and experiments end where they begin."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preview, "_STAND_IN", OptimizationSettings(iterations=(1,)))
    monkeypatch.setattr(
        plan, "measured", lambda _step, width, height, **_: Measured(Seconds(1, 1), 0, 0, width, height)
    )
    monkeypatch.setattr(clip_plan, "moving_seconds", lambda *_: Seconds(1, 1))

    def begun(function: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            inspect.signature(function).bind(*given, **named)
            return argparse.Namespace(table=lambda: "")

        return call

    monkeypatch.setattr(train_network, "train_network", begun(train_network.train_network))
    for recipe in EXPERIMENTS.values():
        monkeypatch.setattr(experiments, recipe.function, begun(getattr(experiments, recipe.function)), raising=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_two_commands_of_a_document_write_to_one_output(page: Path) -> None:
    """The second would be refused."""
    written = Counter(name for at, words in OURS if at == page for name in outputs(words))
    assert [name for name, count in written.items() if count > 1] == []


@pytest.mark.parametrize(
    "words", [words for _, words in ONCE.values()], ids=[f"{page.stem}: {text}" for text, (page, _) in ONCE.items()]
)
@pytest.mark.usefixtures("folder", "averaging_vgg")
def test_a_documented_command_does_not_fail(words: list[str]) -> None:
    arguments = words[1:]
    asks_people = arguments[0] == "study" and arguments[1:2] != ["make"]
    own_tests = arguments[0] in ("demo", "doctor", "export", "figure", "live", "web") or asks_people
    if "-" in arguments or own_tests:
        arguments.append("--help")
    elif " ".join(arguments).startswith(_PLANNED) and arguments[1] != "network" and "--help" not in arguments:
        arguments.append("--plan")
    for word in arguments:
        if word not in outputs(words):
            for part in re.split("[=,]", word):
                provide(part)
    done(CliRunner().invoke(group, arguments))


class Parsed(Exception):
    """A program's options were read."""


@pytest.mark.parametrize("words", OTHERS, ids=[" ".join(words) for words in OTHERS])
def test_a_documented_program_has_these_options(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    program, *arguments = words
    if program == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "pytest":
        assert [name for name in arguments if not (ROOT / name).is_file()] == []
    else:
        run_program(monkeypatch, ROOT / arguments[0], arguments[1:])


def run_program(monkeypatch: pytest.MonkeyPatch, path: Path, arguments: list[str]) -> None:
    """Runs a program in this process until its options are read; fails where they are wrong."""
    parse = argparse.ArgumentParser.parse_args

    def parse_only(self: argparse.ArgumentParser) -> NoReturn:
        parse(self)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    monkeypatch.setattr(sys, "argv", [path.name, *arguments])
    with pytest.raises(Parsed):
        runpy.run_path(str(path), run_name="__main__")


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_helps(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr(sys, "argv", [path.name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert not ended.value.code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_documented_python_calls_what_there_is(page: Path) -> None:
    lines = re.findall(r"^    ((?:.*= |print\()?nststab\..*)$", page.read_text("utf-8"), re.MULTILINE)
    for call in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(call, ast.Call) and re.fullmatch(r"nststab[.\w]+", name := ast.unparse(call.func)):
            function: Any = nststab
            for part in name.split(".")[1:]:
                function = getattr(function, part)
            inspect.signature(function).bind(*call.args, **{one.arg: one for one in call.keywords if one.arg})
