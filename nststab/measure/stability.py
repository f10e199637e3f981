"""Table 1 of Gupta et al. 2017: do corresponding background patches of adjacent frames look alike after stylization?

Everything streams: a pair of frames at a time, all methods in step, so memory does not grow with a clip's length.
Copying the input, blurring the result or mixing it with the previous frame raise PSNR too, so the same frames' style
and content loss stand beside it, and `sanity_checks` makes these three cheats of any stylized clip.
"""

import itertools
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from nststab import metrics
from nststab.errors import NststabError
from nststab.frames import Frame, Stylizer, copies
from nststab.measure.intervals import mean_of_known
from nststab.metrics import Patches, PatchSettings

T = TypeVar("T")
FrameLosses = Callable[[Tensor, Tensor], Mapping[str, float]]  # of a stylized frame and its content

CONTENT = "input"  # the row of the content itself, whose style loss is that of doing nothing


def unchanged(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The stylizer that does nothing, measured under the name `CONTENT`."""
    return iter(frames)


@dataclass(frozen=True)
class StabilitySettings:
    """Patches of each pair of frames, their side and search radius (None: the paper's, scaled to the frames)."""

    patches: int = 1
    patch_size: int | None = None
    radius: int | None = None
    seed: int = 0

    def of_frames(self, height: int, width: int) -> PatchSettings:
        scaled = PatchSettings.scaled(height, width, self.patches)
        size = scaled.size if self.patch_size is None else self.patch_size
        return PatchSettings(self.patches, size, scaled.radius if self.radius is None else self.radius)

    def fitting(self, height: int, width: int) -> PatchSettings:
        """Those of frames that have room for a patch; raises ValueError where they have none."""
        own = self.of_frames(height, width)
        if min(height, width) < own.size:
            raise NststabError(
                f"expected frames that hold a patch of {own.size}x{own.size} pixels, got {width}x{height}"
            )
        return own


@dataclass
class Curves:
    """What was measured of one method: for each pair of frames (NaN where nothing could be), losses for each frame."""

    psnr: list[float] = field(default_factory=list)  # dB, mean over the pair's patches
    ssim: list[float] = field(default_factory=list)
    flicker: list[float] = field(default_factory=list)  # mean absolute change of still pixels, levels of 255
    losses: dict[str, list[float]] = field(default_factory=dict)  # by name, weighted as the caller weighs them


@dataclass(frozen=True)
class MethodStability:
    """One row of the table: means over the curves (NaN: nothing to measure) and the number of patch pairs."""

    psnr: float
    ssim: float
    n: int
    flicker: float
    losses: dict[str, float]
    curves: Curves

    @classmethod
    def of(cls, curves: Curves, n: int) -> "MethodStability":
        """The means of curves."""
        losses = {name: mean_of_known(values) for name, values in curves.losses.items()}
        return cls(
            mean_of_known(curves.psnr), mean_of_known(curves.ssim), n, mean_of_known(curves.flicker), losses, curves
        )

    @property
    def style_loss(self) -> float:
        return self.losses.get("style", math.nan)

    @property
    def content_loss(self) -> float:
        return self.losses.get("content", math.nan)

    def as_row(self) -> dict[str, float | int | None]:
        """The row for a JSON file; what could not be measured is None."""
        names = ("psnr", "ssim", "flicker", "style_loss", "content_loss")
        figures = {name: float(getattr(self, name)) for name in names}
        return {"n": self.n, **{name: None if math.isnan(value) else value for name, value in figures.items()}}


class PairScores(NamedTuple):
    """Two adjacent frames' corresponding patches, and the PSNR and SSIM of each, by clip, the content's first."""

    patches: Patches
    psnrs: list[list[float]]
    ssims: list[list[float]]


class StabilityMeter:
    """Measures methods beside their content while frames pass by; for `compare`, which renders the same frames.

    Patches are drawn once a pair, so every method is measured at the same places, and the same seed draws the same ones
    whatever the methods are. `patches` are those of each pair where they were found before, by `find_patches`; losses
    are measured at the indices `loss_frames`, by default of every frame.
    """

    def __init__(
        self,
        settings: StabilitySettings,
        frame_losses: FrameLosses | None = None,
        patches: Iterable[Patches] | None = None,
        loss_frames: Container[int] | None = None,
    ) -> None:
        self.settings = settings
        self._frame_losses = frame_losses
        self._loss_frames = loss_frames
        self._found = None if patches is None else iter(patches)
        self._frames = 0
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._previous: tuple[dict[str, Tensor], Tensor | None] | None = None
        self._curves: dict[str, Curves] = {}
        self._patches = 0
        self.pair: PairScores | None = None
        """Of the frames that came last; None at the first of a shot."""

    def start_shot(self) -> None:
        """Forget the previous frame: no pair spans a cut."""
        self._previous = self.pair = None

    def update(self, content: Tensor, stylized: Mapping[str, Tensor], foreground: Tensor | None = None) -> None:
        """Take the next frame (1, 3, H, W), what each method made of it, and its foreground mask (1, 1, H, W)."""
        frames = {CONTENT: content.cpu(), **{name: frame.cpu() for name, frame in stylized.items()}}
        for name, frame in frames.items():
            if frame.shape != content.shape:
                raise NststabError(f"expected {name} frames of {tuple(content.shape)}, got {tuple(frame.shape)}")
            self._curves.setdefault(name, Curves())
        if self._previous is not None:
            self._measure_pair(*self._previous, frames, foreground)
        wanted = self._loss_frames is None or self._frames in self._loss_frames
        if self._frame_losses is not None and wanted:
            for name, frame in {CONTENT: content, **stylized}.items():
                for term, value in self._frame_losses(frame, content).items():
                    self._curves[name].losses.setdefault(term, []).append(value)
        self._previous = frames, foreground
        self._frames += 1

    @property
    def previous(self) -> list[Tensor]:
        """The frames that came last, the content's first; none at the first of a shot."""
        return [] if self._previous is None else list(self._previous[0].values())

    def state(self) -> dict[str, Any]:
        """All that was measured, and the frame before: for `resume`."""
        return {
            "frames": self._frames,
            "patches": self._patches,
            "generator": self._generator.get_state(),
            "curves": {name: asdict(curves) for name, curves in self._curves.items()},
            "previous": None if self._previous is None else self._previous[0],
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on where another meter of the same settings stood, which had no foreground masks."""
        self._frames, self._patches = state["frames"], state["patches"]
        self._generator.set_state(state["generator"])
        self._curves = {name: Curves(**curves) for name, curves in state["curves"].items()}
        self._previous = None if state["previous"] is None else (state["previous"], None)

    def result(self) -> dict[str, MethodStability]:
        """A row for the input, then one for each method in the order given."""
        return {name: MethodStability.of(curves, self._patches) for name, curves in self._curves.items()}

    def _measure_pair(
        self,
        previous: Mapping[str, Tensor],
        previous_foreground: Tensor | None,
        current: Mapping[str, Tensor],
        foreground: Tensor | None,
    ) -> None:
        before, after = previous[CONTENT], current[CONTENT]
        if self._found is None:
            masks = None if previous_foreground is None or foreground is None else (previous_foreground, foreground)
            settings = self.settings.of_frames(*after.shape[-2:])
            patches = metrics.corresponding_patches(before, after, settings, self._generator, masks)
        else:
            patches = _take(self._found, "the list of patches", self._frames)
        self._patches += len(patches.previous)
        still = metrics.still_pixels(before, after)
        self.pair = PairScores(patches, [], [])
        for name, frame in current.items():
            psnrs, ssims = metrics.patch_scores(previous[name], frame, patches)
            self.pair.psnrs.append(psnrs)
            self.pair.ssims.append(ssims)
            curve = self._curves[name]
            curve.psnr.append(mean_of_known(psnrs))
            curve.ssim.append(mean_of_known(ssims))
            curve.flicker.append(metrics.flicker(previous[name], frame, still))


def measure(
    content: Iterable[Tensor],
    stylized: Mapping[str, Iterable[Tensor]],
    settings: StabilitySettings,
    foreground: Iterable[Tensor] | None = None,
    frame_losses: FrameLosses | None = None,
    patches: Iterable[Patches] | None = None,
    loss_frames: Container[int] | None = None,
) -> dict[str, MethodStability]:
    """Stability of stylized clips beside their content, one row each, the content's own (`CONTENT`) first.

    content: frames (1, 3, H, W) in [0, 1]. stylized: for each method as many frames of the same size. foreground: for
    each content frame a mask (1, 1, H, W), above 0 = foreground; patches keep off it. frame_losses: such as
    `perceptual_losses` makes. patches: of each pair, in place of a search. loss_frames: indices of the frames whose
    losses are measured, such as `spread` chooses.

    Raises ValueError where a clip is shorter or longer than the content, or of another size.
    """
    meter = StabilityMeter(settings, frame_losses, patches, loss_frames)
    streams = {name: iter(frames) for name, frames in stylized.items()}
    masks = None if foreground is None else iter(foreground)
    for index, frame in enumerate(content):
        made = {name: _take(stream, name, index) for name, stream in streams.items()}
        meter.update(frame, made, None if masks is None else _take(masks, "the foreground", index))
    for name, stream in streams.items():
        if next(stream, None) is not None:
            raise NststabError(f"{name} has more frames than the input")
    return meter.result()


def spread(count: int, most: int) -> set[int]:
    """Indices of at most `most` of `count` frames, evenly over the clip: losses change little from frame to frame."""
    return set(range(count)) if count <= most else {(2 * k + 1) * count // (2 * most) for k in range(most)}


def patches_of(pairs: Iterable[tuple[list[list[int]], list[list[int]], int]]) -> list[Patches]:
    """The patches of each pair, from what JSON keeps of `find_patches`: corners before and after, and the side."""

    def corners(places: list[list[int]]) -> Tensor:
        return torch.tensor(places, dtype=torch.int64).reshape(-1, 2)

    return [Patches(corners(previous), corners(current), size) for previous, current, size in pairs]


def find_patches(
    content: Iterable[Tensor], settings: StabilitySettings, foreground: Iterable[Tensor]
) -> Iterator[Patches]:
    """The patches of each pair of adjacent frames that `measure` would find: of the content and the seed alone.

    Raises ValueError for frames too small to hold one.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    for before, after in itertools.pairwise(zip(content, foreground, strict=False)):
        own = settings.fitting(*after[0].shape[-2:])
        yield metrics.corresponding_patches(before[0], after[0], own, generator, (before[1], after[1]))


def in_step(frames: Iterable[Frame], stylizers: Mapping[str, Stylizer]) -> Iterator[tuple[Frame, dict[str, Tensor]]]:
    """Run several stylizers over one stream: each frame with the pictures (1, 3, H, W) that they made of it.

    No more frames are held than the most far-sighted stylizer looks ahead.
    """
    content, *inputs = copies(frames, 1 + len(stylizers))
    streams = {name: stylizer(copy) for (name, stylizer), copy in zip(stylizers.items(), inputs, strict=True)}
    del inputs
    for index, frame in enumerate(content):
        yield frame, {name: _take(stream, name, index).rgb for name, stream in streams.items()}


def sanity_checks(content: Iterable[Tensor], stylized: Iterable[Tensor]) -> dict[str, Iterator[Tensor]]:
    """Three ways to be stable without being good: any of them may win on PSNR, and their losses must show why."""
    first, second = copies(stylized, 2)
    return {
        "copy of the input": iter(content),
        "blurred (sigma 1)": map(blurred, first),
        "mixed with previous": itertools.accumulate(second, lambda mix, frame: (mix + frame) / 2),
    }


def blurred(frame: Tensor) -> Tensor:
    """A frame (1, 3, H, W) after a Gaussian of sigma 1, with its border replicated."""
    return torch.from_numpy(gaussian_filter(frame.cpu().numpy(), (0, 0, 1, 1), mode="nearest"))


class Loss(Protocol):
    """What is needed of `losses.PerceptualLoss`."""

    def content_terms(self, images: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]: ...
    def __call__(self, images: Tensor, content_targets: Mapping[str, Tensor]) -> dict[str, Tensor]: ...


def perceptual_losses(loss: Loss, device: torch.device | str = "cpu") -> FrameLosses:
    """The named terms of a perceptual loss on `device`, as numbers.

    Targets of the content, and the terms of the content itself and of copies of it, are computed once a frame.
    """
    latest: tuple[Tensor, dict[str, Tensor], dict[str, float]] | None = None

    @torch.no_grad()
    def frame_losses(stylized: Tensor, content: Tensor) -> dict[str, float]:
        nonlocal latest
        if latest is None or latest[0] is not content:
            targets, own = loss.content_terms(content.to(device))
            latest = content, targets, _numbers(own)
        _, targets, numbers = latest
        return dict(numbers) if stylized is content else _numbers(loss(stylized.to(device), targets))

    return frame_losses


def _numbers(terms: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(term) for name, term in terms.items()}


def _take(stream: Iterator[T], name: str, index: int) -> T:
    item = next(stream, None)
    if item is None:
        raise NststabError(f"{name} ends after {index} frames, before the input")
    return item
