"""Why style networks flicker, part two: how much does a result change when the picture only moves?

A still is panned by whole and half pixels, zoomed and turned; the result of the moved still, moved back, is compared
with that of the still. Two stride-2 convolutions make a network that draws the same thing only every fourth pixel. A
blurred result changes little too, so the result's own gradient and its style loss stand beside the change.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.datasets.folders import davis_sequences
from nststab.errors import NststabError
from nststab.experiments.cast import INDEPENDENT, Cast, OnDavis, part_name
from nststab.experiments.figures import draw_curves, grouped, legend_below
from nststab.experiments.runner import Part, Results, Work, run
from nststab.experiments.settings import ShiftSettings
from nststab.frames import Stylizer, as_frames, pictures_of
from nststab.listener import Listener, silent
from nststab.measure.intervals import mean_of_known
from nststab.measure.stability import FrameLosses
from nststab.storage.jobs import content_hash
from nststab.storage.tables import Json, Row, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BORDER = 16  # pixels that are left out on each side, beside what a movement brings in


def shift(
    davis: str | Path,
    output: str | Path,
    *,
    styles: Sequence[str | Path] | None = None,
    methods: Sequence[str] = ("independent", "recurrent"),
    stylizers: Mapping[str, Stylizer] | None = None,
    sequences: Sequence[str] | None = None,
    size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    settings: ShiftSettings | None = None,
    overwrite: bool = False,
    executor: Executor | None = None,
    progress: Listener = silent,
) -> Results:
    """Measures how results change with a picture that moves, on the first frames of DAVIS, and writes it to `output`.

        nststab.experiments.shift("DAVIS", "out", styles=["mosaic"], stylizers={"mine": my_callable})

    Arguments and errors as those of `table1`.
    """
    chosen = ShiftSettings.of(settings).changed(size=size)
    cast = Cast.of(styles, methods, stylizers, chosen, device, precision)
    names = tuple(one.name for one in davis_sequences(Path(davis), sequences, chosen.size))
    return run(Shift(chosen, cast, Path(davis), names), output, overwrite, executor, progress)


@dataclass(frozen=True)
class Shift(OnDavis):
    """Of the input and of each style and method what every movement of every sequence's first frame changes."""

    settings: ShiftSettings
    name, shape = "shift", (9.0, 3.8)

    def identity(self) -> dict[str, Json]:
        files = [file for one in self.sequences.values() for file in one.files(1)]
        return self.cast.identity() | {"sequences": list(self.names), "davis": content_hash(files), "border": BORDER}

    def parts(self, found: Mapping[str, Json]) -> list[Part]:  # noqa: ARG002
        steps = len(self.settings.steps())
        return [
            Part(
                part_name(style, method, sequence),
                sequence,
                style,
                method,
                *((1 + steps, 1 + steps) if method in INDEPENDENT else (1 + 2 * steps, 1 + steps)),
                1,
                (self.settings.size, self.settings.size),
            )
            for style, method in self.pairs
            for sequence in self.names
        ]

    def measure(self, part: Part, work: Work) -> dict[str, Json]:
        still = self.sequences[part.data].frame(0)
        losses = self.cast.losses(part.style, self.settings.size)
        with self.stylizing(part, self.settings.size, work) as stylizer:
            return changes(still, self.settings.steps(), stylizer, part.method not in INDEPENDENT, losses)

    def rows(self, found: Mapping[str, Json]) -> list[Row]:
        rows: list[Row] = []
        for style, method in self.pairs:
            measured = [found[part_name(style, method, name)] for name in self.names]
            means = {key: mean_of_known([one[key] for one in measured]) for key in ("gradient", "style_loss")}
            for number, (movement, strength) in enumerate(self.settings.steps()):
                change = mean_of_known([one["changes"][number] for one in measured])
                own = {"style": style, "method": method, "movement": movement, "strength": strength}
                rows.append({**own, "change": change, **means, "n": len(measured)})
        return rows

    def table(self, rows: Sequence[Row], more: Mapping[str, Json]) -> Table:  # noqa: ARG002
        """A row for the input and for each method of every style."""
        steps = list(dict.fromkeys((row["movement"], row["strength"]) for row in rows))
        lines = []
        for (style, method), own in grouped(rows, "style", "method").items():
            figures = [f"{row['change']:.1f}" for row in own]
            lines.append([f"{style} {method}", *figures, f"{own[0]['gradient']:.1f}", f"{own[0]['style_loss']:.3f}"])
        columns = ("", *(_called(*step) for step in steps), "gradient", "style loss")
        note = (
            "Mean absolute change of the result, moved back, in levels of 255; the input's own is what the sampling "
            "costs. Gradient: mean absolute horizontal difference of neighbouring pixels, in levels: a blurred result "
            "changes little too."
        )
        return Table("Change of the result with a picture that moves", columns, lines, note)

    def draw(self, figure: "Figure", rows: Sequence[Row], more: Mapping[str, Json]) -> None:  # noqa: ARG002
        """Change against the movement, a panel for each; of several styles the mean, and each as a thin line."""
        movements = grouped(rows, "movement")
        labels = {"pan": "pan in pixels", "zoom": "zoom, factor less 1", "turn": "turn in degrees"}
        panels = figure.subplots(
            1, len(movements), sharey=True, squeeze=False, width_ratios=[3] + [1] * (len(movements) - 1)
        )
        for panel, (movement, moved) in zip(panels[0], movements.items(), strict=True):
            for place, (method, own) in enumerate(grouped(moved, "method").items()):
                draw_curves(panel, own, "change", method, place, marker=".")
            panel.set_xlabel(labels[movement])
        panels[0][0].set_ylabel("change of the result (levels of 255)")
        panels[0][0].set_ylim(0, None)
        legend_below(figure, panels[0][0])


def changes(
    still: Tensor, steps: Sequence[tuple[str, float]], stylizer: Stylizer, follows: bool, losses: FrameLosses
) -> dict[str, Any]:
    """What a stylizer's result of a still (1, 3, H, W) changes by when the still moves, in levels of 255.

    A result is moved back by bicubic sampling, unless the movement is one of whole pixels; the input's own change says
    what the sampling costs. follows: the moved still comes after the still in a clip of two frames, as it must for a
    stylizer that remembers. gradient: mean absolute horizontal difference of the still's result, in levels of 255.
    """
    first = _stylized(stylizer, still)[-1]
    found = []
    for movement, strength in steps:
        moved = move(still, movement, strength)
        result = _stylized(stylizer, *((still, moved) if follows else (moved,)))[-1]
        back = move(result, movement, -strength)
        left_out = BORDER + math.ceil(reach(movement, strength, *still.shape[-2:]))
        if min(still.shape[-2:]) <= 2 * left_out:
            size = f"{still.shape[-1]}x{still.shape[-2]}"
            raise NststabError(f"frames of {size} pixels are too small for a {movement} of {strength:g}")
        inner = (..., slice(left_out, -left_out), slice(left_out, -left_out))
        found.append(255 * float((back - first)[inner].abs().mean()))
    gradient = 255 * float(first.diff(dim=-1).abs().mean())
    return {"changes": found, "gradient": gradient, "style_loss": losses(first, still)["style"]}


def _stylized(stylizer: Stylizer, *pictures: Tensor) -> list[Tensor]:
    return list(pictures_of(stylizer(as_frames(pictures))))


def move(picture: Tensor, movement: str, strength: float) -> Tensor:
    """`picture` (1, 3, H, W) moved about its centre: exact for whole pixels, else sampled bicubically.

    pan: `strength` pixels to the left; zoom: by the factor 1 + strength, and by its inverse for -strength; turn: by so
    many degrees. What comes in at the border is the picture's own edge, repeated.
    """
    if movement == "pan" and strength == round(strength):
        shift, width = round(strength), picture.shape[-1]
        columns = (torch.arange(width) + shift).clamp(0, width - 1)
        return picture[..., columns]
    height, width = picture.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    y, x = rows - (height - 1) / 2, columns - (width - 1) / 2
    if movement == "pan":
        x = x + strength
    elif movement == "zoom":
        factor = 1 / (1 + strength) if strength > 0 else 1 - strength
        x, y = x * factor, y * factor
    else:
        angle = math.radians(strength)
        x, y = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
    grid = torch.stack([2 * x / (width - 1), 2 * y / (height - 1)], dim=-1)[None].to(picture)
    return F.grid_sample(picture, grid, mode="bicubic", padding_mode="border", align_corners=True).clamp(0, 1)


def reach(movement: str, strength: float, height: int, width: int) -> float:
    """By how many pixels a movement brings in what was outside, at most."""
    if movement == "pan":
        return abs(strength)
    half = math.hypot(height, width) / 2
    return half * (abs(strength) if movement == "zoom" else math.radians(abs(strength)))


def _called(movement: str, strength: float) -> str:
    unit = {"pan": " px", "turn": "°"}.get(movement, "")
    return f"{movement} {strength:g}{unit}"
