"""y4m and raw video on pipes: against FFmpeg's y4m, against the equations of BT.601 and BT.709, and there and back."""

import io
import os
import threading
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from nststab.video.clip import open_clip
from nststab.video.pipes import PipeReader, RawFormat, RawWriter, Y4MWriter, read_pipe
from nststab.video.reader import SCALING
from tests.conftest import psnr

RATE = Fraction(30000, 1001)


def smooth(index: int, height: int, width: int) -> Tensor:
    """A colourful picture without fine detail, different for each index."""
    generator = torch.Generator().manual_seed(index)
    small = torch.rand(1, 3, 4, 5, generator=generator)
    return torch.nn.functional.interpolate(small, (height, width), mode="bicubic", align_corners=True).clamp(0, 1)


def to_bytes(rgb: Tensor) -> Any:
    return (rgb[0].permute(1, 2, 0) * 255).round().byte().contiguous().numpy()


def ffmpeg_y4m(path: Path, pixels: str, height: int, width: int, colour_range: int | None) -> list[Tensor]:
    """A y4m file as FFmpeg writes it, and the pictures in it."""
    frames = [smooth(index, height, width) for index in range(3)]
    with av.open(str(path), "w", format="yuv4mpegpipe", container_options={"strict": "-1"}) as container:
        stream: Any = container.add_stream("rawvideo", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        if colour_range is not None:
            stream.codec_context.color_range = colour_range
        for index, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(to_bytes(rgb), format="rgb24")
            frame = frame.reformat(
                format=pixels,
                dst_color_range=colour_range or 1,
                dst_colorspace=1 if height > 576 else 5,
                interpolation=SCALING,
            )
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return frames


def rgb_of(reader: PipeReader) -> list[Tensor]:
    return [rgb for rgb, _, _ in reader.frames()]


@pytest.mark.parametrize("colour_range", [None, 1, 2])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63), (600, 30)])
@pytest.mark.parametrize("pixels", ["yuv444p", "yuv444p10le", "yuv444p16le"])
def test_full_chroma_is_decoded_as_by_ffmpeg(
    tmp_path: Path, pixels: str, height: int, width: int, colour_range: int | None
) -> None:
    path = tmp_path / "a.y4m"
    written = ffmpeg_y4m(path, pixels, height, width, colour_range)
    with path.open("rb") as file:
        reader = read_pipe(file)
        ours = rgb_of(reader)
    assert (reader.height, reader.width, reader.rate, reader.damaged) == (height, width, RATE, 0)
    theirs = [frame.rgb for frame in open_clip(path).frames()]
    assert len(ours) == len(theirs) == 3
    for a, b, original in zip(ours, theirs, written, strict=True):
        if pixels == "yuv444p":
            assert (a - b).abs().max() * 255 <= 0.52  # theirs is rounded to 8 bits
        assert (a - original).abs().max() * 255 <= (3.2 if pixels == "yuv444p" else 1.2)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le", "yuv422p", "yuv411p"])
def test_shared_chroma_is_decoded_as_by_ffmpeg(tmp_path: Path, pixels: str) -> None:
    path = tmp_path / "a.y4m"
    ffmpeg_y4m(path, pixels, 96, 128, None)
    with path.open("rb") as file:
        ours = rgb_of(read_pipe(file))
    theirs = [frame.rgb for frame in open_clip(path).frames()]
    least = 50 if "420" in pixels else 36  # FFmpeg takes 4:2:2 and 4:1:1, too, to have their chroma in the middle
    for a, b in zip(ours, theirs, strict=True):
        assert psnr(a, b) > least


@pytest.mark.parametrize("pixels", ["gray", "gray10le"])
def test_grey(tmp_path: Path, pixels: str) -> None:
    path = tmp_path / "a.y4m"
    ffmpeg_y4m(path, pixels, 20, 30, None)
    with path.open("rb") as file:
        ours = rgb_of(read_pipe(file))
    for a, frame in zip(ours, open_clip(path).frames(), strict=True):
        assert (a - frame.rgb).abs().max() * 255 <= (0.01 if pixels == "gray" else 1.2)  # theirs is cut to 8 bits
        assert torch.equal(a[:, 0], a[:, 2])


def header(text: str, frames: int = 1, size: int = 24) -> BinaryIO:
    return io.BytesIO(b"YUV4MPEG2 " + text.encode() + b"\n" + (b"FRAME\n" + bytes(range(size))) * frames)


@pytest.mark.parametrize(
    ("tag", "across", "down"),
    [
        ("C420jpeg", 0.25, 0.25),  # how far, in samples, the first one lies from the middle of the first pixel
        ("C420mpeg2", 0.0, 0.25),
        ("C420paldv", 0.0, 0.0),
        ("C420", 0.25, 0.25),
        ("", 0.25, 0.25),
        ("C422", 0.0, None),
    ],
)
def test_chroma_lies_where_the_header_says(tag: str, across: float, down: float | None) -> None:
    size = 24
    rows = size // 2 if down is not None else size
    ramp = 128 + 4 * (np.arange(size // 2) - 6)
    horizontal = True
    for distance in (across, down):
        if distance is None:
            continue
        plane = np.tile(ramp, (rows, 1)) if horizontal else np.tile(ramp[:, None], (1, size // 2))
        parts = (np.full((size, size), 126), np.full_like(plane, 128), plane)
        data = b"".join(part.astype(np.uint8).tobytes() for part in parts)
        head = f"YUV4MPEG2 W{size} H{size} F25:1 {tag}\nFRAME\n".encode()
        rgb = rgb_of(read_pipe(io.BytesIO(head + data)))[0]
        red = rgb[0, 0, 12] if horizontal else rgb[0, 0, :, 12]
        samples = torch.arange(8, 16) / 2 - distance  # where these pixels, away from the edges, lie
        wanted = (126 - 16) / 219 + 2 * (1 - 0.299) * 4 * (samples - 6) / 224
        assert red[8:16].tolist() == pytest.approx(wanted.tolist(), abs=1e-4)
        horizontal = False


@pytest.mark.parametrize(("height", "width"), [(47, 63), (600, 30), (1, 1), (3, 2)])
def test_y4m_there_and_back(height: int, width: int) -> None:
    file = io.BytesIO()
    frames = [torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    with Y4MWriter(file, RATE, Fraction(4, 3)) as writer:
        for index, rgb in enumerate(frames):
            writer.write(rgb, index / RATE, 1 / RATE)
    assert writer.notes == []
    file.seek(0)
    reader = read_pipe(file)
    assert (reader.width, reader.height, reader.rate, reader.aspect) == (width, height, RATE, Fraction(4, 3))
    back = list(reader.frames())
    assert [time for _, time, _ in back] == [index / RATE for index in range(3)]
    assert {duration for _, _, duration in back} == {1 / RATE}
    for (rgb, _, _), original in zip(back, frames, strict=True):
        assert (rgb - original).abs().max() * 255 <= 2.1  # half a code of luma and of chroma, in the limited range


def test_ffmpeg_reads_what_we_write(tmp_path: Path) -> None:
    frames = [smooth(index, 31, 45) for index in range(3)]
    with (tmp_path / "a.y4m").open("wb") as file, Y4MWriter(file, RATE, Fraction(4, 3)) as writer:
        for rgb in frames:
            writer.write(rgb, None, None)
    clip = open_clip(tmp_path / "a.y4m")
    with av.open(str(tmp_path / "a.y4m")) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio == Fraction(4, 3)
        assert stream.average_rate == RATE
        assert stream.codec_context.color_range == 1
    back = [frame.rgb for frame in clip.frames()]
    assert len(back) == 3
    for a, b in zip(frames, back, strict=True):
        assert psnr(a, b) > 45


def test_raw_there_and_back_is_exact_to_8_bits() -> None:
    file = io.BytesIO()
    frames = [torch.randint(0, 256, (1, 3, 5, 7)).float() / 255 for _ in range(4)]
    with RawWriter(file) as writer:
        for rgb in frames:
            writer.write(rgb, None, None)
    assert len(file.getvalue()) == 4 * 5 * 7 * 3
    file.seek(0)
    reader = read_pipe(file, RawFormat(7, 5, Fraction(10)))
    back = list(reader.frames())
    assert all(torch.equal(rgb, original) for (rgb, _, _), original in zip(back, frames, strict=True))
    assert [time for _, time, _ in back] == [Fraction(index, 10) for index in range(4)]


def test_the_first_bytes_tell_y4m_from_raw() -> None:
    assert read_pipe(header("W4 H4 F5:1"), RawFormat(9, 9)).width == 4
    raw = read_pipe(io.BytesIO(bytes(range(24))), RawFormat(4, 2, Fraction(3)))
    frame = rgb_of(raw)[0]  # with the bytes that were looked at
    assert (frame * 255).round().permute(0, 2, 3, 1).flatten().tolist() == list(range(24))
    tiny = read_pipe(io.BytesIO(bytes(range(12))), RawFormat(1, 1))  # frames shorter than what is looked at
    assert [(rgb[0, :, 0, 0] * 255).round().tolist() for rgb in rgb_of(tiny)] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
        [9, 10, 11],
    ]


class Trickle(io.RawIOBase):
    """A pipe that gives and takes three bytes at a time."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part, self.data = self.data[: min(3, len(buffer))], self.data[min(3, len(buffer)) :]
        buffer[: len(part)] = part
        return len(part)

    def write(self, data: Any) -> int:
        self.data += bytes(data[:3])
        return len(data[:3])


def test_a_pipe_gives_and_takes_as_much_as_it_likes() -> None:
    pipe, file = Trickle(), io.BytesIO()
    frame = torch.rand(1, 3, 4, 5)
    for output in (cast("BinaryIO", pipe), file):
        with Y4MWriter(output, Fraction(25)) as writer:
            writer.write(frame, None, None)
    assert pipe.data == file.getvalue()
    assert len(rgb_of(read_pipe(cast("BinaryIO", Trickle(pipe.data))))) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("H4 F25:1", "expected a y4m header with a size"),
        ("W4 F25:1", "expected a y4m header with a size"),
        ("Wx H4", "expected a y4m header with a size"),
        ("W H4", "expected a y4m header with a size"),
        ("W0 H4", "expected frames of 1 to 32768 pixels, got 0x4"),
        ("W4 H-4", "expected frames of 1 to 32768 pixels"),
        ("W99999999 H4", "expected frames of 1 to 32768 pixels"),
        ("W4 H4 F25", r"expected a ratio \(25:1\) in the y4m header, got '25'"),
        ("W4 H4 F-1:1", "expected a ratio"),
        ("W4 H4 A4/3", "expected a ratio"),
        ("W4 H4 C410", "got '410'"),
        ("W4 H4 C444alpha", "got '444alpha'"),
        ("W4 H4 " + "X" * 2000, "expected a y4m header of one line"),
    ],
)
def test_a_broken_header_is_one_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        read_pipe(header(text), name="clip.y4m")
    assert str(caught.value).startswith("clip.y4m: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("data", "got"), [(b"", "nothing"), (b"\x00\x01", "x01"), (b"YUV4MPEG1 W4", "YUV4MPEG1")])
def test_what_is_no_y4m_is_told(data: bytes, got: str) -> None:
    with pytest.raises(ValueError, match=f"standard input: expected y4m video, got .*{got}"):
        read_pipe(io.BytesIO(data))


def test_a_size_or_rate_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0x4"):
        read_pipe(io.BytesIO(), RawFormat(0, 4))
    with pytest.raises(ValueError, match="positive frame rate, got 0"):
        read_pipe(io.BytesIO(), RawFormat(4, 4, Fraction(0)))


def test_any_rate_that_is_written_is_read() -> None:
    for rate in (Fraction(1170000000, 46824289), Fraction(10**12 + 1, 4 * 10**10), Fraction(1, 3600), Fraction(960)):
        file = io.BytesIO()
        with Y4MWriter(file, rate) as writer:
            writer.write(torch.rand(1, 3, 2, 2), None, None)
        assert read_pipe(io.BytesIO(file.getvalue())).rate == pytest.approx(rate, rel=1e-6)
    assert read_pipe(header("W4 H4 F1170000000:46824289")).rate == pytest.approx(24.98703, rel=1e-6)


def test_an_unknown_rate_and_shape_of_pixels_have_defaults() -> None:
    for text in ("W4 H4", "W4 H4 F0:0 A0:0"):
        reader = read_pipe(header(text))
        assert reader.rate == 25
        assert reader.aspect == 1


def test_parameters_of_a_frame_and_unknown_tags_are_passed_over() -> None:
    data = b"YUV4MPEG2 W2 H2 F5:1 It C444 XSOMETHING Q7\n" + 2 * (b"FRAME Ixyz Xa=b\n" + bytes(12))
    assert len(rgb_of(read_pipe(io.BytesIO(data)))) == 2


@pytest.mark.parametrize(("fields", "count"), [("p", 0), ("?", 0), ("t", 1), ("b", 1), ("m", 1)])
def test_fields_are_told(monkeypatch: pytest.MonkeyPatch, fields: str, count: int) -> None:
    data = f"YUV4MPEG2 W2 H2 F5:1 I{fields} C444\nFRAME\n".encode() + bytes(12)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    told = ["standard input is interlaced: the two fields of a frame are taken for one picture"]
    assert open_clip("-").notes == told * count


@pytest.mark.parametrize("lost", [1, 11, 12, 13, 17, 18])
def test_a_frame_that_was_cut_off_is_counted_and_left_out(lost: int) -> None:
    whole = b"YUV4MPEG2 W2 H2 F5:1 C444\n" + 3 * (b"FRAME\n" + bytes(12))
    reader = read_pipe(io.BytesIO(whole[: len(whole) - lost]))
    assert len(rgb_of(reader)) == 2
    assert reader.damaged == (lost < 18)  # 18: the whole frame is missing, which nobody can know
    raw = read_pipe(io.BytesIO(bytes(30)), RawFormat(2, 2))
    assert len(rgb_of(raw)) == 2
    assert raw.damaged == 1


def test_no_whole_frame_and_rubbish_between_frames() -> None:
    with pytest.raises(ValueError, match="ends before its first frame"):
        rgb_of(read_pipe(io.BytesIO(b"YUV4MPEG2 W2 H2\nFRAME\nabc")))
    with pytest.raises(ValueError, match="ends before its first frame"):
        rgb_of(read_pipe(io.BytesIO(), RawFormat(2, 2)))
    data = b"YUV4MPEG2 W2 H2 C444\nFRAME\n" + bytes(12) + b"FRAM\n" + bytes(12)
    frames = read_pipe(io.BytesIO(data)).frames()
    next(frames)
    with pytest.raises(ValueError, match=r"expected a y4m frame to begin with FRAME, got b'FRAM\\n'"):
        next(frames)


@pytest.mark.parametrize("make", [RawWriter, lambda file: Y4MWriter(file, Fraction(25))])
def test_writers_refuse_what_cannot_be(make: Any) -> None:
    with pytest.raises(ValueError, match="no frames to write"), make(io.BytesIO()):
        pass
    with make(io.BytesIO()) as writer:
        writer.write(torch.rand(1, 3, 3, 4), None, None)
        with pytest.raises(ValueError, match="expected frames of 4x3 pixels as the first, got 3x4"):
            writer.write(torch.rand(1, 3, 4, 3), None, None)
        with pytest.raises(ValueError, match="expected one frame"):
            writer.write(torch.rand(2, 3, 3, 4), None, None)
        for value in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match="the result holds NaN or infinity, and is not written"):
                writer.write(torch.full((1, 3, 3, 4), value), None, None)
    with pytest.raises(KeyError), make(io.BytesIO()) as writer:  # not "no frames", which would hide the cause
        raise KeyError


def test_uneven_times_are_told_once_and_small_ones_not() -> None:
    with Y4MWriter(io.BytesIO(), Fraction(25)) as writer:
        for index, time in enumerate([0, 40, 50, 130, 300]):
            writer.write(torch.rand(1, 3, 2, 2), Fraction(time + 5000, 1000), Fraction(1, 25))
            assert len(writer.notes) == (index >= 2)
    assert writer.notes[0].startswith("y4m holds one frame rate, here 25, and")
    with Y4MWriter(io.BytesIO(), RATE) as writer:
        for index in range(100):  # as Matroska rounds them
            writer.write(torch.rand(1, 3, 2, 2), Fraction(round(index / RATE * 1000), 1000), 1 / RATE)
    assert writer.notes == []


def test_memory_does_not_grow_with_the_clip() -> None:
    read, write = os.pipe()
    frame = torch.rand(1, 3, 64, 64)

    def produce() -> None:
        with os.fdopen(write, "wb") as file, Y4MWriter(file, Fraction(25)) as writer:
            for _ in range(300):
                writer.write(frame, None, None)

    thread = threading.Thread(target=produce)
    thread.start()
    tracemalloc.start()
    with os.fdopen(read, "rb") as file:
        count = sum(1 for _ in read_pipe(file).frames())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    thread.join()
    assert count == 300
    assert peak < 20 * 64 * 64 * 3 * 4  # of the 300 frames
