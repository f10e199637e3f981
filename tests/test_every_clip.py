"""Every kind of clip, made here: read frame by frame, cut, and passed on to every format.

Frame i of each clip is grey of level(i) on its left half and of one colour on its right half, so that frames, times,
matrix, range and orientation can be told apart. The planes are computed by the standards' own equations.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from PIL import Image
from torch import Tensor

from nststab.errors import NststabError
from nststab.frames import Frame
from nststab.video.clip import Clip, convert_clip, open_clip
from nststab.video.images import write_picture
from nststab.video.reader import VideoReader, open_input
from nststab.video.timing import excerpt

WIDTH, HEIGHT, COUNT, RATE = 64, 48, 8, 10
COLOUR = (200, 80, 40)
YCGCO, ICTCP = 8, 14
MATRICES = {  # the weights of red and blue in luma: BT.709, FCC, BT.601 by its two numbers, SMPTE 240M, BT.2020
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
LOSSLESS = {
    "libx264": {"qp": "0"},
    "libx265": {"x265-params": "lossless=1:log-level=0"},
    "libvpx-vp9": {"lossless": "1"},
}
LOSSLESS["libvpx"] = {"crf": "4", "b": "8M"}


def even(count: int, first: int = 0, rate: int = RATE) -> tuple[Fraction, ...]:
    """Times at a constant rate, in seconds."""
    return tuple(Fraction(first + index, rate) for index in range(count))


class Made(NamedTuple):
    """What a clip must be read as: the frames that come, their times in seconds, and what is said of it."""

    frames: tuple[int, ...] = tuple(range(COUNT))
    times: tuple[Fraction, ...] = even(COUNT)
    note: str = ""
    turned: int = 0  # quarter turns anticlockwise
    aspect: Fraction = Fraction(1)
    # levels of 255: rounding to 8 bits twice costs one level of luma, and two of a colour; 10 bits half of that
    tolerance: float = 2.5
    audio: bool = False
    counted: bool = True  # the number of frames is known beforehand
    whole: bool = True  # as many frames come as the file announces


Maker = Callable[[Path], Made]
KINDS: dict[str, Maker] = {}


def kind(name: str) -> Callable[[Maker], Maker]:
    def add(maker: Maker) -> Maker:
        KINDS[name] = maker
        return maker

    return add


def level(index: int) -> int:
    return 20 + 24 * index


def picture(index: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Frame `index` as bytes (H, W, 3)."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2] = level(index)
    pixels[:, width // 2 :] = COLOUR
    return pixels


def yuv(
    index: int, pix_fmt: str, matrix: int = 6, full: bool = False, width: int = WIDTH, height: int = HEIGHT
) -> av.VideoFrame:
    """Frame `index` in planes of luma and chroma, by the equations of BT.601, BT.709 and BT.2020, or of YCgCo."""
    frame = av.VideoFrame(width, height, pix_fmt)
    rgb = picture(index, width, height)[0].astype(float) / 255  # a row (W, 3)
    if matrix == YCGCO:
        luma, *chroma = (rgb @ [[0.25, -0.25, 0.5], [0.5, 0.5, 0], [0.25, -0.25, -0.5]]).T
    else:
        kr, kb = MATRICES.get(matrix, MATRICES[6])
        luma = rgb @ [kr, 1 - kr - kb, kb]
        chroma = [(rgb[:, 2] - luma) / (2 * (1 - kb)), (rgb[:, 0] - luma) / (2 * (1 - kr))]
    bits = frame.format.components[0].bits
    unit = 2.0 ** (bits - 8)
    peak = 2.0**bits - 1
    rows = [luma * peak if full else (16 + 219 * luma) * unit]
    rows += [c * peak + 2 ** (bits - 1) if full else (128 + 224 * c) * unit for c in chroma]
    for plane, row in zip(frame.planes, rows, strict=len(frame.planes) > 1):
        shared = width // plane.width
        samples = np.zeros((plane.height, plane.line_size // (2 if bits > 8 else 1)), "<u2" if bits > 8 else np.uint8)
        samples[:, : plane.width] = row[::shared].round()
        plane.update(samples.tobytes())
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    return frame


def add_video(container: Any, codec: str = "libx264", pix_fmt: str = "yuv420p", **options: str) -> Any:
    stream = container.add_stream(codec, rate=RATE, options=LOSSLESS.get(codec, {}) | options)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
    return stream


def encode(
    container: Any,
    stream: Any,
    ticks: tuple[int, ...] = tuple(range(COUNT)),
    unit: Fraction = Fraction(1, RATE),
    matrix: int = 6,
    full: bool = False,
    first: int = 0,
) -> None:
    """Encode the frames from `first` on, the i-th of them at `ticks[i]` times `unit` seconds."""
    stream.codec_context.time_base = unit
    stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if full else 1
    for index, tick in enumerate(ticks, first):
        frame = yuv(index, stream.pix_fmt, matrix, full, stream.width, stream.height)
        frame.pts, frame.time_base = tick, unit
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def save(path: Path, codec: str = "libx264", pix_fmt: str = "yuv420p", **options: Any) -> Made:
    """A clip of one stream; options of the container stand in `muxer`, of the codec in `coder`."""
    with av.open(str(path), "w", options=options.pop("muxer", {})) as container:
        stream = add_video(container, codec, pix_fmt, **options.pop("coder", {}))
        if aspect := options.pop("aspect", None):
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation := options.pop("rotation", None):
            stream.set_display_rotation(rotation)
        if transfer := options.pop("transfer", None):
            stream.codec_context.color_trc = transfer
        encode(container, stream, **options)
    return Made()


def add_sound(container: Any, seconds: float, codec: str = "aac", frequency: float = 440) -> Callable[..., None]:
    """A stream of sound; what is given back writes it, from a time in seconds on."""
    stream = container.add_stream(codec, rate=48000, layout="mono")

    def write(begin: Fraction = Fraction(0)) -> None:
        wave = 0.3 * np.sin(np.arange(round(seconds * 48000)) * (2 * np.pi * frequency / 48000))
        sound = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
        sound.sample_rate, sound.time_base, sound.pts = 48000, Fraction(1, 48000), round(begin * 48000)
        resampler = av.AudioResampler(format=stream.codec_context.format.name, layout="mono", rate=48000)
        for part in resampler.resample(sound):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))

    return write


def joined(path: Path, *ticks: int, seconds: float = 0, **sizes: tuple[int, int]) -> Made:
    """Recordings of four frames each, one behind the other in a file, which begin at `ticks` by their clocks."""
    whole = b""
    for number, tick in enumerate(ticks):
        with av.open(str(path), "w") as container:
            stream = add_video(container, **{"x264-params": "bframes=2:b-adapt=0"})
            stream.width, stream.height = sizes.get(f"of_{number}", (WIDTH, HEIGHT))
            sound = add_sound(container, seconds) if seconds else None
            encode(container, stream, tuple(range(tick, tick + 4)), first=4 * number)
            if sound is not None:
                sound(Fraction(tick, RATE))
        whole += path.read_bytes()
    path.write_bytes(whole)
    return Made(tuple(range(4 * len(ticks))), even(4 * len(ticks)), audio=bool(seconds))


def save_with_sound(path: Path, seconds: float, codec: str = "aac") -> Made:
    with av.open(str(path), "w") as container:
        stream, sound = add_video(container), add_sound(container, seconds, codec)
        encode(container, stream)
        sound()
    return Made(audio=True)


# --- codecs and containers


B_FRAMES = {"qp": "1", "x264-params": "bframes=3:b-adapt=0"}  # x264 makes none where it is lossless
KINDS |= {
    "h264.mp4": save,
    "h264.mkv": save,
    "h264.mov": save,
    "h264.ts": save,
    "h264.flv": save,
    "h264.avi": save,
    "h264_444.mp4": partial(save, pix_fmt="yuv444p"),
    "h264_10bit.mp4": partial(save, pix_fmt="yuv420p10le"),
    "hevc_10bit.mp4": partial(save, codec="libx265", pix_fmt="yuv420p10le"),
    "hevc_422_10bit.mkv": partial(save, codec="libx265", pix_fmt="yuv422p10le"),
    "vp9.webm": partial(save, codec="libvpx-vp9"),
    "ffv1.mkv": partial(save, codec="ffv1", pix_fmt="yuv422p"),
    "y4m.y4m": partial(save, codec="wrapped_avframe"),
    "y4m_444.y4m": partial(save, codec="wrapped_avframe", pix_fmt="yuv444p"),
    "b_frames.mp4": partial(save, coder=B_FRAMES),
    "b_frames.avi": partial(save, coder=B_FRAMES),
    "fragments.mp4": partial(save, muxer={"movflags": "frag_keyframe+empty_moov"}, coder={"g": "3"}),
    # its invisible frames have packets too
    "vp8.webm": lambda path: save(path, "libvpx")._replace(tolerance=4, counted=False),
    "prores_10bit.mov": lambda path: save(path, "prores_ks", "yuv422p10le", coder={"profile": "3"})._replace(
        tolerance=3
    ),
    "mjpeg.avi": lambda path: save(path, "mjpeg", "yuvj444p", full=True, coder={"qmin": "1", "qmax": "1"})._replace(
        tolerance=4
    ),
    "no_clock.h264": lambda path: save(path)._replace(counted=False),
}


@kind("mpeg2.mpg")
def _(path: Path) -> Made:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, options={"qmin": "1", "qmax": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        encode(container, stream, unit=Fraction(1, 25))
    return Made(times=even(COUNT, rate=25), tolerance=4)


# --- colour


def coloured(path: Path, matrix: int, full: bool) -> Made:
    return save(path, pix_fmt="yuv444p10le", matrix=matrix, full=full)._replace(tolerance=1)


for _full, _range in ((False, "limited"), (True, "full")):
    KINDS |= {f"matrix_{one}_{_range}.mkv": partial(coloured, matrix=one, full=_full) for one in MATRICES}
    KINDS[f"ycgco_{_range}.mp4"] = partial(save, pix_fmt="yuv444p", matrix=YCGCO, full=_full)

KINDS |= {
    "ictcp.mkv": lambda path: save(path, matrix=ICTCP)._replace(
        note="ictcp.mkv has a colour matrix that is not known (14): its colours are taken as untagged ones"
    ),
    "hdr.mkv": lambda path: save(path, matrix=9, transfer=16)._replace(
        note="hdr.mkv is high dynamic range (PQ), which is not mapped"  # its curve is not undone
    ),
    "interlaced.mkv": lambda path: save(path, coder={"x264-params": "interlaced=1"})._replace(
        note="interlaced.mkv is interlaced: the two fields"
    ),
}


# --- shape and orientation


def turned(path: Path, turns: int) -> Made:
    return save(path, rotation=90 * turns)._replace(turned=turns)


KINDS |= {f"rotated_{90 * turns}.mp4": partial(turned, turns=turns) for turns in (1, 2, 3)} | {
    "anamorphic.mp4": lambda path: save(path, aspect=Fraction(4, 3))._replace(aspect=Fraction(4, 3)),
    "anamorphic_rotated.mp4": lambda path: save(path, aspect=Fraction(4, 3), rotation=90)._replace(
        aspect=Fraction(3, 4), turned=1
    ),
}


@pytest.mark.parametrize(
    ("a", "b", "c", "d"),
    [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)],
)
def test_a_display_matrix_places_every_pixel(tmp_path: Path, a: int, b: int, c: int, d: int) -> None:
    """A stored pixel (x, y) is shown at (a x + c y, b x + d y), shifted so that all are in the picture."""
    corners = np.array([[(10, 60, 110), (240, 40, 20)], [(30, 200, 80), (250, 250, 60)]], np.uint8)
    stored = corners.repeat(16, axis=0).repeat(24, axis=1)
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = add_video(container, pix_fmt="yuv444p")
        stream.width, stream.height = 48, 32
        one = 1 << 16
        stream.set_display_matrix([a * one, b * one, 0, c * one, d * one, 0, 48 * one, 32 * one, 1 << 30])
        container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode(None))
    y, x = np.mgrid[:32, :48]
    across, down = a * x + c * y, b * x + d * y
    shown = np.zeros((48, 32, 3) if b else (32, 48, 3))
    shown[down - down.min(), across - across.min()] = stored
    clip = open_clip(tmp_path / "clip.mp4")
    (frame,) = clip.frames()
    assert (clip.height, clip.width) == shown.shape[:2]
    assert np.abs(frame.rgb[0].permute(1, 2, 0).numpy() * 255 - shown).max() < 4
    assert clip.notes == []


def test_a_slant_is_said(tmp_path: Path) -> None:
    save(tmp_path / "clip.mp4", rotation=20)
    assert open_clip(tmp_path / "clip.mp4").notes == [
        "clip.mp4 is to be shown aslant: it is shown at the nearest quarter turn"
    ]


# --- time


UNEVEN = (0, 40, 60, 130, 170, 290, 310, 420)  # milliseconds, which GIF can hold too


def uneven(path: Path, **options: Any) -> Made:
    made = save(path, ticks=UNEVEN, unit=Fraction(1, 1000), **options)
    return made._replace(times=tuple(Fraction(tick, 1000) for tick in UNEVEN))


KINDS |= {
    "uneven.mkv": uneven,
    "uneven_b_frames.mp4": partial(uneven, coder=B_FRAMES),
    "late.mp4": lambda path: save(path, ticks=tuple(range(3, 3 + COUNT)))._replace(times=even(COUNT, 3)),
    # the first three frames are needed to decode the others, and not shown
    "edit_list.mp4": lambda path: save(path, ticks=tuple(range(-3, COUNT - 3)))._replace(
        frames=tuple(range(3, COUNT)), times=even(COUNT - 3)
    ),
    # of those before them the one that is decoded between them is shown
    "edit_list_b_frames.mp4": lambda path: save(path, ticks=tuple(range(-3, COUNT - 3)), coder=B_FRAMES)._replace(
        frames=tuple(range(3, COUNT)), times=even(COUNT - 3)
    ),
    "clock_from_10_s.ts": partial(save, ticks=tuple(range(100, 100 + COUNT))),
    "joined_earlier.ts": lambda path: joined(path, 50, 0)._replace(
        note="the clock of joined_earlier.ts jumps at 0.40 s: what follows is shown"
    ),
    "joined_later.ts": lambda path: joined(path, 0, 9000)._replace(
        note="the clock of joined_later.ts jumps at 0.40 s: what follows is shown"
    ),
    "size_changes.ts": lambda path: joined(path, 0, 4, of_1=(32, 24))._replace(
        note="size_changes.ts changes its size from 64x48 to 32x24: it is scaled to the first"
    ),
    "longer_sound.mp4": partial(save_with_sound, seconds=1.6),
    "shorter_sound.mkv": partial(save_with_sound, seconds=0.3, codec="pcm_s16le"),
}


@kind("joined.mpg")
def _(path: Path) -> Made:
    whole = b""
    for first in (0, 4):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg2video", rate=25, options={"qmin": "1", "qmax": "1"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            encode(container, stream, (0, 1, 2, 3), Fraction(1, 25), first=first)
        whole += path.read_bytes()
    path.write_bytes(whole)
    return Made(times=even(COUNT, rate=25), tolerance=4, note="the clock of joined.mpg jumps at 0.16 s")


# --- several streams


@kind("cover.mp4")
def _(path: Path) -> Made:
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 16, 16, "yuvj420p", Disposition.attached_pic
        stream, sound = add_video(container), add_sound(container, 0.8)
        container.mux([*cover.encode(av.VideoFrame(16, 16, "yuvj420p")), *cover.encode(None)])
        encode(container, stream)
        sound()
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    return Made(audio=True)


@kind("cover.mkv")
def _(path: Path) -> Made:
    Image.new("RGB", (16, 16)).save(path.with_suffix(".jpg"))
    with av.open(str(path), "w") as container:
        stream = add_video(container)
        container.add_attachment("cover.jpg", "image/jpeg", path.with_suffix(".jpg").read_bytes())
        encode(container, stream)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    return Made()


@kind("two_pictures_two_sounds.mkv")
def _(path: Path) -> Made:
    with av.open(str(path), "w") as container:
        stream, other = add_video(container), container.add_stream("libx264", rate=RATE)
        other.width, other.height, other.pix_fmt = 16, 16, "yuv420p"
        sounds = [add_sound(container, 0.8, frequency=frequency) for frequency in (440, 880)]
        encode(container, stream)
        for index in range(COUNT):
            frame = av.VideoFrame(16, 16, "yuv420p")
            frame.pts = index
            container.mux(other.encode(frame))
        container.mux(other.encode(None))
        for sound in sounds:
            sound()
    return Made(audio=True)


# --- GIF


@kind("gif.gif")
def _(path: Path) -> Made:
    delays = (100, 40, 20, 300, 70, 100, 100, 50)
    images = [Image.fromarray(picture(index)).quantize(8) for index in range(COUNT)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=delays, disposal=1, loop=0)
    return Made(times=tuple(Fraction(sum(delays[:i]), 1000) for i in range(COUNT)), tolerance=0.5)


@kind("gif_disposal.gif")
def _(path: Path) -> Made:
    """Frames drawn over the ones before, over nothing, and over what was there before the last."""
    images = [
        Image.fromarray(np.dstack([picture(index), np.full((HEIGHT, WIDTH), 255, np.uint8)])) for index in range(COUNT)
    ]
    disposal = [2, 1, 3, 1, 2, 2, 1, 0]
    images[0].save(path, save_all=True, append_images=images[1:], duration=100, disposal=disposal, loop=3)
    return Made(tolerance=0.5)


def test_a_transparent_gif_is_shown_on_white(tmp_path: Path) -> None:
    images = []
    for index in range(3):
        pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
        pixels[:, : WIDTH // 2] = (level(index),) * 3 + (255,)
        images.append(Image.fromarray(pixels))
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=100, disposal=2)
    clip = open_clip(tmp_path / "a.gif")
    shown = [frame.rgb[0, :, 0, [0, -1]] * 255 for frame in clip.frames()]
    assert [colours.round().T.tolist() for colours in shown] == [[[level(i)] * 3, [255] * 3] for i in range(3)]
    assert clip.notes == ["a.gif is transparent in places: that is dropped"]


@pytest.mark.parametrize(("codec", "pixels"), [("ffv1", "gray"), ("ffv1", "gray10le"), ("libx265", "gray")])
@pytest.mark.parametrize("full", [False, True])
def test_gray_is_read_by_its_range(tmp_path: Path, codec: str, pixels: str, full: bool) -> None:
    save(tmp_path / "clip.mkv", codec, pixels, full=full)
    for index, frame in enumerate(open_clip(tmp_path / "clip.mkv").frames()):
        assert float((frame.rgb[..., : WIDTH // 2] * 255 - level(index)).abs().max()) < 1


@pytest.mark.parametrize("matrix", [3, 10, 11, 12, 13, 14, 15, 16, 17, 99])
def test_a_frame_of_any_matrix_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, matrix: int) -> None:
    """Encoders refuse to write some of them, so the decoder's frames are tagged anew."""
    save(tmp_path / "clip.mp4")
    known = next(open_clip(tmp_path / "clip.mp4").frames())
    decode = VideoReader._decode

    def tagged(reader: VideoReader, *arguments: Any) -> list[av.VideoFrame]:
        frames = decode(reader, *arguments)
        for frame in frames:
            frame.colorspace = matrix
        return frames

    monkeypatch.setattr(VideoReader, "_decode", tagged)
    clip = open_clip(tmp_path / "clip.mp4")
    assert torch.equal(next(clip.frames()).rgb, known.rgb)
    assert f"that is not known ({matrix})" in clip.notes[0]


def test_transparency_that_is_not_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "clip.webm"
    with av.open(str(path), "w") as container:
        stream = add_video(container, "libvpx-vp9", "yuva420p")
        pixels = np.full((HEIGHT, WIDTH, 4), 100, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba")))
        container.mux(stream.encode(None))
    assert open_clip(path).notes == [
        "clip.webm has transparency in a stream beside its pictures, which is not read: it is dropped"
    ]


def test_transparency_that_begins_late_is_said(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = add_video(container, "ffv1", "bgra")
        for alpha in (255, 255, 100):
            pixels = np.full((HEIGHT, WIDTH, 4), alpha, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgra")))
        container.mux(stream.encode(None))
    clip = open_clip(tmp_path / "clip.mkv")
    list(clip.frames())
    assert clip.notes == ["clip.mkv is transparent in places: that is dropped"]


# --- names


KINDS |= dict.fromkeys(
    (
        "a b 'c' \"d\".mp4",
        "Größe_日本語_🎬.mp4",
        "http:100%_[1]*?.mp4",
        "frame%03d.mp4",
        "-x.mp4",
        "#1&2;$HOME.mp4",
    ),
    save,
)


# --- damage


def cut_off(path: Path, index: int) -> Made:
    """Cut the file off in the middle of packet `index`: what the frames before it are read as."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][index]
    assert packet.pos is not None
    path.write_bytes(path.read_bytes()[: packet.pos + packet.size // 2])
    return Made(tuple(range(index)), even(index), whole=False)


@kind("cut.mp4")
def _(path: Path) -> Made:
    """Its index stands in front, as that of a download that was broken off."""
    save(path, muxer={"movflags": "faststart"}, coder={"g": "4"})
    return cut_off(path, 4)._replace(note="4 frames came of the 8 that it announces")


@kind("cut.mkv")
def _(path: Path) -> Made:
    save(path, muxer={"cluster_time_limit": "100"}, coder={"g": "1"})
    return cut_off(path, 5)._replace(note="it ends after 0.50 of the 0.80 seconds that it announces")


@kind("cut.y4m")
def _(path: Path) -> Made:
    save(path, "wrapped_avframe")
    return cut_off(path, 4)._replace(note="1 damaged packet of cut.y4m could not be decoded: left out")


@kind("last_packet.mp4")
def _(path: Path) -> Made:
    save(path, muxer={"movflags": "faststart"}, coder={"g": "4"})
    return cut_off(path, 7)._replace(note="1 damaged packet of last_packet.mp4 could not be decoded: left out")


@kind("cut.ts")
def _(path: Path) -> Made:
    """Nothing announces how long it should be."""
    save(path, coder={"g": "1"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5 // 188 * 188])
    return Made(tuple(range(4)), even(4))


# --- pictures


def save_pictures(folder: Path, name: str, first: int = 0) -> Made:
    folder.mkdir(exist_ok=True)
    for index in range(COUNT):
        write_picture(
            folder / name.format(first + index), torch.from_numpy(picture(index)).permute(2, 0, 1)[None] / 255
        )
    return Made(tolerance=0.5)


KINDS |= {
    "folder": lambda path: save_pictures(path, "{}.png", 5),  # 9 comes before 10
    "numbered/%03d.png": lambda path: save_pictures(path.parent, "{:03d}.png", 996),  # the last ones have four digits
    "percent/100%%_%d.png": lambda path: save_pictures(path.parent, "100%_{}.png"),
}


@kind("glob/*.png")
def _(path: Path) -> Made:
    made = save_pictures(path.parent, "shot {}.png", 5)
    (path.parent / "9.txt").write_text("no picture")
    return made


# --- the tests


class Opened(NamedTuple):
    clip: Clip
    path: Path
    made: Made
    frames: list[Frame]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Opened]:
    """Makes and reads each kind once."""
    known: dict[str, Opened] = {}

    def get(name: str) -> Opened:
        if name not in known:
            path = tmp_path_factory.mktemp("clip") / name
            path.parent.mkdir(exist_ok=True)
            made = KINDS[name](path)
            clip = open_clip(path, fps=RATE if "." not in name or "/" in name else None)
            known[name] = Opened(clip, path, made, list(clip.frames()))
        return known[name]

    return get


def expected(made: Made) -> list[Tensor]:
    pictures = (torch.from_numpy(picture(index)).permute(2, 0, 1)[None] / 255 for index in made.frames)
    return [torch.rot90(rgb, made.turned, (2, 3)) for rgb in pictures]


def assert_pictures(got: list[Tensor], made: Made, tolerance: float) -> None:
    """Every frame is its picture, but for the line between its halves, where chroma is interpolated."""
    inside = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    inside[:, WIDTH // 2 - 6 : WIDTH // 2 + 6] = False
    inside = torch.rot90(inside, made.turned)
    assert len(got) == len(made.frames)
    for index, (frame, known) in enumerate(zip(got, expected(made), strict=True)):
        assert frame.shape == known.shape
        assert float((frame - known).abs()[..., inside].max()) * 255 <= tolerance, index


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_and_its_time_are_read(opened: Callable[[str], Opened], name: str) -> None:
    clip, path, made, frames = opened(name)
    assert_pictures([frame.rgb for frame in frames], made, made.tolerance)
    assert tuple(frame.time for frame in frames) == made.times
    assert (clip.width, clip.height) == ((HEIGHT, WIDTH) if made.turned % 2 else (WIDTH, HEIGHT))
    assert clip.has_audio == made.audio
    if clip.reader is not None:
        assert clip.reader.aspect == made.aspect
    if made.whole:
        assert clip.frame_count == (len(frames) if made.counted else None)
    assert bool(clip.notes) == bool(made.note)
    assert made.note in " ".join(clip.notes)
    assert not clip.notes or path.name in clip.notes[0]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("start", "duration"), [(0.2, None), (0.25, 0.2), (0, 0.35)])
def test_an_excerpt_is_what_whole_reading_gives(
    opened: Callable[[str], Opened], name: str, start: float, duration: float | None
) -> None:
    _, path, made, frames = opened(name)
    begin = Fraction(str(start))
    end = None if duration is None else begin + Fraction(str(duration))
    inside = [index for index, time in enumerate(made.times) if time >= begin and (end is None or time < end)]
    rate = RATE if "." not in name or "/" in name else None
    if not inside:
        assert len(list(open_clip(path, start=start, duration=duration, fps=rate).frames())) == 1  # what is shown then
        return
    clip = open_clip(path, start=start, duration=duration, fps=rate)
    got = list(clip.frames())
    assert [frame.time for frame in got] == [made.times[i] - (made.times[inside[0]] if start else 0) for i in inside]
    assert all(torch.equal(frame.rgb, frames[i].rgb) for frame, i in zip(got, inside, strict=True))
    if made.whole:
        assert clip.frame_count == (len(got) if made.counted else None)


@pytest.mark.parametrize("later", [0, 9000])
@pytest.mark.parametrize("output", ["out.mp4", "out.webm"])
def test_the_sound_of_joined_recordings_stays_with_the_picture(tmp_path: Path, later: int, output: str) -> None:
    path = tmp_path / "clip.ts"
    joined(path, 0, later, seconds=0.4)
    convert_clip(open_clip(path), tmp_path / output, iter)
    with av.open(str(tmp_path / output)) as container:
        begins = [packet.pts * packet.time_base for packet in container.demux(audio=0) if packet.pts is not None]
    assert all(0 < after - before < Fraction(1, 20) for before, after in pairwise(begins))
    assert 0.75 < begins[-1] < 0.85


def test_a_stream_without_a_decoder_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    save(path)
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XXX"))
    with pytest.raises(NststabError, match=r"clip\.mkv: the video is damaged, or of a codec that FFmpeg does not know"):
        open_clip(path)


def test_no_frame_behind_the_start_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    save(path)
    data = path.read_bytes()
    begin, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    path.write_bytes(data[:begin] + bytes(end - begin) + data[end:])
    with pytest.raises(NststabError, match=r"clip\.mp4: the video ends before its first frame"):
        open_clip(path, start=0.3)


def test_a_length_that_is_damaged_is_not_announced(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    save(path)
    path.write_bytes(path.read_bytes().replace(b"00:00:00.8", b"00:00:\xff0.8"))
    clip = open_clip(path)
    assert len(list(clip.frames())) == COUNT
    assert clip.notes == []


@pytest.mark.parametrize("output", ["out.mp4", "out.webm"])
def test_damaged_sound_is_left_out_and_told(tmp_path: Path, output: str) -> None:
    path = tmp_path / "clip.ts"
    joined(path, 0, 4, seconds=0.4)
    with av.open(str(path)) as container:
        packets = [packet.pos for packet in container.demux(audio=0) if packet.pos and packet.size]
    data = bytearray(path.read_bytes())
    for place in packets[10::10]:
        data[place + 20 : place + 188] = bytes(168)
    path.write_bytes(data)
    result = convert_clip(open_clip(path), tmp_path / output, iter)
    assert result.frames == COUNT
    assert "damaged packets of the audio could not be decoded: left out" in " ".join(result.notes)


def test_sound_without_a_decoder_is_dropped_and_said(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    save_with_sound(path, 0.8)
    path.write_bytes(path.read_bytes().replace(b"A_AAC", b"A_XYZ"))
    assert convert_clip(open_clip(path), tmp_path / "out.mp4", iter).notes == [
        "clip.mkv has audio that is damaged, unknown to FFmpeg or begins late: it is dropped"
    ]


def test_a_recording_that_was_broken_off_lacks_its_index(tmp_path: Path) -> None:
    path = tmp_path / "recording.mp4"
    save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"recording\.mp4: expected a video.* has lost its index"):
        open_clip(path)


GOP = "keyint=8:min-keyint=8:bframes=3:b-adapt=0"
QUICK = {"preset": "ultrafast"}
MOVING = [
    *((f"open_gop{suffix}", "libx264", {"x264-params": f"open-gop=1:{GOP}", **QUICK}) for suffix in (".mp4", ".ts")),
    *(
        (f"open_gop_hevc{suffix}", "libx265", {"x265-params": f"open-gop=1:log-level=0:{GOP}", **QUICK})
        for suffix in (".mkv", ".ts")
    ),
    ("intra_refresh.mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=8", **QUICK}),
    ("intra_refresh.ts", "libx264", {"x264-params": "intra-refresh=1:keyint=8", **QUICK}),
    ("vp9.webm", "libvpx-vp9", {"g": "8", "lag-in-frames": "10", "deadline": "realtime", "cpu-used": "8"}),
    ("av1.mp4", "libsvtav1", {"g": "8", "preset": "12"}),
    ("mpeg2.ts", "mpeg2video", {"g": "8", "bf": "2"}),
    ("mpeg2.mpg", "mpeg2video", {"g": "8", "bf": "2"}),
]


@contextmanager
def same_scheduling() -> Iterator[None]:
    """Gives the thread its scheduling back: libsvtav1 makes root's real-time, which the tests after it would inherit,
    with their browsers, and run before all else of the machine."""
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


@pytest.mark.parametrize(("name", "codec", "options"), MOVING)
def test_an_excerpt_from_between_key_frames_is_what_whole_reading_gives(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    """Frames that lean on ones before the key frame are not shown broken, nor left out."""
    y, x = np.mgrid[:48, :64]
    with same_scheduling(), av.open(str(tmp_path / name), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(36):
            pixels = np.stack([4 * x + 9 * index, 5 * y + 7 * index, x + y + 13 * index], -1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    whole = list(open_clip(tmp_path / name).frames())
    assert len(whole) == 36
    for first in (7, 8, 15, 18, 31):
        part = list(open_clip(tmp_path / name, start=whole[first].time).frames())
        assert len(part) == 36 - first
        assert all(torch.equal(one.rgb, other.rgb) for one, other in zip(part, whole[first:], strict=True))


class Breaking:
    """A container whose packets end in an error."""

    def __init__(self, container: Any, packets: int, error: Exception) -> None:
        self.format, self.size, self._container, self._packets = container.format, container.size, container, packets
        self._error = error

    def demux(self, stream: Any) -> Iterator[Any]:
        for _, packet in zip(range(self._packets), self._container.demux(stream), strict=False):
            yield packet
        raise self._error


@pytest.mark.parametrize(
    ("packets", "error", "count", "damaged"),
    [
        (5, av.InvalidDataError(-1, "noise"), 5, True),  # frames which wait for a later packet come too
        (5, av.MemoryError(12, "too large a packet"), 5, True),
        (COUNT + 1, IndexError("list index out of range"), COUNT, False),  # PyAV's, where a stream came up midway
    ],
)
def test_what_came_before_an_error_of_reading_is_kept(
    tmp_path: Path, packets: int, error: Exception, count: int, damaged: bool
) -> None:
    KINDS["b_frames.mp4"](tmp_path / "clip.mp4")
    reader = VideoReader(tmp_path / "clip.mp4", excerpt(None, None, 3))  # another unit than the stream's
    with open_input(tmp_path / "clip.mp4") as container:
        stream: Any = container.streams.video[0]
        decoded = [time for _, time, _ in reader._decoded(Breaking(container, packets, error), stream, Fraction(0))]
    assert decoded == list(even(count))
    assert ("1 damaged packet of clip.mp4 could not be decoded: left out" in reader.notes) == damaged


VARIED = (
    "h264.mp4",
    "prores_10bit.mov",
    "uneven.mkv",
    "longer_sound.mp4",
    "rotated_90.mp4",
    "anamorphic.mp4",
    "gif.gif",
    "cut.mp4",
    "folder",
    "numbered/%03d.png",
)
LOSS = {"out.mp4": 3, "out.mkv": 3, "out.webm": 3, "out.gif": 3, "out.y4m": 2, "out/": 0.5}
PAIRS = [(name, "out.mp4") for name in KINDS if name not in VARIED]
PAIRS += [(name, f"out{suffix}") for name in VARIED for suffix in (".mp4", ".mkv", ".webm", ".gif", ".y4m", "/")]


@pytest.mark.parametrize(("name", "output"), PAIRS)
def test_every_clip_goes_into_every_format(
    opened: Callable[[str], Opened], tmp_path: Path, name: str, output: str
) -> None:
    clip, _, made, _ = opened(name)
    result = convert_clip(clip, f"{tmp_path}/{output}", iter)
    assert result.frames == len(made.frames)
    assert made.note in " ".join(result.notes)
    dropped = [note for note in result.notes if "audio" in note]
    again = open_clip(tmp_path / output)
    got = list(again.frames())
    assert_pictures([frame.rgb for frame in got], made, made.tolerance + LOSS.get(output, 0))
    suffix = Path(output).suffix
    if suffix in (".mp4", ".mkv", ".webm"):
        assert tuple(frame.time for frame in got) == made.times
        assert again.has_audio == made.audio
        assert again.reader is not None
        assert again.reader.aspect == made.aspect or "shape of the pixels" in " ".join(result.notes)
    else:
        assert bool(dropped) == made.audio
    if suffix == ".gif":
        assert tuple(frame.time for frame in got) == made.times
    if suffix == ".y4m" and "uneven" not in name and name != "gif.gif":
        assert tuple(frame.time for frame in got) == made.times
