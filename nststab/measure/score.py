"""How stable are clips that any program made? Every figure stands beside the losses that expose a cheat.

Patches and flicker as in `stability`; warping error and drift besides. Everything streams: as many frames are held as
the longest gap reaches back, and a few numbers for each frame.
"""

import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nststab import metrics
from nststab.flow.estimators import FlowFunction
from nststab.flow.pairs import FlowPair, flow_ahead
from nststab.frames import Frame
from nststab.losses import content_loss
from nststab.measure.intervals import mean_of_known
from nststab.measure.pairing import Counterparts
from nststab.measure.published import FramePair, PairMeasure, strides
from nststab.measure.settings import ScoreSettings
from nststab.measure.stability import (
    CONTENT,
    FrameLosses,
    MethodStability,
    PairScores,
    StabilityMeter,
    StabilitySettings,
    blurred,
)
from nststab.metrics import DriftSlopes
from nststab.storage.tables import Json
from nststab.vgg import PerceptualNetwork

REFERENCES = ("input, blurred", "input, mixed")
"""What is steady by doing little, measured beside the input: blurred by one pixel, and half of it the mix
of the frames before."""

Flows = Mapping[int, FlowPair]  # by gap: between the frame that lies so far back and this one

UNITS = {
    "psnr": "dB",
    "ssim": "1",
    "warp_error": "mean square, of a range of 1",
    "trusted": "share of pixels",
    "flicker": "levels of 255",
    "drift": "levels of 255 per frame",
}


@dataclass(frozen=True)
class ClipScore:
    """The figures of one clip, NaN for what could not be measured.

    Attributes:
        stability: PSNR and SSIM of corresponding patches, flicker on still pixels, losses.
        warp_errors: by gap, mean squared error over the trusted pixels of all pairs, of a range of 1.
        trusted: by gap, the share of these pixels.
        drift: the largest of `slopes`; the mean of sequences has the mean of theirs.
        slopes: of brightness and colour, the common slope of all shots; of sequences the mean of their sizes.
        curves: by the names of other authors' measures and one's own, a number for each pair of frames.
    """

    stability: MethodStability
    warp_errors: Mapping[int, float]
    trusted: Mapping[int, float]
    drift: float
    slopes: DriftSlopes
    curves: Mapping[str, Sequence[float]]

    @property
    def measures(self) -> dict[str, float]:
        """The means of `curves`: the figures of other authors' measures and of one's own."""
        return {name: mean_of_known(values) for name, values in self.curves.items()}

    def as_row(self) -> dict[str, Json]:
        """All figures as JSON values in the units of `UNITS`; warp_error and trusted are those of the shortest gap."""
        nearest = min(self.warp_errors)
        return {
            "psnr": self.stability.psnr,
            "ssim": self.stability.ssim,
            "warp_error": self.warp_errors[nearest],
            "trusted": self.trusted[nearest],
            "flicker": self.stability.flicker,
            "drift": self.drift,
            "content_loss": self.stability.content_loss,
            "style_loss": self.stability.style_loss,
            "n": self.stability.n,
            "warp_errors": {str(gap): error for gap, error in self.warp_errors.items()},
            "trusted_pixels": {str(gap): share for gap, share in self.trusted.items()},
            "drift_slopes": self.slopes._asdict(),
            "measures": self.measures,
        }


class _Series:
    """What is added up of one clip while its frames pass by."""

    def __init__(self, gaps: Sequence[int], measures: Sequence[PairMeasure]) -> None:
        self.pairs: dict[int, list[metrics.WarpingError]] = {gap: [] for gap in gaps}
        self.curves: dict[str, list[float]] = {measure.name: [] for measure in measures}
        self.shots: list[list[list[float]]] = []  # of each shot the mean R, G, B of its frames

    def warp_error(self, gap: int) -> float:
        """Over all trusted pixels, so that a pair with few of them counts little."""
        known = [pair for pair in self.pairs[gap] if pair.trusted > 0]
        total = math.fsum(pair.trusted for pair in known)
        return math.fsum(pair.error * pair.trusted for pair in known) / total if known else math.nan

    def trusted(self, gap: int) -> float:
        return mean_of_known(pair.trusted for pair in self.pairs[gap])

    def slopes(self) -> DriftSlopes:
        """The least-squares slopes common to all shots, each of which has a level of its own."""
        shots = [torch.tensor(shot, dtype=torch.float64) for shot in self.shots if len(shot) > 1]  # each (T, 3)
        weights = [len(shot) * (len(shot) ** 2 - 1) for shot in shots]  # 12 times the sum of squares of its times
        found = [metrics.drift_slopes(shot) for shot in shots]
        if not found:
            return DriftSlopes(*[math.nan] * 4)
        means = (
            math.fsum(weight * slope for weight, slope in zip(weights, of_shots, strict=True)) / sum(weights)
            for of_shots in zip(*found, strict=True)
        )
        return DriftSlopes(*means)


class Watcher(Protocol):
    """Sees what is measured, frame by frame, such as `report.recorder.SceneRecorder`."""

    def start_shot(self) -> None: ...
    def update(self, frames: Sequence[Tensor], pair: PairScores | None, flow: FlowPair | None) -> None: ...


class ScoreMeter:
    """Measures clips beside their original while frames pass by, all at the same patches and trusted pixels.

    Attributes:
        strides: of each distance whose flow is needed, at each how many frames of a shot it is.
    """

    def __init__(
        self,
        clips: int,
        settings: ScoreSettings,
        frame_losses: FrameLosses | None = None,
        measures: Sequence[PairMeasure] = (),
        references: bool = False,
    ) -> None:
        """references: measure those of `REFERENCES` too."""
        self.settings = settings
        self.strides = strides(measures) | dict.fromkeys(settings.gaps, 1)
        self._measures = measures
        measured = range(1, sys.maxsize, settings.loss_every)
        self._meter = StabilityMeter(
            StabilitySettings(settings.patches, seed=settings.seed), frame_losses, loss_frames=measured
        )
        self._references = REFERENCES if references else ()
        self._mix: Tensor | None = None
        self._names = [CONTENT, *self._references, *map(str, range(clips))]
        self._series = [_Series(settings.gaps, measures) for _ in self._names]
        self._before: deque[list[Tensor]] = deque(maxlen=max(self.strides))
        self._place = 0  # in the shot

    @property
    def shots(self) -> int:
        """How many there were."""
        return len(self._series[0].shots)

    @property
    def pair(self) -> PairScores | None:
        """As `StabilityMeter.pair`, without the references."""
        found = self._meter.pair
        if found is None or not self._references:
            return found
        first = 1 + len(self._references)
        psnrs, ssims = ([own, *values[first:]] for own, values in ((v[0], v) for v in (found.psnrs, found.ssims)))
        return PairScores(found.patches, psnrs, ssims)

    def start_shot(self) -> None:
        """Forget the frames before: no pair spans a cut."""
        self._meter.start_shot()
        self._before.clear()
        self._mix = None
        self._place = 0
        for series in self._series:
            series.shots.append([])

    def update(
        self, content: Tensor, stylized: Sequence[Tensor], flows: Flows, foreground: Tensor | None = None
    ) -> None:
        """Take the next frame (1, 3, H, W), its counterpart in each clip, its flows and foreground (1, 1, H, W)."""
        frames = [content, *self._referring(content), *stylized]
        self._meter.update(content, dict(zip(self._names[1:], frames[1:], strict=True)), foreground)
        for gap in self.settings.gaps:
            if gap in flows:
                backward, mask = flows[gap].backward, flows[gap].trusted
                for series, previous, current in zip(self._series, self._before[-gap], frames, strict=True):
                    error = metrics.warping_error(previous, current, backward, mask)
                    series.pairs[gap].append(error)
        for measure in self._measures:
            if measure.gap in flows and self._place % measure.stride == 0:
                self._measure(measure, frames, flows[measure.gap])
        for series, frame in zip(self._series, frames, strict=True):
            series.shots[-1].append(frame.double().mean((0, 2, 3)).tolist())
        self._before.append(frames)
        self._place += 1

    def _referring(self, content: Tensor) -> list[Tensor]:
        if not self._references:
            return []
        self._mix = content if self._mix is None else (self._mix + content) / 2
        return [blurred(content), self._mix]

    def _measure(self, measure: PairMeasure, frames: Sequence[Tensor], flow: FlowPair) -> None:
        before = self._before[-measure.gap]
        for series, first, second in zip(self._series, before, frames, strict=True):
            pair = FramePair(first, second, before[0], frames[0], flow.forward, flow.backward, flow.trusted)
            series.curves[measure.name].append(float(measure.function(pair)))

    def result(self) -> list[ClipScore]:
        """The original's own figures, then those of each clip."""
        found = self._scores()
        return [found[name] for name in self._names if name not in self._references]

    def references(self) -> dict[str, ClipScore]:
        """The figures of `REFERENCES`, where they were measured."""
        found = self._scores()
        return {name: found[name] for name in self._references}

    def _scores(self) -> dict[str, ClipScore]:
        rows, slopes = self._meter.result(), [series.slopes() for series in self._series]
        return {
            name: ClipScore(
                rows[name],
                {gap: series.warp_error(gap) for gap in self.settings.gaps},
                {gap: series.trusted(gap) for gap in self.settings.gaps},
                drift.largest,
                drift,
                series.curves,
            )
            for name, series, drift in zip(self._names, self._series, slopes, strict=True)
        }


def score(
    shots: Iterable[Iterable[Frame]],
    counterparts: Callable[[Frame], Counterparts],
    meter: ScoreMeter,
    flow: FlowFunction,
    watcher: Watcher | None = None,
) -> Iterator[int]:
    """Feed the meter with the original's shots, and give the number of frames that are done after each.

    shots: the frames between two cuts, as `split_shots` gives them; neither a pair of frames nor a flow
    spans one. counterparts: what belongs to a frame, as `Pairing.counterparts` gives them. watcher: is shown the
    frames, the original's first, with what was measured of them and the flow over one frame.
    """
    done = 0
    for shot in shots:
        meter.start_shot()
        if watcher is not None:
            watcher.start_shot()
        with closing(flow_ahead(shot, flow, tuple(meter.strides), strides=meter.strides)) as frames:
            for content, flows in frames:
                made = counterparts(content)
                meter.update(content.rgb, made.stylized, flows, made.foreground)
                if watcher is not None:
                    watcher.update([content.rgb, *made.stylized], meter.pair, flows.get(1))
                done += 1
                yield done


def figures_of(score: ClipScore, own: ClipScore) -> dict[str, str]:
    """What a table shows of a clip, by column, beside the input's own; - for what could not be measured."""
    row, style = score.stability, own.stability.style_loss
    figures = {
        "PSNR dB": f"{row.psnr:.2f}",
        "SSIM": f"{row.ssim:.3f}",
        **{f"warp {gap}": f"{error:.5f}" for gap, error in score.warp_errors.items()},
        "flicker": f"{row.flicker:.2f}",
        "drift": f"{score.drift:.3f}",
    }
    if not math.isnan(style):
        figures |= {"style loss": f"{row.style_loss:.3f}", "of input": f"{row.style_loss / style:.0%}"}
    figures["content loss"] = f"{row.content_loss:.3f}"
    return {name: figure.replace("nan", "-") for name, figure in figures.items()}


class ContentLoss:
    """The content loss alone, for `perceptual_losses`: eq. (2) of Gupta et al. 2017 with a weight of one."""

    def __init__(self, network: PerceptualNetwork, layers: tuple[str, ...]) -> None:
        network.require(layers)
        self._network = network
        self._layers = layers

    def content_terms(self, images: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        targets: dict[str, Tensor] = self._network(images, self._layers)
        return targets, self._terms(targets, targets)

    def __call__(self, images: Tensor, content_targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._terms(self._network(images, self._layers), content_targets)

    def _terms(self, features: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"content": torch.stack([content_loss(features[j], targets[j]) for j in self._layers]).sum()}
