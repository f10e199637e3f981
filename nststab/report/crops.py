"""The least and the most stable corresponding patches of a comparison, cut out (Gupta et al. 2017, Figure 9)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from nststab.errors import NststabError
from nststab.metrics import Patches
from nststab.report.moments import HALF_A_SECOND, Box, Moment, ShortList, cut, overlap

# Measured on bmx-trees and soapbox of DAVIS at 432 pixels, 10 patches a pair. Where the patches themselves have a lower
# SSIM, half of those of bmx-trees and one in twenty of soapbox, most are smeared by motion or have no counterpart, and
# all methods fail alike. Those of a lower deviation, a quarter of soapbox, are asphalt and shadow.
CORRESPONDING = 0.7
STRUCTURED = 16 / 255


@dataclass(frozen=True)
class CropCell:
    """What a clip shows of the patch in both frames, (1, 3, size, size), and how alike the two are."""

    previous: Tensor
    current: Tensor
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Crop:
    """Corresponding patches of two adjacent frames.

    Attributes:
        kind: the least stable or the most stable.
        frame: the index of the current frame.
        boxes: of the patch in the previous and in the current frame, in measured pixels.
        cells: of each clip, the input first.
    """

    kind: Literal["least", "most"]
    frame: int
    boxes: tuple[Box, Box]
    cells: list[CropCell]

    @property
    def size(self) -> int:
        """The side of the patch in measured pixels."""
        return self.boxes[0][2]


class CropFinder:
    """Looks for the least and the most stable patches while pairs of frames pass by.

    A patch is as stable as the mean SSIM of its stylized clips. Patches that look alike in the input come before those
    that do not, where nothing can be said of a method; as most stable those with structure before flat ones. No two are
    of the same frame, or of the same place within half a second. Of four times as many as are wanted the pixels of the
    patches are held, and nothing else.
    """

    def __init__(self, least: int = 2, most: int = 1) -> None:
        self._wanted = least, most
        self._least = ShortList[Crop](4 * least, _near)
        self._most = ShortList[Crop](4 * (least + most), _near)

    def update(
        self,
        frame: int,
        previous: Sequence[Tensor],
        current: Sequence[Tensor],
        patches: Patches,
        scores: Sequence[tuple[list[float], list[float]]],
    ) -> None:
        """Take the pair of frames that ends with number `frame`, of all clips, the input's first.

        previous, current: the frames (1, 3, H, W). scores: of each clip the PSNRs and the SSIMs of the patches.
        Raises ValueError where there is no clip beside the input, or they do not fit each other.
        """
        if not 2 <= len(previous) == len(current) == len(scores):
            raise NststabError(
                "expected the input and a clip or more, with scores of each, got "
                f"{len(previous)} and {len(current)} frames and {len(scores)} scores"
            )
        for k, corners in enumerate(zip(patches.previous.tolist(), patches.current.tolist(), strict=True)):
            before, after = ((x, y, patches.size, patches.size) for y, x in corners)
            figures = [(psnrs[k], ssims[k]) for psnrs, ssims in scores]
            self._offer(frame, (before, after), previous, current, figures)

    def result(self) -> list[Crop]:
        """The least stable, the worst first, then the most stable, the best first; fewer where there are no more."""
        least, most = self._wanted
        worst = self._least.best()[:least]
        # nothing is shown as both, of however few patches there are
        best = [one for one in self._most.best() if not any(_near(one.moment, other.moment) for other in worst)]
        return [entry.item for entry in [*worst, *best[:most]]]

    def _offer(
        self,
        frame: int,
        boxes: tuple[Box, Box],
        previous: Sequence[Tensor],
        current: Sequence[Tensor],
        figures: Sequence[tuple[float, float]],
    ) -> None:
        own, *made = (ssim for _, ssim in figures)
        if any(math.isnan(value) for pair in figures for value in pair):
            return
        stable = math.fsum(made) / len(made)
        corresponds = own >= CORRESPONDING
        structured = float(cut(previous[0], boxes[0]).mean(1).std()) >= STRUCTURED

        def crop(kind: Literal["least", "most"]) -> Crop:
            pairs = zip(previous, current, figures, strict=True)
            return Crop(kind, frame, boxes, [CropCell(cut(a, boxes[0]), cut(b, boxes[1]), *c) for a, b, c in pairs])

        moment = Moment(frame, boxes[1])
        self._least.offer((corresponds, -stable), moment, lambda: crop("least"))
        self._most.offer((corresponds and structured, corresponds, stable), moment, lambda: crop("most"))


def _near(first: Moment, second: Moment) -> bool:
    apart = abs(first.frame - second.frame)
    return apart == 0 or (apart < HALF_A_SECOND and overlap(first.box, second.box))
