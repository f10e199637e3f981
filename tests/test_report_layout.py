import pytest
import torch
from torch import Tensor

from nststab.images import text_mask
from nststab.report.layout import PAPER, contact_sheet, side_by_side

LABELS = ["input", "independent", "recurrent", "ruder", "gatys", "mixed with previous"]


def panels(count: int, height: int, width: int) -> list[Tensor]:
    """Noise that never looks like paper or ink."""
    generator = torch.Generator().manual_seed(0)
    return [0.2 + 0.5 * torch.rand(1, 3, height, width, generator=generator) for _ in range(count)]


def corner(canvas: Tensor, picture: Tensor) -> tuple[int, int]:
    """Where a picture stands in a canvas, pixel by pixel."""
    height, width = picture.shape[-2:]
    for y, x in (canvas[0, 0] == picture[0, 0, 0, 0]).nonzero().tolist():
        if torch.equal(canvas[..., y : y + height, x : x + width], picture):
            return y, x
    raise AssertionError("the picture is not in the canvas")


@pytest.mark.parametrize(("height", "width"), [(17, 31), (1, 1), (144, 176), (61, 33)])
@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_panels_stand_whole_in_reading_order_under_their_labels(count: int, height: int, width: int) -> None:
    frames = panels(count, height, width)
    canvas = side_by_side(frames, LABELS[:count])
    assert canvas.shape[-2] % 2 == canvas.shape[-1] % 2 == 0
    assert canvas.min() >= 0
    assert canvas.max() <= 1
    corners = [corner(canvas, frame) for frame in frames]
    assert corners == sorted(corners)
    assert len({y for y, _ in corners}) == (1 if count <= 3 or height > width else 2)
    for (y, x), frame, label in zip(corners, frames, LABELS, strict=False):
        bar = canvas[..., y - 16 : y, max(0, x - 70) : x + width + 70]
        assert bar.max() > 0.6, f"no text above {label}"
        assert not (bar == frame[0, 0, 0, 0]).any()


def test_the_size_is_the_same_for_every_frame_of_a_clip() -> None:
    first, second = (side_by_side([level * frame for frame in panels(3, 17, 31)], LABELS[:3]) for level in (1, 0))
    assert first.shape == second.shape


def test_text_grows_with_the_frame_and_stays_readable() -> None:
    def bar_height(height: int, width: int) -> int:
        return corner(side_by_side(panels(2, height, width), LABELS[:2]), panels(2, height, width)[0])[0]

    assert bar_height(17, 31) >= 12
    assert bar_height(240, 432) < bar_height(480, 854)


def test_wrong_panels_are_refused() -> None:
    frames = panels(2, 8, 8)
    with pytest.raises(ValueError, match="one label for each frame, got 2 frames and 3 labels"):
        side_by_side(frames, LABELS[:3])
    with pytest.raises(ValueError, match="frames of one shape"):
        side_by_side([frames[0], frames[1][..., :7]], LABELS[:2])
    with pytest.raises(ValueError, match="one label"):
        side_by_side([], [])


def test_a_contact_sheet_shows_rows_of_pictures_of_any_size_under_their_labels() -> None:
    small, large = panels(2, 20, 31)[0], panels(3, 40, 25)[2]
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
    picture = panels(1, 8, 8)[0].requires_grad_()
    assert not contact_sheet([[picture]], ["a"]).requires_grad
    assert not contact_sheet([[picture]], [""]).requires_grad
    assert not side_by_side([picture, picture], ["a", "b"]).requires_grad


@pytest.mark.parametrize("height", [9, 12, 31])
def test_text_is_white_on_black_and_as_high_as_asked(height: int) -> None:
    mask = text_mask("independent", height)
    assert mask.shape[:3] == (1, 1, height)
    assert mask.min() == 0
    assert mask.max() > 0.8
    assert text_mask("independent, twice", height).shape[-1] > mask.shape[-1] > 3 * height


def test_letters_differ_and_none_is_cut_off() -> None:
    assert not torch.equal(text_mask("a", 16), text_mask("o", 16))
    for letters in ("gjpqy", "ÄÉÔ", "|"):
        mask = text_mask(letters, 32)
        assert mask[..., -1, :].max() < 0.5
        assert mask[..., 0, :].max() < 0.5
    assert text_mask("", 12).max() == 0
    with pytest.raises(ValueError, match="at least 4 pixels"):
        text_mask("a", 3)


def test_the_background_is_dark() -> None:
    assert contact_sheet([panels(1, 9, 9)], [""])[0, :, -1, -1].tolist() == pytest.approx([PAPER] * 3)
