"""The rows of a network of many styles: each a scale and a shift after every convolution (Dumoulin et al. 2017).

What is drawn is not linear in a row, but rows can be mixed: a weighted mean of two draws what lies between. So how a
network is to draw, which styles in which parts, with how large strokes and how strongly, is a vector of weights.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from nststab.errors import SettingError
from nststab.networks.transformation import TransformationNetwork
from nststab.settings import did_you_mean

PHOTOGRAPH = "photograph"
"""The row that draws the frame as it is."""


def row_name(style: str, size: int) -> str:
    """What the row of a style picture of a longest side is called."""
    return f"{style}@{size}"


def styles_of(rows: Sequence[str]) -> tuple[str, ...]:
    """The styles of a network by name, in the order of their rows; each may have several, of different strokes."""
    return tuple(dict.fromkeys(_parted(row)[0] for row in rows if row != PHOTOGRAPH))


def _parted(row: str) -> tuple[str, float]:
    """The style of a row and the size of its picture, 1 where the name tells none."""
    name, found, size = row.rpartition("@")
    return (name, float(size)) if found else (size, 1.0)


@dataclass(frozen=True)
class Look:
    """How a network of many styles is to draw.

    Attributes:
        styles: parts by name, of which only the proportions count.
        stroke: size of the strokes, from 0.5, as of the smallest pictures of the style that it was trained with, over 1
            to 2, as of the largest. None is as of a picture of `side`.
        side: longest side of the frames, within what it was trained with.
    """

    styles: Mapping[str, float]
    stroke: float | None = None
    side: int | None = None

    def weights(self, rows: Sequence[str]) -> Tensor:
        """Weights (S,) of the rows of a network; raises SettingError where it has not one of the styles."""
        weights, whole = torch.zeros(len(rows)), sum(self.styles.values())
        for style, part in self.styles.items():
            own = {number: size for number, (name, size) in enumerate(map(_parted, rows)) if name == style}
            if not own:
                raise SettingError(f"the network has no style {style!r}; {did_you_mean(style, styles_of(rows))}")
            for number, share in _by_size(own, self._size(own.values())).items():
                weights[number] += part / whole * share
        return weights

    def _size(self, sizes: Collection[float]) -> float:
        """Of the picture whose strokes are wanted, on a scale of octaves."""
        low, high = math.log2(min(sizes)), math.log2(max(sizes))
        if self.stroke is None and self.side:
            return min(max(math.log2(self.side), low), high)
        return low + (high - low) * (math.log2(self.stroke or 1) + 1) / 2


def stroke_at(side: int, rows: Sequence[str], style: str) -> float:
    """The stroke that a `Look` of a style without one draws frames of a longest side with."""
    sizes = [math.log2(size) for name, size in map(_parted, rows) if name == style]
    low, high = min(sizes), max(sizes)
    if low == high:
        return 1.0
    return float(2 ** (2 * (min(max(math.log2(side), low), high) - low) / (high - low) - 1))


def _by_size(sizes: Mapping[int, float], wanted: float) -> dict[int, float]:
    """Parts of the two rows whose sizes are next to the one that is wanted, on a scale of octaves."""
    order = sorted(sizes, key=sizes.__getitem__)
    shares = dict.fromkeys(order, 0.0)
    for below, above in pairwise(order):
        first, second = math.log2(sizes[below]), math.log2(sizes[above])
        if first <= wanted <= second:
            share = (wanted - first) / (second - first)
            return shares | {below: 1 - share, above: share}
    return shares | {order[0]: 1.0}


def with_rows(network: TransformationNetwork, weights: Tensor, names: Sequence[str]) -> TransformationNetwork:
    """A copy of `network` whose rows are mixed from its own by `weights` (R, S), and are called `names`.

    Of one row it needs no weights when it runs, and draws the same.
    """
    made = TransformationNetwork(replace(network.config, styles=tuple(names)))
    made.load_state_dict(
        {name: weights.to(value) @ value if is_row(name) else value for name, value in network.state_dict().items()}
    )
    return made


def is_row(weight: str) -> bool:
    """Whether the weight of a name, (S, C), belongs to the styles, and not to what they share."""
    return ".normalization." in weight
