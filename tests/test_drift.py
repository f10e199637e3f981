"""Drift, ghosts and cuts: known answers of stylizers that drift, leak or do nothing, and the command."""

import json
import math
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from matplotlib.figure import Figure
from torch import Tensor

from nststab.cli import group
from nststab.experiments.long_runs import draw, foreign, measure, noisy, parts, passing, row, slope_errors, table
from nststab.experiments.settings import DriftSettings
from nststab.metrics import DriftSlopes, drift_slopes
from nststab.video.images import write_picture
from tests.conftest import on_pictures, save_frames, save_networks, save_vgg

pytestmark = pytest.mark.usefixtures("unrendered")

SHORT = DriftSettings(frames=80, noise=0.01, limit=5)


def pictures(count: int = 5) -> list[Tensor]:
    """A bright spot that moves over a slope."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 40), indexing="ij")
    slope = torch.stack([0.2 + 0.5 * rows, 0.15 + 0.5 * columns, 0.7 - 0.4 * rows])
    spots = [torch.exp(-80 * ((rows - 0.5) ** 2 + (columns - 0.2 - 0.1 * step) ** 2)) for step in range(count)]
    return [(slope + 0.2 * spot)[None] for spot in spots]


def no_losses(stylized: Tensor, content: Tensor) -> Mapping[str, float]:
    return {"style": float(stylized.mean()), "content": float((stylized - content).square().mean())}


def identity(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    return iter(frames)


def leaky(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """Keeps 0.9 of what was there before."""
    mixed: Tensor | None = None
    for frame in frames:
        mixed = frame if mixed is None else 0.9 * mixed + 0.1 * frame
        yield mixed


def ramp(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """Adds 0.02, -0.05 and 0.01 levels in every frame."""
    step = torch.tensor([0.02, -0.05, 0.01]).view(1, 3, 1, 1) / 255
    for index, frame in enumerate(frames):
        yield frame + index * step


# slopes


def test_a_planted_ramp_is_found_with_its_slope() -> None:
    """Levels of 255 per frame, brightness as the luma of BT.709; the order and the sign of each are kept."""
    time = torch.arange(200.0)[:, None]
    means = 0.4 + time * torch.tensor([0.02, -0.05, 0.01]) / 255
    slopes = drift_slopes(means)
    assert slopes[1:] == pytest.approx((0.02, -0.05, 0.01), rel=1e-4)
    assert slopes.brightness == pytest.approx(0.2126 * 0.02 - 0.7152 * 0.05 + 0.0722 * 0.01, rel=1e-4)
    assert slopes.largest == -slopes.green


def test_no_slope_without_change_or_without_two_frames() -> None:
    assert drift_slopes(torch.full((9, 3), 0.3)) == DriftSlopes(0, 0, 0, 0)
    assert all(map(math.isnan, drift_slopes(torch.rand(1, 3))))
    assert math.isnan(drift_slopes(torch.rand(1, 3)).largest)
    with pytest.raises(ValueError, match=r"\(T, 3\), got \(5, 4\)"):
        drift_slopes(torch.rand(5, 4))


def test_the_slopes_error_is_their_spread() -> None:
    """Over many runs, also where frames depend on those before them, as those of a recurrent stylizer do."""
    noise = torch.randn(2000, 250 + 40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for memory, tolerance in ((0.0, 0.04), (0.7, 0.12)):
        series = [noise[:, 0]]
        for index in range(1, noise.shape[1]):
            series.append(memory * series[-1] + noise[:, index])
        runs = torch.stack(series[40:], 1) / 255
        found = torch.tensor([drift_slopes(run) for run in runs])
        errors = torch.tensor([slope_errors(run, 25) for run in runs])
        ratio = errors.square().mean(0).sqrt() / found.std(0)
        assert ratio.tolist() == pytest.approx([1] * 4, abs=tolerance)


def test_no_error_from_fewer_than_three_windows() -> None:
    assert all(map(math.isnan, slope_errors(torch.rand(29, 3), 10)))
    assert all(error > 0 for error in slope_errors(torch.rand(30, 3), 10))


# long runs


def test_the_settings_fit_the_length() -> None:
    long, short = DriftSettings(), DriftSettings(frames=80)
    assert (long.settled, long.window, long.looped, long.period) == (50, 25, 20, 38)
    assert (short.settled, short.window, short.looped, short.period) == (8, 18, 19, 36)
    with pytest.raises(ValueError, match="expected a loop of at most 19"):
        DriftSettings(frames=80, limit=20)
    with pytest.raises(ValueError, match="frames: expected at least 20"):
        DriftSettings(frames=19)


def test_the_noise_is_that_of_its_moment() -> None:
    frame = pictures()[0]
    assert torch.equal(noisy(frame, 3, SHORT), noisy(frame, 3, SHORT))
    assert not torch.equal(noisy(frame, 3, SHORT), noisy(frame, 4, SHORT))
    grey = torch.full((1, 3, 200, 200), 0.5)
    assert float((noisy(grey, 0, SHORT) - grey).std()) == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("part", ["still", "loop"])
def test_a_planted_ramp_is_drift_of_a_long_run(part: str) -> None:
    """Of the still within three standard errors of the noise, of the loop exactly, whose own motion is none."""
    found = measure(part, on_pictures(ramp), pictures(), SHORT, no_losses)
    tolerances = {name: 3 * error if part == "still" else 1e-4 for name, error in found["errors"].items()}
    planted = {"red": 0.02, "green": -0.05, "blue": 0.01}
    for name, slope in planted.items():
        assert found["slopes"][name] == pytest.approx(slope, abs=tolerances[name])
    assert found["drift"] == -found["slopes"]["green"]
    window = SHORT.window if part == "still" else SHORT.period
    distance = SHORT.frames - SHORT.settled - window  # between the first and the last window
    assert found["moved"] == pytest.approx(0.05 * distance, rel=1e-3 if part == "loop" else 0.05)
    if part == "loop":
        mean_step = (0.02 + 0.05 + 0.01) / 3
        assert found["accumulated"] == pytest.approx(mean_step * distance, rel=0.1)  # the loop's phase is the same
        first, last = found["style_loss"]  # the mean, by `no_losses`
        assert last - first == pytest.approx((0.02 - 0.05 + 0.01) / 3 / 255 * distance, rel=1e-3)


def test_a_stylizer_that_does_nothing_does_not_drift() -> None:
    still = measure("still", on_pictures(identity), pictures(), SHORT, no_losses)
    assert still["drift"] < 3 * still["drift_error"]
    assert still["change"] == pytest.approx(255 * 0.01 * 2 / math.sqrt(math.pi), rel=0.01)  # of normal noise
    assert still["accumulated"] == pytest.approx(still["change"] / math.sqrt(SHORT.window), rel=0.05)
    loop = measure("loop", on_pictures(identity), pictures(), SHORT, no_losses)
    assert loop["drift"] < 1e-5
    assert loop["moved"] < 1e-3
    assert loop["accumulated"] < 1e-3
    assert loop["change"] > 0.1  # the loop does move
    brightness = loop["means"]["brightness"]
    assert brightness[:8] == brightness[8:16]
    assert brightness[1:4] == brightness[5:8][::-1]  # forwards, then backwards


def test_changes_of_a_loop_s_own_light_are_no_drift() -> None:
    """Also where its rounds do not come out even with the frames."""
    lit = [picture * (0.6 + 0.1 * step) for step, picture in enumerate(pictures())]
    loop = measure("loop", on_pictures(identity), lit, DriftSettings(frames=83, limit=5), no_losses)
    assert max(loop["means"]["red"]) > min(loop["means"]["red"]) + 30
    assert loop["drift"] < 1e-5


def test_what_accumulates_in_places_is_seen() -> None:
    """A pattern whose mean stays as it was burns in: the means of whole frames do not show it."""

    def burning(frames: Iterable[Tensor]) -> Iterator[Tensor]:
        pattern = torch.ones(1, 3, 32, 40)
        pattern[..., ::2] = -1
        for index, frame in enumerate(frames):
            yield frame + index * pattern * 0.1 / 255

    found = measure("loop", on_pictures(burning), pictures(), SHORT, no_losses)
    assert found["moved"] < 1e-3
    assert found["accumulated"] == pytest.approx(0.1 * (80 - 8 - 8), rel=1e-3)
    assert found["accumulated_noise"] == pytest.approx(0.1 * 8, rel=1e-3)


def test_a_stylizer_that_loses_frames_is_refused() -> None:
    def short(frames: Iterable[Tensor]) -> Iterator[Tensor]:
        for index, frame in enumerate(frames):
            if index < 60:
                yield frame

    with pytest.raises(ValueError, match="expected 80 stylized frames, got 60"):
        measure("still", on_pictures(short), pictures(), SHORT, no_losses)


def test_memory_does_not_grow_with_the_frames() -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def watched(frames: Iterable[Tensor]) -> Iterator[Tensor]:
        nonlocal most
        for frame in frames:
            stylized = frame.clone()
            alive.update((frame, stylized))
            most = max(most, len(alive))
            yield stylized

    measure("still", on_pictures(watched), pictures(), SHORT, no_losses)
    assert most <= 6


# ghosts


def test_an_object_comes_stays_and_is_gone() -> None:
    still = pictures()[0]
    frames = list(passing(still))
    assert len(frames) * 2 == parts(SHORT)["ghost"][0]
    seen = [float((frame - still).abs().max()) > 0.05 for frame in frames]
    assert seen == [False] * 5 + [True] * 16 + [False] * 30
    shares = [float(((frame - still).abs().amax(1) > 0.01).float().mean()) for frame in frames[5:21]]
    assert shares[0] < shares[5] == shares[15]  # it comes into view


def test_a_leak_leaves_a_ghost_of_its_powers() -> None:
    found = measure("ghost", on_pictures(leaky), pictures(), DriftSettings(frames=80, noise=0.0, limit=5), no_losses)[
        "ghost"
    ]
    assert len(found) == 30
    for since in (1, 2, 5, 10, 29):
        assert found[since] / found[0] == pytest.approx(0.9**since, rel=1e-4)
    still = pictures()[0]
    left, place = 0.0, torch.zeros(1, 1, 32, 40)
    rows, columns = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(40) - 19.5, indexing="ij")
    place[0, 0] = (6.4 - torch.hypot(rows, columns) + 0.5).clamp(0, 1)
    remaining = torch.zeros_like(still)
    for frame in list(passing(still))[5:22]:  # to the first frame without it
        remaining = 0.9 * remaining + 0.1 * (frame - still)
    left = float((remaining.abs().mean(1, keepdim=True) * place).sum() / place.sum()) * 255
    assert found[0] == pytest.approx(left, rel=1e-3)


def test_a_stylizer_without_memory_leaves_no_ghost() -> None:
    assert measure("ghost", on_pictures(identity), pictures(), SHORT, no_losses)["ghost"] == [0.0] * 30


# cuts


def test_a_cut_leaves_no_trace_where_it_is_seen() -> None:
    found = measure("cut", on_pictures(leaky), pictures(), SHORT, no_losses)
    assert found["cut"] == 0
    assert found["cut_unseen"][0] > 10
    assert found["cut_unseen"][3] / found["cut_unseen"][0] == pytest.approx(0.9**3, rel=0.05)
    assert measure("cut", on_pictures(identity), pictures(), SHORT, no_losses)["cut_unseen"] == [0.0] * 10


def test_a_picture_without_contrast_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a picture with contrast"):
        foreign(torch.full((1, 3, 32, 32), 0.5))


# rows, table, figure


def found_by(stylizer: Any, settings: DriftSettings = SHORT) -> dict[str, Any]:
    return {part: measure(part, on_pictures(stylizer), pictures(), settings, no_losses) for part in parts(settings)}


def test_a_row_holds_what_the_table_shows() -> None:
    found = found_by(leaky)
    found["still"]["style_loss"] = [3.0, 2.0]  # of the first window and of the last
    rows = [row("style", "input", found_by(identity)), row("style", "recurrent", found)]
    assert json.loads(json.dumps(rows)) == rows
    assert rows[1]["ghost_5"] == rows[1]["ghost"][4]
    assert rows[1]["loop"].keys() >= {"drift", "moved", "style_loss", "style_loss_first"}
    assert "means" not in rows[1]["loop"]
    assert (rows[1]["style_loss_first"], rows[1]["style_loss"]) == (3, 2)
    assert "3.000 to 2.000" in table(rows, SHORT).rows[1]
    shown = table(rows, SHORT)
    assert all(len(cells) == len(shown.columns) for cells in shown.rows)
    assert shown.rows[1][0] == "style, recurrent"
    draw(Figure(), rows, SHORT)


def test_a_picture_has_no_loop() -> None:
    alone = DriftSettings(frames=80, limit=1)
    assert "loop" not in parts(alone)
    rows = [row("style", "input", found_by(identity, alone))]
    assert rows[0]["loop"] is None
    assert table(rows, alone).rows[0][5:7] == ["-", "-"]


# the command


@pytest.fixture(scope="module")
def style(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tiny networks and their Gram targets, beside the perceptual network of those."""
    folder = tmp_path_factory.mktemp("styles") / "tiny"
    save_networks(folder, pictures()[0])
    save_vgg(folder.parent)
    return folder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return save_frames(tmp_path / "clip", pictures(4))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(group, ["evaluate", "drift", *map(str, arguments)])


def test_the_command_measures(tmp_path: Path, style: Path, clip: Path) -> None:
    arguments = (clip, "--styles", style, "--frames", 24, "--size", 40, "--limit", 3, "--precision", "float32")
    done = run(*arguments, "--vgg-weights", style.with_name("vgg.safetensors"), "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "400 frames of 40x32 to stylize" in done.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())
    settings, rows = results["settings"], results["rows"]
    assert settings.items() >= {"frames": 24, "limit": 3, "settled": 2, "window": 5, "noise": 0.02, "size": 40}.items()
    assert [(found["style"], found["method"]) for found in rows] == [
        ("tiny", method) for method in ("input", "independent", "recurrent")
    ]
    for found in rows:
        assert found["cut"] == 0
        assert found["style_loss"] > 0
    assert rows[1]["ghost"] == [0] * 30
    assert rows[2]["ghost_1"] > 0
    assert rows[2]["cut_unseen"][0] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{clip}", "--frames", "24", "--limit", "12"], 1, "expected a loop of at most 6"),
        (["{clip}", "--noise", "nan"], 2, "--noise"),
        (["{grey}"], 1, "expected a picture with contrast"),
    ],
)
def test_bad_input_ends_in_one_line(
    tmp_path: Path, style: Path, clip: Path, arguments: list[str], code: int, message: str
) -> None:
    grey = tmp_path / "grey.png"
    write_picture(grey, torch.full((1, 3, 32, 32), 0.5))
    filled = [argument.format(clip=clip, grey=grey) for argument in arguments]
    done = run(*filled, "--styles", style, "-o", tmp_path / "out")
    assert done.exit_code == code
    assert message in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
