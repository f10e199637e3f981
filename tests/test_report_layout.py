import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.signal import correlate
from torch import Tensor

from nststab.report.colors import heat_colors
from nststab.report.layout import ComparisonLayout
from nststab.report.sheet import FAINT, INK, ON_DARK, PAPER, SMALLEST_TEXT, rgb, text_cover
from tests.conftest import corner, noise

NAMES = ["input", "independent", "recurrent", "ruder", "gatys", "mixed with previous"]
SERIES = [0, 2, 1, 3, 4, 5]
SIZES = [(17, 31), (1, 1), (32, 32), (144, 176), (61, 33), (90, 160)]


def layout(count: int, frames: int | None = 5, differences: bool = False) -> ComparisonLayout:
    return ComparisonLayout(NAMES[:count], SERIES[:count], frames, differences)


def has_text(canvas: Tensor, text: str, color: Tensor | float = FAINT) -> bool:
    """Whether a line of the smallest text stands somewhere, pixel by pixel."""
    red = color if isinstance(color, float) else float(color[0])
    expected = (PAPER + (red - PAPER) * text_cover(text, SMALLEST_TEXT)).double().numpy()
    place = canvas[0, 0].double().numpy()
    if place.shape[1] < expected.shape[1]:
        return False
    energy = correlate(place**2, np.ones_like(expected), mode="valid")
    error = energy - 2 * correlate(place, expected, mode="valid") + (expected**2).sum()
    return bool(error.min() < 1e-6)


@pytest.mark.parametrize("differences", [False, True])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_frames_stand_whole_in_reading_order_with_their_maps_below(
    count: int, height: int, width: int, differences: bool
) -> None:
    frames = noise(count, 3, height, width)
    changes = [0.3 * change for change in noise(count, 1, height, width)] if differences else None
    canvas = layout(count, differences=differences).render(frames, [0.5] * count, changes)
    assert canvas.shape[0] == 1
    assert canvas.shape[-2] % 2 == canvas.shape[-1] % 2 == 0
    assert canvas.dtype == torch.float32
    assert canvas.min() >= 0
    assert canvas.max() <= 1
    corners = [corner(canvas, frame) for frame in frames]
    assert corners == sorted(corners)
    assert all(y % 2 == x % 2 == 0 for y, x in corners)  # where a pixel of chroma begins
    if changes is not None:
        for (y, x), change in zip(corners, changes, strict=True):
            below = canvas[..., y + height :, x : x + width]
            top, left = corner(below, heat_colors(change))
            assert left == 0
            assert top % 2 == height % 2
            assert top >= 8


@pytest.mark.parametrize("count", [2, 6])
def test_each_clip_has_a_square_of_its_colour_and_its_name_above_it(count: int) -> None:
    frames = noise(count, 3, 144, 176)
    canvas = layout(count).render(frames, [math.nan] * count)
    for frame, name, number in zip(frames, NAMES, SERIES, strict=False):
        y, x = corner(canvas, frame)
        bar = canvas[..., y - 14 : y, x : x + 176]
        square = ((bar[0] - rgb(ON_DARK[number])).abs() < 1e-6).all(0).nonzero()
        assert square.amin(0)[1] == 0
        assert len(square) == len(set(square[:, 0].tolist())) ** 2
        assert has_text(canvas[..., y - 22 : y, x + 8 : x + 176], name, INK)


def test_the_values_are_printed() -> None:
    canvas = layout(3).render(noise(3, 3, 48, 176), [0.874, -0.02, math.nan])
    assert has_text(canvas, "0.87", rgb(ON_DARK[SERIES[0]]))
    assert has_text(canvas, "-0.02", rgb(ON_DARK[SERIES[1]]))
    assert has_text(canvas, "-")
    assert not has_text(canvas, "0.88", rgb(ON_DARK[SERIES[0]]))


def test_the_size_is_the_same_for_every_frame_of_a_clip() -> None:
    whole, frames = layout(3, frames=None, differences=True), noise(3, 3, 17, 31)
    shapes = set()
    for index in range(120):
        if index == 50:
            whole.start_shot()
        changes = None if index in (0, 50) else noise(3, 1, 17, 31)
        shapes.add(whole.render(frames, [math.nan if changes is None else 0.1 * (index % 10)] * 3, changes).shape)
    assert len(shapes) == 1


def test_a_frame_that_was_rendered_stays_as_it_was() -> None:
    whole, frames = layout(2), noise(2, 3, 17, 31)
    first = whole.render(frames, [math.nan] * 2)
    copy = first.clone()
    whole.render([1 - frame for frame in frames], [0.3, 0.8])
    assert torch.equal(first, copy)


@pytest.mark.parametrize("count", [2, 3, 5, 6])
def test_wide_clips_make_exactly_16_by_9(count: int) -> None:
    height, width = layout(count).render(noise(count, 3, 480, 854), [0.5] * count).shape[-2:]
    assert width * 9 == height * 16


def test_a_single_frame_has_no_curve() -> None:
    single, several = (layout(3, frames).render(noise(3, 3, 90, 160), [math.nan] * 3) for frames in (1, 2))
    assert has_text(several, "SSIM of corresponding patches: higher is steadier")
    assert not has_text(single, "SSIM of corresponding patches: higher is steadier")


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_more_frames_than_were_told_are_shown_too(height: int, width: int, frames: int) -> None:
    whole, single = layout(2, frames, differences=True), layout(2, frames)
    for index in range(5):
        whole.start_shot()
        changes = noise(2, 1, height, width) if index else None
        picture = whole.render(noise(2, 3, height, width), [math.nan if index == 0 else 0.5] * 2, changes)
    if frames == 1:
        assert picture.shape == single.render(noise(2, 3, height, width), [math.nan] * 2).shape


def test_the_network_s_graph_is_not_held() -> None:
    frames = [frame.requires_grad_() for frame in noise(2, 3, 8, 8)]
    changes = [change.requires_grad_() for change in noise(2, 1, 8, 8)]
    assert not layout(2, differences=True).render(frames, [0.5] * 2, changes).requires_grad


@pytest.mark.parametrize(
    ("frames", "ssims", "changes", "message"),
    [
        (noise(3, 3, 8, 8), [0.5] * 2, None, "one of each for 2 clips, got 3, 2"),
        (noise(2, 3, 8, 8), [0.5] * 3, None, "one of each for 2 clips, got 2, 3"),
        (noise(2, 3, 8, 8), [0.5] * 2, noise(1, 1, 8, 8), "one of each for 2 clips, got 2, 2, 1"),
        ([*noise(1, 3, 8, 8), *noise(1, 3, 8, 7)], [0.5] * 2, None, r"one size, \(1, 3, 8, 8\), got \(1, 3, 8, 7\)"),
        (noise(2, 1, 8, 8), [0.5] * 2, None, r"\(1, 3, 8, 8\), got \(1, 1, 8, 8\)"),
        (noise(2, 3, 8, 8), [0.5] * 2, noise(2, 3, 8, 8), r"\(1, 1, 8, 8\), got \(1, 3, 8, 8\)"),
    ],
)
def test_wrong_pictures_are_refused(
    frames: Sequence[Tensor], ssims: list[float], changes: list[Tensor] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        layout(2, differences=True).render(frames, ssims, changes)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 names and 1 colours"):
        ComparisonLayout(["a", "b"], [0], 5, False)
    with pytest.raises(ValueError, match="got 0 names"):
        ComparisonLayout([], [], 5, False)
    with pytest.raises(ValueError, match="colours from 0 to 6, got 0, 7"):
        ComparisonLayout(["a", "b"], [0, 7], 5, False)
    with pytest.raises(ValueError, match="no changes in a layout without differences"):
        layout(2).render(noise(2, 3, 8, 8), [0.5] * 2, noise(2, 1, 8, 8))
