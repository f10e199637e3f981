"""A clip and its stylized versions as a report holds them: one video, and what a page draws around it."""

import json
import math
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.errors import NststabError
from nststab.flow.estimators import Estimator
from nststab.report.colors import heat_colors, series_of
from nststab.report.moments import Box, Crop, Failure
from nststab.report.occlusions import Occlusion, find_occlusions
from nststab.report.recorder import SceneRecorder
from nststab.video.images import encode_picture, resize
from nststab.video.timing import Timed

_BLOCK = 16  # pixels of a macroblock: a rectangle begins with one, so that clips are coded apart from each other
_MARGIN = 4  # at least so many pixels repeat a rectangle's edge: the codec smooths its blocks' borders


class Rect(NamedTuple):
    """A rectangle of an atlas, in pixels."""

    x: int
    y: int
    width: int
    height: int


class Atlas:
    """Where `count` clips of `width` x `height` pixels stand in one picture, and `heats` heat maps at half that size.

    Attributes:
        clips, heats: the rectangles.
        width, height: of the whole picture, multiples of 16, as near to a square as rows and columns allow: decoders
            bound the sides.
    """

    def __init__(self, count: int, width: int, height: int, heats: int | None = None) -> None:
        maps = count if heats is None else heats
        self.clips, self.heats, self.width, self.height = min(
            (_arranged(count, maps, width, height, columns) for columns in range(1, count + 1)),
            key=lambda found: max(found[2:]),
        )

    def compose(self, frames: Sequence[Tensor], heats: Sequence[Tensor]) -> Tensor:
        """The picture (1, 3, H, W) of the clips' frames (1, 3, `height`, `width`) and heat maps of any size."""
        canvas = torch.zeros(1, 3, self.height, self.width)
        for rect, picture in [*zip(self.clips, frames, strict=True), *zip(self.heats, heats, strict=True)]:
            if picture.shape[-2:] != (rect.height, rect.width):
                picture = F.interpolate(picture, (rect.height, rect.width), mode="area")
            down, right = _padded(rect.height), _padded(rect.width)
            edges = (0, right - rect.width, 0, down - rect.height)
            canvas[..., rect.y : rect.y + down, rect.x : rect.x + right] = F.pad(picture, edges, mode="replicate")
        return canvas


def _arranged(count: int, maps: int, width: int, height: int, columns: int) -> tuple[list[Rect], list[Rect], int, int]:
    """The rectangles of clips in rows of `columns`, those of their heat maps below, and the size of the whole."""
    clips = list(_rows(count, width, height, columns, 0))
    below = clips[-1].y + _padded(height)
    across, down = math.ceil(width / 2), math.ceil(height / 2)
    wide = columns * _padded(width)
    heats = list(_rows(maps, across, down, max(1, wide // _padded(across)), below))
    wide = max(rect.x + _padded(rect.width) for rect in (*clips, *heats))
    return clips, heats, wide, heats[-1].y + _padded(down) if heats else below


def _rows(count: int, width: int, height: int, columns: int, top: int) -> Iterator[Rect]:
    for number in range(count):
        row, column = divmod(number, columns)
        yield Rect(column * _padded(width), top + row * _padded(height), width, height)


def _padded(side: int) -> int:
    return math.ceil((side + _MARGIN) / _BLOCK) * _BLOCK


Json = dict[str, Any]
_LARGEST = 240  # pixels of a still; stills.js shows none larger


@dataclass(frozen=True)
class Scene:
    """One of the scenes of a report: its JSON without the video, and the video, an .mp4."""

    data: Json
    video: bytes

    @property
    def bytes(self) -> int:
        """What it adds to a page, where the video stands in base64."""
        return len(json.dumps(self.data)) + 4 * math.ceil(len(self.video) / 3)


def make_scene(
    name: str,
    recorder: SceneRecorder,
    flow: Estimator,
    style: int | None = None,
    note: str = "",
    aspect: Fraction = Fraction(1),
) -> Scene:
    """The scene of what was recorded.

    `flow` is asked where something may have been hidden and come back. style: its number in the report's list. aspect:
    the shape of a pixel, width by height. Raises ValueError where nothing was recorded.
    """
    from nststab.video.writer import encode_clip

    if not recorder.times:
        raise NststabError(f"{name}: expected frames to report on, got none")
    height, width = recorder.shown[0][0].shape[-2:]
    atlas = Atlas(len(recorder.names), width, height)
    end = recorder.times[-1][0] + recorder.times[-1][1]
    clips = zip(recorder.names, series_of(recorder.names), atlas.clips, atlas.heats, recorder.curves, strict=True)
    occlusions = find_occlusions(recorder.shown, recorder.shots, flow)
    data = {
        "name": name,
        "style": style,
        "width": width,
        "height": height,
        "aspect": float(aspect),
        "times": [float(time) for time, _ in recorder.times],
        "end": float(end),
        "shots": recorder.shots,
        "note": note,
        "clips": [
            {"name": clip, "series": series, "rect": list(rect), "heat": list(heat), "curves": curves}
            for clip, series, rect, heat, curves in clips
        ],
        "crops": [_crop(crop, recorder.scale) for crop in recorder.crops.result()],
        "occlusions": [_occlusion(occlusion) for occlusion in occlusions],
        "failures": [_failure(failure, recorder.scale) for failure in recorder.failures.result()],
    }
    return Scene(data, encode_clip(_pictures(recorder, atlas), len(recorder.times) / end))


def _pictures(recorder: SceneRecorder, atlas: Atlas) -> Iterator[Timed[Tensor]]:
    for index, (time, duration) in enumerate(recorder.times):
        heats = [heat_colors(clip[index]) for clip in recorder.heats]
        yield atlas.compose([clip[index] for clip in recorder.shown], heats), time, duration


def data_uri(suffix: str, picture: Tensor) -> str:
    """A picture (1, 3, H, W) inside an address: `.png` exactly, `.jpg` small."""
    kind = {".png": "png", ".jpg": "jpeg"}[suffix]
    return f"data:image/{kind};base64,{b64encode(encode_picture(suffix, picture)).decode()}"


def _box(box: Sequence[int], scale: float) -> list[float]:
    return [round(side * scale, 1) for side in box]


def _crop(crop: Crop, scale: float) -> Json:
    cells = [
        {
            "clip": number,
            "previous": data_uri(".jpg", _small(cell.previous)),
            "current": data_uri(".jpg", _small(cell.current)),
            "psnr": round(cell.psnr, 2),
            "ssim": round(cell.ssim, 4),
        }
        for number, cell in enumerate(crop.cells)
    ]
    boxes = [_box(box, scale) for box in crop.boxes]
    return {"kind": crop.kind, "frame": crop.frame, "boxes": boxes, "cells": cells}


def _occlusion(occlusion: Occlusion) -> Json:
    cells = [
        {
            "clip": number,
            "pictures": [data_uri(".jpg", _small(picture)) for picture in pictures],
            "change": round(change, 2),
        }
        for number, (pictures, change) in enumerate(zip(occlusion.pictures, occlusion.changes, strict=True))
    ]
    return {"frames": list(occlusion.frames), "box": _box(occlusion.box, 1), "cells": cells}


def _failure(failure: Failure, scale: float) -> Json:
    left, top, across, down = failure.region
    share = min(1.0, _LARGEST / max(across, down))
    x, y, wide, high = failure.box
    place = round((x - left) * share), round((y - top) * share), round(wide * share), round(high * share)

    def shown(picture: Tensor) -> Tensor:
        return _outlined(_small(picture), place)  # in this order: a thin line would fade

    cells = [
        {"clip": number, "previous": data_uri(".jpg", shown(before)), "current": data_uri(".jpg", shown(after))}
        for number, (before, after) in enumerate(zip(failure.previous, failure.current, strict=True))
    ]
    return {
        "frame": failure.frame,
        "box": _box(failure.box, scale),
        "error": round(failure.error, 1),
        "flow": data_uri(".png", shown(failure.flow)),
        "mask": data_uri(".png", shown(failure.mask.expand(-1, 3, -1, -1))),
        "cells": cells,
    }


def _small(picture: Tensor) -> Tensor:
    """No larger than a page shows it: in a file for a mail, the stills should not weigh as much as the clips."""
    return picture if max(picture.shape[-2:]) <= _LARGEST else resize(picture, _LARGEST)


def _outlined(picture: Tensor, box: Box) -> Tensor:
    """The picture with a white line around the box, and a black one around that."""
    left, top, wide, high = box
    framed = picture.clone()
    for distance, level in ((2, 0.0), (1, 1.0)):
        outer = framed[
            ..., max(0, top - distance) : top + high + distance, max(0, left - distance) : left + wide + distance
        ]
        outer[..., :1, :] = outer[..., -1:, :] = outer[..., :, :1] = outer[..., :, -1:] = level
    return framed
