"""Frames in a loop: what goes in and out as NumPy, what is remembered, and what is refused."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nststab
from nststab.errors import NststabError
from nststab.frames import Frame
from nststab.methods.feed_forward import FeedForward
from nststab.methods.painter import Painter, frame_by_frame, paint_batch
from nststab.methods.regions import Masked
from nststab.styles.source import style_source
from nststab.tasks.settings import StylizeSettings
from nststab.video.images import from_uint8, read_opaque, to_uint8, write_picture
from tests.conftest import save_frames

STYLE = "the_great_wave"


def pictures(count: int = 3, height: int = 33, width: int = 46) -> list[Any]:
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8))


def painted(method: str, frames: list[Any]) -> list[Any]:
    network = FeedForward(style_source(STYLE).trained(method).network)
    return [to_uint8(made.rgb) for made in network(Frame(from_uint8(frame)) for frame in frames)]


@pytest.mark.parametrize("method", ["recurrent", "independent"])
def test_it_paints_what_the_stylizer_does_and_begins_anew_at_a_cut(method: Any) -> None:
    painter, frames = Painter(STYLE, method, device="cpu", precision="float32"), pictures()
    expected = painted(method, frames)
    for _ in range(2):
        for frame, wanted in zip(frames, expected, strict=True):
            out = painter(frame)
            assert out.dtype == np.uint8
            assert np.array_equal(out, wanted)
        painter.reset()
    assert painter(pictures(1, 20, 31)[0]).shape == (20, 31, 3)


def test_bgr_goes_in_and_out() -> None:
    frames = pictures(2)
    painter = Painter(STYLE, device="cpu", precision="float32", bgr=True)
    for frame, wanted in zip(frames, painted("recurrent", frames), strict=True):
        assert np.array_equal(painter(frame[..., ::-1])[..., ::-1], wanted)


@pytest.mark.filterwarnings("error")
def test_a_frame_that_may_not_be_written_to_is_painted_without_a_warning() -> None:
    (frame,) = pictures(1)
    frame.flags.writeable = False
    assert np.array_equal(Painter(STYLE, device="cpu", precision="float32")(frame), painted("recurrent", [frame])[0])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((8, 9, 3), np.float32), r"got float32; \(255 \* frame\)"),
        (np.full((8, 9, 3), 200.0), r"got float64; \(frame\)\.round\(\)"),
        (np.zeros((8, 9, 3), np.int64), "got int64$"),
        (np.zeros((3, 8, 9), np.uint8), r"got the shape \(3, 8, 9\); frame\.transpose"),
        (np.zeros((8, 9, 4), np.uint8), r"got the shape \(8, 9, 4\); frame\[\.\.\., :3\]"),
        (np.zeros((8, 9), np.uint8), r"got the shape \(8, 9\)$"),
        (torch.zeros(8, 9, 3), r"got a Tensor; \.numpy"),
        (None, "got None"),
    ],
)
def test_what_is_no_frame_is_refused(frame: Any, message: str) -> None:
    with pytest.raises(NststabError, match=message):
        Painter(STYLE, device="cpu")(frame)


@pytest.mark.parametrize("size", ["640", 10.5, 0, None])
def test_a_size_to_paint_at_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(NststabError, match="work_size: expected full, or pixels from 32 on"):
        Painter(STYLE, device="cpu", work_size=size)


def test_a_mask_of_its_own_leaves_the_rest_of_a_frame_as_it_is() -> None:
    frames, painter = pictures(2), Painter(STYLE, device="cpu", precision="float32", bgr=True)
    masks = [np.zeros((33, 46), np.uint8), np.full((33, 46), 255, np.uint8)]
    masks[0][:, 23:] = 255
    made = [painter(frame[..., ::-1], mask)[..., ::-1] for frame, mask in zip(frames, masks, strict=True)]
    whole = painted("recurrent", frames)
    given = [
        Frame(from_uint8(frame), mask=from_uint8(mask[..., None])) for frame, mask in zip(frames, masks, strict=True)
    ]
    network = Masked(FeedForward(style_source(STYLE).trained("recurrent").network))
    assert all(np.array_equal(one, to_uint8(other.rgb)) for one, other in zip(made, network(given), strict=True))
    assert np.array_equal(made[0][:, :20], frames[0][:, :20])
    assert np.array_equal(made[0][:, 26:], whole[0][:, 26:])
    assert np.array_equal(made[1], whole[1])
    wrong: list[Any] = [np.zeros((8, 9), np.uint8), np.zeros((33, 46)), np.zeros((33, 46, 3), np.uint8), [0]]
    for mask in wrong:
        with pytest.raises(NststabError, match=r"expected a mask as a NumPy array \(33, 46\) of uint8, .* got"):
            painter(frames[0], mask)


def test_regions_have_styles_of_their_own_as_those_of_the_command(tmp_path: Path) -> None:
    frames = pictures(2, 48, 64)
    save_frames(tmp_path / "clip", map(from_uint8, frames))
    masks = {"sky": np.zeros((48, 64), np.uint8), "sea": np.zeros((48, 64), np.uint8)}
    masks["sky"][:20], masks["sea"][12:, 40:] = 255, 255  # which overlap
    for name, mask in masks.items():
        write_picture(tmp_path / f"{name}.png", from_uint8(mask[..., None]).expand(-1, 3, -1, -1))
    rest, sky, sea = "light/mosaic", "light/starry_night", "light/candy"
    nststab.stylize(
        tmp_path / "clip",
        f"{tmp_path}/out/",
        style=rest,
        work_size=32,
        strength=0.75,
        settings=StylizeSettings(mask_styles=(f"{sky}={tmp_path}/sky.png", f"{sea}={tmp_path}/sea.png"), cuts=False),
    )
    expected = [to_uint8(read_opaque(path)) for path in sorted((tmp_path / "out").glob("*.png"))]
    painter = Painter(rest, strength=0.75, work_size=32, regions={"sky": sky, "sea": sea})
    for _ in range(2):
        for frame, wanted in zip(frames, expected, strict=True):
            assert np.array_equal(painter(frame, regions=masks), wanted)
        painter.reset()


def test_a_region_has_a_strength_of_its_own_and_forgets_what_it_is_not_part_of() -> None:
    frames, whole = pictures(3), np.full((33, 46), 255, np.uint8)
    painter = Painter("light/mosaic", work_size=32, regions={"all": "light/candy"})
    painter.regions["all"].strength = 0.0
    assert np.abs(painter(frames[0], regions={"all": whole}).astype(int) - frames[0]).max() <= 1
    painter.regions["all"].strength = 1.0
    painter(frames[1])  # without the region
    alone = Painter("light/candy", work_size=32)
    assert np.array_equal(painter(frames[2], regions={"all": whole}), alone(frames[2]))
    with pytest.raises(NststabError, match="there is no region 'sky'; there are all"):
        painter(frames[0], regions={"sky": whole})
    with pytest.raises(NststabError, match=r"expected a mask as a NumPy array \(33, 46\) of uint8"):
        painter(frames[0], regions={"all": whole[:8]})


def test_another_size_in_a_shot_and_another_thread_are_refused() -> None:
    painter = Painter(STYLE, device="cpu")
    painter(pictures(1)[0])
    with pytest.raises(NststabError, match=r"46x33 as the one before, got 9x8; call reset\(\)"):
        painter(np.zeros((8, 9, 3), np.uint8))
    caught: list[Exception] = []

    def call() -> None:
        try:
            painter(pictures(1)[0])
        except NststabError as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "two threads" in str(caught[0])


def test_a_function_of_one_picture_is_a_stylizer() -> None:
    frames = [Frame(from_uint8(picture), number) for number, picture in enumerate(pictures())]
    made = list(frame_by_frame(lambda picture: 255 - picture)(frames))
    assert [frame.number for frame in made] == [0, 1, 2]
    for frame, source in zip(made, frames, strict=True):
        assert torch.allclose(frame.rgb, 1 - source.rgb, atol=1e-6)
    with pytest.raises(NststabError, match=r"expected from <lambda> a picture .* got float64"):
        next(frame_by_frame(lambda picture: picture / 255)(frames))  # type: ignore[arg-type,return-value]


ENGINES = ["torch", "openvino", "onnx"]


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
def test_painters_work_side_by_side_in_threads(engine: Any, share: bool) -> None:
    """Each gives what it gives alone, with a network of its own and with one for all."""
    frames = pictures(2)
    alone = Painter(STYLE, device="cpu", precision="float32", engine=engine)
    expected = [alone(frame) for frame in frames]
    made: dict[int, list[Any]] = {}

    def run(number: int) -> None:
        painter = alone.another() if share else Painter(STYLE, device="cpu", precision="float32", engine=engine)
        made[number] = [painter(frame) for frame in frames]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(3):
        assert all(np.array_equal(*pair) for pair in zip(made[number], expected, strict=True))


LIGHT: dict[str, Any] = {"style": ["light/mosaic", "light/candy"], "device": "cpu", "precision": "float32"}


@pytest.mark.parametrize("method", ["recurrent", "independent"])
@pytest.mark.parametrize("engine", ENGINES)
def test_streams_in_a_batch_are_painted_as_each_alone(engine: Any, method: Any) -> None:
    """Streams of their own looks and masks; one comes later, one is cut, one misses a frame, one is left as it is."""
    first = Painter(**LIGHT, method=method, engine=engine, work_size=32)
    streams = [first, *(first.another() for _ in range(3))]
    alone = [Painter(**LIGHT, method=method, engine=engine, work_size=32) for _ in streams]
    for painters in (streams, alone):
        painters[0].weights, painters[1].weights = (1, 0), (0, 1)
        painters[1].stroke, painters[2].strength, painters[3].strength = 0.7, 0.6, 0
    mask = np.zeros((33, 46), np.uint8)
    mask[:, 23:] = 255
    frames = pictures(12)
    calls: list[tuple[list[int], int | None]] = [([0, 1], None), ([0, 1, 2, 3], None), ([2, 0], 0), ([1, 2, 0], None)]
    for numbers, cut in calls:
        taken = [frames.pop() for _ in numbers]
        masks = [mask if number == 1 else None for number in numbers]
        if cut is not None:
            streams[cut].reset()
            alone[cut].reset()
        made = paint_batch([streams[number] for number in numbers], taken, masks)
        for number, out, frame, own in zip(numbers, made, taken, masks, strict=True):
            wanted = alone[number](frame, own)
            assert out.dtype == np.uint8
            assert np.abs(out.astype(int) - wanted).max() <= 1
            assert np.array_equal(out, frame) == (number == 3)


def test_a_batch_that_is_refused_changes_no_stream() -> None:
    frames = pictures(3)
    first = Painter(STYLE, device="cpu", precision="float32")
    streams, other = [first, first.another()], Painter(STYLE, device="cpu", precision="float32")
    expected = paint_batch([first.another(), first.another()], frames[:2])
    small = np.zeros((8, 9, 3), np.uint8)
    refused: list[tuple[list[Painter], list[Any], str]] = [
        (streams, [small, frames[0]], r"frames of one size, got 9x8 and 46x33$"),
        (streams, [small, None], "got None"),
        (streams, frames, "expected a frame for each of 2 painters, got 3"),
        ([first, other], frames[:2], r"one network, each once; painter\.another\(\) makes them"),
        ([first, first], frames[:2], "each once"),
    ]
    for painters, taken, message in refused:
        with pytest.raises(NststabError, match=message):
            paint_batch(painters, taken)
    assert np.array_equal(paint_batch(streams, frames[:2]), expected)
    with pytest.raises(NststabError, match="expected a frame of 46x33 as the one before, got 9x8"):
        paint_batch([first.another(), first], [small, small])
    assert paint_batch([], []) == []
