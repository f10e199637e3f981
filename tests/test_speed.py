"""Table 2: what is counted and timed, the rows, and `nststab evaluate speed` on tiny frames with tiny networks."""

import gc
import json
import mmap
import multiprocessing
import operator
import os
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner, Result
from matplotlib.figure import Figure

from nststab.baselines.gatys import Gatys
from nststab.baselines.settings import GatysSettings
from nststab.cli import group
from nststab.experiments import table2, timing
from nststab.experiments.cast import Cast
from nststab.experiments.settings import SpeedSettings
from nststab.experiments.table2 import (
    CLIP,
    TEXTURE,
    Table2,
    digits,
    flow_row,
    measure_alone,
    method_row,
    ratio_row,
    spread,
    table,
)
from nststab.experiments.timing import (
    WARM_UP,
    AddedMemory,
    IterationReport,
    MatrixProduct,
    Measured,
    alternating,
    flop_of,
    flop_of_iteration,
    in_fresh_process,
    iteration_steps,
)
from nststab.flow.estimators import dis
from nststab.frames import Frame, Stylizer
from nststab.memory import Resident, reset_peak
from nststab.networks.transformation import NetworkConfig, TransformationNetwork
from nststab.video.images import write_picture
from tests.conftest import done, save_networks, save_vgg, tiny_loss, told

pytestmark = pytest.mark.usefixtures("unrendered")

CPU = torch.device("cpu")


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def job(self, *seconds: float) -> Callable[[], None]:
        """Takes each of `seconds` in turn."""
        left = iter(seconds)

        def run() -> None:
            self.now += next(left)

        return run


# arithmetic


def test_the_arithmetic_of_a_convolution_and_of_a_product() -> None:
    """Each of 8 outputs at 8x10 places is a sum of 3·5·5 products; a multiply-add counts as two."""
    image, weight = torch.rand(1, 3, 16, 20), torch.rand(8, 3, 5, 5)
    assert flop_of(lambda: F.conv2d(image, weight, stride=2, padding=2)) == 2 * 8 * (8 * 10) * (3 * 5 * 5)
    assert flop_of(lambda: torch.rand(4, 5) @ torch.rand(5, 6)) == 2 * 4 * 5 * 6
    assert flop_of(lambda: image.mul(2).relu().mean()) == 0


def hand_count(side: int, recurrent: bool) -> int:
    """Products and sums of the paper's network: places, inputs, kernel, outputs of each convolution.

    The two behind an upsampling make four places of one of the small picture, or of its border, by 2x2 weights each.
    """
    layers = [(side, 6 if recurrent else 3, 9, 32), (side // 2, 32, 3, 64), (side // 4, 64, 3, 128)]
    layers += [(side // 4, 128, 3, 128)] * 10
    layers += [(side // 4 + 1, 128, 2, 4 * 64), (side // 2 + 1, 64, 2, 4 * 32), (side, 32, 9, 3)]
    return sum(2 * places**2 * inputs * kernel**2 * outputs for places, inputs, kernel, outputs in layers)


@pytest.mark.parametrize("recurrent", [False, True])
def test_the_papers_network_as_counted_by_hand(recurrent: bool) -> None:
    network, frame = TransformationNetwork(NetworkConfig(recurrent)), torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        counted = flop_of(lambda: network(frame))
    assert counted == hand_count(64, recurrent)
    assert hand_count(512, recurrent) == pytest.approx(74e9 if recurrent else 70e9, rel=0.01)


def gatys_of(iterations: int) -> Callable[[IterationReport], Stylizer]:
    loss = tiny_loss(torch.rand(1, 3, 32, 32))
    return lambda report: Gatys(loss, GatysSettings(iterations=iterations), report)


def hand_count_of_iteration(side: int, channels: tuple[int, ...]) -> int:
    """VGG-16 to relu4_3 and four Gram matrices; each costs the same again in the gradient of the pixels."""
    sides = [side // 2**block for block in (0, 0, 1, 1, 2, 2, 2, 3, 3, 3)]
    layers = list(zip(sides, (3, *channels[:-1]), channels, strict=True))
    convolutions = sum(2 * places**2 * 9 * inputs * outputs for places, inputs, outputs in layers)
    grams = sum(2 * places**2 * outputs**2 for places, _, outputs in (layers[layer] for layer in (1, 3, 6, 9)))
    return 2 * (convolutions + grams)


def test_an_iterations_arithmetic_is_that_of_forward_and_backward() -> None:
    frames, expected = [torch.rand(1, 3, 32, 32)], hand_count_of_iteration(32, (4, 4, 6, 6, 8, 8, 8, 8, 8, 8))
    assert flop_of_iteration(gatys_of(1), frames) == expected
    assert flop_of_iteration(gatys_of(3), frames) == expected


def test_a_matrix_products_rate() -> None:
    product = MatrixProduct(torch.float32, CPU, side=64)
    assert product.flop == 2 * 64**3 == flop_of(product)
    assert product.rate(0.5) == 2 * product.flop
    assert all(product.rate(seconds) > 0 for seconds in alternating({"": product}, 3)[""])
    assert MatrixProduct(torch.bfloat16, CPU).side == 2048


# time


def test_jobs_alternate_and_the_warm_up_does_not_count() -> None:
    clock = Clock()
    order: list[str] = []

    def job(name: str, *seconds: float) -> Callable[[], None]:
        take = clock.job(*seconds)

        def run() -> None:
            order.append(name)
            take()

        return run

    seconds = alternating({"a": job("a", 50, 50, 1, 3, 2), "b": job("b", 70, 70, 4, 4, 8)}, 3, clock)
    assert seconds == {"a": [1, 3, 2], "b": [4, 4, 8]}
    assert order == ["a", "b"] * (WARM_UP + 3)
    assert spread(seconds["a"])["seconds"] == 2


def test_an_iteration_is_timed_from_report_to_report_of_the_last_frame() -> None:
    clock = Clock()

    def build(report: IterationReport) -> Stylizer:
        def stylize(frames: Iterable[Frame]) -> Iterator[Frame]:
            for number, frame in enumerate(frames):
                for iteration in range(3 if number else 2):
                    clock.now += 10 * number + iteration
                    report(iteration, {})
                clock.now += 1000  # what follows the last iteration
                yield frame

        return stylize

    frames = [torch.zeros(1, 3, 4, 4)] * 2
    assert iteration_steps(build, frames[:1], clock) == [1]
    assert iteration_steps(build, frames, clock) == [11, 12]
    assert iteration_steps(build, frames, clock, clock.job(*[500] * 5)) == [11, 12]


def test_the_spread_is_minimum_and_quartiles() -> None:
    values = [4.0, 1.0, 9.0, 2.0, 3.0]
    low, median, high = statistics.quantiles(values, method="inclusive")
    assert spread(values, "x") == {"x": median, "x_min": 1.0, "x_q1": low, "x_q3": high}
    assert set(spread([5.0]).values()) == {5.0}


# memory


@pytest.mark.skipif(not reset_peak(), reason="only Linux tells")
def test_added_memory_is_the_peak_and_not_what_is_left() -> None:
    gc.collect()
    memory = AddedMemory(CPU)
    size = 2**27
    with mmap.mmap(-1, size) as block:  # new memory, where a tensor may get what others have left; freed at once
        torch.frombuffer(block, dtype=torch.uint8).fill_(1)
    added = memory.bytes()
    assert added is not None
    assert 0.98 * size < added < 1.2 * size  # the system counts in batches of pages


def test_where_the_system_does_not_tell_no_memory_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "reset_peak", lambda: False)
    assert AddedMemory(CPU).bytes() is None
    assert AddedMemory(torch.device("mps")).bytes() is None


def test_a_peak_that_the_system_counts_late_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "reset_peak", lambda: True)
    monkeypatch.setattr(timing, "resident", lambda: Resident(now=8 * 4096, peak=5 * 4096))
    assert AddedMemory(CPU).bytes() == 0


def test_faults_of_a_fresh_process_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a forked one, which has torch already; that a new interpreter serves too is the last test of this file."""
    monkeypatch.setattr(timing, "get_context", lambda _: multiprocessing.get_context("fork"))
    with pytest.raises(ValueError, match="invalid literal for int"):
        in_fresh_process(int, "x")
    with pytest.raises(RuntimeError, match="ZeroDivisionError: division by zero"):
        in_fresh_process(operator.truediv, 1, 0)
    with pytest.raises(ValueError, match="ended with exit code 3; the memory may not do"):
        in_fresh_process(os._exit, 3)


# rows


def measured(seconds: list[float], flop: int = 10**9) -> Measured:
    return {"seconds": seconds, "flop": flop, "matrix_rates": [4e10, 2e10, 9e10], "peak_bytes": 3 * 2**20}


def test_a_row_of_a_network() -> None:
    row = method_row("wave", "recurrent", 512, "float32", measured([0.1, 0.4, 0.2]))
    assert (row["seconds"], row["seconds_min"], row["n"], row["gflop"]) == (0.2, 0.1, 3, 1.0)
    assert (row["extrapolated"], row["iterations"]) == (False, None)
    assert row["gflop_per_second"] == pytest.approx(5)
    assert row["matrix_gflop_per_second"] == 40
    assert row["matrix_share"] == pytest.approx(row["gflop_per_second"] / row["matrix_gflop_per_second"])


def test_an_extrapolated_row() -> None:
    """1000 median iterations; what is a rate stays."""
    one, frame = (method_row("wave", "gatys", 512, "float32", measured([0.1, 0.4, 0.2]), n) for n in (None, 1000))
    assert (frame["extrapolated"], frame["iterations"], frame["n"]) == (True, 1000, 3)
    for name in ("seconds", "seconds_min", "seconds_q1", "seconds_q3", "gflop"):
        assert frame[name] == pytest.approx(1000 * one[name])
    for name in ("gflop_per_second", "matrix_share", "peak_bytes"):
        assert frame[name] == pytest.approx(one[name])


def test_a_ratio_is_of_the_same_rounds() -> None:
    """When the machine is slow it is slow for both."""
    assert ratio_row(512, measured([2.0, 20.0, 6.0]), measured([1.0, 10.0, 2.0]))["ratio"] == 2


@pytest.mark.parametrize(
    ("value", "text"), [(0.041349, "0.0413"), (12.34, "12.3"), (8123.4, "8120"), (99.96, "100"), (0.00012, "0.00012")]
)
def test_three_digits(value: float, text: str) -> None:
    assert digits(value) == text


ROWS = [
    method_row("wave", "independent", 512, "float32", measured([0.1])),
    method_row("wave", "independent", 256, "float32", measured([0.02])),
    method_row("wave", "gatys", 512, "float32", {**measured([0.2]), "peak_bytes": None}, 1000),
]
FLOW = [flow_row("dis", 512, [0.05, 0.07])]


def test_the_table_marks_what_is_extrapolated() -> None:
    made = table(ROWS, FLOW, "Two threads.")
    assert made.rows[0] == ["independent", "512", "0.1", "0.044", "0.1", "0.1 to 0.1", "1", "10", "25%", "3"]
    assert (made.rows[2][2], made.rows[2][-1]) == ("200*", "-")
    assert made.rows[3][:3] == ["flow: dis", "512", "0.06"]
    assert made.note == "* a median iteration, times 1000 as the paper counts them. Two threads."
    assert "*" not in table(ROWS[:2], [], "Two threads.").note


def test_the_figure_hollows_what_is_extrapolated() -> None:
    figure = Figure()
    table2.draw(figure, ROWS, FLOW)
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    lines: dict[str, Any] = {str(line.get_label()): line.lines[0] for line in axes.containers}  # type: ignore[attr-defined]
    assert list(lines) == ["gatys (extrapolated)", "independent", "flow alone: dis"]  # the slowest first
    assert list(lines["independent"].get_xdata()) == [256, 512]
    assert lines["gatys (extrapolated)"].get_markerfacecolor() == "white"
    assert lines["independent"].get_markerfacecolor() != "white"
    assert lines["flow alone: dis"].get_linestyle() == "--"


# the command


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Result]:
    """Runs `nststab evaluate speed` on tiny networks, each method in this very process."""
    monkeypatch.chdir(tmp_path)
    save_vgg(tmp_path)
    save_networks(Path("tiny"), torch.rand(1, 3, 32, 32))
    write_picture(Path("style.png"), torch.rand(1, 3, 32, 32))
    monkeypatch.setattr(table2, "in_fresh_process", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(timing, "_MATRIX_SIDES", {"cpu": 32})
    fixed = "evaluate speed -o out --styles tiny/ --size 32,48 --limit 3 --measured-iterations 2"
    fixed += " --vgg-weights vgg.safetensors --precision float32"
    return lambda arguments: CliRunner().invoke(group, [*fixed.split(), *arguments.split()])


def results() -> Any:
    return json.loads(Path("out/results.json").read_text())


def test_every_method_at_every_size(run: Callable[[str], Result]) -> None:
    made = done(run(""))
    assert made.stderr.startswith(
        "independent, recurrent, ruder, gatys at 32x32, 48x48: 12 measurements of 3 frames or 2 iterations, about "
    )
    assert "Table 2" in made.stdout
    assert {path.name for path in Path("out").iterdir()} == {"results.json", "table.md", "figure.png", "figure.svg"}
    found = results()
    methods = ("independent", "recurrent", "ruder", "gatys")
    assert [(row["method"], row["size"]) for row in found["rows"]] == [(m, s) for m in methods for s in (32, 48)]
    for row in found["rows"]:
        optimized = row["method"] in ("ruder", "gatys")
        assert (row["style"], row["precision"], row["extrapolated"]) == ("tiny", "float32", optimized)
        assert (row["n"], row["iterations"]) == ((2, 1000) if optimized else (3, None))
        assert 0 < row["seconds_min"] <= row["seconds_q1"] <= row["seconds"] <= row["seconds_q3"]
        share = row["gflop"] / row["seconds"] / row["matrix_gflop_per_second"]
        assert row["matrix_share"] == pytest.approx(share)
        assert row["peak_bytes"] is None or row["peak_bytes"] >= 0
    gflop = {(row["method"], row["size"]): row["gflop"] for row in found["rows"]}
    assert gflop["ruder", 32] == gflop["gatys", 32]  # the temporal term is no convolution
    assert gflop["recurrent", 48] > gflop["independent", 48] > gflop["independent", 32]
    assert [(row["flow"], row["size"]) for row in found["flow"]] == [
        (m, s) for m in ("deepflow", "dis") for s in (32, 48)
    ]
    assert all(row["n"] == 3 and row["seconds"] > 0 for row in found["flow"])
    assert [row["size"] for row in found["recurrent_to_independent"]] == [32, 48]
    assert found["settings"]["content"] == CLIP
    assert found["settings"]["styles"].keys() == {"tiny"}
    expected = {"size": [32, 48], "limit": 3, "measured_iterations": 2, "device": "cpu", "precision": "float32"}
    assert found["settings"].items() >= expected.items()
    assert re.fullmatch(r"vgg\.safetensors \([0-9a-f]{16}\)", found["settings"]["perceptual_network"])
    assert str(Path.cwd()) not in Path("out/results.json").read_text()


def test_engines_and_the_light_network_have_rows_of_their_own(run: Callable[[str], Result]) -> None:
    done(run("--styles the_great_wave --methods independent --engines torch,openvino --light --size 32 --limit 2"))
    gflop = {row["method"]: row["gflop"] for row in results()["rows"]}
    paper, light = gflop["independent"], gflop["light independent"]
    assert gflop == {
        "independent": paper,
        "independent, openvino": paper,  # which cannot be counted, so it is torch's
        "light independent": light,
        "light independent, openvino": light,
    }
    assert paper / light > 4


def test_without_ruder_no_flow_is_estimated(run: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    missing = run("")
    assert (missing.exit_code, len(missing.stderr.splitlines())) == (1, 1)
    assert "pip install opencv-contrib-python" in missing.stderr
    done(run("--methods gatys,independent"))
    assert [row["method"] for row in results()["rows"]] == ["gatys", "gatys", "independent", "independent"]
    assert results()["flow"] == results()["recurrent_to_independent"] == []


def test_where_no_video_can_be_read_a_texture_moves(
    run: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_path: Path) -> None:
        raise OSError("no PyAV here")

    monkeypatch.setattr(table2, "open_clip", missing)
    made = done(run("--methods independent --size 32"))
    assert "measuring on a moving texture: no PyAV here" in made.stderr
    assert results()["settings"]["content"] == TEXTURE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--size 8", "'--size': expected at least 16, got 8"),
        ("--size 256,x", "'--size': expected a whole number, got 'x'"),
        ("--methods recurent", "did you mean recurrent?"),
        ("--flow-methods diss", "did you mean dis?"),
        ("--styles style.png", "needs a trained style, style.png is a picture"),
        ("--styles style.png,tiny/", "expected one style, got 2"),
    ],
)
def test_bad_input_is_one_line(run: Callable[[str], Result], arguments: str, message: str) -> None:
    assert message in told(run(arguments))
    assert not Path("out").exists()


# what is measured on


def task(content: str = CLIP, **settings: Any) -> Table2:
    chosen = SpeedSettings(flow_methods=("dis",), **settings)
    return Table2(chosen, Cast.of(["the_great_wave"], ["gatys"], None, chosen, "cpu", "float32"), content)


@pytest.mark.parametrize("content", [CLIP, TEXTURE])
def test_the_frames_move_there_and_back(content: str) -> None:
    frames = task(content).frames(96, 14)
    assert {tuple(frame.shape) for frame in frames} == {(1, 3, 96, 96)}
    assert 0 <= min(frame.min() for frame in frames) < max(frame.max() for frame in frames) <= 1
    assert torch.equal(frames[12], frames[10])
    assert torch.equal(frames[13], frames[9])
    assert all(not torch.equal(before, after) for before, after in pairwise(frames))
    flow = dis(frames[0], frames[11])
    assert flow.abs().max() > 1
    assert all(torch.equal(a, b) for a, b in zip(frames, task(content).frames(96, 14), strict=True))


def test_a_method_is_measured_in_a_fresh_process() -> None:
    found = in_fresh_process(measure_alone, task(measured_iterations=1), "gatys", 96, 1)
    assert len(found["seconds"]) == 1
    assert found["seconds"][0] > 0
    assert found["flop"] == hand_count_of_iteration(96, (64, 64, 128, 128, 256, 256, 256, 512, 512, 512))
    if reset_peak():
        assert found["peak_bytes"] is not None
        assert 50e6 < found["peak_bytes"] < 1e9  # VGG-16's weights and features
