"""What the wheel carries: perceptual weights, trained styles with their cards, their instability, the demo's clip.

And what a name stands for, which must not wait for torch.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nststab.errors import NststabError, SettingError
from nststab.storage.folders import nearest_file

NETWORKS = ("independent", "recurrent")
LIGHT = "light"
"""What the networks of many styles are called: `light/candy` is theirs."""

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt")
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

    def known(self, *names: str) -> list[str]:
        """What the card says of these, without what it does not know."""
        card = self.card
        return [str(card[name]) for name in names if card.get(name) not in (None, "", "unknown")]

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


def light_cards() -> Path:
    """The cards of the styles of these networks: a JSON object by their names."""
    return _PACKAGE / "styles" / f"{LIGHT}.json"


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


def named_style(text: str) -> Style | None:
    """The folder of the style, trained or shipped, that a text names; None where it is `light`'s.

    Raises SettingError, with what may have been meant, where there is none.
    """
    path, light = Path(text), text.removeprefix(f"{LIGHT}/")
    if path.is_dir() and (style := style_in(path)):
        return style
    if light in light_styles() and (light != text or light not in [one.name for one in styles()]):
        return None
    if (path.suffix or "/" in text) and light == text:
        fault = "is a folder that holds no trained style" if path.is_dir() else f"does not exist{nearest_file(path)}"
        raise SettingError(f"the style {text} {fault}")
    try:
        return find_style(text)
    except UnknownStyle as error:
        if path.is_dir():
            raise SettingError(f"the folder {text} holds no trained style, and {error}") from error
        raise SettingError(
            f"{error} (nststab styles shows them; a picture's or checkpoint's path works too)"
        ) from error


def parted(text: str) -> list[str]:
    """The styles that a text names: several with commas between, unless it is the path of one."""
    return [part.strip() for part in text.split(",")] if "," in text and not Path(text).exists() else [text]


def row_in_file(text: str) -> tuple[Path, str] | None:
    """The checkpoint and the name of one of its styles, of a text FILE:NAME."""
    file, found, name = text.rpartition(":")
    is_one = found and Path(file).suffix.lower() in WEIGHT_SUFFIXES and Path(file).is_file()
    return (Path(file), name) if is_one else None


def require_styles(text: str) -> None:
    """Raises SettingError where one of the styles that a text names is not there; what files hold is not looked at."""
    for one in parted(text):
        if not (Path(one).is_file() or row_in_file(one)):
            named_style(one)


def perceptual_weights() -> Path:
    """VGG-16, blocks 1 to 4, float16."""
    return _PACKAGE / "weights" / "vgg16-conv4_3.safetensors"


def measured_instability() -> Path:
    """The `results.json` of `nststab evaluate gram-trace` that `nststab styles IMAGE` predicts from."""
    return _PACKAGE / "styles" / "instability.json"


def demo_clip() -> Path:
    """A short piece of Big Buck Bunny."""
    return _PACKAGE / "clips" / "big_buck_bunny.mp4"
