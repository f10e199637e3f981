"""Training and evaluation data on disk: folders of photographs, MPI Sintel and DAVIS."""

import copy
import json
import logging
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.datasets.layers import FlowClip
from nststab.datasets.synthetic import draw_index, uniform
from nststab.errors import NststabError, SettingError
from nststab.flow.files import read_flo
from nststab.storage.durable import write_durably
from nststab.video.images import STILL_SUFFIXES, header_size, read_picture, resize, resized_shape
from nststab.video.picture_files import fault, is_picture, some
from nststab.warp import leaves_frame, motion_boundaries, smooth_mask

log = logging.getLogger(__name__)

HELD_OUT = 8  # photographs, for validation
_SINTEL_SCALE = 0.5  # Gupta et al. train at 512x218, half of Sintel's 1024x436
_FRAME_NUMBER = re.compile(r"frame_(\d+)\.(?:png|flo)")


def _resize(images: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bilinear resize to exactly (height, width)."""
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", antialias=True, align_corners=False)


def _draw_cut(
    images: Tensor, height: int, width: int, largest: float, generator: torch.Generator
) -> tuple[slice, slice]:
    """Rows and columns to cut out and scale to (height, width).

    The scale lies between the one at which the cut is as large as fits and `largest`, or is the first if that is more.
    """
    full_height, full_width = images.shape[-2:]
    smallest = max(height / full_height, width / full_width)
    # log-uniform, so that every zoom factor is equally likely
    scale = math.exp(uniform(math.log(smallest), math.log(max(smallest, largest)), generator))
    # cut first, resize after: the cost does not depend on the whole picture's size
    cut_height = min(full_height, max(1, round(height / scale)))
    cut_width = min(full_width, max(1, round(width / scale)))
    top = draw_index(full_height - cut_height + 1, generator)
    left = draw_index(full_width - cut_width + 1, generator)
    return slice(top, top + cut_height), slice(left, left + cut_width)


class PhotoFolder:
    """The photographs below a folder, as random crops for training; pictures are decoded when they are asked for.

    A picture that cannot be read is named once in the log, and another one is taken in its place. Raises NststabError
    if the folder holds no pictures, or none that can be read, and OSError if it does not exist.

    Args:
        listed: the file where a run that is resumed has put its list (`keep_list`). The photographs are those that it
            began with, so that its steps see the same ones; those that are gone or new since then are named and left
            out. Where most are gone it is another folder's, and not looked at.

    Attributes:
        paths: the photographs, in the order in which they are counted.
        lengths: of all photographs of the folder, in bytes.
    """

    def __init__(self, folder: Path, listed: Path | None = None) -> None:
        if not folder.is_dir():
            raise NststabError(f"{folder}: expected a folder of photographs")
        found = (path for path in folder.rglob("*") if is_picture(path) and not path.name.startswith("."))
        there = {path: _length(path) for path in sorted(found)}
        if not there:
            raise NststabError(f"{folder}: no pictures found ({', '.join(sorted(STILL_SUFFIXES))})")
        self._folder = folder
        self._unreadable: set[Path] = set()  # shared with the parts of `hold_out`
        kept = {folder / name: length for name, length in _read_list(listed)}
        gone = [path for path, length in kept.items() if there.get(path) != length]
        resumes = 2 * len(gone) < len(kept)
        self.lengths: dict[Path, int] = kept if resumes else there
        self.paths = list(self.lengths)
        if resumes:
            self._unreadable.update(gone)
            new = [path for path in there if path not in kept]
            for paths, what in ((gone, "gone or changed"), (new, "new")):
                if paths:
                    log.warning(f"left out, {what} since the training began: {some(list(map(str, paths)))}")

    def __len__(self) -> int:
        return len(self.paths)

    def keep_list(self, listed: Path) -> None:
        """Writes which photographs the whole folder holds, for a run that resumes this one, if none did."""
        if listed.exists():
            return
        entries = [(str(path.relative_to(self._folder)), length) for path, length in self.lengths.items()]
        write_durably(listed, json.dumps(entries).encode())

    def photo(self, index: int) -> Tensor:
        """The whole photograph number `index`, (1, 3, H, W), on white where it is transparent."""
        return read_picture(self.paths[index]).on_white()

    def readable(self, index: int, generator: torch.Generator) -> Tensor:
        """The photograph number `index`, or a random other one where it cannot be read."""
        while (photo := self._read(index)) is None:
            index = draw_index(len(self), generator)
        return photo

    def _read(self, index: int) -> Tensor | None:
        """The photograph; None where it cannot be read, which the log tells once. NststabError where none can."""
        path = self.paths[index]
        if path not in self._unreadable:
            try:
                return self.photo(index)
            except (NststabError, OSError) as error:
                self._unreadable.add(path)
                if self._unreadable.issuperset(self.paths):
                    raise NststabError(f"no photograph can be read: {error}") from error
                log.warning(f"left out: {fault(path, error)}")
        elif self._unreadable.issuperset(self.paths):
            raise NststabError(f"no photograph can be read in {path.parent}")
        return None

    def crops(self, count: int, height: int, width: int, generator: torch.Generator, largest: float = 1.0) -> Tensor:
        """Crops of random photographs at random scale and place, half of them mirrored: (count, 3, height, width).

        The scale lies between the one at which the crop just fits into the photograph and `largest`, 1 being the
        photograph's own; photographs smaller than the crop are enlarged. The same generator state gives the same crops.
        """
        return torch.cat([self._crop(height, width, generator, largest) for _ in range(count)])

    def center_crops(self, height: int, width: int) -> Tensor:
        """All photographs, each scaled until it just covers (height, width) and cut to it: (len, 3, height, width).

        Those that cannot be read are left out.
        """
        photos = map(self._read, range(len(self)))
        return torch.cat([_center_crop(photo, height, width) for photo in photos if photo is not None])

    def hold_out(self, count: int = HELD_OUT) -> tuple[Self, Self]:
        """Split into photographs for training and `count` others, evenly spread, for validation.

        A folder of fewer than 2 * count gives up half of its photographs; raises ValueError where it has only one.
        The headers of all are read, and the log names those that are none: they are left out of both parts.
        """
        if len(self) < 2:
            raise NststabError("expected two photographs or more, to hold one out for validation, got one")
        count = min(count, len(self) // 2)
        chosen = {index * (len(self) // count) for index in range(count)}
        self._check()
        held_out = [path for index, path in enumerate(self.paths) if index in chosen]
        training = [path for index, path in enumerate(self.paths) if index not in chosen]
        return self._only(training), self._only(held_out)

    def _check(self) -> None:
        faults = []
        for path in self.paths:
            try:
                if path not in self._unreadable:
                    header_size(path)
            except (NststabError, OSError) as error:
                self._unreadable.add(path)
                faults.append(fault(path, error))
        if faults:
            log.warning(f"left out: {some(faults)}")

    def _only(self, paths: list[Path]) -> Self:
        part = copy.copy(self)
        part.paths = paths
        return part

    def _crop(self, height: int, width: int, generator: torch.Generator, largest: float) -> Tensor:
        photo = self.readable(draw_index(len(self), generator), generator)
        rows, columns = _draw_cut(photo, height, width, largest, generator)
        crop = _resize(photo[..., rows, columns], height, width)
        return crop.flip(-1) if draw_index(2, generator) else crop


def _length(path: Path) -> int:
    """Bytes of a file; -1 for a link that leads nowhere."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _read_list(listed: Path | None) -> list[tuple[str, int]]:
    """What `keep_list` wrote; nothing where there is no such file."""
    try:
        return [] if listed is None else [(str(name), int(length)) for name, length in json.loads(listed.read_bytes())]
    except (OSError, ValueError, TypeError):
        return []


def _center_crop(photo: Tensor, height: int, width: int) -> Tensor:
    full_height, full_width = photo.shape[-2:]
    scale = max(height / full_height, width / full_width)
    cut_height, cut_width = min(full_height, round(height / scale)), min(full_width, round(width / scale))
    cut_height, cut_width = max(1, cut_height), max(1, cut_width)  # a very long picture
    top, left = (full_height - cut_height) // 2, (full_width - cut_width) // 2
    return _resize(photo[..., top : top + cut_height, left : left + cut_width], height, width)


class _SintelSequence(NamedTuple):
    """What exists of one rendered sequence: the numbers of its frames, and of those with flow to the next one."""

    render: str
    name: str
    frames: frozenset[int]
    flows: frozenset[int]


class SintelClips:
    """Random clips from MPI Sintel's training set in its own layout (Butler et al. 2012).

    `folder` holds `training/`, or is it: `final/SEQ/frame_0001.png`, `flow/SEQ/frame_0001.flo` (frame 1 to 2), and
    beside each flow its `occlusions/` and `invalid/` (white = bad). Frames and flows may be missing. `render` is the
    pass that is used; "both" draws from both. Raises ValueError where no pair of frames has flow.
    """

    def __init__(self, folder: Path, render: Literal["final", "clean", "both"] = "final") -> None:
        self._folder = folder / "training" if (folder / "training").is_dir() else folder
        renders = ("clean", "final") if render == "both" else (render,)
        self._sequences = [
            sequence
            for name in renders
            for path in sorted((self._folder / name).glob("*/"))
            if (sequence := self._find(name, path.name)).flows
        ]
        if not self._sequences:
            raise NststabError(
                f"{folder}: expected MPI Sintel, with flow/ beside {' or '.join(renders)}/, found no pair"
            )

    def _find(self, render: str, name: str) -> _SintelSequence:
        frames = _frame_numbers(self._folder / render / name)
        flows = {number for number in _frame_numbers(self._folder / "flow" / name) if {number, number + 1} <= frames}
        return _SintelSequence(render, name, frozenset(frames), frozenset(flows))

    def __len__(self) -> int:
        """The number of pairs with flow."""
        return sum(len(sequence.flows) for sequence in self._sequences)

    def clip(self, height: int, width: int, generator: torch.Generator, length: int = 4) -> FlowClip:
        """A random clip (N = 1) of `length` consecutive frames with flow for at least one pair; other masks are 0.

        A random crop, scaled to between the size at which it just fits into the frame and half of Sintel's own, and
        flipped at random along both axes. Raises ValueError where no run of frames is that long.
        """
        starts = [(sequence, first) for sequence in self._sequences for first in _starts(sequence, length)]
        if not starts:
            raise NststabError(f"{self._folder}: no {length} consecutive frames, two of them with flow between them")
        sequence, first = starts[draw_index(len(starts), generator)]
        frames = torch.cat([self._picture(sequence.render, sequence.name, first + k) for k in range(length)])
        rows, columns = _draw_cut(frames, height, width, _SINTEL_SCALE, generator)
        flips = [dim for dim in (-1, -2) if draw_index(2, generator)]
        frames = _resize(frames[..., rows, columns], height, width).flip(flips)
        forward, mask = frames.new_zeros(length - 1, 2, height, width), frames.new_zeros(length - 1, 1, height, width)
        for k in range(length - 1):
            if first + k in sequence.flows:
                flow, hidden = self._pair(sequence.name, first + k)
                cut = flow[..., rows, columns], hidden[..., rows, columns], motion_boundaries(flow)[..., rows, columns]
                forward[k], mask[k] = (part[0] for part in _resize_flow(*cut, (height, width), flips))
        return FlowClip(frames[None], forward[None], mask[None])

    def _pair(self, name: str, number: int) -> tuple[Tensor, Tensor]:
        """Flow (1, 2, H, W) and what cannot be followed along it, bool (1, 1, H, W)."""
        flow = read_flo(self._folder / "flow" / name / f"frame_{number:04d}.flo")
        bad = torch.cat([self._picture(kind, name, number) for kind in ("occlusions", "invalid")]) > 0.5
        if bad.shape[-2:] != flow.shape[-2:]:
            raise NststabError(
                f"{self._folder}: flow and masks of {name}, frame {number}, differ in size: "
                f"{tuple(flow.shape[-2:])} and {tuple(bad.shape[-2:])}"
            )
        return flow, bad.any(0).any(0)[None, None]

    def _picture(self, kind: str, name: str, number: int) -> Tensor:
        return read_picture(self._folder / kind / name / f"frame_{number:04d}.png").rgb


def _frame_numbers(folder: Path) -> set[int]:
    matches = (_FRAME_NUMBER.fullmatch(path.name) for path in folder.glob("frame_*"))
    return {int(match[1]) for match in matches if match}


def _starts(sequence: _SintelSequence, length: int) -> list[int]:
    return [
        first
        for first in sorted(sequence.frames)
        if sequence.frames.issuperset(range(first, first + length))
        and not sequence.flows.isdisjoint(range(first, first + length - 1))
    ]


def _resize_flow(
    flow: Tensor, hidden: Tensor, boundaries: Tensor, size: tuple[int, int], flips: list[int]
) -> tuple[Tensor, Tensor]:
    """Flow in the pixels of a scaled and flipped crop, and its mask; a pixel is bad where any part of it is."""
    factors = flow.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]])
    signs = flow.new_tensor([-1.0 if dim in flips else 1.0 for dim in (-1, -2)])
    # averages the same pixels of which the masks take the maximum: what is trusted was averaged from trusted flow
    flow = F.adaptive_avg_pool2d(flow, size).flip(flips) * (factors * signs).view(1, 2, 1, 1)
    hidden, boundaries = (F.adaptive_max_pool2d(mask.float(), size).flip(flips) > 0 for mask in (hidden, boundaries))
    # averaged flow may change faster than the full one; what leaves the crop leaves the frame
    return flow, smooth_mask(hidden, boundaries | motion_boundaries(flow) | leaves_frame(flow))


class DavisSequence:
    """One sequence of DAVIS 2016 (Perazzi et al. 2016) with its foreground, scaled to a longest side of `size`.

    `root` holds `JPEGImages/480p/NAME/*.jpg` and `Annotations/480p/NAME/*.png`. Raises ValueError where it does not
    have the sequence, or a frame has no annotation.
    """

    def __init__(self, root: Path, name: str, size: int) -> None:
        pictures, annotations = root / "JPEGImages" / "480p", root / "Annotations" / "480p"
        self.name = name
        self._size = size
        self._frames = sorted((pictures / name).glob("*.jpg"))
        if not self._frames:
            names = ", ".join(sorted(path.name for path in pictures.glob("*/")))
            raise NststabError(
                f"{root}: no DAVIS sequence {name!r} in JPEGImages/480p (there is: {names or 'nothing'})"
            )
        self._masks = [annotations / name / f"{path.stem}.png" for path in self._frames]
        missing = [path.name for path in self._masks if not path.is_file()]
        if missing:
            raise NststabError(f"{annotations / name}: expected an annotation per frame, {missing[0]} is missing")

    def __len__(self) -> int:
        return len(self._frames)

    def files(self, limit: int | None = None) -> list[Path]:
        """The pictures and annotations of its frames, of all or the first."""
        return [*self._frames[:limit], *self._masks[:limit]]

    def frames(self) -> Iterator[Tensor]:
        """The frames in order, (1, 3, H, W)."""
        return map(self.frame, range(len(self)))

    def masks(self) -> Iterator[Tensor]:
        """The foreground of each frame, bool (1, 1, H, W); a pixel is foreground where any part of it is."""
        return map(self.mask, range(len(self)))

    def frame(self, index: int) -> Tensor:
        """One of the frames, counted from 0."""
        return resize(read_picture(self._frames[index]).rgb, self._size)

    def mask(self, index: int) -> Tensor:
        """The foreground of one frame."""
        foreground = (read_picture(self._masks[index]).rgb > 0).any(1, keepdim=True).float()
        height, width = foreground.shape[-2:]
        return F.adaptive_max_pool2d(foreground, resized_shape(height, width, self._size)) > 0


def davis_sequences(davis: Path, names: Sequence[str] | None, size: int) -> list[DavisSequence]:
    """The sequences of DAVIS, all by default, scaled to a longest side; a SettingError for one that is not there."""
    there = sorted(path.name for path in (davis / "JPEGImages" / "480p").glob("*/"))
    if not there:
        raise SettingError(f"davis: {davis}: expected DAVIS, with sequences in JPEGImages/480p, found none")
    if names is None:
        names = there
    if not names:
        raise SettingError("sequences names none")
    for name in names:
        if name not in there:
            raise SettingError(f"{davis} has no DAVIS sequence {name!r}; there is: {', '.join(there)}")
    return [DavisSequence(davis, name, size) for name in names]
