"""Hundreds of frames: do brightness and colour drift, does anything accumulate, what does a passing object leave?

Four parts, which stream, so that memory does not grow with their length: a still under fresh sensor noise in every
frame; a short clip, looped forwards and backwards, so that it has no cut; an object that comes and vanishes, against
the same run without it; and a cut between two shots, against a run that begins there. Means and differences are in
levels of 255. A stylizer without memory moves by its noise alone, and leaves no ghost.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nststab.errors import NststabError
from nststab.experiments.cast import Cast, Stylizing
from nststab.experiments.figures import color_of, grouped
from nststab.experiments.runner import Part, Results, Work, run
from nststab.experiments.settings import DriftSettings
from nststab.frames import Stylizer, as_frames, copies, pictures_of
from nststab.listener import Listener, silent
from nststab.measure.stability import CONTENT, FrameLosses
from nststab.metrics import DriftSlopes, drift_slopes, with_brightness
from nststab.shots import by_shot, detect_cuts
from nststab.storage.tables import Json, Row, Table
from nststab.styles.shipped import demo_clip
from nststab.video.clip import open_clip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BEFORE, _COMING, _STAYING, _AFTER = 5, 6, 10, 30  # frames of the object's run
_RADIUS = 0.2  # of the object, of the shorter side
_SHOT = 10  # frames of each shot around the cut


def drift(
    output: str | Path,
    source: str | Path | None = None,
    *,
    styles: Sequence[str | Path] | None = None,
    methods: Sequence[str] = ("independent", "recurrent"),
    stylizers: Mapping[str, Stylizer] | None = None,
    frames: int | None = None,
    size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    settings: DriftSettings | None = None,
    overwrite: bool = False,
    executor: Executor | None = None,
    progress: Listener = silent,
) -> Results:
    """Measures what builds up over hundreds of frames, and writes it to the folder `output`.

        nststab.experiments.drift("out", "photo.jpg", frames=1000, stylizers={"mine": my_callable})

    source: a clip or a picture, by default the bundled clip. frames, size: as in `DriftSettings`; other arguments and
    errors as those of `table1`.
    """
    chosen = DriftSettings.of(settings).changed(frames=frames, size=size)
    cast = Cast.of(styles, methods, stylizers, chosen, device, precision)
    opened = open_clip(Path(source) if source is not None else demo_clip(), chosen.size)
    clip = tuple(frame.rgb for frame in islice(opened.frames(), chosen.looped))
    foreign(clip[0])  # refuses a picture without contrast before the work, not amid it
    return run(LongRuns(chosen.changed(limit=len(clip)), cast, clip), output, overwrite, executor, progress)


@dataclass(frozen=True, eq=False)
class LongRuns(Stylizing):
    """Of the input and of each style and method the still, the loop, the ghost and the cut.

    Attributes:
        clip: the first frames, (1, 3, H, W), as many as are looped.
    """

    settings: DriftSettings
    clip: tuple[Tensor, ...]
    name, shape = "drift", (9.0, 3.8)

    def identity(self) -> dict[str, Json]:
        frames = b"".join(frame.numpy().tobytes() for frame in self.clip)
        return self.cast.identity() | {
            "limit": self.settings.looped,
            "settled": self.settings.settled,
            "window": self.settings.window,
            "input": hashlib.blake2b(frames, digest_size=8).hexdigest(),
        }

    def parts(self, found: Mapping[str, Json]) -> list[Part]:  # noqa: ARG002
        height, width = self.clip[0].shape[-2:]
        of_windows = {"still": 2 * self.settings.window, "loop": 2 * self.settings.period}
        return [
            Part(f"{style} {method} {name}", name, style, method, *frames, of_windows.get(name, 0), (width, height))
            for style, method in self.pairs
            for name, frames in parts(self.settings).items()
        ]

    def measure(self, part: Part, work: Work) -> Json:
        side = max(self.clip[0].shape)
        losses = self.cast.losses(part.style, side)
        with self.stylizing(part, side, work) as stylizer:
            return measure(part.data, stylizer, self.clip, self.settings, losses)

    def rows(self, found: Mapping[str, Json]) -> list[Row]:
        return [
            row(style, method, {name: found[f"{style} {method} {name}"] for name in parts(self.settings)})
            for style, method in self.pairs
        ]

    def table(self, rows: Sequence[Row], more: Mapping[str, Json]) -> Table:  # noqa: ARG002
        return table(rows, self.settings)

    def draw(self, figure: "Figure", rows: Sequence[Row], more: Mapping[str, Json]) -> None:  # noqa: ARG002
        draw(figure, rows, self.settings)


def parts(settings: DriftSettings) -> dict[str, tuple[int, int]]:
    """The parts of the experiment, with how many frames each stylizes in how many calls of the stylizer."""
    looped = {"loop": (settings.frames, 1)} if settings.looped > 1 else {}
    seen = _BEFORE + _COMING + _STAYING + _AFTER
    return {"still": (settings.frames, 1), **looped, "ghost": (2 * seen, 2), "cut": (5 * _SHOT, 4)}


def measure(
    part: str, stylizer: Stylizer, clip: Sequence[Tensor], settings: DriftSettings, frame_losses: FrameLosses
) -> dict[str, Any]:
    """One of the `parts`, as JSON values.

    clip: frames (1, 3, H, W); the first is the still. frame_losses: as `stability.perceptual_losses` makes them.
    Raises ValueError for a picture without contrast.
    """
    still = clip[0]
    if part == "still":
        shown = ((noisy(still, index, settings), still) for index in range(settings.frames))
        return long_run(stylizer, shown, settings, settings.window, 1, frame_losses)
    if part == "loop":
        there_and_back = cycle([*clip, *clip[-2:0:-1]])
        looped = ((frame, frame) for frame in islice(there_and_back, settings.frames))
        return long_run(stylizer, looped, settings, settings.period, settings.period, frame_losses)
    return (ghost if part == "ghost" else cut)(stylizer, still, settings)


def noisy(frame: Tensor, index: int, settings: DriftSettings) -> Tensor:
    """The frame under the sensor noise of its moment: the same in every run, whatever came before."""
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + index)
    return (frame + settings.noise * torch.randn(frame.shape, generator=generator)).clamp(0, 1)


def foreign(picture: Tensor) -> Tensor:
    """What the picture (1, 3, H, W) does not hold but resembles in texture: its mirrored negative.

    Raises ValueError for a picture that this hardly differs from, such as a grey one.
    """
    other = 1 - picture.flip(-1)
    if not any(cut for _, cut in detect_cuts(as_frames([picture, other]))):
        raise NststabError("expected a picture with contrast: an object and a cut would not be seen in this one")
    return other


def long_run(
    stylizer: Stylizer,
    shown: Iterable[tuple[Tensor, Tensor]],
    settings: DriftSettings,
    window: int,
    smoothed: int,
    frame_losses: FrameLosses,
) -> dict[str, Any]:
    """What happens to a long clip: frames (1, 3, H, W), each with its clean content, which its losses are taken of.

    window: frames of the means that are compared. smoothed: frames of the running mean whose slope is taken; over the
    rounds of a loop its own motion is no drift.

    - `slopes` of brightness, R, G, B in levels per frame by least squares after settling, and `errors`, their standard
      errors: from means over windows, which depend on each other far less than the frames of a recurrent stylizer do.
    - `drift`: the largest absolute slope, and `drift_error` its standard error.
    - `moved`: the farthest that the mean of a window, wherever it begins, comes from that of the first.
    - `change`: mean absolute difference of adjacent frames.
    - `accumulated`: mean absolute difference, pixel by pixel, of the mean pictures of the first and the last window,
      which sees what the means of whole frames hide; `accumulated_noise`: of the first and the second.
    - `style_loss` and `content_loss`, each of the first and of the last window.
    - `means`: brightness, R, G, B of every frame, in levels, rounded.
    """
    taken, known = copies(shown, 2)
    stylized = _run(stylizer, (frame for frame, _ in taken))
    means: list[Tensor] = []
    changes: list[float] = []
    starts = (settings.settled, settings.settled + window, settings.frames - window)
    first, _, last = windows = [range(start, start + window) for start in starts]
    pictures = [torch.zeros(()) for _ in windows]
    losses: dict[int, Mapping[str, float]] = {}
    previous: Tensor | None = None
    for index, (frame, (_, content)) in enumerate(zip(stylized, known, strict=False)):
        means.append(frame.mean((0, 2, 3), dtype=torch.float64))
        if previous is not None and index >= settings.settled:
            changes.append(_difference(frame, previous))
        if index in first or index in last:
            losses[index] = frame_losses(frame, content)
        pictures = [
            picture + frame.double() / window if index in within else picture
            for picture, within in zip(pictures, windows, strict=True)
        ]
        previous = frame
    if len(means) != settings.frames:
        raise NststabError(f"expected {settings.frames} stylized frames, got {len(means)}")
    curves = dict(zip(DriftSlopes._fields, (255 * with_brightness(torch.stack(means))).T.tolist(), strict=True))
    return {
        **slopes(torch.stack(means)[settings.settled :], window, smoothed),
        "change": math.fsum(changes) / len(changes),
        "accumulated": _difference(pictures[0], pictures[2]),
        "accumulated_noise": _difference(pictures[0], pictures[1]),
        **{
            f"{term}_loss": [math.fsum(losses[index][term] for index in within) / window for within in (first, last)]
            for term in ("style", "content")
        },
        "means": {name: [round(level, 4) for level in curve] for name, curve in curves.items()},
    }


def slopes(means: Tensor, window: int, smoothed: int) -> dict[str, Any]:
    """Slopes of settled means (T, 3), their standard errors, and how far they move; see `long_run`."""
    running = means.unfold(0, smoothed, 1).mean(-1)  # (T - smoothed + 1, 3)
    found = drift_slopes(running)
    errors = slope_errors(means, window)
    largest = max(range(len(found)), key=lambda index: abs(found[index]))
    levels = 255 * with_brightness(means.unfold(0, window, 1).mean(-1))  # (T - window + 1, 4)
    return {
        "drift": abs(found[largest]),
        "drift_error": errors[largest],
        "slopes": found._asdict(),
        "errors": errors._asdict(),
        "moved": float((levels - levels[0]).abs().max()),
    }


def slope_errors(means: Tensor, window: int) -> DriftSlopes:
    """Standard errors of the slopes of means (T, 3), from their means over windows that do not overlap.

    Those are taken as independent of each other: a stylizer's memory is to be short against the window. NaN for fewer
    than three windows.
    """
    count = len(means) // window
    if count < 3:
        return DriftSlopes(*[math.nan] * 4)
    levels = 255 * with_brightness(means[: count * window].double().view(count, window, 3).mean(1))  # (count, 4)
    time = window * (torch.arange(count, dtype=torch.float64) - (count - 1) / 2)
    levels = levels - levels.mean(0)
    residuals = levels - time[:, None] * (time @ levels / time.square().sum())
    variance = residuals.square().sum(0) / (count - 2)
    return DriftSlopes(*(variance / time.square().sum()).sqrt().tolist())


def ghost(stylizer: Stylizer, still: Tensor, settings: DriftSettings) -> dict[str, Any]:
    """What an object leaves behind: a disc of foreign texture slides in from the left, stays, and is gone at once.

    `ghost`: of each frame since, the first of which is the first without it, the mean absolute difference over its
    place to a run under the same noise that never saw it, in levels. It vanishes where it stands, which is harder than
    to slide out: all of its place is uncovered in one frame.
    """
    gone = _BEFORE + _COMING + _STAYING
    place = _disc(still, 0)
    object_passes = _run(stylizer, (noisy(frame, i, settings) for i, frame in enumerate(passing(still))))
    never_there = _run(stylizer, (noisy(still, i, settings) for i in range(gone + _AFTER)))
    since = islice(zip(object_passes, never_there, strict=True), gone, None)
    return {"ghost": [float(((a - b).abs().mean(1) * place).sum() / place.sum()) * 255 for a, b in since]}


def passing(still: Tensor) -> Iterator[Tensor]:
    """The object's frames, without noise: none, coming, staying, none again."""
    other, width = foreign(still), still.shape[-1]
    reach = width / 2 + _RADIUS * min(still.shape[-2:]) + 1  # from out of sight to the middle
    shifts = [-round(reach * (1 - step / _COMING)) for step in range(1, _COMING + 1)] + [0] * _STAYING
    yield from [still] * _BEFORE
    for shift in shifts:
        yield torch.lerp(still, other.roll(shift, -1), _disc(still, shift))
    yield from [still] * _AFTER


def _disc(still: Tensor, shift: int) -> Tensor:
    """Coverage (H, W) by a disc, `shift` pixels to the right of the middle; its edge fades over a pixel."""
    height, width = still.shape[-2:]
    rows = torch.arange(height)[:, None] - (height - 1) / 2
    columns = torch.arange(width) - (width - 1) / 2 - shift
    return (_RADIUS * min(height, width) - torch.hypot(rows, columns) + 0.5).clamp(0, 1)


def cut(stylizer: Stylizer, still: Tensor, settings: DriftSettings) -> dict[str, Any]:
    """What a cut to a foreign picture leaves, against a run under the same noise that begins at the cut.

    `cut`: the largest absolute difference where cuts are looked for, as by default everywhere, so that the stylizer
    begins anew; `cut_unseen`: mean absolute difference of each frame after it where they are not.
    """
    other = foreign(still)
    joined = [noisy(frame, i, settings) for i, frame in enumerate([still] * _SHOT + [other] * _SHOT)]
    alone = list(_run(stylizer, joined[_SHOT:]))
    anew = list(_run(lambda frames: by_shot(stylizer, frames), joined))[_SHOT:]
    through = list(_run(stylizer, joined))[_SHOT:]
    return {
        "cut": max(float((a - b).abs().max()) * 255 for a, b in zip(anew, alone, strict=True)),
        "cut_unseen": [_difference(a, b) for a, b in zip(through, alone, strict=True)],
    }


def _run(stylizer: Stylizer, pictures: Iterable[Tensor]) -> Iterator[Tensor]:
    return pictures_of(stylizer(as_frames(pictures)))


def _difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().mean()) * 255


# what people see

GHOST_AFTER = (1, 2, 5, 10)  # frames without the object, the first of which is 1
_CHANNELS = {"brightness": "#000000", "red": "#D55E00", "green": "#009E73", "blue": "#0072B2"}


def row(style: str, method: str, found: Mapping[str, Row]) -> dict[str, Any]:
    """The row of a style by a method, from what was measured of each part; `loop` is None where there was none.

    Style and content loss are those at the end of the still; `_first` those after settling.
    """
    loop = found.get("loop")
    return {
        "style": style,
        "method": method,
        **_long(found["still"]),
        "loop": None if loop is None else _long(loop),
        **{f"ghost_{frame}": found["ghost"]["ghost"][frame - 1] for frame in GHOST_AFTER},
        **found["ghost"],
        **found["cut"],
        "means": found["still"]["means"],
    }


def _long(measured: Row) -> dict[str, Any]:
    """What `long_run` gives, without curves, its losses as numbers."""
    flat = {name: value for name, value in measured.items() if name not in ("means", "style_loss", "content_loss")}
    for term in ("style_loss", "content_loss"):
        flat[f"{term}_first"], flat[term] = measured[term]
    return flat


def table(rows: Sequence[Row], settings: DriftSettings) -> Table:
    """Slopes over a thousand frames, movement, ghost and cut of each style and method."""
    columns = [
        "style, method",
        *("drift in 1000", "moved", "accumulated", "change"),
        *("loop: drift", "moved"),
        *(f"ghost +{frame}" for frame in GHOST_AFTER),
        *("cut", "not seen +1", "+10"),
        *("style loss", "content loss"),
    ]
    note = (
        f"Levels of 255. A still under noise of {settings.noise:g}, {settings.frames} frames, and a loop: the "
        "steepest of brightness, R, G and B over 1000 frames, with its standard error; the farthest that a mean over "
        f"{settings.window} frames (a round of the loop) comes from the first after {settings.settled} frames; by "
        "how much the mean pictures of first and last window differ (of first and second). Ghost: where an object "
        "was, so many frames after it, against a run that never saw it. Cut: what it leaves against a run that begins "
        "there, at most, and on average where no cut is looked for. Losses of the still, first and last window."
    )
    return Table("Drift, ghosts and cuts", columns, [_cells(row) for row in rows], note)


def _cells(row: Row) -> list[str]:
    loop = row["loop"]
    return [
        f"{row['style']}, {row['method']}",
        _slope(row),
        f"{row['moved']:.3f}",
        f"{row['accumulated']:.2f} ({row['accumulated_noise']:.2f})",
        f"{row['change']:.2f}",
        *(("-", "-") if loop is None else (_slope(loop), f"{loop['moved']:.3f}")),
        *(f"{row[f'ghost_{frame}']:.2f}" for frame in GHOST_AFTER),
        f"{row['cut']:.2g}",
        *(f"{row['cut_unseen'][frame - 1]:.2f}" for frame in (1, 10)),
        *(f"{row[f'{term}_first']:.3f} to {row[term]:.3f}" for term in ("style_loss", "content_loss")),
    ]


def _slope(row: Row) -> str:
    error = row["drift_error"]
    shown = f"{1000 * row['drift']:.3f}"
    return shown if error is None or math.isnan(error) else f"{shown} ± {1000 * error:.3f}"


def draw(figure: "Figure", rows: Sequence[Row], settings: DriftSettings) -> None:
    """Left the still's means along the run, a panel for each method; right the ghosts."""
    methods = grouped([row for row in rows if row["method"] != CONTENT], "method")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(5, 4))[0]
    panels = left.subplots(len(methods), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (method, own) in zip(panels, methods.items(), strict=True):
        _draw_means(axes, own, settings)
        axes.set_title(method, loc="left", fontsize=9)
    panels[0].legend(loc="upper right", ncols=4, fontsize=7, handlelength=1.2, columnspacing=1)
    panels[-1].set_xlabel("frame of a still under noise")
    left.supylabel("mean less that after settling, levels of 255", fontsize=9)
    _draw_ghosts(right.subplots(), methods)


def _draw_means(axes: "Axes", rows: Sequence[Row], settings: DriftSettings) -> None:
    """How far each mean is from that of the first settled window: every frame thin, the mean over a window thick."""
    settled, window = settings.settled, settings.window
    for row in rows:
        for name, color in _CHANNELS.items():
            curve = row["means"][name]
            origin = math.fsum(curve[settled : settled + window]) / window
            moved = [level - origin for level in curve]
            label = name if row is rows[0] else None
            axes.plot(range(1, len(moved) + 1), moved, color=color, linewidth=0.5, alpha=0.35 / len(rows) ** 0.5)
            axes.plot(*_running(moved, window), color=color, linewidth=1.6, alpha=1 / len(rows) ** 0.5, label=label)
    axes.axvline(settled, color="#999999", linewidth=0.8, linestyle=":")


def _draw_ghosts(axes: "Axes", methods: Mapping[str, Sequence[Row]]) -> None:
    for place, (method, rows) in enumerate(methods.items()):
        for number, curve in enumerate(row["ghost"] for row in rows):
            label = None if number else method
            axes.plot(
                range(1, len(curve) + 1),
                curve,
                ".-",
                color=color_of(method, place),
                linewidth=1,
                markersize=4,
                label=label,
            )
    axes.set(xlabel="frames since the object vanished", ylabel="difference in its place, levels of 255")
    axes.set_ylim(-0.03 * axes.get_ylim()[1])  # lines at zero are seen
    axes.set_xticks((1, 5, 10, 20, 30))
    axes.legend()


def _running(curve: Sequence[float], window: int) -> tuple[list[float], list[float]]:
    """Middles of windows, counted from frame 1, and means over them."""
    means = [math.fsum(curve[start : start + window]) / window for start in range(len(curve) - window + 1)]
    return [start + (window + 1) / 2 for start in range(len(means))], means
