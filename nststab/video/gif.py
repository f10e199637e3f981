"""Writes an animated GIF, frame by frame: palettes, dithering, times, what stays of the frame before (it needs av)."""

import struct
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import torch
from av.video.frame import VideoFrame
from torch import Tensor

from nststab.errors import NststabError
from nststab.storage.parts import Parts
from nststab.video.timing import Source

SIZE = 255  # colours of a palette; the 256th of a GIF is transparent
_ROUNDS = 10  # of k-means: more gain less than 0.1 dB
_BITS = 6  # of a channel in the table of colours whose mixture is remembered
_NEIGHBOURS = 8  # palette colours of which the second one is chosen
_GRAIN = 0.3  # how much the dithering's own noise counts beside the error of the mean colour
_CHUNK = 16384  # colours that are compared with the palette at once


def make_palette(pixels: Tensor) -> Tensor:
    """At most `SIZE` colours (K, 3) for pixels (N, 3) of 0 to 255, by k-means, seeded as k-means++ (Arthur 2007)."""
    distinct: Tensor = torch.unique(pixels, dim=0)
    if len(distinct) <= SIZE:
        return distinct
    colours = _seeds(pixels)
    for _ in range(_ROUNDS):
        nearest = torch.cdist(pixels, colours).argmin(1)
        counts = torch.bincount(nearest, minlength=SIZE).unsqueeze(1)
        sums = torch.zeros_like(colours).index_add_(0, nearest, pixels)
        colours = torch.where(counts > 0, sums / counts.clamp(min=1), colours)
    return colours.round_()


def _seeds(pixels: Tensor) -> Tensor:
    """Pixels drawn with a probability that grows with the squared distance from those drawn before."""
    generator = torch.Generator().manual_seed(0)
    channels = pixels.T.contiguous()  # (3, N), whose sums of squares are exact, and quick
    distance = torch.full((len(pixels),), torch.inf)
    seeds = [pixels[len(pixels) // 2]]
    for _ in range(SIZE - 1):
        distance = torch.minimum(distance, (channels - seeds[-1].unsqueeze(1)).square_().sum(0))
        seeds.append(pixels[torch.multinomial(distance, 1, generator=generator)[0]])
    return torch.stack(seeds)


def palette_error(pixels: Tensor, colours: Tensor) -> float:
    """The mean squared distance of pixels (N, 3) from the nearest of the colours (K, 3)."""
    return float(torch.cdist(pixels, colours).amin(1).square().mean())


def noise(height: int, width: int) -> Tensor:
    """Thresholds (H, W) in [0, 1) of an ordered dither without a visible grid: interleaved gradient noise.

    Jimenez, Next Generation Post Processing in Call of Duty: Advanced Warfare (2014).
    """
    y, x = torch.arange(height).unsqueeze(1), torch.arange(width)
    return (52.9829189 * (0.06711056 * x + 0.00583715 * y).frac()).frac()


class Dither:
    """Maps pixels to a palette `colours` (K, 3): each to one of the two colours between which it lies.

    Which of the two depends only on the pixel's colour and place, so that what does not change does not flicker. The
    two are chosen once for all colours which share their upper bits, as nearest in the mean, with little noise.
    """

    def __init__(self, colours: Tensor, pairs: Tensor | None = None) -> None:
        """pairs: what another one has chosen."""
        self.colours = colours
        self.pairs = torch.full((1 << 3 * _BITS, 2), -1, dtype=torch.int16) if pairs is None else pairs

    def __call__(self, pixels: Tensor, thresholds: Tensor) -> Tensor:
        """Indices (N,) of uint8 for pixels (N, 3) of 0 to 255, each with its threshold (N,) in [0, 1)."""
        upper = pixels.long() >> (8 - _BITS)
        cells = (upper[:, 0] << 2 * _BITS) + (upper[:, 1] << _BITS) + upper[:, 2]
        self._learn(cells, pixels)
        first, second = self.pairs[cells].long().unbind(1)
        start, step = self.colours[first], self.colours[second] - self.colours[first]
        share = ((pixels - start) * step).sum(1) / step.square().sum(1).clamp(min=1)
        return torch.where(share > thresholds, second, first).to(torch.uint8)

    def _learn(self, cells: Tensor, pixels: Tensor) -> None:
        """Choose the colours of the cells which come for the first time, for the mean of the pixels in each."""
        new = self.pairs[cells, 0] < 0
        found, places, counts = torch.unique(cells[new], return_inverse=True, return_counts=True)
        means = torch.zeros(len(found), 3).index_add_(0, places, pixels[new].float()) / counts.unsqueeze(1)
        for part, colours in zip(found.split(_CHUNK), means.split(_CHUNK), strict=True):
            self.pairs[part] = _mixtures(colours, self.colours).to(torch.int16)


def _mixtures(pixels: Tensor, colours: Tensor) -> Tensor:
    """The two colours (N, 2), by index, whose mixture is best for each of the pixels (N, 3); the first is nearest."""
    near = torch.cdist(pixels, colours).topk(min(_NEIGHBOURS, len(colours)), largest=False).indices  # (N, K)
    start = colours[near[:, :1]]  # (N, 1, 3)
    step = colours[near] - start  # (N, K, 3)
    length = step.square().sum(2)  # (N, K)
    wanted = pixels.unsqueeze(1) - start
    share = ((wanted * step).sum(2) / length.clamp(min=1)).clamp(0, 1)
    error = (wanted - share.unsqueeze(2) * step).square().sum(2) + _GRAIN * share * (1 - share) * length
    best = near.gather(1, error.argmin(1, keepdim=True))
    return torch.cat([near[:, :1], best], dim=1)


_TICKS = 100  # a second, in which GIF counts
_SHORTEST = 2  # ticks: browsers show frames of one tick, or none, ten times as long
_LARGEST = 65535  # of what is counted in 16 bits
_STILL = 2  # a pixel whose channels change by no more, of 255, stays as it is
_SAMPLES = 16384  # pixels that a palette is made for, at most
_WORSE = (1.5, 10.0)  # a new palette is made when the squared error grew by this factor, and this much
_TRANSPARENT = SIZE
_LOOP = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"  # for ever
_GREYS = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1)


class GifEncoder:
    """Writes frames of `width` by `height` pixels to `path` as a GIF that is shown for ever.

    A palette of 255 colours is kept until the picture needs another one, as after a cut, so that neither the palette
    nor the dithering moves where the picture stands still; a pixel that hardly changes is not even written. Times are
    rounded to 1/100 s without adding up. Frames less than 2/100 s after the one before are left out, which `notes`
    tells, as it does that there is no audio. Finished `parts` of the file are kept, and gone on behind.

    Raises:
        OSError: the file cannot be written.
        ValueError: a size above 65535 pixels.
    """

    def __init__(
        self, path: Path, output: Path, source: Source, audio: bool, width: int, height: int, parts: Parts | None = None
    ) -> None:
        if max(width, height) > _LARGEST:
            raise NststabError(f"{output}: expected at most {_LARGEST} pixels a side in a GIF, got {width}x{height}")
        self._notes: list[str] = []
        self._width, self._height = width, height
        self._noise = noise(height, width)
        self._places = _samples(height * width)
        # (H, W, 3): the pixels as they were when they were last written, and as they are shown; none are yet
        self._seen = torch.full((height, width, 3), -256, dtype=torch.int16)
        self._shown = self._seen.clone()
        self._dither: Dither | None = None
        self._error = 0.0
        self._pending = b""  # the last frame's image, until its duration is known
        self._start, self._end, self._at = Fraction(0), Fraction(0), 0
        self._count = self._dropped = 0
        if source.has_audio and audio:
            self._notes.append("GIF holds no audio: it was dropped")
        if source.aspect != 1:
            self._notes.append(f"GIF viewers show pixels square: those of the source are {source.aspect}")
        self._parts, self._open = parts, ExitStack()
        self._file: BinaryIO
        kept = None
        if parts is None:
            self._file = self._open.enter_context(path.open("wb"))
        else:
            self._file, kept = self._open.enter_context(parts.grown(path))
        if kept is None:
            self._file.write(b"GIF89a" + struct.pack("<HH", width, height) + b"\x70\x00\x00" + _LOOP)
        else:
            self._resume(kept)

    @property
    def notes(self) -> list[str]:
        """What the user should know about the result."""
        if not self._dropped:
            return self._notes
        dropped = f"{self._dropped} of {self._count} frames were left out"
        return [*self._notes, f"GIF shows at most {_TICKS // _SHORTEST} frames per second: {dropped}"]

    def write(self, pixels: Any, time: Fraction, duration: Fraction) -> None:
        """Write a frame of bytes (H, W, 3), shown `duration` seconds from `time` on."""
        self._start = time if self._count == 0 else self._start
        self._end = time + duration - self._start
        ticks = round((time - self._start) * _TICKS)
        self._count += 1
        if self._pending and ticks - self._at < _SHORTEST:
            self._dropped += 1
        else:
            self._flush(ticks)
            self._pending, self._at = self._image(torch.from_numpy(pixels).short()), ticks
        if self._parts is not None and self._count % Parts.length == 0:
            self._parts.keep_grown(self._file, (self._width, self._height), self._state())

    def _state(self) -> dict[str, Any]:
        """All that the next frames depend on."""
        dither = None if self._dither is None else [self._dither.colours, self._dither.pairs]
        times = [str(self._start), str(self._end)]
        counts = [self._at, self._count, self._dropped]
        pending = torch.frombuffer(bytearray(self._pending), dtype=torch.uint8)
        return {
            **{"seen": self._seen, "shown": self._shown, "dither": dither, "error": self._error},
            **{"pending": pending, "times": times, "counts": counts},
        }

    def _resume(self, state: dict[str, Any]) -> None:
        self._seen, self._shown, self._error = state["seen"], state["shown"], state["error"]
        if state["dither"] is not None:
            self._dither = Dither(*state["dither"])
        self._start, self._end = map(Fraction, state["times"])
        self._at, self._count, self._dropped = state["counts"]
        self._pending = state["pending"].numpy().tobytes()

    def finish(self) -> None:
        """Write the last frame and the end."""
        self._flush(max(round(self._end * _TICKS), self._at + _SHORTEST))
        self._file.write(b"\x3b")
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    def _flush(self, ticks: int) -> None:
        """Write the pending frame, which is shown until `ticks`: several times where that is longer than one can be."""
        keep, transparent = 1 << 2, 1
        while self._pending and self._at < ticks:
            rest = ticks - self._at
            delay = rest if rest <= _LARGEST else min(_LARGEST, rest - _SHORTEST)
            control = struct.pack("<BHB", keep | transparent, delay, _TRANSPARENT)
            self._file.write(b"\x21\xf9\x04" + control + b"\x00" + self._pending)
            self._at += delay

    def _image(self, pixels: Tensor) -> bytes:
        """The blocks of an image: what is to be drawn of a frame (H, W, 3), and its palette."""
        changed = ((pixels - self._seen).abs() > _STILL).any(2)
        self._seen[changed] = pixels[changed]
        dither = self._find_palette()
        indices = dither(pixels[changed], self._noise[changed])
        colours = dither.colours.short()[indices.long()]
        indices[(colours == self._shown[changed]).all(1)] = _TRANSPARENT
        self._shown[changed] = colours
        drawn = torch.full(changed.shape, _TRANSPARENT, dtype=torch.uint8)
        drawn[changed] = indices
        top, bottom = _bounds((drawn != _TRANSPARENT).any(1))
        left, right = _bounds((drawn != _TRANSPARENT).any(0))
        place = struct.pack("<HHHH", left, top, right - left, bottom - top)
        return b"\x2c" + place + b"\x87" + _table(dither.colours) + _lzw(drawn[top:bottom, left:right])

    def _find_palette(self) -> Dither:
        """The palette there is, or another if that has become much worse than it was when it was made."""
        samples = self._seen.view(-1, 3)[self._places].float()
        factor, more = _WORSE
        if self._dither is None or palette_error(samples, self._dither.colours) > factor * self._error + more:
            self._dither = Dither(make_palette(samples))
            self._error = palette_error(samples, self._dither.colours)
        return self._dither


def _samples(count: int) -> Tensor:
    """Which of so many pixels a palette is made for."""
    if count <= _SAMPLES:
        return torch.arange(count)
    return torch.randint(count, (_SAMPLES,), generator=torch.Generator().manual_seed(0))


def _bounds(changed: Tensor) -> tuple[int, int]:
    """From which to which of the rows, or columns, something changed: one that stays the same if none did."""
    places = changed.nonzero()
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 1)


def _table(colours: Tensor) -> bytes:
    table = torch.zeros(256, 3, dtype=torch.uint8)
    table[: len(colours)] = colours.to(torch.uint8)
    return table.numpy().tobytes()


def _lzw(indices: Tensor) -> bytes:
    """A picture's indices (H, W) as GIF's compressed blocks, which FFmpeg makes: its image without what is around."""
    height, width = indices.shape
    codec: Any = av.CodecContext.create("gif", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, "pal8", Fraction(1, _TICKS)
    codec.options = {"gifflags": "0"}
    picture: Any = (indices.contiguous().numpy(), _GREYS)
    frame = VideoFrame.from_ndarray(picture, format="pal8")
    data = b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode(None)))
    place = _after_table(13, data[10])
    while data[place] == 0x21:  # extensions
        place = _after_blocks(data, place + 2)
    place = _after_table(place + 10, data[place + 9])
    return data[place : _after_blocks(data, place + 1)]


def _after_table(place: int, flags: int) -> int:
    """Where a colour table that flags tell of ends."""
    return place + (3 << (flags & 7) + 1 if flags & 0x80 else 0)


def _after_blocks(data: bytes, place: int) -> int:
    """Where a row of blocks ends: each tells its length first, and the last one is empty."""
    while data[place]:
        place += data[place] + 1
    return place + 1
