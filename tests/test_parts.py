"""A long clip whose work ends in the middle is resumed after its last finished part, to the same packets."""

import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import av
import pytest
import torch

import nststab
from nststab.engines.torch_engine import TorchEngine
from nststab.errors import NststabError, SettingError
from nststab.frames import Frame
from nststab.measure.stability import StabilityMeter
from nststab.methods.deflicker import Deflicker
from nststab.methods.settings import OptimizationSettings
from nststab.networks.checkpoints import Checkpoint, save_checkpoint
from nststab.networks.transformation import TransformationNetwork
from nststab.storage.jobs import identity_of, open_job, unfinished
from nststab.storage.parts import Parts
from nststab.tasks.compare import Comparison
from nststab.tasks.settings import CompareSettings
from nststab.tasks.stylize import Stylized
from tests.conftest import TINY_RECURRENT, contents, moving_picture, rand, save_frames, save_networks, save_vgg
from tests.test_jobs import DAMAGE
from tests.test_video import make_clip

TIMES = [40 * n + (n % 3) * 9 for n in range(14)]  # milliseconds, uneven
Packets = list[tuple[Any, ...]]


class Blend:
    """A method of one's own with a state: half of the frame before in each; it can end in the middle, and counts."""

    fails_at: int | None = None
    seen: ClassVar[list[int]] = []

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        before = None
        for frame in frames:
            if frame.number == Blend.fails_at:
                raise NststabError("no more")
            Blend.seen.append(frame.number)
            before = frame.rgb if before is None else (before + frame.rgb) / 2
            yield frame.with_rgb(before)


blend = Blend()


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parts, "length", 4)
    monkeypatch.setattr(Blend, "fails_at", None)
    Blend.seen.clear()


@pytest.fixture
def network(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "net.safetensors"
    made = TransformationNetwork(TINY_RECURRENT)
    save_checkpoint(path, Checkpoint(made, {"relu1_2": torch.eye(4)}))
    return path


def streams(path: Path) -> tuple[Packets, Packets]:
    """The packets of the picture and of the sound: their times and bytes."""
    found: list[Packets] = []
    with av.open(str(path)) as container:
        for stream in (container.streams.video[0], container.streams.audio[0]):
            container.seek(0)
            found.append([(p.pts, p.dts, p.duration, bytes(p)) for p in container.demux(stream) if p.size])
    return found[0], found[1]


def film_with_a_cut(folder: Path, frames: int, cut: int) -> Path:
    """A folder of pictures, where another shot begins with the frame `cut`."""
    pictures = [moving_picture(number) for number in range(frames)]
    return save_frames(folder / "film", pictures[:cut] + [1 - picture.flip(3) ** 3 for picture in pictures[cut:]])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_a_clip_with_uneven_times_and_sound(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(tmp_path / "clip.mp4", TIMES, audio="aac")
    method = "tests.test_parts:blend"
    whole, parted = tmp_path / f"whole{suffix}", tmp_path / f"parted{suffix}"
    nststab.stylize(clip, whole, method=method)
    for fails_at, finished in ((10, 1), (13, 2)):  # of four frames that wait to be coded, an error leaves none
        monkeypatch.setattr(Blend, "fails_at", fails_at)
        with pytest.raises(NststabError, match="no more") as caught:
            nststab.stylize(clip, parted, method=method)
        assert "the same command goes on once that is mended" in caught.value.__notes__[0]
        assert not parted.exists()
        assert len(list((unfinished(parted) / "parts").iterdir())) >= finished
    monkeypatch.setattr(Blend, "fails_at", None)
    assert nststab.stylize(clip, parted, method=method).resumed >= 8
    assert not unfinished(parted).exists()
    assert streams(parted) == streams(whole)
    keys = [number for number, frame in enumerate(decoded(parted)) if frame.key_frame]
    assert keys == [0, 4, 8, 12]


def test_a_state_outlives_the_parts_that_are_ahead_of_the_encoder(tmp_path: Path) -> None:
    with open_job(tmp_path / "job", {}) as job:
        parts = Parts(job)
        for number in (4, 8, 12):  # the network is three parts further than what is coded
            parts.state("net").keep(number, number)
        parts.keep({})
    with open_job(tmp_path / "job", {}) as job:
        assert Parts(job).state("net").restored() == 4


@pytest.mark.parametrize("suffix", [".gif", ".y4m"])
def test_a_file_that_only_grows(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [n if n < 6 else 3 * n for n in TIMES]  # too close to each other for a GIF, and uneven for y4m
    clip = make_clip(tmp_path / "clip.mp4", times)
    method = "tests.test_parts:blend"
    whole, parted = tmp_path / f"whole{suffix}", tmp_path / f"parted{suffix}"
    notes = nststab.stylize(clip, whole, method=method).notes
    for fails_at in (10, 13):
        monkeypatch.setattr(Blend, "fails_at", fails_at)
        with pytest.raises(NststabError, match="no more"):
            nststab.stylize(clip, parted, method=method)
        assert not parted.exists()
    with (unfinished(parted) / parted.name).open("ab") as file:
        file.write(b"half a frame")  # as a kill leaves it
    monkeypatch.setattr(Blend, "fails_at", None)
    result = nststab.stylize(clip, parted, method=method)
    assert (result.resumed >= 8, result.notes) == (True, notes)
    assert parted.read_bytes() == whole.read_bytes()
    assert not unfinished(parted).exists()


@pytest.mark.parametrize("name", ["out.gif", "out.y4m", "out/"])
def test_frames_that_are_gone_are_made_anew(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    film, output, method = film_with_a_cut(tmp_path, frames=14, cut=5), tmp_path / name, "tests.test_parts:blend"
    (tmp_path / "whole").mkdir()
    nststab.stylize(film, f"{tmp_path}/whole/{name}", method=method)
    monkeypatch.setattr(Blend, "fails_at", 13)
    with pytest.raises(NststabError, match="no more"):
        nststab.stylize(film, f"{tmp_path}/{name}", method=method)
    monkeypatch.setattr(Blend, "fails_at", None)
    if output.is_dir():
        (output / "frame_000003.png").unlink()
    else:
        (unfinished(output) / name).unlink()
    result = nststab.stylize(film, f"{tmp_path}/{name}", method=method)
    assert (result.frames, result.resumed) == (14, 0)
    assert "finished frames of" in caplog.text
    assert contents(output) == contents(tmp_path / "whole" / name)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    ("name", "file"),
    [("out.mp4", "parts/part_000001.npz"), ("out.gif", "parts/part_000001.npz"), ("out.gif", "written_*.state")],
)
def test_damaged_parts_and_states_are_made_anew(
    tmp_path: Path, name: str, file: str, damage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    film, output, method = film_with_a_cut(tmp_path, frames=14, cut=5), tmp_path / name, "tests.test_parts:blend"
    (tmp_path / "whole").mkdir()
    nststab.stylize(film, tmp_path / "whole" / name, method=method)
    monkeypatch.setattr(Blend, "fails_at", 13)
    with pytest.raises(NststabError, match="no more"):
        nststab.stylize(film, output, method=method)
    monkeypatch.setattr(Blend, "fails_at", None)
    for path in unfinished(output).glob(file):
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert nststab.stylize(film, output, method=method).resumed == 0
    assert "is damaged: all frames are made anew" in caplog.text
    assert contents(output) == contents(tmp_path / "whole" / name)


def test_a_folder_is_filled_again_that_ended_before_its_first_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, output, method = make_clip(tmp_path / "clip.mp4", TIMES), tmp_path / "out", "tests.test_parts:blend"
    monkeypatch.setattr(Parts, "length", 48)
    monkeypatch.setattr(Blend, "fails_at", 8)
    for _ in range(2):
        with pytest.raises(NststabError, match="no more"):
            nststab.stylize(clip, f"{output}/", method=method)
        assert not any(output.iterdir())
        assert not unfinished(output).exists()
    monkeypatch.setattr(Blend, "fails_at", None)
    nststab.stylize(clip, f"{output}/", method=method)
    assert len(list(output.iterdir())) == len(TIMES)
    assert not unfinished(output).exists()


def test_a_folder_of_others_is_not_given_up_by_a_run_that_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, output = make_clip(tmp_path / "clip.mp4", TIMES), save_frames(tmp_path / "out", [rand(1, 3, 8, 8)])
    monkeypatch.setattr(Blend, "fails_at", 0)
    with pytest.raises(NststabError, match="no more"):
        nststab.stylize(clip, output, method="tests.test_parts:blend", overwrite=True)
    assert not unfinished(output).exists()


def decoded(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def interrupted(clip: Path, output: str | Path, network: Path, after: int, **options: Any) -> Stylized:
    """Stylize, with an end after so many frames of the network's work, and once more."""
    calls = 0
    run = TorchEngine.__call__

    def counted(self: TorchEngine, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == after:
            raise NststabError("no more")
        return run(self, *args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TorchEngine, "__call__", counted)
        with pytest.raises(NststabError, match="no more"):
            nststab.stylize(clip, output, style=network, **options)
        result = nststab.stylize(clip, output, style=network, **options)
    assert calls - after == result.frames - result.resumed, "frames that are finished cost nothing"
    return result


@pytest.mark.parametrize("preserve_color", [False, True])
def test_a_recurrent_network_goes_on_from_its_state(tmp_path: Path, network: Path, preserve_color: bool) -> None:
    clip = make_clip(tmp_path / "clip.mp4", TIMES, audio="aac")
    nststab.stylize(clip, tmp_path / "whole.mp4", style=network, preserve_color=preserve_color)
    result = interrupted(clip, tmp_path / "parted.mp4", network, 11, preserve_color=preserve_color)
    assert result.frames == 14
    assert result.resumed >= 4
    assert streams(tmp_path / "parted.mp4") == streams(tmp_path / "whole.mp4")


def test_a_folder_and_a_cut(tmp_path: Path, network: Path) -> None:
    film = film_with_a_cut(tmp_path, frames=12, cut=7)
    nststab.stylize(film, f"{tmp_path}/whole/", style=network)
    result = interrupted(film, f"{tmp_path}/parted/", network, 10)
    assert result.frames == 12
    assert result.resumed >= 4
    for name in sorted(os.listdir(tmp_path / "whole")):
        assert (tmp_path / "parted" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_shot_that_is_finished_is_not_given_to_a_method_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = film_with_a_cut(tmp_path, frames=20, cut=7)
    monkeypatch.setattr(Blend, "fails_at", 19)
    with pytest.raises(NststabError, match="no more"):
        nststab.stylize(film, tmp_path / "out.mp4", method="tests.test_parts:blend")
    monkeypatch.setattr(Blend, "fails_at", None)
    Blend.seen.clear()
    nststab.stylize(film, tmp_path / "out.mp4", method="tests.test_parts:blend")
    assert Blend.seen == list(range(7, 20))


@pytest.mark.parametrize("by_network", [False, True])
def test_what_is_steadied_begins_again_at_its_shot(tmp_path: Path, network: Path, by_network: bool) -> None:
    film = film_with_a_cut(tmp_path, frames=20, cut=7)
    options: dict[str, Any] = {"style": network} if by_network else {"method": "tests.test_parts:blend"}
    nststab.stylize(film, tmp_path / "whole.mkv", deflicker=1, **options)
    steadied = Deflicker.__call__

    def short(self: Deflicker, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in steadied(self, frames):
            if frame.number == 13:
                raise NststabError("no more")
            yield frame

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Deflicker, "__call__", short)
        with pytest.raises(NststabError, match="no more"):
            nststab.stylize(film, tmp_path / "parted.mkv", deflicker=1, **options)
    Blend.seen.clear()
    assert nststab.stylize(film, tmp_path / "parted.mkv", deflicker=1, **options).resumed >= 8
    assert Blend.seen == ([] if by_network else list(range(7, 20)))
    made, whole = [[p.to_ndarray() for p in decoded(tmp_path / f"{name}.mkv")] for name in ("parted", "whole")]
    assert all((a == b).all() for a, b in zip(made, whole, strict=True))


def test_what_was_begun_but_not_finished_does_not_stand_in_the_way(tmp_path: Path, network: Path) -> None:
    clip, output = make_clip(tmp_path / "clip.mp4", TIMES, audio="aac"), tmp_path / "out.mp4"
    folder = unfinished(output)
    folder.mkdir()
    (folder / "job.json").write_text('{"input": "another"}')  # as a kill before the first part leaves it
    assert nststab.stylize(clip, output, style=network).resumed == 0


def test_where_no_work_can_be_kept_is_said_before_any_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, method = make_clip(tmp_path / "clip.mp4", TIMES[:5]), "tests.test_parts:blend"
    long = tmp_path / f"{'x' * 241}.mp4"
    with pytest.raises(SettingError, match=r"x\.mp4: expected a name of at most 244 bytes, got 245"):
        nststab.stylize(clip, long, method=method)
    nststab.stylize(clip, long, stylizer=blend)
    (tmp_path / "out").mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and access(path, mode))
    Blend.seen.clear()
    with pytest.raises(PermissionError, match="no permission to write to this folder, where unfinished work is kept"):
        nststab.stylize(clip, tmp_path / "out", method=method)
    assert Blend.seen == []
    nststab.stylize(clip, tmp_path / "out", stylizer=blend)


def test_a_callable_that_is_handed_over_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(tmp_path / "clip.mp4", TIMES)
    monkeypatch.setattr(Blend, "fails_at", 9)
    with pytest.raises(NststabError, match="no more"):
        nststab.stylize(clip, tmp_path / "out.mp4", stylizer=blend)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which holds 256 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    film = tmp_path / "film"
    generator = torch.Generator().manual_seed(0)
    save_frames(film, [torch.rand(1, 3, 160, 160, generator=generator) for _ in range(20)])
    nststab.stylize(film, tmp_path / "whole.mp4", method="tests.test_parts:blend")
    assert (tmp_path / "whole.mp4").stat().st_size > 2**18
    with pytest.raises(OSError, match="No space left") as caught:
        nststab.stylize(film, small_disk / "out.mp4", method="tests.test_parts:blend")
    assert str(small_disk) in str(caught.value)
    assert "goes on" in caught.value.__notes__[0]
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    assert nststab.stylize(film, small_disk / "out.mp4", method="tests.test_parts:blend").resumed >= 4
    assert (small_disk / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


@pytest.mark.parametrize(
    ("methods", "report"),
    [
        (("recurrent", "tests.test_parts:blend"), False),
        (("independent", "gatys"), False),
        (("independent", "recurrent"), True),
    ],
)
def test_a_comparison_has_the_same_frames_and_figures(
    tmp_path: Path, methods: tuple[str, ...], report: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = film_with_a_cut(tmp_path, frames=14, cut=5)
    style = tmp_path / "style"
    save_networks(style, rand(1, 3, 32, 32))
    gatys = OptimizationSettings(vgg_weights=save_vgg(tmp_path))
    settings = CompareSettings(gatys=replace(gatys, iterations=(2,)) if "gatys" in methods else gatys)

    def compared(name: str) -> Comparison:
        page = tmp_path / f"{name}.html" if report else None
        given: dict[str, Any] = {"style": style, "methods": methods, "settings": settings, "device": "cpu"}
        return nststab.compare(film, tmp_path / name, html=page, **given)

    whole = compared("whole.mp4")
    update, measured = StabilityMeter.update, 0

    def failing(self: StabilityMeter, *frames: Any) -> None:
        nonlocal measured
        measured += 1
        if measured == 12:
            raise NststabError("no more")
        update(self, *frames)

    monkeypatch.setattr(StabilityMeter, "update", failing)
    with pytest.raises(NststabError, match="no more"):
        compared("parted.mp4")
    parted = compared("parted.mp4")
    assert measured in (12 + 14 - 4, 12 + 14 - 8), "what is finished is not measured again"
    assert parted.json() == whole.json()
    assert (tmp_path / "parted.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    if report:
        pages = [(tmp_path / f"{name}.mp4.html").read_text() for name in ("parted", "whole")]
        assert scenes(pages[0]) == scenes(pages[1])


def scenes(page: str) -> list[str]:
    """What a page shows, without the time at which it was made."""
    return [line for line in page.splitlines() if "base64" in line or '"curves"' in line]


@pytest.mark.usefixtures("averaging_vgg")
@pytest.mark.parametrize("name", ["out.mp4", "out.gif", "out.y4m", "out/"])
def test_a_report_that_fails_loses_no_clip_and_is_made_by_the_next_run(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    film, page, output = film_with_a_cut(tmp_path, frames=9, cut=5), tmp_path / "page.html", tmp_path / name

    def failing(*_: Any, **__: Any) -> None:
        raise NststabError("no more")

    def compared() -> Comparison:
        return nststab.compare(film, f"{tmp_path}/{name}", style="mosaic", methods=("recurrent",), html=page)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("nststab.tasks.compare.clip_report", failing)
        with pytest.raises(NststabError, match="no more"):
            compared()
    before = contents(output)
    made = 0
    run = TorchEngine.__call__

    def counted(self: TorchEngine, *args: Any) -> Any:
        nonlocal made
        made += 1
        return run(self, *args)

    monkeypatch.setattr(TorchEngine, "__call__", counted)
    compared()
    assert (made, page.exists(), unfinished(output).exists()) == (1, True, False)
    assert contents(output) == before


@pytest.mark.parametrize("name", ["out.mp4", "out.gif", "out.y4m", "out/"])
@pytest.mark.parametrize("kept", [True, False])
def test_the_second_at_work_on_one_output_is_refused(
    tmp_path: Path, network: Path, name: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, output = make_clip(tmp_path / "clip.mp4", TIMES[:5]), f"{tmp_path}/{name}"
    refused = pytest.raises(NststabError, match=r"out\S*\.unfinished: another process is at work on this output")

    def again(frames: Iterable[Frame]) -> Iterator[Frame]:
        with refused:
            nststab.stylize(clip, output, style=network, overwrite=True)
        with refused:
            nststab.deflicker(clip, output, overwrite=True)
        yield from frames

    if kept:
        monkeypatch.setattr(Blend, "__call__", lambda _, frames: again(frames))
        nststab.stylize(clip, output, method="tests.test_parts:blend")
    else:
        nststab.stylize(clip, output, stylizer=again)
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == [name.strip("/")]


def test_an_output_that_came_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, output = make_clip(tmp_path / "clip.mp4", TIMES[:5]), tmp_path / "out.mp4"

    def meanwhile(*settings: Any, **others: Any) -> dict[str, Any]:
        output.write_bytes(b"another's")
        return identity_of(*settings, **others)

    monkeypatch.setattr("nststab.tasks.stylize.identity_of", meanwhile)
    with pytest.raises(SettingError, match="exists; say overwrite=True"):
        nststab.stylize(clip, output, method="tests.test_parts:blend")
    assert output.read_bytes() == b"another's"
    assert not unfinished(output).exists()
