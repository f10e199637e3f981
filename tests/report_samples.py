"""Reports for the tests of the page: scenes whose clips show their colour and count their frames, and their videos."""

import base64
import itertools
from fractions import Fraction
from typing import Any

import torch

from nststab.report.scene import Atlas
from nststab.video.images import encode_picture
from nststab.video.writer import encode_clip
from tests import browser as tools

HEIGHT, WIDTH = 64, 96
COLORS = ((200, 40, 40), (40, 160, 60), (50, 60, 200), (200, 180, 40), (180, 60, 180), (60, 180, 180), (120, 120, 120))
HEAT = (252, 255, 164)
TIMES = [i / 25 for i in range(24)]
UNEVEN = [0.0, 0.02, 0.2, 0.21, 0.5, 0.9, 0.94, 1.0, 1.3, 1.31, 1.35, 2.0]
PIXEL = "data:image/png;base64," + base64.b64encode(encode_picture(".png", torch.full((1, 3, 50, 50), 0.5))).decode()
MEASURES = [
    {"key": "ssim", "name": "SSIM of corresponding patches", "unit": "", "better": "higher"},
    {"key": "warp", "name": "warping error", "unit": "", "better": "lower"},
    {"key": "change", "name": "change from the frame before", "unit": "levels of 255", "better": "lower"},
]
Json = Any


def curves(clip: int, frames: int, shots: list[int]) -> dict[str, list[float | None]]:
    known = [frame not in shots for frame in range(frames)]
    return {
        "ssim": [0.9 - 0.1 * clip - 0.01 * t if ok else None for t, ok in enumerate(known)],
        "warp": [0.001 * (clip + 1) + 0.0001 * t if ok else None for t, ok in enumerate(known)],
        "change": [2.0 * clip + 0.5 * t if ok else None for t, ok in enumerate(known)],
    }


def scene(names: list[str], number: int, times: list[float], end: float, heat: bool = True) -> Json:
    shots = [0, len(times) // 2]
    atlas = Atlas(len(names), WIDTH, HEIGHT)
    clips = [
        {
            "name": name,
            "series": i,
            "rect": list(atlas.clips[i]),
            "heat": list(atlas.heats[i]) if heat else None,
            "curves": curves(i, len(times), shots),
        }
        for i, name in enumerate(names)
    ]
    box = [24, 16, 32, 16]
    pair = {"previous": PIXEL, "current": PIXEL}
    each = range(len(names))
    return {
        "name": f"scene {number}",
        "style": 0,
        "video": f"video-{number}",
        "width": WIDTH,
        "height": HEIGHT,
        "aspect": 1.0,
        "times": times,
        "end": end,
        "shots": shots,
        "note": "the first 2 s of 4 s",
        "clips": clips,
        "crops": [
            {
                "kind": "least",
                "frame": 5,
                "boxes": [[0, 0, 32, 32], box],
                "cells": [{"clip": i, **pair, "psnr": 21.34, "ssim": 0.5432} for i in each],
            }
        ],
        "occlusions": [
            {
                "frames": [1, 3, 7],
                "box": box,
                "cells": [{"clip": i, "pictures": [PIXEL] * 3, "change": 12.34} for i in each],
            }
        ],
        "failures": [
            {
                "frame": 9,
                "box": box,
                "error": 40.25,
                "flow": PIXEL,
                "mask": PIXEL,
                "cells": [{"clip": i, **pair} for i in each],
            }
        ],
    }


def video(clips: int, times: list[float], end: float, first: int = 0) -> bytes:
    """An atlas of clips of one colour each, and the frame's number counted from `first`; heat maps of another."""
    atlas = Atlas(clips, WIDTH, HEIGHT)
    heat = (torch.tensor(HEAT) / 255).view(1, 3, 1, 1).expand(-1, -1, HEIGHT, WIDTH)
    begins = [Fraction(time).limit_denominator(1000) for time in (*times, end)]
    frames = (
        (
            atlas.compose(
                [tools.counter_frame(first + t, COLORS[i], HEIGHT, WIDTH) for i in range(clips)], [heat] * clips
            ),
            begin,
            until - begin,
        )
        for t, (begin, until) in enumerate(itertools.pairwise(begins))
    )
    return encode_clip(frames, Fraction(25))


def report(scenes: list[Json], **more: Json) -> Json:
    return {
        "title": "a title",
        "subtitle": "nststab compare, 2026-11-23",
        "findings": ["b is steadier than c: +3.2 dB PSNR; style loss -4 %", "so it is"],
        "measures": MEASURES,
        "styles": [{"name": "a style", "image": PIXEL, "text": "by a painter"}],
        "scenes": scenes,
        "tables": [{"title": "means", "columns": ["", "PSNR dB"], "rows": [["input", "30.1"]], "note": "a note"}],
        "settings": {"size": 432, "methods": ["b", "c"], "cuts": True, "limit": None, "flow": {"method": "dis"}},
        "versions": {"nststab": "0.1.0"},
        "command": "nststab compare a.mp4",
        "left_out": ["48 of 50 scenes"],
        **more,
    }


NAMES = ["input", "b", "c"]
DATA = report([scene(NAMES, 0, TIMES, 0.96), scene(NAMES[:2], 1, UNEVEN, 2.4)])
