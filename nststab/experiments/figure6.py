"""Figure 6 of Gupta et al. 2017: does a result change as much as an input that was moved, blurred or sharpened?

For a patch c of a video's background and a distortion d, the SSIM of f(c) and f(d(c)) stands beside that of c and d(c).
Patches are compared as they are, as in the paper: of a shifted patch no curve can stay at 1 whose result moves with its
input. So for translation the SSIM of what both patches show of the scene is measured too, which for the input is 1.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from nststab.datasets.folders import DavisSequence, davis_sequences
from nststab.errors import NststabError
from nststab.experiments.cast import INDEPENDENT, Cast, OnDavis
from nststab.experiments.figures import draw_curves, grouped, legend_below, mean_curve
from nststab.experiments.runner import Part, Results, Work, run
from nststab.experiments.settings import DAVIS_480P, DistortionSettings
from nststab.frames import Stylizer, as_frames, pictures_of
from nststab.listener import Listener, silent
from nststab.measure.intervals import bootstrap_interval, mean_of_known, with_interval
from nststab.measure.stability import CONTENT, FrameLosses
from nststab.metrics import ssim
from nststab.storage.jobs import content_hash
from nststab.storage.tables import Json, Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PAPERS_PATCH = 256
_LEAST_PATCH = 32  # leaves 13 pixels in common after the longest shift, for SSIM's windows of 7
_SHARPENING_SIGMA = 1.0


def distortions(
    davis: str | Path,
    output: str | Path,
    *,
    styles: Sequence[str | Path] | None = None,
    methods: Sequence[str] = ("independent", "recurrent"),
    stylizers: Mapping[str, Stylizer] | None = None,
    sequences: Sequence[str] | None = None,
    size: int | None = None,
    limit: int | None = None,
    patches: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    settings: DistortionSettings | None = None,
    overwrite: bool = False,
    executor: Executor | None = None,
    progress: Listener = silent,
) -> Results:
    """Measures Figure 6 of Gupta et al. 2017 on DAVIS and writes it to the folder `output`.

        nststab.experiments.distortions("DAVIS", "out", styles=["mosaic"], patches=100)

    Arguments and errors as those of `table1`; patches: of background, in turn from every sequence that has room.
    """
    chosen = DistortionSettings.of(settings).changed(size=size, limit=limit, patches=patches)
    cast = Cast.of(styles, methods, stylizers, chosen, device, precision)
    found = davis_sequences(Path(davis), sequences, chosen.size)
    regions = draw_regions(found, chosen, patch_size(chosen.size))
    names = tuple(sequence.name for sequence in found)
    return run(Figure6(chosen, cast, Path(davis), names, tuple(regions)), output, overwrite, executor, progress)


class Region(NamedTuple):
    """Where a patch of background lies: the frame (from 0) of a sequence, and the patch's top left corner."""

    sequence: str
    frame: int
    top: int
    left: int

    @property
    def name(self) -> str:
        """Unlike that of other regions."""
        return f"{self.sequence} {self.frame} {self.top} {self.left}"


@dataclass(frozen=True)
class Figure6(OnDavis):
    """Of the input and of each style and method the similarities and losses of every region in every distortion."""

    settings: DistortionSettings
    regions: tuple[Region, ...]
    name, shape = "distortions", (9.0, 3.8)

    def identity(self) -> dict[str, Json]:
        files = [file for one in self.sequences.values() for file in one.files(self.settings.limit)]
        return self.cast.identity() | {
            "patch_size": patch_size(self.settings.size),
            "sequences": list(self.names),
            "davis": content_hash(files),
        }

    def parts(self, found: Mapping[str, Json]) -> list[Part]:  # noqa: ARG002
        side, steps = patch_size(self.settings.size), len(self.settings.steps())
        parts = []
        for style, method in self.pairs:
            forgets = method in INDEPENDENT  # f(c) is then made once, else again for each d(c) that follows it
            frames, shots = (steps + 1, steps + 1) if forgets else (2 * steps, steps)
            parts += [
                Part(f"{style} {method} {region.name}", region, style, method, frames, shots, steps, (side, side))
                for region in self.regions
            ]
        return parts

    def measure(self, part: Part, work: Work) -> list[dict[str, float | None]]:
        region: Region = part.data
        size = patch_size(self.settings.size)
        frame = self.sequences[region.sequence].frame(region.frame)
        content = distorted("translation", frame, region, size, 0)
        losses = self.cast.losses(part.style, self.settings.size)
        found = []
        with self.stylizing(part, self.settings.size, work) as stylizer:
            pairs = Pairs(stylizer, content, part.method not in INDEPENDENT)
            for name, strength in self.settings.steps():
                patch = distorted(name, frame, region, size, strength)
                shift = round(strength) if name == "translation" else None
                found.append(measure(content, patch, pairs, losses, shift))
        return found

    def rows(self, found: Mapping[str, Json]) -> list[Row]:
        rows: list[Row] = []
        for style, method in self.pairs:
            for number, step in enumerate(self.settings.steps()):
                regions = [
                    {"sequence": region.sequence, **found[f"{style} {method} {region.name}"][number]}
                    for region in self.regions
                ]
                rows.append(row(style, method, *step, method not in INDEPENDENT, regions))
        return rows

    def more(self, rows: Sequence[Row], found: Mapping[str, Json]) -> dict[str, Json]:  # noqa: ARG002
        return {"regions": [region._asdict() for region in self.regions]}

    def table(self, rows: Sequence[Row], more: Mapping[str, Json]) -> Table:  # noqa: ARG002
        """A row for the input and for each method of every style."""
        lines = []
        for (style, method), group in grouped(rows, "style", "method").items():
            own = [row for row in group if row["strength"] > 0]
            cells = [_cell(own, "translation"), _cell(own, "translation", "ssim_aligned")]
            cells += [_cell(own, "blur"), _cell(own, "sharpening")]
            cells += [f"{mean_of_known([row[name] for row in own]):.3f}" for name in ("style_loss", "content_loss")]
            lines.append([f"{style} {method}", *cells, str(own[0]["n"])])
        following = sorted({row["method"] for row in rows if row["d_follows_c"]})
        said = f"For {' and '.join(following)} d(c) follows c in a clip of two frames." if following else ""
        columns = ("", "translation", "aligned", "blur", "sharpening", "style loss", "content loss", "n")
        return Table("SSIM under controlled distortions", columns, lines, _NOTE.format(said).strip())

    def draw(self, figure: "Figure", rows: Sequence[Row], more: Mapping[str, Json]) -> None:  # noqa: ARG002
        """SSIM against strength, a panel for each distortion; of several styles the mean, and each as a thin line."""
        axes = figure.subplots(1, len(DISTORTIONS), sharey=True)
        for panel, distortion in zip(axes, DISTORTIONS, strict=True):
            methods = grouped([row for row in rows if row["distortion"] == distortion], "method")
            for place, (method, own) in enumerate(methods.items()):
                _curves(panel, own, method, place)
            panel.set_title(distortion)
            panel.set_xlabel(_LABELS[distortion])
        axes[0].set_ylabel("SSIM of the patch and the distorted patch")
        axes[0].set_ylim(0, 1.02)
        legend_below(figure, axes[0])


def patch_size(longest_side: int) -> int:
    """The paper's 256 pixels for frames of 854, scaled to others: a multiple of 4, of at least 32."""
    return max(_LEAST_PATCH, 4 * round(_PAPERS_PATCH / 4 * longest_side / DAVIS_480P))


def draw_regions(sequences: Sequence[DavisSequence], settings: DistortionSettings, size: int) -> list[Region]:
    """Random patches that touch no foreground, wherever they are moved, in turn from every sequence that has any.

    size: of the patches in pixels.

    Raises ValueError where no frame has room for one.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    shape = size, size + max(settings.translation)
    order = torch.randperm(len(sequences), generator=generator).tolist()
    sources = [_places(sequences[index], shape, settings.limit, generator) for index in order]
    found: list[Region] = []
    while sources:
        for source in tuple(sources):
            region = next(source, None)
            if region is None:
                sources.remove(source)
                continue
            found.append(region)
            if len(found) == settings.patches:
                return found
    names = ", ".join(sequence.name for sequence in sequences)
    raise NststabError(f"expected {shape[1]}x{shape[0]} pixels without foreground, found none in the frames of {names}")


def _places(
    sequence: DavisSequence, shape: tuple[int, int], limit: int | None, generator: torch.Generator
) -> Iterator[Region]:
    """Patches of random frames without end; a frame comes again when all had their turn."""
    count = len(sequence) if limit is None else min(limit, len(sequence))
    frames = torch.randperm(count, generator=generator).tolist()
    found = True
    while found:
        found = False
        for frame in frames:
            corners = clear_corners(sequence.mask(frame), *shape)
            if len(corners):
                found = True
                chosen = int(torch.randint(len(corners), (), generator=generator))
                yield Region(sequence.name, frame, *corners[chosen].tolist())


def clear_corners(foreground: Tensor, height: int, width: int) -> Tensor:
    """Top left corners (K, 2), y then x, of all boxes that touch no foreground, bool (1, 1, H, W)."""
    if foreground.shape[-2] < height or foreground.shape[-1] < width:
        return torch.zeros(0, 2, dtype=torch.int64)
    touched = F.max_pool2d(foreground.float(), (1, width), stride=1)
    return (F.max_pool2d(touched, (height, 1), stride=1)[0, 0] == 0).nonzero()


# distortions of a patch, cut from the frame so that real content comes in from outside


def _cut(frame: Tensor, region: Region, size: int) -> Tensor:
    return frame[..., region.top : region.top + size, region.left : region.left + size]


def _translated(frame: Tensor, region: Region, size: int, strength: float) -> Tensor:
    return _cut(frame, region._replace(left=region.left + round(strength)), size)


def _blurred(frame: Tensor, region: Region, size: int, strength: float) -> Tensor:
    margin = int(4 * strength + 0.5)  # to which SciPy cuts the Gaussian off
    top, left = max(0, region.top - margin), max(0, region.left - margin)
    around = frame[..., top : region.top + size + margin, left : region.left + size + margin]
    blurred = torch.from_numpy(gaussian_filter(around.numpy(), (0, 0, strength, strength), mode="nearest"))
    return _cut(blurred, region._replace(top=region.top - top, left=region.left - left), size)


def _sharpened(frame: Tensor, region: Region, size: int, strength: float) -> Tensor:
    patch = _cut(frame, region, size)
    return (patch + strength * (patch - _blurred(frame, region, size, _SHARPENING_SIGMA))).clamp(0, 1)


DISTORTIONS: Mapping[str, Callable[[Tensor, Region, int, float], Tensor]] = {
    "translation": _translated,
    "blur": _blurred,
    "sharpening": _sharpened,
}


def distorted(name: str, frame: Tensor, region: Region, size: int, strength: float) -> Tensor:
    """The patch d(c) (1, 3, size, size) of a frame (1, 3, H, W); of strength 0 it is c."""
    return DISTORTIONS[name](frame, region, size, strength).contiguous()


class Pairs:
    """Gives f(c) and f(d(c)) for any d.

    With `follows`, d(c) comes after c in a clip of two frames; for a stylizer that remembers, that is what makes it
    comparable to a video. Else each is stylized by itself, and f(c) only once.
    """

    def __init__(self, stylizer: Stylizer, content: Tensor, follows: bool) -> None:
        self._stylizer = stylizer
        self._content = content
        self._follows = follows
        self._first: Tensor | None = None

    def __call__(self, patch: Tensor) -> tuple[Tensor, Tensor]:
        if self._follows:
            first, second = self._stylized(self._content, patch)
            return first, second
        if self._first is None:
            (self._first,) = self._stylized(self._content)
        (second,) = self._stylized(patch)
        return self._first, second

    def _stylized(self, *patches: Tensor) -> Iterator[Tensor]:
        return pictures_of(self._stylizer(as_frames(patches)))


def measure(
    content: Tensor, patch: Tensor, pairs: Pairs, losses: FrameLosses, shift: int | None = None
) -> dict[str, float | None]:
    """The similarities of c and d(c), (1, 3, S, S), and of their results, and the losses of f(d(c)) as d(c)'s result.

    shift: pixels that d moved the patch by, if it did.
    """
    first, second = pairs(patch)
    terms = losses(second, patch)
    side = content.shape[-1]
    return {
        "ssim_content": ssim(content, patch),
        "ssim_stylized": ssim(first, second),
        "ssim_aligned": None if shift is None else ssim(first[..., shift:], second[..., : side - shift]),
        "style_loss": terms["style"],
        "content_loss": terms["content"],
    }


def row(
    style: str, method: str, distortion: str, strength: float, follows: bool, regions: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """One row of the results: means over the regions, then over the sequences, which alone are independent.

    regions: of each its `sequence` and what `measure` gave.
    """

    def values(name: str) -> list[float]:
        return of_sequences(regions, [region[name] for region in regions])

    return {
        "style": style,
        "method": method,
        "distortion": distortion,
        "strength": strength,
        "d_follows_c": follows,
        "ssim_content": mean_of_known(values("ssim_content")),
        "ssim_stylized": mean_of_known(values("ssim_stylized")),
        "ssim_stylized_interval": list(bootstrap_interval(values("ssim_stylized"))),
        "ssim_aligned": mean_of_known(values("ssim_aligned")) if distortion == "translation" else None,
        "n": len(regions),
        "style_loss": mean_of_known(values("style_loss")),
        "content_loss": mean_of_known(values("content_loss")),
        "regions": [
            {name: region[name] for name in ("sequence", "ssim_stylized", "ssim_aligned")} for region in regions
        ],
    }


def of_sequences(regions: Sequence[Mapping[str, Any]], values: Sequence[float]) -> list[float]:
    """For each sequence the mean of the values of its regions."""
    found: dict[str, list[float]] = {}
    for region, value in zip(regions, values, strict=True):
        found.setdefault(region["sequence"], []).append(value)
    return [mean_of_known(own) for own in found.values()]


# what people see

_NOTE = (
    "SSIM of a patch and the distorted patch, mean over the strengths above 0, with the interval of that mean over the "
    "sequences; beside the input's. aligned: only what both patches show of the scene, moved back. Losses are of the "
    "distorted patches' results. {}"
)


def _cell(rows: Sequence[Row], distortion: str, name: str = "ssim_stylized") -> str:
    strengths = [row["regions"] for row in rows if row["distortion"] == distortion]
    regions = [mean_of_known([region[name] for region in same]) for same in zip(*strengths, strict=True)]
    sequences = of_sequences(strengths[0], regions)
    return with_interval(mean_of_known(sequences), bootstrap_interval(sequences), 3)


_LABELS = {
    "translation": "shift in pixels",
    "blur": "sigma of the blur in pixels",
    "sharpening": "amount of sharpening",
}


def _curves(panel: "Axes", rows: Sequence[Row], method: str, place: int) -> None:
    color = draw_curves(panel, rows, "ssim_stylized", method, place)
    if method == CONTENT:
        return
    if len({row["style"] for row in rows}) == 1:
        low, high = zip(*[row["ssim_stylized_interval"] for row in rows], strict=True)
        panel.fill_between([row["strength"] for row in rows], low, high, color=color, alpha=0.15, linewidth=0)
    if rows[0]["ssim_aligned"] is not None:
        panel.plot(*mean_curve(rows, "ssim_aligned"), color=color, linestyle="--", label=f"{method}, aligned")
