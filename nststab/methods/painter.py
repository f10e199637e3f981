"""Frames in a loop, as NumPy arrays: the networks for cameras and other programs, and others' functions for ours."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nststab.engines import EngineName, make_engine
from nststab.errors import NststabError, SettingError
from nststab.frames import Frame, Stylizer
from nststab.methods.build import machine
from nststab.methods.enlarge import enlarge
from nststab.methods.feed_forward import Painting, paint
from nststab.methods.regions import feathered, mixed, shares
from nststab.methods.settings import LEAST_WORK_SIZE, MethodSettings, strength_curve
from nststab.networks.rows import Look, stroke_at
from nststab.settings import Precision
from nststab.styles.source import StyleBlend, StyleSource, chosen_style, photograph_row
from nststab.video.images import from_uint8, resize, to_uint8

Picture = NDArray[np.uint8]
"""(H, W, 3), 0 to 255."""

Mask = NDArray[np.uint8]
"""(H, W), 255 where a frame is stylized, or has the style of a region, 0 where not."""


class Painter:
    """Stylizes frame after frame: `out = painter(frame)`, NumPy uint8 (H, W, 3) in and out, any size.

        painter = nststab.Painter("the_great_wave", bgr=True)
        while (frame := camera.read()[1]) is not None:
            cv2.imshow("painted", painter(frame))

    It remembers the frame before, so one clip needs one painter, in one thread; `reset` begins a new shot.

    Attributes:
        weights: parts of the styles, where `style` names several, which may change from frame to frame, as may
        stroke: the size of the strokes, from 0.5 to 2, None for those of the painting at the size of the frame, and
        strength: from 0, the frame as it is, to 1. Networks of many styles (`light/...`) know these.
        regions: the painters of regions by name, with weights, stroke and strength of their own.

    Args:
        style: as for `nststab.stylize`; it must have a network for `method`.
        method: "recurrent" is steady; "independent" draws each frame by itself.
        device: "auto", "cpu", "cuda" or "mps".
        engine: what runs the network.
        precision: of its arithmetic; "auto" is the fastest that the device has.
        work_size: longest side at which it paints; larger frames are enlarged along their own edges. "full" is none.
        bgr: frames are BGR, as OpenCV has them, and come back so.
        regions: styles by names of regions, whose masks come with the frames; `style` is that of what is left.

            painter = nststab.Painter("light/mosaic", regions={"sky": "light/starry_night"})
            out = painter(frame, regions={"sky": mask})

    Raises:
        NststabError: an unknown style, or one without such a network; a device or an engine that is not there.
    """

    def __init__(
        self,
        style: str | Sequence[str],
        method: Literal["recurrent", "independent"] = "recurrent",
        *,
        style_weights: Sequence[float] | None = None,
        stroke: float | None = None,
        strength: float = 1.0,
        device: str = "auto",
        engine: EngineName | Literal["auto"] = "auto",
        precision: Precision | Literal["auto"] = "auto",
        work_size: int | Literal["full"] = 640,
        bgr: bool = False,
        regions: Mapping[str, str | Sequence[str]] | None = None,
    ) -> None:
        if method not in ("recurrent", "independent"):
            raise NststabError(f"expected the method recurrent or independent, got {method!r}")
        if work_size != "full" and not (isinstance(work_size, Integral) and work_size >= LEAST_WORK_SIZE):
            raise NststabError(f"work_size: expected full, or pixels from {LEAST_WORK_SIZE} on, got {work_size!r}")
        where = machine(device, precision, engine)
        chosen = chosen_style(style, style_weights)
        self.weights, self.stroke, self.strength = chosen.weights, stroke, strength
        self._text = chosen.text
        self._names: tuple[str, ...] = ()
        self._rows: tuple[str, ...] = ()
        self._asked: tuple[tuple[float, ...], float | None, float, int] | None = None
        self._mixed: Tensor | None = None
        if isinstance(chosen, StyleSource) and chosen.checkpoint is not None:
            network = chosen.trained(method).network
        else:
            checkpoint, self._names = StyleBlend(chosen.sources, chosen.weights).whole(method)
            network = checkpoint.network
            self._rows = network.config.styles
        self.regions: dict[str, Painter] = {}
        for name, one in (regions or {}).items():
            own = Painter(
                one, method, stroke=stroke, strength=strength, device=device, engine=engine, precision=precision
            )
            self.regions[name] = own
        self._engine = make_engine(where.engine, network, where.device, where.precision)
        self._side = None if work_size == "full" else work_size
        self._order = -1 if bgr else 1
        self._previous: Tensor | None = None
        self._shape: torch.Size | None = None
        self._thread: int | None = None

    def __call__(self, frame: Picture, mask: Mask | None = None, regions: Mapping[str, Mask] | None = None) -> Picture:
        """The stylized frame, of the same size; where a `mask` of its own is black, the frame itself to the bit.

        Gray is between, and the masks' edges are feathered to both sides. Where those of `regions` overlap, the styles
        share; one that is not named has no part in this frame, and forgets the one before.

        Raises:
            NststabError: what is no uint8 (H, W, 3), or (H, W) of a mask; another size than the frame before, another
                thread, or a region without a style.
        """
        if not regions:
            return paint_batch([self], [frame], [mask])[0]
        _require_picture(frame, "a frame")
        for one in [*([] if mask is None else [mask]), *regions.values()]:
            _require_mask(one, frame.shape[:2])
        rgb = from_uint8(np.ascontiguousarray(frame[..., :: self._order]))
        share = None if mask is None else from_uint8(mask[..., None])
        parts = {name: from_uint8(one[..., None]) for name, one in regions.items()}
        return np.ascontiguousarray(to_uint8(self.paint(rgb, share, parts))[..., :: self._order])

    def paint(self, rgb: Tensor, mask: Tensor | None = None, regions: Mapping[str, Tensor] | None = None) -> Tensor:
        """The same of tensors: a frame (1, 3, H, W) and masks (1, 1, H, W) of float32 in [0, 1], RGB, on the CPU.

        Raises:
            NststabError: another size than the frame before, another thread, or a region without a style.
        """
        if not regions:
            return _painted([self], [rgb], [mask])[0]
        for name in regions:
            if name not in self.regions:
                raise NststabError(f"there is no region {name!r}; there are {', '.join(self.regions) or 'none'}")
        self._check(rgb.shape[-2:])
        small, painters = self._reduced(rgb), [self, *(self.regions[name] for name in regions)]
        drawn = [paint(one._engine, one._painting(small))[0] for one in painters]
        for one, (_, state) in zip(painters, drawn, strict=True):
            one._take(state, rgb.shape[-2:])
        for name in self.regions.keys() - regions.keys():
            self.regions[name].reset()
        parts = shares(list(regions.values()), mask)
        weak = torch.tensor([1 - one.strength for one in painters])[:, None, None]
        kept = (parts * weak).sum(dim=1, keepdim=True) if bool(weak.any()) else 0.0
        painted = mixed(torch.cat([picture for picture, _ in drawn]), parts)
        return self._finished(painted, small, rgb, parts.sum(dim=1, keepdim=True), kept)

    def another(self) -> "Painter":
        """A painter of another stream by the same network, so without its memory, with this one's settings."""
        twin = copy(self)
        twin.regions = {name: one.another() for name, one in self.regions.items()}
        twin.reset()
        return twin

    @property
    def is_adjustable(self) -> bool:
        """Whether `weights`, `stroke` and `strength` have an effect on its network."""
        return bool(self._rows)

    @property
    def drawn_stroke(self) -> float:
        """The stroke of the frame before, where `stroke` is None the one that it came to; 1 before the first."""
        if self.stroke is None and self._rows and self._asked is not None:
            return stroke_at(self._asked[-1], self._rows, self._names[0])
        return self.stroke or 1.0

    def _styles(self, side: int) -> Tensor | None:
        """Weights of the network's rows, as `paint` takes them, by what the attributes say now, at a longest side."""
        asked = (tuple(self.weights), self.stroke, self.strength, side)
        if asked != self._asked:
            self._mixed, self._asked = self._mix(*asked), asked
        return self._mixed

    def _mix(self, weights: tuple[float, ...], stroke: float | None, strength: float, side: int) -> Tensor | None:
        MethodSettings(stroke=stroke, strength=strength_curve(strength), style_weights=weights).check(("recurrent",))
        if not self._rows:
            if stroke not in (None, 1) or strength != 1:
                raise SettingError(
                    f"stroke and strength have no effect on {self._text}, whose network has no rows to mix"
                )
            return None
        if len(weights) != len(self._names):
            raise SettingError(f"style_weights has {len(weights)} numbers for {len(self._names)} styles")
        style = Look(dict(zip(self._names, weights, strict=True)), stroke, side).weights(self._rows)
        return torch.stack((style, photograph_row(self._rows, self._text))) if strength < 1 else style[None]

    def reset(self) -> None:
        """Forgets the frame before: the next one begins a shot, may have another size and come from another thread."""
        self._previous = self._shape = self._thread = None
        for one in self.regions.values():
            one.reset()

    def _check(self, shape: torch.Size) -> None:
        if self._thread not in (None, threading.get_ident()):
            raise NststabError("a painter was called from two threads; make one for each")
        if self._shape not in (None, shape):
            assert self._shape is not None
            raise NststabError(
                f"expected a frame of {_size(self._shape)} as the one before, got {_size(shape)}; "
                "call reset() where a new shot begins"
            )

    def _reduced(self, rgb: Tensor) -> Tensor:
        """The frame in the size at which it is painted."""
        return rgb if self._side is None or self._side >= max(rgb.shape[-2:]) else resize(rgb, self._side)

    def _painting(self, small: Tensor) -> Painting:
        return Painting(small, self._previous, self._styles(max(small.shape[-2:])), self.strength)

    def _take(self, state: Tensor | None, shape: torch.Size) -> None:
        """The frame is painted: what the next one sees of it."""
        self._previous, self._shape, self._thread = state, shape, threading.get_ident()

    def _finished(
        self, painted: Tensor, small: Tensor, rgb: Tensor, share: Tensor | None, kept: float | Tensor
    ) -> Tensor:
        """`share` of it in the size of `rgb`, which `small` was made of; `kept` is as for `enlarge`."""
        if painted is small:
            painted = rgb
        elif small is not rgb:
            painted = enlarge(painted, small, rgb, kept)
        return painted if share is None else torch.lerp(rgb, painted, share)


def paint_batch(
    painters: Sequence[Painter], frames: Sequence[Picture], masks: Sequence[Mask | None] | None = None
) -> list[Picture]:
    """The stylized frames of several streams, painted in one batch: each painter's own, as if it had been called.

        doors = [painter := nststab.Painter("light/mosaic"), painter.another(), painter.another()]
        shown = nststab.paint_batch(doors, [camera.read()[1] for camera in cameras])

    Streams may come and go between two calls, and each begins its shots by its own `reset`.

    Args:
        painters: one and others that its `another` gave, each once.
        frames: of each painter its next one, all of one size.
        masks: of each frame one of its own, or None, as for `Painter`.

    Raises:
        NststabError: what each painter raises, painters of several networks, or frames of several sizes; then no
            painter has taken its frame.
    """
    masks = [None] * len(frames) if masks is None else masks
    if not len(painters) == len(frames) == len(masks):
        raise NststabError(
            f"expected a frame for each of {len(painters)} painters, got {len(frames)} and {len(masks)} masks"
        )
    for frame, mask in zip(frames, masks, strict=True):
        _require_picture(frame, "a frame")
        if mask is not None:
            _require_mask(mask, frame.shape[:2])
    orders = [painter._order for painter in painters]
    rgbs = [from_uint8(np.ascontiguousarray(frame[..., ::order])) for frame, order in zip(frames, orders, strict=True)]
    painted = _painted(painters, rgbs, [None if mask is None else from_uint8(mask[..., None]) for mask in masks])
    return [np.ascontiguousarray(to_uint8(one)[..., ::order]) for one, order in zip(painted, orders, strict=True)]


def _painted(painters: Sequence[Painter], rgbs: Sequence[Tensor], masks: Sequence[Tensor | None]) -> list[Tensor]:
    """Frames (1, 3, H, W) of painters that share a network; they change when all are painted."""
    if not painters:
        return []
    engine, shape = painters[0]._engine, rgbs[0].shape[-2:]
    if len(set(map(id, painters))) < len(painters) or any(painter._engine is not engine for painter in painters):
        raise NststabError("expected painters of one network, each once; painter.another() makes them")
    for painter, rgb in zip(painters, rgbs, strict=True):
        painter._check(rgb.shape[-2:])
        if rgb.shape[-2:] != shape:
            raise NststabError(f"expected frames of one size, got {_size(shape)} and {_size(rgb.shape[-2:])}")
    small = [painter._reduced(rgb) for painter, rgb in zip(painters, rgbs, strict=True)]
    paintings = [painter._painting(one) for painter, one in zip(painters, small, strict=True)]
    results = []
    for painter, rgb, mask, one, (painted, state) in zip(
        painters, rgbs, masks, small, paint(engine, *paintings), strict=True
    ):
        painter._take(state, shape)
        for region in painter.regions.values():
            region.reset()
        share = None if mask is None else feathered(mask)
        results.append(painter._finished(painted, one, rgb, share, 1 - painter.strength))
    return results


def _size(shape: torch.Size) -> str:
    height, width = shape
    return f"{width}x{height}"


def frame_by_frame(function: Callable[[Picture], Picture]) -> Stylizer:
    """A stylizer that calls `function` for each frame, RGB uint8 (H, W, 3) in and out.

    So a method of one's own can be compared and measured. Raises NststabError, when it runs, for results that are no
    such pictures.
    """

    def stylizer(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            made = function(to_uint8(frame.rgb.cpu()))
            _require_picture(made, f"from {getattr(function, '__name__', 'the function')} a picture")
            yield frame.with_rgb(from_uint8(np.ascontiguousarray(made)))

    return stylizer


def _require_picture(value: Any, what: str) -> None:
    """Raises NststabError, with what may be wrong, unless `value` is uint8 (H, W, 3)."""
    expected = f"expected {what} as a NumPy array (H, W, 3) of uint8"
    if not isinstance(value, np.ndarray):
        hint = "; .numpy() of a tensor on the CPU is one" if isinstance(value, Tensor) else ""
        raise NststabError(f"{expected}, got {'None' if value is None else f'a {type(value).__name__}'}{hint}")
    if value.ndim != 3 or value.shape[2] != 3 or 0 in value.shape:
        hint = "; frame.transpose(1, 2, 0) moves the channels" if value.ndim == 3 and value.shape[0] == 3 else ""
        hint = "; frame[..., :3] drops the opacity" if value.ndim == 3 and value.shape[2] == 4 else hint
        raise NststabError(f"{expected}, got the shape {value.shape}{hint}")
    if value.dtype != np.uint8:
        hint = ""
        if np.issubdtype(value.dtype, np.floating):
            times = "255 * " if value.max() <= 1 else ""
            hint = f"; ({times}frame).round().astype(numpy.uint8) is one"
        raise NststabError(f"{expected}, got {value.dtype}{hint}")


def _require_mask(mask: Any, shape: tuple[int, ...]) -> None:
    """Raises NststabError unless `mask` is uint8 of that (H, W)."""
    got = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else f"a {type(mask).__name__}"
    if not isinstance(mask, np.ndarray) or mask.dtype != np.uint8 or mask.shape != shape:
        raise NststabError(
            f"expected a mask as a NumPy array {shape} of uint8, the frame's height and width, got {got}"
        )
