"""nststab flow: optical flow of a clip and its reliability masks, under the names of Ruder's program."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nststab.cli.common import (
    EXISTING,
    NearestGroup,
    explain,
    flow_cache_option,
    output_option,
    overwrite_option,
    progress,
    refuse_overwriting,
    say,
    size_option,
    verbosity_options,
)

if TYPE_CHECKING:
    from nststab.flow_pairs import FlowPair

_OURS = re.compile(r"(forward_\d+_\d+\.flo|backward_\d+_\d+\.flo|reliable_\d+_\d+\.pgm)")


@click.group("flow", cls=NearestGroup)
@verbosity_options
def command() -> None:
    """Optical flow and its reliability masks."""


@command.command("estimate", short_help="DeepFlow and masks between neighbouring frames.")
@click.argument("source", metavar="INPUT", type=EXISTING)
@output_option
@size_option
@flow_cache_option
@overwrite_option
@verbosity_options
def estimate(source: Path, output: str, size: int | None, flow_cache: Path | None, yes: bool) -> None:
    """DeepFlow between the neighbouring frames of INPUT, a video or a folder of pictures.

    Writes into the folder OUT forward_1_2.flo, backward_2_1.flo, reliable_1_2.pgm, reliable_2_1.pgm and so on; frames
    count from 1, and reliable_1_2.pgm says where forward_1_2.flo can be trusted (255) on the pixels of frame 1.
    """
    from contextlib import closing

    from nststab.cli.build import flow_function
    from nststab.flow_pairs import flow_ahead
    from nststab.video import open_clip

    folder = Path(output)
    refuse_overwriting(folder, yes)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: expected a folder for the flows")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"{folder.parent} is no folder: the parent of the output must exist")
    clip = open_clip(source, size)
    flow = flow_function(flow_cache)
    pairs = None if clip.frame_count is None else clip.frame_count - 1
    done = 0
    frames = (frame.rgb for frame in clip.frames())
    with progress("flow", pairs) as advance, closing(flow_ahead(frames, flow)) as estimates:
        for _, flows in estimates:
            if not flows:
                continue
            if done == 0:
                _prepare(folder)
            done += 1
            _write(folder, done, flows[1])
            advance(done)
    if done == 0:
        raise ValueError(f"{source}: expected at least two frames, got one")
    say(f"{folder}: flow between {done + 1} frames")


def _prepare(folder: Path) -> None:
    """Make the folder without the flows of an earlier run: those of a longer clip must not stay among the new."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            path.unlink()


def _write(folder: Path, number: int, pair: "FlowPair") -> None:
    """The four files of the pair of frames `number` and `number` + 1."""
    from nststab.flow_files import write_flo, write_mask

    there, back = f"{number}_{number + 1}", f"{number + 1}_{number}"
    write_flo(folder / f"forward_{there}.flo", pair.forward)
    write_flo(folder / f"backward_{back}.flo", pair.backward)
    write_mask(folder / f"reliable_{there}.pgm", pair.forward_mask)
    write_mask(folder / f"reliable_{back}.pgm", pair.backward_mask)
    explain(f"{number} to {number + 1}: {float(pair.forward_mask.mean()):.1%} of the pixels can be trusted")


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
    from nststab.flow_files import read_flo, write_mask
    from nststab.warp import reliability

    path = Path(output)
    if path.suffix.lower() != ".pgm":
        raise click.BadParameter(f"expected a name that ends in .pgm, got {output}", param_hint="'-o'")
    refuse_overwriting(path, yes)
    write_mask(path, reliability(read_flo(forward), read_flo(backward)))
