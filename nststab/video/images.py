"""Pictures to and from tensors, their sizes, and animations of them, by Pillow."""

import logging
import math
import os
import re
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import lru_cache
from io import BytesIO
from math import lcm
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageCms, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from torch import Tensor

from nststab.errors import MissingFile, NststabError
from nststab.frames import is_finite
from nststab.video.formats import PICTURE_FORMATS, PICTURE_SUFFIXES
from nststab.video.timing import WHOLE, Excerpt, Reader, Timed, converted, cut, retimed

log = logging.getLogger(__name__)

STILL_SUFFIXES = PICTURE_SUFFIXES | {".avif", ".jp2", ".j2k", ".jpx", ".jfif", ".ppm", ".pgm", ".tga"}
READABLE_SUFFIXES = STILL_SUFFIXES | {".gif"}  # among the pictures of a folder a GIF is a clip of its own
ALPHA_SUFFIXES = frozenset({".png", ".webp", ".tif", ".tiff"})  # the formats which hold transparency

_PART = re.compile(r"\.[0-9a-f]{12}\.part")  # what `replacing` writes to
_SIDEWAYS = {5, 6, 7, 8}  # EXIF orientations which exchange width and height
# everything Pillow raises for a damaged file; SyntaxError and IndexError come out of its PNG and TIFF parsers
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError)
_ANIMATED = {"GIF", "PNG", "WEBP", "AVIF"}  # formats whose pictures follow one another in time
_LARGEST = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # pixels that Pillow reads; it warns of half as many, which are too few
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
_ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9"}
_BEHIND = 64  # bytes from a file's end in which that is looked for
_COLOURS = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}  # Pillow's mode of what a profile is for
_STRIP = 1 << 18  # pixels that are made bytes at a time
_DISPLAY_GAMMA, _GAMMA_TOLERANCE = 2.2, 0.05  # libpng's: a gamma so near to the display's is its own
_SAME_COLOUR = 2  # levels of 255 by which profiles that mean sRGB differ from it


class Picture(NamedTuple):
    """A picture: `rgb` (1, 3, H, W) and, where the file has transparency, `alpha` (1, 1, H, W); float32 in [0, 1]."""

    rgb: Tensor
    alpha: Tensor | None

    def on_white(self) -> Tensor:
        """What is seen of it on white, (1, 3, H, W): the colour that it hides where it is transparent is not."""
        return self.rgb if self.alpha is None else 1 + (self.rgb - 1) * self.alpha


def read_picture(path: Path) -> Picture:
    """Read a picture upright and in sRGB: grey, colour, palette, CMYK or Lab, with or without alpha.

    EXIF rotation and the colour profile are applied, or PNG's gamma where there is none. 16-bit grey is divided by
    65535, 16-bit colours are read with 8 bits, and floating-point pictures are taken as [0, 1]. Of several pictures in
    a file the first is read.

    Raises:
        OSError: the file is missing or may not be read.
        ValueError: the file is not a picture, is damaged, or is too large to be one.
    """
    with _opened(path) as image:
        return _to_picture(ImageOps.exif_transpose(image))


def read_opaque(path: Path) -> Tensor:
    """What is seen of a picture on white, (1, 3, H, W); the log tells of transparency, and of further pictures."""
    picture = read_picture(path)
    for note in further_pictures(path):
        log.warning(note)
    if picture.alpha is not None and bool((picture.alpha < 1).any()):
        log.warning(f"{path} is transparent in places: it is taken on white")
    return picture.on_white()


def further_pictures(path: Path) -> list[str]:
    """A note on the pictures behind the first, as pages of TIFF are; `open_clip` reads those that follow in time."""
    with _opened(path) as image:
        count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: the same, by a camera's other eye
    return [f"{path} holds {count} pictures: the first is taken"] if count > 1 else []


def is_animated(path: Path) -> bool:
    """Whether a file holds pictures that follow one another in time; a file that is no picture does not."""
    try:
        with _opened(path) as image:
            return image.format in _ANIMATED and bool(getattr(image, "is_animated", False))
    except (NststabError, OSError):
        return False


def animated_pictures(path: Path) -> Iterator[tuple[Picture, Fraction]]:
    """The pictures of an animation, each with the seconds that it is shown: of 10 ms and less browsers make 100."""
    with _opened(path) as image:
        stills = int(bool(image.info.get("default_image")))  # PNG's for viewers that show no animation
        for number in range(stills, getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()
            told = Fraction(image.info.get("duration", 0)).limit_denominator(1000)  # in ms
            yield _to_picture(ImageOps.exif_transpose(image)), (told if told > 10 else Fraction(100)) / 1000


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture as it is shown, read from its header; raises as `read_picture` does."""
    with _opened(path) as image:
        return _size(image, image.getexif())


def header_size(path: Path) -> tuple[int, int]:
    """`picture_size` at once for PNG, too, which may tell a rotation behind its pixels: that is not seen.

    A PNG or JPEG without its end is decoded, which raises NststabError where it was cut off.
    """
    with _opened(path) as image:
        file: Any = getattr(image, "fp", None)
        if image.format in _ENDS and not _ends(file, _ENDS[image.format]):
            image.load()
        return _size(image, Image.Image.getexif(image))


def _ends(file: Any, mark: bytes) -> bool:
    """Whether a mark stands at the end of a file, or shortly before: some programs write more behind it."""
    place = file.tell()
    file.seek(max(0, file.seek(0, os.SEEK_END) - _BEHIND))
    found = mark in file.read()
    file.seek(place)
    return found


def _size(image: Image.Image, exif: Image.Exif) -> tuple[int, int]:
    sideways = exif.get(ExifTags.Base.Orientation) in _SIDEWAYS
    if sideways and image.format == "TIFF":  # which Pillow turns itself, by its version when it opens or when it loads
        image.load()
        sideways = False
    width, height = image.size
    return (width, height) if sideways else (height, width)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture's file; what Pillow raises becomes an NststabError of one line, the system's errors pass."""
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError as error:
        raise MissingFile(f"{path}: {error.strerror}") from None
    except UnidentifiedImageError:
        raise NststabError(f"{path}: expected a picture, got a file in no known picture format") from None
    except Image.DecompressionBombError:
        limit = f"{_LARGEST / 1e6:.0f} million pixels"
        raise NststabError(f"{path}: a picture of more than {limit} is not read; scale it down first") from None
    except _DAMAGED as error:
        if isinstance(error, NststabError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        raise NststabError(f"{path}: the picture cannot be read ({' '.join(str(error).split())})") from error


def _to_picture(image: Image.Image) -> Picture:
    if image.mode == "F" or image.mode.startswith("I"):  # floating point, and 16-bit grey, which Pillow's convert clips
        scale = 1.0 if image.mode == "F" else 65535.0
        grey = torch.from_numpy(np.asarray(image).astype(np.float32)).div_(scale).nan_to_num_().clamp_(0, 1)
        return Picture(_decoded(_by_profile(grey, image).expand(1, 3, -1, -1).contiguous(), image), None)
    alpha = None
    if image.has_transparency_data:
        alpha = from_uint8(np.array(image.convert("RGBA").getchannel("A"))[..., None])
    return Picture(_decoded(from_uint8(np.array(_to_srgb(image))), image), alpha)


# Colour


def _to_srgb(image: Image.Image) -> Image.Image:
    """A picture of 8 bits as RGB, by its colour profile where it has one."""
    transform = _transform(image.info.get("icc_profile", b""), image.mode)
    if transform is None:
        return image.convert("RGB")
    if image.mode != transform.input_mode:
        image = image.convert(transform.input_mode)
    return ImageCms.applyTransform(image, transform) or image


def _by_profile(grey: Tensor, image: Image.Image) -> Tensor:
    """Grey (H, W) of more than 8 bits, by its colour profile where it has one: between the 256 levels it is linear."""
    transform = _transform(image.info.get("icc_profile", b""), "L")
    if transform is None or transform.input_mode != "L":
        return grey
    levels = np.asarray(ImageCms.applyTransform(Image.frombytes("L", (256, 1), bytes(range(256))), transform))[0, :, 1]
    return torch.from_numpy(np.interp(grey.numpy() * 255, np.arange(256), levels).astype(np.float32)).div_(255)


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the colours of a profile to sRGB; None where they are the same, or are not those of pixels of this mode."""
    if not profile and mode != "LAB":  # whose colours are their own profile
        return None
    own = mode if mode in ("CMYK", "LAB") else "L" if mode in ("1", "L", "LA") else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile) if profile else ImageCms.createProfile("LAB"))
        taken = _COLOURS.get(source.profile.xcolor_space, "")
        if taken != own and (own, taken) != ("L", "RGB"):
            log.warning(f"a colour profile for {taken or 'other'} pixels is not applied to {own} ones")
            return None
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
        if taken == "L":  # whose table of few places between which it is linear is 9 levels off in the dark
            flags |= ImageCms.Flags.NOOPTIMIZE
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), taken, "RGB", flags=flags)
    except (ImageCms.PyCMSError, OSError) as error:
        log.warning(f"a colour profile that cannot be read is not applied ({' '.join(str(error).split())})")
        return None
    return None if taken == "RGB" and _is_identity(transform) else transform


def _is_identity(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether it leaves RGB as it is, but for the rounding of profiles that mean sRGB."""
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    before = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    after = np.asarray(ImageCms.applyTransform(Image.fromarray(before), transform))
    return int(np.abs(after.astype(int) - before).max()) <= _SAME_COLOUR


def _decoded(rgb: Tensor, image: Image.Image) -> Tensor:
    """By the gamma that PNG tells where it tells neither a profile nor sRGB."""
    gamma = image.info.get("gamma")
    if not gamma or image.info.keys() & {"icc_profile", "srgb"}:
        return rgb
    exponent = 1 / (gamma * _DISPLAY_GAMMA)
    return rgb if abs(exponent - 1) < _GAMMA_TOLERANCE else rgb.pow_(exponent)


def from_uint8(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """Bytes (H, W, C) to a frame (1, C, H, W) in [0, 1]."""
    height, width, channels = pixels.shape
    frame = np.empty((1, channels, height, width), np.float32)
    for channel in range(channels):  # in half of the time that torch takes to move an axis and convert
        np.divide(pixels[..., channel], np.float32(255), out=frame[0, channel])
    return torch.from_numpy(frame)


def require_finite(frame: Tensor) -> None:
    """Raises NststabError for NaN or infinity, which no byte stands for."""
    if not is_finite(frame):
        raise NststabError("the result holds NaN or infinity, and is not written")


def to_uint8(frame: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A frame (1, C, H, W) to bytes (H, W, C): clamped to [0, 1], times 255, rounded.

    Raises NststabError for another shape, and for NaN or infinity.
    """
    if frame.ndim != 4 or frame.shape[0] != 1:
        raise NststabError(f"expected one frame (1, C, H, W), got a tensor of shape {tuple(frame.shape)}")
    require_finite(frame)
    picture = frame[0].detach().to("cpu", torch.float32)
    channels, height, width = picture.shape
    pixels = np.empty((height, width, channels), np.uint8)
    step = max(1, _STRIP // width)
    for top in range(0, height, step):  # the picture may be large
        strip = picture[:, top : top + step].clamp(0, 1).mul_(255).round_().numpy()
        for channel in range(channels):  # in half of the time that torch takes to move an axis and convert
            np.copyto(pixels[top : top + step, :, channel], strip[channel], casting="unsafe")
    return pixels


def encode_picture(suffix: str, rgb: Tensor, alpha: Tensor | None = None) -> bytes:
    """The file of a picture, `rgb` (1, 3, H, W) and `alpha` (1, 1, H, W), in the format which `suffix` names.

    JPEG is written with quality 95 and full colour resolution. Alpha is dropped where the format holds none
    (`ALPHA_SUFFIXES` do). Raises ValueError for an unknown suffix, another shape, or a picture the format cannot hold.
    """
    if suffix.lower() not in PICTURE_FORMATS:
        raise NststabError(
            f"expected a picture format ({', '.join(sorted(PICTURE_FORMATS))}), got {suffix or 'no suffix'!r}"
        )
    if rgb.ndim != 4 or rgb.shape[1] != 3:
        raise NststabError(f"expected a picture (1, 3, H, W), got a tensor of shape {tuple(rgb.shape)}")
    name, options = PICTURE_FORMATS[suffix.lower()]
    channels = (
        rgb if alpha is None or suffix.lower() not in ALPHA_SUFFIXES else torch.cat([rgb.cpu(), alpha.cpu()], dim=1)
    )
    file, image = BytesIO(), Image.fromarray(to_uint8(channels))
    try:
        image.save(file, name, **options)
    except (OSError, ValueError) as error:
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


def resized_shape(height: int, width: int, longest_side: int, even: bool = False) -> tuple[int, int]:
    """Height and width of a picture scaled to a longest side, both at least one pixel; raises ValueError below one.

    even: beside an even longest side the other is even too, as most players expect of video, if that is scaled at all.
    """
    if longest_side < 1:
        raise NststabError(f"expected a size of at least 1 pixel, got {longest_side}")
    scale = longest_side / max(height, width)
    step = 2 if even and longest_side % 2 == 0 and scale != 1 else 1
    return max(step, step * round(height * scale / step)), max(step, step * round(width * scale / step))


def resize(rgb: Tensor, longest_side: int) -> Tensor:
    """Scale pictures (N, C, H, W) to a longest side, keeping their shape: bicubic, antialiased, clamped to [0, 1]."""
    height, width = rgb.shape[-2:]
    return scaled(rgb, *resized_shape(height, width, longest_side))


def scaled(rgb: Tensor, height: int, width: int) -> Tensor:
    """Scale pictures as `resize` does, to a shape that rounding parts by a pixel from their own."""
    if rgb.shape[-2:] == (height, width):
        return rgb
    return F.interpolate(rgb, (height, width), mode="bicubic", antialias=True, align_corners=False).clamp_(0, 1)


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


class AnimationReader(Reader):
    """An excerpt of an animation, of which every picture is decoded once at the beginning, as only that tells its time.

    Raises:
        OSError: the file cannot be opened.
        ValueError: a picture cannot be read, or there is none in the excerpt.
    """

    def __init__(self, path: Path, part: Excerpt = WHOLE) -> None:
        self.path = path
        pictures, time = list[Timed[int]](), Fraction(0)
        for number, (picture, duration) in enumerate(animated_pictures(path)):
            pictures.append((number, time, duration))
            time += duration
            self.height, self.width = picture.rgb.shape[2:]
        self._shown = list(retimed(cut(pictures, part, str(path)), part))
        self.frame_count = len(self._shown)
        self.rate = part.fps or len(pictures) / time
        ticks = lcm(*(moment.denominator for _, *moments in self._shown for moment in moments))
        self.time_base = 1 / part.fps if part.fps else Fraction(1, ticks)

    def frames(self) -> Iterator[Timed[Tensor]]:
        """Every frame as (rgb or rgba (1, 3 or 4, H, W), time, duration) in seconds."""
        pictures = enumerate(animated_pictures(self.path))

        def decode(wanted: int) -> Tensor:
            picture = next(picture for number, (picture, _) in pictures if number == wanted)
            return picture.rgb if picture.alpha is None else torch.cat([picture.rgb, picture.alpha], dim=1)

        return converted(self._shown, decode)
