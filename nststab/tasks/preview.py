"""One frame of a clip in several styles and strokes, before the whole is begun: a sheet, and a page with a wipe.

And a sheet of one picture, or of one frame of a clip, in every shipped style.
"""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, product
from pathlib import Path
from typing import Literal

from torch import Tensor

from nststab.errors import NststabError, SettingError
from nststab.frames import Frame
from nststab.listener import Listener, reported, silent
from nststab.methods.build import Machine, build, machine
from nststab.methods.settings import FULL_STRENGTH, MethodSettings, OptimizationSettings, strength_curve
from nststab.report.document import document, part
from nststab.report.scene import data_uri
from nststab.report.sheet import contact_sheet
from nststab.shots import split_shots
from nststab.storage.durable import write_durably
from nststab.storage.folders import refuse_inputs, refuse_overwriting, require_parent
from nststab.styles.shipped import LIGHT, light_styles, style_names
from nststab.styles.shipped import styles as shipped_styles
from nststab.styles.source import StyleSource, style_name, style_source
from nststab.tasks.plan import between, duration
from nststab.tasks.settings import StylizeSettings
from nststab.tasks.stylize import dressed, opened
from nststab.video.clip import Clip, open_clip
from nststab.video.formats import PICTURE_SUFFIXES
from nststab.video.images import resize, write_picture
from nststab.video.settings import exact

log = logging.getLogger(__name__)

_TIMES = 3  # that a network sees the frame: its first result is drawn without a memory, and not as quick
_STAND_IN = OptimizationSettings(iterations=(30,), scales=2, coarse_iterations=60)  # of a painting without a network
_MOMENT = Fraction(1, 1000)  # in which no second frame begins: so it is the frame that is shown then
_SHEET = 960  # longest side of a panel on the sheet
_READ = (  # the settings, and groups of them, that have an effect
    *("size", "start", "duration", "fps", "preserve_color", "protect", "stroke"),
    *("loss", "device", "precision", "engine"),
)

WorkSize = int | Literal["full"]


@dataclass(frozen=True)
class Panel:
    """A frame in a style.

    Attributes:
        work_side: the longest side at which it was painted; `strength` as in `StylizeSettings`.
        seconds: that it took.
        is_stand_in: it was optimised for a short while, as the style has no network yet: the palette and the strokes
            are near to what one will draw, the time says nothing of it.
    """

    style: str
    work_side: int
    strength: float
    rgb: Tensor
    seconds: float
    is_stand_in: bool

    def told(self, frames: int | None) -> str:
        """Its label, with what a clip of so many frames will take."""
        name = f"{self.style}, {self.work_side} px" + (f", {self.strength:g}" if self.strength < 1 else "")
        if self.is_stand_in:
            return f"{name}: stand-in, untrained"
        whole = "" if frames in (None, 1) else f", clip {duration(self.seconds * (frames or 0))}"
        return f"{name}: {duration(self.seconds)} a frame{whole}"


@dataclass(frozen=True)
class Preview:
    """What `preview` drew: the input's frame, and a row of panels for each style; `frames` are those of the clip."""

    rgb: Tensor
    rows: tuple[tuple[Panel, ...], ...]
    frames: int | None

    def sheet(self) -> Tensor:
        """All on one picture (1, 3, H, W), each under its label, the input first in each row."""
        rows = [[(self.rgb, "input"), *((one.rgb, one.told(self.frames)) for one in row)] for row in self.rows]
        return contact_sheet([[_labelled(*cell) for cell in row] for row in rows], [""] * len(rows))

    def page(self, title: str) -> str:
        """A page that lays two of the pictures over each other, with a wipe between them; two menus choose them."""
        pictures = [("input", self.rgb)]
        pictures += [(panel.told(self.frames), panel.rgb) for row in self.rows for panel in row]
        shown = [{"label": label, "image": data_uri(".jpg", picture)} for label, picture in pictures]
        style, script = part("preview.css"), [part("preview.js")]
        return document(part("preview.html"), style=style, script=script, data={"pictures": shown}, title=title)


def _labelled(picture: Tensor, label: str) -> Tensor:
    return contact_sheet([[resize(picture, min(_SHEET, max(picture.shape[-2:])))]], [label])


def preview(
    source: str | Path,
    output: str | Path | None = None,
    *,
    styles: Sequence[str | Path],
    at: Fraction | float | None = None,
    work_sizes: Sequence[WorkSize] = (640,),
    strengths: Sequence[float] = (1.0,),
    html: str | Path | None = None,
    settings: StylizeSettings | None = None,
    overwrite: bool = False,
    progress: Listener = silent,
) -> Preview:
    """Draws one frame of a clip, or a picture, in several styles and working sizes, and tells what each would take.

        nststab.preview("clip.mp4", "sheet.png", styles=["starry_night", "painting.jpg"], at=80.5)

    A style with networks is drawn by the recurrent one, where it has one, of a picture by the independent one; an
    untrained painting by a short optimisation of Gatys et al. 2016, which is marked so.

    Args:
        output: the sheet, a picture; None writes none.
        at: seconds; by default the middle of the clip, where its length is known, else its beginning.
        work_sizes, strengths: see `StylizeSettings`; of each pair there is a panel.
        html: a page with a wipe to write.
        settings: of `stylize`; those that say something of several frames, or of what the arguments say, are refused.

    Raises SettingError for a style, a setting or an output that cannot be, NststabError and OSError as `stylize` does.
    """
    settings = StylizeSettings.of(settings)
    for one in settings.given():
        if one.name.partition(".")[0] not in _READ:
            raise SettingError(f"{one.name} has no effect on preview")
    if output is None and html is None:
        raise SettingError("output: expected a picture for the sheet, or html")
    if output is not None:
        _check_output(Path(output), Path(source), overwrite, purpose="for the sheet")
    if html is not None:
        _check_output(Path(html), Path(source), overwrite)
    sources = [style_source(style) for style in ([styles] if isinstance(styles, str) else styles)]
    if not sources:
        raise SettingError("styles: expected one at least")
    pairs = product(work_sizes, map(strength_curve, strengths))
    choices = [settings.changed(work_size=size, strength=strength) for size, strength in pairs]
    clip = opened(source, settings)
    shown, frames = _frame(source, clip, settings, at), clip.frame_count
    where = machine(settings.device, settings.precision, settings.engine)
    panels: list[Panel] = []
    with reported(progress, "preview", len(sources) * len(choices)) as advance:
        for style, (number, chosen) in product(sources, enumerate(choices)):
            is_again = style.picture is not None and number % len(strengths)  # a stand-in has one strength
            panels.append(panels[-1] if is_again else _drawn(clip, shown, style, chosen, where))
            advance(len(panels))
    rows = tuple(tuple(panels[begin : begin + len(choices)]) for begin in range(0, len(panels), len(choices)))
    made = Preview(shown.rgb, rows, frames)
    if output is not None:
        write_picture(Path(output), made.sheet())
        log.info(f"{output}: {', '.join(map(_called, sources))}")
    if html is not None:
        write_durably(Path(html), made.page(f"{clip.path.name} in {len(sources)} styles").encode())
        log.info(f"{html}: a page with a wipe between any two of them")
    return made


def _check_output(
    output: Path, source: Path, overwrite: bool, said: str = "overwrite=True", purpose: str | None = None
) -> None:
    """Raises what speaks against writing there, or against a picture for a `purpose`, before anything is computed."""
    if purpose is not None and output.suffix.lower() not in PICTURE_SUFFIXES:
        raise SettingError(f"{output}: expected a picture ({', '.join(sorted(PICTURE_SUFFIXES))}) {purpose}")
    require_parent(output)
    refuse_inputs(output, [source])
    refuse_overwriting(output, overwrite, said)


def _frame(source: str | Path, clip: Clip, settings: StylizeSettings, at: Fraction | float | None) -> Frame:
    if clip.kind == "picture":
        if at is not None:
            raise SettingError(f"at: {source} is a picture, which has one frame")
        return next(clip.frames())
    if at is None:
        rate = Fraction(25) if clip.source is None else clip.source.rate
        at = (settings.start or 0) + (Fraction(clip.frame_count // 2) / rate if clip.frame_count else 0)
    return next(opened(source, settings.changed(start=exact(at), duration=_MOMENT)).frames())


def _drawn(clip: Clip, shown: Frame, style: StyleSource, settings: StylizeSettings, where: Machine) -> Panel:
    is_stand_in = style.picture is not None
    network = "recurrent" if clip.kind != "picture" and style.has("recurrent") else "independent"
    method = "gatys" if is_stand_in else network
    if is_stand_in:
        settings = replace(settings, gatys=_STAND_IN, strength=FULL_STRENGTH)
    side = settings.work_side(max(clip.width, clip.height))
    stylizer = dressed(build(method, style, settings, longest_side=side, machine=where), clip, settings)
    marks, made = [time.monotonic()], list[Frame]()
    for frame in stylizer(replace(shown, number=number) for number in range(1 if is_stand_in else _TIMES)):
        made.append(frame)
        marks.append(time.monotonic())
    seconds = min(between(marks))
    return Panel(_called(style), side, settings.strength[0][1], made[-1].rgb, seconds, is_stand_in)


def _called(style: StyleSource) -> str:
    return style.text if style.text in style_names() else style_name(style.text)


SIZE = 512  # longest side of a picture on the sheet of all styles
FRAMES = 12  # of a clip; a recurrent network's first frames are not as steady, or as fine, as its later ones


def draw_sheet(
    source: str | Path,
    output: str | Path,
    *,
    size: int = SIZE,
    device: str = "auto",
    precision: str = "auto",
    restart: bool = False,
    progress: Listener = silent,
) -> Path:
    """Writes the picture `output`: the last of the frames of `source`, and the same in every style, under their names.

    A picture is drawn by the independent networks. Of a clip it is the last of its first 12 frames, or of the first
    shot where that is shorter, drawn by the recurrent ones.

    Args:
        size: longest side of the frames; smaller ones are not enlarged.
        restart: overwrite the output.

    Raises NststabError where the output is wrong or no style has such a network, and OSError.
    """
    clip, output = Path(source), Path(output)
    _check_output(output, clip, restart, "restart=True", "to draw on")
    where = machine(device, precision)
    frames = _frames(clip, size)
    method = "recurrent" if len(frames) > 1 else "independent"
    styles = {style.name: StyleSource(style.name, checkpoint=style.checkpoint) for style in shipped_styles()}
    styles = {name: style_source(f"{LIGHT}/{name}") for name in light_styles()} | styles
    chosen = {name: style for name, style in styles.items() if style.has(method)}
    for name in styles.keys() - chosen:
        log.warning(f"{name} is left out, it has no {method} network")
    if not chosen:
        raise NststabError(f"no style with a {method} network is shipped")
    panels, side = {"input": frames[-1].rgb}, max(frames[-1].rgb.shape[-2:])
    with reported(progress, f"{method}, styles", len(chosen)) as advance:
        for number, (name, style) in enumerate(sorted(chosen.items())):
            *_, last = build(method, style, MethodSettings(), longest_side=side, machine=where)(frames)
            panels[name] = last.rgb
            advance(number + 1)
    write_picture(output, labelled(list(panels.values()), list(panels)))
    log.info(f"{output}: {', '.join(sorted(chosen))}")
    return output


def _frames(source: Path, size: int) -> list[Frame]:
    """The first frames of the first shot, no larger than `size`."""
    frames = islice(open_clip(source).frames(), FRAMES)
    shots = split_shots(frame.with_rgb(resize(frame.rgb, min(size, max(frame.rgb.shape[-2:])))) for frame in frames)
    return list(next(shots))


def labelled(pictures: Sequence[Tensor], labels: Sequence[str]) -> Tensor:
    """Pictures in rows and columns, each under its own label: (1, 3, H, W)."""
    panels = [contact_sheet([[picture]], [label]) for picture, label in zip(pictures, labels, strict=True)]
    columns = math.ceil(len(panels) / math.isqrt(len(panels)))
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    return contact_sheet(rows, [""] * len(rows))
