"""Methods of one's own, which compare, score and the experiments take beside ours."""

import importlib
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nststab.errors import NststabError
from nststab.frames import Frame, Stylizer


@dataclass(frozen=True)
class Checked:
    """A stylizer whose frames are checked as they come: in their order, of the size that it got, float32 in [0, 1]."""

    name: str
    stylizer: Stylizer

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        shape: tuple[int, ...] = ()
        numbers: deque[int] = deque()  # of the frames that it took and did not give back

        def seen() -> Iterator[Frame]:
            nonlocal shape
            for frame in frames:
                shape = tuple(frame.rgb.shape)
                numbers.append(frame.number)
                yield frame

        made = self.stylizer(seen())
        if not isinstance(made, Iterable):
            raise NststabError(f"{self.name}: expected an iterator of frames, got {_kind(made)}")
        for frame in made:
            self._check(frame, shape)
            if not numbers:
                raise NststabError(f"{self.name}: gave more frames than it took")
            if (expected := numbers.popleft()) != frame.number:
                raise NststabError(f"{self.name}: expected frame {expected}, with_rgb of its own, got {frame.number}")
            yield frame

    def _check(self, frame: object, shape: tuple[int, ...]) -> None:
        if not isinstance(frame, Frame):
            raise NststabError(f"{self.name}: expected frames, with_rgb of its own, got {_kind(frame)}")
        rgb: object = frame.rgb
        if not isinstance(rgb, Tensor):
            raise NststabError(f"{self.name}: expected pictures (1, 3, H, W) as tensors, got {_kind(rgb)}")
        if tuple(rgb.shape) != shape:
            raise NststabError(f"{self.name}: expected a frame of {shape}, got {tuple(rgb.shape)}")
        if rgb.dtype != torch.float32:
            raise NststabError(f"{self.name}: expected float32 in [0, 1], got {str(rgb.dtype).removeprefix('torch.')}")
        low, high = float(rgb.min()), float(rgb.max())
        if not -0.01 <= low <= high <= 1.01:  # NaN too
            raise NststabError(f"{self.name}: expected values in [0, 1], got {low:.3g} to {high:.3g}")


def load_stylizer(name: str) -> Stylizer:
    """The stylizer that `module:callable` names, such as `my_module:paint`; what it makes is checked.

    The module is found from the current folder too. The callable takes the frames of one shot and yields as many, as
    `nststab.frames.Stylizer` says; `nststab.frame_by_frame` makes one of a function of a single frame.

    Raises NststabError where there is no such module, no such name in it, or it cannot be called.
    """
    return Checked(name, load_callable(name))


def load_callable(name: str) -> Callable[..., Any]:
    """What `module:callable` names; the module is found from the current folder too. Raises as `load_stylizer`."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise NststabError(f"{name!r}: expected something of one's own as module:callable")
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # of what the module itself imports
        raise NststabError(f"{name}: there is no module {error.name}, neither installed nor in {folder}") from None
    finally:
        sys.path.remove(folder)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise NststabError(f"{name}: {module} has no {part}")
        found = getattr(found, part)
    if not callable(found):
        raise NststabError(f"{name}: expected something to call, got {_kind(found)}")
    return found


def source_file(name: str) -> Path:
    """The file of the module in which `load_stylizer` found what `name` says."""
    return Path(sys.modules[name.partition(":")[0]].__file__ or "")


def checked(name: str, stylizer: Stylizer) -> Stylizer:
    """One's own stylizer, whose frames are checked as they come."""
    if not callable(stylizer):
        raise NststabError(f"{name}: expected something to call, got {_kind(stylizer)}")
    return stylizer if isinstance(stylizer, Checked) else Checked(name, stylizer)


def _kind(value: object) -> str:
    name = type(value).__name__
    return "None" if value is None else f"a{'n' * (name[0] in 'aeiouAEIOU')} {name}"
