"""Frames on disk that are read in any order, for what looks at a clip after it has passed."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
from torch import Tensor

from nststab.errors import NststabError
from nststab.video.images import from_uint8, to_uint8


class StoredFrames(Sequence[Tensor]):
    """Frames (1, C, H, W) in [0, 1], of one size, kept as bytes in a file: `frames[i]` reads one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shape: tuple[int, ...] = ()
        self._count = 0
        path.touch()

    def append(self, frame: Tensor) -> None:
        """Keeps a frame, rounded to 8 bits. Raises ValueError for another size than the first one's."""
        pixels = to_uint8(frame)
        if self._shape and self._shape != pixels.shape:
            raise NststabError(f"expected frames of shape {self._shape} as the first, got {pixels.shape}")
        self._shape = pixels.shape
        with self._path.open("ab") as file:
            file.write(pixels.tobytes())
        self._count += 1

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -self._count <= index < self._count:
            raise IndexError(f"frame {index} of {self._count}")
        size = int(np.prod(self._shape))
        pixels = np.fromfile(self._path, np.uint8, size, offset=(index % self._count) * size)
        return from_uint8(pixels.reshape(self._shape))
