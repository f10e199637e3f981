"""nststab evaluate drift."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nststab.cli.clips import CLIP_PATH, open_source
from nststab.cli.common import (
    FiniteRange,
    device_options,
    given,
    methods_option,
    progress,
    setting,
    verbosity_options,
)
from nststab.experiments.cli_common import (
    Candidate,
    announce,
    candidates,
    counting,
    optimizer_of,
    optimizing_options,
    output_options,
    size_option,
    sources,
    styles_option,
)
from nststab.experiments.run import Run, digests, experiment

if TYPE_CHECKING:
    from torch import Tensor

    from nststab.baselines.gatys import Keep
    from nststab.experiments.drift import DriftSettings
    from nststab.experiments.results import Parts
    from nststab.frames import Frame
    from nststab.measure.stability import FrameLosses


@click.command("drift", short_help="Hundreds of frames: drift, ghosts, cuts.")
@click.argument("source", metavar="[INPUT]", type=CLIP_PATH, required=False)
@styles_option
@methods_option("independent,recurrent")
@setting("--frames", 300, "Frames of the still, and of the loop.", click.IntRange(min=20))
@setting("--noise", 0.02, "Standard deviation of the still's noise, of a range of 1.", FiniteRange(0, 0.25))
@size_option(256)
@setting("--limit", "20, or what fits twice", "Frames of INPUT that are looped.", click.IntRange(min=2))
@optimizing_options
@output_options
@device_options
@verbosity_options
def command(source: Path | None, **options: Any) -> None:
    """Measure what builds up over hundreds of frames: drift of brightness and colour, ghosts, traces of a cut.

    The first frame of INPUT, a clip or a picture, is a still under new sensor noise in every frame; a disc of its
    mirrored negative slides in and vanishes, and a cut leads to that negative. The first frames of a clip are looped
    forwards and backwards. Without INPUT it is the bundled clip.
    """
    from nststab.experiments.drift import foreign
    from nststab.experiments.drift_report import draw, table
    from nststab.methods.build import machine, measuring_losses

    styles = sources(options["styles"])
    where = machine(options["device"], options["precision"])
    who = candidates(styles, options["methods"], where, optimizer_of(options))
    clip, settings = _material(source, options)
    foreign(clip[0])  # refuses a picture without contrast before the work, not amid it
    side = max(clip[0].shape)
    losses = {name: measuring_losses(style, options, side, where) for name, style in styles.items()}
    decisive = {
        "limit": settings.loop_frames,
        "settled": settings.settled,
        "window": settings.window,
        "input": _digest(clip),
        "styles": digests(styles, options["methods"]),
    }
    with experiment("drift", options, where, **decisive) as run:
        total = _announce(run.parts, who, clip[0], settings)
        with progress("drift", total) as advance:
            rows = list(_rows(run, losses, who, clip, settings, counting(advance)))
        run.finish(rows, table(rows, settings), lambda figure: draw(figure, rows, settings), (9.0, 3.8))


def _material(source: Path | None, options: Mapping[str, Any]) -> "tuple[list[Tensor], DriftSettings]":
    """The first frames of INPUT, as many as are looped, and the settings; both have the number that there is."""
    from nststab.experiments.drift import DriftSettings
    from nststab.styles.shipped import demo_clip

    fixed = given(**{name: options[name] for name in ("frames", "size", "noise", "seed")})
    settings = DriftSettings(**fixed, loop=options["limit"])
    opened = open_source(source or demo_clip(), {"size": settings.size})
    clip = [frame.rgb for frame in islice(opened.frames(), settings.loop_frames)]
    return clip, replace(settings, loop=len(clip))


def _digest(clip: "Sequence[Tensor]") -> str:
    """Of the frames that decide the figures."""
    frames = (frame.numpy().tobytes() for frame in clip)
    return hashlib.blake2b(b"".join(frames), digest_size=8).hexdigest()


def _announce(parts: "Parts", who: Sequence[Candidate], still: "Tensor", settings: "DriftSettings") -> int:
    """Says how many frames are left to stylize, and gives their number."""
    from nststab.experiments.drift import parts as all_parts

    work, losses = [], 0
    of_windows = {"still": 2 * settings.window, "loop": 2 * settings.period}
    for one in who:
        missing = {part: todo for part, todo in all_parts(settings).items() if not parts.done(f"{one.name} {part}")}
        left = missing.values()
        losses += sum(of_windows.get(part, 0) for part in missing)
        work.append((one, sum(frames for frames, _ in left), sum(calls for _, calls in left)))
    announce(work, still.shape[-1], still.shape[-2], losses)
    return sum(frames for _, frames, _ in work)


def _rows(
    run: Run,
    losses: "Mapping[str, FrameLosses]",
    who: Sequence[Candidate],
    clip: "Sequence[Tensor]",
    settings: "DriftSettings",
    counted: "Callable[[Iterator[Frame]], Iterator[Frame]]",
) -> Iterator[dict[str, Any]]:
    """Of each style the input as it is, which has no drift of its own, and then its methods."""
    from nststab.experiments.drift import measure, parts
    from nststab.experiments.drift_report import row
    from nststab.measure.stability import CONTENT, unchanged

    def part(name: str, one: Candidate | None, frame_losses: "FrameLosses", keep: "Keep | None") -> dict[str, Any]:
        if one is None:
            return measure(name, unchanged, clip, settings, frame_losses)
        stylize = one.stylizer(max(clip[0].shape), keep=keep)
        return measure(name, lambda frames: counted(stylize(frames)), clip, settings, frame_losses)

    for style, frame_losses in losses.items():
        for one in (None, *(one for one in who if one.style == style)):
            method = one.method if one else CONTENT
            found = {
                name: run.get(f"{style} {method} {name}", method, partial(part, name, one, frame_losses))
                for name in parts(settings)
            }
            yield row(style, method, found)
