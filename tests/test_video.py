"""Clips in and out: frames, times, colours and audio packets against the source's; errors leave nothing behind."""

import signal
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from nststab.frames import Frame, Stylizer
from nststab.shots import split_shots
from nststab.tasks.stylize import KeptOutput, by_units
from nststab.video import clip as clip_module
from nststab.video.clip import Clip, check_output, convert_clip, open_clip
from nststab.video.images import read_picture, write_picture
from nststab.video.threads import BackgroundWriter, Prefetcher, Waiting
from tests.conftest import moving_picture as picture
from tests.conftest import psnr

UNEVEN = [0, 40, 50, 130, 170, 290, 300, 330, 420, 500]  # milliseconds
RATE = 44100


def make_clip(
    path: Path,
    times: list[int] | None = None,
    last: int = 80,
    audio: str | None = None,
    audio_start: int = 0,
    height: int = 48,
    width: int = 64,
) -> Path:
    """A clip with frames at `times` (ms), the last one shown for `last` ms, and a second of sound."""
    times = UNEVEN if times is None else times
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"crf": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.flags |= av.codec.context.Flags.frame_duration
        track: Any = container.add_stream(audio, rate=RATE, layout="mono") if audio else None
        for index, (begin, end) in enumerate(zip(times, [*times[1:], times[-1] + last], strict=True)):
            pixels = (picture(index, height, width)[0].permute(1, 2, 0) * 255).round().byte().numpy()
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv444p", dst_colorspace=1)
            frame.time_base, frame.pts, frame.duration = Fraction(1, 1000), begin, end - begin
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None:
            samples = (0.3 * np.sin(np.arange(RATE) / 20)).astype(np.float32)
            sound = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="fltp", layout="mono")
            sound.sample_rate, sound.time_base, sound.pts = RATE, Fraction(1, RATE), audio_start * RATE // 1000
            sound_format = track.codec_context.format.name
            for part in av.AudioResampler(format=sound_format, layout="mono", rate=RATE).resample(sound):
                container.mux(track.encode(part))
            container.mux(track.encode(None))
    return path


def make_folder(folder: Path, count: int = 3, height: int = 12, width: int = 16) -> Path:
    folder.mkdir()
    for index in range(count):
        write_picture(folder / f"{index + 1}.png", picture(index, height, width))
    return folder


def times(path: Path) -> list[tuple[Fraction, Fraction]]:
    return [(frame.time, frame.duration) for frame in open_clip(path).frames()]  # type: ignore[misc]


def packets(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.size and p.pts is not None]


def heard(path: Path) -> tuple[float, float]:
    """When the sound begins and ends, in seconds."""
    with av.open(str(path)) as container:
        loud: list[float] = []
        for frame in container.decode(audio=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            level = np.abs(np.asarray(frame.to_ndarray(), dtype=np.float64))
            if level.max() > 0:
                loud += [float(frame.pts * frame.time_base), float(frame.pts * frame.time_base) + frame.samples / RATE]
        return min(loud), max(loud)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_every_frame_is_told_of_and_nothing_else_is_left(tmp_path: Path) -> None:
    source = open_clip(make_clip(tmp_path / "in.mp4"))
    progress: list[tuple[int, int | None]] = []
    result = convert_clip(source, tmp_path / "out.mp4", iter, progress=lambda *done: progress.append(done))
    assert result == (10, [])
    assert progress == [(i, 10) for i in range(1, 11)]
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize("source_suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_audio_packets_are_copied_and_stay_in_sync(tmp_path: Path, source_suffix: str, suffix: str) -> None:
    clock = 5000 if source_suffix == ".ts" else 0  # the clock of a transport stream begins anywhere
    shown = [clock + t + 300 for t in UNEVEN]  # the sound begins before the picture
    source = open_clip(make_clip(tmp_path / f"in{source_suffix}", shown, audio="aac", audio_start=clock))
    output = tmp_path / f"out{suffix}"
    assert source.has_audio
    assert convert_clip(source, output, iter) == (10, [])
    ours, theirs = packets(source.path), packets(output)
    assert len(theirs) == len(ours) > 40
    if source_suffix != ".ts":  # whose packets carry a header each, which the others keep once
        assert [data for _, data in theirs] == [data for _, data in ours]
    with av.open(str(source.path)) as container:
        stream = container.streams.video[0]
        assert stream.start_time is not None
        assert stream.time_base is not None
        seen = stream.start_time * stream.time_base
    lead = [seen - ours[0][0], times(output)[0][0] - theirs[0][0]]
    assert abs(lead[0] - lead[1]) <= Fraction(1, 400)  # Matroska counts in milliseconds
    gaps = [b[0] - a[0] for a, b in pairwise(ours)]
    their_gaps = [b[0] - a[0] for a, b in pairwise(theirs)]
    assert all(abs(a - b) <= Fraction(1, 500) for a, b in zip(gaps, their_gaps, strict=True))
    first_heard, first_seen = theirs[0][0], times(output)[0][0]
    if source_suffix == ".ts":
        assert abs(min(first_heard, first_seen)) <= Fraction(1, 500)
    else:
        assert abs(first_seen - Fraction(300, 1000)) <= Fraction(1, 1000)
    shown_at = [float(time - times(output)[0][0]) for time, _ in times(output)]
    assert shown_at == pytest.approx([t / 1000 for t in UNEVEN], abs=0.0015)


@pytest.mark.parametrize("start", [0, 250])
def test_sound_that_begins_later_than_the_picture(tmp_path: Path, start: int) -> None:
    source = open_clip(make_clip(tmp_path / "in.mp4", audio="aac", audio_start=start))
    convert_clip(source, tmp_path / "out.mp4", iter)
    assert packets(tmp_path / "out.mp4") == packets(source.path)
    assert heard(tmp_path / "out.mp4") == pytest.approx(heard(source.path), abs=0.002)


def test_audio_the_container_does_not_take_is_encoded_anew(tmp_path: Path) -> None:
    source = open_clip(make_clip(tmp_path / "in.mkv", [0, 40, 80, 400], audio="pcm_s16le", audio_start=200))
    result = convert_clip(source, tmp_path / "out.mp4", iter)
    assert result.notes == ["the audio was encoded anew as AAC: .mp4 does not take pcm_s16le"]
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        assert container.streams.audio[0].codec_context.sample_rate == RATE
    assert heard(tmp_path / "out.mp4") == pytest.approx((0.2, 1.2), abs=0.03)
    assert convert_clip(source, tmp_path / "out.mkv", iter).notes == []
    assert [data for _, data in packets(tmp_path / "out.mkv")] == [data for _, data in packets(source.path)]


def test_audio_can_be_dropped(tmp_path: Path) -> None:
    source = open_clip(make_clip(tmp_path / "in.mp4", audio="aac"))
    convert_clip(source, tmp_path / "out.mp4", iter, audio=False)
    assert not open_clip(tmp_path / "out.mp4").has_audio
    assert times(tmp_path / "out.mp4") == times(source.path)


def test_a_clip_that_is_scaled_for_an_output_has_even_sides(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "in", 3, 27, 48)
    opened = {size: open_clip(folder, size, even=True) for size in (20, 21, 48, None)}
    shapes = {size: (clip.width, clip.height) for size, clip in opened.items()}
    assert shapes == {20: (20, 12), 21: (21, 12), 48: (48, 27), None: (48, 27)}
    assert {frame.rgb.shape for frame in opened[20].frames()} == {(1, 3, 12, 20)}
    assert convert_clip(opened[20], tmp_path / "out.mp4", iter).notes == []
    assert next(open_clip(folder, 20).frames()).rgb.shape == (1, 3, 11, 20)  # what is measured has the nearest shape
    assert open_clip(folder / "1.png", 20, even=True).height == 11


@pytest.mark.parametrize(("height", "width"), [(47, 63), (48, 63), (1, 1), (2, 2)])
def test_odd_and_tiny_sizes_are_exact(tmp_path: Path, height: int, width: int) -> None:
    source = open_clip(make_folder(tmp_path / "in", 3, height, width))
    result = convert_clip(source, tmp_path / "out.mp4", iter)
    clip = open_clip(tmp_path / "out.mp4")
    assert (clip.height, clip.width) == (height, width)
    odd = height % 2 == 1 or width % 2 == 1
    assert ["4:4:4" in note for note in result.notes] == [True] * odd
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].pix_fmt == ("yuv444p" if odd else "yuv420p")
        assert container.streams.video[0].codec_context.name == "h264"
    assert times(tmp_path / "out.mp4") == [(Fraction(i, 25), Fraction(1, 25)) for i in range(3)]


COLOURS = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.2, 0.7, 0.4), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("width", [32, 33])
def test_a_colour_comes_back_and_is_tagged(tmp_path: Path, colour: tuple[float, float, float], width: int) -> None:
    expected = torch.tensor(colour).view(1, 3, 1, 1)
    write_picture(tmp_path / "in.png", expected.expand(1, 3, 32, width))
    convert_clip(open_clip(tmp_path / "in.png"), tmp_path / "out.mp4", iter)
    frame = next(open_clip(tmp_path / "out.mp4").frames())
    assert (frame.rgb - expected).abs().max() * 255 <= 2
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        tags = (context.colorspace, context.color_range, context.color_primaries, context.color_trc)
        assert tags == (1, 1, 1, 1)  # BT.709, limited range
        plane = next(container.decode(video=0)).planes[0]
        luma = np.frombuffer(bytes(plane), np.uint8)[: plane.width]
    known = 16 + 219 * (0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2])  # by BT.709's own equation
    assert abs(luma.astype(float) - known).max() <= 1.5


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("size", "kr", "kb"),
    [(32, 0.299, 0.114), (720, 0.2126, 0.0722)],
)
def test_an_untagged_clip_has_the_matrix_of_its_definition(
    tmp_path: Path, size: int, kr: float, kb: float, full: bool
) -> None:
    red, green, blue = 0.7, 0.3, 0.2
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = [(blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))]
    y = 255 * luma if full else 16 + 219 * luma
    cb, cr = [128 + (255 if full else 224) * c for c in chroma]
    planes = np.empty((size * 3, 32), np.uint8)
    for index, value in enumerate((y, cb, cr)):
        planes[index * size : (index + 1) * size] = round(value)
    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 32, size, "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 2, 2 if full else 1
        frame = av.VideoFrame.from_ndarray(planes.reshape(3, size, 32), format="yuv444p")
        frame.colorspace, frame.color_range = 2, 2 if full else 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    rgb = next(open_clip(tmp_path / "in.mp4").frames()).rgb
    assert rgb.mean((0, 2, 3)).tolist() == pytest.approx([red, green, blue], abs=2.5 / 255)


def test_the_first_stylized_frame_gives_the_size(tmp_path: Path) -> None:
    source = open_clip(make_clip(tmp_path / "in.mp4", audio="aac"))
    convert_clip(
        source, tmp_path / "wide.mp4", lambda frames: (f.with_rgb(torch.cat([f.rgb, f.rgb], dim=3)) for f in frames)
    )
    clip = open_clip(tmp_path / "wide.mp4")
    assert (clip.width, clip.height, clip.frame_count) == (128, 48, 10)
    assert times(clip.path) == times(source.path)
    frame, original = next(clip.frames()).rgb, next(source.frames()).rgb
    assert psnr(frame[..., 64:], original) > 30


def test_a_size_scales_frames_and_alpha(tmp_path: Path) -> None:
    clip = open_clip(make_clip(tmp_path / "in.mp4"), 32)
    assert (clip.width, clip.height) == (32, 24)
    assert all(frame.rgb.shape == (1, 3, 24, 32) for frame in clip.frames())
    write_picture(tmp_path / "a.png", torch.rand(1, 3, 20, 10), torch.ones(1, 1, 20, 10))
    frame = next(open_clip(tmp_path / "a.png", 40).frames())
    assert frame.alpha is not None
    assert frame.alpha.shape == (1, 1, 40, 20)
    with pytest.raises(ValueError, match="at least 1"):
        open_clip(tmp_path / "a.png", 0)


def test_a_folder_is_read_in_natural_order_and_written_whole(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "in", 11)
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_text("not a picture")
    clip = open_clip(folder)
    assert (clip.kind, clip.frame_count, clip.width, clip.height) == ("folder", 11, 16, 12)
    frames = list(clip.frames())
    for index, frame in enumerate(frames):
        assert torch.allclose(frame.rgb, picture(index, 12, 16), atol=0.51 / 255)
        assert frame.time is None
    assert convert_clip(clip, f"{tmp_path}/out/", iter) == (11, [])
    assert names(tmp_path / "out") == [f"frame_{i:06d}.png" for i in range(1, 12)]
    for index, frame in enumerate(open_clip(tmp_path / "out").frames()):
        assert torch.equal(frame.rgb, frames[index].rgb)


def test_alpha_is_kept_where_it_can_be(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    alphas = [torch.full((1, 1, 8, 8), value / 255) for value in (0, 77, 255)]
    for index, alpha in enumerate(alphas):
        write_picture(tmp_path / "in" / f"{index}.png", picture(index, 8, 8), alpha)
    folder = open_clip(tmp_path / "in")
    assert convert_clip(folder, f"{tmp_path}/out/", iter).notes == []
    for frame, alpha in zip(open_clip(tmp_path / "out").frames(), alphas, strict=True):
        assert frame.alpha is not None
        assert torch.equal(frame.alpha, alpha)
    assert convert_clip(folder, tmp_path / "out.mp4", iter).notes == [".mp4 holds no transparency: it was dropped"]
    one = open_clip(tmp_path / "in" / "1.png")
    assert convert_clip(one, tmp_path / "out.webp", iter).notes == []
    assert read_picture(tmp_path / "out.webp").alpha is not None
    assert len(convert_clip(one, tmp_path / "out.jpg", iter).notes) == 1


def test_a_missing_clip_is_named_in_the_systems_words(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.png"):
        with pytest.raises(FileNotFoundError, match=f"{name}: No such file"):
            open_clip(tmp_path / name)


def test_frames_of_an_earlier_longer_clip_do_not_stay_behind(tmp_path: Path) -> None:
    output = tmp_path / "out"
    convert_clip(open_clip(make_folder(tmp_path / "long", 5)), f"{output}/", iter)
    (output / "frame_000009.png").write_text("not next in the row: somebody else's")
    convert_clip(open_clip(make_folder(tmp_path / "short", 2)), f"{output}/", iter)
    assert names(output) == ["frame_000001.png", "frame_000002.png", "frame_000009.png"]


def test_a_folder_is_not_written_into_itself(tmp_path: Path) -> None:
    source = open_clip(make_folder(tmp_path / "in"))
    with pytest.raises(ValueError, match="the input itself"):
        check_output(source, tmp_path / "in")
    assert check_output(source, f"{tmp_path}/new.mp4/") == "folder"
    assert check_output(source, tmp_path / "a.MP4") == "video"


class Broken(Exception):
    pass


def raises(frames: Iterable[Frame], error: type[BaseException] = Broken) -> Iterator[Frame]:
    for index, frame in enumerate(frames):
        if index == 3:
            raise error
        yield frame


FAULTS: dict[str, Stylizer] = {
    "raises": raises,
    "is interrupted": lambda frames: raises(frames, KeyboardInterrupt),
    "stops": lambda frames: islice(frames, 3),
    "repeats": lambda frames: (frame for frame in frames for _ in range(2)),
    "swaps": lambda frames: iter(sorted(frames, key=lambda frame: frame.number ^ 1)),
    "grows": lambda frames: (one.with_rgb(one.rgb[..., : 32 + 2 * one.number]) for one in frames),
    "gives nothing": lambda _: iter(()),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_errors_reach_the_caller_and_leave_nothing(tmp_path: Path, fault: str) -> None:
    source = open_clip(make_clip(tmp_path / "in.mp4", list(range(0, 3000, 40)), audio="aac"))
    (tmp_path / "out.mp4").write_text("old")
    threads = threading.active_count()
    with pytest.raises({"raises": Broken, "is interrupted": KeyboardInterrupt}.get(fault, ValueError)):
        convert_clip(source, tmp_path / "out.mp4", FAULTS[fault])
    assert names(tmp_path) == ["in.mp4", "out.mp4"]
    assert (tmp_path / "out.mp4").read_text() == "old"
    assert threading.active_count() == threads


def test_large_frames_wait_in_no_queue_and_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_module, "_QUEUED", 0)  # as for frames of more than three of 1080p
    source = open_clip(make_clip(tmp_path / "in.mp4", list(range(0, 1200, 40))))
    seen: list[weakref.ref[Tensor]] = []
    alive = []

    def flipped(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            made = frame.with_rgb(frame.rgb.flip(-1))
            seen.extend(map(weakref.ref, (frame.rgb, made.rgb)))
            alive.append(sum(one() is not None for one in seen))
            yield made
            del frame, made

    output = tmp_path / "out.mp4"
    made = convert_clip(source, output, by_units(flipped, split_shots, KeptOutput(str(output))))
    assert made.frames == len(alive) == open_clip(output).frame_count == 30
    assert max(alive) <= 3  # this one, what is made of it, and what is written meanwhile
    with pytest.raises(Broken):
        convert_clip(source, output, FAULTS["raises"])


class Stuck(Iterator[int]):
    """Cannot be closed."""

    def __next__(self) -> int:
        raise StopIteration

    def close(self) -> None:
        raise OSError("cannot be closed")


def test_a_source_that_cannot_be_closed_does_not_keep_its_reader_waiting() -> None:
    with Prefetcher(Stuck(), 2) as items, pytest.raises(OSError, match="cannot be closed"):
        next(items)


def test_an_error_waits_for_a_source_that_computes() -> None:
    """A daemon thread in the midst of a computation aborts the process that ends."""
    ended: list[bool] = []

    def computing() -> Iterator[int]:
        yield 0
        time.sleep(0.3)
        ended.append(True)

    def fail() -> None:
        with Prefetcher(computing(), 2) as items:
            next(items)
            raise Broken

    with pytest.raises(Broken):
        fail()
    assert ended


def test_an_error_does_not_wait_for_a_source_that_is_silent() -> None:
    speaks = threading.Event()

    def silent() -> Iterator[int]:
        yield 0
        speaks.wait(20)

    def fail() -> None:
        with Prefetcher(silent(), 2, patience=0.1) as items:
            next(items)
            raise Broken

    begun = time.monotonic()
    with pytest.raises(Broken):
        fail()
    assert time.monotonic() - begun < 10
    speaks.set()


def test_what_waits_to_be_written_is_dropped_on_an_error() -> None:
    written: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def write(item: int) -> None:
        begun.set()
        assert go_on.wait(5)
        written.append(item)

    def fail() -> None:
        with BackgroundWriter(write, Waiting[int](3)) as writer:
            for item in range(3):
                writer.put(item)
            assert begun.wait(5)
            threading.Timer(0.1, go_on.set).start()
            raise Broken

    with pytest.raises(Broken):
        fail()
    assert written == [0]


def test_ctrl_c_while_waiting_for_a_frame_leaves_nothing(tmp_path: Path) -> None:
    source = open_clip(make_clip(tmp_path / "in.mp4", list(range(0, 3000, 40))))
    waiting = threading.Event()

    def waits(frames: Iterable[Frame]) -> Iterator[Frame]:
        stream = iter(frames)
        yield next(stream)
        main = threading.main_thread().ident
        assert main is not None
        threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
        waiting.wait(10)
        yield from stream

    before, threads = time.monotonic(), threading.active_count()
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            convert_clip(source, tmp_path / "out.mp4", waits)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert time.monotonic() - before < 8
    assert names(tmp_path) == ["in.mp4"]
    assert threading.active_count() <= threads + 1  # the timer may still be ending


def test_a_folder_keeps_whole_frames_only(tmp_path: Path) -> None:
    source = open_clip(make_clip(tmp_path / "in.mp4"))
    with pytest.raises(Broken):
        convert_clip(source, f"{tmp_path}/out/", raises)
    left = names(tmp_path / "out") if (tmp_path / "out").exists() else []
    assert set(left) <= {f"frame_{i:06d}.png" for i in (1, 2, 3)}
    with pytest.raises(ValueError, match="stopped after 0"):
        convert_clip(source, f"{tmp_path}/none/", FAULTS["gives nothing"])
    assert not (tmp_path / "none").exists()


def test_an_error_in_the_middle_of_the_source_reaches_the_caller(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "in", 5)
    (folder / "4.png").write_text("not a picture")
    with pytest.raises(ValueError, match=r"4\.png"):
        convert_clip(open_clip(folder), tmp_path / "out.mp4", iter)
    write_picture(folder / "4.png", torch.zeros(1, 3, 6, 6))
    with pytest.raises(ValueError, match="expected 16x12 pixels"):
        convert_clip(open_clip(folder), tmp_path / "out.mp4", iter)
    assert names(tmp_path) == ["in"]


def test_a_failing_encoder_reaches_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nststab.video.writer import VideoWriter

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    source = open_clip(make_clip(tmp_path / "in.mp4", list(range(0, 3000, 40))))
    monkeypatch.setattr(VideoWriter, "write", full)
    with pytest.raises(OSError, match="No space left"):
        convert_clip(source, tmp_path / "out.mp4", iter)
    assert names(tmp_path) == ["in.mp4"]


def test_frames_stream_through_with_little_look_ahead(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "in", 40, 4, 4)
    source = open_clip(folder)
    read: list[int] = []
    original = Clip.frames

    def counted(clip: Clip) -> Iterator[Any]:
        for index, frame in enumerate(original(clip)):
            read.append(index)
            yield frame

    object.__setattr__(source, "frames", lambda: counted(source))
    ahead: list[int] = []

    def slow(frames: Iterable[Frame]) -> Iterator[Frame]:
        for index, frame in enumerate(frames):
            time.sleep(0.005)
            ahead.append(len(read) - index)
            yield frame

    convert_clip(source, tmp_path / "out.mp4", slow)
    assert max(ahead) <= 8  # bounded, however long the clip
    assert max(ahead) > 1  # and yet ahead


def test_the_pictures_of_a_stylizer_that_reads_its_shot_to_the_end_are_not_held(tmp_path: Path) -> None:
    held: list[weakref.ref[Tensor]] = []
    most = 0

    def reads_all(frames: Iterable[Frame]) -> Iterator[Frame]:
        nonlocal most
        taken = []
        for frame in frames:
            held.append(weakref.ref(frame.rgb))
            most = max(most, sum(reference() is not None for reference in held))
            taken.append(frame.with_rgb(torch.zeros(1, 3, 4, 4)))
        yield from taken

    convert_clip(open_clip(make_folder(tmp_path / "in", 40, 4, 4)), tmp_path / "out.mp4", reads_all)
    assert len(held) == 40
    assert most <= 4
