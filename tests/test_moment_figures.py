"""Figures 7, 8 and 9 of the paper, of clips whose moments are known."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from nststab.cli import group
from nststab.errors import NststabError, SettingError
from nststab.experiments.moment_figures import paper_figure
from tests.conftest import save_frames

HEIGHT, WIDTH = 64, 96


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Path, Path]:
    """A red square passes in front of a scene that stands still; and the same, darker and with noise."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 17, 25, generator=generator) * torch.tensor([0.0, 0.6, 0.9]).view(1, 3, 1, 1)
    behind = F.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear")
    frames = [behind.clone() for _ in range(14)]
    for t, frame in enumerate(frames):
        frame[..., 24:40, max(0, 6 * t) : 6 * t + 16] = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    noise = [0.05 * torch.randn(frame.shape, generator=generator) for frame in frames]
    made = [0.8 * frame + own for frame, own in zip(frames, noise, strict=True)]
    return save_frames(tmp_path / "film", frames), save_frames(tmp_path / "made", made)


@pytest.mark.parametrize("number", [7, 9])
def test_a_figure_is_drawn_as_png_and_svg(clips: tuple[Path, Path], tmp_path: Path, number: int) -> None:
    film, made = clips
    files = paper_figure(number, film, [made], tmp_path / "figure", names=["mine"])
    assert [file.name for file in files] == ["figure.png", "figure.svg"]
    svg = files[1].read_text()
    assert ">mine<" in svg
    assert ">input<" in svg
    assert ("levels<" in svg, " dB<" in svg) == (number == 7, number == 9)


def test_no_such_moment_and_no_such_figure_are_said(clips: tuple[Path, Path], tmp_path: Path) -> None:
    film, made = clips
    still = save_frames(tmp_path / "still", [torch.full((1, 3, HEIGHT, WIDTH), 0.5)] * 3)
    with pytest.raises(NststabError, match="trusted and wrong, found none: no Figure 8 of these clips"):
        paper_figure(8, still, [still], tmp_path / "figure")
    with pytest.raises(SettingError, match="expected one of 7, 8, 9, got 6"):
        paper_figure(6, film, [made], tmp_path / "figure")
    with pytest.raises(SettingError, match="one for each of 1 clips, got 2"):
        paper_figure(9, film, [made], tmp_path / "figure", names=["a", "b"])


def test_the_command(clips: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert clips
    done = CliRunner().invoke(group, ["figure", "9", "film", "made", "-o", "out", "--names", "mine"])
    assert (done.exit_code, done.stderr) == (0, "out.png out.svg\n")
    refused = CliRunner().invoke(group, ["figure", "9", "film", "made", "-o", "out"])
    assert refused.exit_code == 2
    assert "out.png" in refused.stderr
