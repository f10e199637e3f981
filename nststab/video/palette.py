"""256 colours for a moving picture: k-means palettes, and ordered dithering that holds still where the picture does."""

import torch
from torch import Tensor

SIZE = 255  # colours of a palette; the 256th of a GIF is transparent
_ROUNDS = 10  # of k-means: more gain less than 0.1 dB
_BITS = 6  # of a channel in the table of colours whose mixture is remembered
_NEIGHBOURS = 8  # palette colours of which the second one is chosen
_GRAIN = 0.3  # how much the dithering's own noise counts beside the error of the mean colour
_CHUNK = 16384  # colours that are compared with the palette at once


def make_palette(pixels: Tensor) -> Tensor:
    """At most `SIZE` colours (K, 3) for pixels (N, 3) of 0 to 255, by k-means, seeded as k-means++ (Arthur 2007)."""
    distinct: Tensor = torch.unique(pixels, dim=0)
    if len(distinct) <= SIZE:
        return distinct
    colours = _seeds(pixels)
    for _ in range(_ROUNDS):
        nearest = torch.cdist(pixels, colours).argmin(1)
        counts = torch.bincount(nearest, minlength=SIZE).unsqueeze(1)
        sums = torch.zeros_like(colours).index_add_(0, nearest, pixels)
        colours = torch.where(counts > 0, sums / counts.clamp(min=1), colours)
    return colours.round_()


def _seeds(pixels: Tensor) -> Tensor:
    """Pixels drawn with a probability that grows with the squared distance from those drawn before."""
    generator = torch.Generator().manual_seed(0)
    distance = torch.full((len(pixels),), torch.inf)
    seeds = [pixels[len(pixels) // 2]]
    for _ in range(SIZE - 1):
        distance = torch.minimum(distance, (pixels - seeds[-1]).square().sum(1))
        seeds.append(pixels[torch.multinomial(distance, 1, generator=generator)[0]])
    return torch.stack(seeds)


def palette_error(pixels: Tensor, colours: Tensor) -> float:
    """The mean squared distance of pixels (N, 3) from the nearest of the colours (K, 3)."""
    return float(torch.cdist(pixels, colours).amin(1).square().mean())


def noise(height: int, width: int) -> Tensor:
    """Thresholds (H, W) in [0, 1) of an ordered dither without a visible grid: interleaved gradient noise.

    Jimenez, Next Generation Post Processing in Call of Duty: Advanced Warfare (2014).
    """
    y, x = torch.arange(height).unsqueeze(1), torch.arange(width)
    return (52.9829189 * (0.06711056 * x + 0.00583715 * y).frac()).frac()


class Dither:
    """Maps pixels to a palette `colours` (K, 3): each to one of the two colours between which it lies.

    Which of the two depends only on the pixel's colour and place, so that what does not change does not flicker. The
    two are chosen once for all colours which share their upper bits, as nearest in the mean, with little noise.
    """

    def __init__(self, colours: Tensor, pairs: Tensor | None = None) -> None:
        """pairs: what another one has chosen."""
        self.colours = colours
        self.pairs = torch.full((1 << 3 * _BITS, 2), -1, dtype=torch.int16) if pairs is None else pairs

    def __call__(self, pixels: Tensor, thresholds: Tensor) -> Tensor:
        """Indices (N,) of uint8 for pixels (N, 3) of 0 to 255, each with its threshold (N,) in [0, 1)."""
        upper = pixels.long() >> (8 - _BITS)
        cells = (upper[:, 0] << 2 * _BITS) + (upper[:, 1] << _BITS) + upper[:, 2]
        self._learn(cells, pixels)
        first, second = self.pairs[cells].long().unbind(1)
        start, step = self.colours[first], self.colours[second] - self.colours[first]
        share = ((pixels - start) * step).sum(1) / step.square().sum(1).clamp(min=1)
        return torch.where(share > thresholds, second, first).to(torch.uint8)

    def _learn(self, cells: Tensor, pixels: Tensor) -> None:
        """Choose the colours of the cells which come for the first time, for the mean of the pixels in each."""
        new = self.pairs[cells, 0] < 0
        found, places, counts = torch.unique(cells[new], return_inverse=True, return_counts=True)
        means = torch.zeros(len(found), 3).index_add_(0, places, pixels[new].float()) / counts.unsqueeze(1)
        for part, colours in zip(found.split(_CHUNK), means.split(_CHUNK), strict=True):
            self.pairs[part] = _mixtures(colours, self.colours).to(torch.int16)


def _mixtures(pixels: Tensor, colours: Tensor) -> Tensor:
    """The two colours (N, 2), by index, whose mixture is best for each of the pixels (N, 3); the first is nearest."""
    near = torch.cdist(pixels, colours).topk(min(_NEIGHBOURS, len(colours)), largest=False).indices  # (N, K)
    start = colours[near[:, :1]]  # (N, 1, 3)
    step = colours[near] - start  # (N, K, 3)
    length = step.square().sum(2)  # (N, K)
    wanted = pixels.unsqueeze(1) - start
    share = ((wanted * step).sum(2) / length.clamp(min=1)).clamp(0, 1)
    error = (wanted - share.unsqueeze(2) * step).square().sum(2) + _GRAIN * share * (1 - share) * length
    best = near.gather(1, error.argmin(1, keepdim=True))
    return torch.cat([near[:, :1], best], dim=1)
