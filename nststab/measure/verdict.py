"""Which clip is steadier: only one whose steadiness is not paid for by style."""

import math
from collections.abc import Sequence
from typing import NamedTuple

HARDLY_STYLIZED = 0.5
"""A clip with a larger share of its input's style loss is not ranked: networks and optimisers keep 0.05 to 0.25, a
network's result blurred by one pixel 0.3 to 0.4, a posterised input 0.9."""

PAID = 1.1
"""Times another clip's style loss, above which a clip's steadiness is paid for by style, and there is no verdict."""

HARDLY_CHANGED = 0.1
"""A content loss below it says that a clip is hardly more than its input: networks and optimisers have 0.4 to 1, a
compressed copy 0.01."""


class Standing(NamedTuple):
    """What decides: SSIM of corresponding patches and style loss; NaN where not measured."""

    ssim: float
    style_loss: float

    def is_paid(self, other: "Standing") -> bool:
        """Whether this clip has so much more style loss than the other that its steadiness proves nothing."""
        return self.style_loss > PAID * other.style_loss

    def beats(self, other: "Standing") -> bool:
        """Whether it is the steadier of the two, and not by less style."""
        return self.ssim > other.ssim and not self.is_paid(other)


def share_of_input(standing: Standing, own_style_loss: float) -> float:
    """The style loss as a share of the unstylized input's; NaN where style was not measured."""
    return standing.style_loss / own_style_loss if own_style_loss else math.nan


def ranks(clips: Sequence[Standing], own_style_loss: float) -> list[int | None]:
    """One more than the number of ranked clips that beat each; clips that trade steadiness for style share a place.

    None for a clip that has no SSIM, whose style was not measured, or that keeps more than `HARDLY_STYLIZED` of the
    input's style loss.
    """
    ranked = [not math.isnan(clip.ssim) and share_of_input(clip, own_style_loss) <= HARDLY_STYLIZED for clip in clips]
    rivals = [clip for clip, counts in zip(clips, ranked, strict=True) if counts]
    return [
        1 + sum(other.beats(clip) for other in rivals) if counts else None
        for clip, counts in zip(clips, ranked, strict=True)
    ]
