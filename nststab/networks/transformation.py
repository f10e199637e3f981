"""The transformation network, plain and recurrent: Gupta et al. 2017, section 4, after Johnson et al. 2016."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nststab.errors import NststabError

STRIDE = 4  # two stride-2 convolutions: the network works on multiples of 4
MARGIN = 20  # of the light networks: 16 leave a border of four pixels to be seen, and 32 hide no more than 20
EPSILON = 1e-5  # which instance normalisation adds to the variance
MINIMUM = 8  # reflecting 4 pixels needs 5, reflecting 1 pixel behind the stride needs 2 of 4


Kind = Literal["paper", "light"]


@dataclass(frozen=True)
class NetworkConfig:
    """What a checkpoint needs to rebuild its network.

    Attributes:
        recurrent: whether it sees the previous stylized frame, in three more input channels.
        widths: channels at full size (of `light` before the output only), at half and at a quarter of it.
        blocks: residual blocks.
        margin: how many pixels a frame is reflected by on each side before the network and cut off after it: next to
            its border a network draws otherwise than within, so the border is drawn where nobody sees it.
        kind: the architecture, one of `KINDS`.
        styles: names of the styles that it holds; a network of one style needs none.
    """

    recurrent: bool = False
    widths: tuple[int, int, int] = (32, 64, 128)
    blocks: int = 5
    margin: int = 0
    kind: Kind = "paper"
    styles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.widths) != 3 or min(self.widths) < 1 or min(self.blocks, self.margin) < 0:
            raise NststabError(f"expected three positive widths, and at least 0 blocks and margin, got {self}")
        if self.kind not in KINDS:
            raise NststabError(f"expected a network of the kind {' or '.join(KINDS)}, got {self.kind!r}")

    @property
    def rows(self) -> int:
        """How many styles it holds."""
        return max(1, len(self.styles))

    @property
    def inputs(self) -> int:
        """Channels of its input."""
        return 6 if self.recurrent else 3

    def has_weights_of(self, other: "NetworkConfig") -> bool:
        """Whether a network of one takes the weights of the other: they differ in the margin at most."""
        return replace(self, margin=other.margin) == other


class InstanceNorm(nn.Module):
    """Conditional instance normalisation of (N, C, H, W): a scale and a shift of each style (Dumoulin et al. 2017)."""

    def __init__(self, styles: int, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(styles, channels))
        self.shift = nn.Parameter(torch.zeros(styles, channels))

    def forward(self, x: Tensor, style: Tensor | None) -> Tensor:
        """`style` (N, S) weighs the styles; None stands for the only one."""
        if style is None:
            return F.instance_norm(x, weight=self.scale[0], bias=self.shift[0], eps=EPSILON)
        scale, shift = ((style[:, :, None] * rows).sum(1)[:, :, None, None] for rows in (self.scale, self.shift))
        return torch.addcmul(shift.to(x.dtype), F.instance_norm(x, eps=EPSILON), scale.to(x.dtype))

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *others: Any) -> None:
        """Takes what was written when a network held one style without a row of its own: (C,)."""
        for name in ("scale", "shift"):
            if (value := state.get(prefix + name)) is not None and value.ndim == 1:
                state[prefix + name] = value[None]
        super()._load_from_state_dict(state, prefix, *others)


_PHASES = {
    "nearest": (((1, 1, 0), (0, 0, 1)), ((1, 0, 0), (0, 1, 1))),  # from an odd row on: one more, which is cropped
    "bilinear": (
        ((0.75, 0.25, 0), (0.25, 0.75, 0.75), (0, 0, 0.25)),
        ((0.25, 0, 0), (0.75, 0.75, 0.25), (0, 0.25, 0.75)),
    ),
}
"""Of every other row of a picture upsampled by two: what two or three rows before it add to each of three there."""


class ConvolutionBlock(nn.Module):
    """Padding, convolution, instance normalisation; optionally upsampled before and a ReLU behind.

    An upsampling by two and the 3x3 convolution behind it are one linear map, whose four phases (even and odd rows and
    columns) are convolutions of the picture before: 3x3 too for `bilinear`, for `nearest` 2x2, with 4/9 of the
    multiplications. Nothing of the large picture is interpolated or padded, and four times the channels suit
    processors. The border is replicated, which for `nearest` is the reflection of the upsampled picture; for `bilinear`
    a quarter of its outer pixel is another.
    """

    def __init__(
        self,
        styles: int,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        upsample: Literal["nearest", "bilinear"] | None = None,
        relu: bool = True,
    ) -> None:
        super().__init__()
        assert upsample is None or (kernel, stride) == (3, 1)  # which `_PHASES` are for
        self.padding = kernel // 2
        self.upsample = upsample
        self.relu = relu
        # no bias: the normalisation's shift is one
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, bias=False)
        self.normalization = InstanceNorm(styles, outputs)
        self.phases: Tensor | None
        phases = None if upsample is None else torch.tensor(_PHASES[upsample], dtype=torch.float32)
        self.register_buffer("phases", phases, persistent=False)

    def forward(self, x: Tensor, style: Tensor | None) -> Tensor:
        padded = F.pad(x, (self.padding,) * 4, mode=self.border)
        x = self.normalization(self.convolved(padded), style)
        return F.relu(x) if self.relu else x

    @property
    def border(self) -> Literal["reflect", "replicate"]:
        """How a picture is padded, by `padding` on each side."""
        return "reflect" if self.upsample is None else "replicate"

    @property
    def scale(self) -> int:
        """How many times as large as the stride alone would have it a picture becomes."""
        return 1 if self.upsample is None else 2

    @property
    def crops(self) -> bool:
        """Whether what it makes has a pixel too much on each side."""
        return self.upsample == "nearest"

    def convolved(self, padded: Tensor) -> Tensor:
        """The convolution, of twice the size where it upsamples."""
        convolved = F.conv2d(padded, self.kernel(), stride=self.convolution.stride)
        if self.scale > 1:
            convolved = F.pixel_shuffle(convolved, self.scale)
        return convolved[..., 1:-1, 1:-1] if self.crops else convolved

    def kernel(self) -> Tensor:
        """The convolution's weights (O, C, k, k); where it upsamples those of the phases, (4 O, C, n, n)."""
        weight, phases = self.convolution.weight, self.phases
        if phases is None:
            return weight
        rows = (phases[None, :, None, :, :, None] * weight[:, None, :, None]).sum(-2)  # (O, 2, C, n, k)
        kernel = (phases[:, None, None] * rows[:, :, None, :, :, None]).sum(-1).flatten(0, 2)
        channels_last = weight.is_contiguous(memory_format=torch.channels_last)
        return kernel.contiguous(memory_format=torch.channels_last) if channels_last else kernel


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut, no ReLU after the sum (Johnson et al. 2016)."""

    def __init__(self, styles: int, channels: int) -> None:
        super().__init__()
        self.first = ConvolutionBlock(styles, channels, channels, 3)
        self.second = ConvolutionBlock(styles, channels, channels, 3, relu=False)

    def forward(self, x: Tensor, style: Tensor | None) -> Tensor:
        residual: Tensor = self.second(self.first(x, style), style)
        return x + residual


class Layers(NamedTuple):
    """The layers of an architecture, made in this order: a seed decides what they begin with."""

    encoder: list[ConvolutionBlock]
    blocks: list[ResidualBlock]
    decoder: list[ConvolutionBlock]
    output: nn.Conv2d


def _paper(config: NetworkConfig) -> Layers:
    """Johnson et al. 2016: a 9x9 convolution at full size, two of stride 2, nearest-neighbour upsampling."""
    styles, (narrow, middle, wide) = config.rows, config.widths
    encoder = [
        ConvolutionBlock(styles, config.inputs, narrow, 9),
        ConvolutionBlock(styles, narrow, middle, 3, stride=2),
        ConvolutionBlock(styles, middle, wide, 3, stride=2),
    ]
    blocks = [ResidualBlock(styles, wide) for _ in range(config.blocks)]
    decoder = [
        ConvolutionBlock(styles, wide, middle, 3, upsample="nearest"),
        ConvolutionBlock(styles, middle, narrow, 3, upsample="nearest"),
    ]
    return Layers(encoder, blocks, decoder, nn.Conv2d(narrow, 3, 9))


def _light(config: NetworkConfig) -> Layers:
    """No convolution at full size but the last, small one; large strided ones that begin as low-passes; bilinear."""
    styles, (narrow, middle, wide) = config.rows, config.widths
    encoder = [
        ConvolutionBlock(styles, config.inputs, middle, 7, stride=2),
        ConvolutionBlock(styles, middle, wide, 5, stride=2),
    ]
    for block in encoder:
        _begin_as_low_pass(block.convolution)
    blocks = [ResidualBlock(styles, wide) for _ in range(config.blocks)]
    decoder = [
        ConvolutionBlock(styles, wide, middle, 3, upsample="bilinear"),
        ConvolutionBlock(styles, middle, narrow, 3, upsample="bilinear"),
    ]
    return Layers(encoder, blocks, decoder, nn.Conv2d(narrow, 3, 3))


KINDS: Mapping[str, Callable[[NetworkConfig], Layers]] = {"paper": _paper, "light": _light}
"""The architectures, by `NetworkConfig.kind`."""


def _begin_as_low_pass(convolution: nn.Conv2d) -> None:
    """Weighs a new kernel by a binomial window of the same energy: what a stride would alias begins small."""
    side = convolution.kernel_size[0]
    line = torch.tensor([math.comb(side - 1, k) for k in range(side)], dtype=torch.float32)
    window = line[:, None] * line / line.sum() ** 2
    with torch.no_grad():
        convolution.weight.mul_(window / window.square().mean().sqrt())


class Framed(NamedTuple):
    """Pictures with the margin that a network needs around them, (N, C, H', W'), and where they stand in it."""

    x: Tensor
    top: int
    left: int
    height: int
    width: int

    def cropped(self, result: Tensor) -> Tensor:
        """Of a result (N, 3, H', W') what belongs to the pictures."""
        return result[..., self.top : self.top + self.height, self.left : self.left + self.width]


class TransformationNetwork(nn.Module):
    """Frame in, stylized frame out; the recurrent kind also sees the previous stylized frame: p_t = f(p_{t-1}, c_t).

    Gupta et al. 2017, section 4.1. Two stride-2 convolutions, residual blocks, two upsamplings, RGB by a sigmoid as in
    Dumoulin et al. 2017; `NetworkConfig.kind` tells the rest. Any size goes in and comes out: odd and tiny ones are
    padded by replication, then cropped.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        layers = KINDS[config.kind](config)
        self.encoder = nn.ModuleList(layers.encoder)
        self.blocks = nn.ModuleList(layers.blocks)
        self.decoder = nn.ModuleList(layers.decoder)
        self.output = layers.output

    def forward(self, frame: Tensor, previous: Tensor | None = None, style: Tensor | None = None) -> Tensor:
        """Stylizes `frame` (N, 3, H, W) in [0, 1].

        Args:
            previous: the stylized frame before it, of the same shape. None stands for the first frame of a shot:
                zeros, as in the paper. An independent network takes none.
            style: (N, S), weights of the network's S styles; None stands for the only one.

        Raises:
            NststabError: a `previous` for an independent network, or weights of another number of styles.
        """
        framed = self.framed(frame, previous, style)
        x = framed.x
        for layer in (*self.encoder, *self.blocks, *self.decoder):
            x = layer(x, style)
        with torch.autocast(x.device.type, enabled=False):  # bf16 has too few bits for the 256 levels of a picture
            padded = reflect(x.to(self.output.weight.dtype), self.output.kernel_size[0] // 2)
            x = torch.sigmoid(self.output(padded))
        return framed.cropped(x)

    def framed(self, frame: Tensor, previous: Tensor | None, style: Tensor | None) -> "Framed":
        """What the first layer gets of the arguments of `forward`, which are checked."""
        rows = self.config.rows
        if (rows > 1) if style is None else style.shape != (len(frame), rows):
            got = "none" if style is None else tuple(style.shape)
            raise NststabError(f"expected weights of styles ({len(frame)}, {rows}), got {got}")
        if self.config.recurrent:
            frame = torch.cat((frame, torch.zeros_like(frame) if previous is None else previous), dim=1)  # (N, 6, H, W)
        elif previous is not None:
            raise NststabError("an independent network takes no previous frame")
        height, width = frame.shape[-2:]
        top, left = (min(self.config.margin, side - 1) for side in (height, width))  # so far a frame can be reflected
        x = F.pad(frame, (left, left, top, top), mode="reflect")
        if (across := _missing(x.shape[-1])) | (down := _missing(x.shape[-2])):  # or it would be a copy
            x = F.pad(x, (0, across, 0, down), mode="replicate")
        return Framed(x, top, left, height, width)


def make_recurrent(network: TransformationNetwork) -> TransformationNetwork:
    """A recurrent network which ignores the previous frame, so it draws what the independent `network` draws.

    The weights of the three new input channels are zero; fine-tuning starts there.
    """
    if network.config.recurrent:
        raise NststabError("expected an independent network, got a recurrent one")
    recurrent = TransformationNetwork(replace(network.config, recurrent=True))
    state = network.state_dict()
    first = state["encoder.0.convolution.weight"]  # (C, 3, k, k)
    state["encoder.0.convolution.weight"] = torch.cat((first, torch.zeros_like(first)), dim=1)
    recurrent.load_state_dict(state)
    return recurrent


def transfer_recurrence(
    network: TransformationNetwork, independent: TransformationNetwork, recurrent: TransformationNetwork
) -> TransformationNetwork:
    """`network` made recurrent, plus what fine-tuning changed when it made `recurrent` of `independent`.

    The difference of the two is added tensor by tensor (Ilharco et al. 2023, task arithmetic): it holds how to use the
    previous frame, of which little belongs to the style.

    Raises:
        ValueError: the networks are of different shapes, or of the wrong kind.
    """
    if not recurrent.config.recurrent:
        raise NststabError("expected a recurrent network to take the recurrence from, got an independent one")
    base, tuned = make_recurrent(independent).state_dict(), recurrent.state_dict()
    result = make_recurrent(network)
    state = result.state_dict()
    shapes = [{name: value.shape for name, value in part.items()} for part in (state, base, tuned)]
    if not shapes[0] == shapes[1] == shapes[2]:
        raise NststabError("expected networks of the same widths and blocks to transfer the recurrence between")
    for name, value in state.items():  # where the network is the base, the sum is `recurrent` without any rounding
        state[name] = torch.where(value == base[name], tuned[name], value + (tuned[name] - base[name]))
    result.load_state_dict(state)
    return result


def with_margin(network: TransformationNetwork, margin: int) -> TransformationNetwork:
    """A copy of `network` that reflects frames by another margin: the weights do not depend on it."""
    copy = TransformationNetwork(replace(network.config, margin=margin))
    copy.load_state_dict(network.state_dict())
    return copy


def interpolate(first: TransformationNetwork, second: TransformationNetwork, share: float) -> TransformationNetwork:
    """The network whose weights are (1 - share) times those of `first` and share times those of `second`.

    Between two networks of one training it draws what lies between theirs (weight averaging, Izmailov et al. 2018).
    Raises ValueError where they are not of one kind, or the share is not in [0, 1].
    """
    if first.config != second.config:
        kinds = [", ".join(_differing(one.config, other.config)) for one, other in ((first, second), (second, first))]
        raise NststabError(f"expected two networks of one training, got two kinds: {kinds[0]} and {kinds[1]}")
    if not 0 <= share <= 1:
        raise NststabError(f"expected a share from 0 to 1, got {share}")
    between = TransformationNetwork(first.config)
    weights, others = first.state_dict(), second.state_dict()
    between.load_state_dict({name: torch.lerp(value, others[name], share) for name, value in weights.items()})
    return between


def _differing(config: NetworkConfig, other: NetworkConfig) -> Iterator[str]:
    """What sets a network apart from another, in words."""
    for field in fields(config):
        value = getattr(config, field.name)
        if value != getattr(other, field.name):
            plain = "recurrent" if value else "independent"
            yield plain if field.name == "recurrent" else f"{field.name} {value}"


def reflect(x: Tensor, padding: int) -> Tensor:
    """Reflection padding of (N, C, H, W)."""
    return F.pad(x, (padding, padding, padding, padding), mode="reflect")


def _missing(length: int) -> int:
    """Pixels to add so that `length` is a multiple of the stride, and large enough to be reflected after the stride."""
    return max(-(-length // STRIDE) * STRIDE, MINIMUM) - length
