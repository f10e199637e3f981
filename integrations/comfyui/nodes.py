"""Nodes of ComfyUI for batches of frames: stylize, take the flicker out, score.

ComfyUI's IMAGE is (B, H, W, 3) and its MASK (B, H, W), float32 in [0, 1]; a batch is a clip, its images the frames.
"""

from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor

try:
    import nststab
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "these nodes need the package nststab in the Python that runs ComfyUI; README.md beside them says how"
    ) from error

from nststab.errors import NststabError
from nststab.frames import Frame, as_frames
from nststab.listener import Progress
from nststab.methods.deflicker import Deflicker, steadied
from nststab.methods.settings import FEED_FORWARD, DeflickerSettings, strength_curve
from nststab.settings import Settings, at, settings_of
from nststab.shots import split_shots
from nststab.styles.shipped import LIGHT, light_styles, styles
from nststab.tasks.settings import LiveSettings

_NONE = "none"
_LARGEST = 8192  # of a number that has no bound: ComfyUI's page needs one
_STYLE = "A shipped style; those of one network (light/...) can be mixed and know stroke and strength."
_OWN_STYLE = "A style that you trained: a folder or a checkpoint. It goes before the one above."
Inputs = dict[str, dict[str, Any]]


class StylizeNode:
    """Paints a clip in a style; by default each frame sees the painted one before it, and a cut begins anew."""

    CATEGORY = "nststab"
    DESCRIPTION = "Stylizes the frames of a clip without flicker."
    FUNCTION = "stylize"
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("As many frames, of the same size.",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        names = _painting_styles()
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "The frames of a clip, in order."}),
                "style": (names, {"default": "the_great_wave", "tooltip": _STYLE}),
                "method": (
                    list(FEED_FORWARD),
                    {"tooltip": "recurrent is steady; independent draws each frame by itself."},
                ),
                "strength": _number(LiveSettings, "strength", 0.05),
                "stroke": _number(LiveSettings, "stroke", 0.05),
                "work_size": _number(LiveSettings, "work_size", 8),
            },
            "optional": {
                "second_style": ([_NONE, *names], {"tooltip": "Another style of the same network, to mix with."}),
                "mix": (
                    "FLOAT",
                    {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.05, "tooltip": "Share of the second style."},
                ),
                "own_style": ("STRING", {"default": "", "tooltip": _OWN_STYLE}),
                "mask": ("MASK", {"tooltip": "White is painted; one for each frame, or one for all."}),
            },
        }

    def stylize(
        self,
        images: Tensor,
        style: str,
        method: Any,
        strength: float,
        stroke: float,
        work_size: int,
        second_style: str = _NONE,
        mix: float = 0.5,
        own_style: str = "",
        mask: Tensor | None = None,
    ) -> tuple[Tensor]:
        """The painted frames (B, H, W, 3). Raises NststabError for a style that does not fit, and wrong shapes."""
        frames = _frames(images, "images")
        masks = None if mask is None else _masks(mask, frames)
        first = own_style.strip() or style
        mixed = second_style != _NONE
        painter = nststab.Painter(
            [first, second_style] if mixed else first,
            method,
            style_weights=[1 - mix, mix] if mixed else None,
            stroke=stroke or None,
            strength=strength,
            work_size=work_size,
        )
        steps = _Steps(len(frames))
        painted = []
        for shot in split_shots(as_frames(frames[:, None].unbind())):
            painter.reset()
            for frame in shot:
                painted.append(painter.paint(frame.rgb, None if masks is None else masks[[frame.number]]))
                steps.done(len(painted))
        return (_images(painted),)


class DeflickerNode:
    """Steadies what another node made of a clip, frame by frame, by the motion of the original."""

    CATEGORY = "nststab"
    DESCRIPTION = "Takes the flicker out of frames that were processed one by one."
    FUNCTION = "deflicker"
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("As many frames, of the processed ones' size.",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "processed": ("IMAGE", {"tooltip": "The frames that flicker."}),
                "strength": _number(DeflickerSettings, "strength", 0.05),
            },
            "optional": {
                "original": (
                    "IMAGE",
                    {"tooltip": "What they were made of, any size; without it their own motion is followed."},
                ),
            },
        }

    def deflicker(self, processed: Tensor, strength: float, original: Tensor | None = None) -> tuple[Tensor]:
        """The steadied frames (B, H, W, 3). Raises NststabError where the two batches differ in their counts."""
        frames = _frames(processed, "processed")
        contents: list[Tensor] | list[None] = [None] * len(frames)
        if original is not None:
            originals = _frames(original, "original")
            _require_count("original", len(originals), len(frames))
            contents = list(originals[:, None].unbind())
        given = (Frame(rgb, number, content=contents[number]) for number, rgb in enumerate(frames[:, None].unbind()))
        steps = _Steps(len(frames))
        steady = []
        for frame in steadied(given, Deflicker(DeflickerSettings(strength_curve(strength)))):
            steady.append(frame.rgb)
            steps.done(len(steady))
        return (_images(steady),)


class ScoreNode:
    """Measures how steady a stylized clip is beside its original, with the losses that expose a cheat."""

    CATEGORY = "nststab"
    DESCRIPTION = "Measures the flicker of a stylized clip beside its original."
    FUNCTION = "score"
    OUTPUT_NODE = True
    FIGURES: ClassVar = ("psnr", "ssim", "warp_error", "flicker", "style_loss", "content_loss")
    RETURN_TYPES = ("STRING", *["FLOAT"] * len(FIGURES))
    RETURN_NAMES = ("table", *FIGURES)
    OUTPUT_TOOLTIPS = (
        "All figures, the original's in the first row.",
        "dB of corresponding patches of neighbouring frames; higher is steadier.",
        "SSIM of the same patches.",
        "Mean squared error after motion, of a range of 1; lower is steadier.",
        "Levels of 255 by which still pixels change.",
        "Loss of style; nan where none was chosen.",
        "Loss of content.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "original": ("IMAGE", {"tooltip": "The clip before it was stylized."}),
                "stylized": ("IMAGE", {"tooltip": "As many frames, of the same shape, scaled or not."}),
            },
            "optional": {
                "style": (
                    [_NONE, *_painting_styles()],
                    {"tooltip": "The style it was given, to measure how much of it."},
                ),
                "own_style": ("STRING", {"default": "", "tooltip": "A picture or a style of yours, instead."}),
            },
        }

    def score(self, original: Tensor, stylized: Tensor, style: str = _NONE, own_style: str = "") -> dict[str, Any]:
        """The table and the numbers, as a node that also shows the table. Raises as `nststab.score` does."""
        source = nststab.clip_of(_frames(original, "original"), "original")
        clip = nststab.clip_of(_frames(stylized, "stylized"), "stylized")
        chosen = own_style.strip() or (None if style == _NONE else style)
        scores = nststab.score(source, [clip], style=chosen, progress=_Steps(len(original)).listen)
        figures = scores.clips[0].score.as_row()
        table = scores.table()
        return {"ui": {"text": [table]}, "result": (table, *(figures[name] for name in self.FIGURES))}


def _painting_styles() -> list[str]:
    """The shipped styles that have a network."""
    return [*(style.name for style in styles() if style.methods), *(f"{LIGHT}/{name}" for name in light_styles())]


def _number(settings: type[Settings], name: str, step: float) -> tuple[str, dict[str, Any]]:
    """A setting of the library as an input: its default, which 0 stands for where it is no number, range and help."""
    one = next(one for one in settings_of(settings) if one.name == name)
    default = at(one.default, 0) if isinstance(one.default, tuple) else one.default
    least, most = one.spec.least, _LARGEST if one.spec.most is None else one.spec.most
    told = one.spec.help.partition(";")[0].rstrip(".") + "."
    if default is None:
        default, least, told = 0, 0, f"{told} 0 is {one.spec.told}."
    kind = "INT" if one.item is int else "FLOAT"
    return kind, {"default": default, "min": least, "max": most, "step": step, "tooltip": told}


class _Steps:
    """Moves ComfyUI's bar, and stops where its user asked for it; does nothing where there is no ComfyUI."""

    def __init__(self, total: int) -> None:
        try:
            self._bar: Any = import_module("comfy.utils").ProgressBar(total)
            self._management: Any = import_module("comfy.model_management")
        except ModuleNotFoundError:
            self._bar = None

    def done(self, count: int) -> None:
        """`count` frames are. Raises ComfyUI's InterruptProcessingException."""
        if self._bar is not None:
            self._management.throw_exception_if_processing_interrupted()
            self._bar.update_absolute(count)

    def listen(self, progress: Progress) -> None:
        """The same as a `Listener`."""
        if not progress.finished:
            self.done(progress.done)


def _frames(images: Any, name: str) -> Tensor:
    """ComfyUI's IMAGE as frames (T, 3, H, W) on the CPU; what other nodes left outside of [0, 1] is cut off."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
        got = tuple(images.shape) if isinstance(images, Tensor) else f"a {type(images).__name__}"
        raise NststabError(f"{name}: expected a batch of RGB images (B, H, W, 3), got {got}")
    return images.detach().cpu().float().movedim(-1, 1).contiguous().clamp(0, 1)


def _images(frames: list[Tensor]) -> Tensor:
    return torch.cat(frames).movedim(1, -1).contiguous()


def _masks(mask: Tensor, frames: Tensor) -> Tensor:
    """ComfyUI's MASK (B, H, W) or (H, W) as (T, 1, H, W): one for each frame."""
    masks = mask.detach().cpu().float().clamp(0, 1).reshape(-1, 1, *mask.shape[-2:])
    if masks.shape[-2:] != frames.shape[-2:]:
        (height, width), (wanted_height, wanted_width) = masks.shape[-2:], frames.shape[-2:]
        raise NststabError(f"mask: expected {wanted_width}x{wanted_height} as the images have, got {width}x{height}")
    if len(masks) == 1:
        return masks.expand(len(frames), -1, -1, -1)
    _require_count("mask", len(masks), len(frames))
    return masks


def _require_count(name: str, count: int, wanted: int) -> None:
    if count != wanted:
        raise NststabError(f"{name}: expected {wanted}, one for each frame, got {count}")


NODE_CLASS_MAPPINGS = {"NststabStylize": StylizeNode, "NststabDeflicker": DeflickerNode, "NststabScore": ScoreNode}
NODE_DISPLAY_NAME_MAPPINGS = {
    "NststabStylize": "Stylize (nststab)",
    "NststabDeflicker": "Deflicker (nststab)",
    "NststabScore": "Score flicker (nststab)",
}
