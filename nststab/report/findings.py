"""What a comparison found, in sentences: the steadiest first, and what its steadiness costs."""

import math
from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]
"""`psnr`, `ssim`, `style_loss` and `content_loss` of a clip; None or NaN where it was not measured."""

HARDLY_CHANGED = 0.1
"""A content loss below it says that a clip is hardly more than its input: networks and optimisers have 0.4 to 1, a
compressed copy 0.01."""

_RIVALS = 2
"""As many are compared with the steadiest besides the second; of more only the least steady is."""


def findings(own: Row, others: Mapping[str, Row]) -> list[str]:
    """Which of the stylized clips, by their names, is the steadiest by SSIM, and by how much; `own`: the input's."""
    known = [pair for pair in others.items() if _value(pair[1], "ssim") is not None]
    known.sort(key=lambda pair: -float(pair[1]["ssim"]))
    said = []
    if len(known) > 1:
        (name, best), (other, second), *rest = known
        said.append(f"{name} is the steadiest: {_difference(best, second)} against {other}.")
        shown = rest if len(rest) <= _RIVALS else rest[-1:]  # the table has all of them
        said += [f"{name} against {other}: {_difference(best, row)}." for other, row in shown]
    if known and _value(own, "ssim") is not None:
        name, best = known[0]
        said += [f"{name} has an SSIM of {best['ssim']:.3f}, the input {own['ssim']:.3f}."] * (len(known) == 1)
        said.append(
            f"Corresponding patches of adjacent frames have {_figures(best)} in {name}, and {_figures(own)} in the "
            "input, which is the most that can be had."
        )
    if known and _value(own, "style_loss") is None:
        said.append("Style was not measured: a clip may be steady because it does little.")
    said += [
        f"{name} is hardly more than the input (content loss {loss:.3f}): its steadiness says little."
        for name, row in others.items()
        if (loss := _value(row, "content_loss")) is not None and loss < HARDLY_CHANGED
    ]
    return said


def _figures(row: Row) -> str:
    return f"an SSIM of {row['ssim']:.3f} and {row['psnr']:.1f} dB PSNR"


def _difference(best: Row, row: Row) -> str:
    """How much steadier one is than the other, and what that costs."""
    text = f"{best['ssim'] - row['ssim']:+.3f} SSIM, {best['psnr'] - row['psnr']:+.1f} dB PSNR"
    losses = _value(best, "style_loss"), _value(row, "style_loss")
    return text if losses[0] is None or not losses[1] else f"{text}, {losses[0] / losses[1] - 1:+.0%} style loss"


def _value(row: Row, key: str) -> float | None:
    value = row.get(key)
    return None if value is None or math.isnan(value) else float(value)
