"""Pictures of every kind, compared with what was put into them."""

import struct
import zlib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, PngImagePlugin

from nststab.errors import NststabError
from nststab.video.formats import PICTURE_SUFFIXES
from nststab.video.images import (
    ALPHA_SUFFIXES,
    encode_picture,
    further_pictures,
    header_size,
    is_animated,
    picture_size,
    read_opaque,
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


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
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
    options = {"lossless": True} if suffix == ".webp" else {}
    path = saved(tmp_path / f"turned{suffix}", Image.fromarray(np.ascontiguousarray(stored)), exif=exif, **options)
    assert picture_size(path) == header_size(path) == (2, 3)
    assert np.array_equal(to_uint8(read_picture(path).rgb), upright)


@pytest.mark.parametrize("suffix", [".avif", ".jp2", ".gif", ".ppm", ".tga", ".jfif"])
def test_what_is_only_read_is_read_as_pillow_does(tmp_path: Path, suffix: str) -> None:
    ramp = np.arange(16, dtype=np.uint8)[:, None, None] * np.array([10, 4, 7], np.uint8) + np.zeros(
        (1, 20, 1), np.uint8
    )
    path = tmp_path / f"one{suffix}"
    Image.fromarray(ramp).save(path, "JPEG" if suffix == ".jfif" else None)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert picture_size(path) == (16, 20)
    assert np.array_equal(to_uint8(read_picture(path).rgb), expected)
    assert not is_animated(path)


# Colour

ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))  # XYZ of R, G, B at D50
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def profile(space: bytes, tags: dict[bytes, bytes], pcs: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 2."""
    tags = {b"wtpt": xyz(0.9642, 1, 0.8249), **tags}
    place, table, data = 132 + 12 * len(tags), b"", b""
    for name, tag in tags.items():
        tag += b"\0" * (-len(tag) % 4)
        table += name + struct.pack(">II", place + len(data), len(tag))
        data += tag
    head = struct.pack(
        ">I4sI4s4s4s12s4s4sIIIQI",
        place + len(data),
        b"",
        0x02400000,
        b"prtr" if space == b"CMYK" else b"mntr",
        space,
        pcs,
        struct.pack(">6H", 2026, 1, 1, 0, 0, 0),
        b"acsp",
        *(b"", 0, 0, 0, 0, 0),
    )
    head += xyz(0.9642, 1, 0.8249)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def adobe_rgb() -> bytes:
    tags = {bytes([letter]) + b"XYZ": xyz(*colour) for letter, colour in zip(b"rgb", ADOBE, strict=True)}
    return profile(b"RGB ", tags | {bytes([letter]) + b"TRC": gamma(563 / 256) for letter in b"rgb"})


def encoded(linear: Any) -> Any:
    """sRGB, 0 to 255, of light."""
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def from_adobe(pixels: Any) -> Any:
    light = (np.asarray(pixels) / 255) ** (563 / 256) @ np.array(ADOBE) @ np.linalg.inv(np.array(SRGB))
    return encoded(light)


COLOURS = np.array(list(product((0, 60, 128, 200, 255), repeat=3)), np.uint8).reshape(5, 25, 3)


@pytest.mark.parametrize(("suffix", "options"), [
    (".png", {}), (".tif", {}), (".webp", {"lossless": True}), (".jpg", {"quality": 100, "subsampling": 0}),
    (".avif", {"quality": 100, "subsampling": "4:4:4"}),
])  # fmt: skip
def test_adobe_rgb_becomes_srgb(tmp_path: Path, suffix: str, options: dict[str, Any]) -> None:
    large = np.repeat(np.repeat(COLOURS, 8, 0), 8, 1)
    path = saved(tmp_path / f"wide{suffix}", Image.fromarray(large), icc_profile=adobe_rgb(), **options)
    with Image.open(path) as image:
        stored = np.asarray(image.convert("RGB"))
    got = read_picture(path).rgb[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(got - from_adobe(stored)).max() <= 1.5
    assert np.abs(got - stored).max() > 20  # it is another picture without the profile


def test_adobe_rgb_with_alpha_and_with_a_palette(tmp_path: Path) -> None:
    alpha = bytes_of(5, 25, 1)
    rgba = Image.fromarray(np.dstack([COLOURS, alpha]))
    picture = read_picture(saved(tmp_path / "a.png", rgba, icc_profile=adobe_rgb()))
    assert np.abs(picture.rgb[0].permute(1, 2, 0).numpy() * 255 - from_adobe(COLOURS)).max() <= 1.5
    assert picture.alpha is not None
    assert np.array_equal(to_uint8(picture.alpha)[..., 0], alpha)
    palette = Image.fromarray(COLOURS).convert("P", palette=Image.Palette.ADAPTIVE)
    colours = np.asarray(palette.convert("RGB"))
    got = read_picture(saved(tmp_path / "p.png", palette, icc_profile=adobe_rgb())).rgb
    assert np.abs(got[0].permute(1, 2, 0).numpy() * 255 - from_adobe(colours)).max() <= 1.5


def test_a_profile_of_grey_is_applied_at_8_and_16_bits(tmp_path: Path) -> None:
    linear = profile(b"GRAY", {b"kTRC": gamma(1)})
    levels = np.array([[0, 3, 64, 128, 255]])
    for mode, values, most, off in (("L", np.uint8(levels), 255, 1), ("deep", np.uint16(levels * 257), 65535, 1)):
        image = Image.fromarray(values)
        got = read_picture(saved(tmp_path / f"{mode}.png", image, icc_profile=linear)).rgb * 255
        assert np.abs(got[0].numpy() - encoded(values / most)).max() <= off
    both = Image.merge("LA", [Image.fromarray(np.uint8(levels)), Image.fromarray(np.uint8(255 - levels))])
    picture = read_picture(saved(tmp_path / "la.png", both, icc_profile=linear))
    assert np.abs(picture.rgb[0].numpy() * 255 - encoded(levels / 255)).max() <= 1
    assert picture.alpha is not None
    assert to_uint8(picture.alpha)[..., 0].tolist() == (255 - levels).tolist()


def test_a_profile_of_cmyk_is_applied(tmp_path: Path) -> None:
    """Of inks that make a neutral grey, whose L* falls by each of them alike, and by all of them to 0."""
    grid = [0 if any(inks) else 255 for inks in product((0, 1), repeat=4)]
    tables = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 * n for n in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    lut += tables * 4 + b"".join(bytes([light, 128, 128]) for light in grid) + tables * 3
    inks = Image.new("CMYK", (8, 8), (0, 0, 0, 128))
    path = saved(tmp_path / "c.jpg", inks, quality=100, icc_profile=profile(b"CMYK", {b"A2B0": lut}, b"Lab "))
    lightness = 100 * (1 - 128 / 255)
    grey = encoded(((lightness + 16) / 116) ** 3)  # 119, where the inks alone say 127
    assert np.abs(read_picture(path).rgb.numpy() * 255 - grey).max() <= 1


def test_a_lab_tiff_is_read(tmp_path: Path) -> None:
    light = np.maximum(COLOURS, 128)  # dark colours lie many to a level of L*
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.fromarray(light), srgb, lab, outputMode="LAB")
    assert image is not None
    got = read_picture(saved(tmp_path / "lab.tif", image)).rgb[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(got - light).mean() < 1.5


def table_of_srgb() -> bytes:
    """sRGB as most programs embed it: colourants, and a table of the curve."""
    places = np.arange(1024) / 1023
    light = np.where(places <= 0.04045, places / 12.92, ((places + 0.055) / 1.055) ** 2.4)
    curve = b"curv\0\0\0\0" + struct.pack(">I1024H", 1024, *np.round(light * 65535).astype(int).tolist())
    tags = {bytes([letter]) + b"XYZ": xyz(*colour) for letter, colour in zip(b"rgb", SRGB, strict=True)}
    return profile(b"RGB ", tags | {bytes([letter]) + b"TRC": curve for letter in b"rgb"})


@pytest.mark.parametrize("ours", [False, True])
def test_a_profile_that_means_srgb_changes_nothing(tmp_path: Path, ours: bool) -> None:
    pixels = bytes_of(9, 9, 3)
    srgb = table_of_srgb() if ours else ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = saved(tmp_path / "s.png", Image.fromarray(pixels), icc_profile=srgb)
    assert np.array_equal(to_uint8(read_picture(path).rgb), pixels)


@pytest.mark.parametrize(
    ("mode", "icc", "note"),
    [
        ("RGB", b"no profile", "cannot be read"),
        ("RGB", profile(b"GRAY", {b"kTRC": gamma(1)}), "for L pixels is not applied to RGB ones"),
        ("CMYK", adobe_rgb(), "for RGB pixels is not applied to CMYK ones"),
    ],
)
def test_a_profile_of_something_else_is_left_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: str, icc: bytes, note: str
) -> None:
    image = Image.fromarray(COLOURS).convert(mode)
    path = saved(tmp_path / "wrong.tif", image, icc_profile=icc + bytes([0, *tmp_path.name.encode()]))  # told once each
    for _ in range(2):
        assert np.array_equal(to_uint8(read_picture(path).rgb), np.asarray(image.convert("RGB")))
    (record,) = caplog.records
    assert note in record.message


@pytest.mark.parametrize(("stored", "exponent"), [(1.0, 1 / 2.2), (1 / 1.8, 1.8 / 2.2), (0.45455, 1.0)])
def test_the_gamma_of_png_is_applied(tmp_path: Path, stored: float, exponent: float) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", struct.pack(">I", round(stored * 100000)))
    image = Image.fromarray(COLOURS)
    got = read_picture(saved(tmp_path / "g.png", image, pnginfo=chunks)).rgb[0].permute(1, 2, 0).numpy()
    assert np.abs(got - (COLOURS / 255) ** exponent).max() < 1e-3
    chunks.add(b"sRGB", b"\0")
    got = read_picture(saved(tmp_path / "s.png", image, pnginfo=chunks)).rgb[0].permute(1, 2, 0).numpy()
    assert np.abs(got - COLOURS / 255).max() < 1e-6


def test_a_picture_on_white(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = np.array([[[200, 0, 0, 255], [0, 50, 0, 0], [0, 0, 100, 51]]], np.uint8)
    path = saved(tmp_path / "logo.png", Image.fromarray(pixels))
    assert to_uint8(read_opaque(path)).tolist() == [[[200, 0, 0], [255, 255, 255], [204, 204, 224]]]
    assert caplog.messages == [f"{path} is transparent in places: it is taken on white"]
    caplog.clear()
    read_opaque(saved(tmp_path / "opaque.png", Image.fromarray(pixels[:, :1])))
    assert caplog.messages == []


def test_more_than_one_picture(tmp_path: Path) -> None:
    images = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (40, 90)]
    for suffix in (".gif", ".png", ".webp", ".avif"):
        options: dict[str, Any] = {"save_all": True, "append_images": images[1:]}
        assert is_animated(saved(tmp_path / f"moving{suffix}", images[0], **options))
        assert not is_animated(saved(tmp_path / f"still{suffix}", images[0]))
    pages = saved(tmp_path / "pages.tif", images[0], save_all=True, append_images=images[1:])
    assert not is_animated(pages)
    assert further_pictures(pages) == [f"{pages} holds 2 pictures: the first is taken"]
    eyes = saved(tmp_path / "eyes.jpg", images[0], format="MPO", save_all=True, append_images=images[1:])
    assert further_pictures(eyes) == []
    assert not is_animated(tmp_path / "none.gif")


@pytest.mark.filterwarnings("error")
def test_a_huge_picture_is_refused_by_name(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 20000, 10000, 8, 2, 0, 0, 0)
    path = tmp_path / "huge.png"
    chunks = [b"IHDR" + header, b"IDAT"]
    data = [struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(data))
    for read in (read_picture, picture_size):
        with pytest.raises(
            ValueError, match=r"huge\.png: a picture of more than 179 million pixels is not read; scale"
        ):
            read(path)


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
    for suffix, name in ((".webp", "WEBP"), (".jpg", "JPEG")):
        with pytest.raises(NststabError, match=f"70000x1 pixels do not fit into {name}"):
            write_picture(tmp_path / f"a{suffix}", torch.zeros(1, 3, 1, 70000))
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
    assert resized_shape(480, 854, 432, even=True) == (242, 432)
    assert resized_shape(854, 480, 432, even=True) == (432, 242)
    assert resized_shape(480, 854, 431, even=True) == (242, 431)  # asked for
    assert resized_shape(243, 432, 432, even=True) == (243, 432)  # not scaled
    assert resized_shape(1, 999, 10, even=True) == (2, 10)
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
