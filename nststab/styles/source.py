"""What names a style: a shipped style, a picture, a checkpoint, or a blend of several."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from nststab.errors import NststabError, SettingError
from nststab.losses import StyleTarget, blend, style_target
from nststab.networks.checkpoints import Checkpoint, load_checkpoint, load_target
from nststab.storage.jobs import content_hash
from nststab.styles.shipped import NETWORKS, UnknownStyle, find_style, style_in, styles
from nststab.vgg import PerceptualNetwork, TooSmall
from nststab.video.images import READABLE_SUFFIXES, read_opaque, resize

log = logging.getLogger(__name__)

_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class StyleSource:
    """What the user calls the style: a shipped style, a picture, a checkpoint, or a folder with one of each method."""

    text: str
    picture: Path | None = None
    checkpoint: Callable[[str], Path] | None = None  # by feed-forward method
    shipped: Path | None = None  # the picture that lies beside a shipped checkpoint
    targets: Path | None = None  # the file of Gram targets beside it, where there is one
    folder: Path | None = None  # what it was read from, where that is the folder of a trained style

    @property
    def sources(self) -> "tuple[StyleSource, ...]":
        """Itself, as those of a blend."""
        return (self,)

    @property
    def identity(self) -> str:
        """Its name and the content of the files that decide its Gram targets, to tell unfinished work apart by."""
        files = [file for file in (self.picture, self.shipped, self.targets) if file]
        if self.checkpoint and not self.targets and (network := self.checkpoint("independent")).is_file():
            files.append(network)
        return f"{Path(self.text).name} ({content_hash(files)})"

    @property
    def scalable(self) -> bool:
        """Whether it has a picture, which can be taken in another size."""
        return self.picture is not None or self.shipped is not None

    def drawn(self) -> "StyleSource":
        """Itself by its picture, where it has one, and not by the Gram targets of the size that it was trained with."""
        return replace(self, picture=self.picture or self.shipped)

    def trained(self, method: str) -> Checkpoint:
        """The checkpoint for a feed-forward method; raises SettingError where there is none."""
        if self.checkpoint is None:
            raise SettingError(
                f"the method {method} needs a trained style, {self.text} is a picture; "
                "train one with train_style, or use the method ruder or gatys"
            )
        path = self.checkpoint(method)
        if not path.is_file():
            raise SettingError(f"the style {self.text} has no network for the method {method}")
        checkpoint = load_checkpoint(path)
        if checkpoint.network.config.recurrent != (method == "recurrent"):
            kind = "recurrent" if checkpoint.network.config.recurrent else "independent"
            raise SettingError(f"{self.text} is a network for the method {kind}, not {method}")
        return checkpoint

    def target(self, network: PerceptualNetwork, layers: tuple[str, ...], longest_side: int) -> StyleTarget:
        """Gram targets: of the picture at `longest_side`, or those that were kept when the style was trained.

        Kept ones that lack any of `layers` come with the layers that they have. Where they are another network's or
        lack layers and the picture lies beside them, they are computed from it. ValueError where there are none.
        """
        device = network.mean.device
        if self.picture:
            return picture_target(self.picture, network, layers, longest_side, "--size")
        style, training = self._kept()
        fits = bool(style) and _made_with(network, style, training)
        complete = set(layers) <= set(style)
        if self.shipped and not (fits and complete):
            return replace(self, picture=self.shipped).target(network, layers, longest_side)
        if not style:
            raise NststabError(f"{self.text} carries no Gram targets; give the style's picture instead")
        if not fits:
            raise NststabError(
                f"{self.text} carries Gram targets of another perceptual network (gatys.network, "
                f"gatys.vgg_weights, gatys.pooling){self._unpictured()}; give the style's picture instead"
            )
        return {layer: style[layer].to(device) for layer in (layers if complete else style)}

    def _kept(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        """The Gram targets beside the networks, or else in the independent one's checkpoint, and how they were made."""
        if self.targets:
            return load_target(self.targets)
        assert self.checkpoint is not None
        path = self.checkpoint("independent")
        if not path.is_file():
            return {}, {}
        checkpoint = load_checkpoint(path)
        return checkpoint.style, checkpoint.training

    def _unpictured(self) -> str:
        """Why no others can be computed, of a style that might have had its picture beside it."""
        return ", and the picture that others would be computed from is not beside them" if self.folder else ""


def picture_target(
    path: Path, network: PerceptualNetwork, layers: tuple[str, ...], longest_side: int, option: str
) -> StyleTarget:
    """Gram targets of a picture at a longest side, which `option` decides; NststabError where it is too narrow then."""
    picture = resize(read_opaque(path), longest_side).to(network.mean.device)
    try:
        return style_target(network, picture, layers)
    except TooSmall as error:
        raise NststabError(f"the style {path}: {error}; crop it, or take a larger {option}") from error


def _made_with(network: PerceptualNetwork, style: StyleTarget, training: Mapping[str, Any]) -> bool:
    """Whether Gram targets are those of `network`, as far as their record and their shapes tell."""
    own = network.fingerprint
    return training.get("perceptual", own) == own and all(
        style[layer].shape[-1] == len(network.weights[f"{layer}_bias"]) for layer in set(style) & set(network.layers)
    )


@dataclass(frozen=True)
class StyleBlend:
    """Several styles at once, each with its weight; only the optimisation methods can follow it."""

    sources: tuple[StyleSource, ...]
    weights: tuple[float, ...]

    @property
    def text(self) -> str:
        return ",".join(source.text for source in self.sources)

    @property
    def scalable(self) -> bool:
        return any(source.scalable for source in self.sources)

    def drawn(self) -> "StyleBlend":
        """Itself by the pictures of those that have one."""
        return replace(self, sources=tuple(source.drawn() for source in self.sources))

    def trained(self, method: str) -> Checkpoint:
        """No network was trained for a blend: raises SettingError."""
        raise SettingError(f"the method {method} takes one style, got {self.text}; use the method ruder or gatys")

    def target(self, network: PerceptualNetwork, layers: tuple[str, ...], longest_side: int) -> StyleTarget:
        """The weighted mean of the styles' Gram targets."""
        return blend([source.target(network, layers, longest_side) for source in self.sources], self.weights)


Style = StyleSource | StyleBlend


def chosen_style(chosen: str | Path | Sequence[str | Path], weights: Sequence[float] | None = None) -> Style:
    """One style, or the blend of several, equal parts by default.

    Raises SettingError where there is none, and for a wrong number of weights.
    """
    several = isinstance(chosen, Sequence) and not isinstance(chosen, str)
    sources = tuple(map(style_source, chosen if several else [chosen]))  # type: ignore[arg-type]
    if not sources:
        there = ", ".join(style.name for style in styles())
        raise SettingError(f"style: none was given; there are {there}, and ruder and gatys follow any picture")
    if weights is not None and len(weights) != len(sources):
        raise SettingError(f"gatys.style_weights has {len(weights)} numbers for {len(sources)} styles")
    if len(sources) == 1:
        return sources[0]
    return StyleBlend(sources, tuple(weights or (1.0,) * len(sources)))


def style_source(named: str | Path) -> StyleSource:
    """What a text or path names; raises SettingError for a file that is missing and for an unknown name."""
    if not isinstance(named, str | Path):
        raise SettingError(f"style: expected a name or a path, got {named!r:.60}")
    text, path = str(named), Path(named)
    suffix = path.suffix.lower()
    if path.is_file() and suffix in _WEIGHT_SUFFIXES:
        beside = path.with_name("target.safetensors") if path.stem in NETWORKS else None
        return StyleSource(text, checkpoint=lambda _method: path, targets=_existing(beside))
    if path.is_file() and suffix in READABLE_SUFFIXES:
        return StyleSource(text, picture=path)
    if path.is_file():
        raise SettingError(f"the style {text} is neither a picture nor weights ({', '.join(_WEIGHT_SUFFIXES)})")
    style = style_in(path) if path.is_dir() else None
    if style is None and (suffix or "/" in text):
        fault = "is a folder that holds no trained style" if path.is_dir() else "does not exist"
        raise SettingError(f"the style {text} {fault}")
    try:
        style = style or find_style(text)
    except UnknownStyle as error:
        if path.is_dir():
            raise SettingError(f"the folder {text} holds no trained style, and {error}") from error
        raise SettingError(
            f"{error} (nststab styles shows them; a picture's or checkpoint's path works too)"
        ) from error
    if text in [shipped.name for shipped in styles()] and path.is_dir() and path.samefile(style.folder):
        log.warning(f"the style {text} is the folder of that name here, not the shipped one")
    return StyleSource(
        text,
        checkpoint=style.checkpoint,
        shipped=style.image,
        targets=_existing(style.target),
        folder=style.folder,
    )


def _existing(path: Path | None) -> Path | None:
    return path if path and path.is_file() else None


def style_name(text: str) -> str:
    """What the rows call a style: a file's name without its suffix, or a folder's."""
    path = Path(text)
    return path.name if path.is_dir() else path.stem
