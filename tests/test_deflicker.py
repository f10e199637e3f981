"""Deflicker: steady, as sharp as before, without ghosts or drift; and the clips that it is given."""

import itertools
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner, Result
from torch import Tensor

import nststab
from nststab.cli import group
from nststab.errors import NststabError, SettingError
from nststab.frames import Frame
from nststab.measure.pairing import find_lag
from nststab.methods.deflicker import Deflicker, Steadied, _coarse, _Shot
from nststab.methods.plugin import load_stylizer
from nststab.methods.settings import DeflickerSettings, strength_curve
from nststab.metrics import drift_slopes
from nststab.tasks.deflicker import _Pairs, deflicker
from nststab.tasks.stylize import plan_stylize
from nststab.video.clip import convert_clip, open_clip
from nststab.video.images import write_picture
from tests.conftest import done, frames_of, save_frames

HEIGHT, WIDTH, SPEED = 72, 96, 2


def pan(count: int, seed: int = 0) -> list[Tensor]:
    """A scene that moves to the left by `SPEED` whole pixels a frame."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 18, (WIDTH + SPEED * count) // 4, generator=generator)
    scene = F.interpolate(coarse, scale_factor=4, mode="bicubic").clamp(0, 1)
    return [scene[..., SPEED * t : SPEED * t + WIDTH] for t in range(count)]


def beside(processed: Iterable[Tensor], originals: Iterable[Tensor]) -> Iterator[Frame]:
    pairs = zip(processed, originals, strict=True)
    return (Frame(rgb, number, content=original) for number, (rgb, original) in enumerate(pairs))


def pan_flow(first: Tensor, second: Tensor) -> Tensor:
    """The exact flow between two adjacent frames of `pan`."""
    flow = torch.zeros(1, 2, HEIGHT, WIDTH)
    flow[:, 0] = -SPEED if torch.equal(first[..., SPEED:], second[..., :-SPEED]) else SPEED
    return flow


def steadied(
    processed: list[Tensor], originals: list[Tensor], *, strength: float = 1, look_ahead: int | None = None
) -> list[Tensor]:
    deflicker = Deflicker(DeflickerSettings(strength_curve(strength), look_ahead=look_ahead), pan_flow)
    return [frame.rgb for frame in deflicker(beside(processed, originals))]


def change(frames: list[Tensor], speed: int = SPEED) -> float:
    """Mean absolute change along the motion, in levels of 255."""
    pairs = itertools.pairwise(frames)
    moved = [(after[..., :-speed] - before[..., speed:]).abs().mean() for before, after in pairs]
    return 255 * float(torch.stack(moved).mean())


def gradient(frame: Tensor) -> float:
    return float((frame[..., 1:] - frame[..., :-1]).abs().mean())


def test_strength_0_gives_the_very_frames_back() -> None:
    originals = pan(3)
    frames = list(beside([torch.rand_like(one) for one in originals], originals))
    assert [id(frame) for frame in Deflicker(DeflickerSettings(strength_curve(0)))(frames)] == [
        id(frame) for frame in frames
    ]


def test_a_texture_that_is_new_in_each_frame_is_held_and_stays_as_sharp() -> None:
    originals, generator = pan(50), torch.Generator().manual_seed(1)
    processed = [(0.5 * one + 0.5 * torch.rand(one.shape, generator=generator)) for one in originals]
    made = steadied(processed, originals)
    assert change(processed) > 30
    assert change(made[5:]) < change(processed) / 5
    assert gradient(made[-1]) > 0.9 * gradient(processed[-1])
    assert change(steadied(processed, originals, strength=0.5)[5:]) == pytest.approx(change(processed) / 2, rel=0.15)


def test_flow_of_pictures_of_half_the_size_holds_a_texture_in_its_place() -> None:
    originals, generator = [F.interpolate(one, scale_factor=2) for one in pan(30)], torch.Generator().manual_seed(1)
    processed = [0.5 * one + 0.5 * torch.rand(one.shape, generator=generator) for one in originals]
    made = [
        frame.rgb for frame in Deflicker(DeflickerSettings(flow_side=WIDTH), pan_flow)(beside(processed, originals))
    ]
    assert change(processed, 2 * SPEED) > 30
    assert change(made[5:], 2 * SPEED) < change(processed, 2 * SPEED) / 5
    assert gradient(made[-1]) > 0.9 * gradient(processed[-1])


def test_strength_follows_a_curve_over_time(clips: tuple[Path, Path], tmp_path: Path) -> None:
    film, made = clips
    out, full = Path(tmp_path, "curve"), Path(tmp_path, "full")
    deflicker(made, f"{out}/", original=film, strength=((0.16, 0), (0.24, 1)))  # 25 frames a second
    deflicker(made, f"{full}/", original=film)
    frames = zip(frames_of(made), frames_of(out), frames_of(full), strict=True)
    same = [(torch.equal(a, b), torch.equal(b, c)) for a, b, c in frames]
    assert same[1:] == [(True, False)] * 4 + [(False, False)] + [(False, True)] * 4


def test_exposure_that_flickers_is_taken_out_and_the_mean_is_kept() -> None:
    originals, generator = pan(60), torch.Generator().manual_seed(1)
    gains = 0.7 + 0.3 * torch.rand(len(originals), generator=generator)
    processed = [gain * one for gain, one in zip(gains, originals, strict=True)]
    made = steadied(processed, originals)
    assert change(made) < change(processed) / 5
    wanted = [float(gains.mean() * one.mean()) for one in originals]
    assert max(abs(float(one.mean()) - mean) for one, mean in zip(made, wanted, strict=True)) < 0.03


def test_the_tone_follows_what_the_clip_really_does() -> None:
    originals = pan(60)
    processed = [one * (0.5 if number < 20 else 0.8) for number, one in enumerate(originals)]
    made = steadied(processed, originals)
    assert float((made[-1].mean() - processed[-1].mean()).abs()) < 2 / 255
    with_look_ahead = float((made[19].mean() - processed[19].mean()).abs())
    causal = steadied(processed, originals, look_ahead=0)
    assert float((causal[19].mean() - processed[19].mean()).abs()) < 1 / 255 < with_look_ahead


def test_the_mean_colour_does_not_drift_in_a_thousand_frames() -> None:
    generator = torch.Generator().manual_seed(0)
    scene = F.interpolate(torch.rand(1, 3, 6, 8, generator=generator), scale_factor=4, mode="bicubic").clamp(0, 1)
    source: list[Tensor] = []

    def frames() -> Iterator[Frame]:
        for number in range(1000):
            original = scene.roll(number, 3)
            rgb = 0.8 * original + 0.2 * torch.rand(scene.shape, generator=generator)
            source.append(rgb.mean((0, 2, 3)))
            yield Frame(rgb, number, content=original)

    def flow(first: Tensor, second: Tensor) -> Tensor:
        exact = torch.zeros(1, 2, 24, 32)
        exact[:, 0] = 1 if torch.equal(first.roll(1, 3), second) else -1
        return exact

    made = torch.stack([frame.rgb.mean((0, 2, 3)) for frame in Deflicker(estimator=flow)(frames())])
    change = 255 * (made - torch.stack(source)).double()
    assert float(change.mean(0).abs().max()) < 1
    assert 1000 * abs(drift_slopes(change / 255).largest) < 1


def test_a_steady_clip_passes_nearly_unchanged() -> None:
    originals = pan(40)
    made = steadied([0.2 + 0.6 * one for one in originals], originals)
    differences = [float((one - (0.2 + 0.6 * own)).abs().mean()) for one, own in zip(made, originals, strict=True)]
    assert 255 * max(differences) < 1.5


def test_nothing_is_held_where_a_thing_has_moved_away() -> None:
    scene = pan(1)[0]

    def with_square(t: int) -> Tensor:
        frame = scene.clone()
        frame[..., 20:44, 10 + 4 * t : 34 + 4 * t] = 1 - scene[..., 20:44, 10:34]
        return frame

    originals = [with_square(t) for t in range(8)]
    # Of the original's own detail nothing is held anyway; a sine is no linear function of it.
    processed = [0.5 + 0.5 * (12 * one).sin() for one in originals]
    made = [frame.rgb for frame in Deflicker()(beside(processed, originals))]
    uncovered = (made[-1] - processed[-1])[..., 22:42, 10 : 10 + 4 * 7 - 4]
    ghost = (processed[0] - processed[-1])[..., 22:42, 10 : 10 + 4 * 7 - 4]
    assert float(uncovered.abs().mean()) < 0.1 * float(ghost.abs().mean())


def test_nothing_stays_of_an_outline_that_was_painted_beyond_the_thing() -> None:
    generator = torch.Generator().manual_seed(1)
    scene = F.interpolate(torch.rand(1, 3, 24, 40, generator=generator), (120, 200), mode="bicubic").clamp(0, 1)

    def with_square(t: int) -> Tensor:
        frame = scene.clone()
        frame[..., 40:80, 20 + 4 * t : 60 + 4 * t] = 1 - scene[..., 40:80, 20:60]
        return frame

    def painted(t: int) -> Tensor:
        frame = 0.7 + 0.2 * torch.rand(scene.shape, generator=generator)  # another drawing of the ground in each
        frame[..., 36:84, 16 + 4 * t : 20 + 4 * t] = 0  # on ground that this frame has uncovered
        return frame

    originals, processed = [with_square(t) for t in range(20)], [painted(t) for t in range(20)]
    made = [frame.rgb for frame in Deflicker()(beside(processed, originals))]
    ground = made[-1][..., 40:80, 24 : 16 + 4 * 19 - 12]  # uncovered before, and by now away from the outline
    assert float((ground < 0.4).float().mean()) < 0.01


def test_fine_detail_of_the_original_stays_in_its_place_where_the_flow_errs() -> None:
    generator = torch.Generator().manual_seed(3)
    scene = torch.rand(1, 3, HEIGHT, WIDTH + SPEED * 12, generator=generator)  # as fine as a picture can hold
    originals = [scene[..., SPEED * t : SPEED * t + WIDTH] for t in range(12)]
    gains = 0.7 + 0.3 * torch.rand(len(originals), generator=generator)
    processed = [gain * one for gain, one in zip(gains, originals, strict=True)]

    def flow(first: Tensor, second: Tensor) -> Tensor:
        return pan_flow(first, second) * 1.2

    made = [frame.rgb for frame in Deflicker(estimator=flow)(beside(processed, originals))]
    errors = [float((one - gains.mean() * own).abs().mean()) for one, own in zip(made, originals, strict=True)]
    before = [float((one - gains.mean() * own).abs().mean()) for one, own in zip(processed, originals, strict=True)]
    assert sum(errors) < 0.5 * sum(before)


def test_without_an_original_the_clip_is_followed_by_its_own_motion() -> None:
    originals, generator = pan(16), torch.Generator().manual_seed(1)
    processed = [one * (0.8 + 0.2 * float(torch.rand(1, generator=generator))) for one in originals]
    made = [frame.rgb for frame in Deflicker()(Frame(one, number) for number, one in enumerate(processed))]
    assert change(made) < change(processed) / 2


def test_a_causal_result_does_not_depend_on_what_comes_after() -> None:
    originals = pan(12)
    processed = flickering(originals)
    other = processed[:6] + [1 - one for one in processed[6:]]
    made, otherwise = (steadied(one, originals, look_ahead=0) for one in (processed, other))
    assert all(torch.equal(a, b) for a, b in zip(made[:6], otherwise[:6], strict=True))
    assert not torch.equal(made[6], otherwise[6])


def test_any_stylizer_is_steadied_along_what_it_was_given() -> None:
    originals = pan(10)

    def flicker(frames: Iterable[Frame]) -> Iterator[Frame]:
        taken = list(frames)
        made = flickering([frame.rgb for frame in taken])
        return (frame.with_rgb(rgb) for frame, rgb in zip(taken, made, strict=True))

    def bare(frames: Iterable[Frame]) -> Iterator[Frame]:
        return (Frame(frame.rgb, frame.number) for frame in frames)

    frames = [Frame(one, 5 + number, time=Fraction(number, 30)) for number, one in enumerate(originals)]
    made = list(Steadied(flicker, Deflicker())(frames))
    expected = steadied(flickering(originals), originals)
    assert change([frame.rgb for frame in made]) < change(flickering(originals)) / 2
    assert [(frame.number, frame.time, frame.content) for frame in made] == [
        (frame.number, frame.time, None) for frame in frames
    ]
    assert change(expected) < change(flickering(originals)) / 2
    with pytest.raises(NststabError, match="with_rgb of its own"):
        list(Steadied(bare, Deflicker())(frames))


def flickering(originals: list[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [(0.6 + 0.4 * float(torch.rand(1, generator=generator))) * one for one in originals]


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Path, Path]:
    """Ten pictures of a pan, and the same in light that flickers."""
    originals = pan(10)
    return save_frames(tmp_path / "film", originals), save_frames(tmp_path / "made", flickering(originals))


def test_a_folder_is_steadied_from_python(clips: tuple[Path, Path], tmp_path: Path) -> None:
    film, made = clips
    result = deflicker(made, f"{tmp_path}/out/", original=film)
    assert (result.frames, result.width, result.height, result.alone, result.lag) == (10, WIDTH, HEIGHT, 0, 0)
    assert change(frames_of(tmp_path / "out")) < change(frames_of(made)) / 2
    with pytest.raises(SettingError, match="exists"):
        deflicker(made, f"{tmp_path}/out/", original=film)


def test_an_original_of_twice_the_size_is_scaled_and_said(
    clips: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film, made = clips
    large = save_frames(tmp_path / "large", [F.interpolate(one, scale_factor=2) for one in frames_of(film)])
    with caplog.at_level(logging.INFO, "nststab"):
        deflicker(made, f"{tmp_path}/out/", original=large)
    assert f"{large} has {2 * WIDTH}x{2 * HEIGHT} pixels: scaled to the clip's size" in caplog.text
    assert change(frames_of(tmp_path / "out")) < change(frames_of(made)) / 2
    narrow = save_frames(tmp_path / "narrow", [one[..., :60] for one in frames_of(film)])
    with pytest.raises(NststabError, match="expected the shape of"):
        deflicker(made, f"{tmp_path}/other/", original=narrow)


@pytest.mark.parametrize("lag", [-3, 0, 5])
def test_a_lag_is_found(lag: int) -> None:
    originals = pan(40)
    first, second = originals[max(0, -lag) :], originals[max(0, lag) :]
    assert find_lag(first[:20], [1 - 0.5 * one for one in second[:20]]) == lag
    assert find_lag(originals[:1] * 20, originals[:1] * 20) == 0


def test_frames_after_the_original_has_ended_are_followed_by_themselves(
    clips: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film, made = clips
    for picture in sorted(film.iterdir())[7:]:
        picture.unlink()
    assert deflicker(made, f"{tmp_path}/out/", original=film).alone == 3
    assert "3 frames have no original" in caplog.text
    assert len(frames_of(tmp_path / "out")) == 10


def test_frames_before_the_original_begins_are_followed_by_themselves(
    clips: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film, made = clips
    for picture in sorted(film.iterdir())[:3]:
        picture.unlink()
    result = deflicker(made, f"{tmp_path}/out/", original=film)
    assert (result.alone, result.lag) == (3, -3)
    assert "3 frames have no original" in caplog.text


def test_the_folder_of_the_original_is_not_written_into(clips: tuple[Path, Path]) -> None:
    film, made = clips
    before = {path.name: path.read_bytes() for path in film.iterdir()}
    with pytest.raises(NststabError, match="the output is the input itself"):
        deflicker(made, film, original=film, overwrite=True)
    assert {path.name: path.read_bytes() for path in film.iterdir()} == before


def test_a_picture_is_no_original(clips: tuple[Path, Path], tmp_path: Path) -> None:
    _, made = clips
    with pytest.raises(NststabError, match=r"000\.png: expected a clip, got a picture"):
        deflicker(made, f"{tmp_path}/out/", original=made / "00000.png")


@pytest.mark.parametrize("seed", range(12))
def test_any_pair_is_steadied_or_refused_in_one_line(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    films = []
    for name in ("film", "made"):
        frames = [one[..., :32, :32] for one in pan(30)][random.randrange(4) :][: random.choice([1, 2, 9, 14])]
        scale = random.choice([0.5, 1.0, 1.0, 1.5, 2.0])
        folder = save_frames(tmp_path / name, [F.interpolate(one, scale_factor=scale) for one in frames])
        path = tmp_path / f"{name}.{random.choice(['mkv', 'mp4', 'gif', 'y4m'])}"
        convert_clip(open_clip(folder, fps=random.choice([5, 25, 25, 50])), path, lambda frames: iter(frames))
        films.append(path)
    if random.random() < 0.5:
        damaged = random.choice(films)
        data = bytearray(damaged.read_bytes())
        for _ in range(random.choice([1, 20, 300])):
            data[random.randrange(len(data))] = random.randrange(256)
        damaged.write_bytes(data[: random.choice([len(data), len(data) // 2])])
    film, made = films
    said, result = "", None
    try:
        result = deflicker(made, f"{tmp_path}/out/", original=film)
    except (NststabError, OSError) as error:
        said = str(error)
    if result is None:
        assert "\n" not in said
        assert str(film) in said or str(made) in said
    else:
        assert len(list((tmp_path / "out").iterdir())) == result.frames > 0
        assert 0 <= result.alone <= result.frames


def test_clips_of_two_rates_are_matched_by_time(
    clips: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film, made = clips
    for name, folder, rate in (("film.mkv", film, 25), ("made.mkv", made, 50)):
        convert_clip(open_clip(folder, fps=rate), tmp_path / name, lambda frames: iter(frames))
    with caplog.at_level(logging.INFO, "nststab"):
        result = deflicker(tmp_path / "made.mkv", tmp_path / "out.mkv", original=tmp_path / "film.mkv")
    assert "50 frames a second of 25: matched by their times" in caplog.text
    assert (result.frames, result.alone) == (10, 0)


def test_an_excerpt_whose_last_frame_is_cut_off_has_the_rate_of_its_original(tmp_path: Path) -> None:
    """Its mean rate is another one: nine frames, and 20 ms of the tenth."""
    film, made = tmp_path / "film.mp4", tmp_path / "made.mp4"
    convert_clip(open_clip(save_frames(tmp_path / "film", pan(16)), fps=25), film, lambda frames: iter(frames))
    convert_clip(open_clip(film, start=0.12, duration=0.38), made, lambda frames: iter(frames))
    clip, original = open_clip(made), open_clip(film)
    assert clip.source is not None
    assert clip.source.rate > 25.1
    assert _Pairs(clip, original).lag == 3


def test_each_frame_gets_the_original_that_is_nearest_in_time(clips: tuple[Path, Path], tmp_path: Path) -> None:
    film, made = clips
    for name, folder, rate in (("film.mkv", film, 50), ("made.mkv", made, 25)):
        convert_clip(open_clip(folder, fps=rate), tmp_path / name, lambda frames: iter(frames))
    originals = [frame.rgb for frame in open_clip(tmp_path / "film.mkv").frames()]
    pairs = _Pairs(open_clip(tmp_path / "made.mkv"), open_clip(tmp_path / "film.mkv"))
    found = [frame.content for frame in pairs.paired(open_clip(tmp_path / "made.mkv").frames())]
    for number, content in enumerate(found[: len(originals) // 2]):
        assert content is not None
        assert torch.equal(content, originals[2 * number])


def test_nothing_is_held_across_a_cut(tmp_path: Path) -> None:
    originals = [*pan(1) * 6, *pan(1, seed=5) * 6]
    film, made = save_frames(tmp_path / "film", originals), save_frames(tmp_path / "made", flickering(originals))
    deflicker(made, f"{tmp_path}/out/", original=film, settings=DeflickerSettings(look_ahead=0))
    kept = [torch.equal(a, b) for a, b in zip(frames_of(tmp_path / "out"), frames_of(made), strict=True)]
    assert [number for number, same in enumerate(kept) if same] == [0, 6]


def test_the_command_says_what_it_did_and_answers_faults_in_a_line(clips: tuple[Path, Path], tmp_path: Path) -> None:
    def run(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(group, ["deflicker", *map(str, arguments)])
        return result.exit_code, result.stderr

    film, made = clips
    out = f"{tmp_path}/out/"
    assert run(film, made, "-o", out, "--strength", "0.5") == (0, f"{out}: 10 frames, {WIDTH}x{HEIGHT}\n")
    assert run(film, made, "-o", out) == (2, f"Error: {tmp_path}/out exists; say -y to overwrite it\n")
    code, said = run(made, "-o", out, "-y")
    assert code == 0
    assert said.startswith("no original: the motion is the clip's own, smoothed\n")
    assert run(film, made, "-o", out, "-y", "--strength", "0:0,0.2:1")[0] == 0
    assert run(film, made, "-o", out, "--strength", "1.5")[0] == 2
    assert "rising times" in run(film, made, "-o", out, "-y", "--strength", "2:0,1:1")[1]
    assert run(film, film, made, "-o", out) == (2, "Error: expected one or two clips, got 3\n")


PLUGIN = """
import torch

def flicker(frames):
    generator = torch.Generator().manual_seed(3)
    for frame in frames:
        yield frame.with_rgb(frame.rgb * (0.6 + 0.4 * torch.rand(1, generator=generator)))
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command beside `film/`, two shots of four frames of 32x32, and a module with a method that flickers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "flickers", raising=False)
    Path("flickers.py").write_text(PLUGIN)
    generator = torch.Generator().manual_seed(4)
    noise = [0.03 * torch.rand(1, 3, 32, 32, generator=generator) for _ in range(8)]
    shots = [scene[..., :32, :32] for scene in pan(1) * 4 + pan(1, seed=5) * 4]
    save_frames(Path("film"), [0.97 * one + grain for one, grain in zip(shots, noise, strict=True)])
    write_picture(Path("style.png"), pan(1, seed=6)[0])

    def run(arguments: str, stdin: bytes | None = None) -> Result:
        return done(CliRunner().invoke(group, ["-q", *arguments.split()], input=stdin))

    return run


def stillness(frames: list[Tensor]) -> float:
    """Mean absolute change from frame to frame, in levels of 255."""
    return 255 * float(torch.stack([(b - a).abs().mean() for a, b in itertools.pairwise(frames)]).mean())


def test_what_any_method_makes_is_steadied_and_a_cut_resets_it(run: Callable[..., Result]) -> None:
    command = "stylize film --method flickers:flicker"
    for out, option in {"plain": "", "zero": "--deflicker 0", "half": "--deflicker 0.5", "full": "--deflicker"}.items():
        run(f"{command} -o {out}/ {option}")
    plain, zero, half, full = [frames_of(Path(name)) for name in ("plain", "zero", "half", "full")]
    assert all(torch.equal(a, b) for a, b in zip(plain, zero, strict=True))
    assert stillness(full[:4]) < stillness(plain[:4]) / 5
    assert stillness(full[:4]) < stillness(half[:4]) < stillness(plain[:4])
    run(f"{command} -o second/ --deflicker --start 0.16")  # its second shot alone
    assert all(torch.equal(a, b) for a, b in zip(frames_of(Path("second")), full[4:], strict=True))
    made = nststab.stylize("film", "python/", method="flickers:flicker", deflicker=1)
    assert made.frames == 8
    assert all(torch.equal(a, b) for a, b in zip(frames_of(Path("python")), full, strict=True))


def test_what_comes_through_a_pipe_is_steadied_without_a_look_ahead(run: Callable[..., Result]) -> None:
    frames = frames_of(Path("film"))[:4]
    raw = b"".join((255 * one[0].permute(1, 2, 0)).round().byte().numpy().tobytes() for one in frames)
    run("stylize - --raw-size 32x32 -o piped/ --method flickers:flicker --deflicker", raw)
    taken = [Frame(one, number) for number, one in enumerate(frames)]
    causal = Steadied(load_stylizer("flickers:flicker"), Deflicker(DeflickerSettings(look_ahead=0)))
    for made, frame in zip(frames_of(Path("piped")), causal(taken), strict=True):
        torch.testing.assert_close(made, frame.rgb, atol=0.51 / 255, rtol=0)


def test_optimize_and_compare_steady_too(run: Callable[..., Result]) -> None:
    optimize = "optimize film style.png --no-temporal --iterations 2 --duration 0.16"
    run(f"{optimize} -o plain/")
    run(f"{optimize} -o steady/ --deflicker")
    film = frames_of(Path("film"))[:4]  # whose own grain is no flicker of the drawing
    added = {
        out: [made - own for made, own in zip(frames_of(Path(out)), film, strict=True)] for out in ("plain", "steady")
    }
    assert stillness(added["steady"]) < stillness(added["plain"]) / 2
    compare = "compare film --style style.png --methods flickers:flicker --duration 0.16"
    plain, steady = (run(f"{compare} -o {out}/ {option}") for out, option in (("a", ""), ("b", "--deflicker")))
    flicker = [float(result.stdout.splitlines()[-1].split()[-3]) for result in (plain, steady)]
    assert flicker[1] < flicker[0] / 5


@pytest.mark.usefixtures("run")
def test_a_plan_counts_the_steadying() -> None:
    plain, steady = (plan_stylize("film", "o.mp4", style="mosaic", deflicker=one) for one in (0, 1))
    assert steady.work.rows["method"] == plain.work.rows["method"] + "; steadied"
    assert len(steady.work.steps) == len(plain.work.steps) + 1
    assert steady.work.waiting(32, 32) > plain.work.waiting(32, 32)


@pytest.mark.usefixtures("run")
def test_a_picture_cannot_flicker() -> None:
    with pytest.raises(SettingError, match=r"deflicker has no effect on a picture, and style\.png is one"):
        nststab.stylize("style.png", "o.png", style="mosaic", deflicker=1)


def test_flows_of_another_size_are_compared_where_they_lead() -> None:
    """Flows of half the size: what moves 8 pixels of the frame is looked up 4 of the flow's away."""
    backward = np.zeros((32, 32, 2), np.float32)
    backward[..., 0] = 8
    forward = backward.copy()  # the wrong way
    forward[:, 4:20, 0] = -8  # and back, from columns 8 to 40 of the frame: those which 0 to 32 came from
    shot = _Shot(64, 64, DeflickerSettings(), False, cv2)
    mutual = shot._is_mutual(backward, forward)
    assert mutual[:, :30].all()
    assert not mutual[:, 34:56].any()


def test_a_flow_on_the_grid_is_in_its_cells() -> None:
    flow = np.full((60, 90, 2), (6.0, 12.0), np.float32)
    coarse = _coarse(cv2, flow, np.zeros((10, 30, 7), np.float32), np.zeros((60, 90, 3), np.float32))
    assert coarse.shape == (10, 30, 2)
    assert np.allclose(coarse, (2.0, 2.0))  # cells of 3 by 6 pixels
