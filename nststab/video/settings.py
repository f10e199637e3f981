"""Which part of a clip is read, at which size and rate; and how times, rates and sizes are written."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from nststab.settings import Settings, setting

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)")


def parse_time(text: str) -> Fraction:
    """Seconds of a time: 2.5, 1:02.5 or 1:00:02.5; ValueError where it is none."""
    match = _TIME.fullmatch(text.strip())
    hours, minutes, seconds = (Fraction(part or 0) for part in match.groups()) if match else (Fraction(-1),) * 3
    time = hours * 3600 + minutes * 60 + seconds
    if time < 0 or (hours and minutes >= 60) or (time > seconds >= 60):
        raise ValueError(f"{text!r}: expected a time as 2.5 (seconds) or 1:02:03.5")
    return time


def parse_rate(text: str) -> Fraction:
    """Frames per second: 25, 29.97 or 30000/1001; ValueError where it is none."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise ValueError(f"{text!r}: expected frames per second as 25, 29.97 or 30000/1001")
    return rate


def exact(value: Any) -> Any:
    """A number as the decimal that it is written as: 0.1 is a tenth; anything else as it is, which settings refuse."""
    try:
        return Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        return value


def parse_size(text: str) -> tuple[int, int]:
    """Width and height: 640x480; ValueError where it is none."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text, re.ASCII)
    if match is None:
        raise ValueError(f"{text!r}: expected width and height in pixels as 640x480")
    return int(match[1]), int(match[2])


def parse_side(text: str) -> int:
    """The longest side in pixels: 1280; ValueError where it is none, with what 720p is of a wide picture."""
    if match := re.fullmatch(r"(\d{2,5})[pP]", text, re.ASCII):
        wide = round(int(match[1]) * 16 / 9)
        raise ValueError(f"expected the longest side in pixels, got {text!r}, which is {wide} of a clip of 16:9")
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected the longest side in pixels, got {text!r}") from None


def parse_work_size(text: str) -> int | str:
    """A longest side as `parse_side` reads it, or full."""
    return text if text == "full" else parse_side(text)


@dataclass(frozen=True)
class ClipSettings(Settings):
    """What is read of a clip."""

    size: int | None = setting(
        None,
        "Longest side of the frames in pixels.",
        least=1,
        told="as they are",
        metavar="PIXELS",
        parse=parse_side,
    )
    start: Fraction | None = setting(
        None,
        "Begin at this time: seconds, or [hh:]mm:ss.",
        least=0,
        told="the beginning",
        metavar="TIME",
        parse=parse_time,
    )
    duration: Fraction | None = setting(
        None,
        "Take this much of the clip: seconds, or [hh:]mm:ss.",
        above=0,
        told="to the end",
        metavar="TIME",
        parse=parse_time,
    )
    fps: Fraction | None = setting(
        None,
        "Drop or repeat frames to this rate; the rate of pictures, else 25.",
        above=0,
        told="as it is",
        metavar="RATE",
        parse=parse_rate,
    )
    raw_size: tuple[int, int] | None = setting(
        None,
        "What comes from - is bare rgb24 frames of this size.",
        least=1,
        told="it is y4m",
        metavar="WxH",
        parse=parse_size,
    )
