"""A small study for tests: clips whose frames tell their colour and number, and its server in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nststab.study.design import Study
from nststab.study.make import make_study
from nststab.study.settings import StudySettings
from nststab.video.images import write_picture
from tests.browser import counter_frame

FRAMES, HEIGHT, WIDTH = 8, 48, 64
HOSTILE = '</script><img src=x onerror=alert(1)> $\\alpha_ & "ours" %'
COLORS = {"input": (120, 120, 120), HOSTILE: (200, 40, 40), "theirs": (40, 160, 60), "third": (50, 60, 200)}


def write_clip(folder: Path, name: str, frames: int = FRAMES) -> Path:
    folder.mkdir(parents=True)
    for number in range(frames):
        write_picture(folder / f"{number}.png", counter_frame(number, COLORS[name], HEIGHT, WIDTH))
    return folder


def small_study(folder: Path, pairs: int = 2, clips: int = 2) -> Study:
    """A study of two sequences in the folder STUDY; the first clip has a hostile name."""
    names = list(COLORS)[: 1 + clips]
    for place, name in enumerate(names):
        for sequence in ("one", "two"):
            write_clip(folder / str(place) / sequence, name)
    write_picture(folder / "style.png", counter_frame(5, (200, 180, 40), 48, 48))
    paths = {name: folder / str(place) for place, name in enumerate(names) if place}
    return make_study(
        folder / "0", paths, folder / "STUDY", styles=[folder / "style.png"], settings=StudySettings(pairs=pairs)
    )


@contextmanager
def served(folder: Path, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of the study in a folder, and the process that serves it."""
    root = Path(__file__).parents[1]
    command = [sys.executable, str(root / "cli.py"), "study", "serve", str(folder), "--port", str(port), "-q"]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()
