"""Stylize a clip or a picture: `stylize` with any method, `optimize` with those that minimise."""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, count, islice
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypedDict, TypeVar, Unpack

import torch

from nststab.color import PreserveColor
from nststab.errors import NststabError, SettingError
from nststab.flow.estimators import flow_source
from nststab.frames import Frame, Stylizer
from nststab.listener import Advance, Listener, named, reported, silent
from nststab.methods.build import Around, Machine, build, frame_settings, machine
from nststab.methods.deflicker import Deflicker, Steadied
from nststab.methods.enlarge import Enlarged
from nststab.methods.plugin import checked, load_stylizer, source_file
from nststab.methods.regions import Masked
from nststab.methods.settings import (
    FEED_FORWARD,
    FULL_STRENGTH,
    OPTIMISERS,
    DeflickerSettings,
    strength_at,
    strength_curve,
)
from nststab.shots import split_shots
from nststab.storage.durable import sync
from nststab.storage.folders import is_taken, refuse_inputs, refuse_overwriting
from nststab.storage.jobs import Job, claimed, content_hash, identity_of, overwrites, resumable
from nststab.storage.parts import Parts, State
from nststab.styles.shipped import demo_clip
from nststab.styles.source import Style, StyleBlend, StyleRegions, StyleSource, chosen_style, style_source
from nststab.tasks.clip_plan import clip_work
from nststab.tasks.plan import Plan, Work, check, plan
from nststab.tasks.settings import StylizeSettings
from nststab.video.clip import (
    Clip,
    Kind,
    RawFormat,
    check_output,
    convert_clip,
    frame_path,
    kind_of,
    open_clip,
    remove_frames,
)
from nststab.video.formats import GROWING
from nststab.video.images import replacing
from nststab.video.pipes import STANDARD
from nststab.video.settings import ClipSettings, exact

S = TypeVar("S", bound=StylizeSettings)
log = logging.getLogger(__name__)

_BLOCK = 16  # frames, each stylized on its own, that one of several processes takes at a time

Styles = str | Path | Sequence[str | Path]
"""A style: a shipped one's name, a folder, a picture or a checkpoint; or several, which are blended."""


Split = Callable[[Iterable[Frame]], Iterable[Iterator[Frame]]]
"""Divides a stream into what is stylized by itself: shots, or blocks of frames that need no others."""


class SingleSettings(TypedDict, total=False):
    """What is set most often: fields of `StylizeSettings`, which say what they are; None leaves the setting's own."""

    size: int | None
    work_size: int | Literal["full"] | None
    start: Fraction | int | float | None
    duration: Fraction | int | float | None
    fps: Fraction | int | float | None
    cuts: bool | None
    preserve_color: bool | None
    deflicker: float | None
    style_weights: Sequence[float] | None
    stroke: float | None
    strength: float | Sequence[tuple[float, float]] | None
    memory: int | None
    audio: bool | None
    device: str | None
    precision: str | None
    engine: str | None


class ClipOptions(SingleSettings, total=False):
    """Single settings, and all others together."""

    settings: StylizeSettings | None


@dataclass(frozen=True)
class Stylized:
    """What `stylize` and `optimize` did.

    Attributes:
        frames: of the whole output, `resumed` of which an earlier run had finished.
        notes: what the user should know about the output, such as audio that it cannot hold.
    """

    output: str
    frames: int
    width: int
    height: int
    seconds: float
    resumed: int = 0
    notes: tuple[str, ...] = ()


def stylize(
    source: str | Path,
    output: str | Path,
    *,
    style: Styles = (),
    method: str = "recurrent",
    stylizer: Stylizer | None = None,
    overwrite: bool = False,
    executor: Executor | None = None,
    progress: Listener = silent,
    **options: Unpack[ClipOptions],
) -> Stylized:
    """Stylizes a video, a picture, a folder of pictures, or what comes through a pipe; a call that was killed resumes.

        nststab.stylize("clip.mp4", "out.mp4", style="the_great_wave", size=640)

    Args:
        source: a video file, a picture, a folder, a pattern or a glob of pictures, or - for standard input.
        output: a video file, a picture, a folder of PNGs (ends in /), or - for y4m on standard output.
        style: see `Styles`; only ruder and gatys follow a picture, and the networks mix the `light/` styles.
        method: recurrent, independent, ruder or gatys, or one's own as `module:callable`, which takes no style.
        stylizer: a method of one's own as a callable, instead of `method` and `style`.
        overwrite: replace what stands at `output`, and unfinished work of other settings.
        executor: shares the shots of ruder and blocks of frames of gatys; see `nststab.tasks.workers`.
        options: `settings`, in which everything can be set, and single settings that go before it: see `ClipOptions`.

    Raises:
        SettingError: a setting is wrong, has no effect on the method, or the output exists. NststabError: an input is
        wrong, or the job does not fit into memory. OSError: a file cannot be read or written.
    """
    return _ClipJob.of(source, output, style, method, options, stylizer).run(overwrite, progress, executor)


def optimize(
    content: str | Path,
    style: Styles,
    output: str | Path,
    *,
    temporal: bool = True,
    overwrite: bool = False,
    executor: Executor | None = None,
    progress: Listener = silent,
    **options: Unpack[ClipOptions],
) -> Stylized:
    """Stylizes by optimisation: a picture, and without `temporal` a clip, as Gatys et al. 2016, a clip as Ruder et al.

    All else is as in `stylize`.
    """
    method = optimisation_of(content, temporal)
    return _ClipJob.of(content, output, style, method, options).run(overwrite, progress, executor)


def stylize_demo(
    output: str | Path = "demo.mp4",
    *,
    overwrite: bool = False,
    progress: Listener = silent,
    **options: Unpack[ClipOptions],
) -> Stylized:
    """Stylizes the bundled clip with the recurrent network of the_great_wave; all else is as in `stylize`."""
    return stylize(demo_clip(), output, style="the_great_wave", overwrite=overwrite, progress=progress, **options)


def plan_stylize(
    source: str | Path,
    output: str | Path,
    *,
    style: Styles = (),
    method: str = "recurrent",
    **options: Unpack[ClipOptions],
) -> Plan:
    """What `stylize` would take with a method of ours: frames, memory, time; nothing is written."""
    return plan(_ClipJob.of(source, output, style, method, options).work)


def optimisation_of(content: str | Path, temporal: bool = True) -> str:
    """The method of `optimize`: ruder for a clip, gatys for a picture, and for a clip without `temporal`."""
    return "ruder" if temporal and kind_of(content) != "picture" else "gatys"


def opened(source: str | Path, settings: ClipSettings) -> Clip:
    """The clip, by its size, part and rate, for an output: with even sides where it is scaled."""
    part = {"start": settings.start, "duration": settings.duration, "fps": settings.fps}
    raw = RawFormat.of(settings.raw_size, settings.fps)
    return open_clip(source, settings.size, **part, raw=raw, even=True)


def with_masks(clip: Clip, settings: StylizeSettings) -> Clip:
    """The clip with the masks that the settings name, each of its shape, for the same part of it."""
    masks = []
    for path in settings.masks:
        mask = open_clip(path)
        if settings.fps and not settings.raw_size and (mask.kind, clip.kind) == ("folder", "video"):
            if (got := len(mask.pictures)) != clip.frame_count:
                raise SettingError(
                    f"the masks of {path}: with fps expected one for each of the {clip.frame_count} frames that come "
                    f"out, got {got}"
                )
        elif mask.kind != "picture" and (settings.start or settings.duration or settings.fps):
            rate = settings.fps if mask.kind == "video" or clip.source is None else clip.source.rate
            mask = open_clip(path, start=settings.start, duration=settings.duration, fps=rate)
        if abs(mask.width * clip.height - mask.height * clip.width) > max(clip.width, clip.height, mask.width):
            sizes = f"{mask.width}x{mask.height} and {clip.width}x{clip.height}"
            raise SettingError(f"the mask {path} has another shape than {clip.path}, {sizes}")
        masks.append(mask)
    return replace(clip, masks=tuple(masks))


def styled(style: Styles, settings: StylizeSettings) -> Style:
    """The style of the whole frame, or those of its regions: first, where one is given, that of the rest."""
    if not settings.mask_styles:
        return chosen_style(style, settings.style_weights)
    if settings.style_weights and not style:
        raise SettingError("style_weights has no effect without a style beside those of regions")
    rest = chosen_style(style, settings.style_weights) if style else None
    return StyleRegions((*([rest] if rest else []), *(style_source(name) for name, _ in settings.regions)))


def checked_output(output: str | Path, read: Iterable[object], *, raw: bool, overwrite: bool) -> None:
    """Raises SettingError, before any work, where the output cannot be written or may not be.

    read: what else is read, of which nothing may be written over: styles, weights, a start picture.
    """
    path = Path(output)
    if raw and path != STANDARD:
        raise SettingError(f"raw is for video to -, got {output}")
    if path == STANDARD:
        return
    refuse_overwriting(path, overwrite)
    refuse_inputs(path, (Path(name) for name in read if isinstance(name, str | Path)))


def chosen_settings(kind: type[S], options: Mapping[str, Any]) -> S:
    """The settings of a kind, with those that were given by themselves."""
    single: dict[str, Any] = {name: value for name, value in options.items() if name != "settings"}
    single |= {name: exact(single.get(name)) for name in ("start", "duration", "fps")}
    if single.get("strength") is not None:
        single["strength"] = strength_curve(single["strength"])
    if single.get("style_weights") is not None:
        single["style_weights"] = tuple(single["style_weights"])
    return kind.of(options.get("settings")).changed(**single)


def check_engine(settings: StylizeSettings, methods: Collection[str]) -> None:
    """Raises SettingError for an engine where none of the methods is a network of ours."""
    if settings.engine != "auto" and not set(FEED_FORWARD) & set(methods):
        raise SettingError(f"engine has no effect on {', '.join(methods)}")


def checked_clip(source: str | Path, output: str | Path, settings: StylizeSettings) -> tuple[Clip, Kind]:
    """The clip with its masks, and what the output will be; SettingError where it cannot be that."""
    clip = with_masks(opened(source, settings), settings)
    if settings.deflicker and clip.kind == "picture":
        raise SettingError(f"deflicker has no effect on a picture, and {clip.path} is one")
    try:
        return clip, check_output(clip, output)
    except NststabError as error:
        raise SettingError(str(error)) from error


def clip_identity(clip: Clip, settings: ClipSettings, **more: Any) -> dict[str, Any]:
    """What unfinished work on a clip is told apart by: settings, the contents of it and its masks, and `more`."""
    return identity_of(
        settings,
        **more,
        masks=[content_hash(mask.pictures or mask.path) for mask in clip.masks],
        input=f"{clip.path.name} ({content_hash(clip.pictures or clip.path)})",
    )


def files_read(settings: StylizeSettings, sources: Iterable[StyleSource]) -> list[str | Path | None]:
    """What is read beside the input, as for `checked_output`."""
    named = [settings.gatys.vgg_weights, settings.gatys.init, *settings.masks]
    return [*named, *(source.text for source in sources)]


@dataclass(frozen=True)
class _ClipJob:
    """A clip, what is to be made of it, and with what: a method of ours with a style, or a stylizer of one's own."""

    clip: Clip
    output: str
    method: str
    style: Style | None
    settings: StylizeSettings
    where: Machine
    own: Stylizer | None = None

    @classmethod
    def of(
        cls,
        source: str | Path,
        output: str | Path,
        style: Styles,
        method: str,
        options: ClipOptions,
        stylizer: Stylizer | None = None,
    ) -> "_ClipJob":
        settings = chosen_settings(StylizeSettings, options)
        own = load_stylizer(method) if stylizer is None and ":" in method else None
        if stylizer is not None:
            method = getattr(stylizer, "__name__", type(stylizer).__name__)
            own = checked(method, stylizer)
        settings.check((method,))
        check_engine(settings, (method,))
        bounded = settings.memory is not None
        if bounded and (own is not None or settings.engine not in ("auto", "torch")):
            raise SettingError(f"memory has no effect on {method if own else settings.engine}")
        if bounded and method in OPTIMISERS and (settings.masks or settings.protect):
            raise SettingError("memory has no effect on a picture that is masked")
        if settings.precision == "float16" and method in OPTIMISERS:
            raise SettingError(f"precision: float16 has not the range for {method}")
        if own is not None:
            given = [
                one.name for one in settings.given() if one.name in ("device", "precision", "engine", "style_weights")
            ]
            given += ["mask_styles"] if settings.mask_styles else []
            for name in [*given, *(["style"] if style else [])]:
                raise SettingError(f"{name} has no effect on {method}")
        chosen = styled(style, settings) if own is None else None
        clip, _ = checked_clip(source, output, settings)
        where = machine(settings.device, settings.precision, "torch" if bounded else settings.engine)
        return cls(clip, str(output), method, chosen, settings, replace(where, memory=settings.memory), own)

    @property
    def work(self) -> Work:
        """For a plan, and for the check whether it fits into memory."""
        if self.style is None:
            raise SettingError(f"of {self.method} nothing is known that could be planned")
        return clip_work(self.clip, self.output, (self.method,), self.style, self.settings, self.where)

    @property
    def _sources(self) -> tuple[StyleSource, ...]:
        return self.style.sources if self.style is not None else ()

    @property
    def resumes(self) -> bool:
        """Whether what is finished is kept: each optimisation, and of the other methods the parts of a clip."""
        if Path(self.output) == STANDARD or not self.clip.is_seekable or not (self.style or ":" in self.method):
            return False  # of a stylizer that was handed over nobody knows whether it is the same
        return self.method in OPTIMISERS or self.clip.kind != "picture"

    def run(self, overwrite: bool, progress: Listener, executor: Executor | None = None) -> Stylized:
        settings, clip = self.settings, self.clip
        read = files_read(settings, self._sources)
        own = self.resumes and overwrites(Path(self.output))
        checked_output(self.output, read, raw=settings.raw, overwrite=overwrite or own)
        if self.style is not None:
            check(self.work)
        if self.method in OPTIMISERS and Path(self.output) != STANDARD and not self.resumes:
            log.warning("what comes through a pipe cannot be read again: after a kill the work begins anew")
        started = time.monotonic()
        unit, total = self._counted()
        flow = flow_source(settings.flow)
        flow.require_size(clip.height, clip.width)
        with (
            self._kept(overwrite) as kept,
            passes_folder(kept.job, settings.ruder.passes) as folder,
            reported(progress, f"{self.method} {clip.width}x{clip.height}, {unit}", total) as advance,
        ):
            advance(kept.frames if unit == "frames" else None)
            begun = count()

            def iteration(number: int, terms: dict[str, float]) -> None:
                note = named(terms) if unit == "iterations" else f"iteration {number}: {named(terms)}"
                if unit == "optimisations" and number == 0:
                    advance(next(begun))
                advance(number if unit == "iterations" else None, note=note)

            def frame_done(done: int, total: int | None) -> None:
                if kept.parts is None:
                    kept.progress(done)
                if unit == "frames":
                    advance(max(done, kept.frames), total)

            if executor is not None:
                self._spread(executor, kept.job, advance)
            keep = kept.job.keep if kept.job else None
            state = None if settings.deflicker else kept.state(self.method)  # steadying begins with the shot
            stylizer = self.stylizer(Around(iteration, keep, state, folder, flow))
            result = convert_clip(
                clip,
                kept.output,
                by_units(dressed(stylizer, clip, settings, self.style), self._split, kept),
                audio=settings.audio,
                raw=settings.raw,
                parts=kept.parts,
                progress=frame_done,
            )
        seconds = time.monotonic() - started
        made = result.frames - kept.frames
        log.debug(f"{made} frame{'s' * (made != 1)} in {seconds:.1f} s, {made / seconds:.2f} a second")
        notes = tuple(result.notes)
        return Stylized(self.output, result.frames, clip.width, clip.height, seconds, kept.frames, notes)

    def stylizer(self, around: Around) -> Stylizer:
        """What stylizes a shot."""
        if self.style is None:
            assert self.own is not None
            return self.own
        side = self.settings.work_side(max(self.clip.width, self.clip.height))
        return build(self.method, self.style, self.settings, longest_side=side, machine=self.where, around=around)

    @property
    def _split(self) -> Split:
        alone = self.method == "gatys" and not self.settings.deflicker and not self.settings.protect
        return _blocks if alone else shots_of(self.settings)

    def _spread(self, executor: Executor, job: Job | None, advance: Advance) -> None:
        """Has the units of an optimisation computed by other processes, where this one will find the results."""
        if job is None or self.method not in OPTIMISERS or self.settings.ruder.passes > 1:
            raise SettingError("several processes can share ruder in one pass and gatys, of a clip that is no pipe")
        rest = [one for one in _rest_of(self.style, self.settings) if one is not None]
        common = (self.clip.path.absolute(), self.method, tuple(one.text for style in rest for one in style.sources))
        settings = self.settings.changed(device=self.where.device.type, precision=self.where.precision)
        there = (job.folder.absolute(), torch.get_num_threads())
        futures: dict[Future[None], range] = {}
        done = 0
        try:
            for unit in self._split(self.clip.frames()):
                numbers = [frame.number for frame in unit]
                share = range(numbers[0], numbers[0] + len(numbers))
                futures[executor.submit(_optimized, *common, settings, *there, share)] = share
            for future in as_completed(futures):
                future.result()
                if not job.has_unit(futures[future].start):
                    raise NststabError(f"{job.folder}: other processes must write to this folder too, and do not")
                done += len(futures[future])
                advance(done)
        finally:
            for future in futures:
                future.cancel()

    def _counted(self) -> tuple[str, int | None]:
        """What progress counts, and to where: what takes some time, but not the whole."""
        frames, ruder = self.clip.frame_count, self.settings.ruder
        if self.method not in OPTIMISERS:
            return "frames", frames
        if self.clip.kind == "picture":
            return "iterations", frame_settings(self.settings).iterations
        if ruder.passes > 1:
            return "optimisations", frames and frames * (ruder.passes + self.settings.gatys.scales - 1)
        return "frames", frames

    def _kept(self, overwrite: bool) -> "AbstractContextManager[KeptOutput]":
        """Where to write, and what keeps what is finished, where anything does."""
        if not self.resumes:
            return kept_output(self.clip, self.output, None, overwrite=overwrite)
        clip = self.clip
        identity = clip_identity(
            clip,
            self.settings,
            method=self.method,
            device=self.where.device.type,
            arithmetic=self.where.optimizing if self.method in OPTIMISERS else self.where.precision,
            engine=self.where.engine if self.method in FEED_FORWARD else None,
            style=[source.identity((self.method,)) for source in self._sources],
            own=None if self.own is None else content_hash(source_file(self.method)),
        )
        in_parts = self.method not in OPTIMISERS
        return kept_output(clip, self.output, identity, overwrite=overwrite, in_parts=in_parts)


@dataclass(frozen=True)
class KeptOutput:
    """Where a clip is written, and the job that keeps what is done, if there is one; `frames` were finished before.

    The job of an optimisation keeps each of its results, of another method the `parts` of its output. A file is moved
    to its `place` when it is whole.
    """

    output: str
    job: Job | None = None
    frames: int = 0
    parts: Parts | None = None
    place: Path | None = None

    def publish(self) -> None:
        """Move the file to its place, while the job goes on with something that is made of it."""
        made = Path(self.output)
        if self.job is None or not made.exists():
            return
        sync(made)  # before what it could be made from again is removed
        if self.place is not None:
            self.job.allow_overwriting()
            made.replace(self.place)

    def begin(self, number: int) -> bool:
        """A shot, or a block of frames, begins with this frame; whether all of it is finished."""
        if self.parts is not None:
            self.parts.begin_shot(number)
            return number < self.parts.shot
        if self.job is not None:
            self.job.begin(number)
        return False

    def state(self, name: str) -> State | None:
        """What keeps the state of a method, or of something else of a name."""
        return None if self.parts is None else self.parts.state(name)

    def progress(self, frames: int) -> None:
        """So many frames are finished."""
        if self.job is not None and frames > self.frames:
            self.job.progress(frames)


@contextmanager
def kept_output(
    clip: Clip, output: str | Path, identity: dict[str, Any] | None, *, overwrite: bool, in_parts: bool = True
) -> Iterator[KeptOutput]:
    """A file is made in the job's folder, and moved to `output` when all went well; a folder fills frame by frame.

    Without an identity nothing is kept, and the output is only held against other processes.
    """
    path, kind = Path(output), check_output(clip, output)
    whole = kind != "folder"
    if identity is None:
        with nullcontext() if path == STANDARD else claimed(path):
            yield KeptOutput(str(output))
        return
    is_new = not is_taken(path)
    with resumable(path, identity, restart=overwrite, fills=not whole) as job:
        refuse_overwriting(path, overwrite or job.resumed)  # which another process or job may have made
        made = job.folder / path.name if whole else path
        parts = Parts(job) if in_parts else None
        if parts is not None and not _still_there(made, kind, parts.frames, path):
            parts.begin_anew(f"finished frames of {path} are gone")
        frames, place = parts.frames if parts else job.frames, path if whole else None
        kept = KeptOutput(str(made) if whole else str(output), job, frames, parts, place)
        try:
            yield kept
        except BaseException:
            if is_new and not whole and not job.has_results:
                remove_frames(path)  # or they would forbid that the same command is given again
            raise
        kept.publish()


def _still_there(made: Path, kind: Kind, frames: int, place: Path) -> bool:
    """Whether the output still has the finished frames that nothing else keeps; a file comes back from its `place`."""
    if kind == "folder":
        return all(frame_path(made, number + 1).exists() for number in range(frames))
    if not frames or made.suffix.lower() not in GROWING or made.exists():
        return True
    if place.exists():
        with replacing(made) as copy:
            copyfile(place, copy)
            sync(copy)
    return made.exists()


@contextmanager
def passes_folder(job: Job | None, passes: int) -> Iterator[Path | None]:
    """Where several passes keep a clip: in its job, or, where there is none, in a folder that goes with the process."""
    if passes == 1:
        yield None
    elif job is not None:
        yield job.subfolder("passes")
    else:
        with TemporaryDirectory(prefix="nststab_") as folder:
            yield Path(folder)


def dressed(stylizer: Stylizer, clip: Clip, settings: StylizeSettings, style: Style | None = None) -> Stylizer:
    """What is done to the frames of any method: steadied, enlarged from the size at which it paints, and with the
    colours of the input, where that is asked for; and left out where a mask says so.

    What comes through a pipe is steadied without a look-ahead, so that no frame waits.
    """
    if settings.deflicker:
        chosen = DeflickerSettings(strength_curve(settings.deflicker), look_ahead=None if clip.is_seekable else 0)
        stylizer = Steadied(stylizer, Deflicker(chosen))
    longest = max(clip.width, clip.height)
    if (side := settings.work_side(longest)) < longest:
        strength = settings.strength
        weakened = None if strength == FULL_STRENGTH else lambda frame: 1 - strength_at(strength, frame)
        stylizer = Enlarged(stylizer, side, weakened)
    if settings.preserve_color:
        stylizer = PreserveColor(stylizer)
    if settings.masks or settings.protect:
        has_rest = bool(_rest_of(style, settings))
        stylizer = Masked(stylizer, settings.mask is not None, has_rest, settings.protect == "faces")
    return stylizer


def _rest_of(style: Style | None, settings: StylizeSettings) -> "tuple[StyleSource | StyleBlend | None, ...]":
    """The style of what lies outside of all regions that have one of their own; nothing where there is none."""
    return style.styles[: -len(settings.regions)] if isinstance(style, StyleRegions) else (style,)


def shots_of(settings: StylizeSettings) -> Split:
    """Shots from cut to cut, or one of all frames where no cuts are looked for."""
    return split_shots if settings.cuts else lambda frames: [iter(frames)]


def _blocks(frames: Iterable[Frame]) -> Iterator[Iterator[Frame]]:
    """So many frames at a time, of a method that stylizes each on its own."""
    stream = iter(frames)
    for first in stream:
        yield chain([first], islice(stream, _BLOCK - 1))


def by_units(stylizer: Stylizer, split: Split, kept: KeptOutput) -> Stylizer:
    """The stylizer of a whole clip: a new call for each unit; those that are finished come back as they were."""

    def whole(frames: Iterable[Frame]) -> Iterator[Frame]:
        for unit in split(frames):
            if begun := deque(islice(unit, 1)):
                is_finished, own = kept.begin(begun[0].number), _drained(begun, unit)
                yield from own if is_finished else stylizer(own)

    return whole


def _drained(begun: deque[Frame], rest: Iterator[Frame]) -> Iterator[Frame]:
    """A stream of which the first was taken already; unlike `itertools.chain` it lets go of what it gave."""
    while begun:
        yield begun.popleft()
    yield from rest


def _optimized(
    source: Path,
    method: str,
    style: tuple[str, ...],
    settings: StylizeSettings,
    folder: Path,
    threads: int,
    numbers: range,
) -> None:
    """Optimises a unit in another process; in the job's `folder` the whole clip's stylizer will find the results.

    Their last bits depend on the number of `threads`.
    """
    torch.set_num_threads(threads)
    made = _ClipJob.of(source, f"{folder}/", style, method, {"settings": settings})
    job = Job(folder, resumed=True, lock=None)
    job.begin(numbers.start)
    stylizer = dressed(made.stylizer(Around(keep=job.keep)), made.clip, settings.changed(deflicker=0.0), made.style)
    for _ in stylizer(islice(made.clip.frames(), numbers.start, numbers.stop)):
        pass
