"""Small parts of a report: frames on disk, the times of a clip's beginning, sentences."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch

from nststab.measure.intervals import Difference, Interval
from nststab.measure.verdict import Standing, findings, ranks
from nststab.report.colors import SERIES, series_of
from nststab.report.recorder import StoredFrames, shown_times
from nststab.video.clip import convert_clip, open_clip
from tests.conftest import save_frames


def test_stored_frames_come_back_in_any_order_to_8_bits(tmp_path: Path, generator: torch.Generator) -> None:
    frames = [torch.rand(1, 3, 5, 7, generator=generator) for _ in range(4)]
    stored = StoredFrames(tmp_path / "frames")
    for frame in frames:
        stored.append(frame)
    assert len(stored) == 4
    for number in (2, 0, 3, 1, -1):
        torch.testing.assert_close(stored[number], (frames[number] * 255).round() / 255, rtol=0, atol=1e-7)
    assert len(stored[1:3]) == 2
    with pytest.raises(IndexError):
        stored[4]
    with pytest.raises(ValueError, match=r"expected frames of shape \(5, 7, 3\)"):
        stored.append(torch.zeros(1, 3, 5, 8))


@pytest.fixture
def film(tmp_path: Path, generator: torch.Generator) -> Path:
    """Twelve frames at 10 per second."""
    folder = save_frames(tmp_path / "pictures", torch.rand(12, 3, 16, 16, generator=generator))
    convert_clip(open_clip(folder, fps=10), tmp_path / "film.mp4", lambda frames: frames)
    return tmp_path / "film.mp4"


def test_times_are_those_of_the_file(film: Path) -> None:
    tenth = Fraction(1, 10)
    assert shown_times(open_clip(film), Fraction(5)) == [(number * tenth, tenth) for number in range(12)]
    assert len(shown_times(open_clip(film), Fraction(1, 2))) == 5
    assert len(shown_times(open_clip(film), Fraction(1, 100))) == 1
    assert len(shown_times(open_clip(film), Fraction(5), limit=3)) == 3
    assert shown_times(open_clip(film, start=0.5), Fraction(1, 5)) == [(0 * tenth, tenth), (1 * tenth, tenth)]


def test_pictures_have_the_times_of_their_rate(film: Path) -> None:
    pictures = film.parent / "pictures"
    assert shown_times(open_clip(pictures), Fraction(1, 10)) == [(Fraction(n, 25), Fraction(1, 25)) for n in range(3)]
    assert len(shown_times(open_clip(pictures, fps=4), Fraction(60))) == 12


def row(psnr: float, ssim: float, style: float | None = None, content: float = 1.0) -> dict[str, float | None]:
    return {"psnr": psnr, "ssim": ssim, "style_loss": style, "content_loss": content}


def test_the_steadiest_is_named_first_with_what_it_gains_and_costs() -> None:
    said = findings(row(30, 0.9, 4), {"a": row(20, 0.5, 0.4), "b": row(23.2, 0.625, 0.38), "c": row(22, 0.6, 0.8)})
    assert said == [
        "b is the steadiest: +0.025 SSIM, +1.2 dB PSNR, -52% style loss against c.",
        "b against a: +0.125 SSIM, +3.2 dB PSNR, -5% style loss.",
        "Corresponding patches of adjacent frames have an SSIM of 0.625 and 23.2 dB PSNR in b, and an SSIM of 0.900 "
        "and 30.0 dB PSNR in the input itself.",
    ]


def test_steadiness_that_style_pays_for_gets_no_verdict() -> None:
    clips = {"honest": row(20, 0.5, 0.4), "blurred": row(24, 0.7, 1.4), "posterised": row(29, 0.88, 3.76)}
    said = findings(row(30, 0.9, 4), clips)
    assert said[0] == (
        "None is the steadiest: blurred has the highest SSIM, but pays for it with style: +0.200 SSIM, +4.0 dB PSNR, "
        "+250% style loss against honest."
    )
    assert said[1] == "posterised is hardly in the style: it keeps 94% of the input's style loss, and has no rank."
    assert ranks([Standing(one["ssim"] or 0, one["style_loss"] or 0) for one in clips.values()], 4) == [1, 1, None]


def test_a_difference_that_frames_do_not_bear_out_is_no_verdict() -> None:
    clips = {"a": row(20, 0.5, 0.4), "b": row(20.1, 0.501, 0.4)}
    unsure = Difference(0.001, Interval(-0.02, 0.03), 0.4)
    said = findings(row(30, 0.9, 4), clips, {("a", "b"): unsure})
    assert said[0].startswith("b and a differ by no more than chance would: +0.001 SSIM")
    none = Difference(0.001, Interval(float("nan"), float("nan")), 1)
    said = findings(row(30, 0.9, 4), clips, {("a", "b"): none})
    assert said[0].startswith("There is too little to tell which is steadier: +0.001 SSIM")
    sure = Difference(-0.001, Interval(-0.002, -0.0005), 0.01)
    assert findings(row(30, 0.9, 4), clips, {("a", "b"): sure})[0].startswith("b is the steadiest")


def test_one_clip_is_set_beside_its_input() -> None:
    (said,) = findings(row(30, 0.9, 4), {"a": row(20, 0.5, 1)})
    assert said.startswith("Corresponding patches of adjacent frames have an SSIM of 0.500 and 20.0 dB PSNR in a")


def test_which_is_steadier_is_not_said_without_style() -> None:
    said = findings(row(30, 0.9), {"a": row(20, 0.5), "b": row(21, 0.6)})
    assert said[0].startswith("b has the highest SSIM, +0.100 SSIM, +1.0 dB PSNR against a. Which is steadier is not")
    assert not any("steadiest" in one for one in said)


def test_a_copy_is_exposed() -> None:
    for loss in (0.01, 0.0):
        said = findings(row(30, 0.9), {"copy": row(30, 0.9, content=loss)})
        assert said[-1] == f"copy is hardly more than the input (content loss {loss:.3f}): its steadiness says little."


def test_a_method_has_its_colour_whatever_stands_beside_it() -> None:
    assert series_of(["input", "ruder", "recurrent"]) == [0, 3, 1]
    assert series_of(["input", "mine.mp4", "recurrent", "theirs.mp4"]) == [0, 2, 1, 3]
    assert series_of(["input", "dog-Independent.mp4", "dog-recurrent.mp4"]) == [0, 2, 1]
    assert series_of(["input", "a_ruder", "b_ruder", "ruder_and_gatys"]) == [0, 3, 1, 2]
    with pytest.raises(ValueError, match="at most 7 clips"):
        series_of(list(map(str, range(len(SERIES) + 1))))
