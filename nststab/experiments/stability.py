"""Table 1 of Gupta et al. 2017: PSNR and SSIM of corresponding background patches, beside the paper's cells."""

import itertools
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nststab.datasets.folders import DavisSequence, davis_sequences
from nststab.errors import NststabError, SettingError
from nststab.experiments import paper
from nststab.experiments.cast import Cast, OnDavis, part_name
from nststab.experiments.figures import COLORS, OTHERS, color_of, grouped
from nststab.experiments.runner import Part, Results, Work, run
from nststab.experiments.scenes import KeptFrames, StabilityReport
from nststab.experiments.settings import Table1Settings
from nststab.frames import Stylizer, as_frames, copies, pictures_of
from nststab.listener import Listener, silent
from nststab.measure.intervals import bootstrap_interval, mean_of_known, said, with_interval
from nststab.measure.rows import CHEATS, MEASURES, place_of, sequence_means, style_rows
from nststab.measure.stability import (
    CONTENT,
    StabilitySettings,
    find_patches,
    measure,
    patches_of,
    sanity_checks,
    spread,
)
from nststab.methods.settings import OPTIMISERS
from nststab.report.settings import ReportSettings, check_report
from nststab.storage.jobs import content_hash
from nststab.storage.tables import Json, Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = {CHEATS[1]: "^", CHEATS[2]: "s"}
UNITS = {"psnr": "dB", "flicker": "levels of 255", "style_loss": "unweighted", "content_loss": "unweighted"}
_DIGITS = (("psnr", 2), ("ssim", 3))
_MEAN = "mean of the styles"
_PAPER = "the paper's"


def table1(
    davis: str | Path,
    output: str | Path,
    *,
    styles: Sequence[str | Path] | None = None,
    methods: Sequence[str] = ("independent", "recurrent"),
    stylizers: "Mapping[str, Stylizer] | None" = None,
    sequences: Sequence[str] | None = None,
    size: int | None = None,
    limit: int | None = None,
    patches: int | None = None,
    html: str | Path | None = None,
    report: ReportSettings | None = None,
    device: str = "auto",
    precision: str = "auto",
    settings: Table1Settings | None = None,
    overwrite: bool = False,
    executor: Executor | None = None,
    progress: Listener = silent,
) -> Results:
    """Measures Table 1 of Gupta et al. 2017 on DAVIS and writes it to the folder `output`.

        nststab.experiments.table1("DAVIS", "out", stylizers={"mine": my_callable})

    davis: the folder with JPEGImages and Annotations. styles: names, pictures, checkpoints, folders; all that are
    shipped by default. stylizers: methods of your own, measured like ours for each style, whose losses stand beside.
    size, limit, patches: as in `Table1Settings`, which has the defaults. html: where a report to look at goes, which
    `report` sizes. executor: where parts run, such as `nststab.tasks.workers.workers` gives.

    Raises SettingError for what contradicts, NststabError where nothing can be measured, OSError for missing files.
    """
    chosen = Table1Settings.of(settings).changed(size=size, limit=limit, patches=patches)
    cast = Cast.of(styles, methods, stylizers, chosen, device, precision)
    names = tuple(sequence.name for sequence in davis_sequences(Path(davis), sequences, chosen.size))
    experiment = Table1(chosen, cast, Path(davis), names)
    if html is None:
        return run(experiment, output, overwrite, executor, progress)
    check_report(html, made=Path(output))
    page = StabilityReport(experiment, html, report or ReportSettings(maker="nststab.experiments.table1"), progress)
    return run(replace(experiment, shown=page.most_frames), output, overwrite, executor, progress, page.write)


class Clip:
    """The first frames of a sequence: all, or `limit`."""

    def __init__(self, sequence: DavisSequence, limit: int | None) -> None:
        self._sequence = sequence
        self.name = sequence.name
        self.frames = min(len(sequence), limit or len(sequence))
        if self.frames < 2:
            raise SettingError(f"{self.name}: expected a sequence of at least two frames, got one")
        height, width = next(self.content()).shape[-2:]
        self.shape: tuple[int, int] = height, width
        self.files = sequence.files(limit)

    def content(self) -> Iterator[Tensor]:
        """The frames, (1, 3, H, W)."""
        return itertools.islice(self._sequence.frames(), self.frames)

    def foreground(self) -> Iterator[Tensor]:
        """Their masks, bool (1, 1, H, W)."""
        return self._sequence.masks()


@dataclass(frozen=True)
class Table1(OnDavis):
    """Of each sequence the patches, then of each style, method and sequence the figures.

    Attributes:
        shown: how many frames of each are kept for a report.
    """

    settings: Table1Settings
    shown: int = 0
    name = "stability"

    @cached_property
    def clips(self) -> Mapping[str, Clip]:
        """The first frames of each sequence, by its name."""
        return {name: Clip(sequence, self.settings.limit) for name, sequence in self.sequences.items()}

    @property
    def protocol(self) -> StabilitySettings:
        """How many patches of each pair; their size follows the frames'."""
        return StabilitySettings(patches=self.settings.patches, seed=self.settings.seed)

    @property
    def cheated(self) -> str:
        """The method whose frames the cheats are made of."""
        methods = self.cast.methods
        return next((method for method in methods if method not in OPTIMISERS), methods[0])

    def identity(self) -> dict[str, Json]:
        for clip in self.clips.values():
            self.protocol.fitting(*clip.shape)
        patches = self.protocol.of_frames(self.settings.size, self.settings.size)
        return self.cast.identity() | {
            "patch_size": patches.size,
            "radius": patches.radius,
            "sequences": {clip.name: clip.frames for clip in self.clips.values()},
            "davis": content_hash([file for clip in self.clips.values() for file in clip.files]),
            "cheats_of": self.cheated,
        }

    def parts(self, found: Mapping[str, Json]) -> list[Part]:
        searches = [Part(f"patches {clip.name}", (clip.name, None), frames=clip.frames) for clip in self.clips.values()]
        if not all(search.name in found for search in searches):
            return searches
        if not any(previous for search in searches for previous, _, _ in found[search.name]):
            side = self.protocol.of_frames(self.settings.size, self.settings.size).size
            raise NststabError(
                f"expected room for a patch of {side}x{side} pixels without foreground, found none; try a larger size, "
                "or other sequences"
            )
        return [
            self._part(style, method, clip, found[f"patches {clip.name}"])
            for style, method in self.cast.pairs
            for clip in self.clips.values()
        ]

    def _part(self, style: str, method: str, clip: Clip, patches: Json) -> Part:
        # of each frame the result's and the input's, and those of two cheats
        losses = (4 if method == self.cheated else 2) * min(self.settings.loss_frames, clip.frames)
        name, size = part_name(style, method, clip.name), (clip.shape[1], clip.shape[0])
        return Part(name, (clip.name, patches), style, method, clip.frames, 1, losses, size)

    def measure(self, part: Part, work: Work) -> Json:
        clip_name, patches = part.data
        clip = self.clips[clip_name]
        if patches is None:
            found = find_patches(work.counted(clip.content()), self.protocol, clip.foreground())
            return [(pair.previous.tolist(), pair.current.tolist(), pair.size) for pair in found]
        side = max(clip.shape)
        content, copied, given_in = copies(clip.content(), 3)
        with self.cast.stylizing(part.style, part.method, side, work) as stylizer:
            stylized = work.counted(pictures_of(stylizer(as_frames(given_in))))
            if (kept := self.kept(work)) is not None:
                stylized = kept.keep(part.name, stylized)
            made, again = copies(stylized, 2)
            cheats = sanity_checks(copied, again) if part.method == self.cheated else {}
            del copied, again  # or, without cheats, they would hold every frame
            rows = measure(
                content,
                {part.method: made, **cheats},
                self.protocol,
                frame_losses=self.cast.losses(part.style, side),
                patches=patches_of(patches),
                loss_frames=spread(clip.frames, self.settings.loss_frames),
            )
        return {name: row.as_row() for name, row in rows.items()}

    def kept(self, work: Work) -> KeptFrames | None:
        """What keeps the frames that a report will show."""
        if not self.shown or work.shown is None:
            return None
        return KeptFrames(work.shown, self.shown)

    def again(self, style: str, method: str, clip: Clip, work: Work) -> Generator[Tensor, None, None]:
        """What a method makes of a clip once more, for a report."""
        with self.cast.stylizing(style, method, max(clip.shape), work) as stylizer:
            yield from pictures_of(stylizer(as_frames(clip.content())))

    def rows(self, found: Mapping[str, Json]) -> list[Row]:
        rows: list[Row] = []
        for style in self.cast.texts:
            measured = {
                clip: {
                    name: row
                    for method in self.cast.methods
                    for name, row in found[part_name(style, method, clip)].items()
                }
                for clip in self.clips
            }
            rows += [with_paper(row) for row in style_rows(style, measured, self.settings.seed)]
        return rows

    def more(self, rows: Sequence[Row], found: Mapping[str, Json]) -> dict[str, Json]:  # noqa: ARG002
        seed = self.settings.seed
        return {"means": mean_rows(rows, seed), "gain": gain(rows, seed), "units": UNITS, "paper": paper.SOURCE_1}

    def table(self, rows: Sequence[Row], more: Mapping[str, Json]) -> Table:
        return table(rows, more["means"], more["gain"], self.cheated)

    def draw(self, figure: "Figure", rows: Sequence[Row], more: Mapping[str, Json]) -> None:
        draw(figure, rows, more["means"])

    def inches(self, rows: Sequence[Row]) -> tuple[float, float]:
        styles = len({row["style"] for row in rows})
        return 7.0, 1.1 + (styles + (styles > 1)) * (0.12 + 0.14 * len(_lanes(rows)))


def with_paper(row: Row) -> Row:
    """The row with the paper's cell, None where it has none."""
    cell = paper.cell(row["style"], row["method"])
    return {**row, "paper": None if cell is None else cell._asdict()}


def mean_rows(rows: Sequence[Row], seed: int = 0) -> list[Row]:
    """For each method the mean of its rows over the styles; intervals over sequences, each the mean of the styles."""
    result: list[Row] = []
    styles = list(dict.fromkeys(row["style"] for row in rows))
    for method, own in grouped(rows, "method").items():
        result.append(
            {
                "method": method,
                "styles": len(own),
                **{key: mean_of_known(row[key] for row in own) for key in (*MEASURES, "style_share")},
                "psnr_interval": bootstrap_interval(sequence_means(own, "psnr"), seed),
                "ssim_interval": bootstrap_interval(sequence_means(own, "ssim"), seed),
                "n": sum(row["n"] for row in own),
                "paper": None if (cell := paper.mean_cell(styles, method)) is None else cell._asdict(),
            }
        )
    return result


def gain(rows: Sequence[Row], seed: int = 0) -> Row | None:
    """What the recurrent network gains over the independent one, beside the paper's gain; None where one is missing.

    Means over styles and sequences. Intervals are paired: of each sequence's difference, so that a sequence which is
    hard for both widens none. `style_loss_change` is what the gain costs, relative to the independent network's.
    """
    first, second = ([row for row in rows if row["method"] == method] for method in ("recurrent", "independent"))
    if not first or not second:
        return None
    result: dict[str, Any] = {"of": "recurrent", "over": "independent"}
    for key in ("psnr", "ssim"):
        pairs = zip(sequence_means(first, key), sequence_means(second, key), strict=True)
        differences = [one - other for one, other in pairs]
        result |= {key: mean_of_known(differences), f"{key}_interval": bootstrap_interval(differences, seed)}
    losses = [mean_of_known(row["style_loss"] for row in own) for own in (first, second)]
    result["style_loss_change"] = losses[0] / losses[1] - 1 if losses[1] else math.nan
    return result | {"paper": {**paper.GAIN._asdict(), "styles": list(paper.TABLE_1)}}


def table(rows: Sequence[Row], means: Sequence[Row], gained: Row | None, cheated: str) -> Table:
    """PSNR and SSIM with 95 % intervals, flicker in levels of 255, losses. `cheated`: of what the cheats were made."""
    several = len({row["style"] for row in rows}) > 1
    columns = ("", "PSNR dB", "SSIM", "paper's", "flicker", "style loss", "of the input's", "content loss", "patches")
    last = [{"style": _MEAN, **row} for row in means] if several else []
    of = "" if several else f" of {rows[0]['style']}"
    return Table(
        f"Stability{of}: corresponding background patches (Gupta et al. 2017, Table 1)",
        columns,
        [_cells(row, several) for row in (*rows, *last)],
        _note(gained, cheated),
    )


def _cells(row: Row, several: bool) -> tuple[str, ...]:
    method = row["method"]
    return (
        f"{row['style']}, {method}" if several else method,
        with_interval(row["psnr"], row["psnr_interval"], 2),
        with_interval(row["ssim"], row["ssim_interval"], 3),
        "-" if row["paper"] is None else f"{row['paper']['psnr']:.1f} / {row['paper']['ssim']:.2f}",
        said(row["flicker"], 2),
        said(row["style_loss"], 3),
        said(row["style_share"], 3),
        said(row["content_loss"], 3),
        str(row["n"]),
    )


def _note(gained: Row | None, cheated: str) -> str:
    text = (
        "In brackets the 95 % bootstrap interval of the mean over sequences. Flicker in levels of 255, where the input "
        "stands still. The last three rows of a style are ways to be stable without being good, made of the input and "
        f"of what {cheated} gave: PSNR and SSIM count only beside the style loss. The paper's: PSNR / SSIM of "
        f"{paper.SOURCE_1}."
    )
    if gained is None:
        return text
    psnr, ssim = (with_interval(gained[key], gained[f"{key}_interval"], digits) for key, digits in _DIGITS)
    theirs = gained["paper"]
    return (
        f"{text} The recurrent network gains {psnr} dB and {ssim} SSIM over the independent one, at "
        f"{gained['style_loss_change']:+.1%} style loss; the paper's gains {theirs['psnr']:.2f} dB and "
        f"{theirs['ssim']:.2f}, mean of its five styles."
    )


def draw(figure: "Figure", rows: Sequence[Row], means: Sequence[Row]) -> None:
    """Three panels over the same styles: PSNR and SSIM with their intervals, and the share of the input's style loss.

    Crosses are the paper's cells of PSNR and SSIM.

    The input's own is a line: of PSNR and SSIM, and the style loss that the shares are of.
    """
    groups = _groups(rows, means)
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(3, 3, 2))
    labels = ("PSNR (dB)", "SSIM", "style loss / input's")
    for axes, key, label in zip(panels, ("psnr", "ssim", "style_share"), labels, strict=True):
        _panel(axes, groups, key)
        axes.set_xlabel(label)
    panels[0].set_yticks(range(len(groups)), list(groups))
    panels[0].set_ylim(len(groups) - 0.5, -0.5)
    panels[2].set_xlim(0, None)
    shown = {str(line.get_label()): line for line in panels[0].get_legend_handles_labels()[0]}
    order = [*(name for lane in _lanes(rows) for name in lane), CONTENT, *([_PAPER] if _PAPER in shown else [])]
    columns = len(order) if len(order) < 6 else 4
    figure.legend([shown[name] for name in order], order, loc="outside upper center", ncols=columns)


def _groups(rows: Sequence[Row], means: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each style, and of the mean over styles where there are several."""
    groups = grouped(rows, "style")
    return groups | ({_MEAN: list(means)} if len(groups) > 1 else {})


def _lanes(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """What stands side by side in the figure: each method, then the cheats in one. A copy of the input is its line."""
    names = dict.fromkeys(row["method"] for row in rows)
    return [*((name,) for name in names if place_of(name) == 1), CHEATS[1:]]


def _panel(axes: "Axes", groups: Mapping[str, Sequence[Row]], key: str) -> None:
    """Styles one below the other: a dot and its interval for each method, grey signs for cheats, a line: the input."""
    lanes = _lanes(next(iter(groups.values())))
    for lane, names in enumerate(lanes):
        heights = [place + (lane - (len(lanes) - 1) / 2) * 0.75 / len(lanes) for place in range(len(groups))]
        for name in names:
            own = [_named(group, name) for group in groups.values()]
            values = [row[key] for row in own]
            if name in CHEATS:
                axes.plot(values, heights, _MARKERS[name], markersize=4, color=OTHERS[-1], fillstyle="none", label=name)
                continue
            bounds = [row.get(f"{key}_interval", (row[key], row[key])) for row in own]
            errors = [[abs(row[key] - bound[side]) for row, bound in zip(own, bounds, strict=True)] for side in (0, 1)]
            color = color_of(name, lane)
            axes.errorbar(values, heights, xerr=errors, fmt="o", markersize=4, capsize=2, color=color, label=name)
            known = [(row["paper"], y) for row, y in zip(own, heights, strict=True) if row["paper"]]
            if cells := [(cell[key], y) for cell, y in known if key in cell]:
                axes.plot(*zip(*cells, strict=True), "x", markersize=5, color=color, label=_PAPER)
    unstylized = _named(next(iter(groups.values())), CONTENT)[key]
    axes.axvline(unstylized, color=COLORS[CONTENT], linewidth=1, linestyle="--", label=CONTENT)
    for place in range(1, len(groups)):
        axes.axhline(place - 0.5, color="#c0c0c0", linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def _named(rows: Sequence[Row], method: str) -> Row:
    return next(row for row in rows if row["method"] == method)
