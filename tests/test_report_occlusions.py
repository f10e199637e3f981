import itertools
import weakref
from collections.abc import Sequence
from typing import overload

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.flow.estimators import Estimator, dis
from nststab.report.occlusions import GAPS, MOST_PLACES, Occlusion, find_occlusions

HEIGHT, WIDTH, SIDE, TOP = 64, 96, 16, 24
FRAMES = 20


def texture(height: int, width: int, cell: int = 4) -> Tensor:
    """Smooth noise without red, so that the square is told from it; green up to 0.6."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, height // cell + 1, width // cell + 1, generator=generator)
    noise = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    return noise * torch.tensor([0.0, 0.6, 0.9]).view(1, 3, 1, 1)


def scene(lefts: Sequence[int | None], pan: int = 0) -> list[Tensor]:
    """A red square at these columns, None where it is not to be seen, before a scene that moves left by `pan`."""
    background = texture(HEIGHT, WIDTH + pan * len(lefts))
    frames = []
    for index, left in enumerate(lefts):
        frame = background[..., pan * index : pan * index + WIDTH].clone()
        if left is not None:
            frame[..., TOP : TOP + SIDE, max(0, left) : max(0, left + SIDE)] = torch.tensor([1.0, 0, 0]).view(
                1, 3, 1, 1
            )
        frames.append(frame)
    return frames


def passing(frames: int = FRAMES) -> list[int | None]:
    """Four pixels a frame to the right, from outside on."""
    return [4 * index - SIDE for index in range(frames)]


class Exact:
    """The exact flow between frames of one scene, which it recognises by the objects."""

    def __init__(self, frames: Sequence[Tensor], lefts: Sequence[int | None], pan: int = 0) -> None:
        self._numbers = {id(frame): index for index, frame in enumerate(frames)}
        self._lefts, self._pan = lefts, pan
        self.calls = 0

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        self.calls += 1
        a, b = self._numbers[id(first)], self._numbers[id(second)]
        flow = torch.zeros(1, 2, HEIGHT, WIDTH)
        flow[:, 0] = -self._pan * (b - a)
        left, right = self._lefts[a], self._lefts[b]
        if left is not None and right is not None:
            flow[:, 0, TOP : TOP + SIDE, max(0, left) : max(0, left + SIDE)] = right - left
        return flow


def found_in(lefts: Sequence[int | None], pan: int = 0, shots: Sequence[int] = (0,), count: int = 1) -> list[Occlusion]:
    frames = scene(lefts, pan)
    return find_occlusions([frames], shots, Exact(frames, lefts, pan), count)


def test_what_a_square_hides_and_gives_free_is_found_where_and_when_it_was() -> None:
    (found,) = found_in(passing())
    before, between, after = found.frames
    assert between - before == after - between
    assert between - before in GAPS
    hidden = 4 * between - SIDE  # the square's left edge where it hides
    left, top, width, height = found.box
    # the averaging window blurs its edges
    assert left == pytest.approx(hidden, abs=3)
    assert left + width == pytest.approx(hidden + SIDE, abs=3)
    assert top == pytest.approx(TOP, abs=3)
    assert top + height == pytest.approx(TOP + SIDE, abs=3)
    assert width * height > 150
    for shown in (before, after):
        assert not hidden - SIDE < 4 * shown - SIDE < hidden + SIDE, "the square still hides it"


def test_pictures_show_it_seen_hidden_and_seen_again() -> None:
    (found,) = found_in(passing())
    (pictures,) = found.pictures
    red = [float((picture[:, 0] > 0.9).sum()) for picture in pictures]
    assert len({picture.shape for picture in pictures}) == 1
    assert red[1] == SIDE**2
    x = found.box[0] + found.box[2] // 2, found.box[1] + found.box[3] // 2
    frames = scene(passing())
    seen = [float(frames[index][0, 0, x[1], x[0]]) for index in found.frames]
    assert seen == [0, 1, 0]


def test_change_is_what_was_altered_between_the_two_sights() -> None:
    lefts = passing()
    frames = scene(lefts)
    (first,) = find_occlusions([frames], [0], Exact(frames, lefts))
    assert first.changes == [0]
    brighter = [frame + (20 / 255 if index > first.frames[1] else 0) for index, frame in enumerate(frames)]
    same, other = [frame.clone() for frame in frames], [1 - frame for frame in frames]
    (found,) = find_occlusions([frames, same, brighter, other], [0], Exact(frames, lefts))
    assert (found.frames, found.box) == (first.frames, first.box), "the input alone decides"
    assert found.changes == pytest.approx([0, 0, 20, 0], abs=1e-4)
    assert len(found.pictures) == 4
    torch.testing.assert_close(found.pictures[3][0], 1 - found.pictures[0][0])


def test_the_pictures_follow_a_camera_that_moves() -> None:
    lefts: list[int | None] = [76 - 6 * index for index in range(16)]
    (found,) = found_in(lefts, pan=1)
    before, between, after = found.frames
    assert found.changes == pytest.approx([0], abs=1e-4)
    first, second, third = found.pictures[0]
    clear = ((first[:, :1] < 0.9) & (second[:, :1] < 0.9) & (third[:, :1] < 0.9)).expand_as(first)
    assert clear.float().mean() > 0.4
    assert torch.equal(first[clear], third[clear]), "the scene stands still in the pictures"
    assert torch.equal(second[clear], third[clear])
    hidden = 76 - 6 * between - (after - between)  # where the scene under the square is by then
    assert found.box[0] == pytest.approx(hidden, abs=3)
    assert before < between < after


@pytest.mark.parametrize(
    "lefts",
    [
        pytest.param([None] * FRAMES, id="nothing moves"),
        pytest.param([40] * FRAMES, id="it stands still"),
        pytest.param([40] * 9 + [None] * 2 + [40] * 9, id="the thing itself goes and comes back"),
        pytest.param([None] * 9 + [40] * 11, id="it appears"),
        pytest.param([40] * 9 + [None] * 11, id="it disappears"),
        pytest.param([40 + 4 * index for index in range(6)], id="what is seen after was hidden before too"),
        pytest.param([0], id="one frame"),
        pytest.param([], id="no frame"),
    ],
)
def test_nothing_is_found_where_nothing_is_hidden_and_seen_again(lefts: list[int | None]) -> None:
    assert found_in(lefts) == []


def test_a_camera_alone_hides_nothing() -> None:
    assert found_in([None] * FRAMES, pan=2) == []


def test_a_thing_that_goes_and_comes_back_in_a_scene_that_moves_was_not_hidden() -> None:
    lefts = [60 - 2 * index if index not in (9, 10) else None for index in range(FRAMES)]
    assert found_in(lefts, pan=2) == []


def swaying(ways: Sequence[tuple[int, int]]) -> tuple[list[Tensor], Estimator]:
    """Frames whose upper and lower half stand so many pixels further left than in the first, and their exact flow."""
    background = texture(HEIGHT, WIDTH + 40)
    half = HEIGHT // 2
    frames = [
        torch.cat([background[..., :half, a : a + WIDTH], background[..., half:, b : b + WIDTH]], -2) for a, b in ways
    ]
    numbers = {id(frame): index for index, frame in enumerate(frames)}

    def flow(first: Tensor, second: Tensor) -> Tensor:
        before, after = ways[numbers[id(first)]], ways[numbers[id(second)]]
        field = torch.zeros(1, 2, HEIGHT, WIDTH)
        field[:, 0, :half], field[:, 0, half:] = before[0] - after[0], before[1] - after[1]
        return field

    return frames, flow


@pytest.mark.parametrize(
    "ways",
    [
        pytest.param([(12 * (index // 2 % 2), 0) for index in range(FRAMES)], id="a half of the scene"),
        pytest.param([(20 * (index // 2 % 2),) * 2 for index in range(FRAMES)], id="the camera"),
    ],
)
def test_what_sways_is_not_hidden(ways: list[tuple[int, int]]) -> None:
    frames, flow = swaying(ways)
    assert find_occlusions([frames], [0], flow) == []


def test_no_occlusion_spans_a_cut() -> None:
    assert found_in(passing(), shots=range(0, FRAMES, 4)) == []
    (found,) = found_in(passing(), shots=[0, 6])
    assert found.frames[0] >= 6


def test_several_are_half_a_second_apart_and_the_best_comes_first() -> None:
    lefts = [*passing(24), *[None] * 10, *passing(24)]
    one, *_ = found_in(lefts)
    several = found_in(lefts, count=3)
    assert several[0].frames == one.frames
    assert 2 <= len(several) <= 3
    middles = sorted(found.frames[1] for found in several)
    assert all(second - first >= 12 for first, second in itertools.pairwise(middles))


def test_clips_of_several_lengths_are_refused() -> None:
    frames = scene(passing())
    with pytest.raises(ValueError, match=r"expected clips of one length, got \[20, 19\] frames"):
        find_occlusions([frames, frames[1:]], [0], Exact(frames, passing()))


class OnDisk(Sequence[Tensor]):
    """Frames that are made when they are read, and of which it knows how many are alive."""

    def __init__(self, lefts: Sequence[int | None]) -> None:
        self._frames = scene(lefts)
        self._alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
        self.most = self.reads = 0

    def __len__(self) -> int:
        return len(self._frames)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        assert isinstance(index, int)
        frame = self._frames[index].clone()
        self._alive.add(frame)
        self.reads += 1
        self.most = max(self.most, len(self._alive))
        return frame


def test_a_long_clip_costs_no_more_flow_or_frames_than_a_short_one() -> None:
    lefts = [*passing(24), *[None] * 300]
    clip = OnDisk(lefts)
    calls = 0

    def flow(_first: Tensor, _second: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.zeros(1, 2, HEIGHT, WIDTH)

    find_occlusions([clip], [0], flow)
    assert calls <= 4 * len(GAPS) * MOST_PLACES + 40
    assert clip.most <= 2 * max(GAPS) + 6
    assert clip.reads <= (2 * len(GAPS) + 1) * MOST_PLACES + 40


def test_estimated_flow_and_frames_larger_than_those_searched() -> None:
    """A square of a ninth of the width, six of its pixels a frame, before a scene of 360x180."""
    background = texture(180, 360, 8)
    frames = []
    for index in range(17):
        frame = background.clone()
        left = 60 + 12 * index
        frame[..., 70:110, left : left + 40] = 0.9 - 0.5 * texture(40, 40)
        frames.append(frame)
    (found,) = find_occlusions([frames, [frame * 0.5 + 0.25 for frame in frames]], [0], dis)
    hidden = 60 + 12 * found.frames[1]
    assert found.box[0] == pytest.approx(hidden, abs=10)
    assert found.box[1] == pytest.approx(70, abs=10)
    assert found.box[2] == pytest.approx(40, abs=16)
    assert found.changes[0] < 2
    assert found.changes[1] == pytest.approx(found.changes[0] / 2, abs=1e-3)
