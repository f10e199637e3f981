"""What names a style: a shipped style, a picture, a checkpoint, or a blend of several."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nststab.errors import NststabError, SettingError
from nststab.losses import StyleTarget, blend, style_target
from nststab.networks.checkpoints import Checkpoint, holds_many, load_checkpoint, load_target
from nststab.networks.rows import PHOTOGRAPH, Look, styles_of, with_rows
from nststab.storage.jobs import content_hash
from nststab.styles.shipped import (
    LIGHT,
    NETWORKS,
    WEIGHT_SUFFIXES,
    light_network,
    light_picture,
    light_styles,
    named_style,
    parted,
    row_in_file,
    style_names,
    styles,
)
from nststab.vgg import PerceptualNetwork, TooSmall
from nststab.video.images import READABLE_SUFFIXES, read_opaque, resize

log = logging.getLogger(__name__)


class NoTarget(NststabError):
    """A style of which there is neither a picture nor Gram targets: only its network draws it."""


@dataclass(frozen=True)
class StyleSource:
    """What the user calls the style: a shipped style, a picture, a checkpoint, or a folder with one of each method."""

    text: str
    picture: Path | None = None
    checkpoint: Callable[[str], Path] | None = None  # by feed-forward method
    many: Callable[[str], Path] | None = None  # networks of many styles, this one among them, by method
    name: str | None = None  # in the networks of many styles; None where they hold one
    shipped: Path | None = None  # the picture that lies beside a shipped checkpoint
    targets: Path | None = None  # the file of Gram targets beside it, where there is one
    folder: Path | None = None  # what it was read from, where that is the folder of a trained style

    @property
    def sources(self) -> "tuple[StyleSource, ...]":
        """Itself, as those of a blend."""
        return (self,)

    @property
    def weights(self) -> tuple[float, ...]:
        """Its part, as those of a blend."""
        return (1.0,)

    def identity(self, methods: Iterable[str]) -> str:
        """Its name and `digest`, to tell unfinished work apart by."""
        return f"{Path(self.text).name} ({self.digest(methods)})"

    def digest(self, methods: Iterable[str]) -> str:
        """Tells contents apart of the files that decide what methods make of it.

        Those are its pictures and Gram targets, without which the independent network's file has them, and networks.
        """
        files = [file for file in (self.picture, self.shipped, self.targets) if file]
        used = {*(set(methods) & set(NETWORKS)), *(() if self.targets else ("independent",))}
        for by_method in (self.checkpoint, self.many):
            files += [by_method(method) for method in sorted(used) if by_method and by_method(method).is_file()]
        return content_hash(list(dict.fromkeys(files)))

    @property
    def scalable(self) -> bool:
        """Whether it has a picture, which can be taken in another size."""
        return self.picture is not None or self.shipped is not None

    def has(self, method: str) -> bool:
        """Whether there is a network for a feed-forward method."""
        by_method = self.checkpoint or self.many
        if by_method is None or not (path := by_method(method)).is_file():
            return False
        one_file = by_method("recurrent") == by_method("independent")  # of which the name tells nothing
        return not one_file or load_checkpoint(path).network.config.recurrent == (method == "recurrent")

    def drawn(self) -> "StyleSource":
        """Itself by its picture, where it has one, and not by the Gram targets of the size that it was trained with."""
        return replace(self, picture=self.picture or self.shipped)

    def trained(
        self, method: str, stroke: float | None = None, photograph: bool = False, side: int | None = None
    ) -> Checkpoint:
        """The checkpoint for a feed-forward method; raises SettingError where there is none.

        Of a network of many styles it is a network of this one, with strokes as `Look` has them for frames of `side`;
        `photograph` gives it a row before that one, which draws the frame as it is.
        """
        if self.checkpoint is None:
            return StyleBlend(self.sources, self.weights).trained(method, stroke, photograph, side)
        checkpoint = load_for(self.checkpoint(method), self.text, method)
        if stroke is not None or photograph:
            what = "stroke" if stroke is not None else "strength"
            hint = f"; {LIGHT}/{self.text} has" if self.text in light_styles() else ""
            raise SettingError(f"{what} has no effect on {self.text}, whose network has no rows to mix{hint}")
        return checkpoint

    def untrained(self, method: str, count: int) -> str:
        """Why no network draws it, alone or with others."""
        if self.picture is None and count > 1:
            shared = ", ".join(f"{LIGHT}/{name}" for name in light_styles())
            return f"the method {method} mixes the styles of one network, as {shared}; {self.text} has its own"
        return f"{self.is_no_network(method)}, or use the method ruder or gatys"

    def is_no_network(self, method: str) -> str:
        """Why a picture is not enough, and what it takes."""
        return f"the method {method} needs a trained style, {self.text} is a picture; train one with train_style"

    def row_of(self, rows: Sequence[str]) -> str:
        """Its name among the rows of its network; SettingError where that has several and none was named."""
        names = styles_of(rows)
        if self.name is None and len(names) != 1:
            raise SettingError(f"{self.text} holds the styles {', '.join(names)}; say {self.text}:NAME")
        return names[0] if self.name is None else self.name

    def target(self, network: PerceptualNetwork, layers: tuple[str, ...], longest_side: int) -> StyleTarget:
        """Gram targets: of the picture at `longest_side`, or those that were kept when the style was trained.

        Kept ones that lack any of `layers` come with the layers that they have. Where they are another network's or
        lack layers and the picture lies beside them, they are computed from it; so they are, at their own size, where
        `network` pads otherwise than with the zeros that all were made with. ValueError where there are none.
        """
        device = network.mean.device
        if self.picture:
            return picture_target(self.picture, network, layers, longest_side, "size")
        style, training = self._kept()
        fits = bool(style) and _made_with(network, style, training)
        complete = set(layers) <= set(style)
        if self.shipped and not (fits and complete):
            return self.drawn().target(network, layers, longest_side)
        if self.shipped and network.padding != "zeros":
            return self.drawn().target(network, layers, training.get("style_size", longest_side))
        if not style:
            raise NoTarget(f"{self.text} carries no Gram targets; give the style's picture instead")
        if not fits:
            beside = ", and the picture that others would be computed from is not beside them" if self.folder else ""
            raise NststabError(
                f"{self.text} carries Gram targets of another perceptual network (gatys.network, "
                f"gatys.vgg_weights, gatys.pooling){beside}; give the style's picture instead"
            )
        return {layer: style[layer].to(device) for layer in (layers if complete else style)}

    def _kept(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        """The Gram targets beside the networks, or else in the independent one's checkpoint, and how they were made."""
        if self.targets:
            return load_target(self.targets)
        path = self.checkpoint and self.checkpoint("independent")
        if path is None or not path.is_file():
            return {}, {}
        checkpoint = load_checkpoint(path)
        return checkpoint.style, checkpoint.training


def picture_target(
    path: Path, network: PerceptualNetwork, layers: tuple[str, ...], longest_side: int, name: str
) -> StyleTarget:
    """Gram targets of a picture at a longest side, which `name` decides; NststabError where it is too narrow."""
    picture = resize(read_opaque(path), longest_side).to(network.mean.device)
    try:
        return style_target(network, picture, layers)
    except TooSmall as error:
        raise NststabError(f"the style {path}: {error}; crop it, or take a larger {name}") from error


def _made_with(network: PerceptualNetwork, style: StyleTarget, training: Mapping[str, Any]) -> bool:
    """Whether Gram targets are those of `network`, as far as their record and their shapes tell."""
    own = network.fingerprint
    return training.get("perceptual", own) == own and all(
        style[layer].shape[-1] == len(network.weights[f"{layer}_bias"]) for layer in set(style) & set(network.layers)
    )


def load_for(path: Path, text: str, method: str) -> Checkpoint:
    """The checkpoint of a style for a method; SettingError where there is none, or one for the other method."""
    if not path.is_file():
        (other,) = set(NETWORKS) - {method}
        has = f"; it has one for {other}" if path.with_name(path.name.replace(method, other)).is_file() else ""
        raise SettingError(f"the style {text} has no network for the method {method}{has}")
    checkpoint = load_checkpoint(path)
    if checkpoint.network.config.recurrent != (method == "recurrent"):
        kind = "recurrent" if checkpoint.network.config.recurrent else "independent"
        raise SettingError(f"{text} is a network for the method {kind}, not {method}; choose the method {kind}")
    return checkpoint


@dataclass(frozen=True)
class StyleBlend:
    """Several styles at once, each with its weight: for the optimisations, and for a network that holds them all."""

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

    def trained(
        self, method: str, stroke: float | None = None, photograph: bool = False, side: int | None = None
    ) -> Checkpoint:
        """The network that holds all of the styles, as one of their blend; SettingError where there is none."""
        checkpoint, names = self.whole(method)
        rows = checkpoint.network.config.styles
        look = Look(dict(zip(names, self.weights, strict=True)), stroke, side)
        mixed = [look.weights(rows)]
        if photograph:
            mixed.insert(0, photograph_row(rows, self.text))
        called = (PHOTOGRAPH, self.text) if photograph else (self.text,)
        return replace(checkpoint, network=with_rows(checkpoint.network, torch.stack(mixed), called))

    def whole(self, method: str) -> tuple[Checkpoint, tuple[str, ...]]:
        """The network with all its rows, and what the styles are called there; SettingError where there is none."""
        paths = set()
        for source in self.sources:
            if source.many is None:
                raise SettingError(source.untrained(method, len(self.sources)))
            paths.add(source.many(method))
        if len(paths) > 1:
            raise SettingError(f"the method {method} mixes styles of one network, and {self.text} are of several")
        checkpoint = load_for(paths.pop(), self.text, method)
        return checkpoint, tuple(source.row_of(checkpoint.network.config.styles) for source in self.sources)

    def target(self, network: PerceptualNetwork, layers: tuple[str, ...], longest_side: int) -> StyleTarget:
        """The weighted mean of the styles' Gram targets."""
        return blend([source.target(network, layers, longest_side) for source in self.sources], self.weights)


@dataclass(frozen=True)
class StyleRegions:
    """Several styles, each in a region of the frame: `Frame.mask` has the shares of them in this order."""

    styles: "tuple[StyleSource | StyleBlend, ...]"

    @property
    def sources(self) -> tuple[StyleSource, ...]:
        return tuple(source for style in self.styles for source in style.sources)

    @property
    def text(self) -> str:
        return ", ".join(style.text for style in self.styles)

    @property
    def scalable(self) -> bool:
        return any(style.scalable for style in self.styles)

    def drawn(self) -> "StyleRegions":
        """Itself by the pictures of those that have one."""
        return StyleRegions(tuple(style.drawn() for style in self.styles))

    def trained(self, method: str, *_: Any, **__: Any) -> Checkpoint:
        """Each region has its own network: raises SettingError."""
        raise SettingError(f"expected one style for one network of the method {method}, got {self.text}")

    def target(self, network: PerceptualNetwork, layers: tuple[str, ...], longest_side: int) -> tuple[StyleTarget, ...]:
        """The Gram targets of each region."""
        return tuple(style.target(network, layers, longest_side) for style in self.styles)


Style = StyleSource | StyleBlend | StyleRegions


def photograph_row(rows: Sequence[str], text: str) -> Tensor:
    """Weights (S,) of the row that draws a photograph as it is; SettingError where the style's network has none."""
    if PHOTOGRAPH not in rows:
        raise SettingError(f"strength has no effect on {text}, whose network draws no photograph as it is")
    return torch.tensor([float(row == PHOTOGRAPH) for row in rows])


def chosen_style(
    chosen: str | Path | Sequence[str | Path], weights: Sequence[float] | None = None
) -> StyleSource | StyleBlend:
    """One style, or the blend of several, equal parts by default; a text may name several, with commas between.

    Raises SettingError where there is none, and for a wrong number of weights.
    """
    several = isinstance(chosen, Sequence) and not isinstance(chosen, str)
    texts: Sequence[str | Path] = chosen if several else [chosen]  # type: ignore[assignment,list-item]
    sources = tuple(
        style_source(part) for text in texts for part in (parted(text) if isinstance(text, str) else [text])
    )
    if not sources:
        there = ", ".join(style_names())
        raise SettingError(f"style: none was given; there are {there}, and ruder and gatys follow any picture")
    if weights is not None and len(weights) != len(sources):
        raise SettingError(f"style_weights has {len(weights)} numbers for {len(sources)} styles")
    if len(sources) == 1:
        return sources[0]
    return StyleBlend(sources, tuple(weights or (1.0,) * len(sources)))


def style_source(named: str | Path) -> StyleSource:
    """What a text or path names; raises SettingError for a file that is missing and for an unknown name."""
    if not isinstance(named, str | Path):
        raise SettingError(f"style: expected a name or a path, got {named!r:.60}")
    text, path = str(named), Path(named)
    if path.is_file():
        return _of_file(text, path)
    if row := row_in_file(text):
        file, name = row
        return StyleSource(text, many=lambda _method: file, name=name)
    style = named_style(text)
    if style is None:
        light = text.removeprefix(f"{LIGHT}/")
        kept = next((_existing(one.target) for one in styles() if one.name == light), None)
        return StyleSource(text, many=light_network, name=light, shipped=light_picture(light), targets=kept)
    if text in style_names() and path.is_dir() and path.samefile(style.folder):
        log.warning(f"the style {text} is the folder of that name here, not the shipped one")
    shipped = style.name in light_styles() and style.folder in [one.folder for one in styles()]
    return StyleSource(
        text,
        checkpoint=style.checkpoint,
        many=light_network if shipped else None,
        name=style.name if shipped else None,
        shipped=style.image,
        targets=_existing(style.target),
        folder=style.folder,
    )


def _of_file(text: str, path: Path) -> StyleSource:
    suffix = path.suffix.lower()
    if suffix in READABLE_SUFFIXES:
        return StyleSource(text, picture=path)
    if suffix not in WEIGHT_SUFFIXES:
        raise SettingError(f"the style {text} is neither a picture nor weights ({', '.join(WEIGHT_SUFFIXES)})")
    if holds_many(path):
        return StyleSource(text, many=lambda _method: path)
    beside = path.with_name("target.safetensors") if path.stem in NETWORKS else None
    return StyleSource(text, checkpoint=lambda _method: path, targets=_existing(beside))


def _existing(path: Path | None) -> Path | None:
    return path if path and path.is_file() else None


def style_name(text: str) -> str:
    """What the rows call a style: a file's name without its suffix, or a folder's."""
    path = Path(text)
    return path.name if path.is_dir() else path.stem
