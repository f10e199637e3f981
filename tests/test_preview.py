"""One frame in several styles and strokes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import nststab
from nststab.cli import group
from nststab.errors import SettingError
from nststab.frames import Stylizer
from nststab.methods.build import build
from nststab.methods.settings import OptimizationSettings
from nststab.tasks import preview as task
from nststab.tasks.settings import StylizeSettings
from nststab.video.images import read_opaque, write_picture
from tests.conftest import rand, save_frames


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return save_frames(tmp_path / "clip", [rand(1, 3, 40, 64, seed=number) for number in range(3)], "{}.png")


@pytest.fixture
def painting(tmp_path: Path) -> Path:
    write_picture(tmp_path / "painting.jpg", torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(9)))
    return tmp_path / "painting.jpg"


def test_each_style_is_a_row_with_a_panel_for_each_size(
    clip: Path, painting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "_STAND_IN", OptimizationSettings(iterations=(1,)))
    page = tmp_path / "page.html"
    made = nststab.preview(
        clip, tmp_path / "sheet.png", styles=["mosaic", painting], at=0.09, work_sizes=(32, "full"), html=page
    )
    assert torch.equal(made.rgb, read_opaque(clip / "2.png"))  # of 25 pictures a second the one from 0.08 on
    assert [[panel.work_side for panel in row] for row in made.rows] == [[32, 64]] * 2
    assert [[panel.is_stand_in for panel in row] for row in made.rows] == [[False] * 2, [True] * 2]
    assert {panel.rgb.shape for row in made.rows for panel in row} == {(1, 3, 40, 64)}
    trained, stand_in = made.rows[0][0], made.rows[1][0]
    assert "a frame, clip" in trained.told(3)
    assert stand_in.told(3) == "painting, 32 px: stand-in, untrained"
    sheet = read_opaque(tmp_path / "sheet.png")
    assert sheet.shape[-1] >= 3 * 64
    text = page.read_text()
    assert text.count("data:image/jpeg") == 5
    assert text.count("mosaic, 32 px") == 1


def test_a_stand_in_is_drawn_once_for_all_strengths_and_styles_are_told_apart(
    clip: Path, painting: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[str] = []

    def noted(method: str, *rest: Any, **more: Any) -> Stylizer:
        drawn.append(method)
        return build(method, *rest, **more)

    monkeypatch.setattr(task, "build", noted)
    monkeypatch.setattr(task, "_STAND_IN", OptimizationSettings(iterations=(1,)))
    styles = ["mosaic", "light/mosaic"]
    made = nststab.preview(clip, tmp_path / "sheet.png", styles=styles, work_sizes=(32,))
    assert [row[0].style for row in made.rows] == styles
    drawn.clear()
    made = nststab.preview(
        clip, tmp_path / "more.png", styles=[painting, "light/udnie"], work_sizes=(32,), strengths=(0.5, 1)
    )
    assert drawn == ["gatys", "recurrent", "recurrent"]
    assert [[panel.strength for panel in row] for row in made.rows] == [[1, 1], [0.5, 1]]


def test_the_middle_of_a_clip_is_shown_and_a_picture_has_one_frame(clip: Path, tmp_path: Path) -> None:
    made = nststab.preview(clip, tmp_path / "sheet.png", styles=["mosaic"], work_sizes=(32,))
    assert torch.equal(made.rgb, read_opaque(clip / "1.png"))
    with pytest.raises(SettingError, match=r"at: .*0.png is a picture, which has one frame"):
        nststab.preview(clip / "0.png", tmp_path / "one.png", styles=["mosaic"], at=1)


def test_times_that_are_none_are_refused(clip: Path, tmp_path: Path) -> None:
    for value in (float("nan"), float("inf"), "0:01", True):
        given: dict[str, Any] = {"style": "mosaic", "start": value}
        with pytest.raises(SettingError, match="start: expected a number, got"):
            nststab.stylize(clip, tmp_path / "out.mp4", **given)
        with pytest.raises(SettingError, match="start: expected a number, got"):
            nststab.preview(clip, tmp_path / "sheet.png", styles=["mosaic"], at=value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [StylizeSettings(work_size=32), StylizeSettings(mask_styles=("mosaic=a.png",)), StylizeSettings(memory=2**30)],
)
def test_a_setting_without_an_effect_is_refused(clip: Path, tmp_path: Path, settings: StylizeSettings) -> None:
    (name,) = (one.name for one in settings.given())
    with pytest.raises(SettingError, match=f"{name} has no effect on preview"):
        nststab.preview(clip, tmp_path / "sheet.png", styles=["mosaic"], settings=settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("clip -o out.txt --styles mosaic", "out.txt: expected a picture"),
        ("clip --styles mosaic", "-o: expected a picture for the sheet, or html"),
        ("clip -o out.png --styles mosaik", "did you mean mosaic"),
        ("clip -o out.png --styles mosaic --work-sizes big", "expected the longest side in pixels, got 'big'"),
        ("clip -o no/out.png --styles mosaic", "no: the folder to write to does not exist"),
        ("clip -o clip --styles mosaic", "clip"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    clip: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, message: str
) -> None:
    monkeypatch.chdir(clip.parent)
    result = CliRunner().invoke(group, ["preview", *arguments.split()])
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
