"""Optical flow between two frames: estimated, with a cache that any estimator can have, or read from files."""

import hashlib
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.errors import MissingFile, NststabError
from nststab.flow.files import read_flo, write_flo
from nststab.flow.settings import FlowSettings
from nststab.frames import Frame
from nststab.storage.tables import OPENCV, versions
from nststab.video.images import to_uint8
from nststab.warp import scaled_flow

log = logging.getLogger(__name__)

Estimator = Callable[[Tensor, Tensor], Tensor]
"""Two pictures (1, 3, H, W) in [0, 1] to the flow (1, 2, H, W) from the first to the second, in pixels, x then y."""

FlowFunction = Callable[[Frame, Frame], Tensor]
"""Two frames of a clip to the flow (1, 2, H, W) from the first to the second, estimated or found by their numbers."""

MINIMUM_SIDE = 64
"""DeepFlow's pyramid of a smaller picture has too few levels: at 32 pixels it finds less than half of the motion."""

_MAXIMUM_SIDE = 32_766  # of OpenCV's remap

_RAFT_FILE = "raft_large_C_T_SKHT_V2-ff5fadd5.pth"
CACHE_BYTES = 4 << 30  # about 2,400 pairs at 432x240, both directions
_CACHE_FORMAT = 1
_FLOW_NAME = re.compile(r"(forward|backward)_(\d+)_(\d+)\.flo")

_cv2_lock = threading.Lock()


def deepflow(first: Tensor, second: Tensor) -> Tensor:
    """DeepFlow (Weinzaepfel et al. 2013) from `first` to `second`, by OpenCV: (1, 2, H, W) in pixels, x then y.

    OpenCV's version works on 8-bit luma and has no DeepMatching term, unlike the one of Ruder et al. 2016. A side under
    `MINIMUM_SIDE` is padded by replication for it.

    Raises:
        ValueError: where the frames are not (1, 3, H, W) and of one size.
        OSError: where OpenCV with its contributed modules cannot be loaded.
    """
    _check(first, second)
    return _calculate(_contributed_module().createOptFlow_DeepFlow(), first, second)


def dis(first: Tensor, second: Tensor) -> Tensor:
    """Dense inverse search (Kroeger et al. 2016) from `first` to `second`, by OpenCV: as `deepflow`, and raises so.

    Several times as fast. Unlike OpenCV's preset, which stops at half of the resolution, it goes on to the full one: of
    the presets and their variations that had the least error on MPI-Sintel (docs/flow.md).
    """
    _check(first, second)
    cv2 = _opencv()
    method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    method.setFinestScale(0)
    return _calculate(method, first, second)


def raft(first: Tensor, second: Tensor) -> Tensor:
    """RAFT (Teed and Deng 2020) from `first` to `second`, by torchvision: as `deepflow`, and raises so.

    Sides are padded by replication to a multiple of 8, and to the 128 pixels that it needs.
    """
    _check(first, second)
    height, width = first.shape[-2:]
    missing = [max(128, -(-side // 8) * 8) - side for side in (width, height)]
    padding = [part for gap in missing for part in (gap // 2, gap - gap // 2)]  # left, right, top, bottom
    frames = [F.pad(2 * frame.detach().float() - 1, padding, mode="replicate") for frame in (first, second)]
    with torch.inference_mode():
        flow: Tensor = _raft_network(str(raft_weights()), first.device)(*frames)[-1]
    return flow[..., padding[2] : padding[2] + height, padding[0] : padding[0] + width].clone()


def raft_weights() -> Path:
    """Where torchvision keeps the weights of its large RAFT; OSError, which names the file, where they are not.

    They are never fetched here.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / _RAFT_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file; flow by raft needs torchvision's Raft_Large_Weights.C_T_SKHT_V2 there"
        )
    return file


@cache
def _raft_network(file: str, device: torch.device) -> Callable[..., list[Tensor]]:
    from torchvision.models.optical_flow import raft_large

    network = raft_large(weights=None)
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    found: Callable[..., list[Tensor]] = network.eval().to(device)
    return found


ESTIMATORS: Mapping[str, Estimator] = {"deepflow": deepflow, "dis": dis, "raft": raft}
"""The ways to estimate flow, by the names that the setting `flow.method` takes."""


def between_frames(estimator: Estimator) -> FlowFunction:
    """The flow between the pictures of two frames."""
    return lambda first, second: estimator(first.rgb, second.rgb)


def require_estimator(name: str) -> None:
    """Raises OSError, saying what to install, where this one of `ESTIMATORS` cannot run."""
    needs: dict[str, Callable[[], Any]] = {"deepflow": _contributed_module, "dis": _opencv, "raft": raft_weights}
    needs[name]()


def _check(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.ndim != 4 or first.shape[:2] != (1, 3):
        raise NststabError(
            f"expected two frames of one shape (1, 3, H, W), got {tuple(first.shape)} and {tuple(second.shape)}"
        )


def _calculate(method: Any, first: Tensor, second: Tensor) -> Tensor:
    """What OpenCV's `method` finds between two frames, padded to the size it needs."""
    height, width = first.shape[-2:]
    if max(height, width) > _MAXIMUM_SIDE:
        raise NststabError(f"flow of {width}x{height} cannot be estimated: OpenCV takes sides up to {_MAXIMUM_SIDE}")
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


def _opencv() -> Any:
    """`cv2`, imported only now; where that fails, an OSError which says what to install."""
    with _cv2_lock:
        try:
            import cv2
        except ModuleNotFoundError as error:
            raise OSError(f"optical flow needs OpenCV ({error}): pip install opencv-contrib-python") from error
        except ImportError as error:
            # OpenCV's loader leaves this mark when it fails, and the next import would report a recursion instead.
            vars(sys).pop("OpenCV_LOADER", None)
            package = "libglib2.0-0" if re.search(r"lib(glib|gthread)-2", str(error)) else "libgl1"
            raise OSError(
                f"OpenCV cannot be loaded ({error}): install the Debian package {package}, or "
                "pip uninstall opencv-contrib-python and pip install opencv-contrib-python-headless"
            ) from error
    return cv2


def _contributed_module() -> Any:
    """`cv2.optflow`; where it is missing, an OSError which says what to install."""
    contributed = getattr(_opencv(), "optflow", None)
    if not hasattr(contributed, "createOptFlow_DeepFlow"):
        raise OSError(
            "this OpenCV has no DeepFlow (cv2.optflow), another OpenCV package took its place: pip uninstall "
            "opencv-python opencv-python-headless, then pip install --force-reinstall opencv-contrib-python"
        )
    return contributed


class FloFolder:
    """A flow function which reads the `.flo` files of a folder under the names of Ruder's program.

    They are found by the frames' numbers, which in their names count from 1: forward_1_2.flo leads from the first frame
    to the second, backward_2_1.flo back, forward_1_3.flo to the third. Numbers may have leading zeros.

    Raises:
        OSError: there is no such folder. ValueError: it holds no such file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            if match := _FLOW_NAME.fullmatch(path.name):
                self._paths[f"{match[1]}_{int(match[2])}_{int(match[3])}.flo"] = path
        if not self._paths:
            raise NststabError(
                f"{folder}: expected flows named forward_1_2.flo, backward_2_1.flo and so on, found none"
            )

    def require_size(self, height: int, width: int) -> None:
        """Raises ValueError where frames of this size have another size than the flows."""
        _read(next(iter(self._paths.values())), height, width)

    def reaches(self, distance: int) -> bool:
        """Whether it holds a flow between frames that lie `distance` apart."""
        ends = (re.findall(r"\d+", name) for name in self._paths)
        return any(int(last) - int(first) == distance for first, last in ends)

    def __call__(self, first: Frame, second: Frame) -> Tensor:
        """The flow between two frames, on the first one's device.

        Raises:
            OSError: its file is missing. ValueError: it has another size, or is damaged.
        """
        height, width = first.rgb.shape[-2:]
        path = self._path(first.number + 1, second.number + 1)
        return _read(path, height, width, larger=True).to(first.rgb.device)

    def _path(self, first: int, second: int) -> Path:
        name = f"{'forward' if first < second else 'backward'}_{first}_{second}.flo"
        if name not in self._paths:
            distances = ",".join(str(distance) for distance in sorted({1, abs(second - first)}))
            raise MissingFile(
                f"{self.folder / name}: no such file; expected the flow from frame {first} to frame {second}, which "
                f"nststab flow estimate --distances {distances} writes"
            )
        return self._paths[name]


def _read(path: Path, height: int, width: int, larger: bool = False) -> Tensor:
    """The flow in a file; ValueError where it has another size, unless it may be `larger` and is of the same shape."""
    flow = read_flo(path)
    if flow.shape[-2:] != (height, width):
        got_height, got_width = flow.shape[-2:]
        if larger and got_width > width and abs(got_width * height - got_height * width) <= got_width:
            return scaled_flow(flow, height, width)
        raise NststabError(
            f"{path}: expected {width}x{height} as the frames have, got a flow of {got_width}x{got_height}"
        )
    return flow


def cached(flow: Estimator, folder: Path, name: str) -> Estimator:
    """Keep what `flow` computes as `.flo` files in `folder`, which is made when the first one is written.

    An entry is found by the bytes of both frames, the method's `name` and the version of what computes it. One which
    cannot be read is computed again. The function may be called by several threads and processes at once.
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
    """Remove the least recently used flows from a cache folder until it holds no more than `limit` bytes.

    What killed processes left half written counts as well.
    """
    entries = []
    for path in (path for pattern in ("*.flo", "*.part") for path in folder.glob(pattern)):
        with suppress(FileNotFoundError):  # another process has just named it otherwise, or removed it
            entries.append((path.stat(), path))
    excess = sum(status.st_size for status, _ in entries) - limit
    for status, path in sorted(entries, key=lambda entry: entry[0].st_mtime):
        if excess <= 0:
            break
        path.unlink(missing_ok=True)
        excess -= status.st_size


def _fingerprint(name: str, *frames: Tensor) -> str:
    digest = hashlib.blake2b(repr((_CACHE_FORMAT, name, estimator_version(name)[1])).encode(), digest_size=20)
    for frame in frames:
        digest.update(repr((tuple(frame.shape), str(frame.dtype))).encode())
        digest.update(frame.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


@cache
def estimator_version(name: str) -> tuple[str, str]:
    """What computes the flow of this name, such as OpenCV, and its version, found without importing it."""
    program, packages = ("torchvision", ("torchvision",)) if name == "raft" else ("OpenCV", OPENCV)
    installed = versions()
    return program, next((installed[package] for package in packages if package in installed), "none")


@dataclass(frozen=True)
class FlowSource:
    """An estimator with its cache folder, by default the user's; or a folder of `.flo` files."""

    method: str = "deepflow"
    cache: Path | None = None
    files: FloFolder | None = None

    def function(self) -> FlowFunction:
        """The flow between two frames; OSError at once where it cannot be estimated here."""
        if self.files is not None:
            log.info(f"flow: the files of {self.files.folder}")
            return self.files
        require_estimator(self.method)
        folder = cache_folder(self.cache)
        trim_cache(folder, CACHE_BYTES)
        (log.debug if self.method == "deepflow" else log.info)(f"flow: {self.method}")
        log.debug(f"flows are kept in {folder}")
        return between_frames(cached(ESTIMATORS[self.method], folder, self.method))

    def require_size(self, height: int, width: int) -> None:
        """Raises ValueError at once where the flows of files have another size than the frames will."""
        if self.files is not None:
            self.files.require_size(height, width)


def flow_source(settings: FlowSettings) -> FlowSource:
    """What the settings say."""
    return FlowSource(settings.method, settings.cache, None if settings.files is None else FloFolder(settings.files))


def cache_folder(given: Path | None = None) -> Path:
    """Where flows are kept: the folder that was given, or one in the user's cache."""
    return given or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nststab" / "flow"
