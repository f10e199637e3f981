"""Luminance of one picture, colours of another; and the stylizer that does it to a stream."""

from collections.abc import Iterable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nststab.color import LUMINANCE, PreserveColor, preserve_color, preserve_flat, sliding
from nststab.frames import Frame
from tests.conftest import stylized


def luminance(image: Tensor) -> Tensor:
    return (image * image.new_tensor(LUMINANCE).view(3, 1, 1)).sum(dim=1, keepdim=True)


def chrominance(image: Tensor) -> Tensor:
    return image - luminance(image)


def noise(seed: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(seed))


def test_luminance_by_hand() -> None:
    """A green of 0.587 under the grey 0.5: all channels move by -0.087."""
    green = torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1) * 0.5 + 0.25
    result = preserve_color(torch.full((1, 3, 1, 1), 0.5), green)
    moved = 0.5 - (0.25 + 0.587 * 0.5)
    assert torch.allclose(result, green + moved)


def test_in_gamut_the_luminance_is_the_stylized_and_the_colour_the_contents() -> None:
    stylized, content = noise(1, 0.4, 0.6), noise(2, 0.35, 0.65)
    result = preserve_color(stylized, content)
    assert torch.allclose(luminance(result), luminance(stylized), atol=1e-6)
    assert torch.allclose(chrominance(result), chrominance(content), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_out_of_gamut_only_the_saturation_gives_way(seed: int, extreme: bool) -> None:
    stylized, content = noise(seed).double(), noise(seed + 1).double()  # a nearly grey pixel has its hue in few bits
    if extreme:
        stylized, content = stylized.round(), content.round()
    result = preserve_color(stylized, content)
    assert 0 <= result.min() <= result.max() <= 1
    assert torch.allclose(luminance(result), luminance(stylized), atol=1e-5)
    wanted, got = chrominance(content), chrominance(result)
    factor = (wanted * got).sum(dim=1, keepdim=True) / wanted.square().sum(dim=1, keepdim=True).clamp_min(1e-9)
    assert torch.allclose(got, factor * wanted, atol=1e-5)  # the same hue
    assert -1e-5 <= factor.min() <= factor.max() <= 1 + 1e-5
    at_the_border = (result.amin(dim=1, keepdim=True) < 1e-5) | (result.amax(dim=1, keepdim=True) > 1 - 1e-5)
    assert (
        (factor > 1 - 1e-4) | at_the_border | (wanted.abs().amax(dim=1, keepdim=True) < 1e-4)
    ).all()  # no less than must be


def test_grey_content_makes_a_grey_picture() -> None:
    stylized = noise(4)
    result = preserve_color(stylized, noise(5)[:, :1].expand(-1, 3, -1, -1))
    assert torch.allclose(result, luminance(stylized).expand_as(result), atol=1e-6)


def test_pictures_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one size, got \(2, 3, 9, 7\) and \(2, 3, 9, 6\)"):
        preserve_color(noise(1), noise(1)[..., :6])
    with pytest.raises(ValueError, match="expected two pictures"):
        preserve_color(noise(1)[:, :1], noise(1)[:, :1])


class Delayed:
    """Reads `ahead` frames before it gives the first back, darkened."""

    def __init__(self, ahead: int) -> None:
        self._ahead = ahead
        self.read = 0

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        held: list[Frame] = []
        for frame in frames:
            self.read += 1
            held.append(frame.with_rgb(frame.rgb * 0.5))
            if len(held) > self._ahead:
                yield held.pop(0)
        yield from held


@pytest.mark.parametrize("ahead", [0, 1, 3, 20])
def test_each_frame_gets_its_own_colours_however_far_the_stylizer_reads_ahead(ahead: int) -> None:
    frames = [noise(seed) for seed in range(8)]
    results = list(stylized(PreserveColor(Delayed(ahead)), frames))
    assert len(results) == 8
    for result, frame in zip(results, frames, strict=True):
        assert torch.equal(result, preserve_color(frame * 0.5, frame))


def test_frames_are_read_no_faster_than_the_stylizer_reads() -> None:
    stylizer = Delayed(2)
    results = stylized(PreserveColor(stylizer), (noise(seed) for seed in range(100)))
    for done in range(1, 5):
        next(results)
        assert stylizer.read == done + 2


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("axis", [2, 3])
def test_neighbours_are_combined_along_an_axis(length: int, axis: int) -> None:
    x = torch.rand(2, 3, 11, 9, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    windows = x.unfold(axis, length, 1)
    torch.testing.assert_close(sliding(x, length, axis), windows.sum(-1))
    assert torch.equal(sliding(x, length, axis, torch.maximum), windows.amax(-1))


def photograph(height: int = 60, width: int = 80) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(4)) * 0.7 + 0.2


def test_an_ordinary_frame_is_the_networks_to_the_bit() -> None:
    painted = torch.rand(1, 3, 60, 80, generator=torch.Generator().manual_seed(5))
    assert torch.equal(preserve_flat(painted, photograph()), painted)


def test_a_fade_to_black_ends_in_black_and_falls_all_the_way() -> None:
    painted = torch.full((1, 3, 60, 80), 0.8)
    levels = [float(preserve_flat(painted, part * photograph()).mean()) for part in (1.0, 0.4, 0.2, 0.1, 0.02, 0.0)]
    assert levels[0] == pytest.approx(0.8)
    assert levels == sorted(levels, reverse=True)
    assert levels[-2] < 0.05
    assert levels[-1] == 0


def test_a_gray_frame_keeps_its_gray() -> None:
    gray = torch.full((1, 3, 60, 80), 0.5)
    torch.testing.assert_close(preserve_flat(torch.rand(1, 3, 60, 80), gray), gray)


def test_black_bars_stay_black_and_what_lies_between_them_is_painted() -> None:
    content, painted = photograph(), torch.full((1, 3, 60, 80), 0.8)
    content[..., :10, :] = content[..., -10:, :] = 0
    result = preserve_flat(painted, content)
    assert not result[..., :8, :].any()
    assert not result[..., -8:, :].any()
    assert torch.equal(result[..., 12:-12, :], painted[..., 12:-12, :])
