import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from nststab import metrics
from nststab.metrics import PatchSettings
from nststab.warp import warp
from tests.conftest import rand, texture


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def textured(height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth random content: neighbouring shifts look alike, as on film."""
    return texture(height, width, seed, (height // 4 + 2, width // 4 + 2))


def as_bytes(image: Tensor) -> np.ndarray:
    return (image[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def test_psnr_and_ssim_are_scikit_images_on_8_bit_pictures() -> None:
    first = textured(21, 34)
    second = (first + 0.1 * rand(1, 3, 21, 34, seed=1)).clamp(0, 1)
    a, b = as_bytes(first), as_bytes(second)
    assert metrics.psnr(first, second) == pytest.approx(peak_signal_noise_ratio(a, b))  # type: ignore[no-untyped-call]
    assert metrics.ssim(first, second) == pytest.approx(structural_similarity(a, b, channel_axis=2))  # type: ignore[no-untyped-call]


def test_equal_pictures_score_the_cap_and_one() -> None:
    picture = textured(16, 16)
    invisible = (picture + 1e-4 * (rand(1, 3, 16, 16) - 0.5)).clamp(0, 1)
    assert metrics.psnr(picture, picture) == metrics.PSNR_CAP
    assert metrics.ssim(picture, picture) == 1
    assert metrics.psnr(picture, invisible) > 50  # less than a level: only a few pixels round otherwise


def test_patches_scale_with_the_frame_as_in_the_paper() -> None:
    assert PatchSettings() == PatchSettings.scaled(480, 854) == PatchSettings(1, 100, 20)
    assert PatchSettings.scaled(243, 432, count=20) == PatchSettings(20, 50, 10)
    assert PatchSettings.scaled(17, 31).size == metrics.SSIM_WINDOW


@pytest.mark.parametrize("wrong", [(0, 50, 10), (1, 6, 10), (1, 50, -1)])
def test_impossible_patches_are_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected count"):
        PatchSettings(*wrong)


@pytest.mark.parametrize("shift", [(0, 0), (3, -5), (-6, 6), (-1, 0)])
def test_a_planted_shift_is_found_exactly(shift: tuple[int, int]) -> None:
    scene = textured(80, 100)
    previous, current = (
        scene[..., 20:60, 20:70],
        scene[..., 20 - shift[0] : 60 - shift[0], 20 - shift[1] : 70 - shift[1]],
    )
    patches = metrics.corresponding_patches(previous, current, PatchSettings(50, 12, 6), generator())
    inside = (
        (patches.previous + torch.tensor(shift) >= 0)
        & (patches.previous + torch.tensor(shift) <= torch.tensor([28, 38]))
    ).all(1)
    moved = patches.current - patches.previous
    assert int(inside.sum()) > 20
    assert (moved[inside] == torch.tensor(shift)).all()
    psnrs, ssims = metrics.patch_scores(previous, current, patches)
    assert {score for score, whole in zip(psnrs, inside.tolist(), strict=True) if whole} == {metrics.PSNR_CAP}
    assert {score for score, whole in zip(ssims, inside.tolist(), strict=True) if whole} == {1.0}


def test_the_match_is_the_best_of_all_admitted_shifts() -> None:
    previous, current = textured(30, 36, seed=1), textured(30, 36, seed=2)
    masks = torch.zeros(1, 1, 30, 36), torch.zeros(1, 1, 30, 36)
    masks[0][..., :6, :6] = 1
    masks[1][..., 20:, 10:20] = 1
    settings = PatchSettings(40, 9, 4)
    patches = metrics.corresponding_patches(previous, current, settings, generator(), masks)
    assert 30 < len(patches.previous) < 40  # a few have no match that is free of foreground

    def cut(frame: Tensor, y: int, x: int) -> Tensor:
        return frame[..., y : y + 9, x : x + 9]

    for (y, x), (v, u) in zip(patches.previous.tolist(), patches.current.tolist(), strict=True):
        assert not cut(masks[0], y, x).any()
        assert not cut(masks[1], v, u).any()
        scores = {
            (i, j): metrics.psnr(cut(previous, y, x), cut(current, i, j))
            for i in range(max(0, y - 4), min(21, y + 4) + 1)
            for j in range(max(0, x - 4), min(27, x + 4) + 1)
            if not cut(masks[1], i, j).any()
        }
        assert scores[v, u] == max(scores.values())


def test_of_equal_matches_the_shortest_shift_wins() -> None:
    flat = torch.full((1, 3, 32, 32), 0.3)
    patches = metrics.corresponding_patches(flat, flat, PatchSettings(10, 8, 5), generator())
    assert torch.equal(patches.previous, patches.current)


def test_patches_are_drawn_by_the_seed_and_are_all_different() -> None:
    frame = textured(32, 32)
    settings = PatchSettings(30, 10, 2)
    first, second, other = (
        metrics.corresponding_patches(frame, frame, settings, generator(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first.previous, second.previous)
    assert not torch.equal(first.previous, other.previous)
    assert len(set(map(tuple, first.previous.tolist()))) == 30


def test_no_room_gives_fewer_patches_and_none() -> None:
    frame = textured(12, 32)
    foreground = torch.zeros(1, 1, 12, 32)
    foreground[..., 14:] = 1
    clear = torch.zeros_like(foreground)
    settings = PatchSettings(20, 12, 3)
    patches = metrics.corresponding_patches(frame, frame, settings, generator(), (foreground, foreground))
    assert sorted(patches.previous.tolist()) == [[0, 0], [0, 1], [0, 2]]
    everything = torch.ones_like(foreground)
    for masks in ((everything, clear), (clear, everything)):
        assert len(metrics.corresponding_patches(frame, frame, settings, generator(), masks).previous) == 0
    tiny = metrics.corresponding_patches(frame[..., :8], frame[..., :8], settings, generator())
    assert metrics.patch_scores(frame, frame, tiny) == ([], [])


def test_frames_and_masks_of_another_shape_are_refused() -> None:
    frame = textured(16, 16)
    with pytest.raises(ValueError, match="one size"):
        metrics.corresponding_patches(frame, frame[..., :15], PatchSettings(1, 8, 2), generator())
    masks = (torch.zeros(1, 1, 16, 15), torch.zeros(1, 1, 16, 16))
    with pytest.raises(ValueError, match="mask"):
        metrics.corresponding_patches(frame, frame, PatchSettings(1, 8, 2), generator(), masks)
    with pytest.raises(ValueError, match="one RGB image"):
        metrics.psnr(frame[0], frame[0])


def test_still_pixels_ignore_sensor_noise_and_see_motion() -> None:
    still = textured(32, 64)
    moving = textured(32, 64, seed=5)
    previous = still
    current = torch.cat([still[..., :32], moving[..., 32:]], -1) + 0.004 * torch.randn(
        1, 3, 32, 64, generator=generator()
    )
    mask = metrics.still_pixels(previous, current)
    assert mask.shape == (1, 1, 32, 64)
    assert mask[..., :28].all()
    assert not mask[..., 36:].any()


def test_flicker_counts_still_pixels_only() -> None:
    previous = torch.zeros(1, 3, 8, 8)
    current = torch.zeros(1, 3, 8, 8)
    current[..., :4] = 0.25
    current[..., 4:] = 0.75
    still = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    still[..., :4] = True
    assert metrics.flicker(previous, current, still) == pytest.approx(255 * 0.25)
    assert math.isnan(metrics.flicker(previous, current, torch.zeros_like(still)))


def test_instability_is_the_mean_squared_difference_of_adjacent_frames() -> None:
    frames = [torch.full((1, 3, 4, 4), level) for level in (0.0, 0.5, 0.4)]
    assert metrics.instability(iter(frames)) == pytest.approx((0.25 + 0.01) / 2)
    reference = np.mean([float(((b - a) ** 2).mean()) for a, b in pairwise(frames)])
    assert metrics.instability(frames) == pytest.approx(reference)
    assert math.isnan(metrics.instability(frames[:1]))


def test_gram_trace_is_the_trace_of_the_gram_matrix() -> None:
    features = torch.randn(1, 5, 6, 7, generator=generator())
    flat = features.flatten(2)[0]
    assert metrics.gram_trace(features) == pytest.approx(float((flat @ flat.T).trace() / (5 * 6 * 7)), rel=1e-5)


def test_a_frame_moved_by_the_flow_has_no_warping_error_where_it_is_trusted() -> None:
    scene = textured(32, 40)
    previous, current = scene[..., 4:36], scene[..., 1:33]  # the picture moves 3 pixels to the right
    backward = torch.zeros(1, 2, 32, 32)
    backward[:, 0] = -3
    mask = torch.ones(1, 1, 32, 32)
    mask[..., :3] = 0
    assert torch.equal(warp(previous, backward)[..., 3:], current[..., 3:])
    assert metrics.warping_error(previous, current, backward, mask) == (0, 29 / 32)
    assert metrics.warping_error(previous, current + 0.1, backward, mask).error == pytest.approx(0.01, rel=1e-4)
    assert metrics.warping_error(previous, current, backward, torch.ones_like(mask)).error > 0
    assert math.isnan(metrics.warping_error(previous, current, backward, torch.zeros_like(mask)).error)
