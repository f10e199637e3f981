"""Reads animated WebP, PNG and AVIF as clips, by Pillow (animated GIF is a video to FFmpeg)."""

from collections.abc import Iterator
from fractions import Fraction
from math import lcm
from pathlib import Path

import torch
from torch import Tensor

from nststab.video.images import Picture, animated_pictures
from nststab.video.timing import WHOLE, Excerpt, Silent, Timed, converted, cut, retimed


class AnimationReader(Silent):
    """An excerpt of an animation, of which every picture is decoded once at the beginning, as only that tells its time.

    Raises:
        OSError: the file cannot be opened.
        ValueError: a picture cannot be read, or there is none in the excerpt.
    """

    def __init__(self, path: Path, part: Excerpt = WHOLE) -> None:
        self.path = path
        self.notes: list[str] = []
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
            return next(_channels(picture) for number, (picture, _) in pictures if number == wanted)

        return converted(self._shown, decode)


def _channels(picture: Picture) -> Tensor:
    return picture.rgb if picture.alpha is None else torch.cat([picture.rgb, picture.alpha], dim=1)
