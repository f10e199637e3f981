"""nststab flow: optical flow of a clip and its reliability masks, under the names of Ruder's program."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nststab.cli.clips import CLIP_PATH, excerpt_options, open_source
from nststab.cli.common import (
    EXISTING,
    POSITIVE,
    explain,
    flow_cache_option,
    flow_method_option,
    output_option,
    overwrite_option,
    plan_option,
    progress,
    refuse_overwriting,
    say,
    setting,
    size_option,
    verbosity_options,
)
from nststab.cli.groups import NearestGroup
from nststab.cli.optimizing import Distances
from nststab.errors import NststabError

if TYPE_CHECKING:
    from nststab.flow.estimators import FlowFunction
    from nststab.flow.pairs import FlowPair
    from nststab.video.clip import Clip

_OURS = re.compile(r"(forward_\d+_\d+\.flo|backward_\d+_\d+\.flo|reliable_\d+_\d+\.pgm)")


@click.group("flow", cls=NearestGroup)
@verbosity_options
def command() -> None:
    """Optical flow and its reliability masks."""


@command.command("estimate", short_help="Flow and masks between the frames of a clip.")
@click.argument("source", metavar="INPUT", type=CLIP_PATH)
@output_option
@size_option
@excerpt_options
@setting(
    "--distances",
    1,
    "Also between frames farther apart, as in 1,2,4; for --long-term.",
    Distances(),
)
@flow_method_option
@flow_cache_option
@overwrite_option
@plan_option
@verbosity_options
def estimate(
    source: Path,
    output: str,
    distances: tuple[int, ...] | None,
    flow_method: str | None,
    flow_cache: Path | None,
    yes: bool,
    plan: bool,
    **options: Any,
) -> None:
    """Optical flow between the neighbouring frames of INPUT, a video or pictures, as `nststab stylize` takes them.

    Writes into the folder OUT forward_1_2.flo, backward_2_1.flo, reliable_1_2.pgm, reliable_2_1.pgm and so on; frames
    count from 1, and reliable_1_2.pgm says where forward_1_2.flo can be trusted (255) on the pixels of frame 1.
    `nststab stylize --flow OUT` uses these files. After a kill the same command goes on.
    """
    from contextlib import nullcontext

    from nststab.flow.estimators import require_estimator
    from nststab.flow.source import flow_source
    from nststab.storage.durable import sync
    from nststab.storage.jobs import overwrites
    from nststab.tasks.planned_jobs import flow_job
    from nststab.tasks.planning import planned
    from nststab.tasks.resuming import comes_again, going_on, settings_of

    folder = Path(output)
    refuse_overwriting(folder, plan or yes or overwrites(folder))
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: expected a folder for the flows")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"{folder.parent} is no folder: the parent of the output must exist")
    clip = open_source(source, options)
    method = flow_source(None, flow_method, flow_cache)
    distances = distances or (1,)
    require_estimator(method.method)
    if planned(flow_job(clip, output, method.method, distances), plan):
        return
    flow = method.function()
    settings = settings_of(clip, {**options, "distances": distances, "flow_method": method.method})
    done = 0
    with (
        going_on(folder, settings, yes, fills=True) if comes_again(clip) else nullcontext() as job,
        progress(f"flow: {method.method}", clip.frame_count) as advance,
    ):
        before = _complete(folder, job.frames if job else 0, distances)
        for done in _estimate(clip, folder, flow, distances, before):
            if job:
                job.progress(done)
            advance(done)
        if done == 0:
            raise NststabError(f"{source}: expected at least two frames, got one")
        sync(folder)
    for note in clip.notes:
        say(f"note: {note}")
    say(f"{folder}: flow between {done} frames by {method.method}")


def _estimate(clip: "Clip", folder: Path, flow: "FlowFunction", distances: tuple[int, ...], done: int) -> Iterator[int]:
    """Writes the flow of all frames but the `done` first, and gives the number of frames that have theirs."""
    from contextlib import closing
    from itertools import islice

    from nststab.flow.pairs import flow_ahead

    if done:
        yield done
    begin = max(0, done - distances[-1])  # the flow of the next frame begins at frames before it
    frames = islice(clip.frames(), begin, None)
    with closing(flow_ahead(frames, flow, distances)) as estimates:
        for number, (_, flows) in enumerate(estimates, begin + 1):
            if number <= max(done, 1):
                continue
            if number == 2:
                _prepare(folder)
            for distance, pair in flows.items():
                _write(folder, number - distance, number, pair)
            yield number


def _complete(folder: Path, frames: int, distances: tuple[int, ...]) -> int:
    """How many of the finished `frames` have all their files, and none behind one that lost them with the machine."""
    from nststab.flow.files import read_flo, read_mask

    for number in range(2, frames + 1):
        try:
            for distance in (distance for distance in distances if distance < number):
                forward, backward, *masks = _files(folder, number - distance, number)
                read_flo(forward), read_flo(backward)
                for mask in masks:
                    read_mask(mask)
        except (OSError, ValueError):
            return number - 1 if number > 2 else 0
    return frames


def _prepare(folder: Path) -> None:
    """Make the folder without the flows of an earlier run: those of a longer clip must not stay among the new."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            path.unlink()


def _write(folder: Path, first: int, second: int, pair: "FlowPair") -> None:
    """The four files of a pair of frames, by their numbers."""
    from nststab.flow.files import write_flo, write_mask

    forward, backward, forward_mask, backward_mask = _files(folder, first, second)
    write_flo(forward, pair.forward)
    write_flo(backward, pair.backward)
    write_mask(forward_mask, pair.forward_mask)
    write_mask(backward_mask, pair.backward_mask)
    explain(f"{first} to {second}: {float(pair.forward_mask.mean()):.1%} of the pixels can be trusted")


def _files(folder: Path, first: int, second: int) -> list[Path]:
    """The flows between a pair of frames, there and back, and where each can be trusted."""
    there, back = f"{first}_{second}", f"{second}_{first}"
    names = (f"forward_{there}.flo", f"backward_{back}.flo", f"reliable_{there}.pgm", f"reliable_{back}.pgm")
    return [folder / name for name in names]


@command.command("mask", short_help="Where one flow can be trusted, given its opposite.")
@click.argument("forward", metavar="FORWARD.flo", type=EXISTING)
@click.argument("backward", metavar="BACKWARD.flo", type=EXISTING)
@output_option
@overwrite_option
@verbosity_options
def mask(forward: Path, backward: Path, output: str, yes: bool) -> None:
    """Say where the flow FORWARD can be trusted, given BACKWARD between the same two frames: a .pgm picture.

    255 is trust, 0 none: out of the frame, hidden in the other frame, or at the edge of a motion.
    """
    from nststab.flow.files import read_flo, write_mask
    from nststab.warp import reliability

    path = Path(output)
    if path.suffix.lower() != ".pgm":
        raise click.BadParameter(f"expected a name that ends in .pgm, got {output}", param_hint="'-o'")
    refuse_overwriting(path, yes)
    write_mask(path, reliability(read_flo(forward), read_flo(backward)))


@command.command("show", short_help="A flow as a picture in Middlebury's colours.")
@click.argument("source", metavar="FILE.flo", type=EXISTING)
@output_option
@click.option(
    "--max",
    "maximum",
    type=POSITIVE,
    default=None,
    metavar="PIXELS",
    help="The motion that has its full colour, by default the longest in the file, or in all of a folder's.",
)
@overwrite_option
@verbosity_options
def show(source: Path, output: str, maximum: float | None, yes: bool) -> None:
    """Show the flow FILE.flo as a picture: the direction is the colour, no motion is white, unknown flow is black.

    Colours are Middlebury's (Baker et al. 2007). What is longer than --max PIXELS is darkened. Of a folder all .flo
    files are shown, in the folder OUT.
    """
    from nststab.flow.colors import flow_colors, largest_motion
    from nststab.flow.files import read_flo
    from nststab.video.images import PICTURE_SUFFIXES, write_picture

    files, pictures = _files_to_show(source, Path(output))
    if source.is_file() and Path(output).suffix.lower() not in PICTURE_SUFFIXES:
        raise click.BadParameter(f"expected a picture's name, such as flow.png, got {output}", param_hint="'-o'")
    refuse_overwriting(Path(output), yes)
    longest = maximum or max(largest_motion(read_flo(path)) for path in files)
    if source.is_dir():
        Path(output).mkdir(exist_ok=True)
    with progress("flow show", len(files)) as advance:
        for number, (path, picture) in enumerate(zip(files, pictures, strict=True), 1):
            write_picture(picture, flow_colors(read_flo(path), longest or None))
            advance(number)
    say(f"{output}: the full colours are motions of {longest:.2f} pixels")


def _files_to_show(source: Path, output: Path) -> tuple[list[Path], list[Path]]:
    """The .flo files that are meant, and the picture of each."""
    if not source.is_dir():
        return [source], [output]
    files = sorted(path for path in source.iterdir() if path.suffix.lower() == ".flo")
    if not files:
        raise NststabError(f"{source}: expected .flo files, found none")
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"{output} is a file: expected a folder for the pictures")
    return files, [output / f"{path.stem}.png" for path in files]
