"""What stability and style are measured by: corresponding patches, PSNR, SSIM, flicker, warping error, Gram trace.

Frames are float32 RGB (1, 3, H, W) in [0, 1], on any device. PSNR, SSIM and the patch search see them rounded to 8
bits, as a file would hold them.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.fft
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor

from nststab.errors import NststabError
from nststab.warp import warp

Levels = NDArray[np.float64]

PSNR_CAP = 100.0  # dB; the score of equal images: no two 8-bit patches that differ reach it up to 226x226 pixels
SSIM_WINDOW = 7  # scikit-image's default; smaller images have no SSIM

REC709 = (0.2126, 0.7152, 0.0722)
"""Weights of R, G and B in the luma Y' of ITU-R BT.709: what is called brightness where drift is measured."""


def _levels(image: Tensor) -> Levels:
    """The image (1, 3, H, W) as whole numbers 0 .. 255, (3, H, W): sums of their products are exact in float64."""
    if image.ndim != 4 or image.shape[:2] != (1, 3):
        raise NststabError(f"expected one RGB image (1, 3, H, W), got {tuple(image.shape)}")
    return image[0].detach().cpu().double().clamp(0, 1).mul(255).round().numpy()


def _psnr(first: Levels, second: Levels) -> float:
    error = float(np.mean((first - second) ** 2))
    return PSNR_CAP if error == 0 else min(PSNR_CAP, 10 * math.log10(255**2 / error))


def _ssim(first: Levels, second: Levels) -> float:
    return float(structural_similarity(first, second, channel_axis=0, data_range=255))  # type: ignore[no-untyped-call]


def psnr(first: Tensor, second: Tensor) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(255² / MSE) over all pixels and channels, after rounding to 8 bits.

    Equal images score `PSNR_CAP` instead of infinity, so that means exist. A mean PSNR in this package is the mean of
    decibels (as in Gupta et al. 2017, Table 1), not the PSNR of the mean error.
    """
    return _psnr(_levels(first), _levels(second))


def ssim(first: Tensor, second: Tensor) -> float:
    """Structural similarity (Wang et al. 2004) by scikit-image's defaults, mean over RGB, after rounding to 8 bits.

    Raises ValueError for images smaller than its 7x7 window.
    """
    return _ssim(_levels(first), _levels(second))


@dataclass(frozen=True)
class PatchSettings:
    """The patches of Gupta et al. 2017, section 5.3: how many a pair of frames, their side and search radius in pixels.

    The defaults are the paper's, for frames of 854x480.
    """

    count: int = 1
    size: int = 100
    radius: int = 20

    def __post_init__(self) -> None:
        if self.count < 1 or self.size < SSIM_WINDOW or self.radius < 0:
            raise NststabError(f"expected count >= 1, size >= {SSIM_WINDOW} and radius >= 0, got {self}")

    @classmethod
    def scaled(cls, height: int, width: int, count: int = 1) -> "PatchSettings":
        """The paper's patch and radius for frames of another size, by the longest side: 50x50 and 10 at 432."""
        scale = max(height, width) / 854
        return cls(count, max(SSIM_WINDOW, 2 * round(50 * scale)), max(1, round(20 * scale)))


class Patches(NamedTuple):
    """The same pieces of a scene in two adjacent frames."""

    previous: Tensor  # (K, 2) top left corners, y then x
    current: Tensor  # (K, 2)
    size: int


def corresponding_patches(
    previous: Tensor,
    current: Tensor,
    settings: PatchSettings,
    generator: torch.Generator,
    foreground: tuple[Tensor, Tensor] | None = None,
) -> Patches:
    """Random patches of the previous frame and their best matches in the current one (Gupta et al. 2017, section 5.3).

    A patch is drawn among all that touch no foreground; its match is the patch within `radius` pixels, free of
    foreground too, with the highest PSNR: every shift is tried, exactly, and of equally good ones the shortest wins.
    Fewer than `count` come back, down to none, where there is no room for more.

    previous, current: content frames (1, 3, H, W). foreground: their masks (1, 1, H, W), above 0 = foreground.
    """
    if previous.shape != current.shape:
        raise NststabError(f"expected frames of one size, got {tuple(previous.shape)} and {tuple(current.shape)}")
    size = settings.size
    height, width = previous.shape[-2:]
    if min(height, width) < size:
        nothing = torch.zeros(0, 2, dtype=torch.int64)
        return Patches(nothing, nothing, size)
    clear = [_clear_corners(mask, height, width, size) for mask in foreground or (None, None)]
    candidates = np.argwhere(clear[0])
    drawn = torch.randperm(len(candidates), generator=generator)[: settings.count]
    corners = candidates[drawn.numpy()]  # (K, 2)
    shifts, found = _best_shifts(_levels(previous), _levels(current), corners, clear[1], settings)
    return Patches(torch.from_numpy(corners[found]), torch.from_numpy((corners + shifts)[found]), size)


def _clear_corners(foreground: Tensor | None, height: int, width: int, size: int) -> NDArray[np.bool_]:
    """Where the top left corner of a patch without foreground may lie, (H - size + 1, W - size + 1)."""
    if foreground is None:
        return np.ones((height - size + 1, width - size + 1), dtype=np.bool_)
    if foreground.shape != (1, 1, height, width):
        raise NststabError(f"expected a foreground mask (1, 1, {height}, {width}), got {tuple(foreground.shape)}")
    clear: NDArray[np.bool_] = _box_sums((foreground[0, 0] > 0).cpu().numpy().astype(np.float64), size) == 0
    return clear


def _box_sums(plane: Levels, size: int) -> Levels:
    """Sums over all size x size boxes of a plane (H, W), by their top left corners: exact for whole numbers."""
    integral = np.pad(plane, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums: Levels = integral[size:, size:] - integral[:-size, size:] - integral[size:, :-size] + integral[:-size, :-size]
    return sums


def _best_shifts(
    previous: Levels, current: Levels, corners: NDArray[np.int64], clear: NDArray[np.bool_], settings: PatchSettings
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Shifts (K, 2) of the least sum of squared differences where `clear` admits one, and whether it does (K).

    ‖a - b‖² = ‖a‖² - 2 a·b + ‖b‖²: the first is the same for all shifts, the last a box sum, the middle a correlation
    by FFT. On 8-bit levels all are whole numbers, far enough below 2⁵³ that rounding makes the result exact.
    """
    size, radius = settings.size, settings.radius
    y, x = corners.T
    span, shifts = size + 2 * radius, 2 * radius + 1
    border = ((radius, radius), (radius, radius))
    padded = np.pad(current, ((0, 0), *border))
    windows = sliding_window_view(padded, (span, span), axis=(1, 2))[:, y, x]  # (3, K, span, span)
    patches = sliding_window_view(previous, (size, size), axis=(1, 2))[:, y, x]  # (3, K, size, size)
    spectrum = scipy.fft.rfft2(windows) * scipy.fft.rfft2(patches, s=(span, span)).conj()
    # Circular, but no shift up to 2 * radius wraps a patch around its window.
    product = np.rint(scipy.fft.irfft2(spectrum.sum(0), s=(span, span))[:, :shifts, :shifts])  # (K, shifts, shifts)
    energy = sliding_window_view(_box_sums((padded**2).sum(0), size), (shifts, shifts))[y, x]
    admitted = sliding_window_view(np.pad(clear, border), (shifts, shifts))[y, x]
    distance = np.where(admitted, energy - 2 * product, np.inf).reshape(len(corners), shifts**2)
    offsets = np.stack(np.meshgrid(*[np.arange(-radius, radius + 1)] * 2, indexing="ij"), -1).reshape(-1, 2)
    shortest_first = np.argsort((offsets**2).sum(1), kind="stable")
    best = distance[:, shortest_first].argmin(1)
    return offsets[shortest_first[best]], admitted.any((1, 2))


def patch_scores(previous: Tensor, current: Tensor, patches: Patches) -> tuple[list[float], list[float]]:
    """PSNR and SSIM of each pair of patches cut from two adjacent frames (1, 3, H, W)."""
    first, second, size = _levels(previous), _levels(current), patches.size
    pairs = [
        (first[:, y : y + size, x : x + size], second[:, v : v + size, u : u + size])
        for (y, x), (v, u) in zip(patches.previous.tolist(), patches.current.tolist(), strict=True)
    ]
    return [_psnr(a, b) for a, b in pairs], [_ssim(a, b) for a, b in pairs]


def still_pixels(previous: Tensor, current: Tensor, threshold: float = 3 / 255, window: int = 7) -> Tensor:
    """Where the content (1, 3, H, W) changes less than the threshold, on average over a window; bool (1, 1, H, W).

    The window averages sensor noise away and keeps flat pixels inside moving things from counting as still.
    """
    change = (current - previous).abs().mean(1, keepdim=True)
    half = window // 2
    return F.avg_pool2d(F.pad(change, (half, half, half, half), mode="replicate"), window, 1) < threshold


def flicker(previous: Tensor, current: Tensor, still: Tensor) -> float:
    """Mean absolute change of a stylized frame (1, 3, H, W) where its content stands still, in levels of 255.

    NaN where nothing does.
    """
    return 255 * float((current - previous).abs().mean(1, keepdim=True)[still.to(current.device)].mean())


def instability(frames: Iterable[Tensor]) -> float:
    """Mean squared difference of adjacent frames (Gupta et al. 2017, Figure 3); NaN for fewer than two."""
    errors = [float((second - first).square().mean()) for first, second in itertools.pairwise(frames)]
    return sum(errors) / len(errors) if errors else math.nan


def gram_trace(features: Tensor) -> float:
    """tr(ΦΦᵀ) / (C·H·W) of features (1, C, H, W): their mean square (Gupta et al. 2017, Theorem 1 and Figure 3)."""
    return float(features.square().mean())


class WarpingError(NamedTuple):
    """Mean squared error over trusted pixels and channels (NaN where none is trusted), and the share of them."""

    error: float
    trusted: float


def warping_error(previous: Tensor, current: Tensor, backward: Tensor, mask: Tensor) -> WarpingError:
    """How far a frame is from the previous one warped onto it (the temporal loss of Ruder et al. 2016, as a measure).

    previous, current: stylized frames (1, 3, H, W). backward: flow (1, 2, H, W) from current to previous, in pixels.
    mask: trust (1, 1, H, W) in [0, 1] of the current frame's pixels, a weight.
    """
    error = (current - warp(previous, backward)).square().mean(1, keepdim=True)
    return WarpingError(float((mask * error).sum() / mask.sum()), float(mask.mean()))


def unexplained_change(previous: Tensor, current: Tensor, backward: Tensor, mask: Tensor) -> Tensor:
    """How far each pixel is from the previous frame warped onto it: (1, 1, H, W) in [0, 1].

    The root of the mean over RGB of (current - warp(previous, backward))², times the mask: what `warping_error`
    averages, pixel by pixel. previous, current: frames (1, 3, H, W) of any clip. backward: the original's flow
    (1, 2, H, W) from current to previous, in pixels. mask: trust (1, 1, H, W) of the current frame's pixels.
    """
    change = (current - warp(previous, backward)).square().mean(1, keepdim=True).sqrt()
    return change * mask


class DriftSlopes(NamedTuple):
    """Slopes of the mean brightness (luma of BT.709) and of the mean R, G and B of frames, levels of 255 per frame."""

    brightness: float
    red: float
    green: float
    blue: float

    @property
    def largest(self) -> float:
        """The drift of a clip in one number: the largest absolute slope; NaN where there is none."""
        return max(map(abs, self))


def with_brightness(means: Tensor) -> Tensor:
    """Brightness, the luma of BT.709, before the R, G and B (T, 3) that it is of: (T, 4), as the slopes stand."""
    return torch.cat([means @ means.new_tensor(REC709)[:, None], means], 1)


def drift_slopes(means: Tensor) -> DriftSlopes:
    """Least-squares slopes of the means (T, 3) of frames, R, G and B in [0, 1]; NaN for fewer than two frames.

    A clip's first frames, before a recurrent stylizer has settled, are for the caller to leave out.
    """
    if means.ndim != 2 or means.shape[1] != 3:
        raise NststabError(f"expected the mean R, G and B of frames (T, 3), got {tuple(means.shape)}")
    if len(means) < 2:
        return DriftSlopes(*[math.nan] * 4)
    levels = 255 * with_brightness(means.detach().cpu().double())  # (T, 4)
    time = torch.arange(len(levels), dtype=torch.float64) - (len(levels) - 1) / 2  # its mean is 0
    return DriftSlopes(*(time @ (levels - levels.mean(0)) / time.square().sum()).tolist())
