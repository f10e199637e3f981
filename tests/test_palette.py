"""Palettes and dithering of GIFs: known answers, and what makes them hold still."""

import pytest
import torch
from torch import Tensor

from nststab.video.gif import SIZE, Dither, make_palette, noise, palette_error


@pytest.fixture
def pixels(generator: torch.Generator) -> Tensor:
    """Pixels around a few hundred colours."""
    centres = torch.rand(400, 3, generator=generator) * 255
    near = centres.repeat(10, 1) + torch.randn(4000, 3, generator=generator) * 3
    return near.clamp(0, 255).round()


def test_few_colours_are_the_palette(pixels: Tensor) -> None:
    few = pixels[:100].repeat(3, 1)
    assert torch.equal(make_palette(few), torch.unique(few, dim=0))
    assert palette_error(few, make_palette(few)) < 1e-3


def test_many_colours_become_as_many_as_fit(pixels: Tensor) -> None:
    palette = make_palette(pixels)
    assert palette.shape == (SIZE, 3)
    assert torch.equal(palette, palette.round())
    assert torch.equal(palette, make_palette(pixels))
    fixed = torch.cartesian_prod(*(torch.linspace(0, 255, steps) for steps in (6, 7, 6)))
    assert palette_error(pixels, palette) < 0.25 * palette_error(pixels, fixed)


def test_the_error_is_the_squared_distance_of_the_nearest_colour() -> None:
    colours = torch.tensor([[0.0, 0.0, 0.0], [10.0, 10.0, 10.0]])
    assert palette_error(torch.tensor([[1.0, 2.0, 2.0], [10.0, 10.0, 6.0]]), colours) == pytest.approx((9 + 16) / 2)


def test_the_thresholds_are_spread_evenly() -> None:
    for height, width in ((64, 64), (1080, 1920)):
        thresholds = noise(height, width)
        assert thresholds.shape == (height, width)
        assert thresholds.min() >= 0
        assert thresholds.max() < 1
        shares = torch.histc(thresholds, 10, 0, 1) / thresholds.numel()
        assert (shares - 0.1).abs().max() < 0.01


@pytest.mark.parametrize("value", [90, 96, 100, 104, 110])  # what is very near to one is that one
def test_a_colour_between_two_is_both_of_them_in_its_share(value: int) -> None:
    dither = Dither(torch.tensor([[90.0, 90.0, 90.0], [110.0, 110.0, 110.0], [0.0, 255.0, 0.0]]))
    indices = dither(torch.full((64 * 64, 3), value), noise(64, 64).flatten())
    assert dither.colours[indices.long()].mean() == pytest.approx(value, abs=0.3)
    assert indices.max() <= 1  # never the third


def test_a_pixel_is_what_it_was_whatever_stands_around_it(pixels: Tensor) -> None:
    dither = Dither(make_palette(pixels))
    thresholds = noise(50, 80).flatten()
    before = dither(pixels, thresholds)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(1))[:500]
    assert torch.equal(dither(pixels[order], thresholds[order]), before[order])
    dither(255 - pixels, thresholds)  # other colours that come later change nothing
    assert torch.equal(dither(pixels, thresholds), before)


def test_dithering_is_better_in_the_mean_than_the_nearest_colour() -> None:
    ramp = torch.linspace(40, 200, 96).round()
    pixels = torch.stack([ramp.repeat(96), ramp.repeat_interleave(96), torch.full((96 * 96,), 90.0)], dim=1)
    palette = make_palette(torch.unique(pixels[::7], dim=0))[::4]  # a quarter, so that there is something to do
    dithered = palette[Dither(palette)(pixels, noise(96, 96).flatten()).long()]
    nearest = palette[torch.cdist(pixels, palette).argmin(1)]

    def blurred_error(result: Tensor) -> float:
        difference = (result - pixels).T.view(3, 1, 96, 96)
        return float(torch.nn.functional.avg_pool2d(difference, 6, 3).square().mean())

    assert blurred_error(dithered) < 0.5 * blurred_error(nearest)
