"""Other authors' measures against plain loops that follow their formulas and programs pixel by pixel."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.flow.pairs import FlowPair
from nststab.measure import published
from nststab.measure.intervals import RESAMPLES, block_interval, paired_difference
from nststab.measure.published import FramePair, PairMeasure, lpips_distance
from nststab.measure.score import ScoreMeter
from nststab.measure.settings import ScoreSettings

HEIGHT, WIDTH = 14, 18


@pytest.fixture
def pair(generator: torch.Generator) -> FramePair:
    """Frames that move by a flow of up to three pixels, with a jump in it, that its opposite mostly undoes."""

    def smooth(channels: int, scale: float) -> Tensor:
        coarse = torch.randn(1, channels, 4, 4, generator=generator)
        return scale * F.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear")

    forward = smooth(2, 0.3)
    forward[:, 0, 4:9, 5:11] += 2.5
    backward = -forward + smooth(2, 0.4)
    first, second = (torch.rand(1, 3, HEIGHT, WIDTH, generator=generator) for _ in range(2))
    return FramePair(first, second, first, second, forward, backward, torch.ones(1, 1, HEIGHT, WIDTH))


def bilinear(image: np.ndarray, x: float, y: float, clamp: bool) -> np.ndarray:
    """`image` (C, H, W) between its pixels; beyond them the border's, as FlowNet2's Resample2d, or zero, as RAFT's."""
    left, top = math.floor(x), math.floor(y)
    value = np.zeros(image.shape[0])
    for row, column, weight in (
        (top, left, (1 - (x - left)) * (1 - (y - top))),
        (top, left + 1, (x - left) * (1 - (y - top))),
        (top + 1, left, (1 - (x - left)) * (y - top)),
        (top + 1, left + 1, (x - left) * (y - top)),
    ):
        inside = 0 <= row < image.shape[1] and 0 <= column < image.shape[2]
        if clamp or inside:
            value += weight * image[:, min(max(row, 0), image.shape[1] - 1), min(max(column, 0), image.shape[2] - 1)]
    return value


def plain_lai(pair: FramePair) -> float:
    first, second, forward, backward = (part[0].double().numpy() for part in (*pair[:2], *pair[4:6]))
    total, count = 0.0, 0
    for y in range(HEIGHT):
        for x in range(WIDTH):
            u, v = forward[:, y, x]
            back = bilinear(backward, x + u, y + v, clamp=True)
            across = forward[:, y, x] - forward[:, y, x + 1] if x + 1 < WIDTH else np.zeros(2)
            down = forward[:, y, x] - forward[:, y + 1, x] if y + 1 < HEIGHT else np.zeros(2)
            length = u * u + v * v
            gap = (u + back[0]) ** 2 + (v + back[1]) ** 2
            if gap > 0.01 * (length + back @ back) + 0.5 or across @ across + down @ down > 0.01 * length + 0.002:
                continue
            count += 3
            total += float(((bilinear(second, x + u, y + v, clamp=True) - first[:, y, x]) ** 2).sum())
    assert 0 < count < 3 * HEIGHT * WIDTH
    return total / count


def plain_chen(pair: FramePair) -> tuple[float, np.ndarray, np.ndarray]:
    """The error, and the two masked pictures that LPIPS compares."""
    first, second, forward, backward = (part[0].double().numpy() for part in (*pair[:2], *pair[4:6]))
    warped, kept = np.zeros_like(first), np.zeros_like(first)
    total, count = 0.0, 0
    for y in range(HEIGHT):
        for x in range(WIDTH):
            u, v = forward[:, y, x]
            back = bilinear(backward, x + u, y + v, clamp=False)
            if math.hypot(u + back[0], v + back[1]) > 1:
                continue
            count += 1
            warped[:, y, x], kept[:, y, x] = bilinear(second, x + u, y + v, clamp=False), first[:, y, x]
            total += float(((warped[:, y, x] - kept[:, y, x]) ** 2).sum())
    assert 0 < count < HEIGHT * WIDTH
    return total / count, warped, kept


def test_the_warping_error_of_lai_2018(pair: FramePair) -> None:
    assert published.lai2018_warping_error(pair) == pytest.approx(plain_lai(pair), rel=1e-4)
    lost = pair._replace(backward=pair.backward + 50)
    assert published.lai2018_warping_error(lost) == 0  # as their program has it where nothing is visible


def test_the_warping_error_of_chen_2023_and_its_root(pair: FramePair) -> None:
    expected, _, _ = plain_chen(pair)
    assert published.chen2023_warped_mse(pair) == pytest.approx(expected, rel=1e-4)
    assert published.liu2024_warped_rmse(pair) == pytest.approx(math.sqrt(expected / 3), rel=1e-4)
    assert published.chen2023_warped_mse(pair._replace(backward=pair.backward + 50)) == 0


def test_lpips_sees_the_masked_pictures(pair: FramePair) -> None:
    lpips = pytest.importorskip("lpips")
    torch.manual_seed(0)
    model = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    large = FramePair(*(F.interpolate(part, scale_factor=4) for part in pair))
    _, warped, kept = plain_chen(pair)

    def seen(first: Tensor, second: Tensor) -> Tensor:
        for picture, expected in zip((first, second), (warped, kept), strict=True):
            assert picture[0].numpy() == pytest.approx(expected, abs=1e-5)
        return torch.tensor(0.25)

    assert published.chen2023_warped_lpips(pair, seen) == 0.25
    visible = published.chen2023_visible(large.forward, large.backward)
    still = large._replace(forward=torch.zeros_like(large.forward), backward=torch.zeros_like(large.forward))
    assert published.chen2023_warped_lpips(still, model) == pytest.approx(model(still.second, still.first).item())
    assert visible.shape == (1, 1, 4 * HEIGHT, 4 * WIDTH)


def test_differences_of_frames(pair: FramePair) -> None:
    first, second = (part[0].double().numpy() for part in pair[:2])
    assert published.frame_difference(pair) == pytest.approx(255 * np.abs(first - second).mean())
    assert published.gupta2017_instability(pair) == pytest.approx(((first - second) ** 2).mean())


def test_what_cannot_be_computed_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    lpips_distance.cache_clear()
    computed, absent = published.published()
    assert {one.name for one in computed}.isdisjoint(absent)
    assert "AlexNet's weights" in absent["chen2023.warped_lpips_1"]
    assert {"clip.temporal_consistency", "vbench.motion_smoothness"} <= absent.keys()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "pip install lpips" in published.published()[1]["chen2023.warped_lpips_10"]


def test_a_clip_s_figure_is_the_mean_over_the_pairs_that_its_authors_take() -> None:
    """At a distance of ten frames each tenth pair of a shot, at one all."""
    levels = [0.01 * t * t for t in range(25)]
    frames = [torch.full((1, 3, 8, 8), level) for level in levels]
    still = torch.zeros(1, 2, 8, 8)
    none = torch.zeros(1, 1, 8, 8)

    def spread(pair: FramePair) -> float:
        return float(pair.second.mean() - pair.first.mean())

    measures = (PairMeasure("near", spread), PairMeasure("far", spread, 10, 10))
    meter = ScoreMeter(1, ScoreSettings(patches=1, gaps=(1,)), measures=measures)
    assert meter.strides == {1: 1, 10: 10}
    meter.start_shot()
    for t, frame in enumerate(frames):
        reached = [gap for gap in (1, 10) if gap <= t and t % meter.strides[gap] == 0]
        meter.update(torch.zeros(1, 3, 8, 8), [frame], {gap: FlowPair(still, still, none, none) for gap in reached})
    found = meter.result()[1].measures
    assert found["near"] == pytest.approx(np.mean([b - a for a, b in pairwise(levels)]))
    assert found["far"] == pytest.approx(np.mean([levels[10] - levels[0], levels[20] - levels[10]]))


def test_intervals_of_a_series_whose_neighbours_agree_are_wider() -> None:
    steps = [float(t // 8) for t in range(64)]
    independent, blocks = (block_interval(steps, block=length) for length in (1, 8))
    assert blocks.high - blocks.low > 2 * (independent.high - independent.low)
    assert all(map(math.isnan, block_interval([1.0, 2.0])))  # of two it would be their minimum and maximum


@pytest.mark.parametrize("block", [1, 3, 5])
def test_an_interval_is_that_of_resamples_written_out(block: int) -> None:
    """64 is no multiple of 3 and of 5: the last block of a resample is cut."""
    values = np.random.default_rng(1).normal(size=64)
    starts = np.random.default_rng(7).integers(64, size=(RESAMPLES, -(-64 // block)))
    places = (starts[..., None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :64] % 64
    expected = np.quantile(values[places].mean(1), [0.025, 0.975])
    assert block_interval(values.tolist(), seed=7, block=block) == pytest.approx(expected.tolist(), abs=1e-12)


def test_the_sign_flip_test_is_exact() -> None:
    found = paired_difference([1.0, 2.0, 3.0, 4.0], [0.0] * 4, block=1)
    assert (found.mean, found.p) == (2.5, 2 / 16)
    assert found.is_sure
    noise = np.random.default_rng(0).normal(size=200).tolist()
    assert 0.05 < paired_difference(noise, [0.0] * 200, block=1).p <= 1
    assert math.isnan(paired_difference([math.nan], [1.0]).p)
