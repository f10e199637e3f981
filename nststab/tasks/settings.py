"""The settings of the tasks that turn a clip into a clip."""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from nststab.errors import SettingError
from nststab.flow.settings import FlowMethod, FlowSettings
from nststab.measure.settings import MeasureSettings
from nststab.methods.settings import LEAST_WORK_SIZE, MachineSettings, MethodSettings
from nststab.settings import same, setting
from nststab.video.settings import ClipSettings, parse_rate, parse_time, parse_work_size


def parse_bytes(text: str) -> int:
    """`4G`, `800M` or a number of bytes; raises ValueError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise ValueError(f"expected a number of bytes, such as 4G or 800M, got {text!r}")
    return int(float(found[1]) * 1024 ** ("KMGT".find(found[2].upper()) + 1 if found[2] else 0))


PORT = 8766
"""Where the page of `web` is served; those of a study and of `live` have others."""


@dataclass(frozen=True)
class StylizeSettings(MethodSettings, MachineSettings, ClipSettings):
    """All that `stylize` and `optimize` can be told beside input, output, style and method."""

    work_size: int | Literal["full"] = setting(
        640,
        "Longest side at which the method paints; larger frames are enlarged along the edges of the input. "
        "Less makes larger strokes.",
        least=LEAST_WORK_SIZE,
        metavar="PIXELS|full",
        parse=parse_work_size,
    )
    mask: Path | None = setting(
        None, "White where to stylize, gray partly: a picture, a folder of pictures or a clip.", metavar="MASK"
    )
    mask_styles: tuple[str, ...] = setting(
        (), "Styles of regions, white in masks of their own; --style is that of the rest.", metavar="STYLE=MASK,..."
    )
    protect: Literal["faces"] | None = setting(None, "Leave faces that look into the camera as they are.")
    cuts: bool = setting(True, "Take the clip for one shot; do not look for cuts.")
    preserve_color: bool = setting(False, "Take only the luminance from the style.")
    deflicker: float = setting(
        0.0,
        "Steady what the method makes along the motion of the input, from 0, not at all, to 1, as steady as can be.",
        least=0,
        most=1,
        told="0; without a number 1",
        metavar="[STRENGTH]",
        bare=1.0,
    )
    memory: int | None = setting(
        None,
        "Memory that the process may take: larger pictures are worked on in parts, to the same result.",
        least=1,
        parse=parse_bytes,
        told="as much as it takes",
        metavar="4G|800M",
    )
    audio: bool = setting(True, "Leave the audio out.", decides=False)
    raw: bool = setting(False, "Write bare rgb24 frames to -, not y4m.", decides=False)

    @property
    def regions(self) -> tuple[tuple[str, Path], ...]:
        """The styles of regions with their masks."""
        pairs = [text.rpartition("=") for text in self.mask_styles]
        for text, (style, _, mask) in zip(self.mask_styles, pairs, strict=True):
            if not style or not mask:
                raise SettingError(f"mask_styles: {text!r}: expected STYLE=MASK, as in mosaic=sky.png")
        return tuple((style, Path(mask)) for style, _, mask in pairs)

    @property
    def masks(self) -> tuple[Path, ...]:
        """All masks that are read: where to stylize, if that is told, and those of regions."""
        return (*([self.mask] if self.mask else []), *(mask for _, mask in self.regions))

    def work_side(self, longest: int) -> int:
        """The longest side at which frames of a longest side are painted."""
        return longest if self.work_size == "full" else min(self.work_size, longest)


@dataclass(frozen=True)
class CompareSettings(StylizeSettings):
    """All that `compare` can be told; it measures with the network, the seed and the style's size of `gatys`."""

    patches: int = same(MeasureSettings, "patches")
    differences: bool = setting(False, "Show below each clip what changes and motion does not explain.")

    @property
    def measured(self) -> MeasureSettings:
        """How the clips are measured."""
        return MeasureSettings(self.patches, self.cuts, self.gatys.network, self.gatys.vgg_weights, self.gatys.seed)


@dataclass(frozen=True)
class FlowTaskSettings(ClipSettings):
    """What `estimate_flow` can be told."""

    distances: tuple[int, ...] = setting(
        (1,), "Also between frames farther apart, as in 1,2,4; for ruder.long_term.", least=1
    )
    method: FlowMethod = same(FlowSettings, "method")
    cache: Path | None = same(FlowSettings, "cache")


@dataclass(frozen=True)
class LiveSettings(MachineSettings):
    """All that `live` can be told beside source, output, style and method."""

    size: int | None = same(ClipSettings, "size")
    work_size: int | Literal["full"] = same(StylizeSettings, "work_size")
    strength: float = setting(
        1.0, "How far a network of many styles goes, from 0, the input, to 1; changes while it runs.", least=0, most=1
    )
    stroke: float | None = same(MethodSettings, "stroke")
    show: Literal["auto", "window", "page", "none"] = setting(
        "auto", "Show it in a window, or on a page for this machine alone; auto: a window where there is a display."
    )
    port: int = setting(8767, "Where the page is served; 0 is any port that is free.", least=0, most=65535)
    virtual_camera: bool = setting(False, "Be a camera for other programs: pip install 'nststab[live]'.")
    duration: Fraction | None = setting(
        None,
        "End after this time: seconds, or [hh:]mm:ss.",
        above=0,
        told="it goes on",
        metavar="TIME",
        parse=parse_time,
    )
    fps: Fraction = setting(
        Fraction(25), "Rate of y4m, raw frames and the virtual camera.", above=0, metavar="RATE", parse=parse_rate
    )
    raw: bool = same(StylizeSettings, "raw")
    raw_size: tuple[int, int] | None = same(ClipSettings, "raw_size")
