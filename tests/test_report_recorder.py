"""What a report records while frames pass by: their curves, pictures and shots."""

import base64
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nststab.flow.pairs import FlowPair
from nststab.measure.stability import CONTENT, StabilityMeter, StabilitySettings
from nststab.report.recorder import SceneRecorder
from nststab.report.scene import make_scene
from nststab.video.images import read_picture

HEIGHT, WIDTH = 32, 48
TENTH = Fraction(1, 10)


def still(first: Tensor, second: Tensor) -> Tensor:  # noqa: ARG001
    return torch.zeros(1, 2, *first.shape[-2:])


FLOW = FlowPair.of(torch.zeros(1, 2, HEIGHT, WIDTH), torch.zeros(1, 2, HEIGHT, WIDTH))


def noise(seed: int) -> Tensor:
    return torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


def recorder(
    folder: Path, count: int, size: int | None = None, names: tuple[str, ...] = (CONTENT, "a")
) -> SceneRecorder:
    return SceneRecorder(names, [(n * TENTH, TENTH) for n in range(count)], folder, size)


def record(found: SceneRecorder, shots: list[list[tuple[Tensor, ...]]]) -> None:
    meter = StabilityMeter(StabilitySettings(2))
    for shot in shots:
        meter.start_shot()
        found.start_shot()
        for number, (content, *made) in enumerate(shot):
            meter.update(content, {str(i): frame for i, frame in enumerate(made)})
            found.update([content, *made], meter.pair, FLOW if number else None)


def test_curves_are_of_the_frames_and_nothing_spans_a_cut(tmp_path: Path) -> None:
    content = noise(0)
    brighter = [(content * 0.5 + 0.02 * n).clamp(0, 1) for n in range(4)]
    found = recorder(tmp_path, 4)
    record(
        found, [[(content, brighter[0]), (content, brighter[1])], [(content, brighter[2])], [(content, brighter[3])]]
    )
    assert found.shots == [0, 2, 3]  # the second is one frame long
    own, made = found.curves
    assert own == {"ssim": [None, 1.0, None, None], "warp": [None, 0.0, None, None], "change": [None, 0.0, None, None]}
    assert made["change"] == [None, pytest.approx(255 * 0.02, rel=1e-3), None, None]
    assert made["warp"] == [None, pytest.approx(0.02**2, rel=1e-3), None, None]
    heats = [float(heat.mean()) for heat in found.heats[1]]
    assert heats == [0, pytest.approx(0.02, abs=1 / 255), 0, 0]


def test_what_comes_after_the_last_is_counted_and_not_kept(tmp_path: Path) -> None:
    found = recorder(tmp_path, 2)
    record(found, [[(noise(n), noise(n + 9)) for n in range(5)]])
    assert (found.passed, len(found.times), found.full) == (5, 2, True)
    assert [len(clip) for clip in (*found.shown, *found.heats)] == [2] * 4
    assert all(len(curve) == 2 for clip in found.curves for curve in clip.values())


def test_a_stream_that_ends_early_has_as_many_times_as_frames(tmp_path: Path) -> None:
    found = recorder(tmp_path, 125)
    record(found, [[(noise(n), noise(n + 9)) for n in range(3)]])
    assert (len(found.times), found.full) == (3, False)
    scene = make_scene("a pipe", found, still)
    assert scene.data["times"] == pytest.approx([0, 0.1, 0.2])
    assert scene.data["end"] == pytest.approx(0.3)


def test_of_more_clips_than_names_the_first_are_taken(tmp_path: Path) -> None:
    found = recorder(tmp_path, 2)
    record(found, [[(noise(n), noise(n + 5), noise(n + 9)) for n in range(2)]])
    scene = make_scene("scene", found, still)
    assert len(scene.data["clips"]) == 2
    assert {len(crop["cells"]) for crop in scene.data["crops"]} == {2}


def test_boxes_are_in_the_pixels_of_the_clips_that_are_shown(tmp_path: Path) -> None:
    frames: list[tuple[Tensor, ...]] = [(noise(n), noise(n + 9)) for n in range(2)]
    boxes = []
    for number, size in enumerate((None, 24, 400)):
        (tmp_path / str(number)).mkdir()
        found = recorder(tmp_path / str(number), 2, size)
        record(found, [frames])
        scene = make_scene("scene", found, still).data
        boxes.append(scene["crops"][0]["boxes"])
        assert (scene["width"], scene["height"]) == ((24, 16) if size == 24 else (WIDTH, HEIGHT))
    assert boxes[0] == boxes[2]
    assert boxes[1] == [[pytest.approx(side / 2, abs=0.06) for side in box] for box in boxes[0]]


def test_a_failure_of_the_flow_in_a_large_clip_is_framed_in_a_small_picture(tmp_path: Path) -> None:
    frame = torch.full((1, 3, 200, 2000), 0.2)
    frame[..., 50:150, 1020:1120] = 0.6
    backward = torch.zeros(1, 2, 200, 2000)
    backward[:, 0, 20:180, 1000:1150] = 120
    found = recorder(tmp_path, 2, 240)
    trust = torch.ones(1, 1, 200, 2000)
    for flow in (None, FlowPair(-backward, backward, trust, trust)):
        found.update([frame, frame], None, flow)
    (failure,) = make_scene("scene", found, still).data["failures"]
    path = tmp_path / "mask.png"
    path.write_bytes(base64.b64decode(failure["mask"].split(",")[1]))
    shown = read_picture(path).rgb
    assert shown.shape == (1, 3, 24, 240)  # the size of the shown clip, so the box fits both
    black = (shown[0, 0] == 0).nonzero().tolist()  # the line around the white one; all else is trusted
    x, y, width, _ = failure["box"]
    assert min(column for _, column in black) == pytest.approx(x - 2, abs=1)
    assert max(column for _, column in black) == pytest.approx(x + width + 1, abs=1)
    assert min(row for row, _ in black) == pytest.approx(max(0, y - 2), abs=1)


def test_no_frame_is_no_scene(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing: expected frames to report on, got none"):
        make_scene("nothing", recorder(tmp_path, 3), still)


def test_the_shape_of_a_pixel_is_told(tmp_path: Path) -> None:
    found = recorder(tmp_path, 1)
    record(found, [[(noise(0), noise(1))]])
    assert make_scene("scene", found, still, aspect=Fraction(16, 15)).data["aspect"] == pytest.approx(16 / 15)
