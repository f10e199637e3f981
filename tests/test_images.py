"""Pictures of every kind, compared with what was put into them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nststab.errors import NststabError
from nststab.video.images import (
    ALPHA_SUFFIXES,
    PICTURE_SUFFIXES,
    encode_picture,
    picture_size,
    read_picture,
    replacing,
    resize,
    resized_shape,
    to_uint8,
    write_picture,
)


def bytes_of(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_rgb_and_rgba_are_exact(tmp_path: Path) -> None:
    pixels = bytes_of(5, 7, 4)
    rgb = read_picture(saved(tmp_path / "a.png", Image.fromarray(pixels[..., :3])))
    assert rgb.alpha is None
    assert rgb.rgb.shape == (1, 3, 5, 7)
    assert rgb.rgb.dtype == torch.float32
    assert torch.equal(rgb.rgb[0, 1], torch.from_numpy(pixels[..., 1]).float() / 255)
    rgba = read_picture(saved(tmp_path / "b.png", Image.fromarray(pixels)))
    assert rgba.alpha is not None
    assert torch.equal(rgba.rgb, rgb.rgb)
    assert torch.equal(rgba.alpha[0, 0], torch.from_numpy(pixels[..., 3]).float() / 255)


def test_grey_with_and_without_alpha(tmp_path: Path) -> None:
    grey = bytes_of(3, 4, 1)
    expected = (torch.from_numpy(grey).float() / 255).expand(1, 3, 3, 4)
    assert torch.equal(read_picture(saved(tmp_path / "l.png", Image.fromarray(grey))).rgb, expected)
    both = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(255 - grey)])
    picture = read_picture(saved(tmp_path / "la.png", both))
    assert picture.alpha is not None
    assert torch.equal(picture.rgb, expected)
    assert torch.allclose(picture.alpha, 1 - expected[:, :1])
    bits = read_picture(saved(tmp_path / "bits.png", Image.fromarray(grey > 127)))
    assert torch.equal(bits.rgb, (expected * 255 > 127).float())


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 255, 256], [32768, 65534, 65535]], dtype=np.uint16)
    rgb = read_picture(saved(tmp_path / f"deep{suffix}", Image.fromarray(values))).rgb
    assert rgb.shape == (1, 3, 2, 3)
    torch.testing.assert_close(rgb[0, 2], torch.from_numpy(values.astype(np.float32)) / 65535)


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    path = saved(tmp_path / "p.png", image, transparency=1)
    picture = read_picture(path)
    assert picture.alpha is not None
    assert torch.equal(picture.rgb[0, :, 0], torch.eye(3))
    assert picture.alpha.flatten().tolist() == [1, 0, 1]
    assert read_picture(saved(tmp_path / "opaque.png", image)).alpha is None


def test_cmyk(tmp_path: Path) -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # magenta and yellow make red
    rgb = read_picture(saved(tmp_path / "c.jpg", image, quality=100)).rgb
    assert torch.allclose(rgb.mean((0, 2, 3)), torch.tensor([1.0, 0.0, 0.0]), atol=0.02)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = bytes_of(2, 3, 3)
    # what a camera stores for each orientation, so that the viewer's turn brings `upright` back
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "turned.png", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert picture_size(path) == (2, 3)
    assert np.array_equal(to_uint8(read_picture(path).rgb), upright)


@pytest.mark.parametrize("suffix", sorted(PICTURE_SUFFIXES))
def test_every_format_comes_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"one{suffix.upper()}"
    rgb = torch.tensor([0.2, 0.6, 0.4]).view(1, 3, 1, 1).expand(1, 3, 9, 17)
    alpha = torch.full((1, 1, 9, 17), 0.6)
    write_picture(path, rgb, alpha)
    picture = read_picture(path)
    assert picture.rgb.shape == rgb.shape
    assert (picture.rgb - rgb).abs().max() <= 3 / 255
    assert (picture.alpha is not None) == (suffix in ALPHA_SUFFIXES)
    if picture.alpha is not None:
        assert torch.equal(picture.alpha, alpha)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_jpeg_is_4_4_4_of_quality_95(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    write_picture(path, torch.rand(1, 3, 16, 16))
    reference = saved(tmp_path / "b.jpg", Image.new("RGB", (16, 16)), quality=95, subsampling=0)
    with Image.open(path) as ours, Image.open(reference) as theirs:
        assert ours.layer[0][1:3] == ours.layer[1][1:3] == (1, 1)  # type: ignore[attr-defined]
        assert ours.quantization == theirs.quantization  # type: ignore[attr-defined]


def test_float_to_byte_rounds_and_clamps() -> None:
    values = torch.tensor([-0.1, 0.49 / 255, 0.51 / 255, 127.6 / 255, 1.0, 1.7]).view(1, 1, 1, 6)
    assert to_uint8(values).flatten().tolist() == [0, 0, 1, 128, 255, 255]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_never_written(tmp_path: Path, value: float) -> None:
    values = torch.full((1, 3, 4, 4), 0.5)
    values[0, 1, 2, 3] = value
    with pytest.raises(NststabError, match="NaN or infinity"):
        write_picture(tmp_path / "out.png", values)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["text.png", "text.jpg", "text.tif"])
def test_text_is_no_picture(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("this is not a picture\n" * 10)
    for read in (read_picture, picture_size):
        with pytest.raises(ValueError, match=rf"{name}: expected a picture") as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", sorted(PICTURE_SUFFIXES))
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_cut_off_picture_is_refused(tmp_path: Path, suffix: str, part: float) -> None:
    data = encode_picture(suffix, torch.rand(1, 3, 40, 40))
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(ValueError, match=rf"cut{suffix}: ") as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_picture(tmp_path / "none.png")
    with pytest.raises(IsADirectoryError):
        read_picture(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"a\.png"):
        write_picture(tmp_path / "nowhere" / "a.png", torch.zeros(1, 3, 2, 2))


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="picture format"):
        write_picture(tmp_path / "a.xyz", torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="1, 3, H, W"):
        write_picture(tmp_path / "a.png", torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match="one frame"):
        write_picture(tmp_path / "a.png", torch.zeros(2, 3, 2, 2))
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            assert temporary.parent == tmp_path
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_resize() -> None:
    assert resized_shape(480, 854, 432) == (243, 432)
    assert resized_shape(1, 1000, 10) == (1, 10)
    assert resize(torch.rand(2, 5, 30, 20), 15).shape == (2, 5, 15, 10)
    assert resize(torch.rand(1, 1, 3, 4), 8).shape == (1, 1, 6, 8)
    flat = torch.full((1, 3, 40, 60), 0.3)
    torch.testing.assert_close(resize(flat, 7), torch.full((1, 3, 5, 7), 0.3))
    checks = (torch.arange(64).view(8, 8) % 2 + torch.arange(8).view(8, 1)).remainder(2).float().repeat(4, 4)
    small = resize(checks.view(1, 1, 32, 32), 8)
    assert (small - 0.5).abs().max() < 0.1  # antialiased: a fine pattern becomes grey
    edge = resize((torch.arange(10) > 4).float().expand(1, 1, 10, 10), 40)
    assert edge.min() == 0
    assert edge.max() == 1  # bicubic overshoot is clamped
    with pytest.raises(ValueError, match="at least 1"):
        resize(flat, 0)
