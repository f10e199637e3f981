"""Which clip is steadier, only one whose steadiness is not paid for by style; and how that is said."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nststab.measure.intervals import Difference

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


Row = Mapping[str, Any]
"""`psnr`, `ssim`, `style_loss` and `content_loss` of a clip; None or NaN where it was not measured."""

_RIVALS = 2
"""As many are compared with the steadiest besides the second; of more only the least steady is."""


def findings(
    own: Row, others: Mapping[str, Row], differences: Mapping[tuple[str, str], Difference] | None = None
) -> list[str]:
    """Which of the stylized clips, by their names, is the steadiest by SSIM, and by how much; `own`: the input's.

    None is called so that has more style loss than a rival (`verdict.PAID`), or keeps most of the input's. differences:
    of the SSIM of two clips, measured pair by pair; one whose interval holds zero proves nothing.
    """
    known = [pair for pair in others.items() if _value(pair[1], "ssim") is not None]
    known.sort(key=lambda pair: -float(pair[1]["ssim"]))
    stands = {name: _standing(row) for name, row in known}
    places = dict(zip(stands, ranks(list(stands.values()), _standing(own).style_loss), strict=True))
    ranked = [(name, row) for name, row in known if places[name] is not None]
    said = _verdict(ranked, stands, differences or {}) if len(ranked) > 1 else []
    if known and math.isnan(_standing(own).style_loss):
        (name, best), *rest = known
        against = f"{name} has the highest SSIM, {_difference(best, rest[0][1])} against {rest[0][0]}. " if rest else ""
        said.append(
            f"{against}Which is steadier is not said: style was not measured, and a clip may be steady because "
            "it does little."
        )
    said += [
        f"{name} is hardly in the style: it keeps {share:.0%} of the input's style loss, and has no rank."
        for name, stand in stands.items()
        if (share := share_of_input(stand, _standing(own).style_loss)) > HARDLY_STYLIZED
    ]
    if known and _value(own, "ssim") is not None:
        name, best = next(iter(ranked), known[0])
        said.append(
            f"Corresponding patches of adjacent frames have {_figures(best)} in {name}, and {_figures(own)} in the "
            "input itself."
        )
    said += [
        f"{name} is hardly more than the input (content loss {loss:.3f}): its steadiness says little."
        for name, row in others.items()
        if (loss := _value(row, "content_loss")) is not None and loss < HARDLY_CHANGED
    ]
    return said


def _verdict(
    ranked: list[tuple[str, Row]], stands: Mapping[str, Standing], differences: Mapping[tuple[str, str], Difference]
) -> list[str]:
    """Of ranked clips, the highest SSIM first: whether it is the steadiest, and how it stands against others."""
    (name, best), (other, second), *rest = ranked
    paid = [rival for rival, _ in ranked[1:] if stands[name].is_paid(stands[rival])]
    if paid:
        first = f"None is the steadiest: {name} has the highest SSIM, but pays for it with style"
        rivals = [(rival, row) for rival, row in ranked[1:] if rival in paid]
        return [f"{first}: {_difference(best, row)} against {rival}." for rival, row in rivals[:1]]
    found = differences.get((name, other)) or differences.get((other, name))
    if found is not None and math.isnan(found.interval.low):
        said = [f"There is too little to tell which is steadier: {_difference(best, second)}, {name} against {other}."]
    elif found is not None and not found.is_sure:
        said = [f"{name} and {other} differ by no more than chance would: {_difference(best, second)}."]
    else:
        said = [f"{name} is the steadiest: {_difference(best, second)} against {other}."]
    shown = rest if len(rest) <= _RIVALS else rest[-1:]  # the table has all of them
    return said + [f"{name} against {rival}: {_difference(best, row)}." for rival, row in shown]


def _figures(row: Row) -> str:
    return f"an SSIM of {row['ssim']:.3f} and {row['psnr']:.1f} dB PSNR"


def _difference(best: Row, row: Row) -> str:
    """How much steadier one is than the other, and what that costs."""
    text = f"{best['ssim'] - row['ssim']:+.3f} SSIM, {best['psnr'] - row['psnr']:+.1f} dB PSNR"
    losses = _value(best, "style_loss"), _value(row, "style_loss")
    return text if losses[0] is None or not losses[1] else f"{text}, {losses[0] / losses[1] - 1:+.0%} style loss"


def _standing(row: Row) -> Standing:
    ssim, style = _value(row, "ssim"), _value(row, "style_loss")
    return Standing(math.nan if ssim is None else ssim, math.nan if style is None else style)


def _value(row: Row, key: str) -> float | None:
    value = row.get(key)
    return None if value is None or math.isnan(value) else float(value)
