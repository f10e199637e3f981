"""What a score found: figures with intervals, ranks, what of it is proven, and the same as text, LaTeX, CSV, JSON."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import nststab
from nststab.flow.estimators import estimator_version
from nststab.measure.intervals import Difference, Interval, block_interval, paired_differences, with_interval
from nststab.measure.published import PairMeasure
from nststab.measure.score import UNITS, ClipScore, figures_of
from nststab.measure.stability import CONTENT
from nststab.measure.verdict import HARDLY_CHANGED, HARDLY_STYLIZED, Standing, findings, ranks, share_of_input
from nststab.storage.durable import write_durably
from nststab.storage.tables import Json, Row, Table, csv_text, versions, without_nan

SCHEMA = 1
"""Of the JSON: higher where a key means something else than before."""


@dataclass(frozen=True)
class ScoredClip:
    """One of the clips: where it was read, what tables call it, its place (1 the best) and its figures.

    Attributes:
        rank: None where it has none: style was not measured, the clip is hardly in the style, or its frames lag.
        lag: by how many frames it was found ahead of the original, behind where negative; `lag_from`: in which frame.
    """

    path: Path
    name: str
    rank: int | None
    score: ClipScore
    lag: int = 0
    lag_from: int = 0

    def json(self) -> dict[str, Json]:
        """The figures in the units of `UNITS`, after path, rank and lag."""
        return {"path": str(self.path), "rank": self.rank, "lag": self.lag, **self.score.as_row()}

    def failures(self, under: Mapping[str, float], over: Mapping[str, float]) -> Iterator[str]:
        """A line for each figure below its limit in `under` or above that in `over`.

        The figures are those of `settings.HIGHER_IS_BETTER` and `settings.LOWER_IS_BETTER`. One that could not be
        measured keeps no limit.
        """
        figures = self.score.as_row()
        for side, sign, limits in (("under", 1, under), ("over", -1, over)):
            for figure, limit in limits.items():
                value = figures[figure]
                if math.isnan(value):
                    yield f"{self.path}: {figure} could not be measured, the limit is {limit:g}"
                elif sign * value < sign * limit:
                    yield f"{self.path}: {figure} {value:.4g} is {side} {limit:g}"


class Recorded(ABC):
    """What is kept as JSON."""

    @abstractmethod
    def json(self) -> dict[str, Json]:
        """All of it as JSON values."""

    def json_text(self) -> str:
        """`json` as the text of a file."""
        return json.dumps(self.json(), indent=1, allow_nan=False) + "\n"

    def write_json(self, file: str | Path) -> None:
        """Writes `json_text`, whole or not at all."""
        write_durably(Path(file), self.json_text().encode())


@dataclass(frozen=True)
class Scores(Recorded):
    """What `score` found.

    Attributes:
        frames, shots: how many were measured.
        input: the original's own figures.
        references: what the original gets by doing little: blurred, and mixed with the frames before.
        clips: in the order in which they were given.
        measures: what other authors' and one's own measures are, by name; not_computed: why others are not here.
        settings: all that decides the figures, as JSON values; with `seed` the same call gives the same figures.
        block: how many neighbours are drawn as one for intervals and tests; 1 where the curves are of sequences.
    """

    original: Path
    frames: int
    shots: int
    input: ClipScore
    references: Mapping[str, ClipScore]
    clips: tuple[ScoredClip, ...]
    measures: Sequence[PairMeasure]
    not_computed: Mapping[str, str]
    settings: Mapping[str, Json]
    seed: int
    block: int | None = None

    @property
    def figures(self) -> Table:
        """Our figures of the original, then of the clips, the best first; for SSIM the interval over frames."""
        rows = [{"clip": CONTENT, **self.shown(self.input)}]
        rows += [{"clip": name, **self.shown(score)} for name, score in self.references.items()]
        for clip in sorted(self.clips, key=lambda clip: (clip.rank or math.inf, -clip.score.stability.ssim)):
            name = clip.name if len(self.clips) == 1 else f"{clip.rank or '-'} {clip.name}"
            rows.append({"clip": name, **self.shown(clip.score)})
        shares = [
            f"{share:.0%} over {gap} frame{'s' * (gap > 1)}" for gap, share in self.input.trusted.items() if share > 0
        ]
        note = f"pixels with a flow to be trusted: {', '.join(shares) or 'none'}"
        return Table("", list(rows[0]), [list(row.values()) for row in rows], note)

    def shown(self, score: ClipScore) -> dict[str, str]:
        """A row of `figures`, by its columns."""
        figures = figures_of(score, self.input)
        figures["SSIM"] = with_interval(score.stability.ssim, self.interval(score), 3)
        return figures

    @property
    def published(self) -> Table:
        """The figures of other authors' measures and of one's own: a row for each, a column for each clip."""
        clips = {CONTENT: self.input, **self.references, **{clip.name: clip.score for clip in self.clips}}
        values = {name: score.measures for name, score in clips.items()}
        rows = [
            [one.name, *(f"{values[name][one.name]:.4g}".replace("nan", "-") for name in clips)]
            for one in self.measures
        ]
        rows += [[name, *["not computed"] * len(clips)] for name in self.not_computed]
        note = "\n".join(f"{name} was not computed here: it {why}" for name, why in self.not_computed.items())
        return Table("", ["measure", *clips], rows, note)

    def table(self) -> str:
        """`figures` as text for a terminal."""
        return replace(self.figures, note="").text()

    def markdown(self) -> str:
        """`figures` in Markdown."""
        return self.figures.markdown()

    def latex(self) -> str:
        """`figures` and `published` for LaTeX with the package booktabs; the settings are the caption."""
        return self.figures.latex(self.settings_line) + "\n" + self.published.latex(self.settings_line)

    def csv(self) -> str:
        """A row for the input and each reference and clip, with all figures and the bounds of the SSIM's interval."""
        return csv_text(list(self.flat_rows()))

    def flat_rows(self) -> Iterator[Row]:
        """The rows of `csv`."""
        known = {clip.name: clip for clip in self.clips}
        for name, score in [(CONTENT, self.input), *self.references.items(), *((c.name, c.score) for c in self.clips)]:
            row = score.as_row()
            bounds = self.interval(score)
            yield {
                "clip": name,
                "rank": known[name].rank if name in known else None,
                "lag": known[name].lag if name in known else None,
                **{key: value for key, value in row.items() if not isinstance(value, Mapping)},
                "ssim_low": bounds.low,
                "ssim_high": bounds.high,
                **{f"warp_error_{gap}": error for gap, error in row["warp_errors"].items()},
                **row["measures"],
            }

    def interval(self, score: ClipScore) -> Interval:
        """Of the mean SSIM, over the frames in blocks of neighbours; NaN for fewer than three pairs."""
        return block_interval(score.stability.curves.ssim, self.seed, block=self.block)

    @cached_property
    def differences(self) -> dict[tuple[str, str], Difference]:
        """Of each two clips, by their names, the difference in SSIM of the same patches, with its interval and p."""
        curves = {clip.name: clip.score.stability.curves.ssim for clip in self.clips}
        return paired_differences(curves, self.seed, self.block)

    @property
    def settings_line(self) -> str:
        """What decides the figures in one line, to be cited with them."""
        own = self.settings
        names = ["psnr", "ssim", *(f"warp {gap}" for gap in own["gaps"]), "flicker", "drift"]
        names += [one.name for one in self.measures]
        flow = own["flow"] if own["flow"] == "files" else f"{own['flow']} ({' '.join(estimator_version(own['flow']))})"
        return (
            f"nststab {nststab.__version__}, schema {SCHEMA}; {own['width']}x{own['height']}, {self.frames} frames; "
            f"{own['patches']} patches of {own['patch_size']} pixels within {own['radius']}, seed {self.seed}; flow "
            f"{flow}; style {own['style'] or 'not measured'}, losses by {own['perceptual_network']}; {', '.join(names)}"
        )

    def json(self) -> dict[str, Json]:
        """All figures with their units, and what decides them; None stands for what could not be measured."""
        found = {
            "schema": SCHEMA,
            "settings_line": self.settings_line,
            "settings": self.settings,
            "seed": self.seed,
            "original": str(self.original),
            "frames": self.frames,
            "shots": self.shots,
            "input": self.input.as_row(),
            "references": {name: score.as_row() for name, score in self.references.items()},
            "clips": [{**clip.json(), "ssim_interval": self.interval(clip.score)} for clip in self.clips],
            "differences": [
                {"clips": names, "ssim": found.mean, "interval": found.interval, "p": found.p}
                for names, found in self.differences.items()
            ],
            "units": UNITS | {one.name: one.unit for one in self.measures},
            "measures": {
                one.name: {"source": one.source, "gap": one.gap, "stride": one.stride} for one in self.measures
            },
            "not_computed": self.not_computed,
            "versions": versions(),
        }
        return dict(without_nan(found))

    def findings(self) -> list[str]:
        """Which clip is steadier without paying for it by style, in sentences; what lags is not compared."""
        rows = {clip.name: clip.score.as_row() for clip in self.clips if not clip.lag}
        return findings(self.input.as_row(), rows, self.differences)

    def notes(self) -> Iterator[str]:
        """What the table does not say by itself."""
        yield self.figures.note
        own = self.input.stability
        for clip in self.clips:
            row = clip.score.stability
            if row.content_loss < HARDLY_CHANGED:
                yield f"{clip.name} is hardly more than the input (content loss {row.content_loss:.3f})"
            if (share := share_of_input(standing(clip.score), own.style_loss)) > HARDLY_STYLIZED:
                kept = f"it keeps {share:.0%} of the input's style loss"
                yield f"{clip.name} is hardly in the style, and has no rank: {kept}"
            if clip.lag:
                side = "lags behind" if clip.lag < 0 else "is ahead of"
                frames = f"{abs(clip.lag)} frame{'s' * (abs(clip.lag) > 1)}"
                where = f" from frame {clip.lag_from + 1} on" if clip.lag_from else ""
                yield (
                    f"{clip.path} {side} the original by {frames}{where}: its figures are of frames that do not belong "
                    "together, and it has no rank"
                )
        if not own.n:
            yield "no patch was measured: the frames, or what the masks leave of them, are too small"
        if math.isnan(own.style_loss):
            yield "no style was named and measured: a clip may be steady because it does little, so none has a rank"


def standing(score: ClipScore) -> Standing:
    """What decides a clip's rank."""
    return Standing(score.stability.ssim, score.stability.style_loss)


def clip_ranks(own: ClipScore, clips: Sequence[ClipScore], lags: Sequence[int]) -> list[int | None]:
    """As `verdict.ranks`; a clip that lags has none, and counts against nobody."""
    standings = [standing(one) for one, lag in zip(clips, lags, strict=True) if not lag]
    places = iter(ranks(standings, own.stability.style_loss))
    return [None if lag else next(places) for lag in lags]
