"""Pictures as clips, styles and photographs: what is read of them, what is said, and which file is named."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from safetensors.torch import save_file

from nststab.datasets.folders import PhotoFolder
from nststab.errors import NststabError
from nststab.networks.checkpoints import Checkpoint, save_checkpoint
from nststab.networks.transformation import TransformationNetwork
from nststab.video.clip import convert_clip, kind_of, open_clip
from nststab.video.images import read_picture, write_picture
from tests.conftest import TINY, Run, cli, done, moving_picture, tiny_state_dict

LEVELS = (20, 90, 160, 230)
DELAYS = (100, 250, 50, 400)  # ms


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    save_checkpoint(Path("net.safetensors"), Checkpoint(TransformationNetwork(TINY)))
    save_file(tiny_state_dict(), "vgg.safetensors")
    return cli


def flat(level: int, size: tuple[int, int] = (32, 24), mode: str = "RGB") -> Image.Image:
    colour = (level, level, 255 - level, level)
    return Image.new(mode, size, colour[: len(mode)])


def animated(path: Path, mode: str = "RGB", delays: tuple[int, ...] = DELAYS) -> Path:
    first, *others = (flat(level, mode=mode) for level in LEVELS)
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=others, duration=list(delays), **options)
    return path


@pytest.mark.parametrize("suffix", [".webp", ".png", ".avif"])
def test_an_animated_picture_is_a_clip(tmp_path: Path, suffix: str) -> None:
    path = animated(tmp_path / f"moving{suffix}")
    assert kind_of(path) == "video"
    clip = open_clip(path)
    frames = list(clip.frames())
    assert (clip.width, clip.height, clip.frame_count) == (32, 24, 4)
    assert [frame.time for frame in frames] == [Fraction(time, 1000) for time in (0, 100, 350, 400)]
    assert [frame.duration for frame in frames] == [Fraction(delay, 1000) for delay in DELAYS]
    assert all(frame.alpha is None for frame in frames)
    got = torch.cat([frame.rgb for frame in frames])[..., 12, 16] * 255
    assert np.abs(got.numpy() - [[level, level, 255 - level] for level in LEVELS]).max() <= (
        4 if suffix == ".avif" else 0
    )
    part = open_clip(path, start=0.2, duration=0.3)
    assert [frame.time for frame in part.frames()] == [0, Fraction(1, 20)]
    assert part.frame_count == 2
    steady = open_clip(path, fps=20)
    assert steady.frame_count == sum(1 for _ in steady.frames()) == 16
    assert sum(1 for _ in open_clip(path).frames()) == 4  # and again


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_the_alpha_of_an_animation_is_kept(tmp_path: Path, suffix: str) -> None:
    clip = open_clip(animated(tmp_path / f"moving{suffix}", "RGBA"))
    made = convert_clip(clip, f"{tmp_path}/out/", lambda frames: iter(frames))
    assert made.notes == []
    for number, level in enumerate(LEVELS, 1):
        alpha = read_picture(tmp_path / "out" / f"frame_{number:06d}.png").alpha
        assert alpha is not None
        assert set((alpha * 255).round().flatten().tolist()) == {level}
    assert convert_clip(clip, tmp_path / "out.mp4", lambda frames: iter(frames)).notes == [
        ".mp4 holds no transparency: it was dropped"
    ]
    assert sum(1 for _ in open_clip(tmp_path / "out.mp4").frames()) == 4


def test_delays_that_no_browser_keeps_are_a_tenth_of_a_second(tmp_path: Path) -> None:
    clip = open_clip(animated(tmp_path / "fast.webp", delays=(0, 10, 11, 20)))
    assert [frame.duration for frame in clip.frames()] == [Fraction(ms, 1000) for ms in (100, 100, 11, 20)]


def test_the_still_of_an_animated_png_that_is_none_of_its_frames_is_left_out(tmp_path: Path) -> None:
    first, *others = (flat(level) for level in LEVELS)
    path = tmp_path / "a.png"
    first.save(path, save_all=True, append_images=others, duration=100, default_image=True)
    assert [round(float(frame.rgb[0, 0, 0, 0]) * 255) for frame in open_clip(path).frames()] == list(LEVELS[1:])


def test_an_opaque_picture_with_alpha_loses_nothing(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (1, 2, 3, 255)).save(tmp_path / "a.png")
    assert convert_clip(open_clip(tmp_path / "a.png"), tmp_path / "b.jpg", lambda frames: iter(frames)).notes == []


def test_a_still_gif_is_a_picture_and_a_moving_one_a_clip(run: Run) -> None:
    flat(90).save("still.gif")
    animated(Path("moving.gif"))
    assert (kind_of("still.gif"), kind_of("moving.gif")) == ("picture", "video")
    result = done(run("stylize still.gif -o out.png --style net.safetensors --method independent"))
    result = run("stylize moving.gif -o other.png --style net.safetensors --method independent")
    assert "a clip does not fit into one picture" in result.output


def test_the_pages_of_a_tiff_behind_the_first_are_told(run: Run) -> None:
    first, *others = (flat(level) for level in LEVELS)
    first.save("pages.tif", save_all=True, append_images=others)
    result = done(run("stylize pages.tif -o out.png --style net.safetensors --method independent"))
    assert "note: pages.tif holds 4 pictures: the first is taken" in result.output


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_turned_tiff_is_stylized(run: Run, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    flat(90).save("turned.tif", exif=exif)
    done(run("stylize turned.tif -o out.png --style net.safetensors --method independent"))
    assert Image.open("out.png").size == ((24, 32) if orientation == 6 else (32, 24))


def test_all_pictures_of_a_folder_that_do_not_fit_are_named_before_the_work(run: Run) -> None:
    Path("film").mkdir()
    for number in range(9):
        flat(90, (30, 24) if number in (4, 8) else (32, 24)).save(f"film/{number}.png")
    Path("film/2.png").write_text("no picture")
    Path("film/6.png").unlink()
    Path("film/6.png").symlink_to("gone.png")
    result = run("stylize film -o out.mp4 --style net.safetensors --method independent")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "Error: film: 4 of 9 pictures do not fit: film/2.png: expected a picture, got a file in no known picture "
        "format; film/4.png: expected 32x24 pixels as in the first picture, got 30x24; film/6.png: leads nowhere; "
        "film/8.png: expected 32x24 pixels as in the first picture, got 30x24"
    ]
    for number in range(9):
        Path(f"film/{number}.png").unlink()
        flat(90, (32, 24) if number == 0 else (30, 24)).save(f"film/{number}.png")
    with pytest.raises(NststabError, match=r"film: 8 of 9 pictures do not fit: .*5\.png.*, got 30x24; and 3 others$"):
        open_clip("film")
    assert [frame.number for frame in open_clip("film", duration=Fraction(1, 25)).frames()] == [0]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_pictures_that_are_cut_off_behind_a_whole_header_are_named_before_the_work(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = tmp_path / "film"
    film.mkdir()
    for number in range(5):
        write_picture(film / f"{number}{suffix}", moving_picture(number))
    for number in (2, 4):
        whole = (film / f"{number}{suffix}").read_bytes()
        (film / f"{number}{suffix}").write_bytes(whole[: len(whole) // 2 + 50])
    with (film / f"3{suffix}").open("ab") as file:
        file.write(bytes(1000))  # what stands behind a whole picture is nobody's business
    with pytest.raises(NststabError) as caught:
        open_clip(film)
    named = [name for name in map(str, range(5)) if f"film/{name}{suffix}: " in str(caught.value)]
    assert (named, "2 of 5 pictures do not fit" in str(caught.value)) == (["2", "4"], True)
    for number in (2, 3, 4):
        write_picture(film / f"{number}{suffix}", moving_picture(number))
    decoded: list[Image.Image] = []
    load = ImageFile.ImageFile.load

    def counted(image: ImageFile.ImageFile) -> object:
        decoded.append(image)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    assert open_clip(film).frame_count == 5
    assert len(decoded) <= 1  # the first, which may tell a rotation behind its pixels


def test_a_gif_beside_the_frames_of_a_folder_is_none_of_them(tmp_path: Path) -> None:
    animated(tmp_path / "preview.gif")
    for suffix in ("png", "avif", "jp2"):
        flat(90, (16, 16)).save(tmp_path / f"1.{suffix}")
    assert open_clip(tmp_path).frame_count == 3


def test_the_colour_that_a_style_hides_is_none_of_it(run: Run) -> None:
    rng = np.random.default_rng(0)
    visible = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    alpha = np.zeros((32, 32, 1), np.uint8)
    alpha[8:24, 8:24] = 255
    hidden = np.where(alpha > 0, visible, np.array([255, 0, 0], np.uint8))
    Image.fromarray(np.dstack([hidden, alpha])).save("logo.png")
    Image.fromarray(np.where(alpha > 0, visible, np.uint8(255))).save("white.png")
    flat(90).save("photo.png")
    for name in ("logo", "white"):
        result = done(
            run(f"optimize photo.png {name}.png -o {name}_out.png --iterations 2 --vgg-weights vgg.safetensors")
        )
        assert result.output.count("is transparent in places: it is taken on white") == (name == "logo")
    assert torch.equal(read_picture(Path("logo_out.png")).rgb, read_picture(Path("white_out.png")).rgb)


@pytest.mark.parametrize("suffix", [".gif", ".avif", ".jp2", ".webp"])
def test_a_style_of_any_kind_is_read(run: Run, suffix: str) -> None:
    flat(90).save("photo.png")
    flat(160).save(f"style{suffix}")
    done(run(f"optimize photo.png style{suffix} -o out.png --iterations 1 --vgg-weights vgg.safetensors"))


def test_photographs_are_seen_on_white(tmp_path: Path) -> None:
    flat(0, mode="RGBA").save(tmp_path / "a.png")
    assert float(PhotoFolder(tmp_path).photo(0).min()) == 1


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("optimize photo.png panorama.png -o out.png --iterations 1", "--size"),
        ("train image panorama.png -o out.safetensors --photos photos --style-size 64", "--style-size"),
    ],
)
def test_a_style_that_is_too_narrow_for_the_network_is_named(run: Run, command: str, option: str) -> None:
    flat(90).save("photo.png")
    flat(90, (600, 10)).save("panorama.png")
    Path("photos").mkdir()
    for number in range(2):
        flat(90).save(f"photos/{number}.png")
    result = run(f"{command} --vgg-weights vgg.safetensors")
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert line.startswith("Error: the style panorama.png: images of ")
    assert f" pixels are too small for relu2_1; crop it, or take a larger {option}" in line
    assert not list(Path().glob("out*"))


TWICE = """
import sys
from nststab.cli import main
for output in ("out.json", "-"):
    sys.argv[1:] = [*sys.argv[1:5], "--json", output]
    try:
        main()
    except SystemExit as end:
        if end.code or output == "-":
            raise
    print("\\n--", flush=True)
"""


def test_names_that_the_terminal_cannot_encode_lose_no_result(tmp_path: Path) -> None:
    """A folder of bytes that are no UTF-8, one in Japanese, and a terminal that knows neither."""
    for name in (b"original", b"caf\xe9", "\u65e5".encode()):
        folder = tmp_path / os.fsdecode(name)
        folder.mkdir()
        for number in range(2):
            pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    command: list[str | bytes] = [sys.executable, "-c", TWICE, "score", "original", b"caf\xe9", "\u65e5".encode()]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONPATH": str(Path(__file__).parents[1])}
    made = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert made.returncode == 0, made.stderr.decode(errors="replace")
    table, _, text = made.stdout.partition(b"\n--\n")
    for found in (text, (tmp_path / "out.json").read_bytes()):
        names = {os.fsencode(Path(clip["path"]).name) for clip in json.loads(found.decode())["clips"]}
        assert names == {b"caf\xe9", "\u65e5".encode()}
    for told in (table, made.stderr):
        assert "\\u65e5" in told.decode("latin-1")
