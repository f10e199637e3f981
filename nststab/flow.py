"""Optical flow between two frames: DeepFlow, and a cache on disk that any flow function can have."""

import hashlib
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nststab.flow_files import read_flo, write_flo
from nststab.images import to_uint8

FlowFunction = Callable[[Tensor, Tensor], Tensor]
"""Two frames (1, 3, H, W) in [0, 1] to the flow (1, 2, H, W) from the first to the second, in pixels, x then y."""

MINIMUM_SIDE = 64
"""DeepFlow's pyramid of a smaller picture has too few levels: at 32 pixels it finds less than half of the motion."""

_CACHE_FORMAT = 1

_cv2_lock = threading.Lock()


def deepflow(first: Tensor, second: Tensor) -> Tensor:
    """DeepFlow (Weinzaepfel et al. 2013) from `first` to `second`, by OpenCV: (1, 2, H, W) in pixels, x then y.

    OpenCV's version works on 8-bit luma and has no DeepMatching term, unlike the one of Ruder et al. 2016. A side under
    `MINIMUM_SIDE` is padded by replication for it.

    Raises:
        ValueError: where the frames are not (1, 3, H, W) and of one size.
        OSError: where OpenCV with its contributed modules cannot be loaded.
    """
    if first.shape != second.shape or first.ndim != 4 or first.shape[:2] != (1, 3):
        raise ValueError(
            f"expected two frames of one shape (1, 3, H, W), got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    method = _contributed_module().createOptFlow_DeepFlow()
    height, width = first.shape[-2:]
    (top, bottom), (left, right) = margins = _margins(height), _margins(width)
    padded = [np.pad(_luma(frame), margins, mode="edge") for frame in (first, second)]
    flow = method.calc(padded[0], padded[1], None)  # (H, W, 2)
    flow = flow[top : flow.shape[0] - bottom, left : flow.shape[1] - right]
    return torch.from_numpy(flow).permute(2, 0, 1).unsqueeze(0).contiguous().to(first.device)


def _luma(frame: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The 8-bit grey picture (H, W) of a frame, weighted as in ITU-R BT.601."""
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return to_uint8((frame.detach().float().cpu() * weights).sum(dim=1, keepdim=True))[..., 0]


def _margins(side: int) -> tuple[int, int]:
    missing = max(0, MINIMUM_SIDE - side)
    return missing // 2, missing - missing // 2


def require_deepflow() -> None:
    """Raises OSError, saying what to install, where DeepFlow cannot run."""
    _contributed_module()


def _contributed_module() -> Any:
    """`cv2.optflow`, imported only now; where that fails, an OSError which says what to install."""
    with _cv2_lock:
        try:
            import cv2
        except ModuleNotFoundError as error:
            raise OSError(f"DeepFlow needs OpenCV ({error}): pip install opencv-contrib-python") from error
        except ImportError as error:
            # OpenCV's loader leaves this mark when it fails, and the next import would report a recursion instead.
            vars(sys).pop("OpenCV_LOADER", None)
            package = "libglib2.0-0" if re.search(r"lib(glib|gthread)-2", str(error)) else "libgl1"
            raise OSError(
                f"OpenCV cannot be loaded ({error}): install the Debian package {package}, or "
                "pip uninstall opencv-contrib-python and pip install opencv-contrib-python-headless"
            ) from error
    if not hasattr(getattr(cv2, "optflow", None), "createOptFlow_DeepFlow"):
        raise OSError(
            "this OpenCV has no DeepFlow (cv2.optflow), another OpenCV package took its place: pip uninstall "
            "opencv-python opencv-python-headless, then pip install --force-reinstall opencv-contrib-python"
        )
    return cv2.optflow


def cached(flow: FlowFunction, folder: Path, name: str) -> FlowFunction:
    """Keep what `flow` computes as `.flo` files in `folder`, which is made when the first one is written.

    An entry is found by the bytes of both frames, the method's `name` and the version of OpenCV. One which cannot be
    read is computed again. The function may be called by several threads and processes at once.
    """

    def lookup(first: Tensor, second: Tensor) -> Tensor:
        path = folder / f"{_fingerprint(name, first, second)}.flo"
        with suppress(OSError, ValueError):
            stored = read_flo(path)
            if stored.shape[-2:] == first.shape[-2:]:
                path.touch()  # `trim_cache` removes what was not used for longest
                return stored.to(first.device)
        computed = flow(first, second)
        folder.mkdir(parents=True, exist_ok=True)
        write_flo(path, computed)
        return computed

    return lookup


def trim_cache(folder: Path, limit: int) -> None:
    """Remove the least recently used flows from a cache folder until it holds no more than `limit` bytes."""
    entries = [(path.stat(), path) for path in folder.glob("*.flo")]
    excess = sum(status.st_size for status, _ in entries) - limit
    for status, path in sorted(entries, key=lambda entry: entry[0].st_mtime):
        if excess <= 0:
            break
        path.unlink(missing_ok=True)
        excess -= status.st_size


def _fingerprint(name: str, *frames: Tensor) -> str:
    digest = hashlib.blake2b(repr((_CACHE_FORMAT, name, _opencv_version())).encode(), digest_size=20)
    for frame in frames:
        digest.update(repr((tuple(frame.shape), str(frame.dtype))).encode())
        digest.update(frame.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _opencv_version() -> str:
    """The version of the installed OpenCV, found without importing it."""
    for distribution in ("opencv-contrib-python", "opencv-contrib-python-headless"):
        with suppress(PackageNotFoundError):
            return version(distribution)
    return "none"
