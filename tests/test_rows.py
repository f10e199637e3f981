"""The rows of a network of many styles: which of them a look weighs, and that mixing them is what the weights do."""

import pytest
import torch

from nststab.errors import SettingError
from nststab.networks.rows import PHOTOGRAPH, Look, stroke_at, styles_of, with_rows
from nststab.networks.transformation import NetworkConfig, TransformationNetwork

ROWS = ("wave@512", "wave@1024", "scream@256", "scream@512", "scream@1024", "plain", PHOTOGRAPH)


def weights(styles: dict[str, float], stroke: float = 1.0) -> list[float]:
    return [round(weight, 6) for weight in Look(styles, stroke).weights(ROWS).tolist()]


def test_a_stroke_lies_between_the_rows_next_to_it() -> None:
    assert weights({"wave": 1}, 0.5) == [1, 0, 0, 0, 0, 0, 0]
    assert weights({"wave": 1}, 2) == [0, 1, 0, 0, 0, 0, 0]
    assert weights({"wave": 1}) == [0.5, 0.5, 0, 0, 0, 0, 0]
    assert weights({"scream": 3}) == [0, 0, 0, 1, 0, 0, 0]
    assert weights({"scream": 1}, 2**0.5) == [0, 0, 0, 0.5, 0.5, 0, 0]


@pytest.mark.parametrize(("side", "share"), [(320, 1.0), (512, 1.0), (724, 0.5), (1024, 0.0), (1920, 0.0)])
def test_strokes_of_their_own_are_those_of_a_picture_as_large_as_the_frame(side: int, share: float) -> None:
    made = Look({"wave": 1}, None, side).weights(ROWS).tolist()
    assert made == pytest.approx([share, 1 - share, 0, 0, 0, 0, 0], abs=1e-3)
    assert Look({"wave": 1}, 2, side).weights(ROWS).tolist()[1] == 1
    assert Look({"wave": 1}, stroke_at(side, ROWS, "wave")).weights(ROWS).tolist() == pytest.approx(made, abs=1e-6)
    assert stroke_at(side, ROWS, "plain") == 1


def test_parts_of_styles_are_proportions() -> None:
    assert weights({"wave": 6, "scream": 2}, 0.5) == [0.75, 0, 0.25, 0, 0, 0, 0]
    with pytest.raises(SettingError, match="the network has no style 'waves'; did you mean wave"):
        weights({"waves": 1})


def test_rows_without_a_size_are_styles_too() -> None:
    assert styles_of(ROWS) == ("wave", "scream", "plain")
    assert weights({"plain": 1}, 2) == [0, 0, 0, 0, 0, 1, 0]


def test_a_mixed_row_draws_what_the_weights_draw() -> None:
    torch.manual_seed(0)
    network = TransformationNetwork(NetworkConfig(False, (2, 4, 8), 1, 4, "light", ROWS))
    for name, value in network.named_parameters():
        if ".normalization." in name:
            torch.nn.init.normal_(value)
    look = Look({"wave": 1, "scream": 2}, 1.3).weights(ROWS)
    frame = torch.rand(1, 3, 20, 24)
    mixed = with_rows(network, look[None], ("mixed",))
    assert mixed.config.styles == ("mixed",)
    torch.testing.assert_close(mixed(frame), network(frame, None, look[None]))
