"""Distorted patches by known answers, what is measured of them, and the command."""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from scipy.ndimage import gaussian_filter
from skimage.filters import unsharp_mask
from torch import Tensor

from nststab.cli import group
from nststab.datasets.folders import DavisSequence
from nststab.errors import SettingError
from nststab.experiments import figure6
from nststab.experiments.figure6 import (
    Pairs,
    Region,
    clear_corners,
    distorted,
    draw_regions,
    measure,
    patch_size,
    row,
)
from nststab.experiments.settings import DistortionSettings
from tests.conftest import done, on_pictures, save_davis, save_networks, save_vgg

pytestmark = pytest.mark.usefixtures("unrendered")

SIZE = 32
REGION = Region("swan", 0, 9, 11)


def noise(height: int = 64, width: int = 96, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def unchanged(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    return iter(frames)


def mixing(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """Remembers: every result is the mean of the frame and the result before."""
    previous = None
    for frame in frames:
        previous = frame if previous is None else (frame + previous) / 2
        yield previous


def noisy(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """Adds other noise to every frame."""
    for frame in frames:
        yield (frame + 0.3 * torch.randn(frame.shape)).clamp(0, 1)


def losses(stylized: Tensor, content: Tensor) -> dict[str, float]:
    return {"style": float(stylized.mean()), "content": float((stylized - content).square().mean())}


def measured(stylizer: Any, name: str, strength: float, follows: bool = False) -> dict[str, Any]:
    frame = noise()
    content, patch = (distorted(name, frame, REGION, SIZE, value) for value in (0, strength))
    shift = round(strength) if name == "translation" else None
    return measure(content, patch, Pairs(on_pictures(stylizer), content, follows), losses, shift)


# distortions


def test_a_translated_patch_shows_what_lies_beside_it() -> None:
    frame = noise()
    for shift in (0, 1, 19):
        patch = distorted("translation", frame, REGION, SIZE, shift)
        assert torch.equal(patch, frame[..., 9:41, 11 + shift : 43 + shift])


@pytest.mark.parametrize("name", figure6.DISTORTIONS)
def test_strength_0_changes_nothing(name: str) -> None:
    frame = noise()
    assert torch.equal(distorted(name, frame, REGION, SIZE, 0), frame[..., 9:41, 11:43])


@pytest.mark.parametrize("region", [REGION, Region("swan", 0, 0, 0), Region("swan", 0, 32, 64)])
@pytest.mark.parametrize("sigma", [0.5, 1.5, 5.0])
def test_a_blurred_patch_is_cut_from_the_blurred_frame(region: Region, sigma: float) -> None:
    frame = noise()
    whole = torch.from_numpy(gaussian_filter(frame.numpy(), (0, 0, sigma, sigma), mode="nearest"))
    expected = whole[..., region.top : region.top + SIZE, region.left : region.left + SIZE]
    torch.testing.assert_close(distorted("blur", frame, region, SIZE, sigma), expected)


def test_sharpening_is_scikit_images() -> None:
    frame = noise()
    expected = unsharp_mask(frame[0].numpy(), 1.0, 1.5, channel_axis=0)  # type: ignore[no-untyped-call]
    patch = distorted("sharpening", frame, REGION, SIZE, 1.5)[0].numpy()
    assert np.allclose(patch, expected[:, 9:41, 11:43], atol=1e-5)


# regions


def test_clear_corners_are_those_of_a_search() -> None:
    mask = torch.rand(1, 1, 13, 17, generator=torch.Generator().manual_seed(1)) > 0.97
    expected = [
        [y, x] for y in range(13 - 4 + 1) for x in range(17 - 6 + 1) if not mask[0, 0, y : y + 4, x : x + 6].any()
    ]
    assert clear_corners(mask, 4, 6).tolist() == expected
    assert len(clear_corners(mask, 14, 6)) == len(clear_corners(mask, 4, 18)) == 0


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """Two sequences of four frames, 80x64; foreground in the left of one; a third that is all foreground."""
    for number, (name, columns) in enumerate((("camel", 0), ("swan", 20), ("whale", 80))):
        foreground = torch.zeros(1, 3, 64, 80)
        foreground[..., :columns] = 1
        frames = [noise(64, 80, 10 * number + index) for index in range(4)]
        save_davis(tmp_path / "DAVIS", name, frames, foreground)
    return tmp_path / "DAVIS"


def sequences(davis: Path, *names: str) -> list[DavisSequence]:
    return [DavisSequence(davis, name, 80) for name in names]


def test_regions_keep_off_the_foreground_wherever_they_are_moved(davis: Path) -> None:
    chosen = sequences(davis, "camel", "swan", "whale")
    found = draw_regions(chosen, DistortionSettings(patches=9, limit=2), SIZE)
    assert len(found) == 9
    assert {region.sequence for region in found} == {"camel", "swan"}
    assert [region.sequence for region in found[::2]].count(found[0].sequence) == 5  # in turn
    for region in found:
        assert region.frame < 2
        assert region.top + SIZE <= 64
        assert (20 if region.sequence == "swan" else 0) <= region.left <= 80 - SIZE - 19
    assert draw_regions(chosen, DistortionSettings(patches=9, limit=2), SIZE) == found
    assert draw_regions(chosen, DistortionSettings(patches=9, seed=1, limit=2), SIZE) != found


def test_no_room_is_named(davis: Path) -> None:
    with pytest.raises(ValueError, match="expected 51x32 pixels without foreground, found none in the frames of whale"):
        draw_regions(sequences(davis, "whale"), DistortionSettings(), SIZE)


def test_the_patch_scales_with_the_frames() -> None:
    assert [patch_size(side) for side in (854, 427, 16)] == [256, 128, 32]


def test_one_frame_of_a_sequence_is_that_of_all(davis: Path) -> None:
    (swan,) = sequences(davis, "swan")
    assert all(torch.equal(swan.frame(index), frame) for index, frame in enumerate(swan.frames()))
    assert all(torch.equal(swan.mask(index), mask) for index, mask in enumerate(swan.masks()))


# what is measured


@pytest.mark.parametrize(("name", "strength"), [("translation", 7), ("blur", 2), ("sharpening", 3)])
def test_who_does_nothing_changes_as_the_input_and_its_loss_shows_it(name: str, strength: float) -> None:
    found = measured(unchanged, name, strength)
    assert found["ssim_stylized"] == found["ssim_content"] < 0.99
    assert found["ssim_aligned"] == (pytest.approx(1) if name == "translation" else None)
    assert found["content_loss"] == 0


def test_who_sticks_to_the_previous_frame_is_caught_by_alignment() -> None:
    """It raises the paper's SSIM of a shifted patch, though its result does not move with the input."""
    honest, sticky = (measured(one, "translation", 8, follows=True) for one in (unchanged, mixing))
    assert sticky["ssim_stylized"] > honest["ssim_stylized"] + 0.2
    assert sticky["ssim_aligned"] < honest["ssim_aligned"] - 0.2


def test_only_who_remembers_sees_both_in_a_clip() -> None:
    calls: list[int] = []

    def counting(frames: Iterable[Tensor]) -> Iterator[Tensor]:
        given = list(frames)
        calls.append(len(given))
        return mixing(given)

    content, patch = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)
    together, apart = (
        Pairs(on_pictures(counting), content, follows=True),
        Pairs(on_pictures(counting), content, follows=False),
    )
    assert [float(frame.mean()) for frame in together(patch)] == [0, 0.5]
    assert [float(frame.mean()) for frame in apart(patch)] == [0, 1]
    apart(patch)
    assert calls == [2, 1, 1, 1]  # f(c) by itself only once


def test_a_row_is_the_mean_over_regions_then_sequences() -> None:
    rest = {"ssim_content": 0.9, "ssim_aligned": None, "style_loss": 2, "content_loss": 4}
    parts = [
        {"sequence": sequence, "ssim_stylized": value, **rest}
        for sequence, value in (("swan", 0.1), ("camel", 0.4), ("swan", 0.3), ("dog", 0.6))
    ]
    made = row("wave", "recurrent", "blur", 0.5, True, parts)
    assert (made["ssim_content"], made["n"], made["d_follows_c"]) == (pytest.approx(0.9), 4, True)
    assert made["ssim_stylized"] == pytest.approx(0.4)
    assert made["ssim_stylized_interval"] == pytest.approx([0.2, 0.6])
    assert made["ssim_aligned"] is None
    assert math.isnan(row("wave", "recurrent", "blur", 0.5, True, parts[:1])["ssim_stylized_interval"][0])


# the command


def test_each_distortion_has_a_strength_above_zero() -> None:
    for name in figure6.DISTORTIONS:
        for strengths in ((), (0,)):
            with pytest.raises(SettingError, match=f"{name}: expected a strength above 0"):
                DistortionSettings().changed(**{name: strengths})


def call(*arguments: object) -> Result:
    return CliRunner().invoke(group, ["evaluate", "distortions", "--precision", "float32", *map(str, arguments)])


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two strengths of each distortion."""
    monkeypatch.setattr(
        DistortionSettings, "steps", lambda _: [(name, value) for name in figure6.DISTORTIONS for value in (0, 2)]
    )


@pytest.mark.usefixtures("few")
def test_the_command_measures_every_distortion(tmp_path: Path, davis: Path) -> None:
    few = ("--size", 80, "--patches", 2, "--sequences", "camel,swan", "--styles", tmp_path / "tiny")
    save_networks(tmp_path / "tiny", torch.rand(1, 3, 32, 32))
    whole = done(call("--davis", davis, *few, "--vgg-weights", save_vgg(tmp_path), "-o", tmp_path / "whole"))
    assert "38 frames of 32x32 to stylize" in whole.stderr  # 2 regions: 6 and f(c) apart, 6 twice in clips
    rows = json.loads((tmp_path / "whole" / "results.json").read_text())["rows"]
    assert {row["method"]: row["d_follows_c"] for row in rows} == {
        "input": False,
        "independent": False,
        "recurrent": True,
    }
    own = {(row["method"], row["distortion"], row["strength"]): row for row in rows}
    assert len(own) == len(rows) == 18
    assert own["independent", "blur", 0]["ssim_stylized"] == pytest.approx(1)
    assert own["recurrent", "blur", 0]["ssim_stylized"] == own["recurrent", "translation", 0]["ssim_stylized"] < 1
    assert own["input", "blur", 2]["content_loss"] == 0 < own["recurrent", "blur", 2]["content_loss"]
    assert own["input", "blur", 2]["style_loss"] != own["recurrent", "blur", 2]["style_loss"]
    assert "For recurrent d(c) follows c in a clip of two frames." in whole.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--sequences whale", "without foreground, found none in the frames of whale"),
        ("--sequences goose", "goose"),
        ("--sequences camel --size 50", "expected 51x32 pixels"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, davis: Path, arguments: str, message: str) -> None:
    result = call("--davis", davis, "--size", 80, *arguments.split(), "-o", tmp_path / "out")
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
