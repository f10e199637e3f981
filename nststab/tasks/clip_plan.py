"""What `stylize`, `optimize` and `compare` take: their frames as a plan measures them."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from nststab.baselines.gatys import HISTORY, SMALLEST_SCALE
from nststab.color import PreserveColor
from nststab.flow.estimators import ESTIMATORS, between_frames
from nststab.flow.pairs import flow_ahead
from nststab.frames import Frame, as_frames
from nststab.methods.build import Around, Machine, build, frame_settings, later_iterations
from nststab.methods.deflicker import Deflicker
from nststab.methods.enlarge import enlarge
from nststab.methods.settings import FEED_FORWARD, FULL_STRENGTH, DeflickerSettings, MethodSettings
from nststab.settings import Curve
from nststab.shots import split_shots
from nststab.styles.source import Style
from nststab.tasks.plan import Seconds, Step, Work, added, between, noise, sized_like
from nststab.tasks.settings import StylizeSettings
from nststab.video.clip import Clip, convert_clip, frames_under_way
from nststab.video.formats import output_kind
from nststab.video.images import picture_size, resize, resized_shape
from nststab.video.pipes import STANDARD

_REPEATED = 2  # frames or iterations that are measured
_PICTURE = 12  # bytes a pixel of a float32 RGB picture
_MASK = 4  # bytes a pixel of a mask
_DECODED = 75  # bytes a pixel of the source: a decoder's references, and the frame before it is scaled
_ENCODED = {".mp4": 100, ".mkv": 100, ".webm": 230, ".gif": 230}  # a pixel: what the encoder looks ahead, measured
_STEADIED = 750  # bytes a pixel that `Deflicker` comes to keep after its first frames, measured
_MOVED, _LEAST_MOVED, _MEGAPIXEL = 16, 4, 1_000_000  # frames of the clip that are read and written, of that size
_LOOKAHEAD = 50  # frames after which any encoder holds all that
_MOST_WORK: Curve = ((0.0, 0.5),)  # a strength between 0 and 1, where the network runs twice


def clip_work(
    clip: Clip,
    output: str,
    methods: Sequence[str],
    style: Style,
    settings: StylizeSettings,
    where: Machine,
    panels: int = 1,
) -> Work:
    """The work of a command on a clip with our `methods`; the output of `compare` is several `panels` wide."""

    def frame(width: int, height: int) -> Seconds:
        return added(frame_seconds(method, style, settings, where, width, height) for method in methods)

    def flow(width: int, height: int) -> Seconds:
        """To each later frame, from all those that it is tied to."""
        return Seconds(0.0, flow_seconds(settings.flow.method, width, height) * len(settings.ruder.long_term))

    longest = max(clip.width, clip.height)
    side = settings.work_side(longest)
    steps: list[Step] = [frame]
    if "ruder" in methods and settings.flow.files is None:
        steps.append(flow)
    if settings.deflicker:
        steps.append(partial(_steadied, len(methods)))
    width, height = source_size(clip)
    encoded = _ENCODED.get(_suffix(output), 5 * _PICTURE)
    if clip.frame_count is not None:
        encoded = round(encoded * min(1.0, (clip.frame_count + 5) / _LOOKAHEAD))
    at_work = len(methods) * _STEADIED if settings.deflicker else 0
    if set(methods) - set(FEED_FORWARD) and settings.gatys.optimizer == "lbfgs":
        at_work += 2 * _PICTURE * max(0, min(HISTORY, frame_settings(settings).iterations) - _REPEATED)
    decoded = width * height * _DECODED if clip.kind == "video" else 0
    masks = len(settings.masks) + bool(settings.protect)
    waiting = "ruder" in methods and settings.ruder.passes > 1 and (masks or side < longest) and not settings.cuts
    told = "; ".join(_described(method, settings, where) for method in methods)
    told += "; steadied" if settings.deflicker else ""
    told += f"; painted at {side} pixels" if side < longest else ""

    def working(width: int, height: int) -> tuple[int, int]:
        down, across = resized_shape(height, width, settings.work_side(max(width, height)))
        return across, down

    def held(width: int, height: int) -> float:
        across, down = working(width, height)
        frames = 3 if clip.kind == "picture" else frames_under_way(width, height)
        if waiting and clip.frame_count is not None:  # for the last pass over the shot, which is the clip
            frames = clip.frame_count
        each = panels * (frames * _PICTURE + encoded)
        if masks:  # each frame comes with them, and is kept beside the painted one until it is mixed with it
            each += frames * masks * _MASK + 2 * _PICTURE
        return decoded + each * width * height + at_work * across * down

    return Work(
        {
            "input": f"{clip.path}, {width}x{height}",
            "output": f"{output}, {clip.width * panels}x{clip.height}",
            "method": told,
        },
        clip.frame_count,
        "frames",
        clip.width,
        clip.height,
        tuple(steps),
        held,
        "size={}".format,
        sized_like(width, height),
        others=(lambda: moving_seconds(clip, output, settings, panels),) if clip.is_seekable else (),
        bound=where.memory,
        device=where.device,
        working=working,
        outer=partial(_enlarged, len(methods), settings.strength != FULL_STRENGTH) if side < longest else None,
    )


@dataclass(frozen=True)
class _Beginning(Clip):
    """The first frames of a clip, fewer the larger they are."""

    def frames(self) -> Iterator[Frame]:
        count = _MOVED * _MEGAPIXEL // (self.width * self.height)
        return islice(super().frames(), min(_MOVED, max(_LEAST_MOVED, count)))


def moving_seconds(clip: Clip, output: str, settings: StylizeSettings, panels: int) -> Seconds:
    """Of reading and writing a frame, measured on the clip's first ones.

    Other threads do that meanwhile, so it is the processors' time, shared among those that the networks take as well.
    """
    count = 0

    def same(frames: Iterable[Frame]) -> Iterator[Frame]:
        nonlocal count
        for shot in split_shots(frames) if settings.cuts else [frames]:
            for frame in PreserveColor(iter)(shot) if settings.preserve_color else shot:
                count += 1
                yield frame.with_rgb(torch.cat([frame.rgb] * panels, dim=3))

    with TemporaryDirectory(prefix="nststab_") as folder:
        started = time.process_time()
        convert_clip(_Beginning(**vars(clip)), f"{folder}/plan{_suffix(output) or '/'}", same, audio=False)
        return Seconds.of([(time.process_time() - started) / count / torch.get_num_threads()])


def _suffix(output: str) -> str:
    """Of the file that is written; empty for a folder."""
    if output == str(STANDARD):
        return ".y4m"
    return "" if output_kind(output) == "folder" else Path(output).suffix.lower()


def source_size(clip: Clip) -> tuple[int, int]:
    """Width and height before they are scaled."""
    if clip.reader is not None:
        return clip.reader.width, clip.reader.height
    height, width = picture_size(clip.pictures[0])
    return width, height


def _described(method: str, settings: MethodSettings, where: Machine) -> str:
    if method in FEED_FORWARD:
        return f"{method} in {where.precision}"
    text = f"{method} in {where.optimizing}, {frame_settings(settings).iterations} iterations"
    if method == "ruder":
        text += f" for the first frame, {later_iterations(settings)} for each later one"
        text += f", {settings.ruder.passes} passes" if settings.ruder.passes > 1 else ""
    return text + (f", {settings.gatys.scales} scales" if settings.gatys.scales > 1 else "")


def frame_seconds(
    method: str, style: Style, settings: MethodSettings, where: Machine, width: int, height: int
) -> Seconds:
    """Of a whole frame, without its flow: two frames of a network, or as many iterations as the settings allow."""
    longest = max(width, height)
    if method in FEED_FORWARD:
        if len(settings.strength) > 1:  # over time, which noise has not
            settings = replace(settings, strength=_MOST_WORK)
        network = build(method, style, settings, longest_side=longest, machine=where)
        marks = [time.monotonic()]
        marks += [time.monotonic() for _ in network(as_frames(noise(width, height, 1 + _REPEATED)))]
        return Seconds.of(between(marks[1:]))
    one = _iterations(style, settings, where, width, height)
    loop = frame_settings(settings)
    scales = [scale for scale in range(1, settings.gatys.scales) if min(width, height) / 2**scale >= SMALLEST_SCALE]
    first = loop.iterations + sum(loop.coarse_iterations / 4**scale for scale in scales)
    if method == "gatys":
        return Seconds.of(one, first, first)
    later = later_iterations(settings)
    if settings.ruder.passes > 1:
        each = first + (settings.ruder.passes - 1) * later
        return Seconds.of(one, each, each)
    return Seconds.of(one, first, later)


def _iterations(style: Style, settings: MethodSettings, where: Machine, width: int, height: int) -> Sequence[float]:
    marks: list[float] = []
    gatys = replace(settings.gatys, iterations=(_REPEATED,), scales=1, init="content")
    short = replace(settings, gatys=gatys)
    stylizer = build(
        "gatys",
        style,
        short,
        longest_side=max(width, height),
        machine=where,
        around=Around(iteration=lambda *_: marks.append(time.monotonic())),
    )
    for _ in stylizer(as_frames(noise(width, height))):
        pass
    return between(marks)


def _steadied(clips: int, width: int, height: int) -> Seconds:
    """Of steadying a frame of so many clips."""
    frames: Iterable[Frame] = as_frames(noise(width, height, 1 + _REPEATED))
    for _ in range(clips):
        frames = Deflicker(DeflickerSettings(look_ahead=0))(frames)
    started = time.monotonic()
    for _ in frames:
        pass
    return Seconds(0.0, (time.monotonic() - started) / _REPEATED)


def _enlarged(clips: int, is_weakened: bool, width: int, height: int) -> Seconds:
    """Of a frame of so many clips from a quarter of its sides to the whole, at full strength or less."""
    (content,) = noise(width, height)
    started = time.monotonic()
    small = resize(content, max(1, max(width, height) // 4))
    enlarge(small, small, content, 0.5 if is_weakened else 0.0)
    return Seconds.of([clips * (time.monotonic() - started)])


def flow_seconds(method: str, width: int, height: int) -> float:
    """Seconds of a pair of frames, both directions side by side."""
    started = time.monotonic()
    for _ in flow_ahead(as_frames(noise(width, height, 2)), between_frames(ESTIMATORS[method])):
        pass
    return time.monotonic() - started
