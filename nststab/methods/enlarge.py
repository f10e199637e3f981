"""A working size apart from the output's: strokes of one share of the frame at every size, 4K at the price of less."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.color import luminance, sliding
from nststab.frames import Frame, Stylizer
from nststab.video.images import resize

_RADIUS = 2  # pixels of the small picture around each, in which its gain is fitted
_NOISE = 1e-2  # variance of the small luminance below which an edge hardly counts: a stroke is not the input's texture
_STROKE = 2 / 3  # radius of the filter that gives strokes their edge, in pixels of the small picture
_STRIP = 1 << 18  # pixels that are worked on at a time
_FLAT = 1e-4  # variance below which two sides of an edge count as equally flat


def enlarge(stylized: Tensor, small: Tensor, content: Tensor, kept: float | Tensor = 0.0) -> Tensor:
    """`stylized` (1, 3, h, w), made of `small`, in the size of `content` (1, 3, H, W), which `small` is the reduced of.

    `kept` is how far the content shows, in all or in each pixel (1, 1, H, W), 1 less the strength of the style: so much
    of what `small` enlarged lacks of the content is added, and with 1 a stylization that changes nothing gives the
    content back.

    Three steps: bicubic interpolation; the edges that `content` has and `small` has lost, as strong as they are in
    `stylized`; and strokes with an edge. The second is the residual of the fast guided filter (He and Sun 2015) put on
    the interpolation instead of its mean, which would blur every stroke that is no edge of the input: a is the slope of
    the regression of `stylized` on the luminance l of `small` in a window, and the result gains a·(L - l enlarged). The
    third is Kuwahara's filter (1976), each of its four means weighted by the inverse square of its variance as in
    Papari et al. 2007, so that it is steady: it overshoots nowhere, so there is no halo.
    """
    if isinstance(kept, Tensor) or kept:
        lacking = content - enlarge(small, small, content)
        return enlarge(stylized, small, content).add_(lacking.mul_(kept)).clamp_(0, 1)
    height, width = content.shape[-2:]
    light = luminance(small)
    mean, painted = _mean(light), _mean(stylized)
    covariance = _mean(light * stylized) - mean * painted  # (1, 3, h, w)
    gain = _mean(covariance / (_mean(light.square()) - mean.square() + _NOISE))
    radius = round(_STROKE * max(height, width) / max(small.shape[-2:]))
    pictures = _Rows(torch.cat([stylized, light], dim=1), height, width, radius, "bicubic")
    gains = _Rows(gain, height, width, radius, "bilinear")
    result = torch.empty_like(content)
    step = max(radius, _STRIP // width)
    for top in range(0, height, step):  # of which the processor's cache holds more than of the whole
        rows = torch.arange(top - radius, min(height, top + step) + radius).clamp_(0, height - 1)
        own = luminance(content[..., rows[0] : rows[-1] + 1, :])[0, 0, rows - rows[0]]
        strip = pictures[rows]
        large, fourth = strip[:, :3], strip[:, 3:]
        large.addcmul_(gains[rows], _bordered(own[:, None], radius).sub_(fourth)).clamp_(0, 1)
        fourth.copy_(luminance(large).square_())
        result[0, :, top : top + step] = _flattest(strip, radius).transpose(0, 1)
    return result


class _Rows:
    """Rows of a picture (1, C, h, w) enlarged to `height` x `width`, with `radius` more columns on each side.

    Interpolation is separable, and few small rows make many large ones: across it is done once in h rows, and down by
    a small product of matrices, which takes far less time than torch's interpolation of the whole.
    """

    def __init__(self, image: Tensor, height: int, width: int, radius: int, mode: str) -> None:
        across = _scaled(image, (image.shape[2], width), mode)
        self._across = _bordered(across[0].transpose(0, 1), radius)  # (h, C, W + 2 radius)
        self._weights = _weights(image.shape[2], height, mode)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """(R, C, W + 2 radius): the channels of a row are together, so that it is one product."""
        weights = self._weights[rows]
        used = weights.any(dim=0).nonzero()
        across = self._across[int(used[0]) : int(used[-1]) + 1]
        made = weights[:, int(used[0]) : int(used[-1]) + 1] @ across.flatten(1)
        return made.view(-1, *across.shape[1:])


@lru_cache(maxsize=8)
def _weights(count: int, larger: int, mode: str) -> Tensor:
    """What each of `count` pixels adds to each of `larger` ones that are interpolated of them: (larger, count)."""
    return _scaled(torch.eye(count)[None, None], (larger, count), mode)[0, 0]


def _scaled(image: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """Enlarged; torch's antialiased code gives what the other does, in less than half the time."""
    return F.interpolate(image, tuple(size), mode=mode, antialias=True, align_corners=False)


def _bordered(rows: Tensor, radius: int) -> Tensor:
    """Rows (R, C, W) with the columns at both ends repeated: torch's padding takes many times as long."""
    left, right = (rows[..., end].expand(-1, -1, radius) for end in (slice(1), slice(-1, None)))
    return torch.cat([left, rows, right], dim=2)


def _mean(image: Tensor) -> Tensor:
    """Means in windows of `_RADIUS`, of which at the border only what lies in the picture counts."""
    length = 2 * _RADIUS + 1
    padded = F.pad(torch.cat([image, torch.ones_like(image[:, :1])], dim=1), (_RADIUS,) * 4)
    total = sliding(sliding(padded, length, 2), length, 3)
    return total[:, :-1] / total[:, -1:]


def _flattest(strip: Tensor, radius: int) -> Tensor:
    """Kuwahara's filter of rows (R + 2 radius, 4, W + 2 radius), of R, G, B and the luminance's square: (R, 3, W).

    Of the four squares that meet in a pixel the flat ones count. Each is weighted once for all pixels that it meets in.
    """
    sums = sliding(sliding(strip, radius + 1, 0), radius + 1, 2)
    colors, squares, count = sums[:, :3], sums[:, 3:], (radius + 1) ** 2
    variance = squares.mul_(count).sub_(luminance(colors).square_()).clamp_min_(0)  # times the square of `count`
    weights = variance.add_(count**2 * _FLAT).square_().reciprocal_()
    colors.mul_(weights)
    rows = sums[:-radius] + sums[radius:]
    total = rows[..., :-radius] + rows[..., radius:]
    return total[:, :3].div_(total[:, 3:].mul_(count))


@dataclass(frozen=True)
class Enlarged:
    """A `Stylizer` that has another work at frames of a longest side, and gives those of the size that it got."""

    stylizer: Stylizer
    side: int
    kept: Callable[[Frame], float] | None = None  # of each frame, as for `enlarge`

    def __call__(self, frames: Iterable[Frame], /) -> Iterator[Frame]:
        waiting: deque[tuple[Frame, Tensor]] = deque()  # what is at work: the frame, and its picture there

        def reduced() -> Iterator[Frame]:
            for frame in frames:
                small = resize(frame.rgb, self.side)
                waiting.append((frame, small))
                yield replace(frame, rgb=small, content=None)

        for made in self.stylizer(reduced()):
            frame, small = waiting.popleft()
            if made.rgb is small:  # finished by an earlier run, or left as it is
                yield frame
            else:
                kept = self.kept(frame) if self.kept else 0.0
                yield frame.with_rgb(enlarge(made.rgb, small, frame.rgb, kept))
            del frame  # which may be large, before the next one is painted
