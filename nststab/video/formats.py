"""What can be written, by the suffix of a name: known without the libraries that write it."""

import os
from pathlib import Path
from typing import Any, Literal

from nststab.errors import SettingError

Kind = Literal["video", "picture", "folder"]
VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".webm", ".gif", ".y4m"})
GROWING = frozenset({".gif", ".y4m"})  # finished parts of these are kept in the file itself
# Pillow's name of each format of a picture, and how it is saved
PICTURE_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),  # 0: full colour resolution, 4:4:4
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95}),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".bmp": ("BMP", {}),
}
PICTURE_SUFFIXES = frozenset(PICTURE_FORMATS)


def output_kind(output: str | Path) -> Kind:
    """What `output` will be: a name that ends in a slash, which a `Path` drops, or a folder is a folder of pictures.

    Raises SettingError for a suffix that cannot be written.
    """
    path = Path(output)
    if str(output).endswith(("/", os.sep)) or path.is_dir():
        return "folder"
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return "video"
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return "picture"
    known = ", ".join([*sorted(VIDEO_SUFFIXES), *sorted(PICTURE_SUFFIXES)])
    got = path.suffix or "a name without a suffix"
    raise SettingError(f"{path}: cannot write {got}; expected {known} or a folder (ends in /)")
