"""The sound beside a clip: each channel in its place, audio that changes on the way, its times, and what is told."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner

from nststab.cli import group
from nststab.errors import NststabError
from nststab.video.audio import _is_placed
from nststab.video.clip import convert_clip, open_clip

RATE = 48000
SECONDS = 2


def add_sound(track: Any, wave: np.ndarray[Any, Any], rate: int, layout: str, begin: float = 0) -> Any:
    """The packets of samples (channels, N), the first at `begin` seconds."""
    sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave.T.reshape(1, -1), np.float32), "flt", layout)
    sound.sample_rate, sound.time_base, sound.pts = rate, Fraction(1, rate), round(begin * rate)
    resampler = av.AudioResampler(format=track.codec_context.format, layout=layout, rate=rate)
    for part in (*resampler.resample(sound), *resampler.resample(None), None):
        yield from track.encode(part)


def tones(layout: str, rate: int = RATE, lowest: int = 40) -> np.ndarray[Any, Any]:
    """Two seconds of a tone of its own in each channel: multiples of `lowest` Hz, which the channel of bass holds."""
    time = np.arange(SECONDS * rate) / rate
    channels = range(1, av.AudioLayout(layout).nb_channels + 1)
    return np.stack([0.4 * np.sin(2 * np.pi * lowest * channel * time) for channel in channels])


def make_clip(
    path: Path,
    wave: np.ndarray[Any, Any],
    codec: str = "aac",
    layout: str = "stereo",
    rate: int = RATE,
    begin: float = 0,
    picture: Any = None,
) -> Path:
    """Two seconds of 25 frames each (grey, or bright where `picture` says so of a number), and samples beside them."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "bf": "0"})
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        track: Any = container.add_stream(codec, rate=rate, layout=layout)
        for number in range(25 * SECONDS):
            level = 235 if picture is not None and picture(number) else 90
            frame = av.VideoFrame.from_ndarray(np.full((48, 32), level, np.uint8), format="yuv420p")
            frame.time_base, frame.pts = Fraction(1, 25), number + round(begin * 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for packet in add_sound(track, wave, rate, layout, begin):
            container.mux(packet)
    return path


def samples(path: Path) -> tuple[np.ndarray[Any, Any], Any, float, int]:
    """All that is heard: samples (channels, N), their layout, the time of the first, and the rate."""
    packed = av.AudioResampler(format="flt")
    with av.open(str(path)) as container:
        frames = [part for frame in container.decode(audio=0) for part in packed.resample(frame)]
    first: Any = frames[0]
    channels = first.layout.nb_channels
    wave = np.concatenate([frame.to_ndarray().reshape(-1, channels) for frame in frames]).T
    return wave, first.layout, float(first.pts * first.time_base), first.sample_rate


def pitches(wave: np.ndarray[Any, Any], rate: int) -> list[int]:
    """The loudest frequency of each channel, in Hz."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(wave.shape[1]), 4 * rate))
    return [round(place / 4) for place in spectrum.argmax(axis=1)]


def heard_in(path: Path) -> Mapping[str, int]:
    """The pitch in each channel that is not silent."""
    wave, layout, _, rate = samples(path)
    middle = wave[:, rate // 5 : -rate // 5]
    return {
        channel.name: pitch
        for channel, pitch, part in zip(layout.channels, pitches(middle, rate), middle, strict=True)
        if np.abs(part).max() > 0.05
    }


@pytest.mark.parametrize(
    ("layout", "codec", "output"),
    [
        ("7.1", "aac", "out.mp4"),
        ("7.1", "aac", "out.webm"),
        ("5.1", "flac", "out.webm"),
        ("5.0", "flac", "out.webm"),
        ("6.1", "flac", "out.webm"),
        ("2.1", "flac", "out.webm"),
        ("2.1", "pcm_s24le", "out.mp4"),
        ("quad", "pcm_s16le", "out.mp4"),
    ],
)
def test_each_channel_keeps_its_place(tmp_path: Path, layout: str, codec: str, output: str) -> None:
    suffix = {"aac": "mp4", "flac": "mkv"}.get(codec, "mov")  # Matroska does not place the channels of PCM
    source = make_clip(tmp_path / f"in.{suffix}", tones(layout), codec, layout)
    expected = {channel.name: 40 * (1 + place) for place, channel in enumerate(av.AudioLayout(layout).channels)}
    assert heard_in(source) == pytest.approx(expected, abs=2)
    for clip in (open_clip(source), open_clip(source, start=Fraction(1, 4), duration=Fraction(3, 2))):
        convert_clip(clip, tmp_path / output, iter)
        assert heard_in(tmp_path / output) == pytest.approx(expected, abs=2)


def test_sides_without_a_back_and_layouts_that_do_not_fit_are_placed_and_told(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mov", tones("5.1(side)"), "pcm_s16le", "5.1(side)")
    assert len(convert_clip(open_clip(source), tmp_path / "out.mp4", iter).notes) == 1
    sides = {"FL": 40, "FR": 80, "FC": 120, "LFE": 160, "BL": 200, "BR": 240}
    assert heard_in(tmp_path / "out.mp4") == pytest.approx(sides, abs=2)
    source = make_clip(tmp_path / "in.mov", tones("6.1"), "pcm_s16le", "6.1")
    notes = convert_clip(open_clip(source), tmp_path / "out.mp4", iter).notes
    assert "the audio's channels, 6.1, are written as 7.1" in notes
    behind = {"FL": 40, "FR": 80, "FC": 120, "LFE": 160, "BL": 200, "BR": 200, "SL": 240, "SR": 280}
    assert heard_in(tmp_path / "out.mp4") == pytest.approx(behind, abs=2)


def test_channels_that_only_damage_can_tell_of_have_no_place() -> None:
    nowhere = SimpleNamespace(name="NONE")
    unplaced = {count: SimpleNamespace(channels=[nowhere] * count, nb_channels=count) for count in (2, 16, 53)}
    assert [_is_placed(layout) for layout in unplaced.values()] == [True, True, False]
    assert _is_placed(av.AudioLayout("6.1"))


def test_more_channels_than_the_codec_holds_end_in_one_line(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", tones("hexadecagonal"), "pcm_s16le", "hexadecagonal")
    with pytest.raises(NststabError, match=r"in\.mkv: its audio \(pcm_s16le\) has 16 channels, .* audio=False"):
        convert_clip(open_clip(source), tmp_path / "out.mp4", iter)
    command = ["stylize", str(source), "-o", str(tmp_path / "out.mp4"), "--method", "tests.test_parts:blend"]
    said = CliRunner().invoke(group, command)
    assert (said.exit_code, said.stderr.endswith("holds; --no-audio leaves it out\n")) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
    assert CliRunner().invoke(group, [*command, "--no-audio"]).exit_code == 0
    convert_clip(open_clip(source, duration=1), tmp_path / "out.mkv", iter)
    assert pitches(samples(tmp_path / "out.mkv")[0], RATE) == pytest.approx([40 * n for n in range(1, 17)], abs=2)


@pytest.mark.parametrize(
    ("codec", "output"), [("aac", "out.mp4"), ("aac", "out.webm"), ("ac3", "out.mkv"), ("mp2", "out.mp4")]
)
@pytest.mark.parametrize(
    ("rates", "layouts"), [((48000, 48000), ("stereo", "mono")), ((48000, 44100), ("mono", "stereo"))]
)
def test_audio_that_changes_on_the_way(
    tmp_path: Path, codec: str, output: str, rates: tuple[int, int], layouts: tuple[str, str]
) -> None:
    parts = [
        make_clip(
            tmp_path / f"{number}.ts",
            tones(layout, rate, 400 + 300 * number)[:1].repeat(len(tones(layout)), 0),
            codec,
            layout,
            rate,
            number * SECONDS,
        )
        for number, (rate, layout) in enumerate(zip(rates, layouts, strict=True))
    ]
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    notes = convert_clip(open_clip(source), tmp_path / output, iter).notes
    with av.open(str(tmp_path / output)) as container:
        kinds = {(frame.sample_rate, frame.layout.name) for frame in container.decode(audio=0)}
    assert kinds == {(rates[0], layouts[0])}
    assert any("changes its channels or its rate on the way" in note for note in notes)
    wave, _, begin, rate = samples(tmp_path / output)
    assert pitches(wave[:, rate // 4 : rate], rate) == pytest.approx([400] * len(wave), abs=3)
    assert pitches(wave[:, rate * 9 // 4 : rate * 3], rate) == pytest.approx([700] * len(wave), abs=3)
    assert begin + wave.shape[1] / rate == pytest.approx(2 * SECONDS, abs=0.06)


def film(path: Path) -> Path:
    """A clip with a title, two chapters, two German tracks of sound, the best one titled, and two of subtitles."""
    plain = make_clip(path.with_name(f"plain{path.suffix}"), tones("stereo"))
    with av.open(str(plain)) as source, av.open(str(path), "w") as container:
        streams = [container.add_stream_from_template(stream) for stream in source.streams]
        second: Any = container.add_stream("aac", rate=RATE, layout="mono")
        for track in (streams[1], second):
            track.metadata["language"] = "deu"
        streams[1].metadata["title"] = "Originalton"
        container.metadata.update({"title": "Ein Film", "artist": "jemand"})
        chapters = [(0, 1000, "Anfang"), (1000, 2000, "Ende")]
        container.set_chapters(
            [
                {"id": 1 + n, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": text}}
                for n, (a, b, text) in enumerate(chapters)
            ]
        )
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                container.mux(packet)
        for packet in add_sound(second, tones("mono")[:, :RATE], RATE, "mono"):
            container.mux(packet)
    return path


@pytest.mark.parametrize("name", ["in.mp4", "in.mkv"])
def test_title_chapters_and_language_are_kept_and_the_rest_is_told(tmp_path: Path, name: str) -> None:
    source = film(tmp_path / name)
    for output in (tmp_path / "out.mp4", tmp_path / "out.mkv", tmp_path / "out.webm"):
        notes = convert_clip(open_clip(source), output, iter).notes
        assert f"{name} has more than is carried along: 1 audio track in deu" in notes
        with av.open(str(output)) as container:
            told = {key.lower(): text for key, text in container.metadata.items()}
            assert (told["title"], told["artist"]) == ("Ein Film", "jemand")
            sound = container.streams.audio[0].metadata
            assert (sound["language"], sound.get("title", sound.get("name"))) == ("deu", "Originalton")
            assert chapters_of(container) == [(0, 1, "Anfang"), (1, 2, "Ende")]


def chapters_of(container: Any) -> list[tuple[float, float, str]]:
    """When each chapter begins and ends, in seconds, and its title."""
    return [
        (float(one["start"] * one["time_base"]), float(one["end"] * one["time_base"]), one["metadata"]["title"])
        for one in container.chapters()
    ]


@pytest.mark.parametrize("audio", [True, False])
def test_the_chapters_of_an_excerpt(tmp_path: Path, audio: bool) -> None:
    source = open_clip(film(tmp_path / "in.mkv"), start=Fraction(3, 5), duration=Fraction(6, 5))
    notes = convert_clip(source, tmp_path / "out.mkv", iter, audio=audio).notes
    assert notes == ["in.mkv has more than is carried along: 1 audio track in deu"][:audio]
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert chapters_of(container) == [(0, 0.4, "Anfang"), (0.4, 1.2, "Ende")]


def flash_and_click(path: Path) -> tuple[float, float]:
    """When the one bright frame is shown, and when the one loud sound is heard, in seconds by the file's clock."""
    clip = open_clip(path)
    flash = max(clip.frames(), key=lambda frame: float(frame.rgb.mean())).time
    assert flash is not None
    assert clip.source is not None
    wave, _, begin, rate = samples(path)
    energy = np.convolve(np.square(wave).sum(axis=0), np.ones(rate // 1000), "same")  # of a millisecond
    return float(flash), begin + int(energy.argmax()) / rate - float(clip.source.origin)


@pytest.mark.parametrize(
    ("name", "codec", "begin"),
    [
        ("in.mp4", "aac", 0),
        ("in.mov", "pcm_s16le", 0),
        ("in.mkv", "libopus", 0),
        ("in.ts", "aac", 5),
        ("in.ts", "mp2", 5),
        ("in.avi", "mp3", 0),
        ("in.flv", "aac", 0),
    ],
)
def test_a_click_stays_within_two_milliseconds_of_its_flash(tmp_path: Path, name: str, codec: str, begin: int) -> None:
    flash = 30  # the number of the bright frame
    time = np.arange(SECONDS * RATE) / RATE - flash / 25
    click = 0.8 * np.exp(-np.square(time / 0.0005)) * np.cos(2 * np.pi * 2000 * time)
    source = make_clip(tmp_path / name, np.stack([click, click]), codec, begin=begin, picture=lambda n: n == flash)
    shown, heard = flash_and_click(source)
    offset = heard - shown
    assert abs(offset) < (0.02 if name == "in.avi" else 0.001)  # AVI has no place for what a coder puts in front
    for output, start in (("out.mp4", None), ("out.mkv", Fraction(61, 100)), ("out.webm", Fraction(61, 100))):
        clip = open_clip(source, start=start, duration=start and Fraction(1))
        convert_clip(clip, tmp_path / output, iter)
        seen, heard = flash_and_click(tmp_path / output)
        assert clip.source is not None
        assert seen == pytest.approx(shown - float(clip.source.start), abs=0.0011), output
        assert heard - seen == pytest.approx(offset, abs=0.002), output


@pytest.mark.parametrize("output", ["out.mp4", "out.mkv"])
def test_sound_that_an_edit_list_hides_is_not_copied(tmp_path: Path, output: str) -> None:
    source = make_clip(tmp_path / "in.mp4", tones("mono"), layout="mono", begin=-1)
    convert_clip(open_clip(source), tmp_path / output, iter)
    with av.open(str(tmp_path / output)) as container:
        times = [packet.pts * packet.time_base for packet in container.demux(audio=0) if packet.pts is not None]
    assert -0.1 <= min(times) <= 0
    assert 0.9 < max(times) < 1
