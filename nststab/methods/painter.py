"""Frames in a loop, as NumPy arrays: the networks for cameras and other programs, and others' functions for ours."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from nststab.methods.feed_forward import paint
from nststab.methods.regions import feathered
from nststab.methods.settings import MethodSettings, strength_curve
from nststab.networks.rows import Look
from nststab.settings import Precision
from nststab.styles.source import StyleBlend, StyleSource, chosen_style, photograph_row
from nststab.video.images import from_uint8, resize, to_uint8

Picture = NDArray[np.uint8]
"""(H, W, 3), 0 to 255."""

Mask = NDArray[np.uint8]
"""(H, W), 255 where a frame is stylized, 0 where it stays as it is."""


class Painter:
    """Stylizes frame after frame: `out = painter(frame)`, NumPy uint8 (H, W, 3) in and out, any size.

        painter = nststab.Painter("the_great_wave", bgr=True)
        while (frame := camera.read()[1]) is not None:
            cv2.imshow("painted", painter(frame))

    It remembers the frame before, so one clip needs one painter, in one thread; `reset` begins a new shot.

    Attributes:
        weights: parts of the styles, where `style` names several, which may change from frame to frame, as may
        stroke: the size of the strokes, from 0.5 to 2, and
        strength: from 0, the frame as it is, to 1. Networks of many styles (`light/...`) know these.

    Args:
        style: as for `nststab.stylize`; it must have a network for `method`.
        method: "recurrent" is steady; "independent" draws each frame by itself.
        device: "auto", "cpu", "cuda" or "mps".
        engine: what runs the network.
        precision: of its arithmetic; "auto" is the fastest that the device has.
        work_size: longest side at which it paints; larger frames are enlarged along their own edges. "full" is none.
        bgr: frames are BGR, as OpenCV has them, and come back so.

    Raises:
        NststabError: an unknown style, or one without such a network; a device or an engine that is not there.
    """

    def __init__(
        self,
        style: str | Sequence[str],
        method: Literal["recurrent", "independent"] = "recurrent",
        *,
        style_weights: Sequence[float] | None = None,
        stroke: float = 1.0,
        strength: float = 1.0,
        device: str = "auto",
        engine: EngineName | Literal["auto"] = "auto",
        precision: Precision | Literal["auto"] = "auto",
        work_size: int | Literal["full"] = 640,
        bgr: bool = False,
    ) -> None:
        if method not in ("recurrent", "independent"):
            raise NststabError(f"expected the method recurrent or independent, got {method!r}")
        where = machine(device, precision, engine)
        chosen = chosen_style(style, style_weights)
        self.weights, self.stroke, self.strength = chosen.weights, stroke, strength
        self._text = chosen.text
        self._names: tuple[str, ...] = ()
        self._rows: tuple[str, ...] = ()
        self._asked: tuple[tuple[float, ...], float, float] | None = None
        self._mixed: Tensor | None = None
        if isinstance(chosen, StyleSource) and chosen.checkpoint is not None:
            network = chosen.trained(method).network
        else:
            checkpoint, self._names = StyleBlend(chosen.sources, chosen.weights).whole(method)
            network = checkpoint.network
            self._rows = network.config.styles
        self._engine = make_engine(where.engine, network, where.device, where.precision)
        self._side = None if work_size == "full" else work_size
        self._order = -1 if bgr else 1
        self._previous: Tensor | None = None
        self._shape: torch.Size | None = None
        self._thread: int | None = None

    def __call__(self, frame: Picture, mask: Mask | None = None) -> Picture:
        """The stylized frame, of the same size; where a `mask` of its own is black, the frame itself to the bit.

        Gray is between, and the mask's edges are feathered.

        Raises:
            NststabError: what is no uint8 (H, W, 3), or (H, W) of a mask; another size than the frame before, or
                another thread.
        """
        _require_picture(frame, "a frame")
        if mask is not None:
            _require_mask(mask, frame.shape[:2])
        rgb = from_uint8(np.ascontiguousarray(frame[..., :: self._order]))
        share = None if mask is None else from_uint8(mask[..., None])
        return np.ascontiguousarray(to_uint8(self.paint(rgb, share))[..., :: self._order])

    def paint(self, rgb: Tensor, mask: Tensor | None = None) -> Tensor:
        """The same of tensors: a frame (1, 3, H, W) and a mask (1, 1, H, W) of float32 in [0, 1], RGB, on the CPU.

        Raises:
            NststabError: another size than the frame before, or another thread.
        """
        self._check(rgb.shape[-2:])
        small = rgb if self._side is None or self._side >= max(rgb.shape[-2:]) else resize(rgb, self._side)
        painted, self._previous = paint(self._engine, small, self._previous, self._styles(), self.strength)
        if painted is small:
            painted = rgb
        elif small is not rgb:
            painted = enlarge(painted, small, rgb, 1 - self.strength)
        return painted if mask is None else torch.lerp(rgb, painted, feathered(mask))

    @property
    def is_adjustable(self) -> bool:
        """Whether `weights`, `stroke` and `strength` have an effect on its network."""
        return bool(self._rows)

    def _styles(self) -> Tensor | None:
        """Weights of the network's rows, as `paint` takes them, by what the attributes say now."""
        asked = (tuple(self.weights), self.stroke, self.strength)
        if asked != self._asked:
            self._mixed, self._asked = self._mix(*asked), asked
        return self._mixed

    def _mix(self, weights: tuple[float, ...], stroke: float, strength: float) -> Tensor | None:
        MethodSettings(stroke=stroke, strength=strength_curve(strength), style_weights=weights).check(("recurrent",))
        if not self._rows:
            if (stroke, strength) != (1, 1):
                raise SettingError(
                    f"stroke and strength have no effect on {self._text}, whose network has no rows to mix"
                )
            return None
        if len(weights) != len(self._names):
            raise SettingError(f"style_weights has {len(weights)} numbers for {len(self._names)} styles")
        style = Look(dict(zip(self._names, weights, strict=True)), stroke).weights(self._rows)
        return torch.stack((style, photograph_row(self._rows, self._text))) if strength < 1 else style[None]

    def reset(self) -> None:
        """Forgets the frame before: the next one begins a shot, may have another size and come from another thread."""
        self._previous = self._shape = self._thread = None

    def _check(self, shape: torch.Size) -> None:
        thread = threading.get_ident()
        if self._thread not in (None, thread):
            raise NststabError("a painter was called from two threads; make one for each")
        if self._shape not in (None, shape):
            assert self._shape is not None
            (height, width), (got_height, got_width) = self._shape, shape
            raise NststabError(
                f"expected a frame of {width}x{height} as the one before, got {got_width}x{got_height}; "
                "call reset() where a new shot begins"
            )
        self._shape, self._thread = shape, thread


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
