"""The files of networks and of Gram targets."""

import json
import math
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from nststab.errors import MissingFile, NststabError
from nststab.networks.transformation import NetworkConfig, TransformationNetwork
from nststab.storage.durable import write_durably

FORMAT = "nststab-network-1"
TARGET_FORMAT = "nststab-target-2"
_WHOLE_TARGETS = "nststab-target-1"  # before: both halves of each matrix
_STEP = ".step"  # of the integers of a convolution's output channels
_STEPS = 47  # from 0 to an output channel's greatest weight, with which all shipped networks keep 50 dB


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with the Gram targets of its style and the record of its training.

    Attributes:
        style: layer -> Gram matrix (1, C, C), divided by C·H·W; `gatys` and `ruder` need no image beside these. Empty
            where they are kept in a file of their own (`save_target`).
        training: settings, seed, data and last losses, as JSON values.
    """

    network: TransformationNetwork
    style: Mapping[str, Tensor] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint, dtype: torch.dtype = torch.float16) -> None:
    """Writes a `.safetensors` file, whole or not at all, with the network's settings in its metadata.

    In `torch.int8` the convolutions have 95 levels, in steps of each output channel, which take 6 bits in a wheel, and
    all else has 16 bits.

    Raises:
        ValueError: another suffix, or weights that are not finite. OSError: the file cannot be written.
    """
    tensors = _named("network", checkpoint.network.state_dict()) | _named("style", checkpoint.style)
    network = json.dumps(asdict(checkpoint.network.config))
    _write(path, tensors, checkpoint.training, {"format": FORMAT, "network": network}, dtype)


def save_target(path: Path, target: Mapping[str, Tensor], training: Mapping[str, Any]) -> None:
    """Writes the Gram targets of a style, layer -> (1, C, C), to a `.safetensors` file as `save_checkpoint` does.

    Of each the upper triangle, as it is symmetric. Both networks of a style share them. `training` says what they were
    computed with: "perceptual", the network's fingerprint, and "style_size", the picture's longest side.

    Raises:
        ValueError: another suffix. OSError: the file cannot be written.
    """
    triangles = {layer: _triangle(gram) for layer, gram in target.items()}
    _write(path, _named("style", triangles), training, {"format": TARGET_FORMAT}, torch.float16)


def _write(
    path: Path,
    tensors: Mapping[str, Tensor],
    training: Mapping[str, Any],
    metadata: Mapping[str, str],
    dtype: torch.dtype,
) -> None:
    if path.suffix != ".safetensors":
        raise NststabError(f"networks and targets are kept in .safetensors files, got {path.name}")
    require_finite(tensors, "what was trained is not written")
    narrow: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if dtype is torch.int8 and value.ndim == 4:
            narrow[name], narrow[name + _STEP] = _rounded(value.detach().cpu())
        else:
            narrow[name] = _narrowed(value.detach().cpu(), torch.float16 if dtype is torch.int8 else dtype)
    write_durably(path, _in_order(save(narrow, {**metadata, "training": json.dumps(dict(training))})))


def _named(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the names that they have in a file: those of its `part`."""
    return {f"{part}.{name}": value for name, value in tensors.items()}


def _part(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The float32 tensors of a file's `part`, by their own names."""
    prefix = f"{part}."
    return {
        name.removeprefix(prefix): value.float() * tensors[name + _STEP].float()
        if name + _STEP in tensors
        else value.float()
        for name, value in tensors.items()
        if name.startswith(prefix) and not name.endswith(_STEP)
    }


def _in_order(file: bytes) -> bytes:
    """A `.safetensors` file with its header sorted: safetensors writes metadata in an order of chance.

    So one training gives one file, to the byte.
    """
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # aligned, as the format asks for
    return len(header).to_bytes(8, "little") + header + file[end:]


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The weight (O, I, h, w) of a convolution as int8, and the step of each output channel."""
    step = (weight.abs().amax((1, 2, 3), keepdim=True) / _STEPS).half()
    step[step == 0] = 1
    return (weight / step.float()).round().clamp(-_STEPS, _STEPS).to(torch.int8), step


def _triangle(gram: Tensor) -> Tensor:
    """What is on and above the diagonal of a Gram matrix (1, C, C), row by row: (C (C + 1) / 2,)."""
    rows, columns = torch.triu_indices(*gram.shape[1:])
    return gram[0, rows, columns]


def _gram(kept: Tensor, named: str) -> Tensor:
    """The Gram matrix (1, C, C) of its triangle, or of all of it as older files have it; `named` begins an error."""
    if kept.ndim == 3 and kept.shape == (1, kept.shape[-1], kept.shape[-1]):
        return kept
    channels = math.isqrt(2 * len(kept)) if kept.ndim == 1 else 0
    rows, columns = torch.triu_indices(channels, channels)
    if not channels or len(rows) != len(kept):
        raise NststabError(f"{named}: expected a Gram matrix (1, C, C) or its triangle, got {tuple(kept.shape)}")
    gram = kept.new_empty(1, channels, channels)
    gram[0, rows, columns] = gram[0, columns, rows] = kept
    return gram


def _narrowed(value: Tensor, dtype: torch.dtype) -> Tensor:
    """`value` in `dtype`, as it is where that overflows: Gram matrices of some styles come near float16's 65504."""
    narrow = value.to(dtype)
    return (narrow if torch.equal(narrow.isfinite(), value.isfinite()) else value).contiguous()


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a `.safetensors` checkpoint, or a `.pth` with the same tensors (never unpickling code).

    Raises:
        MissingFile: there is no such file. ValueError: it is no checkpoint, one of another architecture, or one
            whose weights are not finite.
    """
    if not path.is_file():
        raise MissingFile(f"no such checkpoint: {path}")
    tensors, metadata = read_tensors(path)
    weights = _part("network", tensors)
    if not weights or metadata.get("format", FORMAT) != FORMAT:
        raise NststabError(
            f"{path} holds no transformation network of nststab (expected tensors named network.* and format {FORMAT})"
        )
    try:
        config = _config(json.loads(metadata["network"])) if "network" in metadata else _infer_config(weights)
        network = TransformationNetwork(config)
        network.load_state_dict(weights)
    except (KeyError, IndexError, TypeError, RuntimeError, ValueError) as error:
        raise NststabError(
            f"{path} holds the weights of another architecture: {str(error).splitlines()[-1].strip()}"
        ) from error
    require_finite(tensors, f"{path} is of no use")
    return Checkpoint(network, _part("style", tensors), _training(path, metadata.get("training", "{}")))


def holds_many(path: Path) -> bool:
    """Whether a file of weights has rows of styles by name; False for one that cannot be read, which loading tells."""
    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, "pt") as file:
            return bool(json.loads((file.metadata() or {}).get("network", "{}")).get("styles"))
    except (SafetensorError, ValueError, AttributeError):
        return False


def load_target(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `save_target` wrote: the Gram targets, and the record of what they were computed with.

    Raises:
        MissingFile: there is no such file. ValueError: it holds no Gram targets, or damaged ones.
    """
    if not path.is_file():
        raise MissingFile(f"no such file of Gram targets: {path}")
    tensors, metadata = read_tensors(path)
    target = _part("style", tensors)
    if not target or metadata.get("format") not in (TARGET_FORMAT, _WHOLE_TARGETS):
        raise NststabError(
            f"{path} holds no Gram targets of nststab (expected tensors named style.* and format {TARGET_FORMAT})"
        )
    require_finite(tensors, f"{path} is of no use")
    grams = {layer: _gram(kept, f"{path}: {layer}") for layer, kept in target.items()}
    return grams, _training(path, metadata.get("training", "{}"))


def require_finite(tensors: Mapping[str, Tensor], consequence: str) -> None:
    """Raises NststabError, with the first of `tensors` that holds NaN or infinity and what that means."""
    for name, value in tensors.items():
        if not bool(value.isfinite().all()):
            raise NststabError(f"{consequence}: {name} holds NaN or infinity; take another one, or train it anew")


def _training(path: Path, text: str) -> dict[str, Any]:
    """The record of the training, which must be a JSON object."""
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError) as error:
        raise NststabError(f"the training record of {path} is damaged: {text[:40]!r}") from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name and metadata of a `.safetensors`, or of a `.pth` with `weights_only=True`.

    Raises:
        ValueError: a file of another kind, a damaged one, or a pickle that wants to run code.
    """
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
        except SafetensorError as error:
            raise NststabError(f"{path} is not a readable .safetensors file: {error}") from error
    if path.suffix not in (".pth", ".pt"):
        raise NststabError(f"expected weights in a .safetensors, .pth or .pt file, got {path.name}")
    loaded = _unpickle(path)
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise NststabError(f"expected a dictionary of named tensors in {path}")
    if not all(isinstance(value, Tensor) for value in loaded.values()):
        raise NststabError(f"expected nothing but tensors in {path}")
    return loaded, {}


def _unpickle(path: Path) -> Any:
    """What a `.pth` holds; ValueError where it is damaged or wants to run code."""
    with path.open("rb") as file, warnings.catch_warnings(action="ignore"):  # about the protocol of a damaged file
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise NststabError(f"refused to load {path}: it holds more than tensors, or is no checkpoint") from error
        except Exception as error:  # a damaged pickle can raise anything: KeyError, AssertionError, struct.error, ...
            raise NststabError(f"refused to load {path}: it is damaged, or no checkpoint") from error


def _config(values: Mapping[str, Any]) -> NetworkConfig:
    lists = {name: tuple(values[name]) for name in ("widths", "styles") if name in values}
    return NetworkConfig(**{**values, **lists})


def _infer_config(weights: Mapping[str, Tensor]) -> NetworkConfig:
    """A `.pth` has no metadata; the shapes tell the same."""
    convolutions = [weights[f"encoder.{i}.convolution.weight"] for i in range(3)]
    narrow, middle, wide = (len(weight) for weight in convolutions)
    blocks = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    return NetworkConfig(convolutions[0].shape[1] == 6, (narrow, middle, wide), blocks)
