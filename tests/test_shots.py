"""Cuts in synthetic streams of known shots."""

from collections.abc import Iterable, Iterator

import pytest
import torch
from torch import Tensor

from nststab.frames import Frame, as_frames
from nststab.shots import by_shot, detect_cuts, split_shots
from tests.conftest import texture


def scene(seed: int, height: int = 48, width: int = 96) -> Tensor:
    """A random picture of smooth patches, wide enough to pan over."""
    return texture(height, width, seed, (4, 8))


def pan(picture: Tensor, count: int, step: int = 2) -> list[Tensor]:
    return [picture[..., i * step : i * step + 64] for i in range(count)]


def noisy(frames: list[Tensor], sigma: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(9)
    return [(frame + sigma * torch.randn(frame.shape, generator=generator)).clamp(0, 1) for frame in frames]


def cuts(frames: Iterable[Tensor]) -> list[int]:
    return [index for index, (_, cut) in enumerate(detect_cuts(as_frames(frames))) if cut]


@pytest.mark.parametrize("pair", range(8))
def test_a_hard_cut_is_found_at_its_frame(pair: int) -> None:
    before, after = scene(2 * pair), scene(2 * pair + 1)
    assert cuts(pan(before, 12) + pan(after, 12)) == [12]


def test_cuts_between_still_short_noisy_and_flat_shots() -> None:
    stills = [scene(seed)[..., :64] for seed in range(3)]
    assert cuts([stills[0]] * 5 + [stills[1]] * 2 + [stills[2]] * 5) == [5, 7]
    assert cuts(noisy(pan(scene(1), 6) + pan(scene(2), 6), 0.1)) == [6]
    red, blue = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    red[:, 0], blue[:, 2] = 0.8, 0.8
    assert cuts([red] * 4 + [blue] * 4) == [4]
    assert cuts([scene(1)] * 4 + [scene(2)]) == [4]  # the clip ends with the cut's frame


def test_a_cut_in_the_dark_is_found() -> None:
    assert cuts([0.35 * frame for frame in pan(scene(4), 8) + pan(scene(5), 8)]) == [8]


@pytest.mark.parametrize("seed", range(4))
def test_motion_noise_and_light_are_no_cuts(seed: int) -> None:
    picture = scene(seed)
    still = [picture[..., :64]] * 12
    assert cuts(pan(picture, 8, step=4)) == []
    assert cuts(noisy(still, 0.2)) == []
    assert cuts([frame * (1 - i / 11) for i, frame in enumerate(still)]) == []  # a fade to black
    assert cuts([frame * (0.6 if i % 3 == 1 else 1.0) for i, frame in enumerate(still)]) == []  # flicker
    dissolve = [torch.lerp(picture, scene(seed + 50), i / 23) for i in range(24)]
    assert cuts(dissolve) == []


def test_a_flash_of_one_frame_is_no_cut_but_a_cut_after_it_is() -> None:
    white = torch.ones(1, 3, 48, 64)
    frames = pan(scene(1), 10)
    assert cuts([*frames[:5], white, *frames[5:]]) == []
    assert cuts([*frames[:5], white, *frames[5:7], *pan(scene(2), 5)]) == [8]


def test_shots_hold_every_frame_in_order() -> None:
    frames = pan(scene(1), 5) + pan(scene(2), 7) + pan(scene(3), 1)
    shots = [list(shot) for shot in split_shots(as_frames(frames))]
    assert [[frame.number for frame in shot] for shot in shots] == [list(range(5)), list(range(5, 12)), [12]]
    assert all(a.rgb is b for a, b in zip((f for shot in shots for f in shot), frames, strict=True))
    assert list(split_shots([])) == []


def test_an_unread_shot_is_skipped() -> None:
    frames = pan(scene(1), 5) + pan(scene(2), 7)
    assert [next(shot).number for shot in split_shots(as_frames(frames))] == [0, 5]


def test_each_shot_is_a_new_call_and_frames_stream_through() -> None:
    frames = pan(scene(1), 5) + pan(scene(2), 7)
    read = 0
    calls: list[int] = []

    def source() -> Iterator[Frame]:
        nonlocal read
        for frame in as_frames(frames):
            read += 1
            yield frame

    def numbered(shot: Iterable[Frame]) -> Iterator[Frame]:
        calls.append(0)
        for frame in shot:
            calls[-1] += 1
            yield frame.with_rgb(torch.tensor(10 * len(calls) + calls[-1]))

    given = []
    for done, value in enumerate(by_shot(numbered, source()), start=1):
        given.append(int(value.rgb))
        assert read <= done + 1  # a frame of look-ahead, never a whole shot
    assert given == [11, 12, 13, 14, 15, 21, 22, 23, 24, 25, 26, 27]
    assert calls == [5, 7]


def test_a_stylizer_that_looks_ahead_sees_its_own_shot_only() -> None:
    frames = pan(scene(1), 5) + pan(scene(2), 4)

    def last_first(shot: Iterable[Frame]) -> Iterator[Frame]:
        return reversed(list(shot))

    assert [frame.number for frame in by_shot(last_first, as_frames(frames))] == [4, 3, 2, 1, 0, 8, 7, 6, 5]
