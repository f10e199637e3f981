"""Optical flow of a clip and its reliability masks, in files under the names of Ruder's program."""

import logging
import re
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nststab.baselines.settings import rising
from nststab.errors import MissingFile, NststabError, SettingError
from nststab.flow.colors import flow_colors, largest_motion
from nststab.flow.estimators import FlowFunction, flow_source, require_estimator
from nststab.flow.files import read_flo, read_mask, write_flo, write_mask
from nststab.flow.pairs import FlowPair, flow_ahead
from nststab.flow.settings import FlowSettings
from nststab.listener import Listener, reported, silent
from nststab.storage.durable import sync
from nststab.storage.folders import refuse_overwriting
from nststab.storage.jobs import content_hash, identity_of, overwrites, resumable
from nststab.tasks.clip_plan import flow_seconds, source_size
from nststab.tasks.plan import Plan, Seconds, Work, check, plan, sized_like
from nststab.tasks.settings import FlowTaskSettings
from nststab.tasks.stylize import opened
from nststab.video.clip import Clip
from nststab.video.formats import PICTURE_SUFFIXES
from nststab.video.images import write_picture
from nststab.warp import reliability

log = logging.getLogger(__name__)

_OURS = re.compile(r"(forward_\d+_\d+\.flo|backward_\d+_\d+\.flo|reliable_\d+_\d+\.pgm)")
_THREADS = 2  # that `flow_ahead` estimates in
_PAIR = 48  # bytes a pixel: two flows and two masks, and the frames between which they lie


@dataclass(frozen=True)
class EstimatedFlow:
    """What `estimate_flow` wrote: the flow between so many frames, and what the user should know about the clip."""

    folder: Path
    frames: int
    notes: tuple[str, ...]


def estimate_flow(
    source: str | Path,
    output: str | Path,
    *,
    settings: FlowTaskSettings | None = None,
    overwrite: bool = False,
    progress: Listener = silent,
) -> EstimatedFlow:
    """Writes the optical flow between the neighbouring frames of a clip into the folder `output`; it resumes.

    The files are forward_1_2.flo, backward_2_1.flo, reliable_1_2.pgm, reliable_2_1.pgm and so on; frames count from 1,
    and reliable_1_2.pgm says where forward_1_2.flo can be trusted (255) on the pixels of frame 1.

    Raises:
        SettingError: the output exists, or a setting is wrong. NststabError: the clip cannot be read, has one frame, or
        does not fit into memory. OSError: a file cannot be written, or OpenCV is missing.
    """
    folder, settings = Path(output), FlowTaskSettings.of(settings)
    refuse_overwriting(folder, overwrite or overwrites(folder))
    clip, work = _prepared(source, folder, settings)
    check(work)
    flow = flow_source(FlowSettings(settings.method, cache=settings.cache)).function()
    identity = identity_of(settings, input=f"{clip.path.name} ({content_hash(clip.pictures or clip.path)})")
    done = 0
    with (
        resumable(folder, identity, restart=overwrite, fills=True) if clip.is_seekable else nullcontext() as job,
        reported(progress, f"flow: {settings.method}", clip.frame_count) as advance,
    ):
        before = _complete(folder, job.frames if job else 0, settings.distances)
        for done in _estimate(clip, folder, flow, settings.distances, before):
            if job:
                job.progress(done)
            advance(done)
        if done == 0:
            raise NststabError(f"{source}: expected at least two frames, got one")
        sync(folder)
    return EstimatedFlow(folder, done, tuple(clip.notes))


def plan_flow(source: str | Path, output: str | Path, *, settings: FlowTaskSettings | None = None) -> Plan:
    """What `estimate_flow` would take: frames, memory, time; nothing is written."""
    return plan(_prepared(source, Path(output), FlowTaskSettings.of(settings))[1])


def _prepared(source: str | Path, folder: Path, settings: FlowTaskSettings) -> tuple[Clip, Work]:
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: expected a folder for the flows")
    if not folder.parent.is_dir():
        raise MissingFile(f"{folder.parent} is no folder: the parent of the output must exist")
    rising(settings.distances)
    clip = opened(source, settings)
    require_estimator(settings.method)
    width, height = source_size(clip)
    pairs, method = len(settings.distances), settings.method

    def step(width: int, height: int) -> Seconds:
        return Seconds(0.0, flow_seconds(method, width, height) * pairs)

    waiting = _THREADS * pairs * _PAIR + (max(settings.distances) + 5) * 12
    rows = {
        "input": f"{clip.path}, {width}x{height}",
        "output": f"{folder}, {clip.width}x{clip.height}",
        "method": method if pairs == 1 else f"{method}, {pairs} pairs a frame",
    }
    return clip, Work(
        rows,
        clip.frame_count,
        "frames",
        clip.width,
        clip.height,
        (step,),
        lambda width, height: waiting * width * height,
        "size={}".format,
        sized_like(width, height),
    )


def _estimate(clip: Clip, folder: Path, flow: FlowFunction, distances: tuple[int, ...], done: int) -> Iterator[int]:
    """Writes the flow of all frames but the `done` first, and gives the number of frames that have theirs."""
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


def _write(folder: Path, first: int, second: int, pair: FlowPair) -> None:
    """The four files of a pair of frames, by their numbers."""
    forward, backward, forward_mask, backward_mask = _files(folder, first, second)
    write_flo(forward, pair.forward)
    write_flo(backward, pair.backward)
    write_mask(forward_mask, pair.forward_mask)
    write_mask(backward_mask, pair.backward_mask)
    log.debug(f"{first} to {second}: {float(pair.forward_mask.mean()):.1%} of the pixels can be trusted")


def _files(folder: Path, first: int, second: int) -> list[Path]:
    """The flows between a pair of frames, there and back, and where each can be trusted."""
    there, back = f"{first}_{second}", f"{second}_{first}"
    names = (f"forward_{there}.flo", f"backward_{back}.flo", f"reliable_{there}.pgm", f"reliable_{back}.pgm")
    return [folder / name for name in names]


def flow_mask(forward: Path, backward: Path, output: Path, *, overwrite: bool = False) -> None:
    """Writes where the flow `forward` can be trusted, given `backward` between the same two frames: a .pgm picture."""
    if output.suffix.lower() != ".pgm":
        raise SettingError(f"expected a name that ends in .pgm, got {output}")
    refuse_overwriting(output, overwrite)
    write_mask(output, reliability(read_flo(forward), read_flo(backward)))


def show_flow(
    source: Path,
    output: Path,
    *,
    maximum: float | None = None,
    overwrite: bool = False,
    progress: Listener = silent,
) -> float:
    """Draws a flow, or all those of a folder, in Middlebury's colours; returns the motion that has its full colour.

    `maximum` is that motion, by default the longest there is; what is longer is darkened.
    """
    files, pictures = _files_to_show(source, output)
    if source.is_file() and output.suffix.lower() not in PICTURE_SUFFIXES:
        raise SettingError(f"expected a picture's name, such as flow.png, got {output}")
    refuse_overwriting(output, overwrite)
    longest = maximum or max(largest_motion(read_flo(path)) for path in files)
    if source.is_dir():
        output.mkdir(exist_ok=True)
    with reported(progress, "flow show", len(files)) as advance:
        for number, (path, picture) in enumerate(zip(files, pictures, strict=True), 1):
            write_picture(picture, flow_colors(read_flo(path), longest or None))
            advance(number)
    return longest


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
