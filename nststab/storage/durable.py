"""Files that a kill or a lost machine leaves whole or not at all, and tensors in them."""

import hashlib
import os
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nststab.errors import NststabError

_CHECKSUM = 16  # bytes of a digest


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


def write_checked(path: Path, data: bytes) -> None:
    """Write a file durably, with a checksum behind it; OSError names `path`."""
    write_durably(path, data + _checksum(data))


def read_checked(path: Path) -> bytes:
    """What `write_checked` wrote; raises OSError where it cannot be read, and ValueError where it is damaged."""
    stored = path.read_bytes()
    data = stored[:-_CHECKSUM]
    if _checksum(data) != stored[-_CHECKSUM:]:
        raise NststabError(f"{path} is damaged")
    return data


def write_tensor(path: Path, value: Tensor) -> None:
    """Write a tensor durably, as a .npy file with a checksum behind it; OSError names `path`."""
    file = BytesIO()
    np.save(file, value.detach().cpu().contiguous().numpy(), allow_pickle=False)
    write_checked(path, file.getvalue())


def read_tensor(path: Path) -> Tensor:
    """What `write_tensor` wrote, in memory of torch's own: its alignment may change the last bits of a result.

    Raises OSError where it cannot be read, and ValueError where it is damaged.
    """
    return torch.from_numpy(np.load(BytesIO(read_checked(path)), allow_pickle=False)).clone()


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECKSUM).digest()
