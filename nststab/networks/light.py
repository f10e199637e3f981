"""The light network of many styles: little aliasing, conditional instance normalisation (Dumoulin et al. 2017)."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nststab.errors import NststabError
from nststab.networks.checkpoints import FORMAT, _named, _part, _training, _write, read_tensors

_STRIDE = 4  # two convolutions of stride 2
_LEAST = 12  # pixels behind the margin: reflecting one behind the strides needs two of four


@dataclass(frozen=True)
class LightConfig:
    """What a checkpoint needs to rebuild its network.

    Attributes:
        styles: names, such as "the_great_wave@512"; the style vector has a weight for each.
        width: channels at a quarter of the resolution.
        margin: pixels by which a frame is reflected on each side before the network, and that are cut off after it.
    """

    styles: tuple[str, ...]
    width: int = 48
    blocks: int = 5
    recurrent: bool = False
    margin: int = 16
    kind: str = "light"


class ConditionalNorm(nn.Module):
    """Instance normalisation of (N, C, H, W) whose scale and shift are mixed from those of the styles, by (N, S)."""

    def __init__(self, styles: int, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(styles, channels))
        self.shift = nn.Parameter(torch.zeros(styles, channels))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            scale, shift = style @ self.scale, style @ self.shift  # (N, C)
        return torch.addcmul(shift[:, :, None, None], F.instance_norm(x), scale[:, :, None, None])


class Convolution(nn.Module):
    """Reflection padding, convolution, normalisation; bilinearly upsampled before, a ReLU behind where asked for.

    A stride of 2 begins as a low-pass: its weights lie under a binomial window, so that it aliases little.
    """

    def __init__(
        self, styles: int, inputs: int, outputs: int, kernel: int, stride: int = 1, up: bool = False, relu: bool = True
    ) -> None:
        super().__init__()
        self.padding, self.up, self.relu = kernel // 2, up, relu
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, bias=False)
        self.normalization = ConditionalNorm(styles, outputs)
        if stride == 2:
            row = torch.tensor([math.comb(kernel - 1, place) for place in range(kernel)], dtype=torch.float32)
            window = torch.outer(row, row)
            with torch.no_grad():
                self.convolution.weight.mul_(window / window.square().mean().sqrt())

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        if self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        x = self.normalization(self.convolution(F.pad(x, (self.padding,) * 4, mode="reflect")), style)
        return F.relu(x) if self.relu else x


class Residual(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, styles: int, channels: int) -> None:
        super().__init__()
        self.first = Convolution(styles, channels, channels, 3)
        self.second = Convolution(styles, channels, channels, 3, relu=False)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        residual: Tensor = self.second(self.first(x, style), style)
        return x + residual


class LightNetwork(nn.Module):
    """Frame in, painted frame out, in a mixture of its styles; 9 GFLOP at 512x512 where the paper's network takes 85.

    Any size goes in and comes out: odd and small ones are padded by replication, then cropped.
    """

    def __init__(self, config: LightConfig) -> None:
        super().__init__()
        self.config = config
        styles, width = len(config.styles), config.width
        self.encoder = nn.ModuleList(
            [
                Convolution(styles, 6 if config.recurrent else 3, width // 2, 7, 2),
                Convolution(styles, width // 2, width, 5, 2),
            ]
        )
        self.blocks = nn.ModuleList([Residual(styles, width) for _ in range(config.blocks)])
        self.decoder = nn.ModuleList(
            [
                Convolution(styles, width, width // 2, 3, up=True),
                Convolution(styles, width // 2, width // 4, 3, up=True),
            ]
        )
        self.output = nn.Conv2d(width // 4, 3, 3)

    def forward(self, frame: Tensor, previous: Tensor | None, style: Tensor) -> Tensor:
        """Paints `frame` (N, 3, H, W) in [0, 1] in the mixture `style` (N, S), after `previous` if recurrent."""
        if self.config.recurrent:
            frame = torch.cat((frame, torch.zeros_like(frame) if previous is None else previous), dim=1)
        elif previous is not None:
            raise NststabError("an independent network takes no previous frame")
        height, width = frame.shape[-2:]
        top, left = (min(self.config.margin, side - 1) for side in (height, width))  # so far a frame can be reflected
        x = F.pad(frame, (left, left, top, top), mode="reflect")
        x = F.pad(x, (0, _missing(x.shape[-1]), 0, _missing(x.shape[-2])), mode="replicate")
        for part in (*self.encoder, *self.blocks, *self.decoder):
            x = part(x, style)
        with torch.autocast(x.device.type, enabled=False):  # bf16 has too few bits for the 256 levels of a picture
            x = torch.sigmoid(self.output(F.pad(x.to(self.output.weight.dtype), (1, 1, 1, 1), mode="reflect")))
        return x[..., top : top + height, left : left + width]


def save_light(path: Path, network: LightNetwork, training: Mapping[str, Any]) -> None:
    """Writes weights in float16, the config and the record of the training to a `.safetensors` file."""
    metadata = {"format": FORMAT, "network": json.dumps(asdict(network.config))}
    _write(path, _named("network", network.state_dict()), training, metadata, torch.float16)


def load_light(path: Path) -> tuple[LightNetwork, dict[str, Any]]:
    """The network and the record that `save_light` wrote; raises NststabError for another file."""
    tensors, metadata = read_tensors(path)
    values = json.loads(metadata.get("network", "{}"))
    if values.get("kind") != "light":
        raise NststabError(f"{path} holds no light network")
    network = LightNetwork(LightConfig(**{**values, "styles": tuple(values["styles"])}))
    network.load_state_dict(_part("network", tensors))
    return network, _training(path, metadata.get("training", "{}"))


def _missing(length: int) -> int:
    return max(-(-length // _STRIDE) * _STRIDE, _LEAST) - length
