"""Figure 3 of Gupta et al. 2017: is a style the less stable, the larger the trace of its Gram matrix?

On video of a fixed camera all that moves in the stylized frames, but not in the content, is instability. Cars that pass
move in both: the content's own instability stands beside.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nststab import metrics
from nststab.errors import NststabError, SettingError
from nststab.experiments.cast import Cast, Stylizing
from nststab.experiments.figures import COLORS, color_of, label_points
from nststab.experiments.runner import Part, Results, Work, run
from nststab.experiments.settings import GramTraceSettings
from nststab.frames import Stylizer, as_frames
from nststab.listener import Listener, silent
from nststab.measure.intervals import mean_of_known
from nststab.measure.stability import FrameLosses, in_step, unchanged
from nststab.storage.jobs import content_hash
from nststab.storage.tables import Json, Row, Table
from nststab.styles.source import StyleSource, style_name, style_source
from nststab.styles.trace_line import LAYERS, STYLE_SIZE, Line, as_json, correlation, fit_line, style_traces
from nststab.video.clip import Clip, open_clip
from nststab.video.pipes import is_pipe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Lines = Mapping[str, Line]  # by layer
CLIPS = "clips"  # the method of clips that other programs stylized
LOSSES_EVERY = 10
"""Losses are those of every tenth frame: they take longer than stylizing, and hardly change before a fixed camera."""


def gram_trace(
    videos: Sequence[str | Path],
    output: str | Path,
    *,
    styles: Sequence[str | Path] | None = None,
    methods: Sequence[str] = ("independent",),
    stylizers: Mapping[str, Stylizer] | None = None,
    clips: Sequence[tuple[str | Path, str | Path]] = (),
    size: int | None = None,
    limit: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    settings: GramTraceSettings | None = None,
    overwrite: bool = False,
    executor: Executor | None = None,
    progress: Listener = silent,
) -> Results:
    """Measures how unstable styles are on videos of a fixed camera, and writes Figure 3 to the folder `output`.

        nststab.experiments.gram_trace(["road.avi"], "out", clips=[("mosaic.jpg", "mosaic.mp4")])

    clips: pictures of styles with clips that another program stylized, which are measured as they are. Other arguments
    and errors as those of `table1`; each style needs its picture or a card that tells its trace.
    """
    if not videos and not clips:
        raise SettingError("expected videos of a fixed camera, or clips")
    if styles and not videos:
        raise SettingError("styles needs videos of a fixed camera")
    chosen = GramTraceSettings.of(settings).changed(size=size, limit=limit)
    cast = Cast.of(styles, methods, stylizers, chosen, device, precision)
    theirs: dict[str, tuple[str, dict[str, Path]]] = {}
    by_picture: dict[str, list[Path]] = {}
    for picture, path in clips:
        by_picture.setdefault(str(picture), []).append(Path(path))
    for picture, paths in by_picture.items():
        style = style_name(picture)
        if style in theirs:
            raise SettingError(f"clips has two styles that are called {style}")
        theirs[style] = picture, _named("clips", paths)
    own = _named("video", [Path(video) for video in videos])
    return run(Figure3(chosen, cast, own, theirs), output, overwrite, executor, progress)


@dataclass(frozen=True)
class Figure3(Stylizing):
    """Of the videos, of each style and method on each, and of clips that were stylized elsewhere the instability.

    Attributes:
        paths: the videos by name.
        theirs: of each style of others its picture, and clips by name.
    """

    settings: GramTraceSettings
    paths: Mapping[str, Path]
    theirs: "Mapping[str, tuple[str, Mapping[str, Path]]]"
    name, shape = "gram-trace", (10.0, 5.0)

    @cached_property
    def videos(self) -> "Mapping[str, Clip]":
        """The videos by name."""
        return {name: _opened(path, self.settings.size) for name, path in self.paths.items()}

    @cached_property
    def clips(self) -> "Mapping[str, Mapping[str, Clip]]":
        """The clips of others by style and name."""
        return {
            style: {name: _opened(path, None) for name, path in paths.items()}
            for style, (_, paths) in self.theirs.items()
        }

    @cached_property
    def traces(self) -> Mapping[tuple[str, str], Mapping[str, float]]:
        """The traces of each style, of ours under the method "", of others' under `CLIPS`."""
        settings, device = self.settings.perceptual, self.cast.where.device
        pictures = {style: style_source(picture) for style, (picture, _) in self.theirs.items()}
        ours, others = (style_traces(found, settings, device) for found in (self._styles, pictures))
        return {("", style): trace for style, trace in ours.items()} | {
            (CLIPS, style): trace for style, trace in others.items()
        }

    @property
    def _styles(self) -> Mapping[str, StyleSource]:
        return self.cast.sources if self.paths else {}

    def identity(self) -> dict[str, Json]:
        said = self.cast.identity() | {
            "style_size": STYLE_SIZE,
            "losses_every": LOSSES_EVERY,
            "styles": {name: source.digest(self.cast.methods) for name, source in self._styles.items()},
            "videos": _digests(self.videos),
            "clip_styles": {style: content_hash(Path(picture)) for style, (picture, _) in self.theirs.items()},
            "clips": {style: _digests(own) for style, own in self.clips.items()},
        }
        assert self.traces is not None  # a style without one is refused before any work, the clips first
        return said

    def parts(self, found: Mapping[str, Json]) -> list[Part]:  # noqa: ARG002
        parts = [self._part("input", "", name, clip) for name, clip in self.videos.items()]
        for style, method in self.cast.pairs:
            parts += [self._part(style, method, name, clip) for name, clip in self.videos.items()]
        for style, own in self.clips.items():
            parts += [self._part(style, CLIPS, name, clip) for name, clip in own.items()]
        return parts

    def _part(self, style: str, method: str, video: str, clip: "Clip") -> Part:
        frames = min(self.settings.limit, clip.frame_count or self.settings.limit)
        name = " ".join(part for part in (style, method, video) if part)
        losses = math.ceil(frames / LOSSES_EVERY)
        return Part(name, video, style, method, frames, 1, losses, (clip.width, clip.height))

    def measure(self, part: Part, work: Work) -> dict[str, Any]:
        clip = (self.clips[part.style] if part.method == CLIPS else self.videos)[part.data]
        frames = work.counted(frame.rgb for frame in islice(clip.frames(), self.settings.limit))
        side = max(clip.width, clip.height)
        if not part.method:
            return measure(frames, unchanged, lambda _stylized, _content: {})
        if part.method == CLIPS:
            source = style_source(self.theirs[part.style][0])
            return measure(frames, None, self.cast.losses_of(source, side))
        with self.cast.stylizing(part.style, part.method, side, work) as stylizer:
            return measure(frames, stylizer, self.cast.losses(part.style, side))

    def _rows(self, found: Mapping[str, Json]) -> Iterator[Row]:
        groups: dict[tuple[str, str], dict[str, Any]] = {}
        for part in self.parts({}):
            groups.setdefault((part.style, part.method), {})[part.data] = found[part.name]
        for (style, method), measured in groups.items():
            trace = self.traces.get((CLIPS if method == CLIPS else "", style), {})
            yield row(style, method, trace if method else {}, measured)

    def rows(self, found: Mapping[str, Json]) -> list[Row]:
        return [one for one in self._rows(found) if one["method"]]

    def more(self, rows: Sequence[Row], found: Mapping[str, Json]) -> dict[str, Json]:
        content = next((one for one in self._rows(found) if not one["method"]), None)
        return {"input": content, "fit": fits(rows), "date": datetime.now(UTC).date().isoformat()}

    def table(self, rows: Sequence[Row], more: Mapping[str, Json]) -> Table:
        return table(rows, more["input"])

    def draw(self, figure: "Figure", rows: Sequence[Row], more: Mapping[str, Json]) -> None:
        draw(figure, rows, more["input"])


def _named(what: str, paths: Sequence[Path]) -> dict[str, Path]:
    """Clips by the names that they have in the results; SettingError where two have the same."""
    named: dict[str, Path] = {}
    for path in paths:
        name = path.stem if path.is_file() else path.name if path.is_dir() else path.parent.name
        if name in named:
            raise SettingError(f"{what}: two clips are called {name}, {named[name]} and {path}")
        named[name] = path
    return named


def _opened(path: Path, size: int | None) -> "Clip":
    """The clip at its own size, or at `size` where that is smaller."""
    if is_pipe(path):
        raise SettingError(f"{path}: expected a file or a folder, which can be read more than once, got a pipe")
    clip = open_clip(path)
    if clip.frame_count == 1:
        raise SettingError(f"{path}: expected a clip of at least two frames, got one")
    return open_clip(path, size) if size and size < max(clip.width, clip.height) else clip


def _digests(clips: "Mapping[str, Clip]") -> dict[str, str]:
    return {name: content_hash(clip.pictures or clip.path) for name, clip in clips.items()}


def measure(frames: Iterable[Tensor], stylize: Stylizer | None, frame_losses: FrameLosses) -> dict[str, Any]:
    """Instability of what a stylizer makes of a video's frames (1, 3, H, W), beside its mean style and content loss.

    `still` is the instability where the content stands still (`metrics.still_pixels`): cars that pass are no flicker.

    stylize: None where the frames are stylized already: without content, `still` and the content loss are NaN.
    frame_losses: of a stylized frame and its content the named terms. Raises ValueError for fewer than two frames.
    """
    losses: dict[str, list[float]] = {"style": [], "content": []}
    still: list[float] = []
    n = 0

    def stylized() -> Iterator[Tensor]:
        nonlocal n
        before: tuple[Tensor, Tensor] | None = None
        for content, picture in _beside_content(frames, stylize):
            if n % LOSSES_EVERY == 0:
                terms = frame_losses(picture, picture if content is None else content)
                losses["style"].append(terms.get("style", math.nan))
                losses["content"].append(math.nan if content is None else terms.get("content", math.nan))
            if content is not None:
                if before is not None:
                    still.append(_still_change(*before, content, picture))
                before = content, picture
            n += 1
            yield picture

    instability = metrics.instability(stylized())
    if n < 2:
        raise NststabError(f"expected at least two frames, whose difference is measured, got {n}")
    means = {f"{name}_loss": mean_of_known(values) for name, values in losses.items()}
    return {"instability": instability, "still": mean_of_known(still), **means, "frames": n}


def _beside_content(frames: Iterable[Tensor], stylize: Stylizer | None) -> Iterator[tuple[Tensor | None, Tensor]]:
    if stylize is None:
        yield from ((None, frame) for frame in frames)
    else:
        yield from ((content.rgb, made["made"]) for content, made in in_step(as_frames(frames), {"made": stylize}))


def _still_change(content: Tensor, picture: Tensor, next_content: Tensor, next_picture: Tensor) -> float:
    """Mean squared difference of two stylized frames where their content stands still; NaN where nothing does."""
    still = metrics.still_pixels(content, next_content).to(picture.device)
    return float((next_picture - picture).square().mean(1, keepdim=True)[still].mean())


def row(style: str, method: str, trace: Mapping[str, float], videos: Mapping[str, Mapping[str, Any]]) -> Row:
    """A row of the results: means over videos, each counting the same, and every video's instability.

    trace: by layer; what is no style, as the videos themselves, has none.
    """

    def mean(name: str) -> float:
        return mean_of_known(part[name] for part in videos.values())

    return {
        "style": style,
        "method": method,
        "instability": mean("instability"),
        "videos": {name: part["instability"] for name, part in videos.items()},
        "still": mean("still"),
        **{f"trace_{layer}": trace.get(layer, math.nan) for layer in LAYERS},
        "style_loss": mean("style_loss"),
        "content_loss": mean("content_loss"),
        "frames": sum(part["frames"] for part in videos.values()),
    }


def methods(rows: Sequence[Row]) -> list[str]:
    """The methods of the rows, in their order."""
    return list(dict.fromkeys(found["method"] for found in rows))


def lines(
    rows: Sequence[Row], method: str, of: Callable[[Row], float | None] = lambda found: found["instability"]
) -> dict[str, Line]:
    """The line through a method's styles at each layer; empty where `of`, their instability, is known of none."""
    points = [(found, of(found)) for found in rows if found["method"] == method]
    known = [(found, value) for found, value in points if value is not None and not math.isnan(value)]
    values = [value for _, value in known]
    return {layer: fit_line([found[f"trace_{layer}"] for found, _ in known], values) for layer in LAYERS if known}


def fits(rows: Sequence[Row]) -> dict[str, Any]:
    """The lines of every method by layer, as JSON values.

    Through the means over videos; under `still` those of still pixels alone, under `videos` those of each video.
    """

    def content(found: Lines) -> dict[str, Any]:
        return {layer: as_json(line) for layer, line in found.items()}

    return {
        method: content(lines(rows, method))
        | {
            "still": content(lines(rows, method, lambda row: row["still"])),
            "videos": {video: content(_lines_of_video(rows, method, video)) for video in videos_of(rows, method)},
        }
        for method in methods(rows)
    }


def _lines_of_video(rows: Sequence[Row], method: str, video: str) -> dict[str, Line]:
    return lines(rows, method, lambda row: row["videos"].get(video))


def videos_of(rows: Sequence[Row], method: str) -> list[str]:
    """The videos that more than one style of a method was measured on: clips of others have none."""
    names = [name for found in rows if found["method"] == method for name in found["videos"]]
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def table(rows: Sequence[Row], content: Row | None = None) -> Table:
    """The table for people, the least stable style first. content: the row of the videos themselves."""
    first = [] if content is None else [content]
    names = [*(found["videos"] for found in first), *(videos_of(rows, method) for method in methods(rows))]
    videos = list(dict.fromkeys(name for own in names for name in own))
    columns = ["style", "method", "instability", "still", *videos, *(f"trace {layer}" for layer in LAYERS)]
    shown = first + sorted(rows, key=lambda found: (methods(rows).index(found["method"]), -found["instability"]))
    cells = []
    for found in shown:
        values = [found["instability"], found["still"], *(found["videos"].get(name, math.nan) for name in videos)]
        figures = [f"{value * 1000:.3f}" for value in values]
        figures += [f"{found[f'trace_{layer}']:.0f}" for layer in LAYERS]
        figures += [f"{found[name]:.3f}" for name in ("style_loss", "content_loss")]
        cells.append([found["style"], found["method"], *("-" if figure == "nan" else figure for figure in figures)])
    note = (
        "Mean squared differences of adjacent frames in thousandths, here and in the line, but not in results.json; "
        "still: where the content stands still."
    )
    note = "\n\n".join([note, *(said(rows, method) for method in methods(rows))])
    title = "Instability of styles and the trace of their Gram matrix"
    return Table(title, [*columns, "style loss", "content loss"], cells, note)


def said(rows: Sequence[Row], method: str) -> str:
    """The lines of a method in words."""
    found = lines(rows, method)
    n = next(iter(found.values())).n
    if not all(line.residual_error >= 0 for line in found.values()):
        return f"{method}: {n} {'style' if n == 1 else 'styles'}, and a line needs three of different traces."
    parts = [
        f"{layer}: instability = {line.intercept * 1000:.3g} {'-' if line.slope < 0 else '+'} "
        f"{abs(line.slope) * 1000:.3g} trace, residual standard error {line.residual_error * 1000:.3g}, "
        f"Spearman's {correlation(line)}"
        for layer, line in found.items()
    ]
    others = {"still": lines(rows, method, lambda row: row["still"])}
    others |= {video: _lines_of_video(rows, method, video) for video in videos_of(rows, method)}
    ranks = [
        f"{name} {' and '.join(f'{line.spearman:.2f}' for line in own.values())}" for name, own in others.items() if own
    ]
    apart = f" Spearman's ρ apart, at {' and '.join(LAYERS)}: {', '.join(ranks)}." if ranks else ""
    return f"{method}, {n} styles. {'; '.join(parts)}.{apart}"


def draw(figure: "Figure", rows: Sequence[Row], content: Row | None = None) -> None:
    """Instability against trace, a panel for each layer: every style by its name, the line and its prediction band.

    content: the row of the videos themselves.
    """
    panels = figure.subplots(1, len(LAYERS), sharey=True)
    for panel, layer in zip(panels, LAYERS, strict=True):
        titles = []
        for place, method in enumerate(methods(rows)):
            own = [point for point, found in zip(_points(rows, layer), rows, strict=True) if found["method"] == method]
            line, color = lines(rows, method)[layer], color_of(method, place)
            panel.plot(*zip(*own, strict=True), "o", ms=4, color=color, label=method)
            if line.residual_error >= 0:
                _draw_line(panel, line, color)
                titles.append(f"{method}: {correlation(line)}, {line.n} styles")
        if content is not None:
            panel.axhline(content["instability"] * 1000, color=COLORS["input"], lw=0.8, ls="--", label="input")
        panel.set_title("\n".join([layer, *titles]), fontsize=9)
        panel.set_xlabel(f"trace of the Gram matrix at {layer}")
        panel.margins(x=0.06)
    panels[0].set_ylim(0, 1.25 * max(found["instability"] * 1000 for found in rows))
    panels[0].set_ylabel("instability (mean squared difference\nof adjacent frames, thousandths)")
    panels[0].legend(loc="upper left")
    for panel, layer in zip(panels, LAYERS, strict=True):
        _name_styles(figure, panel, rows, layer)


def _points(rows: Sequence[Row], layer: str) -> list[tuple[float, float]]:
    return [(found[f"trace_{layer}"], found["instability"] * 1000) for found in rows]


def _draw_line(panel: "Axes", line: Line, color: str) -> None:
    """The line over the measured traces, and the band in which 95 % of styles are predicted."""
    x = _along(line)
    predicted = [line.predict(trace) for trace in x]
    panel.plot(x, [prediction.value * 1000 for prediction in predicted], color=color, lw=1)
    lowest, highest = ([getattr(bounds, name) * 1000 for bounds in predicted] for name in ("low", "high"))
    panel.fill_between(x, lowest, highest, color=color, alpha=0.12, lw=0, label="95 % prediction")


def _along(line: Line) -> list[float]:
    low, high = line.range
    return [low + (high - low) * step / 100 for step in range(101)]


def _name_styles(figure: "Figure", panel: "Axes", rows: Sequence[Row], layer: str) -> None:
    """Each style's name at the highest of its points, clear of the others and of the lines where there is room."""
    points = _points(rows, layer)
    named: dict[str, tuple[float, float]] = {}
    for point, found in zip(points, rows, strict=True):
        if point[1] >= named.get(found["style"], point)[1]:
            named[found["style"]] = point
    others = [point for point in points if point not in named.values()]
    for line in (lines(rows, method)[layer] for method in methods(rows)):
        if line.residual_error >= 0:
            others += [(trace, line.predict(trace).value * 1000) for trace in _along(line)]
    label_points(figure, panel, list(named.values()), [name.replace("_", " ") for name in named], others)
