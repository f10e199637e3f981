"""One picture to and from a tensor, and the sizes of pictures: the one user of Pillow."""

import math
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from torch import Tensor

from nststab.errors import NststabError
from nststab.frames import is_finite

# the Pillow format behind each suffix, and how it is written
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),  # 0: full colour resolution, 4:4:4
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95}),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".bmp": ("BMP", {}),
}
PICTURE_SUFFIXES = frozenset(_FORMATS)
ALPHA_SUFFIXES = frozenset({".png", ".webp", ".tif", ".tiff"})  # the formats which hold transparency

_PART = re.compile(r"\.[0-9a-f]{12}\.part")  # what `replacing` writes to
_SIDEWAYS = {5, 6, 7, 8}  # EXIF orientations which exchange width and height
# everything Pillow raises for a damaged file; SyntaxError and IndexError come out of its PNG and TIFF parsers
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, Image.DecompressionBombError)


class Picture(NamedTuple):
    """A picture: `rgb` (1, 3, H, W) and, where the file has transparency, `alpha` (1, 1, H, W); float32 in [0, 1]."""

    rgb: Tensor
    alpha: Tensor | None


def read_picture(path: Path) -> Picture:
    """Read a picture upright: 8 or 16 bits, grey, colour, palette or CMYK, with or without alpha.

    EXIF rotation is applied, 16-bit grey is divided by 65535, floating-point pictures are taken as [0, 1], and of an
    animation the first frame is read.

    Raises:
        OSError: the file is missing or may not be read.
        ValueError: the file is not a picture, is damaged, or is too large to be one.
    """
    with _picture_errors(path), Image.open(path) as image:
        return _to_picture(ImageOps.exif_transpose(image))


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture as it is shown, read from its header; raises as `read_picture` does."""
    with _picture_errors(path), Image.open(path) as image:
        width, height = image.size
        sideways = image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
    return (width, height) if sideways else (height, width)


@contextmanager
def _picture_errors(path: Path) -> Iterator[None]:
    """Turn what Pillow raises into a ValueError of one line; errors of the file system pass with their path."""
    try:
        yield
    except UnidentifiedImageError:
        raise NststabError(f"{path}: expected a picture, got a file in no known picture format") from None
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise NststabError(f"{path}: the picture cannot be read ({' '.join(str(error).split())})") from error


def _to_picture(image: Image.Image) -> Picture:
    if image.mode == "F" or image.mode.startswith("I"):  # floating point, and 16-bit grey, which Pillow's convert clips
        scale = 1.0 if image.mode == "F" else 65535.0
        grey = torch.from_numpy(np.asarray(image).astype(np.float32)).div_(scale).nan_to_num_().clamp_(0, 1)
        return Picture(grey.expand(1, 3, -1, -1).contiguous(), None)
    if image.has_transparency_data:
        channels = from_uint8(np.array(image.convert("RGBA")))
        return Picture(channels[:, :3].contiguous(), channels[:, 3:].contiguous())
    return Picture(from_uint8(np.array(image.convert("RGB"))), None)


def from_uint8(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """Bytes (H, W, C) to a frame (1, C, H, W) in [0, 1]."""
    return (
        torch.from_numpy(np.require(pixels, requirements="W"))  # of a read-only one, which torch warns of, a copy
        .permute(2, 0, 1)
        .unsqueeze(0)
        .to(torch.float32, memory_format=torch.contiguous_format)
        .div_(255)
    )


def to_uint8(frame: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A frame (1, C, H, W) to bytes (H, W, C): clamped to [0, 1], times 255, rounded.

    Raises NststabError for another shape, and for NaN or infinity, which no byte stands for.
    """
    if frame.ndim != 4 or frame.shape[0] != 1:
        raise NststabError(f"expected one frame (1, C, H, W), got a tensor of shape {tuple(frame.shape)}")
    if not is_finite(frame):
        raise NststabError("the result holds NaN or infinity, and is not written")
    scaled = frame.detach().to("cpu", torch.float32).clamp(0, 1).mul_(255).round_()
    pixels: np.ndarray[Any, np.dtype[np.uint8]] = scaled[0].permute(1, 2, 0).to(torch.uint8).contiguous().numpy()
    return pixels


def encode_picture(suffix: str, rgb: Tensor, alpha: Tensor | None = None) -> bytes:
    """The file of a picture, `rgb` (1, 3, H, W) and `alpha` (1, 1, H, W), in the format which `suffix` names.

    JPEG is written with quality 95 and full colour resolution. Alpha is dropped where the format holds none
    (`ALPHA_SUFFIXES` do). Raises ValueError for an unknown suffix, another shape, or a picture the format cannot hold.
    """
    if suffix.lower() not in _FORMATS:
        raise NststabError(f"expected a picture format ({', '.join(sorted(_FORMATS))}), got {suffix or 'no suffix'!r}")
    if rgb.ndim != 4 or rgb.shape[1] != 3:
        raise NststabError(f"expected a picture (1, 3, H, W), got a tensor of shape {tuple(rgb.shape)}")
    name, options = _FORMATS[suffix.lower()]
    channels = (
        rgb if alpha is None or suffix.lower() not in ALPHA_SUFFIXES else torch.cat([rgb.cpu(), alpha.cpu()], dim=1)
    )
    file = BytesIO()
    try:
        Image.fromarray(to_uint8(channels)).save(file, name, **options)
    except OSError as error:
        raise NststabError(f"{rgb.shape[3]}x{rgb.shape[2]} pixels do not fit into {name} ({error})") from error
    return file.getvalue()


def write_picture(path: Path, rgb: Tensor, alpha: Tensor | None = None) -> None:
    """Write a picture, whole or not at all, in the format its suffix names; raises as `encode_picture`, and OSError."""
    data = encode_picture(path.suffix, rgb, alpha)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A free name beside `path` to write to: renamed to `path` when the block ends well, removed when it does not."""
    temporary = path.with_name(f".{secrets.token_hex(6)}.part")  # short, so that a long name stays possible
    try:
        yield temporary
        os.replace(temporary, path)
    except FileNotFoundError as error:
        if error.filename != str(temporary):
            raise
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_parts(folder: Path) -> None:
    """Remove what `replacing` left half written in a folder when it was killed; nobody else may be writing there."""
    for path in folder.iterdir():
        if _PART.fullmatch(path.name):
            path.unlink(missing_ok=True)


def resized_shape(height: int, width: int, longest_side: int) -> tuple[int, int]:
    """Height and width of a picture scaled to a longest side, both at least one pixel; raises ValueError below one."""
    if longest_side < 1:
        raise NststabError(f"expected a size of at least 1 pixel, got {longest_side}")
    scale = longest_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(rgb: Tensor, longest_side: int) -> Tensor:
    """Scale pictures (N, C, H, W) to a longest side, keeping their shape: bicubic, antialiased, clamped to [0, 1]."""
    height, width = rgb.shape[-2:]
    target = resized_shape(height, width, longest_side)
    if target == (height, width):
        return rgb
    return F.interpolate(rgb, target, mode="bicubic", antialias=True, align_corners=False).clamp_(0, 1)


def text_mask(text: str, height: int) -> Tensor:
    """A line of text in Pillow's own font as coverage (1, 1, `height`, W) in [0, 1], from ascender to descender.

    Raises ValueError below 4 pixels, where no letter is left.
    """
    if height < 4:
        raise NststabError(f"expected text of at least 4 pixels, got {height}")
    size = float(height)
    font = ImageFont.load_default(size)
    if isinstance(font, ImageFont.FreeTypeFont):  # else Pillow has no FreeType and only its one bitmap font
        size *= height / sum(font.getmetrics())
        font = ImageFont.load_default(size)
    image = Image.new("L", (max(1, math.ceil(font.getlength(text))), height))
    ImageDraw.Draw(image).text((0, 0), text, fill=255, font=font)
    return from_uint8(np.array(image)[..., None])
