"""How a result changes with a picture that moves: movements by known answers, and stylizers whose change is known."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nststab
from nststab.errors import NststabError
from nststab.experiments.movement import changes, move
from nststab.experiments.settings import ShiftSettings
from tests.conftest import on_pictures, save_davis, texture

pytestmark = pytest.mark.usefixtures("unrendered")

STEPS = [("pan", float(pixels)) for pixels in (1, 2, 3, 4)]


def smooth(height: int = 80, width: int = 96) -> Tensor:
    return texture(height, width, cells=(height // 8, width // 8))


def losses(stylized: Tensor, content: Tensor) -> dict[str, float]:
    return {"style": float(stylized.mean()), "content": float((stylized - content).square().mean())}


def measured(stylizer: object, steps: list[tuple[str, float]], follows: bool = False) -> list[float]:
    found: list[float] = changes(smooth(), steps, on_pictures(stylizer), follows, losses)["changes"]  # type: ignore[arg-type]
    return found


def test_a_pan_by_whole_pixels_is_exact_and_shows_what_lies_to_the_right() -> None:
    picture = smooth()
    assert torch.equal(move(picture, "pan", 3)[..., :-3], picture[..., 3:])
    assert torch.equal(move(move(picture, "pan", 3), "pan", -3)[..., 3:], picture[..., 3:])


@pytest.mark.parametrize(("movement", "strength"), [("pan", 0.5), ("zoom", 0.03), ("turn", 2.0)])
def test_a_movement_and_its_inverse_give_the_picture_back(movement: str, strength: float) -> None:
    picture = smooth()
    moved = move(picture, movement, strength)
    assert float((moved - picture).abs().mean()) > 0.005
    inner = (..., slice(16, -16), slice(16, -16))
    torch.testing.assert_close(move(moved, movement, -strength)[inner], picture[inner], atol=0.02, rtol=0)


def test_half_a_pixel_lies_between_two() -> None:
    ramp = torch.linspace(0, 1, 33).expand(1, 3, 8, 33)
    torch.testing.assert_close(move(ramp, "pan", 0.5)[..., 4:-4], ramp[..., 4:-4] + 0.5 / 32)


def test_a_stylizer_of_single_pixels_does_not_change_with_a_pan() -> None:
    assert measured(lambda frames: (1 - frame for frame in frames), STEPS) == [0, 0, 0, 0]


def test_a_grid_of_four_pixels_is_found() -> None:
    """A pattern that stays where the frame is: moved back, it differs unless the shift is a multiple of its period."""
    stripes = (torch.arange(96) % 4 == 0).float() * 0.4

    def stylizer(frames: object) -> object:
        return ((0.5 * frame + stripes) for frame in frames)  # type: ignore[attr-defined]

    # a quarter of the columns gains a stripe and a quarter loses one, more or less with the columns that are inside
    assert measured(stylizer, STEPS) == pytest.approx([0.5 * 0.4 * 255] * 3 + [0], rel=0.04, abs=1e-4)


def test_who_remembers_is_shown_the_still_first() -> None:
    def second_only(frames: object) -> object:
        for number, frame in enumerate(frames):  # type: ignore[arg-type, var-annotated]
            yield frame if number else torch.zeros_like(frame)

    still = 255 * float(move(smooth(), "pan", 1)[..., 17:-17, 17:-17].mean())
    (change,) = measured(second_only, [("pan", 1.0)], follows=True)
    assert change == pytest.approx(still, rel=0.02)


def test_a_frame_without_an_inside_is_refused() -> None:
    with pytest.raises(NststabError, match="frames of 40x30 pixels are too small for a pan of 1"):
        changes(smooth(80, 96)[..., :30, :40], [("pan", 1.0)], on_pictures(iter), False, losses)


@pytest.mark.usefixtures("averaging_vgg")
def test_the_experiment_writes_the_rows_of_own_methods(tmp_path: Path) -> None:
    for name, seed in (("bear", 0), ("camel", 1)):
        save_davis(tmp_path / "DAVIS", name, [smooth(72, 96).roll(seed * 9, -1)])
    blurred = on_pictures(lambda frames: (F.avg_pool2d(frame, 5, 1, 2) for frame in frames))
    results = nststab.experiments.shift(
        tmp_path / "DAVIS",
        tmp_path / "out",
        styles=["the_great_wave"],
        methods=(),
        stylizers={"blur": blurred},
        settings=ShiftSettings(size=96, pans=(1, 4), zooms=(0.01,), turns=()),
    )
    rows = {(row["method"], row["movement"], row["strength"]): row for row in results.rows}
    assert set(rows) == {
        (method, *step) for method in ("input", "blur") for step in (("pan", 1), ("pan", 4), ("zoom", 0.01))
    }
    assert rows["input", "pan", 1]["change"] == 0
    assert rows["blur", "pan", 1]["change"] == pytest.approx(0, abs=1e-4)
    assert rows["blur", "pan", 1]["gradient"] < rows["input", "pan", 1]["gradient"]
    assert rows["blur", "pan", 1]["n"] == 2
    assert results.shown.columns == ("", "pan 1 px", "pan 4 px", "zoom 0.01", "gradient", "style loss")
    assert all((tmp_path / "out" / name).is_file() for name in ("results.json", "table.md", "figure.png"))
