"""The video of a report: clips packed into one picture, coded so that any frame is found at its time."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nststab.report.scene import Atlas, Rect
from nststab.video.clip import open_clip
from nststab.video.writer import encode_clip


def inside(rect: Rect, atlas: Atlas) -> bool:
    return rect.x + rect.width <= atlas.width and rect.y + rect.height <= atlas.height


def apart(one: Rect, other: Rect) -> bool:
    """Whether two rectangles stand at least four pixels from each other."""
    return (
        one.x + one.width + 4 <= other.x
        or other.x + other.width + 4 <= one.x
        or one.y + one.height + 4 <= other.y
        or other.y + other.height + 4 <= one.y
    )


@pytest.mark.parametrize("count", range(2, 8))
@pytest.mark.parametrize(("width", "height"), [(480, 270), (270, 480), (33, 17), (1, 1), (160, 16)])
def test_clips_and_heat_maps_stand_apart_on_blocks_of_their_own(count: int, width: int, height: int) -> None:
    atlas = Atlas(count, width, height)
    rects = [*atlas.clips, *atlas.heats]
    assert len(rects) == 2 * count
    assert atlas.width % 16 == atlas.height % 16 == 0
    assert all(rect.x % 16 == rect.y % 16 == 0 and inside(rect, atlas) for rect in rects)
    assert all(apart(one, other) for one, other in combinations(rects, 2))
    assert {(rect.width, rect.height) for rect in atlas.clips} == {(width, height)}
    assert {(rect.width, rect.height) for rect in atlas.heats} == {((width + 1) // 2, (height + 1) // 2)}


def test_pictures_stand_in_their_rectangles_and_repeat_at_the_edges(generator: torch.Generator) -> None:
    atlas = Atlas(3, 20, 10)
    frames = [torch.rand(1, 3, 10, 20, generator=generator) for _ in range(3)]
    heats = [torch.full((1, 3, 10, 20), level) for level in (0.1, 0.5, 0.9)]
    canvas = atlas.compose(frames, heats)
    assert canvas.shape == (1, 3, atlas.height, atlas.width)
    for rect, picture in zip(atlas.clips, frames, strict=True):
        assert torch.equal(canvas[..., rect.y : rect.y + 10, rect.x : rect.x + 20], picture)
        assert torch.equal(canvas[..., rect.y + 10, rect.x : rect.x + 20], picture[..., -1, :])
        assert torch.equal(canvas[..., rect.y : rect.y + 10, rect.x + 20], picture[..., -1])
    for rect, level in zip(atlas.heats, (0.1, 0.5, 0.9), strict=True):
        own = canvas[..., rect.y : rect.y + 5, rect.x : rect.x + 10]
        torch.testing.assert_close(own, torch.full_like(own, level))


def moving(count: int) -> list[Tensor]:
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 48, 64)
    return [ramp.roll(4 * number, -1) for number in range(count)]


def test_the_video_has_the_frames_at_their_uneven_times(tmp_path: Path) -> None:
    frames = moving(30)
    durations = [Fraction(1, 25) if number % 3 else Fraction(1, 10) for number in range(30)]
    times = [sum(durations[:number], Fraction(0)) for number in range(30)]
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode_clip(zip(frames, times, durations, strict=True), Fraction(20)))
    clip = open_clip(path)
    assert (clip.width, clip.height, clip.has_audio) == (64, 48, False)
    found = list(clip.frames())
    assert [frame.time for frame in found] == times
    assert [frame.duration for frame in found] == durations
    for shown, frame in zip(found, frames, strict=True):
        assert float((shown.rgb - frame).abs().mean()) < 0.02


def test_noise_is_held_to_the_rate_that_bounds_a_report(generator: torch.Generator) -> None:
    frames = [torch.rand(1, 3, 256, 256, generator=generator) for _ in range(50)]
    shown = [(frame, Fraction(number, 25), Fraction(1, 25)) for number, frame in enumerate(frames)]
    assert len(encode_clip(iter(shown), Fraction(25))) < (2 * 12e6 + 6e6) / 8  # two seconds and the buffer


def test_no_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="no frames to write"):
        encode_clip(iter([]), Fraction(25))


def test_odd_times_are_encoded_at_a_rate_that_can_be_written(generator: torch.Generator) -> None:
    """Durations of nanoseconds, and a last frame that stands for an hour, as a folder's or a talk's may."""
    frames = [torch.rand(1, 3, 32, 32, generator=generator) for _ in range(3)]
    for duration, last in ((Fraction(40_000_001, 10**9), Fraction(1, 7919)), (Fraction(1, 25), Fraction(3600))):
        times = [(0 * duration, duration), (duration, duration), (2 * duration, last)]
        shown = [(frame, *time) for frame, time in zip(frames, times, strict=True)]
        assert encode_clip(iter(shown), 3 / (2 * duration + last)) != b""


def test_an_error_of_the_frames_comes_through_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def frames() -> Iterator[tuple[Tensor, Fraction, Fraction]]:
        yield moving(1)[0], Fraction(0), Fraction(1, 25)
        raise ValueError("the second cannot be read")

    with pytest.raises(ValueError, match="the second cannot be read"):
        encode_clip(frames(), Fraction(25))
    assert list(tmp_path.iterdir()) == []
