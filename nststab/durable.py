"""Files that a kill or a lost machine leaves whole or not at all, and tensors in them."""

import os
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def write_durably(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all, also where the machine is lost just after; OSError names `path`.

    Only one process at a time may write a file so.
    """
    part = path.with_name(path.name + ".part")  # a fixed name, so that kills leave one such file at most
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have the system write a file, or the files of a folder, to the disk."""
    for file in path.iterdir() if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


def tensor_bytes(value: Tensor) -> bytes:
    """A tensor as a .npy file."""
    file = BytesIO()
    np.save(file, value.detach().cpu().contiguous().numpy(), allow_pickle=False)
    return file.getvalue()


def tensor_from_bytes(data: bytes) -> Tensor:
    """The tensor of a .npy file, in memory of torch's own: its alignment may change the last bits of a result.

    Raises ValueError where it is damaged.
    """
    return torch.from_numpy(np.load(BytesIO(data), allow_pickle=False)).clone()


class DiskQueue:
    """Tensors that wait in files of `folder`, which is made if it is missing: first in, first out.

    It begins empty; what a killed process left there is written over. OSError where the disk takes no more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._first = self._behind = 0

    def append(self, value: Tensor) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_durably(self._path(self._behind), tensor_bytes(value))
        self._behind += 1

    def popleft(self) -> Tensor:
        """The one that waits for longest; IndexError where none does."""
        if self._first == self._behind:
            raise IndexError("pop from an empty queue")
        path = self._path(self._first)
        value = tensor_from_bytes(path.read_bytes())
        path.unlink()
        self._first += 1
        return value

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.npy"
