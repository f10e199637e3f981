import pytest
import torch

from nststab.metrics import unexplained_change, warping_error
from nststab.report.colors import BRIGHTEST, INFERNO, heat_colors
from nststab.warp import warp


def noise(channels: int, seed: int) -> torch.Tensor:
    return torch.rand(1, channels, 9, 14, generator=torch.Generator().manual_seed(seed))


def rgb(change: float) -> list[int]:
    return [round(255 * level) for level in heat_colors(torch.full((1, 1, 1, 1), change)).flatten().tolist()]


def test_what_moves_as_the_flow_says_has_not_changed() -> None:
    previous, flow = noise(3, 0), 4 * noise(2, 1) - 2
    assert unexplained_change(previous, warp(previous, flow), flow, torch.ones(1, 1, 9, 14)).max() == 0


def test_the_change_is_the_root_mean_square_over_the_colours_where_the_mask_trusts() -> None:
    previous = torch.full((1, 3, 2, 2), 0.5)
    current = previous + torch.tensor([0.3, -0.4, 0.0]).view(1, 3, 1, 1)
    mask = torch.tensor([[[[1.0, 0.5], [0.0, 1.0]]]])
    change = unexplained_change(previous, current, torch.zeros(1, 2, 2, 2), mask)
    assert torch.allclose(change, mask * (0.25 / 3) ** 0.5)
    assert change.shape == (1, 1, 2, 2)


def test_its_square_averages_to_the_warping_error() -> None:
    previous, current, flow, mask = noise(3, 0), noise(3, 1), 3 * noise(2, 2), (noise(1, 3) > 0.5).float()
    change = unexplained_change(previous, current, flow, mask)
    assert float(change.square().sum() / mask.sum()) == pytest.approx(
        warping_error(previous, current, flow, mask).error, rel=1e-6
    )


def test_colours_run_from_black_to_the_brightest_at_64_levels() -> None:
    assert rgb(0) == [0, 0, 4]
    assert rgb(64 / 255) == rgb(0.9) == [0xFC, 0xFF, 0xA4]
    assert rgb(64 / 255 * 255 / 256) != rgb(64 / 255)
    for step, color in enumerate(INFERNO):
        expected = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert rgb(BRIGHTEST * 15 * step / 255) == expected
    assert rgb(BRIGHTEST * 22 / 255) == pytest.approx(
        [(8 * a + 7 * b) / 15 for a, b in zip((10, 7, 34), (30, 12, 69), strict=True)], abs=0.51
    )


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="the change of one frame"):
        heat_colors(noise(3, 0))
