"""nststab evaluate gram-trace."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nststab.cli.clips import CLIP_PATH
from nststab.cli.common import device_options, methods_option, progress, setting, verbosity_options
from nststab.experiments.cli_common import (
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
    from nststab.baselines.gatys import Keep
    from nststab.experiments.cli_common import Candidate
    from nststab.frames import Stylizer
    from nststab.measure.stability import FrameLosses
    from nststab.methods.build import Machine
    from nststab.styles.source import StyleSource
    from nststab.video.clip import Clip


class StyledClip(click.ParamType):  # type: ignore[type-arg]
    """A clip that another program stylized: STYLE_IMAGE=PATH."""

    name = "clip"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        if isinstance(value, tuple):
            return value
        image, _, path = str(value).partition("=")
        if not (image and path):
            self.fail(f"{value!r}: expected STYLE_IMAGE=PATH, the style's picture and its stylized clip", param, ctx)
        return image, CLIP_PATH.convert(path, param, ctx)


@click.command("gram-trace", short_help="Figure 3: instability of styles by their Gram trace.")
@click.argument("videos", metavar="[VIDEO]...", nargs=-1, type=CLIP_PATH)
@styles_option
@methods_option("independent")
@click.option(
    "--clips",
    type=StyledClip(),
    multiple=True,
    metavar="STYLE_IMAGE=PATH",
    help="A clip stylized by another program, measured as it is: a folder of frames or a video; once for each clip.",
)
@size_option(432)
@setting("--limit", 100, "Frames of each clip.", click.IntRange(min=2), "N")
@optimizing_options
@output_options
@device_options
@verbosity_options
def command(
    videos: tuple[Path, ...], styles: tuple[str, ...] | None, clips: tuple[tuple[str, Path], ...], **options: Any
) -> None:
    """Measure how unstable styles are on VIDEOs of a fixed camera, against the trace of their Gram matrix (Figure 3).

    Instability is the mean squared difference of adjacent stylized frames. What moves in the videos themselves counts
    too, so their own is shown. Videos smaller than --size are not enlarged. A style needs its picture for the trace: a
    folder of networks may hold image.jpg, or card.json with gram_trace.

    The lines of `nststab styles IMAGE` are those of a results.json, copied to nststab/styles/instability.json.
    """
    if not videos and not clips:
        raise click.UsageError("expected VIDEOs of a fixed camera, or --clips")
    if styles and not videos:
        raise click.UsageError("--styles needs VIDEOs of a fixed camera")
    from nststab.experiments import gram_trace
    from nststab.measure.stability import unchanged
    from nststab.methods.build import machine
    from nststab.styles.prediction import style_traces

    where, optimizer = machine(options["device"], options["precision"]), optimizer_of(options)
    defaults = gram_trace.GramTraceSettings()
    size, limit = options["size"] or defaults.size, options["limit"] or defaults.limit
    contents = {name: _opened(path, size) for name, path in _named("VIDEO", videos).items()}
    chosen = sources(styles) if videos else {}
    who = candidates(chosen, options["methods"], where, optimizer)
    foreign = _foreign(clips)
    pictures = {style: source for style, (source, _) in foreign.items()}
    traces, foreign_traces = (
        style_traces(found, options["network"], options["vgg_weights"], where.device) for found in (chosen, pictures)
    )
    settings = {
        "style_size": defaults.style_size,
        "losses_every": defaults.losses_every,
        "styles": digests(chosen, options["methods"]),
        "videos": _digests(contents),
        "clip_styles": digests(pictures, ()),
        "clips": {style: _digests(own) for style, (_, own) in foreign.items()},
    }
    with experiment("gram-trace", options, where, **settings) as run:
        inputs = [
            Measurement("input", "", name, clip, lambda _keep: unchanged, _no_losses) for name, clip in contents.items()
        ]
        ours = [_ours(candidate, name, clip, options) for candidate in who for name, clip in contents.items()]
        theirs = [
            _theirs(style, source, name, clip, options, where)
            for style, (source, own) in foreign.items()
            for name, clip in own.items()
        ]
        for name, clip in contents.items():
            left = [candidate for candidate in who if not run.parts.done(f"{candidate.name} {name}")]
            length = _length(clip, limit)
            losses = len(left) * math.ceil(length / defaults.losses_every)
            announce([(candidate, length, 1) for candidate in left], clip.width, clip.height, losses)
        found = _measured([*inputs, *ours, *theirs], limit, run)
        own = found.pop(("input", ""), {})
        content = gram_trace.row("input", "", {}, own) if own else None
        rows = [
            gram_trace.row(style, method, {gram_trace.CLIPS: foreign_traces}.get(method, traces)[style], parts)
            for (style, method), parts in found.items()
        ]
        run.finish(
            rows,
            gram_trace.table(rows, content),
            lambda figure: gram_trace.draw(figure, rows, content),
            (10.0, 5.0),
            input=content,
            fit=gram_trace.fits(rows),
            date=datetime.now(UTC).date().isoformat(),
        )


@dataclass(frozen=True)
class Measurement:
    """A part of the experiment: a clip, and what is to be made of it. What it needs is built when its turn comes."""

    style: str
    method: str
    video: str
    clip: "Clip"
    stylizer: "Callable[[Keep | None], Stylizer | None]"
    losses: "Callable[[], FrameLosses]"

    @property
    def name(self) -> str:
        return " ".join(part for part in (self.style, self.method, self.video) if part)


def _measured(
    measurements: Sequence[Measurement], limit: int, run: Run
) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """Of each style and method what was measured, by video."""
    from nststab.experiments.gram_trace import measure

    left = [measurement for measurement in measurements if not run.parts.done(measurement.name)]
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    with progress("gram-trace", sum(_length(measurement.clip, limit) for measurement in left)) as advance:
        counted = counting(advance)

        def figures(part: Measurement, keep: "Keep | None") -> dict[str, Any]:
            advance(note=part.name)
            frames = counted(frame.rgb for frame in islice(part.clip.frames(), limit))
            return measure(frames, part.stylizer(keep), part.losses())

        for part in measurements:
            videos = found.setdefault((part.style, part.method), {})
            videos[part.video] = run.get(part.name, part.method, partial(figures, part))
    return found


def _ours(candidate: "Candidate", video: str, clip: "Clip", options: Mapping[str, Any]) -> Measurement:
    from nststab.methods.build import measuring_losses

    side = max(clip.width, clip.height)
    return Measurement(
        candidate.style,
        candidate.method,
        video,
        clip,
        lambda keep: candidate.stylizer(side, keep=keep),
        lambda: measuring_losses(candidate.source, options, side, candidate.where),
    )


def _theirs(
    style: str, source: "StyleSource", video: str, clip: "Clip", options: Mapping[str, Any], where: "Machine"
) -> Measurement:
    """A clip that is stylized already; without its content it has a style loss only."""
    from nststab.experiments.gram_trace import CLIPS
    from nststab.methods.build import measuring_losses

    side = max(clip.width, clip.height)
    losses = partial(measuring_losses, source, options, side, where)
    return Measurement(style, CLIPS, video, clip, lambda _keep: None, losses)


def _no_losses() -> "FrameLosses":
    return lambda _stylized, _content: {}


def _foreign(clips: Sequence[tuple[str, Path]]) -> "dict[str, tuple[StyleSource, dict[str, Clip]]]":
    """The clips of others by style, beside what the style is taken from."""
    from nststab.styles.source import style_name, style_source

    by_picture: dict[str, list[Path]] = {}
    for picture, path in clips:
        by_picture.setdefault(picture, []).append(path)
    found: dict[str, tuple[StyleSource, dict[str, Clip]]] = {}
    for picture, paths in by_picture.items():
        style = style_name(picture)
        if style in found:
            raise click.UsageError(f"--clips has two styles that are called {style}")
        own = {name: _opened(path, None) for name, path in _named("--clips", paths).items()}
        found[style] = style_source(picture), own
    return found


def _named(what: str, paths: Sequence[Path]) -> dict[str, Path]:
    """Clips by the names that they have in the results; a usage error where two have the same."""
    named: dict[str, Path] = {}
    for path in paths:
        name = path.stem if path.is_file() else path.name if path.is_dir() else path.parent.name
        if name in named:
            raise click.UsageError(f"{what}: two clips are called {name}, {named[name]} and {path}")
        named[name] = path
    return named


def _opened(path: Path, size: int | None) -> "Clip":
    """The clip at its own size, or at `size` where that is smaller."""
    from nststab.video.clip import open_clip
    from nststab.video.streams import is_pipe

    if is_pipe(path):
        raise click.UsageError(f"{path}: expected a file or a folder, which can be read more than once, got a pipe")
    clip = open_clip(path)
    if clip.frame_count == 1:
        raise click.UsageError(f"{path}: expected a clip of at least two frames, got one")
    return open_clip(path, size) if size and size < max(clip.width, clip.height) else clip


def _length(clip: "Clip", limit: int) -> int:
    return min(limit, clip.frame_count or limit)


def _digests(clips: "Mapping[str, Clip]") -> dict[str, str]:
    """What tells the clips' contents apart."""
    from nststab.storage.jobs import content_hash

    return {name: content_hash(clip.pictures or clip.path) for name, clip in clips.items()}
