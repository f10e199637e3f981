"""The faces of a shot: found by OpenCV's detector now and then, and followed in between and where it misses them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nststab.color import luminance
from nststab.frames import Frame
from nststab.video.images import to_uint8

_SIDE = 640  # longest side at which faces are looked for
_PART = 1 / 16  # of the shorter side there: smaller ones are not found
_EVERY = 4  # frames from one search to the next: it takes as long as the network does
_STEP = 1 / 8  # most by which the mask of a face changes from frame to frame
_SEARCHES = 25  # without a find that a face outlives at most; as many as there were finds, so that errors go soon
_OVERLAP = 0.3  # of the union of two boxes, from which on they are one face
_CORRECTED = 0.3  # of the way to where the detector sees it a face moves at once
_POINTS = 6  # least number of points by which a face is followed
_SOFT = 0.3  # width of the edge of a face's mask, as a part of its radius

Gray = NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""


def without_faces(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Frames of one shot whose mask leaves out the faces that OpenCV's detector (Viola and Jones 2001) finds.

    It finds faces that look into the camera, and those not in each frame; what it found is followed while its head
    turns. What comes into a shot, or is first found in it, is left out little by little, so that nothing jumps.
    """
    faces: Faces | None = None
    for number, frame in enumerate(frames):
        height, width = frame.rgb.shape[-2:]
        scale = min(1.0, _SIDE / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        picture = F.interpolate(frame.rgb, size, mode="area") if scale < 1 else frame.rgb
        faces = faces or Faces(detector(size))
        faces.see(to_uint8(luminance(picture).expand(-1, 3, -1, -1))[..., 0].copy(), searches=number % _EVERY == 0)
        kept = 1 - F.interpolate(faces.mask(size), (height, width), mode="bilinear", align_corners=False)
        yield replace(frame, mask=kept if frame.mask is None else frame.mask * kept)


def detector(size: tuple[int, int]) -> Callable[[Gray], Sequence[Box]]:
    """What finds the boxes of faces in gray pictures of a size; OSError where OpenCV does not load."""
    try:
        import cv2
    except ImportError as error:
        raise OSError(
            "protect: faces are found by OpenCV, which does not load here; nststab doctor says why"
        ) from error
    cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"))
    least = max(20, round(_PART * min(size)))
    return lambda gray: [(x, y, w, h) for x, y, w, h in cascade.detectMultiScale(gray, 1.1, 4, minSize=(least, least))]


@dataclass
class Face:
    """A face: where it is, for how many searches it stays without being found, and how far it is left out, to 1."""

    box: Box
    credit: int = 1
    shown: float = 0.0


class Faces:
    """Those of a shot, frame after frame; `find` finds boxes in a gray picture (H, W)."""

    def __init__(self, find: Callable[[Gray], Sequence[Box]]) -> None:
        self._find = find
        self._before: Gray | None = None
        self._faces: list[Face] = []

    def see(self, gray: Gray, searches: bool = True) -> None:
        """The next frame; what is known is followed into it, and if it `searches` more is looked for."""
        is_first, before, self._before = self._before is None, self._before, gray
        if before is not None:
            for face in self._faces:
                face.box = followed(before, gray, face.box)
        if searches:
            self._search(gray)
        for face in self._faces:
            step = _STEP if face.credit > 0 else -_STEP
            face.shown = 1.0 if is_first else min(1.0, max(0.0, face.shown + step))
        self._faces = [face for face in self._faces if face.shown > 0]

    def _search(self, gray: Gray) -> None:
        missed = list(self._faces)
        for box in self._find(gray):
            best = max(missed, key=lambda face: overlap(face.box, box), default=None)
            if best is None or overlap(best.box, box) < _OVERLAP:
                self._faces.append(Face(box))
                continue
            missed.remove(best)
            best.credit = min(_SEARCHES, max(best.credit, 0) + 1)
            left, top, width, height = (a + _CORRECTED * (b - a) for a, b in zip(best.box, box, strict=True))
            best.box = (left, top, width, height)
        for face in missed:
            face.credit -= 1

    def mask(self, size: tuple[int, int]) -> Tensor:
        """(1, 1, H, W), 1 where a face is: an ellipse with a soft edge around each."""
        rows, columns = torch.arange(size[0])[:, None] + 0.5, torch.arange(size[1]) + 0.5
        mask = torch.zeros(size)
        for face in self._faces:
            left, top, width, height = face.box
            across = (columns - left - width / 2) / (0.55 * width)
            down = (rows - top - height / 2) / (0.72 * height)
            inside = (0.5 + (1 - torch.hypot(across, down)) / _SOFT).clamp(0, 1)
            mask = torch.maximum(mask, face.shown * inside)
        return mask[None, None]


def overlap(one: Box, other: Box) -> float:
    """The intersection of two boxes, as a part of their union."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    both = max(0.0, width) * max(0.0, height)
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def followed(before: Gray, after: Gray, box: Box) -> Box:
    """Where a box is in the next picture, by the median motion of points in it (Kalal et al. 2010, Median-Flow).

    Points are followed by Lucas and Kanade's method, and those count that come back to where they began. Where there
    are too few it stays where it is.
    """
    import cv2

    left, top, width, height = box
    inner = np.zeros_like(before)  # the face without what is seen beside it
    rows = slice(max(0, round(top + 0.1 * height)), max(0, round(top + 0.9 * height)))
    inner[rows, max(0, round(left + 0.15 * width)) : max(0, round(left + 0.85 * width))] = 255
    points: Any = cv2.goodFeaturesToTrack(before, 60, 0.01, 3, mask=inner)
    if points is None:
        return box
    follow: Any = cv2.calcOpticalFlowPyrLK
    there, found, _ = follow(before, after, points, None)
    back, found_back, _ = follow(after, before, there, None)
    good = (found & found_back).ravel().astype(bool) & (np.abs(back - points).reshape(-1, 2).max(axis=1) < 1)
    one, other = points.reshape(-1, 2)[good], there.reshape(-1, 2)[good]
    if len(one) < _POINTS:
        return box
    across, down = np.median(other - one, axis=0)
    first, second = np.triu_indices(len(one), 1)
    lengths = np.linalg.norm(one[first] - one[second], axis=1)
    grown = float(np.median(np.linalg.norm(other[first] - other[second], axis=1) / lengths))
    return (
        left + float(across) - (grown - 1) * width / 2,
        top + float(down) - (grown - 1) * height / 2,
        grown * width,
        grown * height,
    )
