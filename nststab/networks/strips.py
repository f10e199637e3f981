"""A network on a picture of any size in little memory: strips of rows, and the result of the whole.

Instance normalisation takes the mean and the variance of a layer over the whole picture, and they depend on all layers
before. So the network runs layer by layer: strip by strip the result of a convolution is written to a file, and its
statistics are gathered; the next layer reads the file and normalises what it reads. Nothing is computed twice, there
are no seams, and the result differs from that of the whole by rounding alone.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nststab.networks.transformation import EPSILON, ConvolutionBlock, InstanceNorm, TransformationNetwork

_COPIES = 12  # of a strip and of its result that are in memory at a time: with what a convolution keeps, measured
_LEAST_ROWS = 8  # so that a strip can be reflected


class _Source(Protocol):
    """What a layer reads: rows of (1, C, H, W)."""

    channels: int
    height: int
    width: int

    def rows(self, low: int, high: int) -> Tensor: ...


class _Picture:
    """A frame, and before it the previous one, with the margin that the network needs."""

    def __init__(
        self, network: TransformationNetwork, frame: Tensor, previous: Tensor | None, style: Tensor | None
    ) -> None:
        down, across = (torch.arange(side, dtype=torch.float32) for side in frame.shape[-2:])
        framed = network.framed(down.view(1, 1, -1, 1).expand(1, 3, -1, 1), None, style)
        self.top, self._down = framed.top, framed.x[0, 0, :, 0].long()  # which row stands where
        framed = network.framed(across.view(1, 1, 1, -1).expand(1, 3, 1, -1), None, style)
        self.left, self._across = framed.left, framed.x[0, 0, 0].long()
        self._frame, self._previous = frame, previous
        self.channels, self.height, self.width = network.config.inputs, len(self._down), len(self._across)
        self._device = network.output.weight.device

    def rows(self, low: int, high: int) -> Tensor:
        places = self._down[low:high]
        shown = [one[:, :, places][..., self._across].to(self._device) for one in self._pictures()]
        if len(shown) * 3 < self.channels:
            shown.append(torch.zeros_like(shown[0]))
        return torch.cat(shown, dim=1)

    def _pictures(self) -> Iterator[Tensor]:
        yield self._frame
        if self._previous is not None:
            yield self._previous


class _Stored:
    """Rows that were written to a file one after the other, (1, C, n, W) at a time."""

    def __init__(self, path: Path, channels: int, height: int, width: int) -> None:
        self.channels, self.height, self.width = channels, height, width
        self._path, self._kind, self._device = path, torch.float32, torch.device("cpu")
        self._file = path.open("wb")

    def write(self, rows: Tensor) -> None:
        self._kind, self._device = rows.dtype, rows.device
        self._file.write(rows[0].transpose(0, 1).contiguous().cpu().view(torch.uint8).numpy().data)

    def finish(self) -> None:
        self._file.close()

    def rows(self, low: int, high: int) -> Tensor:
        count = (high - low) * self.channels * self.width
        data = bytearray(count * self._kind.itemsize)
        with self._path.open("rb") as file:
            file.seek(low * self.channels * self.width * self._kind.itemsize)
            file.readinto(data)
        read = torch.frombuffer(data, dtype=self._kind).view(high - low, self.channels, self.width)
        return read.to(self._device).transpose(0, 1)[None].float()

    def remove(self) -> None:
        self._path.unlink()


@dataclass
class _Normalized:
    """What a convolution gave, normalised when it is read; with a shortcut around it, which is added."""

    stored: _Stored
    factor: Tensor
    offset: Tensor
    relu: bool
    shortcut: _Source | None = None

    def __post_init__(self) -> None:
        self.channels, self.height, self.width = self.stored.channels, self.stored.height, self.stored.width

    def rows(self, low: int, high: int) -> Tensor:
        x = torch.addcmul(self.offset, self.stored.rows(low, high), self.factor)
        if self.shortcut is not None:
            x += self.shortcut.rows(low, high)
        return x.relu_() if self.relu else x


class _Statistics:
    """Mean and variance of each channel, of strips that come one after the other (Chan et al. 1979)."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1)

    def add(self, rows: Tensor) -> None:
        variance, mean = torch.var_mean(rows.float(), dim=(0, 2, 3), correction=0)
        count, variance, mean = rows[0, 0].numel(), variance.cpu().double(), mean.cpu().double()  # MPS has no float64
        whole = self._count + count
        apart = mean - self._mean
        self._squares = self._squares + count * (variance + apart.square() * (self._count / whole))
        self._mean = self._mean + apart * (count / whole)
        self._count = whole

    def affine(self, norm: InstanceNorm, style: Tensor | None) -> tuple[Tensor, Tensor]:
        """What to multiply by and to add, (1, C, 1, 1): the normalisation, and the scale and shift of the style."""
        weights = norm.scale.new_ones(1, 1) if style is None else style
        scale, shift = ((weights @ rows)[0].cpu().double() for rows in (norm.scale, norm.shift))
        factor = scale / (self._squares / self._count + EPSILON).sqrt()
        offset = shift - self._mean * factor
        device = norm.scale.device
        return factor.float().view(1, -1, 1, 1).to(device), offset.float().view(1, -1, 1, 1).to(device)


class StripNetwork:
    """Runs a network in strips, of which no more than `room` bytes are in memory at a time; layers wait in `folder`.

    Args:
        arithmetic: makes the context in which the convolutions are computed.
    """

    def __init__(
        self,
        network: TransformationNetwork,
        room: float,
        folder: Path,
        arithmetic: AbstractContextManager[object] = nullcontext(),  # noqa: B008  it holds nothing
    ) -> None:
        self._network, self._room, self._folder, self._arithmetic = network, room, folder, arithmetic
        self._count = 0

    @torch.no_grad()
    def __call__(self, frame: Tensor, previous: Tensor | None = None, style: Tensor | None = None) -> Tensor:
        """The stylized frame, as of `TransformationNetwork.forward` but for (1, 3, H, W), on the CPU."""
        network = self._network
        picture = _Picture(network, frame, previous, style)
        x: _Source = picture
        layer: Any
        for layer in network.encoder:
            x = self._advanced(x, layer, style)
        for layer in network.blocks:
            inner = self._convolved(x, layer.first, style)
            second = self._convolved(inner, layer.second, style)
            inner.stored.remove()
            second.shortcut = x
            x = self._written(second)
        for layer in network.decoder:
            x = self._advanced(x, layer, style)
        result = torch.empty_like(frame)
        for low, rows in self._strips(x, network.output):
            kept = torch.sigmoid(rows)[..., picture.left : picture.left + frame.shape[-1]].cpu()
            begin = max(0, picture.top - low)  # of the strip's rows the first that belongs to the picture
            place = low + begin - picture.top
            end = min(kept.shape[2], begin + frame.shape[-2] - place)
            if end > begin:
                result[:, :, place : place + end - begin] = kept[:, :, begin:end]
        _remove(x)
        return result

    def _advanced(self, x: _Source, block: ConvolutionBlock, style: Tensor | None) -> _Source:
        """The next layer; the one before is not needed any more."""
        made = self._convolved(x, block, style)
        _remove(x)
        return made

    def _convolved(self, x: _Source, block: ConvolutionBlock, style: Tensor | None) -> _Normalized:
        found, stored = _Statistics(), None
        for _, rows in self._strips(x, block):
            if stored is None:
                stored = self._new(rows, _height(x, block.convolution) * block.scale)
            found.add(rows)
            stored.write(rows)
        assert stored is not None
        stored.finish()
        return _Normalized(stored, *found.affine(block.normalization, style), block.relu)

    def _written(self, x: _Normalized) -> "_Normalized":
        """The sum of a block and its shortcut, which are not needed any more."""
        stored = self._new(x.rows(0, 1), x.height)
        step = self._rows(2 * x.channels * x.width)
        for low in range(0, x.height, step):
            stored.write(x.rows(low, min(x.height, low + step)))
        stored.finish()
        _remove(x)
        one = torch.ones(1, x.channels, 1, 1, device=x.factor.device)
        return _Normalized(stored, one, torch.zeros_like(one), relu=False)

    def _strips(self, x: _Source, layer: ConvolutionBlock | nn.Conv2d) -> Iterator[tuple[int, Tensor]]:
        """The results of a convolution of the whole, strip by strip, each with its first row's number."""
        if isinstance(layer, ConvolutionBlock):
            convolution, convolved, scale, border = layer.convolution, layer.convolved, layer.scale, layer.border
        else:
            convolution, convolved, scale, border = layer, layer.__call__, 1, "reflect"
        stride, padding = convolution.stride[0], convolution.kernel_size[0] // 2
        outputs = _height(x, convolution)
        made_row = convolution.out_channels * x.width * scale**2 // stride
        step = self._rows(x.channels * x.width * stride + made_row)
        exact = layer is self._network.output  # bfloat16 has too few bits for the 256 levels of a picture
        for low in range(0, outputs, step):
            high = min(outputs, low + step)
            first, last = low * stride - padding, (high - 1) * stride + padding + 1
            rows = x.rows(max(0, first), min(x.height, last))
            rows = F.pad(rows, (padding, padding, max(0, -first), max(0, last - x.height)), mode=border)
            with torch.autocast(rows.device.type, enabled=False) if exact else self._arithmetic:
                made = convolved(rows)
            yield low * scale, made

    def _rows(self, values: int) -> int:
        """How many rows of so many values fit into the memory, with all copies."""
        return max(_LEAST_ROWS, int(self._room / (4 * _COPIES * values)))

    def _new(self, rows: Tensor, height: int) -> _Stored:
        self._count += 1
        return _Stored(self._folder / f"layer_{self._count}", rows.shape[1], height, rows.shape[3])


def _height(x: _Source, convolution: nn.Conv2d) -> int:
    """Rows of a convolution's result, where it is padded by half of its kernel."""
    return math.ceil(x.height / convolution.stride[0])


def _remove(x: _Source | None) -> None:
    if isinstance(x, _Normalized):
        x.stored.remove()
        _remove(x.shortcut)
