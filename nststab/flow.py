"""Optical flow: DeepFlow, a cache on disk, flow computed ahead of its reader, and the files of flows and masks."""

import hashlib
import re
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nststab.images import replacing, to_uint8
from nststab.warp import reliability

FlowFunction = Callable[[Tensor, Tensor], Tensor]
"""Two frames (1, 3, H, W) in [0, 1] to the flow (1, 2, H, W) from the first to the second, in pixels, x then y."""

MINIMUM_SIDE = 64
"""DeepFlow's pyramid of a smaller picture has too few levels: at 32 pixels it finds less than half of the motion."""

_FLO_MAGIC = 202021.25
_FLO_HEADER = struct.Struct("<fii")
_FLO_LONGEST_SIDE = 99_999  # the limit of Middlebury's own reader
_PGM_HEADER = re.compile(rb"P5\s(?:\s|#[^\n]*\n)*(\d{1,9})\s(?:\s|#[^\n]*\n)*(\d{1,9})\s(?:\s|#[^\n]*\n)*(\d{1,5})\s")
_CACHE_FORMAT = 1

_cv2_lock = threading.Lock()


class FlowPair(NamedTuple):
    """The flows between the previous frame and this one, and where they hold.

    `forward` maps the previous frame to this one, `backward` this one to the previous: (1, 2, H, W). `forward_mask`
    lies on the previous frame's pixels, `backward_mask` on this one's: (1, 1, H, W), 1 = trust.
    """

    forward: Tensor
    backward: Tensor
    forward_mask: Tensor
    backward_mask: Tensor


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


def flow_ahead(
    frames: Iterable[Tensor], flow: FlowFunction, workers: int = 2
) -> Generator[tuple[Tensor, FlowPair | None], None, None]:
    """Yield each frame (1, 3, H, W) with the flows from and to the one before it; None for the first.

    Both directions are estimated side by side in threads, which keep at work while the reader is busy: up to `workers`
    frames ahead of it. An error of `frames` or `flow` is raised here. Closing the generator waits for the estimates in
    work.
    """
    waiting: deque[tuple[Tensor, tuple[Future[Tensor], Future[Tensor]] | None]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="flow")
    try:
        previous: Tensor | None = None
        for frame in frames:
            if previous is None:
                waiting.append((frame, None))
            else:
                waiting.append((frame, (pool.submit(flow, previous, frame), pool.submit(flow, frame, previous))))
            previous = frame
            if len(waiting) > workers:
                yield _finish(*waiting.popleft())
        while waiting:
            yield _finish(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _finish(frame: Tensor, flows: tuple[Future[Tensor], Future[Tensor]] | None) -> tuple[Tensor, FlowPair | None]:
    if flows is None:
        return frame, None
    forward, backward = (future.result() for future in flows)
    return frame, FlowPair(forward, backward, reliability(forward, backward), reliability(backward, forward))


def read_flo(path: Path) -> Tensor:
    """Read a Middlebury `.flo` file: (1, 2, H, W) float32 in pixels, x then y.

    Raises:
        OSError: where the file cannot be read.
        ValueError: where it is no `.flo` file, is cut off or too long, or holds values which are not finite.
    """
    with path.open("rb") as file:
        header = file.read(_FLO_HEADER.size)
        if len(header) < _FLO_HEADER.size:
            raise ValueError(
                f"{path} is no .flo file: expected a header of {_FLO_HEADER.size} bytes, got {len(header)}"
            )
        magic, width, height = _FLO_HEADER.unpack(header)
        if magic != _FLO_MAGIC:
            raise ValueError(f"{path} is no .flo file: expected the magic number {_FLO_MAGIC}, got {magic:g}")
        if not (0 < width <= _FLO_LONGEST_SIDE and 0 < height <= _FLO_LONGEST_SIDE):
            raise ValueError(f"{path}: expected sides of 1 to {_FLO_LONGEST_SIDE} pixels, got {width}x{height}")
        size = path.stat().st_size - _FLO_HEADER.size
        if size != 8 * width * height:
            state = "cut off" if size < 8 * width * height else "too long"
            raise ValueError(f"{path} is {state}: expected {8 * width * height} bytes for {width}x{height}, got {size}")
        values = np.frombuffer(file.read(), dtype="<f4").astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: expected finite flow, got values that are not")
    return torch.from_numpy(values.reshape(1, height, width, 2)).permute(0, 3, 1, 2).contiguous()


def write_flo(path: Path, flow: Tensor) -> None:
    """Write a flow (1, 2, H, W) as a Middlebury `.flo` file, whole or not at all."""
    if flow.ndim != 4 or flow.shape[:2] != (1, 2):
        raise ValueError(f"expected one flow (1, 2, H, W), got a tensor of shape {tuple(flow.shape)}")
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
        raise ValueError(f"{path} is no mask: expected a binary .pgm file (P5) with 255 as its largest value")
    width, height = int(header[1]), int(header[2])
    values = np.frombuffer(data, dtype=np.uint8, offset=header.end())
    if width * height == 0 or values.size != width * height:
        raise ValueError(f"{path}: expected {width * height} bytes for {width}x{height}, got {values.size}")
    return torch.from_numpy(values.reshape(1, 1, height, width).astype(np.float32) / 255)


def write_mask(path: Path, mask: Tensor) -> None:
    """Write a mask (1, 1, H, W) in [0, 1] as an 8-bit binary `.pgm` file, whole or not at all.

    The values are cut, not rounded, as Ruder's program does: the edge of a disocclusion lies at 127.3.
    """
    if mask.ndim != 4 or mask.shape[:2] != (1, 1):
        raise ValueError(f"expected one mask (1, 1, H, W), got a tensor of shape {tuple(mask.shape)}")
    height, width = mask.shape[-2:]
    scaled = mask.detach().float().cpu()[0, 0].clamp(0, 1) * 255
    values = (scaled + 1e-3).floor().to(torch.uint8).numpy()  # k / 255 must come back as k in spite of rounding
    with replacing(path) as temporary:
        temporary.write_bytes(f"P5\n{width} {height}\n255\n".encode() + values.tobytes())
