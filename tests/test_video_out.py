"""What is written, decoded again: WebM and GIF frame by frame, their times, notes, and the audio beside them."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from nststab.video.audio import AudioTrack
from nststab.video.gif import GifEncoder
from nststab.video.reader import VideoReader
from nststab.video.timing import WHOLE, Excerpt, Jump, Source
from nststab.video.writer import VideoWriter
from tests.conftest import moving_picture as picture
from tests.conftest import psnr

UNEVEN = [0, 40, 60, 130, 170, 290, 310, 330, 420, 500]  # milliseconds
LAST = 80
SECONDS = 3  # of sound


def still(height: int = 48, width: int = 64) -> Tensor:
    """A picture of many colours."""
    small = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)


@dataclass
class Told(Source):
    """A source that tells what it is told."""

    path: Path = Path("none")
    rate: Fraction = Fraction(25)
    time_base: Fraction = Fraction(1, 1000)
    aspect: Fraction = Fraction(1)
    has_audio: bool = False
    origin: Fraction = Fraction(0)
    start: Fraction = Fraction(0)
    end: Fraction | None = None
    jumps: tuple[Jump, ...] = ()


def write(
    path: Path, frames: Iterable[Tensor], times: list[Fraction] | None = None, source: Source | None = None
) -> list[str]:
    """Write frames at times (None: those of pictures), the last one for `LAST` ms; the notes."""
    frames = list(frames)
    with VideoWriter(path, path, source, audio=True) as writer:
        for index, rgb in enumerate(frames):
            if times is None:
                writer.write(rgb, None, None)
            else:
                end = [*times[1:], times[-1] + Fraction(LAST, 1000)][index]
                writer.write(rgb, times[index], end - times[index])
    return writer.notes


def decoded(path: Path) -> list[Tensor]:
    return [rgb for rgb, _, _ in VideoReader(path).frames()]


def times_of(path: Path) -> list[tuple[Fraction, Fraction]]:
    return [(time, duration) for _, time, duration in VideoReader(path).frames()]


# every format


@pytest.mark.parametrize(("suffix", "least"), [(".mp4", 38.0), (".mkv", 38.0), (".webm", 38.0), (".gif", 36.0)])
def test_every_frame_comes_back_at_odd_sizes(tmp_path: Path, suffix: str, least: float) -> None:
    frames = [picture(index, 47, 63) for index in range(10)]
    write(tmp_path / f"a{suffix}", frames, [Fraction(t, 1000) for t in UNEVEN], Told())
    back = decoded(tmp_path / f"a{suffix}")
    assert len(back) == 10
    for index, rgb in enumerate(back):
        scores = [psnr(rgb, other) for other in frames]
        assert scores[index] == max(scores)
        assert scores[index] > least


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".gif"])
def test_uneven_times_and_the_last_duration(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    assert write(path, map(picture, range(10)), [Fraction(t, 1000) for t in UNEVEN], Told()) == []
    times = times_of(path)
    assert [time for time, _ in times] == [Fraction(t, 1000) for t in UNEVEN]
    assert times[-1][1] == Fraction(LAST, 1000)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".gif"])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (1, 1), (2, 3)])
def test_one_frame_without_times(tmp_path: Path, suffix: str, height: int, width: int) -> None:
    path = tmp_path / f"a{suffix}"
    write(path, [torch.full((1, 3, height, width), 0.5)])
    ((time, duration),) = times_of(path)
    assert (time, duration) == (Fraction(0), Fraction(1, 25))
    (rgb,) = decoded(path)
    assert rgb.shape == (1, 3, height, width)
    assert (rgb - 0.5).abs().max() * 255 <= 2


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_what_cannot_be_written_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with pytest.raises(ValueError, match="no frames to write"):
        write(path, [])
    with pytest.raises(ValueError, match=f"a\\{suffix}: expected frames of 64x48 pixels as the first, got 32x48"):
        write(path, [picture(0), picture(0, 48, 32)])
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "none" / path.name, [picture(0)])


# WebM


def test_webm_is_vp9_tagged_bt709_in_420_at_any_size(tmp_path: Path) -> None:
    for height, width in ((48, 64), (47, 63)):
        assert write(tmp_path / "a.webm", [picture(0, height, width)]) == []
        with av.open(str(tmp_path / "a.webm")) as container:
            assert container.format.name == "matroska,webm"
            stream = container.streams.video[0]
            context = stream.codec_context
            assert (context.name, context.pix_fmt, context.profile) in (
                ("vp9", "yuv420p", "Profile 0"),
                ("libvpx-vp9", "yuv420p", "Profile 0"),
            )
            assert (context.colorspace, context.color_range) == (1, 1)
            assert (context.color_primaries, context.color_trc) == (1, 1)
        assert b"webm" in (tmp_path / "a.webm").read_bytes()[:64]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_the_shape_of_pixels_is_kept_or_told(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    notes = write(path, [picture(0)], source=Told(aspect=Fraction(4, 3)))
    kept = VideoReader(path).aspect == Fraction(4, 3)
    assert ["without the shape of the pixels, 4/3 in the source" in note for note in notes] == [True] * (not kept)
    assert kept == (suffix != ".webm")


@pytest.mark.parametrize(("suffix", "apart"), [(".mp4", Fraction(0)), (".webm", Fraction(1, 2000))])
def test_rates_which_are_no_whole_number_of_milliseconds(tmp_path: Path, suffix: str, apart: Fraction) -> None:
    rate = Fraction(30000, 1001)
    times = [index / rate for index in range(70)]  # more than the encoder looks ahead
    path = tmp_path / f"a{suffix}"
    write(path, map(picture, range(70)), times, Told(rate=rate, time_base=Fraction(1, 30000)))
    assert all(abs(time - wanted) <= apart for (time, _), wanted in zip(times_of(path), times, strict=True))


# GIF


@pytest.mark.parametrize(("width", "told"), [(64, b"subme=6"), (2112, b"subme=4")])  # x264's presets fast and faster
def test_large_frames_are_coded_quickly_and_none_with_many_held_back(tmp_path: Path, width: int, told: bytes) -> None:
    write(tmp_path / "out.mp4", [torch.zeros(1, 3, width // 2, width)])
    settings = (tmp_path / "out.mp4").read_bytes()  # x264 writes its own into what it codes
    assert told in settings
    assert b"rc_lookahead=40" not in settings


@pytest.mark.parametrize(("width", "told"), [(48, b"mbtree=0"), (128, b"mbtree=1")])
def test_a_tiny_frame_is_coded_without_what_makes_its_bits_a_matter_of_chance(
    tmp_path: Path, width: int, told: bytes
) -> None:
    write(tmp_path / "out.mkv", [torch.zeros(1, 3, width // 2, width)])
    assert told in (tmp_path / "out.mkv").read_bytes()


def in_hundredths(path: Path) -> list[tuple[int, int]]:
    return [(int(time * 100), int(duration * 100)) for time, duration in times_of(path)]


@pytest.mark.parametrize("rate", [12, 24, Fraction(24000, 1001), 25, Fraction(30000, 1001), 30, 50])
def test_gif_times_do_not_drift(tmp_path: Path, rate: Fraction) -> None:
    path = tmp_path / "a.gif"
    start = Fraction(7, 3)  # the picture begins after a silence, or the sound before it
    with VideoWriter(path, path, Told(rate=Fraction(rate)), audio=True) as writer:
        for index in range(100):
            writer.write(picture(index, 6, 8), start + index / Fraction(rate), 1 / Fraction(rate))
    assert writer.notes == []
    wanted = [round(index * 100 / Fraction(rate)) for index in range(101)]
    assert in_hundredths(path) == [(a, b - a) for a, b in pairwise(wanted)]
    with Image.open(path) as image:
        assert [frame.info["duration"] for frame in ImageSequence.Iterator(image)] == [
            10 * (b - a) for a, b in pairwise(wanted)
        ]
        assert image.info["loop"] == 0  # for ever


@pytest.mark.parametrize(("rate", "shown"), [(60, 40), (100, 50), (120, 45)])
def test_gif_frames_that_browsers_would_slow_down_are_left_out(tmp_path: Path, rate: int, shown: int) -> None:
    path = tmp_path / "a.gif"
    with VideoWriter(path, path, Told(rate=Fraction(rate)), audio=True) as writer:
        for index in range(rate):
            writer.write(picture(index, 6, 8), Fraction(index, rate), Fraction(1, rate))
    times = in_hundredths(path)
    assert len(times) >= shown
    left_out = rate - len(times)
    assert writer.notes == [f"GIF shows at most 50 frames per second: {left_out} of {rate} frames were left out"]
    assert all(duration >= 2 for _, duration in times)
    assert times[-1][0] + times[-1][1] == 100


def test_a_gif_of_a_still_does_not_shimmer(tmp_path: Path) -> None:
    """Nor does what stands still beside what moves, at a change of palette, or under noise that nobody sees."""
    generator = torch.Generator().manual_seed(0)
    frames = []
    for index in range(12):
        rgb = still()
        rgb[..., 40:] = picture(index)[..., 40:] if index < 8 else torch.rand(1, 3, 48, 24, generator=generator)
        rgb[..., :20] += torch.randint(-1, 2, (1, 3, 48, 20), generator=generator) / 255
        frames.append(rgb.clamp(0, 1))
    write(tmp_path / "a.gif", frames)
    back = decoded(tmp_path / "a.gif")
    assert len(back) == 12
    for rgb, original in zip(back, frames, strict=True):
        assert torch.equal(rgb[..., :40], back[0][..., :40])
        assert psnr(rgb[..., 40:], original[..., 40:]) > 23  # noise of more colours than a palette has
    assert psnr(back[0], frames[0]) > 31
    write(tmp_path / "still.gif", [still()] * 30)
    assert all(torch.equal(rgb, decoded(tmp_path / "still.gif")[0]) for rgb in decoded(tmp_path / "still.gif"))
    one = write(tmp_path / "one.gif", [still()])
    assert one == []
    per_frame = ((tmp_path / "still.gif").stat().st_size - (tmp_path / "one.gif").stat().st_size) / 29
    assert per_frame < 900  # its palette, and nothing to draw


def test_slow_changes_arrive(tmp_path: Path) -> None:
    """A change below what is left out as invisible adds up until it is drawn."""
    frames = [torch.full((1, 3, 8, 8), (60 + index) / 255) for index in range(100)]
    write(tmp_path / "a.gif", frames)
    for rgb, original in zip(decoded(tmp_path / "a.gif"), frames, strict=True):
        assert (rgb - original).abs().max() * 255 <= 4


def test_gif_colours_after_a_cut_are_as_good_as_before(tmp_path: Path) -> None:
    def shot(number: int) -> list[Tensor]:
        tint = torch.eye(3)[number].view(1, 3, 1, 1)
        return [(0.6 * picture(index) * tint + 0.4 * still() * tint + 0.1).clamp(0, 1) for index in range(4)]

    frames = shot(0) + shot(1) + shot(2)
    write(tmp_path / "a.gif", frames)
    scores = [psnr(a, b) for a, b in zip(decoded(tmp_path / "a.gif"), frames, strict=True)]
    assert min(scores) > 36
    assert min(scores[4:]) > min(scores[:4]) - 3


def test_few_colours_are_exact(tmp_path: Path) -> None:
    rgb = torch.zeros(1, 3, 16, 16)
    for index in range(200):
        rgb[0, :, index // 16, index % 16] = torch.tensor([index, 255 - index, (7 * index) % 256]) / 255
    write(tmp_path / "a.gif", [rgb, torch.rand(1, 3, 16, 16).round()])
    first, second = decoded(tmp_path / "a.gif")
    assert (first - rgb).abs().max() * 255 <= 4  # colours that share their upper 6 bits may be taken for one another
    assert ((second == 0) | (second == 1)).all()


def test_pillow_sees_what_ffmpeg_sees(tmp_path: Path) -> None:
    frames = [picture(index, 31, 45) for index in range(6)] + [still(31, 45)]
    write(tmp_path / "a.gif", frames)
    with Image.open(tmp_path / "a.gif") as image:
        theirs = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    for a, b in zip(decoded(tmp_path / "a.gif"), theirs, strict=True):
        assert torch.equal((a * 255).round()[0].permute(1, 2, 0).byte(), torch.from_numpy(b))


def test_a_frame_that_is_longer_than_gif_can_tell_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    with VideoWriter(path, path, Told(), audio=False) as writer:
        writer.write(still(), Fraction(0), Fraction(700))
        writer.write(1 - still(), Fraction(700), Fraction(1400))
    with Image.open(path) as image:
        shown = [(one.info["duration"], one.convert("L").getpixel((0, 0))) for one in ImageSequence.Iterator(image)]
    dark, light = shown[0][1], shown[2][1]
    assert dark != light
    assert shown == [(655350, dark), (44650, dark), (655350, light), (655350, light), (89300, light)]


def test_gif_notes(tmp_path: Path) -> None:
    source = Told(has_audio=True, aspect=Fraction(4, 3))
    notes = write(tmp_path / "a.gif", [picture(0)], source=source)
    assert notes == [
        "GIF holds no audio: it was dropped",
        "GIF viewers show pixels square: those of the source are 4/3",
    ]
    path = tmp_path / "a.gif"
    with VideoWriter(path, path, Told(has_audio=True), audio=False) as writer:
        writer.write(picture(0), None, None)
    assert writer.notes == []
    with pytest.raises(ValueError, match="expected at most 65535 pixels a side in a GIF, got 70000x8"):
        GifEncoder(path, path, Told(), False, 70000, 8)


# audio


def sounding(path: Path, codec: str, channels: int = 2, rate: int = 48000, shown: int = 50) -> Path:
    """A clip of `shown` frames at 25 per second with a sound that grows for `SECONDS`: its loudness tells the time."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        track: Any = container.add_stream(codec, rate=rate, layout=f"{channels}c")
        for index in range(shown):
            frame = av.VideoFrame(32, 32, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([4 * index]) * plane.buffer_size)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        time = np.arange(SECONDS * rate) / rate
        wave = (0.9 * time / SECONDS * np.sin(2 * np.pi * 200 * time)).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(np.tile(wave, (channels, 1)), format="fltp", layout=f"{channels} channels")
        sound.sample_rate, sound.time_base, sound.pts = rate, Fraction(1, rate), 0
        context = track.codec_context
        resampler = av.AudioResampler(context.format.name, context.layout.name, rate, frame_size=1000)
        for part in [*resampler.resample(sound), *resampler.resample(None)]:
            container.mux(track.encode(part))
        container.mux(track.encode(None))
    return path


def samples(path: Path) -> tuple[Any, int, Fraction]:
    """The first channel as it is decoded, each frame at its time, its rate, and when it begins."""
    with av.open(str(path)) as container:
        frames: list[Any] = list(container.decode(audio=0))
    first, last = frames[0], frames[-1]
    rate, begin = first.sample_rate, first.pts * first.time_base
    wave = np.zeros(round((last.pts * last.time_base - begin) * rate) + last.samples)
    for frame in frames:
        place = round((frame.pts * frame.time_base - begin) * rate)
        step = 1 if frame.format.is_planar else frame.layout.nb_channels
        wave[place : place + frame.samples] = frame.to_ndarray()[0, ::step]
    return wave / (1 if first.format.name.startswith("flt") else 2**15), rate, begin


def level(path: Path, time: float) -> float:
    """How loud it is at a time in the file, as the time in the sound of `sounding` at which it is as loud."""
    wave, rate, begin = samples(path)
    place = round((time - float(begin)) * rate)
    around = wave[max(0, place - rate // 50) : place + rate // 50]  # whole periods
    return float(np.sqrt(2 * np.square(around).mean()) / 0.9 * SECONDS)


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def carry(source: Path, output: Path, part: Excerpt = WHOLE) -> list[str]:
    """Write a clip's frames again, with its sound."""
    reader = VideoReader(source, part)
    with VideoWriter(output, output, reader, audio=True) as writer:
        for rgb, time, duration in reader.frames():
            writer.write(rgb, time, duration)
    return writer.notes


def test_webm_copies_opus_and_keeps_audio_longer_than_the_video(tmp_path: Path) -> None:
    source = sounding(tmp_path / "in.mkv", "libopus")
    assert carry(source, tmp_path / "out.webm") == []
    assert packets(tmp_path / "out.webm") == packets(source)
    for time in (0.5, 1.5, 2.8):  # the picture ends at 2
        assert level(tmp_path / "out.webm", time) == pytest.approx(time, abs=0.05)


@pytest.mark.parametrize(
    ("name", "codec", "channels", "rate", "told"),
    [
        ("in.mp4", "aac", 2, 44100, "aac"),
        ("in.mkv", "pcm_s16le", 1, 22050, "pcm_s16le"),
        ("in.mkv", "pcm_s16le", 3, 44100, "pcm_s16le"),
        ("in.mkv", "pcm_s16le", 4, 44100, "pcm_s16le"),
        ("in.mkv", "pcm_s16le", 6, 48000, "pcm_s16le"),
        ("in.mkv", "flac", 2, 24000, "flac"),
    ],
)
def test_webm_gets_opus_where_the_source_has_something_else(
    tmp_path: Path, name: str, codec: str, channels: int, rate: int, told: str
) -> None:
    source = sounding(tmp_path / name, codec, channels, rate)
    assert carry(source, tmp_path / "out.webm") == [f"the audio was encoded anew as Opus: .webm does not take {told}"]
    with av.open(str(tmp_path / "out.webm")) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.codec.canonical_name == "opus"
        assert stream.codec_context.layout.nb_channels == channels
    for time in (0.5, 1.5, 2.8):
        assert level(tmp_path / "out.webm", time) == pytest.approx(time, abs=0.08)


@pytest.mark.parametrize(
    ("name", "codec", "output", "packet"),
    [
        ("in.mp4", "aac", "out.mp4", 0.024),  # copied: to the packet
        ("in.mkv", "libopus", "out.webm", 0.02),
        ("in.mkv", "libopus", "out.mkv", 0.02),
        ("in.mkv", "mp3", "out.mp4", 0.025),
        ("in.mp4", "aac", "out.webm", 0.0),  # encoded anew: to the sample
        ("in.mkv", "pcm_s16le", "out.mp4", 0.0),
        ("in.mkv", "pcm_s16le", "out.mkv", 0.0),
    ],
)
def test_the_audio_of_an_excerpt(tmp_path: Path, name: str, codec: str, output: str, packet: float) -> None:
    source = sounding(tmp_path / name, codec)
    carry(source, tmp_path / output, Excerpt(Fraction(1), Fraction(3, 5)))
    for time in (0.1, 0.3, 0.5) if packet == 0 else (0.3, 0.5):  # a decoder that begins amid a stream needs a moment
        assert level(tmp_path / output, time) == pytest.approx(level(source, 1 + time), abs=0.03)
    with av.open(str(tmp_path / output)) as container:
        last = [packet for packet in container.demux(audio=0) if packet.size][-1]
        assert last.pts is not None
        assert last.duration is not None
        assert last.time_base is not None
        end = float((last.pts + last.duration) * last.time_base)
    assert 0.6 - 0.001 <= end <= 0.6 + packet + 0.003
    wave, rate, begin = samples(tmp_path / output)
    assert (
        -0.001 <= begin <= packet + 0.014
    )  # Opus leaves the first 6.5 ms of a stream out, an MP3 decoder half a packet
    assert len(wave) / rate <= 0.6 + packet + 0.025


def joined(path: Path) -> Any:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def test_pcm_is_cut_to_the_sample(tmp_path: Path) -> None:
    source = sounding(tmp_path / "in.mov", "pcm_s16le", rate=44100)  # Matroska would round its times
    carry(source, tmp_path / "out.mkv", Excerpt(Fraction(41, 50), Fraction(1001, 1000)))
    # the first frame from 0.82 on is at 0.84, and the excerpt ends at 0.82 + 1.001
    begin, end = round(Fraction(21, 25) * 44100), ceil(Fraction(1821, 1000) * 44100)
    assert np.array_equal(joined(tmp_path / "out.mkv"), joined(source)[2 * begin : 2 * end])  # two channels


def test_a_damaged_audio_packet_is_left_out_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = sounding(tmp_path / "in.mkv", "flac")
    decode = AudioTrack._decode
    seen: list[Any] = []

    class Damaged:
        def decode(self) -> None:
            raise av.InvalidDataError(1, "damaged")

    def sometimes(track: AudioTrack, packet: Any) -> list[Any]:
        seen.append(packet)
        return decode(track, Damaged() if len(seen) == 20 else packet)

    monkeypatch.setattr(AudioTrack, "_decode", sometimes)
    notes = carry(source, tmp_path / "out.webm")
    assert notes[1:] == ["1 damaged packets of the audio could not be decoded: left out"]
    assert level(tmp_path / "out.webm", 2.8) == pytest.approx(2.8, abs=0.08)


def test_a_gap_in_the_sound_is_silent_where_it_is_encoded_anew(tmp_path: Path) -> None:
    source = str(sounding(tmp_path / "whole.mkv", "flac"))
    with av.open(source) as whole, av.open(str(tmp_path / "in.mkv"), "w") as container:
        streams = {stream.index: container.add_stream_from_template(stream) for stream in whole.streams}
        for packet in whole.demux():
            missing = packet.pts is None or (packet.stream.type == "audio" and 800 < packet.pts < 1200)  # milliseconds
            if not missing:
                packet.stream = streams[packet.stream_index]
                container.mux(packet)
    carry(tmp_path / "in.mkv", tmp_path / "out.webm")
    assert level(tmp_path / "out.webm", 1.05) < 0.02
    for time in (0.5, 1.5, 2.8):
        assert level(tmp_path / "out.webm", time) == pytest.approx(time, abs=0.08)


def test_a_packet_without_a_presentation_time_is_written(tmp_path: Path) -> None:
    source = sounding(tmp_path / "in.mkv", "libopus")
    with av.open(str(tmp_path / "out.mkv"), "w") as container:
        track = AudioTrack(VideoReader(source), container, ".mkv", None, "aac")
        original = track._write

        def without(packet: Any) -> None:
            packet.pts = None
            original(packet)

        track._write = without  # type: ignore[method-assign]
        track.write_until(None)
        track.close()
    assert packets(tmp_path / "out.mkv") == packets(source)
