"""Mutated clips, pictures, flows and weights through the command line: python tests/fuzz.py 1000 [SEED]

Each case is a small, valid file of which bytes are changed, cut out, doubled or cut off, given to a command in a
process apart. None may end in a traceback, a signal, a hang, a success without a readable output, or a file that
is half written. What does is told, and its file is kept in the folder fuzz_findings.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process with other threads cannot be forked safely
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av.subtitles.stream
import cv2  # noqa: F401
import numpy as np
import rich.progress  # noqa: F401
import torch
import torch._dynamo  # which the first step of an optimiser imports, for seconds
from PIL import Image

import nststab.cli.compare
import nststab.cli.optimize
import nststab.cli.score
import nststab.cli.stylize
import nststab.tasks.compare
import nststab.tasks.score
import nststab.tasks.workers
import nststab.video.reader
import nststab.video.writer  # noqa: F401  what a child would else import each time
from nststab.cli import group
from nststab.flow.files import write_flo
from nststab.networks.checkpoints import Checkpoint, save_checkpoint
from nststab.video.clip import open_clip
from nststab.video.images import write_picture
from tests.conftest import TINY, moving_picture, random_network, save_vgg, tiny_target

LIMIT = 120  # seconds after which a case is taken for a hang, also on a busy machine
FINDINGS = Path("fuzz_findings")
_TOGETHER = 20  # cases that a process runs
TRACEBACK, UNREADABLE = 99, 98  # exit codes of a child
CLIPS = ("mp4", "mkv", "webm", "ts", "avi", "flv", "gif", "y4m")
PICTURES = ("png", "jpg", "tif", "webp", "bmp")


class Case(NamedTuple):
    """A file to be mutated, and a command that reads it as IN and writes OUT."""

    file: str
    command: str
    output: str


def cases() -> list[Case]:
    """Every kind of file with every command that reads it."""
    network = "--style net.safetensors --method independent --precision float32 --engine torch"
    vgg = "--vgg-weights vgg.safetensors"
    optimizing = f"-o OUT {vgg} --iterations"
    flow = "flow/forward_1_2.flo"
    found = [Case(f"clip.{kind}", f"stylize IN -o OUT {network}", "out.mp4") for kind in CLIPS]
    found += [Case(f"clip.{kind}", "stylize IN -o OUT --method fuzz_own:same", "out.webm") for kind in CLIPS]
    found += [Case(f"clip.{kind}", f"score IN IN --json OUT --patches 1 {vgg}", "out.json") for kind in CLIPS]
    found += [Case(f"picture.{kind}", f"stylize IN -o OUT {network}", "out.png") for kind in PICTURES]
    found += [Case(f"picture.{kind}", f"optimize whole.png IN {optimizing} 1", "out.png") for kind in PICTURES]
    found += [Case(flow, f"optimize film whole.png {optimizing} 1,1 --flow flow", "out/")]
    found += [Case("net.safetensors", f"stylize whole.png -o OUT {network}", "out.png")] * 2
    found += [Case("vgg.safetensors", f"optimize whole.png whole.png {optimizing} 1", "out.png")] * 2
    return found


def make_files(folder: Path) -> None:
    """Small, valid files of all kinds."""
    pictures = [moving_picture(number, 32, 32) for number in range(6)]
    (folder / "film").mkdir()
    for number, picture in enumerate(pictures[:2]):
        write_picture(folder / f"film/{number + 1:04}.png", picture)
    write_picture(folder / "whole.png", pictures[0])
    for kind in PICTURES:
        write_picture(folder / f"picture.{kind}", pictures[1])
    for kind in CLIPS:
        _write_clip(folder / f"clip.{kind}", pictures)
    (folder / "flow").mkdir()
    for direction, (first, second) in {"forward": (1, 2), "backward": (2, 1)}.items():
        write_flo(folder / f"flow/{direction}_{first}_{second}.flo", torch.zeros(1, 2, 32, 32))
    save_vgg(folder)
    save_checkpoint(folder / "net.safetensors", Checkpoint(random_network(TINY), tiny_target(pictures[0])))
    (folder / "fuzz_own.py").write_text("def same(frames):\n    yield from frames\n")


_CODECS = {"webm": ("libvpx-vp9", "libopus"), "avi": ("mjpeg", "mp3"), "flv": ("flv1", None), "gif": ("gif", None)}


def _write_clip(path: Path, pictures: list[torch.Tensor]) -> None:
    kind = path.suffix[1:]
    if kind == "y4m":
        data = b"YUV4MPEG2 W32 H32 F25:1 Ip A1:1 C444\n"
        rgb = [(picture[0] * 255).byte().numpy().tobytes() for picture in pictures]
        path.write_bytes(data + b"".join(b"FRAME\n" + frame for frame in rgb))
        return
    video, audio = _CODECS.get(kind, ("libx264", "aac"))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(video, rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(video, "yuv420p")
        track: Any = container.add_stream(audio, rate=48000, layout="stereo") if audio else None
        for number, picture in enumerate(pictures):
            pixels = (picture[0].permute(1, 2, 0) * 255).byte().numpy()
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.time_base, frame.pts = Fraction(1, 25), number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None:
            kind_of_samples = track.codec_context.format.name
            resampler = av.AudioResampler(format=kind_of_samples, layout="stereo", rate=48000)
            sound = av.AudioFrame.from_ndarray(np.zeros((2, 11520), np.float32), format="fltp", layout="stereo")
            sound.sample_rate, sound.time_base, sound.pts = 48000, Fraction(1, 48000), 0
            for part in resampler.resample(sound):
                container.mux(track.encode(part))
            container.mux(track.encode(None))


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The file with some of its bytes changed, cut out, doubled, or cut off, more often near its begin."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
        place = min(len(changed) - 1, int(len(changed) * rng.random() ** rng.choice((1, 4))))
        length = rng.choice((1, 4, 64, 1000))
        match rng.randrange(6):
            case 0 | 1:
                changed[place] = rng.randrange(256)
            case 2:
                changed[place : place + length] = bytes(rng.choice((0, 255)) for _ in range(1)) * length
            case 3:
                changed[place : place + length] = b""
            case 4:
                changed[place:place] = changed[place : place + length]
            case _:
                del changed[max(1, place) :]
        if not changed:
            return b""
    return bytes(changed)


def run(cases: list[tuple[Case, Path]]) -> list[str]:
    """What is wrong with how each command ends, if anything is; each is run in its own copy of the files.

    One process runs them one after the other, as a fork costs more than most of them. If it does not come to the last,
    each is run again, in a process of its own.
    """
    before = [set(folder.rglob("*")) for _, folder in cases]
    child = os.fork()
    if child == 0:
        try:
            for case, folder in cases:
                folder.with_suffix(".code").write_text(str(_ended(case, folder)))
            os._exit(0)
        finally:
            os._exit(1)
    status, deadline = None, time.monotonic() + LIMIT
    while status is None and time.monotonic() < deadline:
        ended, code = os.waitpid(child, os.WNOHANG)
        status = code if ended else None
        time.sleep(0.003)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    elif not status:
        return [_wrong(folder, known) for (_, folder), known in zip(cases, before, strict=True)]
    if len(cases) > 1:
        for (_, folder), known in zip(cases, before, strict=True):
            for path in sorted(set(folder.rglob("*")) - known, reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
        return [problem for case in cases for problem in run([case])]
    how = "hangs" if status is None else f"ends by signal {os.WTERMSIG(status)}"
    return [f"{how}\n{cases[0][1].with_suffix('.log').read_text(errors='replace')}"]


def _wrong(folder: Path, before: set[Path]) -> str:
    """What is wrong with a command that ended: its code, what it said, and what it left in the folder."""
    code = int(folder.with_suffix(".code").read_text())
    said = folder.with_suffix(".log").read_text(errors="replace")
    if code == TRACEBACK or "Traceback" in said:
        return f"ends in a traceback\n{said}"
    if code == UNREADABLE:
        return f"succeeds without a readable output\n{said}"
    errors = [line for line in said.splitlines() if line.startswith("Error: ")]
    if code and len(errors) != 1:
        return f"ends with {code} and {len(errors)} lines of error\n{said}"
    left = {path for path in set(folder.rglob("*")) - before if path.is_file() and "__pycache__" not in path.parts}
    if code and left and "is kept in" not in said:
        return f"leaves {', '.join(sorted(path.name for path in left))}\n{said}"
    return ""


def _ended(case: Case, folder: Path) -> int:
    """The exit code of a command in a folder; what it says goes to the file beside that."""
    os.chdir(folder)
    os.environ["XDG_CACHE_HOME"] = str(folder.parent / "cache")
    descriptor = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    arguments = [word.replace("IN", case.file).replace("OUT", case.output) for word in case.command.split()]
    code: Any = 0
    try:
        try:
            group.main(args=arguments, prog_name="nststab", standalone_mode=True)
        except SystemExit as end:
            code = end.code or 0
        return code if code or _is_readable(Path(case.output)) else UNREADABLE
    except BaseException:
        traceback.print_exc()
        return TRACEBACK
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _is_readable(output: Path) -> bool:
    if output.suffix == ".json":
        return bool(output.read_text())
    return any(True for _ in open_clip(output).frames())


@contextmanager
def forked_from() -> Iterator[Path]:
    """A folder with all files, in a process that has no other threads."""
    Image.init()
    with tempfile.TemporaryDirectory(prefix="nststab_fuzz_") as name:
        made = Path(name) / "files"
        made.mkdir()
        child = os.fork()  # encoders leave threads behind
        if child == 0:
            code = 1
            try:
                make_files(made)
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0, "the valid files cannot be made"
        yield made


def fuzz(count: int, seed: int, tell: Callable[[str], None]) -> int:
    """How many of so many cases ended wrongly; `tell` hears of each."""
    kinds = cases()
    named: list[tuple[str, Case, random.Random | None]] = [
        (f"valid {case.file}", case, None) for case in dict.fromkeys(kinds)
    ]
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        case = rng.choice(kinds)
        named.append((f"{seed}_{number}_{Path(case.file).name}", case, rng))
    wrong = 0
    with forked_from() as files:
        for first in range(0, len(named), _TOGETHER):
            batch = named[first : first + _TOGETHER]
            folders = [files.with_name(f"case_{number}") for number in range(len(batch))]
            for folder, (_, case, mutate) in zip(folders, batch, strict=True):
                shutil.copytree(files, folder)
                if mutate is not None:
                    (folder / case.file).write_bytes(mutated((folder / case.file).read_bytes(), mutate))
            problems = run([(case, folder) for folder, (_, case, _) in zip(folders, batch, strict=True)])
            for folder, (name, case, mutate), problem in zip(folders, batch, problems, strict=True):
                if problem:
                    wrong += 1
                    tell(f"{name}: {case.command}: {problem}")
                if problem and mutate is not None:
                    FINDINGS.mkdir(exist_ok=True)
                    shutil.copy(folder / case.file, FINDINGS / name)
                shutil.rmtree(folder)
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, help="how many mutated files")
    parser.add_argument("seed", type=int, nargs="?", default=0)
    given = parser.parse_args()
    found = fuzz(given.count, given.seed, print)
    print(f"{found} of {given.count} cases ended wrongly")
    sys.exit(1 if found else 0)
