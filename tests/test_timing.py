"""Excerpts and rates against FFmpeg's own filter, against whole reading, and by what a late start costs."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.codec.context import Flags
from hypothesis import given, settings
from hypothesis import strategies as st

from nststab.errors import MissingFile
from nststab.video.clip import convert_clip, open_clip
from nststab.video.images import write_picture
from nststab.video.reader import VideoReader
from nststab.video.timing import WHOLE, Excerpt, at_rate, count_at_rate, cut, excerpt, retimed
from tests.conftest import save_clip

UNIT = Fraction(1, 1000)


def stream(ticks: list[int], last: int = 40) -> list[tuple[int, Fraction, Fraction]]:
    """Frames which are numbers, at `ticks` milliseconds."""
    gaps = [after - before for before, after in pairwise([*ticks, ticks[-1] + last])]
    return [(index, tick * UNIT, gap * UNIT) for index, (tick, gap) in enumerate(zip(ticks, gaps, strict=True))]


def by_ffmpeg(ticks: list[int], last: int, rate: Fraction) -> list[tuple[int, Fraction]]:
    """What FFmpeg's filter `fps` makes of the frames: the number of each, and its time."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=16, height=16, format=av.VideoFormat("gray16le"), time_base=UNIT)
    retime, sink = graph.add("fps", f"fps={rate}:round=near"), graph.add("buffersink")
    source.link_to(retime)
    retime.link_to(sink)
    graph.configure()
    made: list[tuple[int, Fraction]] = []

    def pull() -> None:
        while True:
            try:
                frame: Any = graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            made.append((int(np.frombuffer(frame.planes[0], np.uint16)[0]), frame.pts * frame.time_base))

    for index, tick in enumerate(ticks):
        frame = av.VideoFrame.from_ndarray(np.full((16, 16), index, np.uint16), format="gray16le")
        frame.pts, frame.time_base = tick, UNIT
        frame.duration = ([*ticks[1:], ticks[-1] + last])[index] - tick
        graph.push(frame)
        pull()
    graph.push(None)
    pull()
    return made


GAPS = st.lists(st.integers(1, 120), min_size=1, max_size=12)
RATES = st.sampled_from([Fraction(n) for n in (5, 10, 24, 25, 30, 60)] + [Fraction(30000, 1001), Fraction(1, 2)])


@settings(max_examples=150, deadline=None)
@given(first=st.integers(0, 300), gaps=GAPS, rate=RATES)
def test_frames_are_dropped_and_repeated_as_ffmpeg_does(first: int, gaps: list[int], rate: Fraction) -> None:
    ticks = [first + sum(gaps[:index]) for index in range(len(gaps))]
    made = [(index, time) for index, time, _ in at_rate(stream(ticks, gaps[-1]), rate)]
    known = by_ffmpeg(ticks, gaps[-1], rate)
    assert made == known or (len(made) == 1 and not known)  # it gives none of a clip that is shorter than half a frame
    assert count_at_rate(first * UNIT, (ticks[-1] + gaps[-1]) * UNIT, rate) == len(made)
    assert all(duration == 1 / rate for _, _, duration in at_rate(stream(ticks), rate))


@settings(max_examples=100, deadline=None)
@given(first=st.integers(0, 50), gaps=GAPS, piece=st.integers(20, 200))
def test_excerpts_in_a_row_are_the_whole(first: int, gaps: list[int], piece: int) -> None:
    ticks = [first + sum(gaps[:index]) for index in range(len(gaps))]
    frames = stream(ticks)
    together: list[int] = []
    for begin in range(0, ticks[-1] + 1, piece):
        part = excerpt(begin * UNIT, piece * UNIT, None)
        inside = [index for index, tick in enumerate(ticks) if begin <= tick < begin + piece]
        if not inside:
            before = [index for index, tick in enumerate(ticks) if tick < begin]
            if before:  # the frame that is shown meanwhile
                assert [index for index, _, _ in cut(frames, part, "clip")] == before[-1:]
                continue
            with pytest.raises(ValueError, match="expected a"):
                list(cut(frames, part, "clip"))
            continue
        got = list(retimed(cut(frames, part, "clip"), part))
        assert got[0][1] == (0 if begin else ticks[0] * UNIT)  # a clip's own beginning is kept
        assert all(time + duration <= piece * UNIT for _, time, duration in got)
        together += [index for index, _, _ in got]
    assert together == list(range(len(ticks)))


def test_floats_are_the_decimals_they_are_written_as() -> None:
    part = excerpt(0.1, 0.3, 29.97)
    assert (part.start, part.duration, part.end, part.fps) == (
        Fraction(1, 10),
        Fraction(3, 10),
        Fraction(4, 10),
        Fraction(2997, 100),
    )
    assert excerpt(None, None, None) == excerpt(0, None, None) == WHOLE
    assert excerpt(None, None, Fraction(30000, 1001)).fps == Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("given_rate", "rate"),
    [
        (24000 / 1001, Fraction(24000, 1001)),
        (29.97002997, Fraction(30000, 1001)),
        (Fraction(2997, 125), Fraction(2997, 125)),
        (Fraction(62501, 2500), Fraction(62501, 2500)),
        (Fraction(1, 3600), Fraction(1, 3600)),
        (Fraction(1170000000, 46824289), Fraction(17341, 694)),
    ],
)
def test_a_rate_is_made_plain_that_files_hold(tmp_path: Path, given_rate: float | Fraction, rate: Fraction) -> None:
    clip = open_clip(long_clip(tmp_path / "clip.mp4", 5, 5), fps=given_rate)
    assert clip.source is not None
    assert clip.source.rate == rate
    convert_clip(clip, tmp_path / "out.mp4", iter)


@pytest.mark.parametrize("rate", [1e-12, Fraction(1, 10**7), 1e12, 2**31])
def test_a_rate_that_no_file_holds_is_refused(rate: float | Fraction) -> None:
    with pytest.raises(ValueError, match=r"expected a rate of 0\.000001 to 2147483647 frames per second, got"):
        excerpt(None, None, rate)


@pytest.mark.parametrize("value", [-1, -0.1, float("nan"), float("inf")])
def test_times_and_rates_that_cannot_be(value: float) -> None:
    for given_values in ((value, None, None), (None, value, None), (None, None, value)):
        with pytest.raises(ValueError, match=f"expected a .*, got {value}"):
            excerpt(*given_values)
    for given_values in ((None, 0, None), (None, None, 0)):
        with pytest.raises(ValueError, match="more than 0, got 0"):
            excerpt(*given_values)


def long_clip(path: Path, frames: int, key: int) -> Path:
    """Frame i is grey of level i % 200 + 20; a key frame every `key`."""
    greys = (torch.full((1, 3, 16, 16), (index % 200 + 20) / 255) for index in range(frames))
    if path.suffix == ".webm":
        return save_clip(path, greys, "libvpx-vp9", **{"crf": "10", "cpu-used": "8"}, g=str(key))
    return save_clip(path, greys, crf="10", preset="ultrafast", g=str(key))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".ts", ".avi"])
def test_a_late_start_decodes_from_the_key_frame_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = long_clip(tmp_path / f"long{suffix}", 400, 20)
    decoded = 0
    decode = VideoReader._decode

    def counted(reader: VideoReader, *arguments: Any) -> Any:
        nonlocal decoded
        frames = decode(reader, *arguments)
        decoded += len(frames)
        return frames

    monkeypatch.setattr(VideoReader, "_decode", counted)
    clip = open_clip(path, start=15.7, duration=0.2)  # frames 393 (after 15.68) to 397
    decoded = 0
    levels = [round(float(frame.rgb.mean()) * 255) for frame in clip.frames()]
    assert levels == pytest.approx([index % 200 + 20 for index in range(393, 398)], abs=1)
    assert decoded < 80  # back to a key frame, some seconds earlier where times are found by trying; not to the first
    assert clip.frame_count == 5
    assert clip.reader is not None
    assert (clip.reader.start, clip.reader.end) == (Fraction(1572, 100), Fraction(159, 10))


def test_a_repeated_frame_has_a_number_of_its_own(tmp_path: Path) -> None:
    frames = list(open_clip(long_clip(tmp_path / "clip.mp4", 5, 5), fps=50).frames())
    assert [frame.number for frame in frames] == list(range(10))
    assert all(torch.equal(a.rgb, b.rgb) for a, b in zip(frames[::2], frames[1::2], strict=True))


def test_pictures_take_the_rate_as_theirs(tmp_path: Path) -> None:
    for index in range(10):
        write_picture(tmp_path / f"{index}.png", torch.full((1, 3, 4, 4), index / 10))
    timed = open_clip(tmp_path, fps=5)
    assert [frame.time for frame in timed.frames()] == [Fraction(index, 5) for index in range(10)]
    assert [frame.time for frame in open_clip(tmp_path).frames()] == [None] * 10
    part = open_clip(tmp_path, fps=5, start=0.3, duration=1)  # pictures 2 to 6
    assert [path.name for path in part.pictures] == [f"{index}.png" for index in range(2, 7)]
    assert part.frame_count == 5
    assert len(open_clip(tmp_path, start=0.2).pictures) == 5  # of 25 a second
    convert_clip(timed, tmp_path / "out.mp4", lambda frames: frames)
    assert [frame.time for frame in open_clip(tmp_path / "out.mp4").frames()] == [Fraction(i, 5) for i in range(10)]
    with pytest.raises(ValueError, match=r"expected a start before the end at 2\.000 s, got 2 s"):
        open_clip(tmp_path, fps=5, start=2)
    with pytest.raises(ValueError, match="expected a clip for a start, a duration or a rate, got a picture"):
        open_clip(tmp_path / "1.png", fps=5)


def test_a_missing_number_is_named(tmp_path: Path) -> None:
    for index in (3, 4, 6):
        write_picture(tmp_path / f"{index:04d}.png", torch.zeros(1, 3, 4, 4))
    with pytest.raises(FileNotFoundError, match=r"0005\.png: missing, while 0006\.png is there"):
        open_clip(tmp_path / "%04d.png")
    for pattern, words in (("%d.png", "no picture fits"), ("x*.png", "no picture fits"), ("none/%d.png", "no picture")):
        with pytest.raises(FileNotFoundError, match=words):
            open_clip(tmp_path / pattern)
    for pattern, words in (("%d_%d.png", "one number"), ("%d.mp4", "pattern of pictures"), ("*.mp4", "of pictures")):
        with pytest.raises(ValueError, match=words):
            open_clip(tmp_path / pattern)


def test_brackets_in_the_name_of_a_folder_that_stands_are_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "[2024] trip"
    (folder / "frames").mkdir(parents=True)
    for index in range(3):
        write_picture(folder / "frames" / f"{index}.png", torch.zeros(1, 3, 4, 4))
    for pattern in ("frames/*.png", "*/[0-2].png", "frames/%d.png"):
        assert open_clip(folder / pattern).frame_count == 3
    for name in ("clpi.mp4", "photo.png", "frames/none"):
        with pytest.raises(MissingFile, match="No such file or directory"):
            open_clip(folder / name)
    for name in ("shot[1].mp4", "shot[1]"):
        with pytest.raises(MissingFile, match="there is no such file; expected a pattern of pictures"):
            open_clip(folder / name)


def test_a_pattern_is_not_written_over_its_pictures(tmp_path: Path) -> None:
    for index in range(2):
        write_picture(tmp_path / f"frame_{index:06d}.png", torch.zeros(1, 3, 4, 4))
    for pattern in ("*.png", "frame_%06d.png"):
        with pytest.raises(ValueError, match="the output is the input itself"):
            convert_clip(open_clip(tmp_path / pattern), f"{tmp_path}/", lambda frames: frames)


def test_what_links_lead_to_and_masks_are_not_written_over(tmp_path: Path) -> None:
    for folder in ("film", "masks", "links"):
        (tmp_path / folder).mkdir()
    for index in range(2):
        for folder in ("film", "masks"):
            write_picture(tmp_path / folder / f"frame_{index:06d}.png", torch.zeros(1, 3, 4, 4))
        (tmp_path / "links" / f"{index}.png").symlink_to(tmp_path / "film" / f"frame_{index:06d}.png")
    clip = replace(open_clip(tmp_path / "links"), masks=(open_clip(tmp_path / "masks/*.png"),))
    for output, words in (("links/", "input"), ("film/", "input"), ("masks/", "mask")):
        with pytest.raises(ValueError, match=f"the output is .*{words} itself"):
            convert_clip(clip, f"{tmp_path}/{output}", iter)


@pytest.mark.parametrize("rate", [Fraction(1, 3600), Fraction(1, 7), Fraction(24000, 1001), Fraction(960)])
def test_slow_and_fast_clips_keep_their_times(tmp_path: Path, rate: Fraction) -> None:
    """A last frame of 7 seconds, too."""
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        made: Any = container.add_stream("libx264", rate=rate, options={"bf": "0"})
        made.width, made.height, made.pix_fmt = 16, 16, "yuv420p"
        made.codec_context.time_base = unit = 1 / Fraction(rate.numerator)
        made.codec_context.flags |= Flags.frame_duration
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 40 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index * rate.denominator, unit
            frame.duration = rate.denominator if index < 4 else 7 * rate.numerator
            container.mux(made.encode(frame))
        container.mux(made.encode(None))
    known = [(index / rate, 1 / rate if index < 4 else Fraction(7)) for index in range(5)]
    convert_clip(open_clip(tmp_path / "clip.mp4"), tmp_path / "out.mp4", iter)
    for name in ("clip.mp4", "out.mp4"):
        assert [(frame.time, frame.duration) for frame in open_clip(tmp_path / name).frames()] == known


def test_a_rate_for_a_writer_is_that_of_the_frames(tmp_path: Path) -> None:
    path = long_clip(tmp_path / "clip.mp4", 25, 5)
    convert_clip(open_clip(path, fps=Fraction(30000, 1001), start=0.2), tmp_path / "out.mp4", iter)
    again = open_clip(tmp_path / "out.mp4")
    assert [frame.time for frame in again.frames()] == [Fraction(1001 * index, 30000) for index in range(24)]
    assert again.reader is not None
    assert again.reader.rate == Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("start", "duration", "expected"),
    [
        ("0.7", "0.03", ("b", Fraction("0.7"), Fraction("0.03"))),  # within the one that is shown from 0.5 on
        ("1.9", None, ("c", Fraction("1.9"), Fraction("0.1"))),  # within the last
    ],
)
def test_any_frame_can_be_asked_for(start: str, duration: str | None, expected: tuple[str, Fraction, Fraction]) -> None:
    frames = [
        ("a", Fraction(0), Fraction(1, 2)),
        ("b", Fraction(1, 2), Fraction(1)),
        ("c", Fraction(3, 2), Fraction(1, 2)),
    ]
    part = Excerpt(Fraction(start), Fraction(duration) if duration else None)
    assert list(cut(frames, part, "clip")) == [expected]
