"""The perceptual network: VGG-16 or VGG-19 features by layer name, from a state dict.

The paper computes its losses with VGG-19 (VGG-16 in its Figure 3). Which of the two this is follows from the weights.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nststab.errors import NststabError
from nststab.settings import Pooling as Pooling

Padding = Literal["zeros", "replicate"]


class Normalization(NamedTuple):
    """What weights expect of their input: RGB in [0, 1], minus `mean`, divided by `std`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


# The original weights come from Caffe: RGB means on a scale of 255, no division by a standard deviation.
CAFFE = Normalization((0.48502, 0.45796, 0.40760), (1 / 255, 1 / 255, 1 / 255))
# torchvision trained its own on normalised input; the original ones it also has, named IMAGENET1K_FEATURES, were not.
TORCHVISION = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def normalization(state_dict: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Normalization:
    """The normalisation of a file of weights: what its metadata says, else what its classifier tells.

    torchvision's own weights have one; in IMAGENET1K_FEATURES it is NaN. Without either the weights count as original.
    """
    if "mean" in metadata and "std" in metadata:
        mean, std = (tuple(float(value) for value in metadata[name].split(",")) for name in ("mean", "std"))
        return Normalization(mean, std)
    classifier = state_dict.get("classifier.0.bias")
    return TORCHVISION if classifier is not None and bool(classifier.isfinite().all()) else CAFFE


class _Convolution(NamedTuple):
    layer: str  # name of the ReLU behind it, e.g. "relu3_3"
    key: str  # state-dict prefix, e.g. "features.14"
    pooled: bool  # a 2x2 pooling stands before it


def _plan(state_dict: Mapping[str, Tensor]) -> list[_Convolution]:
    """Reads blocks off torchvision's numbering: convolutions are 2 apart, 3 when a pooling is between."""
    indices = _indices(state_dict)
    plan: list[_Convolution] = []
    block, number, before = 1, 0, -2
    for index in indices:
        step = index - before
        if step not in (2, 3):
            raise NststabError(
                f"expected convolutions 2 or 3 places apart as in VGG, found features.{before} and features.{index}"
            )
        block, number = (block + 1, 1) if step == 3 else (block, number + 1)
        plan.append(_Convolution(f"relu{block}_{number}", f"features.{index}", step == 3))
        before = index
    return plan


def _indices(state_dict: Mapping[str, Tensor]) -> list[int]:
    """Places of the convolutions in order; ValueError unless they are a chain of 3x3 convolutions on RGB, with bias."""
    expected = "expected VGG-16 or VGG-19 weights (torchvision's features.N.weight), without batch normalisation"
    names = [match[1] for key in state_dict if (match := re.fullmatch(r"features\.(.*)\.weight", key))]
    if "0" not in names or not all(name.isdecimal() for name in names):  # others have features.conv0 or features.0.0
        raise NststabError(f"{expected}, got {', '.join(list(state_dict)[:3]) or 'no tensors'}")
    indices = sorted(map(int, names))
    channels = 3
    for index in indices:
        weight, bias = state_dict[f"features.{index}.weight"], state_dict.get(f"features.{index}.bias")
        if weight.shape[1:] != (channels, 3, 3) or bias is None or bias.shape != weight.shape[:1]:
            raise NststabError(f"{expected}, got features.{index} of shape {tuple(weight.shape)}")
        channels = len(weight)
    return indices


@dataclass(frozen=True)
class Tile:
    """A part of a picture, and what is around it as far as its features see; made by `PerceptualNetwork.tiles`.

    Attributes:
        pixels: (N, 3, h, w), the part and what is around it.
        top, left: where these begin.
        core: the part's first and last row and column, (top, bottom, left, right).
        strides: pixels from a feature to the next, of each layer.
    """

    images: Tensor
    top: int
    left: int
    bottom: int
    right: int
    core: tuple[int, int, int, int]
    strides: Mapping[str, int]

    @property
    def pixels(self) -> Tensor:
        return self.of(self.images)

    def of(self, images: Tensor) -> Tensor:
        """The tile of other pictures of the same size."""
        return images[:, :, self.top : self.bottom, self.left : self.right]

    def cores(self, network: "PerceptualNetwork", pixels: Tensor | None = None) -> dict[str, Tensor]:
        """The features of the part alone, of its own pixels or of others in their place."""
        features = network(self.pixels if pixels is None else pixels, tuple(self.strides))
        cut = {}
        for layer, values in features.items():
            _, _, rows, columns = self.place(layer)
            top, left = self.top // self.strides[layer], self.left // self.strides[layer]
            cut[layer] = values[:, :, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        return cut

    def place(self, layer: str) -> tuple[slice, slice, slice, slice]:
        """Where the part's features stand among those of the whole."""
        stride = self.strides[layer]
        top, bottom, left, right = (edge // stride for edge in self.core)
        return slice(None), slice(None), slice(top, bottom), slice(left, right)

    def whole(self, layer: str) -> tuple[int, int]:
        """Rows and columns of the features of the whole."""
        height, width = self.images.shape[-2:]
        return height // self.strides[layer], width // self.strides[layer]

    def share(self, layer: str) -> float:
        """Of the features of the whole those of the part."""
        (height, width), (_, _, rows, columns) = self.whole(layer), self.place(layer)
        return float((rows.stop - rows.start) * (columns.stop - columns.start) / (height * width))


class TooSmall(NststabError):
    """Images that poolings leave nothing of."""


class PerceptualNetwork(nn.Module):
    """Frozen VGG features (Simonyan and Zisserman 2014).

    Args:
        state_dict: torchvision's names, `features.N.weight` (C_out, C_in, 3, 3) and `features.N.bias`; other keys are
            ignored. A truncated network is fine.
        input_normalization: what these weights expect.
        pooling: "max" is VGG's own; Gatys et al. 2016 (section 2) replace it by the mean of the same 2x2 pixels.
        padding: "zeros" is VGG's own, which for it are the edge of something gray around each picture; "replicate"
            repeats the last row and column of all features, and is no edge.

    Raises:
        ValueError: the state dict is not a plain VGG's, or another pooling.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        state_dict: Mapping[str, Tensor],
        input_normalization: Normalization = CAFFE,
        pooling: Pooling = "max",
        padding: Padding = "zeros",
    ) -> None:
        super().__init__()
        if pooling not in ("max", "average"):
            raise NststabError(f"expected max or average pooling, got {pooling}")
        self.pooling = pooling
        self.padding = padding
        self._pool = F.max_pool2d if pooling == "max" else F.avg_pool2d
        self._convolutions = _plan(state_dict)
        self.register_buffer("mean", torch.tensor(input_normalization.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(input_normalization.std).view(3, 1, 1))
        self.weights = nn.ParameterDict()
        for convolution in self._convolutions:
            for part in ("weight", "bias"):
                value = state_dict[f"{convolution.key}.{part}"].float()
                self.weights[f"{convolution.layer}_{part}"] = nn.Parameter(value, requires_grad=False)
        self.to(memory_format=torch.channels_last)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that these weights reach, shallow to deep."""
        return tuple(convolution.layer for convolution in self._convolutions)

    @property
    def fingerprint(self) -> str:
        """Tells networks apart by their first layer, in 16 bits as the bundled one has it, and their pooling.

        VGG-16 and VGG-19 have the same shapes at the style layers, and Gram matrices of one are nonsense to the other.
        """
        weight = self.weights[f"{self.layers[0]}_weight"].detach().cpu().half().contiguous()
        digest = hashlib.blake2b(weight.numpy().tobytes(), digest_size=8).hexdigest()
        return digest if self.pooling == "max" else f"{digest}-{self.pooling}"

    def require(self, layers: Collection[str]) -> None:
        """Raises ValueError where the weights do not reach all of `layers`."""
        missing = sorted(set(layers) - set(self.layers))
        if missing:
            raise NststabError(
                f"these weights have no layer {', '.join(missing)}; they reach {self.layers[0]} to {self.layers[-1]}"
            )

    def reach(self, layers: Collection[str]) -> tuple[int, int]:
        """After how many pixels the poolings before `layers` begin anew, and, in such steps, how far features see."""
        stride, around = 1, 0
        for convolution in self._upto(layers):
            if convolution.pooled:
                stride, around = 2 * stride, around + stride
            around += stride
        return stride, -(-around // stride) * stride

    def tiles(self, images: Tensor, layers: Collection[str], side: int) -> Iterator[Tile]:
        """The parts of pictures (N, 3, H, W), `side` pixels each, a multiple of the step of `reach`, for `layers`."""
        _, around = self.reach(layers)
        height, width = images.shape[-2:]
        strides = {layer: self.reach([layer])[0] for layer in layers}
        for top, left in product(range(0, height, side), range(0, width, side)):
            bottom, right = min(height, top + side), min(width, left + side)
            yield Tile(
                images,
                max(0, top - around),
                max(0, left - around),
                min(height, bottom + around),
                min(width, right + around),
                (top, bottom, left, right),
                strides,
            )

    def _upto(self, layers: Collection[str]) -> Iterator[_Convolution]:
        """The convolutions up to the deepest of `layers`."""
        left = set(layers)
        for convolution in self._convolutions:
            if not left:
                return
            left.discard(convolution.layer)
            yield convolution

    def forward(self, images: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """Features of `images` (N, 3, H, W), RGB in [0, 1], at `layers`: name -> (N, C, H', W').

        Computes no deeper than the deepest layer asked for.

        Raises:
            ValueError: a layer that the weights do not reach. TooSmall: images too small for the poolings before it.
        """
        self.require(layers)
        features: dict[str, Tensor] = {}
        x = (images - self.mean) / self.std
        for convolution in self._upto(layers):
            if convolution.pooled:
                if min(x.shape[-2:]) < 2:
                    size = f"{images.shape[-1]}x{images.shape[-2]}"
                    raise TooSmall(f"images of {size} pixels are too small for {convolution.layer}")
                x = self._pool(x, 2)
            weight, bias = self.weights[f"{convolution.layer}_weight"], self.weights[f"{convolution.layer}_bias"]
            # in place: convolutions need their input again for the gradient, never their output
            if self.padding == "replicate":
                convolved = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), weight, bias)
            else:
                convolved = F.conv2d(x, weight, bias, padding=1)
            x = F.relu(convolved, inplace=True)
            if convolution.layer in layers:
                features[convolution.layer] = x
        return features
