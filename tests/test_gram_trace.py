"""Figure 3: instability against the Gram trace, the line and what it predicts, and both commands on tiny clips."""

import json
import math
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from nststab.experiments import figure3
from nststab.experiments.figure3 import measure
from nststab.experiments.figures import drawing, label_points
from nststab.networks.checkpoints import Checkpoint, save_checkpoint
from nststab.networks.transformation import NetworkConfig, TransformationNetwork
from nststab.styles import shipped as assets
from nststab.styles.shipped import measured_instability
from nststab.styles.trace_line import (
    LAYERS,
    Line,
    Measured,
    Prediction,
    as_json,
    basis,
    fit_line,
    line_of,
    placed,
    read_measured,
    traces,
)
from nststab.vgg import PerceptualNetwork
from nststab.video.images import read_picture, write_picture
from tests.conftest import TINY, Run, cli, done, on_pictures, save_networks, save_vgg, texture, told

NO_LOSSES: dict[str, float] = {}


# what is measured of a video


def still(count: int, size: int = 32) -> list[Tensor]:
    return [torch.full((1, 3, size, size), 0.5)] * count


def unchanged(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    return iter(frames)


def test_noise_of_known_variance_has_twice_its_instability() -> None:
    """Of two independent noises of variance σ² the squared difference has the mean 2σ²."""
    sigma, noise = 0.1, torch.Generator().manual_seed(0)

    def noisy(frames: Iterable[Tensor]) -> Iterator[Tensor]:
        return (frame + sigma * torch.randn(frame.shape, generator=noise) for frame in frames)

    found = measure(still(40), on_pictures(noisy), lambda *_: NO_LOSSES)
    assert found["instability"] == pytest.approx(2 * sigma**2, rel=0.02)
    assert found["still"] == pytest.approx(2 * sigma**2, rel=0.02)
    assert found["frames"] == 40


def test_an_unchanged_video_is_stable_and_a_car_is_no_flicker() -> None:
    """A quarter of the content changes by 0.4: on still pixels a copy of it does not move at all."""
    frames = still(2)
    moved = frames[0].clone()
    moved[..., :16, :16] += 0.4
    copy = measure([frames[0], moved], on_pictures(unchanged), lambda *_: NO_LOSSES)
    assert measure(frames, on_pictures(unchanged), lambda *_: NO_LOSSES)["instability"] == 0
    assert copy["instability"] == pytest.approx(0.4**2 / 4)
    assert copy["still"] == 0


def test_losses_stand_beside_and_are_those_of_every_tenth_frame() -> None:
    frames = [torch.full((1, 3, 8, 8), number / 20) for number in range(12)]
    seen: list[float] = []

    def losses(stylized: Tensor, content: Tensor) -> dict[str, float]:
        seen.extend([float(stylized.mean()), float(content.mean())])
        return {"style": float(stylized.mean()), "content": 3.0}

    found = measure(frames, on_pictures(lambda stream: (frame / 2 for frame in stream)), losses)
    assert seen == pytest.approx([0, 0, 0.25, 0.5])
    assert (found["style_loss"], found["content_loss"]) == pytest.approx((0.125, 3.0))


def test_a_stylized_clip_alone_has_neither_content_loss_nor_still_pixels() -> None:
    found = measure(still(3), None, lambda *_: {"style": 2.0, "content": 0.0})
    assert (found["instability"], found["style_loss"]) == (0, 2.0)
    assert math.isnan(found["content_loss"])
    assert math.isnan(found["still"])


def test_one_frame_has_no_instability() -> None:
    with pytest.raises(ValueError, match="at least two frames, whose difference is measured, got 1"):
        measure(still(1), on_pictures(unchanged), lambda *_: NO_LOSSES)


def test_traces_are_taken_at_one_size(tiny_vgg: PerceptualNetwork) -> None:
    picture = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(picture, (384, 512), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    small, same = traces(tiny_vgg, picture), traces(tiny_vgg, large)
    assert small == pytest.approx(same, rel=1e-4)
    (features,) = tiny_vgg(large, ("relu2_1",)).values()
    flat = features[0].flatten(1)
    assert same["relu2_1"] == pytest.approx(float((flat @ flat.T).trace()) / flat.numel(), rel=1e-4)


# the line


def test_the_line_is_that_of_scipy() -> None:
    noise = np.random.default_rng(1)
    x, y = noise.normal(3000, 800, 12), noise.normal(0.001, 0.0004, 12)
    line, expected = fit_line(list(x), list(y)), stats.linregress(x, y)
    assert (line.slope, line.intercept) == pytest.approx((expected.slope, expected.intercept))
    assert line.residual_error / line.spread == pytest.approx(expected.stderr)
    assert (line.spearman, line.p) == pytest.approx(tuple(stats.spearmanr(x, y)))
    assert (line.n, line.range) == (12, (x.min(), x.max()))


def test_few_styles_are_judged_by_all_their_orders() -> None:
    """Chance orders three as they should be, or the other way round, once in three times: SciPy's t says never."""
    assert fit_line([1, 2, 3], [1, 2, 4]).p == pytest.approx(1 / 3)
    assert fit_line([1, 2, 3, 4], [4, 3, 2, 1]).p == pytest.approx(2 / 24)
    assert fit_line([1, 2, 3, 4], [4, 3, 2, 1]).spearman == pytest.approx(-1)


@pytest.mark.parametrize(("traces", "values"), [([1], [2]), ([1, 2], [1, 2]), ([5, 5, 5], [1, 2, 3])])
def test_too_few_styles_make_no_line(traces: list[float], values: list[float]) -> None:
    line = fit_line(traces, values)
    assert line.n == len(traces)
    assert all(math.isnan(value) for value in (line.slope, line.residual_error, line.p, line.predict(1).low))


def test_equal_instabilities_have_a_line_and_no_correlation() -> None:
    line = fit_line([1, 2, 4], [3, 3, 3])
    assert line.predict(7) == pytest.approx(Prediction(3, 3, 3))
    assert math.isnan(line.spearman)


def test_lines_need_a_value_for_each_trace() -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        fit_line([1, 2], [1])
    with pytest.raises(ValueError, match="got 0 and 0"):
        fit_line([], [])


def test_a_prediction_is_the_line_and_its_error() -> None:
    """By hand: traces 1, 2, 3, 6 and residuals ±d; at the centre the error is s √(1 + 1/4) t(0.975, 2)."""
    line = fit_line([1, 2, 3, 6], [1.1, 1.9, 2.9, 6.1])
    at_centre = line.predict(3)
    assert line.centre == 3
    assert at_centre.value == pytest.approx(3.0)
    half = 4.302653 * line.residual_error * math.sqrt(1.25)
    assert (at_centre.low, at_centre.high) == pytest.approx((3 - half, 3 + half))
    far = line.predict(10)
    assert far.value == pytest.approx(line.intercept + 10 * line.slope)
    half = 4.302653 * line.residual_error * math.sqrt(1 + 1 / 4 + 49 / 14)
    assert far.high - far.value == pytest.approx(half)


@given(st.lists(st.tuples(st.floats(1, 1e4), st.floats(0, 1)), min_size=3, max_size=6))
def test_a_line_survives_json(points: list[tuple[float, float]]) -> None:
    line = fit_line(*map(list, zip(*points, strict=True)))
    if not any(math.isnan(value) for value in (line.slope, line.spearman)):
        assert line_of(json.loads(json.dumps(as_json(line)))) == line


# rows, table and figure


def rows(method: str = "independent", factor: float = 1.0, count: int = 5) -> list[dict[str, Any]]:
    made = []
    for number in range(count):
        parts = {
            video: {
                "instability": factor * scale * 1e-3 * (number + 1),
                "still": factor * 1e-4 * (number + 1) ** 2,
                "style_loss": 1.0 + scale,
                "content_loss": 2.0,
                "frames": 10,
            }
            for video, scale in (("road", 1.0), ("street", 3.0))
        }
        trace = {"relu1_1": 1000.0 * (number + 1), "relu2_1": 9e4 - 1e4 * number}
        made.append(dict(figure3.row(f"style_{number}", method, trace, parts)))
    return made


def test_a_row_holds_means_over_videos() -> None:
    first = rows()[0]
    assert first == {
        "style": "style_0",
        "method": "independent",
        "instability": pytest.approx(2e-3),
        "videos": {"road": pytest.approx(1e-3), "street": pytest.approx(3e-3)},
        "still": pytest.approx(1e-4),
        "trace_relu1_1": 1000.0,
        "trace_relu2_1": 9e4,
        "style_loss": 3.0,
        "content_loss": 2.0,
        "frames": 20,
    }


def test_every_method_has_its_lines_for_all_videos_and_each() -> None:
    found = figure3.fits([*rows(), *rows("recurrent", 0.5)])
    assert list(found) == ["independent", "recurrent"]
    for method, factor in (("independent", 1), ("recurrent", 0.5)):
        own = found[method]
        assert own["relu1_1"]["slope"] == pytest.approx(factor * 2e-6)
        assert own["relu2_1"]["slope"] == pytest.approx(factor * -2e-7)
        assert (own["relu1_1"]["spearman"], own["relu2_1"]["spearman"]) == (pytest.approx(1), pytest.approx(-1))
        assert own["videos"]["street"]["relu1_1"]["slope"] == pytest.approx(factor * 3e-6)
        assert own["still"]["relu1_1"]["residual_error"] > 0


def test_a_video_of_one_style_alone_has_no_line() -> None:
    made = rows(count=3)
    for number, row in enumerate(made):
        row["videos"] = {f"clip_{number}": 1e-3}
        row["still"] = math.nan
    fit = figure3.fits(made)["independent"]
    assert (fit["videos"], fit["still"]) == ({}, {})


def test_the_table_begins_with_the_input_and_the_least_stable() -> None:
    parts = {
        "road": {"instability": 2e-4, "still": 1e-5, "style_loss": math.nan, "content_loss": math.nan, "frames": 9}
    }
    table = figure3.table(rows(), figure3.row("input", "", {}, parts))
    assert [row[0] for row in table.rows] == ["input", *(f"style_{number}" for number in (4, 3, 2, 1, 0))]
    assert table.rows[0] == ["input", "", "0.200", "0.010", "0.200", "-", "-", "-", "-", "-"]
    assert table.rows[1] == [
        "style_4",
        "independent",
        "10.000",
        "2.500",
        "5.000",
        "15.000",
        *["5000", "50000", "3.000", "2.000"],
    ]
    assert table.columns[2:6] == ["instability", "still", "road", "street"]
    assert "independent, 5 styles. relu1_1: instability = " in table.note
    assert "0.002 trace" in table.note
    assert "ρ = 1.00 (p = 0.017)" in table.note  # 2 of 5! orders


def test_the_figure_names_every_style_in_both_panels(tmp_path: Path) -> None:
    made = [*rows(), *rows("recurrent", 0.5)]
    with drawing(tmp_path, "figure", 10, 5) as figure:
        figure3.draw(figure, made, figure3.row("input", "", {}, {"road": made[0] | {"instability": 1e-3}}))
    panels = figure.axes
    assert [panel.get_title().splitlines()[0] for panel in panels] == list(LAYERS)
    assert "independent: ρ = 1.00 (p = 0.017), 5 styles" in panels[0].get_title()
    assert "recurrent: ρ = -1.00" in panels[1].get_title()
    for panel in panels:
        names = [text.get_text() for text in panel.texts if text.get_text()]
        assert sorted(names) == [f"style {number}" for number in range(5)]


def test_names_hide_neither_each_other_nor_points(tmp_path: Path) -> None:
    """Twelve points, six of them within one point's width: no two names share a pixel, none lies on a point."""
    noise = np.random.default_rng(3)
    points = [(5 + 0.05 * number, 5 + 0.02 * number) for number in range(6)]
    points += [(float(x), float(y)) for x, y in noise.uniform(1, 9, (6, 2))]
    with drawing(tmp_path, "names") as figure:
        axes = figure.subplots()
        axes.plot(*zip(*points, strict=True), "o", ms=4)
        axes.set(xlim=(0, 10), ylim=(0, 10))
        label_points(figure, axes, points, [f"a name {number}" for number in range(12)])
    figure.draw_without_rendering()
    texts = [text for text in axes.texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) == 12
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number]), texts[number].get_text()
        assert not any(box.contains(*axes.transData.transform(point)) for point in points)
        assert axes.bbox.x0 <= box.x0
        assert box.x1 <= axes.bbox.x1


# the command


VGG = "--vgg-weights vgg.safetensors"
OPTIONS = f"{VGG} --precision float32 --limit 3"


def save_clip(folder: Path, seed: int = 0, count: int = 4) -> None:
    folder.mkdir(parents=True)
    noise = torch.Generator().manual_seed(seed)
    for number in range(count):
        frame = 0.2 + 0.6 * texture(24, 32, seed) + 0.005 * torch.randn(1, 3, 24, 32, generator=noise)
        write_picture(folder / f"{number}.png", frame.clamp(0, 1))


def save_style(folder: Path, seed: int, picture: bool = True) -> None:
    image = texture(24, 32, seed) * (0.3 + 0.2 * seed)
    save_networks(folder, image, ["independent"], seed)
    if picture:
        write_picture(folder / "image.png", image)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_vgg: PerceptualNetwork, unrendered: None) -> Run:  # noqa: ARG001
    """Run `nststab ...` beside three styles, two videos and weights."""
    monkeypatch.chdir(tmp_path)
    save_vgg(Path())
    for seed, name in enumerate(("wave", "scream", "muse")):
        save_style(Path(name), seed)
    for seed, name in enumerate(("road", "street")):
        save_clip(Path(name), seed)
    return cli


def results(folder: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(folder, "results.json").read_text())
    return content


EXPERIMENT = f"evaluate gram-trace road street --styles wave,scream,muse {OPTIONS}"


def test_an_experiment_of_three_styles(run: Run, tiny_vgg: PerceptualNetwork) -> None:
    result = done(run(f"{EXPERIMENT} -o out"))
    assert "18 frames of 32x24 to stylize, about" in result.stderr
    assert "Instability of styles" in result.stdout
    found = results("out")
    assert {name: found["settings"][name] for name in ("size", "limit", "methods")} == {
        "size": 432,
        "limit": 3,
        "methods": ["independent"],
    }
    assert [(row["style"], row["method"]) for row in found["rows"]] == [
        (name, "independent") for name in ("wave", "scream", "muse")
    ]
    for row in found["rows"]:
        assert list(row["videos"]) == ["road", "street"]
        assert row["instability"] == pytest.approx(sum(row["videos"].values()) / 2)
        assert min(row["instability"], row["still"], row["style_loss"], row["content_loss"]) > 0
        expected = traces(tiny_vgg, read_picture(Path(row["style"], "image.png")).rgb)
        assert [row[f"trace_{layer}"] for layer in LAYERS] == pytest.approx([expected[layer] for layer in LAYERS])
    assert found["input"]["instability"] == pytest.approx(2 * (0.005**2 + 1 / 255**2 / 12), rel=0.1)  # rounded
    fit = found["fit"]["independent"]
    assert fit["relu1_1"]["n"] == 3
    assert fit["relu1_1"]["slope"] == pytest.approx(
        np.polyfit([row["trace_relu1_1"] for row in found["rows"]], [row["instability"] for row in found["rows"]], 1)[0]
    )
    assert {path.name for path in Path("out").iterdir()} == {"results.json", "table.md", "figure.png", "figure.svg"}


def test_frames_that_changed_are_not_gone_on_with(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("nststab.experiments.figure3.row", lambda *_: 1 / 0)
        run(f"{EXPERIMENT} -o out")
    shutil.copy("street/0.png", "road/1.png")
    result = run(f"{EXPERIMENT} -o out")
    assert result.exit_code == 2
    assert "unfinished work of other settings: videos.road was" in result.stderr


def test_a_larger_video_is_scaled_and_a_smaller_is_not(run: Run) -> None:
    result = run(f"evaluate gram-trace road --styles wave {OPTIONS} --size 16 -o out")
    assert "3 frames of 16x12 to stylize" in result.stderr
    assert "1 style, and a line needs three" in result.stdout
    assert results("out")["fit"]["independent"]["relu1_1"]["slope"] is None


@pytest.mark.parametrize("flag", ["", "--styles wave,scream"])
def test_clips_of_others_are_measured_as_they_are(run: Run, flag: str) -> None:
    """A clip that shows two pictures in turn changes by their mean squared difference each time."""
    for name, seed in (("wave", 4), ("scream", 5)):
        folder = Path("made", name)
        folder.mkdir(parents=True)
        for number in range(3):
            write_picture(folder / f"{number}.png", texture(24, 32, seed + 10 * (number % 2)))
    command = f"evaluate gram-trace {'road ' if flag else ''}{flag} {OPTIONS} -o out --size 16"
    done(run(f"{command} --clips wave/image.png=made/wave --clips scream=made/scream"))
    theirs = [row for row in results("out")["rows"] if row["method"] == "clips"]
    assert [(row["style"], list(row["videos"])) for row in theirs] == [("image", ["wave"]), ("scream", ["scream"])]
    first, second = (read_picture(Path(f"made/wave/{number}.png")).rgb for number in (0, 1))
    assert theirs[0]["instability"] == pytest.approx(float((first - second).square().mean()), rel=1e-5)
    assert (theirs[0]["content_loss"], theirs[0]["still"]) == (None, None)
    assert theirs[0]["style_loss"] > 0
    assert len(results("out")["rows"]) == (4 if flag else 2)


def test_two_methods_stand_side_by_side(run: Run) -> None:
    torch.manual_seed(7)
    network = TransformationNetwork(NetworkConfig(True, TINY.widths, TINY.blocks))
    save_checkpoint(Path("wave/recurrent.safetensors"), Checkpoint(network))
    done(run(f"evaluate gram-trace road --styles wave --methods independent,recurrent {OPTIONS} -o out -q"))
    first, second = results("out")["rows"]
    assert (first["method"], second["method"]) == ("independent", "recurrent")
    assert first["instability"] != second["instability"]
    assert first["trace_relu1_1"] == second["trace_relu1_1"]
    assert set(results("out")["fit"]) == {"independent", "recurrent"}


def test_the_traces_of_a_card_stand_for_a_picture(run: Run, monkeypatch: Any) -> None:
    from nststab.networks import perceptual

    monkeypatch.setattr(perceptual, "perceptual_weights", lambda: Path("vgg.safetensors"))
    save_style(Path("unshipped"), 3, picture=False)
    command = "evaluate gram-trace road --styles unshipped --precision float32 --limit 2 -o out"
    for content in (None, "{", '{"gram_trace": {"relu1_1": 3}}'):
        if content:
            Path("unshipped/card.json").write_text(content)
        assert told(run(command)) == (
            "Error: the style unshipped has no Gram trace: unshipped holds neither image.jpg nor a card.json with "
            "gram_trace at relu1_1 and relu2_1"
        )
    Path("unshipped/card.json").write_text('{"gram_trace": {"relu1_1": 3, "relu2_1": 40.5}}')
    done(run(command))
    (row,) = results("out")["rows"]
    assert (row["trace_relu1_1"], row["trace_relu2_1"]) == (3, 40.5)


@pytest.mark.usefixtures("averaging_vgg")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "expected videos of a fixed camera, or clips"),
        ("--styles wave --clips wave=road", "--styles needs videos of a fixed camera"),
        ("rod", "Path 'rod' does not exist; did you mean road?"),
        ("- --styles wave", "-: expected a file or a folder, which can be read more than once, got a pipe"),
        ("wave/image.png --styles wave", "wave/image.png: expected a clip of at least two frames, got one"),
        ("road road", "video: two clips are called road, road and road"),
        ("road --styles wave --methods recurrent", "the style wave has no network for the method recurrent"),
        ("road --styles wave/image.png", "the method independent needs a trained style"),
        ("road --styles wave/independent.safetensors", "no picture for its Gram trace; put the network into a folder"),
        (
            f"road --styles bare {VGG}",
            "bare has no picture: bare lacks image.jpg, and the traces of cards are those of",
        ),
        ("--clips road", "'road': expected STYLE_IMAGE=PATH, the style's picture and its stylized clip"),
        ("--clips wave/image.png=nowhere", "Path 'nowhere' does not exist"),
        ("--clips wave/imag.png=road", "the style wave/imag.png does not exist"),
        ("--clips wave=road --clips wave/=street", "--clips has two styles that are called wave"),
        ("--clips wave=road --clips wave=road", "--clips: two clips are called road"),
    ],
)
def test_wrong_usage_is_answered_in_one_line(run: Run, arguments: str, message: str) -> None:
    save_style(Path("bare"), 4, picture=False)
    assert message in told(run(f"evaluate gram-trace {arguments} -o out"))
    assert not Path("out").exists()


# nststab styles IMAGE...


def measured(p: float = 0.01, **changes: Any) -> Measured:
    line = Line(1e-6, 0.0, 1e-4, 0.8, p, 3, (1000, 3000), 2000, 1500)
    values = {"jatte": 1e-3, "wave": 2e-3, "mosaic": 3e-3}
    return Measured({"relu1_1": line}, values, "independent", 432, ["a", "b"], "2026-11-23", **changes)


@pytest.mark.parametrize(
    ("value", "trace", "words"),
    [
        (
            1.4e-3,
            1400,
            "likely between jatte (1.00) and wave (2.00), less stable than 1 of the 3 measured styles; 2 of",
        ),
        (2.5e-3, 2500, "likely between wave (2.00) and mosaic (3.00), less stable than 2 of the 3"),
        (
            0.5e-3,
            1200,
            "likely more stable than all 3 measured styles, of which jatte (1.00) is the most; 1 of them lies",
        ),
        (3.5e-3, 3000, "likely less stable than all 3 measured styles, of which mosaic (3.00) is the least"),
        (3.5e-3, 3500, "and its trace lies outside theirs, 1000 to 3000, where the line was not measured."),
    ],
)
def test_a_prediction_is_placed_among_the_measured(value: float, trace: float, words: str) -> None:
    said = placed(Prediction(value, value - 0.6e-3, value + 0.6e-3), trace, measured())
    assert words in said
    assert ("outside theirs" in said) == (trace > 3000)


def test_the_basis_says_what_was_measured_and_how_weak_it_is() -> None:
    strong, weak = basis(measured()), basis(measured(p=0.3))
    assert "goes through 3 styles of independent networks on 2 videos of a fixed camera at 432 pixels" in strong
    assert "(2026-11-23): Spearman's ρ = 0.80 (p = 0.010), residual standard error 0.10." in strong
    assert "may be chance" not in strong
    assert weak.endswith("So weak a correlation may be chance: take the figures for a hint.")
    assert "may be chance" in basis(measured(p=math.nan))


def test_the_layer_of_the_smaller_residuals_predicts() -> None:
    close, loose = (Line(0, 0, error, 0.5, 0.1, 9, (0, 1), 0, 1) for error in (0.1, 0.2))
    assert Measured({"relu1_1": loose, "relu2_1": close}, {}, "independent", 1, [], "").layer == "relu2_1"


def test_styles_predicts_from_what_an_experiment_wrote(
    run: Run, monkeypatch: pytest.MonkeyPatch, tiny_vgg: PerceptualNetwork
) -> None:
    from nststab.networks import perceptual

    assert run(f"{EXPERIMENT} -q -o out").exit_code == 0
    monkeypatch.setattr(perceptual, "perceptual_weights", lambda: Path("vgg.safetensors"))
    monkeypatch.setattr(assets, "measured_instability", lambda: Path("out/results.json"))
    write_picture(Path("new.png"), texture(24, 32, 9) * 0.6)
    result = run("styles new.png wave/image.png")
    assert (result.exit_code, result.stderr) == (0, "")
    found = read_measured(Path("out/results.json"))
    rows = {cells[0]: cells for cells in (line.split(maxsplit=4) for line in result.stdout.splitlines()) if cells}
    for path in ("new.png", "wave/image.png"):
        cells = rows[Path(path).name]
        trace = traces(tiny_vgg, read_picture(Path(path)).rgb)
        predicted = found.lines[found.layer].predict(trace[found.layer])
        assert cells[:3] == [Path(path).name, *(f"{trace[layer]:.1f}" for layer in LAYERS)]
        assert cells[3] == f"{max(0, predicted.value) * 1000:.2f}"
        assert cells[4] == f"{max(0, predicted.low) * 1000:.2f} to {max(0, predicted.high) * 1000:.2f}"
    assert "\nnew.png: likely " in result.stdout
    assert "goes through 3 styles of independent networks on 2 videos" in result.stdout


@pytest.mark.parametrize("content", ["{}", '{"fit": {"independent": {"relu1_1": {"slope": null}}}}', "[]"])
def test_what_is_no_experiment_predicts_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"expected results of gram-trace with a line of independent"):
        read_measured(path)


def test_the_shipped_measurement_is_whole() -> None:
    found = read_measured(measured_instability())
    assert "the_great_wave" in found.instabilities
    assert found.videos
    assert {line.n for line in found.lines.values()} == {len(found.instabilities)}
    assert found.lines[found.layer].residual_error > 0
