import math
import weakref
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from nststab.flow.colors import flow_colors
from nststab.flow.pairs import FlowPair
from nststab.metrics import Patches
from nststab.report.moments import (
    Crop,
    CropFinder,
    Failure,
    FailureFinder,
    Moment,
    ShortList,
    cut,
)

HEIGHT, WIDTH, SIZE = 48, 96, 8
BOX = (0, 0, 1, 1)


def same_ten(first: Moment, second: Moment) -> bool:
    return first.frame // 10 == second.frame // 10


def offered(scores: Sequence[float], limit: int = 3) -> list[tuple[int, float]]:
    held = ShortList[float](limit, same_ten)
    for frame, score in enumerate(scores):
        held.offer((score,), Moment(frame, BOX), lambda score=score: score)  # type: ignore[misc]
    return [(entry.moment.frame, entry.item) for entry in held.best()]


def test_a_short_list_holds_the_best_of_each_neighbourhood_the_very_best_first() -> None:
    scores = [0.0] * 50
    scores[4], scores[7], scores[12], scores[25], scores[31], scores[48] = 5, 6, 4, 9, 1, 8
    assert offered(scores) == [(25, 9), (48, 8), (7, 6)]
    assert offered(scores, limit=1) == [(25, 9)]
    assert offered([]) == []


def noise(seed: int = 0) -> Tensor:
    return 0.8 * torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


def fed(finder: CropFinder, frame: int, ssims: Sequence[Sequence[float]], corners: Sequence[tuple[int, int]]) -> None:
    """One pair of frames, whose clips are told apart by their level, with the SSIMs of each clip's patches."""
    frames = [noise(clip) / (1 + clip) for clip in range(len(ssims))]
    later = [picture + 0.125 for picture in frames]
    where = torch.tensor(corners)
    scores = [([10 + 10 * value for value in values], list(values)) for values in ssims]
    finder.update(frame, frames, later, Patches(where, where + 1, SIZE), scores)


def told(crops: Sequence[Crop]) -> list[tuple[str, int, float]]:
    return [(crop.kind, crop.frame, round(crop.cells[1].ssim, 6)) for crop in crops]


def test_crops_are_the_least_and_the_most_stable_patches_of_all_clips() -> None:
    finder = CropFinder(least=2, most=1)
    fed(finder, 1, [[0.9, 0.9, 0.9], [0.5, 0.2, 0.6], [0.5, 0.4, 0.8]], [(0, 0), (20, 50), (30, 10)])
    fed(finder, 30, [[0.8, 0.8], [0.1, 0.8], [0.9, 0.8]], [(0, 0), (20, 50)])
    crops = finder.result()
    assert told(crops) == [("least", 1, 0.2), ("least", 30, 0.1)]  # the last pair's most stable is of the same frame
    fed(finder, 60, [[0.8], [0.75], [0.65]], [(4, 6)])
    least, second, most = finder.result()
    assert (most.kind, most.frame, most.size, most.boxes) == (
        "most",
        60,
        SIZE,
        ((6, 4, SIZE, SIZE), (7, 5, SIZE, SIZE)),
    )
    assert [(cell.psnr, cell.ssim) for cell in most.cells] == [(18, 0.8), (17.5, 0.75), (16.5, 0.65)]
    for clip, cell in enumerate(most.cells):
        frame = noise(clip) / (1 + clip)
        assert torch.equal(cell.previous, frame[..., 4 : 4 + SIZE, 6 : 6 + SIZE])
        assert torch.equal(cell.current, frame[..., 5 : 5 + SIZE, 7 : 7 + SIZE] + 0.125)
    assert told([least, second]) == told(crops)


def test_no_two_crops_are_from_the_same_place_and_time() -> None:
    finder = CropFinder(least=3, most=0)
    for frame, corner, ssim in [
        (1, (0, 0), 0.3),
        (5, (4, 4), 0.2),
        (9, (20, 20), 0.4),
        (9, (0, 50), 0.5),
        (40, (4, 4), 0.6),
    ]:
        fed(finder, frame, [[0.9], [ssim]], [corner])
    assert told(finder.result()) == [("least", 5, 0.2), ("least", 9, 0.4), ("least", 40, 0.6)]


def test_patches_that_do_not_correspond_come_last() -> None:
    finder = CropFinder(least=1, most=1)
    fed(finder, 1, [[0.3], [0.1]], [(0, 0)])
    assert told(finder.result()) == [("least", 1, 0.1)]
    fed(finder, 20, [[0.3, 0.9], [0.95, 0.5]], [(0, 0), (20, 20)])
    fed(finder, 40, [[0.9], [0.6]], [(0, 0)])
    assert told(finder.result()) == [("least", 20, 0.5), ("most", 40, 0.6)]


def test_what_could_not_be_measured_never_wins() -> None:
    finder = CropFinder()
    fed(finder, 1, [[0.9, math.nan], [math.nan, 0.4], [0.4, 0.4]], [(0, 0), (20, 20)])
    finder.update(9, [noise()] * 2, [noise()] * 2, Patches(torch.zeros(0, 2), torch.zeros(0, 2), SIZE), [([], [])] * 2)
    assert finder.result() == []


def test_of_a_long_clip_a_few_crops_are_held() -> None:
    finder = CropFinder(least=2, most=1)
    frames: weakref.WeakSet[Tensor] = weakref.WeakSet()
    for frame in range(1, 200):
        previous, current = ([noise(frame + later), noise(frame + later)] for later in range(2))
        frames.update([*previous, *current])
        where = torch.tensor([[frame % 40, frame % 80]])
        ssim = (frame * 37 % 199) / 199
        finder.update(frame, previous, current, Patches(where, where, SIZE), [([20.0], [0.9]), ([20.0], [ssim])])
        del previous, current
    assert len(frames) == 0
    assert len(finder._least.best()) <= 8
    assert len(finder._most.best()) <= 12
    ssims = [crop.cells[1].ssim for crop in finder.result()]
    assert ssims == pytest.approx([0, 1 / 199, 198 / 199])


def test_crops_refuse_what_does_not_fit() -> None:
    where = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="a clip or more, with scores of each, got 1 and 1 frames and 1 scores"):
        CropFinder().update(1, [noise()], [noise()], Patches(where, where, SIZE), [([1.0], [1.0])])


WRONG = (40, 20, 6, 6)  # as large as the window: a sixteenth of the width


def flows(wrong: bool = False, mask: Tensor | None = None) -> FlowPair:
    """No motion; with `wrong`, in a box it leads twenty pixels to the right."""
    backward = torch.zeros(1, 2, HEIGHT, WIDTH)
    if wrong:
        left, top, width, height = WRONG
        backward[:, 0, top : top + height, left : left + width] = 20
    mask = torch.ones(1, 1, HEIGHT, WIDTH) if mask is None else mask
    return FlowPair(-backward, backward, mask, mask)


def scene(bright: float = 0.6) -> Tensor:
    """Dark, but where the wrong flow comes from."""
    frame = torch.full((1, 3, HEIGHT, WIDTH), 0.2)
    left, top, width, height = WRONG
    frame[..., top : top + height, left + 20 : left + 20 + width] = bright
    return frame


def found(pair: FlowPair, previous: Tensor, current: Tensor) -> list[Failure]:
    finder = FailureFinder()
    finder.update(7, [previous, 1 - previous], [current, 1 - current], pair)
    return finder.result()


def test_a_wrong_flow_is_found_with_its_place_and_error() -> None:
    pair = flows(wrong=True)
    (failure,) = found(pair, scene(), scene())
    assert (failure.frame, failure.box) == (7, WRONG)
    assert failure.error == pytest.approx(255 * 0.4, abs=1e-3)
    assert failure.region == (13, 8, 60, 30)  # five times the box, of the frame's shape
    torch.testing.assert_close(failure.flow, cut(flow_colors(pair.backward), failure.region))
    assert torch.equal(failure.mask, torch.ones(1, 1, 30, 60))
    near = [cut(picture, failure.region) for picture in (scene(), 1 - scene())]
    for pictures in (failure.previous, failure.current):
        torch.testing.assert_close(pictures, near, rtol=0, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("corner", [(0, 0), (WIDTH - 6, 0), (0, HEIGHT - 6), (WIDTH - 6, HEIGHT - 6)])
def test_a_failure_at_the_edge_is_shown_with_what_is_beside_it(corner: tuple[int, int]) -> None:
    left, top = corner
    backward = torch.zeros(1, 2, HEIGHT, WIDTH)
    backward[:, 0, top : top + 6, left : left + 6] = 30 if left == 0 else -30
    frame = noise()
    (failure, *_) = found(FlowPair(-backward, backward, *[torch.ones(1, 1, HEIGHT, WIDTH)] * 2), frame, frame)
    x, y, width, height = failure.region
    assert all(begin >= 0 for begin in (left - x, x, top - y, y))
    assert all(
        rest >= 0 for rest in (x + width - left - 6, WIDTH - x - width, y + height - top - 6, HEIGHT - y - height)
    )
    assert failure.mask.shape[-2:] == failure.flow.shape[-2:] == failure.current[1].shape[-2:] == (height, width)


def test_a_wrong_flow_that_the_mask_gives_up_is_no_failure() -> None:
    mask = torch.ones(1, 1, HEIGHT, WIDTH)
    left, top, width, height = WRONG
    mask[..., top : top + height, left : left + width] = 0.9  # soft trust is none
    assert found(flows(wrong=True, mask=mask), scene(), scene()) == []
    assert found(flows(wrong=True, mask=torch.zeros_like(mask)), scene(), scene()) == []


def test_error_is_of_the_trusted_pixels() -> None:
    mask = torch.ones(1, 1, HEIGHT, WIDTH)
    mask[..., WRONG[1], :] = 0  # a row of the six
    (failure,) = found(flows(wrong=True, mask=mask), scene(), scene())
    assert failure.error == pytest.approx(255 * 0.4, abs=1e-3)
    assert torch.equal(failure.mask, cut(mask, failure.region))


@pytest.mark.parametrize(
    ("previous", "current"),
    [
        pytest.param(noise(), noise(), id="nothing changes"),
        pytest.param(noise(), noise() + torch.tensor([0.3, 0.2, -0.1]).view(1, 3, 1, 1), id="light changes"),
        pytest.param(noise(), noise() + 0.04 * (noise(1) - 0.4), id="sensor noise"),
        pytest.param(torch.rand(1, 3, 2, 96), torch.rand(1, 3, 2, 96), id="smaller than a window"),
    ],
)
def test_no_failure_where_the_flow_is_right(previous: Tensor, current: Tensor) -> None:
    height = previous.shape[-2]
    still = torch.zeros(1, 2, height, WIDTH)
    mask = torch.ones(1, 1, height, WIDTH)
    assert found(FlowPair(still, still, mask, mask), previous, current) == []


def test_two_failures_at_most_from_different_times_the_worst_first() -> None:
    finder = FailureFinder()
    frames: weakref.WeakSet[Tensor] = weakref.WeakSet()
    brightness = {3: 0.5, 8: 0.6, 30: 0.55, 33: 0.53, 60: 0.4, 90: 0.45, 91: 0.25}
    for frame in range(1, 100):
        previous, current = ([scene(brightness.get(frame, 0.2))] for _ in range(2))
        frames.update([*previous, *current])
        finder.update(frame, previous, current, flows(wrong=True))
        del previous, current
    assert len(frames) == 0, "frames are held as bytes"
    assert len(finder._worst.best()) == 4
    assert [(one.frame, round(one.error / 255, 3)) for one in finder.result()] == [(8, 0.4), (30, 0.35)]
