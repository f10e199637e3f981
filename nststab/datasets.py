"""Training and evaluation data on disk: folders of photographs, MPI Sintel and DAVIS."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.images import PICTURE_SUFFIXES, read_picture


def _draw(low: float, high: float, generator: torch.Generator) -> float:
    """A uniform draw from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def _draw_index(count: int, generator: torch.Generator) -> int:
    """A uniform draw from 0 ... count-1."""
    return int(torch.randint(count, (), generator=generator))


def _resize(images: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bilinear resize to exactly (height, width)."""
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", antialias=True, align_corners=False)


class PhotoFolder:
    """The photographs below a folder, as random crops for training; pictures are decoded when they are asked for.

    Raises ValueError if the folder holds no pictures and OSError if it does not exist. A picture that cannot be read
    raises where it is used: nothing is skipped.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder}: expected a folder of photographs")
        self.paths = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
        if not self.paths:
            raise ValueError(f"{folder}: no pictures found ({', '.join(sorted(PICTURE_SUFFIXES))})")

    def __len__(self) -> int:
        return len(self.paths)

    def photo(self, index: int) -> Tensor:
        """The whole photograph number `index`, (1, 3, H, W)."""
        return read_picture(self.paths[index]).rgb

    def crops(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """`count` crops of random photographs, (count, 3, height, width): random scale and place, half of them mirrored.

        The scale lies between the one at which the crop just fits into the photograph and the photograph's own;
        photographs smaller than the crop are enlarged. The same generator state gives the same crops.
        """
        return torch.cat([self._crop(height, width, generator) for _ in range(count)])

    def _crop(self, height: int, width: int, generator: torch.Generator) -> Tensor:
        photo = self.photo(_draw_index(len(self), generator))
        photo_height, photo_width = photo.shape[-2:]
        smallest = max(height / photo_height, width / photo_width)
        # log-uniform, so that every zoom factor is equally likely
        scale = math.exp(_draw(math.log(smallest), math.log(max(smallest, 1.0)), generator))
        # cut first, resize after: the cost does not depend on the photograph's size
        cut_height = min(photo_height, max(1, round(height / scale)))
        cut_width = min(photo_width, max(1, round(width / scale)))
        top = _draw_index(photo_height - cut_height + 1, generator)
        left = _draw_index(photo_width - cut_width + 1, generator)
        crop = _resize(photo[..., top : top + cut_height, left : left + cut_width], height, width)
        return crop.flip(-1) if _draw_index(2, generator) else crop
