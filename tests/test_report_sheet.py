import pytest

from nststab.report.sheet import contact_sheet
from nststab.video.images import text_mask
from tests.conftest import corner, noise


def test_a_contact_sheet_shows_rows_of_pictures_of_any_size_under_their_labels() -> None:
    small, large = noise(2, 3, 20, 31)[0], noise(3, 3, 40, 25)[2]
    canvas = contact_sheet([[small, large], [large.flip(-1), small.flip(-1)]], ["photos", "step 100"])
    assert canvas.shape[-2] % 2 == canvas.shape[-1] % 2 == 0
    (y1, x1), (y2, x2) = corner(canvas, small), corner(canvas, large)
    (y3, x3), (_, x4) = corner(canvas, large.flip(-1)), corner(canvas, small.flip(-1))
    assert y1 == y2 + 10
    assert x1 < x2
    assert x3 < x4
    assert y3 >= y2 + 40 + 16
    unlabelled = contact_sheet([[small], [small.flip(-1)]], ["", ""])
    assert corner(unlabelled, small) == (0, 0)
    with pytest.raises(ValueError, match="each row"):
        contact_sheet([[small], []], ["a", "b"])


def test_a_sheet_does_not_hold_on_to_the_network_s_graph() -> None:
    picture = noise(1, 3, 8, 8)[0].requires_grad_()
    assert not contact_sheet([[picture]], ["a"]).requires_grad
    assert not contact_sheet([[picture]], [""]).requires_grad


@pytest.mark.parametrize("height", [9, 12, 31])
def test_text_is_white_on_black_and_as_high_as_asked(height: int) -> None:
    mask = text_mask("independent", height)
    assert mask.shape[:3] == (1, 1, height)
    assert mask.min() == 0
    assert mask.max() > 0.8
    assert text_mask("independent, twice", height).shape[-1] > mask.shape[-1] > 3 * height
