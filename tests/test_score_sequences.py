"""Folders of sequences: a row for each, and means in which each counts the same."""

import csv
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from nststab.errors import NststabError, SettingError
from nststab.measure.settings import ScoreSettings
from nststab.tasks.score import SequenceScores, score_sequences
from nststab.video.picture_files import sequence_clip, sequences
from tests.conftest import cli, done, save_frames, tiny_state_dict

NAMES = ("bear", "camel", "dog")


@pytest.fixture
def davis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three sequences, and what was made of two and of all of them."""
    monkeypatch.chdir(tmp_path)
    save_file(tiny_state_dict(), "vgg.safetensors")
    generator = torch.Generator().manual_seed(0)
    for place, name in enumerate(NAMES):
        scene = F.interpolate(torch.rand(1, 3, 8, 14, generator=generator), (24, 40), mode="bicubic").clamp(0, 1)
        frames = [scene[..., t : t + 32] for t in range(4 + place)]
        save_frames(tmp_path / "davis" / name, frames)
        for method, sigma in (("mine", 0.02 * (place + 1)), ("theirs", 0.1)):
            noise = [sigma * torch.randn(frame.shape, generator=generator) for frame in frames]
            save_frames(
                tmp_path / method / name, [(0.5 * a + 0.25 + b).clamp(0, 1) for a, b in zip(frames, noise, strict=True)]
            )
        (tmp_path / "mine" / f"{name}.json").write_text("{}")  # a record beside a clip is none
    return tmp_path


def scores(davis: Path, *stylized: str) -> SequenceScores:
    settings = ScoreSettings(gaps=(1,), vgg_weights=davis / "vgg.safetensors")
    return score_sequences(davis / "davis", stylized, settings=settings)


def test_means_are_of_sequences_not_of_frames(davis: Path) -> None:
    found = scores(davis, "mine", "theirs")
    assert list(found.sequences) == list(NAMES)
    own = [one.clips[0].score for one in found.sequences.values()]
    mean = found.clips[0].score
    assert mean.stability.ssim == pytest.approx(sum(one.stability.ssim for one in own) / 3)
    assert mean.warp_errors[1] == pytest.approx(sum(one.warp_errors[1] for one in own) / 3)
    expected = sum(one.measures["lai2018.warping_error"] for one in own) / 3
    assert mean.measures["lai2018.warping_error"] == pytest.approx(expected)
    assert len({max(one.slopes._asdict(), key=lambda name: abs(getattr(one.slopes, name))) for one in own}) > 1
    assert mean.as_row()["drift"] == pytest.approx(sum(one.drift for one in own) / 3)  # not the largest mean slope
    interval = found.mean.interval(mean)
    lowest, highest = sorted(one.stability.ssim for one in own)[::2]
    assert lowest <= interval.low < mean.stability.ssim < interval.high <= highest
    (difference,) = found.mean.differences.values()
    assert difference.p == 2 / 2**3  # three sequences cannot prove more
    assert [row[0] for row in found.figures.rows][3:6] == [f"mine: {name}" for name in NAMES]


def test_of_two_sequences_no_interval_is_given(davis: Path) -> None:
    for folder in ("mine", "theirs"):
        (davis / folder / "dog").rename(davis / folder / "elsewhere")
        for file in (davis / folder).glob("dog.*"):
            file.unlink()
    text = scores(davis, "mine", "theirs").table()
    assert text.startswith("Means of 2 sequences, of two no interval is given\n")
    assert "[" not in text.split("By sequence")[0]


def test_a_sequence_that_one_folder_lacks_is_named(davis: Path) -> None:
    (davis / "theirs" / "camel").rename(davis / "theirs" / "elsewhere")
    with pytest.raises(NststabError, match="theirs: expected the same sequences as in mine, camel differs"):
        scores(davis, "mine", "theirs")
    with pytest.raises(
        NststabError, match=r"empty: expected clips of the sequences of .*davis, such as bear, found none"
    ):
        scores(davis, "empty")
    with pytest.raises(SettingError, match="a report is of one clip"):
        score_sequences(davis / "davis", ["mine"], html="a.html")


def test_a_sequence_is_a_folder_of_pictures_or_a_video_by_its_name(davis: Path) -> None:
    assert sequences(davis / "davis") == list(NAMES)
    assert sequences(davis / "davis/bear") == sequences(davis / "nowhere") == []
    for name in ("dog.json", "fox.mp4", "cat.avi", "cat.mkv", ".hidden.mp4"):
        (davis / "mine" / name).touch()
    (davis / "mine/dog.unfinished").mkdir()
    assert sequences(davis / "mine") == ["bear", "camel", "cat", "dog", "fox"]
    assert sequence_clip(davis / "mine", "dog") == davis / "mine/dog"
    assert sequence_clip(davis / "mine", "fox") == davis / "mine/fox.mp4"
    assert sequence_clip(davis / "mine", "cow") is None
    with pytest.raises(NststabError, match=r"expected one clip of the sequence cat, got .*cat\.avi and .*cat\.mkv"):
        sequence_clip(davis / "mine", "cat")


@pytest.mark.usefixtures("davis")
def test_the_command_takes_folders_of_sequences() -> None:
    line = "score davis mine theirs --gaps 1 --vgg-weights vgg.safetensors --json out.json --csv out.csv --latex t.tex"
    result = done(cli(line))
    assert "theirs: camel" in result.stdout
    content = json.loads(Path("out.json").read_text())
    assert list(content["sequences"]) == list(NAMES)
    assert content["mean"]["clips"][0]["path"] == "mine"
    assert content["settings_line"].endswith("3 sequences: bear, camel, dog")
    rows = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
    assert [row["sequence"] for row in rows if row["clip"] == "mine"] == [*NAMES, "mean"]
    assert "mine" in Path("t.tex").read_text()
