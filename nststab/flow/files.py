"""The files of flows and of their masks: Middlebury's `.flo`, and 8-bit `.pgm` as Ruder's program reads them."""

import re
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nststab.errors import NststabError
from nststab.video.images import replacing

_FLO_MAGIC = 202021.25
_FLO_HEADER = struct.Struct("<fii")
_FLO_LONGEST_SIDE = 99_999  # the limit of Middlebury's own reader
_PGM_HEADER = re.compile(rb"P5\s(?:\s|#[^\n]*\n)*(\d{1,9})\s(?:\s|#[^\n]*\n)*(\d{1,9})\s(?:\s|#[^\n]*\n)*(\d{1,5})\s")


def read_flo(path: Path) -> Tensor:
    """Read a Middlebury `.flo` file: (1, 2, H, W) float32 in pixels, x then y.

    Raises:
        OSError: where the file cannot be read.
        ValueError: where it is no `.flo` file, is cut off or too long, or holds values which are not finite.
    """
    with path.open("rb") as file:
        header = file.read(_FLO_HEADER.size)
        if len(header) < _FLO_HEADER.size:
            raise NststabError(
                f"{path} is no .flo file: expected a header of {_FLO_HEADER.size} bytes, got {len(header)}"
            )
        magic, width, height = _FLO_HEADER.unpack(header)
        if magic != _FLO_MAGIC:
            raise NststabError(f"{path} is no .flo file: expected the magic number {_FLO_MAGIC}, got {magic:g}")
        if not (0 < width <= _FLO_LONGEST_SIDE and 0 < height <= _FLO_LONGEST_SIDE):
            raise NststabError(f"{path}: expected sides of 1 to {_FLO_LONGEST_SIDE} pixels, got {width}x{height}")
        size = path.stat().st_size - _FLO_HEADER.size
        if size != 8 * width * height:
            state = "cut off" if size < 8 * width * height else "too long"
            raise NststabError(
                f"{path} is {state}: expected {8 * width * height} bytes for {width}x{height}, got {size}"
            )
        values = np.frombuffer(file.read(), dtype="<f4").astype(np.float32)
    if not np.isfinite(values).all():
        raise NststabError(f"{path}: expected finite flow, got values that are not")
    return torch.from_numpy(values.reshape(1, height, width, 2)).permute(0, 3, 1, 2).contiguous()


def write_flo(path: Path, flow: Tensor) -> None:
    """Write a flow (1, 2, H, W) as a Middlebury `.flo` file, whole or not at all."""
    if flow.ndim != 4 or flow.shape[:2] != (1, 2):
        raise NststabError(f"expected one flow (1, 2, H, W), got a tensor of shape {tuple(flow.shape)}")
    height, width = flow.shape[-2:]
    values = flow.detach()[0].permute(1, 2, 0).cpu().numpy().astype("<f4")  # (H, W, 2)
    with replacing(path) as temporary:
        temporary.write_bytes(_FLO_HEADER.pack(_FLO_MAGIC, width, height) + values.tobytes())


def read_mask(path: Path) -> Tensor:
    """Read an 8-bit binary `.pgm` mask: (1, 1, H, W) in [0, 1].

    Raises:
        OSError: where the file cannot be read.
        ValueError: where it is no 8-bit binary `.pgm` file, or is cut off.
    """
    data = path.read_bytes()
    header = _PGM_HEADER.match(data)
    if header is None or int(header[3]) != 255:
        raise NststabError(f"{path} is no mask: expected a binary .pgm file (P5) with 255 as its largest value")
    width, height = int(header[1]), int(header[2])
    values = np.frombuffer(data, dtype=np.uint8, offset=header.end())
    if width * height == 0 or values.size != width * height:
        raise NststabError(f"{path}: expected {width * height} bytes for {width}x{height}, got {values.size}")
    return torch.from_numpy(values.reshape(1, 1, height, width).astype(np.float32) / 255)


def write_mask(path: Path, mask: Tensor) -> None:
    """Write a mask (1, 1, H, W) in [0, 1] as an 8-bit binary `.pgm` file, whole or not at all.

    The values are cut, not rounded, as Ruder's program does: the edge of a disocclusion lies at 127.3.
    """
    if mask.ndim != 4 or mask.shape[:2] != (1, 1):
        raise NststabError(f"expected one mask (1, 1, H, W), got a tensor of shape {tuple(mask.shape)}")
    height, width = mask.shape[-2:]
    scaled = mask.detach().float().cpu()[0, 0].clamp(0, 1) * 255
    values = (scaled + 1e-3).floor().to(torch.uint8).numpy()  # k / 255 must come back as k in spite of rounding
    with replacing(path) as temporary:
        temporary.write_bytes(f"P5\n{width} {height}\n255\n".encode() + values.tobytes())
