"""The folder of a trained style while it is made: what stands where, and what may be written over."""

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nststab.errors import SettingError
from nststab.storage.durable import write_durably
from nststab.styles.shipped import Style
from nststab.video.images import remove_parts, resize, write_picture

_PICTURE, _THUMBNAIL = 928, 128  # longest sides: enough to compute Gram targets of, and to show
_CARD = "card.json"
_FILES = (".safetensors", ".pth", ".pt")  # that other commands of `train` write, or read
_PRODUCTS = (_CARD, "sheet.jpg", "recurrent.safetensors", "independent.safetensors", "target.safetensors")


@dataclass(frozen=True)
class StyleFolder:
    """NAME/ of `train style`; its card is written last, and says that all is done."""

    folder: Path

    @property
    def style(self) -> Style:
        return Style(self.folder.resolve().name, self.folder)

    @property
    def training(self) -> Path:
        """Where the stages keep their states, logs and pictures."""
        return self.folder / "training"

    @property
    def sizes(self) -> Path:
        """The file of the crops that the stages are trained on; it is there while the style is in work."""
        return self.training / "sizes.json"

    @property
    def sheet(self) -> Path:
        """The file of the contact sheet."""
        return self.folder / "sheet.jpg"

    @property
    def unfinished(self) -> bool:
        """Whether a run can go on here."""
        return self.sizes.is_file() and not (self.folder / _CARD).exists()

    def refuse_overwriting(self, yes: bool) -> None:
        """Raises a usage error for what stands there already and is no unfinished run, unless `yes`, and OSError."""
        if self.folder.is_file() or self.folder.suffix in _FILES:
            raise SettingError(f"-o: expected a folder's name, got the file {self.folder}")
        if not self.folder.parent.is_dir():
            raise FileNotFoundError(f"{self.folder.parent}: the folder to write to does not exist")
        if self.folder.is_dir() and any(self.folder.iterdir()) and not self.unfinished and not yes:
            raise SettingError(f"{self.folder} exists; say -y to overwrite it")
        place = self.folder if self.folder.is_dir() else self.folder.parent
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))

    def begin(self) -> None:
        """Makes the folder; a finished style in it is removed, an unfinished one is gone on with."""
        if not self.unfinished:
            for name in _PRODUCTS:
                (self.folder / name).unlink(missing_ok=True)
        self.training.mkdir(parents=True, exist_ok=True)
        remove_parts(self.folder)

    def write_pictures(self, picture: Tensor) -> None:
        """The style's picture (1, 3, H, W), so that it stays usable where the original goes, and a small one."""
        for name, longest in (("image", _PICTURE), ("thumbnail", _THUMBNAIL)):
            smaller = resize(picture, min(longest, max(picture.shape[-2:])))
            write_picture(self.folder / f"{name}.jpg", smaller)

    def finish(self, card: Mapping[str, Any]) -> None:
        """Writes the card, and removes what only a run that goes on needs; logs and validation pictures stay."""
        text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
        write_durably(self.folder / _CARD, text.encode())
        for path in (*self.training.glob("*.state"), self.sizes):
            path.unlink(missing_ok=True)
