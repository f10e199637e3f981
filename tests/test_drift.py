import math

import numpy as np
import pytest
import torch

from nststab.metrics import DriftSlopes, drift_slopes


def test_a_planted_ramp_is_found_with_its_slope() -> None:
    """Levels of 255 per frame, brightness as the luma of BT.709; the order and the sign of each are kept."""
    time = torch.arange(200.0)[:, None]
    means = 0.4 + time * torch.tensor([0.02, -0.05, 0.01]) / 255
    slopes = drift_slopes(means)
    assert slopes[1:] == pytest.approx((0.02, -0.05, 0.01), rel=1e-4)
    assert slopes.brightness == pytest.approx(0.2126 * 0.02 - 0.7152 * 0.05 + 0.0722 * 0.01, rel=1e-4)
    assert slopes.largest == -slopes.green


def test_slopes_are_those_of_numpys_fit_on_noise() -> None:
    means = torch.rand(57, 3, generator=torch.Generator().manual_seed(0))
    fitted = np.polyfit(np.arange(57), 255 * means.double().numpy(), 1)[0]
    assert drift_slopes(means)[1:] == pytest.approx(tuple(fitted))


def test_no_slope_without_change_or_without_two_frames() -> None:
    assert drift_slopes(torch.full((9, 3), 0.3)) == DriftSlopes(0, 0, 0, 0)
    assert all(map(math.isnan, drift_slopes(torch.rand(1, 3))))
    assert math.isnan(drift_slopes(torch.rand(1, 3)).largest)
    with pytest.raises(ValueError, match=r"\(T, 3\), got \(5, 4\)"):
        drift_slopes(torch.rand(5, 4))
