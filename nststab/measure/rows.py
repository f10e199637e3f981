"""Rows of Table 1 of Gupta et al. 2017, from what was measured of each sequence."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nststab.measure.intervals import bootstrap_interval, mean_of_known, said
from nststab.measure.stability import CONTENT
from nststab.storage.tables import Row, Table

DAVIS_SIZE = 432  # longest side; the paper's 100x100 patches of 854x480 frames become 50x50
CHEATS = ("copy of the input", "blurred (sigma 1)", "mixed with previous")  # those of `stability.sanity_checks`
MEASURES = ("psnr", "ssim", "flicker", "style_loss", "content_loss")

Figures = Mapping[str, Any]
"""What `MethodStability.as_row` gives: n, psnr, ssim, flicker, style_loss, content_loss; None is what has no value."""


def style_rows(style: str, measured: Mapping[str, Mapping[str, Figures]], seed: int = 0) -> list[Row]:
    """One row for each method of a style: means over its sequences, of which each counts the same.

    measured: by sequence, then by method, the input's own (`CONTENT`) among them, and the cheats after the methods.
    Intervals are of the mean over sequences; `style_share` is the style loss as a share of the input's own.
    """
    unstylized = mean_of_known(_number(figures[CONTENT]["style_loss"]) for figures in measured.values())
    rows: list[Row] = []
    for method in sorted(next(iter(measured.values())), key=place_of):
        sequences = [
            {"sequence": name, "n": figures[method]["n"], **{key: _number(figures[method][key]) for key in MEASURES}}
            for name, figures in measured.items()
        ]
        means = {key: mean_of_known(sequence[key] for sequence in sequences) for key in MEASURES}
        rows.append(
            {
                "style": style,
                "method": method,
                **means,
                "psnr_interval": bootstrap_interval([sequence["psnr"] for sequence in sequences], seed),
                "ssim_interval": bootstrap_interval([sequence["ssim"] for sequence in sequences], seed),
                "n": sum(sequence["n"] for sequence in sequences),
                "style_share": means["style_loss"] / unstylized if unstylized else math.nan,
                "sequences": sequences,
            }
        )
    return rows


def place_of(method: str) -> int:
    """The input, then the methods in their order, then the cheats."""
    return 0 if method == CONTENT else 2 + CHEATS.index(method) if method in CHEATS else 1


def sequence_means(rows: Sequence[Row], key: str) -> list[float]:
    """For each sequence the mean over rows, which are of different styles."""
    return [
        mean_of_known(found) for found in zip(*([part[key] for part in row["sequences"]] for row in rows), strict=True)
    ]


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def stability_table(rows: Mapping[str, Figures]) -> Table:
    """What `MethodStability.as_row` gives, by the rows' names."""
    digits = {"psnr": 2, "ssim": 3, "flicker": 2, "style_loss": 3, "content_loss": 3}
    columns = ("", "PSNR dB", "SSIM", "flicker", "style loss", "content loss")
    lines = [[name, *(said(row[key], count) for key, count in digits.items())] for name, row in rows.items()]
    return Table("", columns, lines)
