"""What the wheel carries: perceptual weights, trained styles with their cards, their instability, the demo's clip."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nststab.errors import NststabError

NETWORKS = ("independent", "recurrent")
LIGHT = "light"
"""What the networks of many styles are called: `light/candy` is theirs."""

_PACKAGE = Path(__file__).parents[1]


class UnknownStyle(NststabError):
    """There is no shipped style of that name; the message names the nearest."""


@dataclass(frozen=True)
class Style:
    """The folder of a style: `card.json`, a checkpoint per method, Gram targets and, where it is free, a picture.

    Everything but one network or the targets may be missing.
    """

    name: str
    folder: Path

    @property
    def card(self) -> Mapping[str, Any]:
        """Artist, year, rights, data, settings, command, losses and figures; any of them may be missing or None.

        Raises ValueError where `card.json` is damaged.
        """
        path = self.folder / "card.json"
        if not path.is_file():
            return {}
        try:
            card = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise NststabError(f"{path} is damaged: {error}") from error
        if not isinstance(card, dict):
            raise NststabError(f"{path}: expected a JSON object, got {type(card).__name__}")
        return card

    @property
    def methods(self) -> tuple[str, ...]:
        """The feed-forward methods that have a network here."""
        return tuple(name for name in NETWORKS if self.checkpoint(name).is_file())

    def checkpoint(self, method: str) -> Path:
        """Path of the checkpoint of `independent` or `recurrent`."""
        return self.folder / f"{method}.safetensors"

    @property
    def target(self) -> Path:
        """Path of the Gram targets; where there is no such file, the checkpoints carry them."""
        return self.folder / "target.safetensors"

    @property
    def image(self) -> Path | None:
        """Path of the style image, None where it may not be shipped."""
        return next(iter(sorted(self.folder.glob("image.*"))), None)

    @property
    def thumbnail(self) -> Path | None:
        """Path of the small style image, None where it may not be shipped."""
        path = self.folder / "thumbnail.jpg"
        return path if path.is_file() else None


def style_in(folder: Path) -> Style | None:
    """The trained style that `folder` holds, None where it holds neither a network nor Gram targets."""
    style = Style(folder.resolve().name, folder)
    return style if style.methods or style.target.is_file() else None


def styles() -> list[Style]:
    """All shipped styles by name."""
    return [Style(card.parent.name, card.parent) for card in sorted((_PACKAGE / "styles").glob("*/card.json"))]


def light_network(method: str) -> Path:
    """The shipped network of many styles for `independent` or `recurrent`."""
    return _PACKAGE / "weights" / f"{LIGHT}_{method}.safetensors"


def light_picture(name: str) -> Path | None:
    """The picture of a style of the networks of many styles, None where it may not be shipped."""
    path = _PACKAGE / "styles" / LIGHT / f"{name}.jpg"
    return path if path.is_file() else next((one.image for one in styles() if one.name == name), None)


def light_styles() -> tuple[str, ...]:
    """The names of the styles in the shipped networks of many styles, of which all hold the same."""
    path = light_network("independent")
    if not path.is_file():
        return ()
    with path.open("rb") as file:  # the header alone: the list of names must not wait for torch
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    rows = json.loads(header["__metadata__"]["network"])["styles"]
    return tuple(dict.fromkeys(row.partition("@")[0] for row in rows if "@" in row))


def style_names() -> tuple[str, ...]:
    """All names of shipped styles: those with a folder, and those of the networks of many styles."""
    own = [style.name for style in styles()]
    light = light_styles()
    return (*own, *(name for name in light if name not in own), *(f"{LIGHT}/{name}" for name in light))


def find_style(name: str) -> Style:
    """The shipped style `name` that has a folder of its own. Raises UnknownStyle."""
    shipped = {style.name: style for style in styles()}
    if name in shipped:
        return shipped[name]
    known = style_names()
    alike = [one for one in known if ("/" in one) == ("/" in name)]
    nearest = difflib.get_close_matches(name, alike, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"there are: {', '.join(alike)}"
    raise UnknownStyle(f"no style is named {name!r}; {hint}")


def perceptual_weights() -> Path:
    """VGG-16, blocks 1 to 4, float16."""
    return _PACKAGE / "weights" / "vgg16-conv4_3.safetensors"


def measured_instability() -> Path:
    """The `results.json` of `nststab evaluate gram-trace` that `nststab styles IMAGE` predicts from."""
    return _PACKAGE / "styles" / "instability.json"


def demo_clip() -> Path:
    """A short piece of Big Buck Bunny."""
    return _PACKAGE / "clips" / "big_buck_bunny.mp4"
