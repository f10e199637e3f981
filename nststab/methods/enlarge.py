"""A working size apart from the output's: strokes of one share of the frame at every size, 4K at the price of less."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.color import luminance
from nststab.frames import Frame, Stylizer
from nststab.video.images import resize

_RADIUS = 2  # pixels of the small picture around each, in which its gain is fitted
_NOISE = 1e-2  # variance of the small luminance below which an edge hardly counts: a stroke is not the input's texture
_STROKE = 2 / 3  # radius of the filter that gives strokes their edge, in pixels of the small picture
_STRIP = 1 << 18  # pixels that are filtered at a time
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
    size = content.shape[-2:]
    light = luminance(small)
    mean, painted = _mean(light), _mean(stylized)
    covariance = _mean(light * stylized) - mean * painted  # (1, 3, h, w)
    gain = _mean(covariance / (_mean(light.square()) - mean.square() + _NOISE))
    lost = luminance(content).sub_(_scaled(light, size))
    large = _scaled(stylized, size).addcmul_(_scaled(gain, size, "bilinear"), lost).clamp_(0, 1)
    return _with_edges(large, round(_STROKE * max(size) / max(small.shape[-2:])))


def _mean(image: Tensor) -> Tensor:
    return F.avg_pool2d(image, 2 * _RADIUS + 1, 1, _RADIUS, count_include_pad=False)


def _scaled(image: Tensor, size: Sequence[int], mode: str = "bicubic") -> Tensor:
    """Enlarged; torch's antialiased code gives what the other does, in less than half the time."""
    return F.interpolate(image, tuple(size), mode=mode, antialias=True, align_corners=False)


def _with_edges(image: Tensor, radius: int) -> Tensor:
    """Kuwahara's filter, in place: of the four squares of `radius` that meet in a pixel, the flat ones count.

    Rows are done in strips that the processor's cache holds, in half of the time.
    """
    if radius < 1:
        return image
    height, width = image.shape[-2:]
    padded = F.pad(image, (radius,) * 4, mode="replicate")
    rows = max(radius, _STRIP // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        image[..., top:bottom, :] = _flattest(padded[..., top : bottom + 2 * radius, :], radius)
    return image


def _flattest(padded: Tensor, radius: int) -> Tensor:
    """The filter of a strip with `radius` more on each side."""
    height, width = padded.shape[-2] - 2 * radius, padded.shape[-1] - 2 * radius
    channels = torch.cat([padded, luminance(padded).square_()], dim=1)
    means = _sliding_mean(_sliding_mean(channels, radius + 1, 2), radius + 1, 3)  # (1, 4, H + radius, W + radius)
    variance = means[:, 3:].sub_(luminance(means[:, :3]).square_()).clamp_min_(0)
    weights = variance.add_(_FLAT).square_().reciprocal_()
    weighted, total = torch.zeros_like(means[:, :3, :height, :width]), torch.zeros_like(means[:, :1, :height, :width])
    for top in (0, radius):
        for left in (0, radius):
            square = (..., slice(top, top + height), slice(left, left + width))
            weighted.addcmul_(means[:, :3][square], weights[square])
            total.add_(weights[square])
    return weighted.div_(total)


def _sliding_mean(image: Tensor, length: int, axis: int) -> Tensor:
    """Means of so many neighbours along an axis: torch's pooling takes three times as long for the few there are."""
    count = image.shape[axis] - length + 1
    total = image.narrow(axis, 0, count).clone()
    for start in range(1, length):
        total.add_(image.narrow(axis, start, count))
    return total.div_(length)


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
