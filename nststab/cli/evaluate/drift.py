"""nststab evaluate drift."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nststab.cli.clips import CLIP_PATH, open_source
from nststab.cli.common import OPTIMISERS, FiniteRange, device_options, given, progress, setting, verbosity_options
from nststab.cli.evaluate.common import (
    Candidate,
    Run,
    announce,
    candidates,
    digests,
    experiment,
    methods_option,
    optimizer_of,
    optimizing_options,
    output_options,
    size_option,
    sources,
    styles_option,
)

if TYPE_CHECKING:
    from torch import Tensor

    from nststab.evaluate.drift import DriftSettings
    from nststab.evaluate.results import Parts
    from nststab.evaluate.stability import FrameLosses
    from nststab.stylizer import Stylizer


@click.command("drift", short_help="Hundreds of frames: drift, ghosts, cuts.")
@click.argument("source", metavar="[INPUT]", type=CLIP_PATH, required=False)
@styles_option
@methods_option
@setting("--frames", 300, "Frames of the still, and of the loop.", click.IntRange(min=20))
@setting("--noise", 0.02, "Standard deviation of the still's noise, of a range of 1.", FiniteRange(0, 0.25))
@size_option(256)
@setting("--limit", "20, or what fits twice", "Frames of INPUT that are looped.", click.IntRange(min=2))
@optimizing_options
@output_options
@device_options
@verbosity_options
def command(source: Path | None, methods: tuple[str, ...], **options: Any) -> None:
    """Measure what builds up over hundreds of frames: drift of brightness and colour, ghosts, traces of a cut.

    The first frame of INPUT, a clip or a picture, is a still under new sensor noise in every frame; a disc of its
    mirrored negative slides in and vanishes, and a cut leads to that negative. The first frames of a clip are looped
    forwards and backwards. Without INPUT it is the bundled clip.
    """
    from nststab.cli.build import OptimizerOptions, machine, perceptual_loss
    from nststab.evaluate.drift import foreign
    from nststab.evaluate.drift_report import draw, table
    from nststab.evaluate.stability import perceptual_losses

    styles, optimizer = sources(options["styles"]), optimizer_of(options)
    where = machine(options["device"], options["precision"])
    who = candidates(styles, methods, where, optimizer)
    clip, settings = _material(source, options)
    foreign(clip[0])  # refuses a picture without contrast before the work, not amid it
    side = max(clip[0].shape)
    measured = OptimizerOptions(network=optimizer.network, vgg_weights=optimizer.vgg_weights)
    losses = {
        name: perceptual_losses(perceptual_loss(style, measured, side, where.device), where.device)
        for name, style in styles.items()
    }
    decisive = asdict(settings) | {"settled": settings.settled, "window": settings.window, "input": _digest(clip)}
    with experiment("drift", options, where, styles=digests(styles, methods), **decisive) as run:
        total = _announce(run.parts, who, clip[0], settings)
        with progress("drift", total) as advance:
            rows = list(_rows(run, losses, who, clip, settings, _Ticking(advance)))
        run.finish(rows, table(rows, settings), lambda figure: draw(figure, rows, settings), (9.0, 3.8))


def _material(source: Path | None, options: Mapping[str, Any]) -> "tuple[list[Tensor], DriftSettings]":
    """The first frames of INPUT, as many as are looped, and the settings; both have the number that there is."""
    from nststab.assets import demo_clip
    from nststab.evaluate.drift import DriftSettings

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
    from nststab.evaluate.drift import parts as all_parts

    work = []
    for one in who:
        left = [todo for part, todo in all_parts(settings).items() if not parts.done(f"{one.name} {part}")]
        work.append((one, sum(frames for frames, _ in left), sum(calls for _, calls in left)))
    announce(work, still.shape[-1], still.shape[-2])
    return sum(frames for _, frames, _ in work)


class _Ticking:
    """Counts what its stylizers give."""

    def __init__(self, advance: Callable[..., None]) -> None:
        self._advance = advance
        self._done = 0

    def __call__(self, stylizer: "Stylizer") -> "Stylizer":
        def counted(frames: "Iterable[Tensor]") -> "Iterator[Tensor]":
            for frame in stylizer(frames):
                yield frame
                self._done += 1
                self._advance(self._done)

        return counted


def _rows(
    run: Run,
    losses: "Mapping[str, FrameLosses]",
    who: Sequence[Candidate],
    clip: "Sequence[Tensor]",
    settings: "DriftSettings",
    ticking: _Ticking,
) -> Iterator[dict[str, Any]]:
    """Of each style the input as it is, which has no drift of its own, and then its methods."""
    from nststab.evaluate.drift import measure, parts
    from nststab.evaluate.drift_report import row
    from nststab.evaluate.stability import CONTENT

    def part(name: str, one: Candidate | None, frame_losses: "FrameLosses") -> dict[str, Any]:
        if one is None:
            return measure(name, _unchanged, clip, settings, frame_losses)
        kept = run.keeping(f"{one.name} {name}") if one.method in OPTIMISERS else nullcontext()
        with kept as keep:  # of an optimisation, which takes hours, every frame
            return measure(name, ticking(one.stylizer(max(clip[0].shape), keep=keep)), clip, settings, frame_losses)

    for style, frame_losses in losses.items():
        for one in (None, *(one for one in who if one.style == style)):
            method = one.method if one else CONTENT
            found = {
                name: run.parts.get(f"{style} {method} {name}", partial(part, name, one, frame_losses))
                for name in parts(settings)
            }
            yield row(style, method, found)


def _unchanged(frames: "Iterable[Tensor]") -> "Iterator[Tensor]":
    return iter(frames)
