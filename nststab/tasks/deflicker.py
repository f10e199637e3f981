"""Take the flicker out of a clip that any program made, by the motion of the original that it made it of."""

import itertools
import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from nststab.errors import NststabError
from nststab.frames import Frame
from nststab.listener import Listener, reported, silent
from nststab.measure.pairing import LAG_WINDOW, find_lag, small
from nststab.methods.deflicker import Deflicker, steadied
from nststab.methods.settings import DeflickerSettings, strength_curve
from nststab.tasks.stylize import checked_output, kept_output
from nststab.video.clip import Clip, check_output, convert_clip, open_clip
from nststab.video.timing import PICTURE_RATE

log = logging.getLogger(__name__)

_SAME = 0.005  # of a rate, by which another one is the same


@dataclass(frozen=True)
class Deflickered:
    """What `deflicker` did.

    Attributes:
        alone: how many of the `frames` had no original, and were followed by their own motion.
        lag: frames by which the original was found to be ahead of the clip.
        notes: what the user should know about the output, such as audio that it cannot hold.
    """

    output: str
    frames: int
    width: int
    height: int
    seconds: float
    alone: int
    lag: int
    notes: tuple[str, ...]


def deflicker(
    processed: str | Path,
    output: str | Path,
    *,
    original: str | Path | None = None,
    strength: float | Sequence[tuple[float, float]] | None = None,
    cuts: bool = True,
    audio: bool = True,
    settings: DeflickerSettings | None = None,
    overwrite: bool = False,
    progress: Listener = silent,
) -> Deflickered:
    """Steadies a clip that was stylized, colourised, restored or otherwise processed frame by frame.

        nststab.deflicker("processed.mp4", "steady.mp4", original="clip.mp4")

    The output has the size, times and audio of `processed`. The original may have another size; where both clips have
    times and rates differ, frames belong together by time, else by number; a lag of up to 8 frames is found.
    Each of these is logged. Cuts are looked for in the original, and nothing is held across one.

    Args:
        processed: a video, a folder or pattern of pictures, or - for standard input.
        output: a video, a folder of pictures (ends in a slash), or - for y4m on standard output.
        original: what `processed` was made of; without it the motion is looked for in `processed` itself, smoothed.
        strength: goes before that of `settings`: 0 is `processed` itself, 1 as steady as can be; pairs of a time in
            seconds and a strength make a curve, where pictures without times are taken for 25 a second.
        settings: all else; a clip from a pipe is by default steadied without a look-ahead.
        overwrite: replace what stands at `output`.

    Raises:
        SettingError: a setting is wrong, or the output exists. NststabError: the clips do not fit each other, or
        cannot be read. OSError: a file is missing or cannot be written.
    """
    clip = open_clip(processed)
    curve = None if strength is None else strength_curve(strength)
    chosen = DeflickerSettings.of(settings).changed(strength=curve)
    if chosen.look_ahead is None and not clip.is_seekable:
        chosen = chosen.changed(look_ahead=0)
    source = None if original is None else open_clip(original)
    for one in (clip,) if source is None else (clip, source):
        if one.kind == "picture":
            raise NststabError(f"{one.path}: expected a clip, got a picture, which cannot flicker")
        check_output(one, output)
    checked_output(output, [], raw=False, overwrite=overwrite)
    pairs = _Pairs(clip, source)
    if clip.kind == "folder" and clip.rate is None and len(chosen.strength) > 1:
        clip = replace(clip, rate=PICTURE_RATE)  # as they are shown, so that the curve has times
    started = time.monotonic()
    with (
        kept_output(clip, output, None, overwrite=overwrite),
        reported(progress, f"deflicker {clip.width}x{clip.height}, frames", clip.frame_count) as advance,
    ):
        result = convert_clip(
            clip,
            output,
            lambda frames: steadied(pairs.paired(frames), Deflicker(chosen), cuts),
            audio=audio,
            progress=lambda done, total: advance(done, total),
        )
    seconds = time.monotonic() - started
    if original is not None and pairs.alone:
        log.warning(f"{pairs.alone} frames have no original, before or after it: their own motion was followed")
    log.debug(f"{result.frames} frames in {seconds:.1f} s, {result.frames / seconds:.2f} a second")
    notes = tuple(result.notes)
    return Deflickered(str(output), result.frames, clip.width, clip.height, seconds, pairs.alone, pairs.lag, notes)


class _Pairs:
    """Gives each frame of a clip the frame of the original that belongs to it, as its `content`.

    Attributes:
        alone: frames so far that had none.
        lag: frames by which the original is ahead.
    """

    def __init__(self, clip: Clip, original: Clip | None) -> None:
        self._clip, self._original = clip, original
        self.alone = self.lag = 0
        self._by_time = False
        if original is None:
            log.info("no original: the motion is the clip's own, smoothed")
            return
        _check_shape(clip, original)
        if (original.width, original.height) != (clip.width, clip.height):
            log.info(f"{original.path} has {original.width}x{original.height} pixels: scaled to the clip's size")
        rates = [one.source.rate for one in (clip, original) if one.source is not None]
        frame = 1 / (clip.frame_count or math.inf)  # a cut-off last one alone makes the rate of an excerpt higher
        if len(rates) == 2 and not -_SAME <= rates[0] / rates[1] - 1 <= max(_SAME, frame):
            self._by_time = True
            log.info(f"{float(rates[0]):g} frames a second of {float(rates[1]):g}: matched by their times")
        elif clip.is_seekable and original.is_seekable:
            self.lag = find_lag(_first(original.path), _first(clip.path))
            if self.lag:
                ahead, behind = (original, clip) if self.lag > 0 else (clip, original)
                log.info(f"{ahead.path} was found to begin {abs(self.lag)} frames before {behind.path}: mended")

    def paired(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        originals = _due(() if self._original is None else self._original.frames(), self._by_time)
        current, following = next(originals, None), next(originals, None)
        for due, frame in _due(frames, self._by_time, self.lag):
            while following is not None and current is not None and abs(following[0] - due) <= abs(current[0] - due):
                current, following = following, next(originals, None)
            if current is None or due < 0 or (following is None and due - current[0] >= self._shown(current[1])):
                self.alone += 1
                yield frame
            else:
                yield replace(frame, content=current[1].rgb)

    def _shown(self, frame: Frame) -> Fraction:
        """How far after the original's last frame nothing belongs to it any more."""
        return frame.duration or Fraction(1, 25) if self._by_time else Fraction(1)


def _due(frames: Iterable[Frame], by_time: bool, lag: int = 0) -> Iterator[tuple[Fraction, Frame]]:
    """Frames with when they are due: in seconds from the first of their clip, or by number."""
    first: Fraction | None = None
    for frame in frames:
        if by_time and frame.time is not None:
            first = frame.time if first is None else first
            yield frame.time - first, frame
        else:
            yield Fraction(frame.number + lag), frame


def _first(path: Path) -> list[Tensor]:
    """A clip's first frames, small, all of one square shape."""
    return [small(frame.rgb) for frame in itertools.islice(open_clip(path).frames(), LAG_WINDOW)]


def _check_shape(clip: Clip, original: Clip) -> None:
    """Raises NststabError unless one scale makes both sides of the original the clip's, within a pixel or 1 %."""
    scale = clip.width / original.width
    if abs(original.height * scale - clip.height) > max(1.0 + scale, 0.01 * clip.height):
        raise NststabError(
            f"{clip.path}: expected the shape of {original.path}, {original.width}x{original.height} or scaled, "
            f"got {clip.width}x{clip.height}"
        )
