"""Synthetic clips: the flow is held to interpolation error, the mask to known occlusions, the rest to its settings."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nststab.datasets.layers import FlowClip, Layer, render_layers
from nststab.datasets.synthetic import SyntheticSettings, make_clip
from nststab.warp import warp

SCENE = SyntheticSettings(height=48, width=56, noise=0, light=0)
MOVING = replace(SCENE, still_clips=0, still_layers=0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth_photo(seed: int, height: int = 80, width: int = 96) -> Tensor:
    """Low cosines, which stay smooth where a texture is mirrored at its borders."""
    y = (torch.arange(height) + 0.5).view(-1, 1) * math.pi / height
    x = (torch.arange(width) + 0.5) * math.pi / width
    weights = torch.rand(3, 4, 4, generator=seeded(seed)) - 0.5
    photo = sum(
        (weights[:, i, j, None, None] * torch.cos(i * y) * torch.cos(j * x) for i in range(4) for j in range(4)),
        torch.zeros(3, height, width),
    )
    return ((photo - photo.min()) / (photo.max() - photo.min()))[None]


PHOTOS = [smooth_photo(0), smooth_photo(1, 60, 90), smooth_photo(2, 120, 70), smooth_photo(3)]


def shift(x: float, y: float, frames: int, step: float = 0.0) -> Tensor:
    """Poses at (x, y), moving right by `step` each frame."""
    poses = torch.eye(3, dtype=torch.float64).repeat(frames, 1, 1)
    poses[:, 0, 2] = x + step * torch.arange(frames)
    poses[:, 1, 2] = y
    return poses


def square_clip(step: float, camera_step: float = 0.0) -> FlowClip:
    """A white 16x16 square over columns 12-27 and rows 8-23 of a grey 40x32 frame, moving right."""
    half = torch.tensor([[-8, -8], [8, -8], [8, 8], [-8, 8]], dtype=torch.float64)
    flat = torch.eye(3, dtype=torch.float64)
    background = Layer(torch.full((1, 3, 8, 8), 0.5), flat, None, shift(0, 0, 2, camera_step))
    square = Layer(torch.ones(1, 3, 8, 8), flat, half, shift(19.5, 15.5, 2, step))
    return render_layers([background, square], 32, 40)


def trusted_error(clip: FlowClip, forward: Tensor) -> Tensor:
    """|warp(frame t, forward) - frame t-1| on the trusted pixels of a clip."""
    frames, mask = clip.frames[0], clip.mask[0]
    error = (warp(frames[1:], forward) - frames[:-1]).abs()
    return error[(mask > 0.99).expand_as(error)]


@pytest.mark.parametrize("seed", range(6))
def test_flow_maps_trusted_pixels_to_interpolation_error(seed: int) -> None:
    clip = make_clip(PHOTOS, replace(MOVING, speed=1 / 12, turn=0.02), seeded(seed))
    error = trusted_error(clip, clip.forward[0])
    assert len(error) > 0.3 * clip.frames[0, 1:].numel()
    # the second derivative of the steepest cosine allows about 0.005
    assert error.max() < 0.008
    assert error.mean() < 0.0015


def test_moving_square_has_exact_frames_flow_and_occlusion() -> None:
    clip = square_clip(step=8)
    inside = torch.zeros(32, 40, dtype=torch.bool)
    inside[8:24, 12:28] = True
    assert torch.equal(clip.frames[0, 0, 0] == 1, inside)
    assert torch.equal(clip.frames[0, 1, 0] == 1, inside.roll(8, 1))
    assert ((clip.frames == 0.5) | (clip.frames == 1)).all()
    forward, mask = clip.forward[0, 0], clip.mask[0, 0, 0]
    assert torch.equal(forward[0], 8.0 * inside)
    assert torch.equal(forward[1], torch.zeros(32, 40))
    assert not mask[8:24, 28:36].any()  # these columns of the background disappear behind the square
    assert mask[10:22, 36].max() < 0.1  # and take their neighbours with them, by counting as -1
    assert (mask[12:20, 16:24] == 1).all()
    far = torch.ones_like(inside)
    far[4:28, 8:] = False
    assert (mask[far] == 1).all()


def test_only_edges_in_relative_motion_lose_trust() -> None:
    carried = square_clip(step=2, camera_step=2)
    assert torch.equal(carried.forward[0, 0, 0], torch.full((32, 40), 2.0))
    assert (carried.mask[0, 0, 0, :, :34] == 1).all()
    assert (carried.mask[0, 0, 0, :, 38:] < 0.3).all()  # these leave the frame
    # a little slower: too little for a motion boundary or an occluded pixel, but the edge is a mixture
    apart = square_clip(step=2, camera_step=1.96)
    assert (apart.mask[0, 0, 0, 9:23, 27:29] < 0.05).all()
    assert (apart.mask[0, 0, 0, 9:23, 32] > 0.99).all()


def test_a_higher_layer_hides_a_lower_one() -> None:
    square = torch.tensor([[-8, -8], [8, -8], [8, 8], [-8, 8]], dtype=torch.float64)
    flat = torch.eye(3, dtype=torch.float64)
    layers = [
        Layer(torch.full((1, 3, 4, 4), value), flat, outline, poses)
        for value, outline, poses in (
            (0.0, None, shift(0, 0, 2)),
            (0.5, square, shift(15.5, 15.5, 2, step=1)),
            (1.0, square * 2, shift(15.5, 15.5, 2)),
        )
    ]
    clip = render_layers(layers, 32, 32)
    assert torch.equal(clip.frames, torch.ones(1, 2, 3, 32, 32))
    assert not clip.forward.any()
    assert (clip.mask == 1).all()


def test_cutouts_are_antialiased() -> None:
    clip = square_clip(step=0.5)
    edge = clip.frames[0, 1, 0, 16]
    assert edge[12].item() == pytest.approx(0.75)
    assert edge[28].item() == pytest.approx(0.75)


@pytest.mark.parametrize("seed", range(2))
def test_still_clip_has_zero_flow_and_full_trust(seed: int) -> None:
    clip = make_clip(PHOTOS, replace(SCENE, still_clips=1), seeded(seed))
    assert not clip.forward.any()
    assert (clip.mask == 1).all()
    assert torch.equal(clip.frames, clip.frames[:, :1].expand_as(clip.frames))


def test_share_of_stillness_and_speed_follow_the_settings() -> None:
    clips = [make_clip(PHOTOS, replace(SCENE, height=32, width=32), seeded(seed)) for seed in range(60)]
    peaks = torch.stack([clip.forward.norm(dim=2).max() for clip in clips])
    assert 0.2 < (peaks == 0).float().mean() < 0.5
    assert 1 < peaks.max() < 2 * (32 * SCENE.speed + 23 * (SCENE.turn + SCENE.zoom))
    assert make_clip(PHOTOS, replace(SCENE, length=7), seeded(0)).frames.shape == (1, 7, 3, 48, 56)


def test_the_generator_determines_everything() -> None:
    settings = SyntheticSettings(height=32, width=32)
    first, again, other = (make_clip(PHOTOS, settings, seeded(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.frames, other.frames)


def test_noise_and_light_leave_the_geometry_alone() -> None:
    plain, degraded = (make_clip(PHOTOS, s, seeded(5)) for s in (SCENE, SyntheticSettings(height=48, width=56)))
    assert torch.equal(plain.forward, degraded.forward)
    assert torch.equal(plain.mask, degraded.mask)
    assert not torch.equal(plain.frames, degraded.frames)
    assert degraded.frames.min() >= 0
    assert degraded.frames.max() <= 1


def test_noise_is_new_in_every_frame_and_within_its_range() -> None:
    grey = [torch.full((1, 3, 64, 64), 0.5)]
    deviations = []
    for seed in range(15):
        noise = make_clip(grey, replace(SCENE, noise=0.03, clean_clips=0), seeded(seed)).frames[0] - 0.5
        deviations.append(noise.std().item())
        correlation = torch.corrcoef(noise.flatten(1))
        assert (correlation - torch.eye(4)).abs().max() < 0.1
    assert max(deviations) < 0.031
    assert max(deviations) - min(deviations) > 0.015


def test_light_changes_are_global_and_small() -> None:
    grey = [torch.full((1, 3, 64, 64), 0.5)]
    levels = []
    for seed in range(10):
        frames = make_clip(grey, replace(SCENE, light=0.03, clean_clips=0), seeded(seed)).frames[0]
        torch.testing.assert_close(frames, frames[:, :1, :1, :1].expand_as(frames), atol=1e-6, rtol=0)
        levels.append(frames[:, 0, 0, 0])
    assert 0.005 < (torch.stack(levels) - 0.5).abs().max() < 0.03 * 0.5 + 0.015 + 1e-6
    assert all((level != level[0]).any() for level in levels)


def test_clean_clips_are_neither_noisy_nor_flickering() -> None:
    settings = SyntheticSettings(height=32, width=32, clean_clips=1, still_clips=1)
    frames = make_clip(PHOTOS, settings, seeded(0)).frames
    assert torch.equal(frames, frames[:, :1].expand_as(frames))


def test_what_cannot_be_a_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one photograph"):
        make_clip([], SCENE, seeded(0))
    with pytest.raises(ValueError, match="length 1"):
        SyntheticSettings(length=1)
