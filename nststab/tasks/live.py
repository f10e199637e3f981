"""A style network on frames as they arrive: the newest first, what cannot be kept up with is dropped and counted."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple, Self

from nststab.errors import NststabError, SettingError
from nststab.frames import Frame
from nststab.listener import Listener, reported, silent
from nststab.methods.painter import Painter
from nststab.storage.folders import refuse_overwriting
from nststab.styles.shipped import LIGHT, light_styles
from nststab.styles.source import chosen_style
from nststab.tasks.live_page import LivePage
from nststab.tasks.settings import LiveSettings
from nststab.video.clip import Clip, RawFormat, check_output, open_clip, open_writer
from nststab.video.images import from_uint8, resized_shape, scaled, to_uint8
from nststab.video.live import (
    LiveSource,
    Picture,
    clip_frames,
    opens_live,
    virtual_camera,
    window,
    window_missing,
)
from nststab.video.threads import BackgroundWriter, Newest
from nststab.video.timing import PictureTimes

log = logging.getLogger(__name__)

_RETRY = 1.0  # seconds between two attempts at a source that went away
_TICK = Fraction(1, 1000)  # seconds between two frames of an output at least
_STALLED = 3.0  # seconds without a frame that are told
_LOOK = 0.02  # seconds after which keys are looked at, where no frame comes
_RECENT = 1000  # frames of which latencies are kept
_STEP = 0.1  # of strength, and of the stroke's logarithm to base 2, by a key


class Latency(NamedTuple):
    """Milliseconds from a frame's arrival: the median, and what 19 of 20 frames do not exceed."""

    median: float
    most: float


@dataclass(frozen=True)
class SinkResult:
    """What a sink took of the painted frames, what it missed because it was slow, and when it had a frame."""

    name: str
    frames: int
    dropped: int
    latency: Latency


@dataclass(frozen=True)
class LiveResult:
    """What `live` did.

    Attributes:
        frames: how many were painted, in `seconds` from the first arrival on.
        dropped: frames that arrived and were not painted, because a newer one was there.
        returns: how often the source went away and came back.
        latency: until a frame was painted, of the last 1000.
        notes: what the user should know about the output.
    """

    frames: int
    dropped: int
    returns: int
    seconds: float
    latency: Latency
    sinks: tuple[SinkResult, ...]
    notes: tuple[str, ...]

    def table(self) -> str:
        """The figures in lines."""
        speed = self.frames / self.seconds if self.seconds else 0.0
        lines = [
            f"{_frames(self.frames)} painted in {self.seconds:.1f} s, {speed:.1f} a second; {self.dropped} dropped",
            f"latency, arrival to painted: {_told(self.latency)}",
        ]
        lines += [
            f"{sink.name}: {_frames(sink.frames)}, {sink.dropped} dropped, arrival to done: {_told(sink.latency)}"
            for sink in self.sinks
        ]
        if self.returns:
            lines.append(f"the source went away and came back {self.returns} time{'s' * (self.returns != 1)}")
        return "\n".join(lines)


def _frames(count: int) -> str:
    return f"{count} frame{'s' * (count != 1)}"


def _told(latency: Latency) -> str:
    return f"median {latency.median:.0f} ms, 95 % within {latency.most:.0f} ms"


class _Painted(NamedTuple):
    picture: Picture
    arrived: float  # seconds of the monotonic clock


def live(
    source: str | Path | LiveSource,
    output: str | Path | None = None,
    *,
    style: Sequence[str] = (),
    method: Literal["recurrent", "independent"] = "recurrent",
    settings: LiveSettings | None = None,
    overwrite: bool = False,
    progress: Listener = silent,
    on_page: Callable[[str], None] | None = None,
) -> LiveResult:
    """Stylizes frames as they arrive until they end, `settings.duration` is over, the window is closed, or Ctrl-C.

        nststab.live("0", style=["the_great_wave", "mosaic"])

    The newest frame is painted next. A camera or stream that goes away is waited for. Each sink has a thread of its
    own and takes the newest painted frame. Frames of another size than the first are scaled to it.

    Args:
        source: a camera's number, a stream's address, or a clip as for `nststab.stylize`; or one's own function that
            opens it, a generator of frames, uint8 RGB (H, W, 3), that raises ConnectionError where it goes away.
        output: a video file, a folder of PNGs (ends in /), or - for standard output.
        style: those that can be changed between while it runs, each as for `nststab.Painter`; those of the light
            network where none is given.
        on_page: is told the address of the page, where one is shown; else the log is.

    Raises:
        SettingError: a setting is wrong, or the output exists. NststabError: an unknown style, or what `settings` asks
        for is not there. OSError: there is no such source, or the output cannot be written.
    """
    chosen = LiveSettings.of(settings)
    show = _shown(chosen.show)  # before a source is opened: see `window_missing`
    clip, opened = _opened(source, chosen)
    kind = None
    if output is not None:
        kind = check_output(clip, output)
        refuse_overwriting(Path(output), overwrite or str(output) == "-")
    easel = _Easel([style] if isinstance(style, str) else list(style), method, chosen)
    notes: list[str] = []
    arrivals = _Arrivals(opened)
    sinks: list[_Sink] = []
    run = _Run(arrivals, easel, sinks, chosen)
    failed: Exception | None = None
    with ExitStack() as recording:
        if kind is not None:
            assert output is not None
            steady = kind == "video" and (str(output) == "-" or Path(output).suffix.lower() == ".y4m")
            times = PictureTimes(Path(output), chosen.fps, _TICK)
            write = recording.enter_context(open_writer(kind, times, Path(output), notes, raw=chosen.raw))
            sink = _Sink(str(output), _as_frames(write, steady), chosen.fps if steady else None)
            sinks.append(recording.enter_context(sink))
        try:
            with ExitStack() as shown:
                if chosen.virtual_camera:
                    send = shown.enter_context(virtual_camera(chosen.fps))
                    sink = _Sink("virtual camera", lambda painted: send(painted.picture), chosen.fps)
                    sinks.append(shown.enter_context(sink))
                if show == "page":
                    page = shown.enter_context(LivePage(chosen.port, run.status, easel.change))
                    sinks.append(shown.enter_context(_Sink("page", lambda painted: page.show(painted.picture))))
                    (on_page or log.info)(page.address)
                look = shown.enter_context(window("nststab live")) if show == "window" else None
                with arrivals, suppress(KeyboardInterrupt), reported(progress, "live", None) as advance:
                    run.loop(look, lambda: advance(run.frames, note=run.figures()))
            if arrivals.error is not None:
                raise arrivals.error
        except Exception as error:
            if not run.frames:
                raise
            failed = error
    if failed is not None:  # what there was before is written
        raise failed
    return run.result(notes)


def _shown(asked: str) -> str:
    """Where it is shown; raises NststabError where a window was asked for and there can be none."""
    missing = window_missing() if asked in ("auto", "window") else None
    if missing and asked == "window":
        raise NststabError(f"no window can be opened: {missing}; a page can be shown")
    if missing:
        log.info(f"{missing}, so a page is shown instead of a window")
    return ("page" if missing else "window") if asked == "auto" else asked


def _opened(source: str | Path | LiveSource, settings: LiveSettings) -> tuple[Clip, LiveSource]:
    """What the output is checked against, and the source."""
    if callable(source):
        return Clip(Path("source"), "video", 1, 1, None), source
    if opens := opens_live(str(source), settings.size):
        return Clip(Path(str(source)), "video", 1, 1, None), opens
    clip = open_clip(source, raw=RawFormat.of(settings.raw_size))
    return clip, lambda: clip_frames(clip)


class _Arrivals:
    """Reads a source in a thread, which opens it again where it went away, and holds its newest frame."""

    def __init__(self, opens: LiveSource) -> None:
        self.newest: Newest[_Painted] = Newest()
        self.count = self.returns = 0
        self.lost = ""  # why the source is away, while it is
        self._latest = 0.0
        self.error: BaseException | None = None
        self._opens, self._stopped = opens, threading.Event()
        self._thread = threading.Thread(target=self._read, name="source", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()  # the thread may be waiting in the camera's driver: it is not waited for
        self._thread.join(0.2)

    def _read(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    self._pass_on()
                    return
                except ConnectionError as error:
                    if not self.count:
                        raise
                    if not self.lost:
                        log.warning(f"{error}; waiting for it to come back")
                    self.lost = str(error)
                    self._stopped.wait(_RETRY)
        except BaseException as error:
            self.error = error
        finally:
            self.newest.close()

    def _pass_on(self) -> None:
        with closing(self._opens()) as frames:
            for frame in frames:
                if self._stopped.is_set():
                    return
                if self.lost:
                    self.returns, self.lost = self.returns + 1, ""
                    log.info("the source came back")
                self.count += 1
                self._latest = time.monotonic()
                self.newest.put(_Painted(frame, self._latest))

    @property
    def trouble(self) -> str:
        """Why no frame comes, while none does."""
        waited = time.monotonic() - self._latest if self._latest else 0.0
        return self.lost or (f"no frame for {waited:.0f} s" if waited > _STALLED and not self.newest.closed else "")


class _Sink(BackgroundWriter[_Painted]):
    """Hands the newest painted frame on in a thread of its own: a slow sink delays no other, and misses are counted.

    rate: frames a second, for what has a clock of its own: then a frame is repeated where no newer one has come.
    """

    def __init__(self, name: str, write: Callable[[_Painted], None], rate: Fraction | None = None) -> None:
        self._newest: Newest[_Painted] = Newest()
        super().__init__(write, self._newest, name)
        self._name, self._rate = name, rate
        self._meter = _Meter()

    @property
    def result(self) -> SinkResult:
        return SinkResult(self._name, self._meter.count, self._newest.dropped, self._meter.latency)

    def _write_all(self) -> None:
        for painted, is_new in self._due():
            self._write(painted)
            if is_new:
                self._meter.add(painted.arrived)

    def _due(self) -> Iterator[tuple[_Painted, bool]]:
        painted = self._newest.take()
        began, ticks = time.monotonic(), 0
        while painted is not None:
            yield painted, True
            if self._rate is None:
                painted = self._newest.take()
                continue
            while True:
                # ticks that a slow reader missed are left out: a repeated frame would only delay it more
                ticks = max(ticks + 1, math.floor((time.monotonic() - began) * self._rate))
                time.sleep(max(0.0, began + float(ticks / self._rate) - time.monotonic()))
                if (newer := self._newest.take(0)) is not None or self._newest.closed:
                    break
                yield painted, False
            painted = newer


class _Meter:
    """Latencies of the newest frames, and how many were done a second of late."""

    def __init__(self) -> None:
        self.count = 0
        self._done: deque[tuple[float, float]] = deque(maxlen=_RECENT)  # when, and after how many seconds

    def add(self, arrived: float) -> None:
        now = time.monotonic()
        self._done.append((now, now - arrived))
        self.count += 1

    @property
    def latency(self) -> Latency:
        took = sorted(took * 1000 for _, took in tuple(self._done))
        return Latency(median(took), took[math.ceil(0.95 * len(took)) - 1]) if took else Latency(0.0, 0.0)

    def recent(self, seconds: float = 2.0) -> tuple[float, float]:
        """Frames a second, and the median latency in milliseconds, of the last `seconds`."""
        now = time.monotonic()
        late = [(done, took) for done, took in tuple(self._done) if done > now - seconds]
        if len(late) < 2:
            return 0.0, self.latency.median
        return (len(late) - 1) / (now - late[0][0]), 1000 * median(took for _, took in late)


@dataclass(frozen=True)
class _Look:
    style: int
    strength: float
    stroke: float | None  # None: as of the painting at the size of the frame


class _Easel:
    """Paints in the style, strength and stroke that are chosen now, by keys and pages in other threads too."""

    def __init__(self, chosen: list[str], method: Literal["recurrent", "independent"], settings: LiveSettings) -> None:
        self.names = chosen or [f"{LIGHT}/{name}" for name in light_styles()]
        self._one_network = all(name.startswith(f"{LIGHT}/") and "," not in name for name in self.names)
        self.look = _Look(0, settings.strength, settings.stroke)
        for name in self.names:
            for source in chosen_style(name).sources:
                if source.has(method):
                    continue
                if source.picture is not None:
                    raise SettingError(source.is_no_network(method))
                source.trained(method)  # raises
        self._method, self._settings = method, settings
        self._painters: dict[int, Painter] = {}
        self._last: int | None = None
        adjustable = self._painter(0).is_adjustable  # it is made before a frame waits for it
        if (settings.strength != 1 or settings.stroke not in (None, 1)) and not adjustable:
            raise SettingError(
                f"strength and stroke have no effect on {self.names[0]}, whose network has no rows to mix"
            )

    @property
    def is_adjustable(self) -> bool:
        """Whether strength and stroke have an effect on the style that is painted."""
        painter = self._current
        return painter is not None and painter.is_adjustable

    @property
    def stroke(self) -> float:
        if self.look.stroke is not None:
            return self.look.stroke
        painter = self._current
        return 1.0 if painter is None else painter.drawn_stroke

    @property
    def _current(self) -> Painter | None:
        return self._painters.get(0 if self._one_network else self.look.style)

    def _painter(self, style: int) -> Painter:
        """What paints a style: those of the light network share one, which need not be loaded again for each."""
        key = 0 if self._one_network else style
        if key not in self._painters:
            one = self._settings
            self._painters[key] = Painter(
                self.names if self._one_network else self.names[style],
                self._method,
                device=one.device,
                engine=one.engine,
                precision=one.precision,
                work_size=one.work_size,
            )
        painter = self._painters[key]
        if self._one_network:
            painter.weights = tuple(float(number == style) for number in range(len(self.names)))
        return painter

    def paint(self, frame: Picture, *, anew: bool) -> Picture:
        """The painted frame; the first of a style, and one that comes `anew`, sees no frame before it."""
        look = self.look
        painter = self._painter(look.style)
        if anew or look.style != self._last:
            painter.reset()
        self._last = look.style
        if painter.is_adjustable:
            painter.strength, painter.stroke = look.strength, look.stroke
        return painter(frame)

    def change(self, asked: Mapping[str, Any]) -> None:
        """Takes style, strength and stroke as numbers, within their ranges; ValueError for anything else."""
        given = {name: float(asked[name]) for name in vars(self.look) if name in asked}
        if not all(map(math.isfinite, given.values())):
            raise ValueError("expected numbers")
        changed: dict[str, Any] = {}
        if "style" in given:
            changed["style"] = int(given["style"]) % len(self.names)
        for name, least, most in (("strength", 0.0, 1.0), ("stroke", 0.5, 2.0)):
            if name in given:
                changed[name] = min(max(round(given[name], 3), least), most)
        self.look = replace(self.look, **changed)

    def press(self, key: str) -> None:
        look = self.look
        keys: Mapping[str, Mapping[str, float]] = {
            "n": {"style": look.style + 1},
            "p": {"style": look.style - 1},
            "+": {"strength": look.strength + _STEP},
            "-": {"strength": look.strength - _STEP},
            "]": {"stroke": self.stroke * 2**_STEP},
            "[": {"stroke": self.stroke / 2**_STEP},
        }
        if key.isdecimal() and 0 < int(key) <= len(self.names):
            self.change({"style": int(key) - 1})
        elif key in keys:
            self.change(keys[key])


class _Run:
    """The loop from the newest frame to the sinks, and its figures."""

    def __init__(self, arrivals: _Arrivals, easel: _Easel, sinks: Sequence[_Sink], settings: LiveSettings) -> None:
        self._arrivals, self._easel, self._sinks, self._settings = arrivals, easel, sinks, settings
        self._meter = _Meter()
        self._shape: tuple[int, int] | None = None
        self._began = self._ended = 0.0

    @property
    def frames(self) -> int:
        return self._meter.count

    def loop(self, look: Callable[[Picture | None, str], str | None] | None, tell: Callable[[], None]) -> None:
        """Paints until the source ends, the time is over, or the window `look` is closed."""
        returns = 0
        while not self._is_over():
            came = self._arrivals.newest.take(_LOOK)
            painted = None
            if came is not None:
                self._began = self._began or came.arrived
                anew, returns = returns != self._arrivals.returns, self._arrivals.returns
                painted = self._easel.paint(self._sized(came.picture), anew=anew)
                self._meter.add(came.arrived)
                for sink in self._sinks:
                    sink.put(_Painted(painted, came.arrived))
                tell()
            elif self._arrivals.newest.closed:
                return
            if look is not None:
                key = look(painted, self.figures())
                if key is None or key in ("q", "\x1b"):
                    return
                self._easel.press(key)

    def _is_over(self) -> bool:
        self._ended = time.monotonic()
        limit = self._settings.duration
        return limit is not None and self._began > 0 and self._ended - self._began >= limit

    def _sized(self, frame: Picture) -> Picture:
        """The frame in the size that was asked for, or that of the first."""
        if self._shape is None:
            height, width, _ = frame.shape
            size = self._settings.size
            self._shape = (height, width) if size is None else resized_shape(height, width, size, even=True)
        return frame if frame.shape[:2] == self._shape else to_uint8(scaled(from_uint8(frame), *self._shape))

    def figures(self) -> str:
        """What is painted how, and how fast, in a line."""
        told = self.status()
        how = f", strength {told['strength']:.2f}, stroke {told['stroke']:.2f}" if told["adjustable"] else ""
        return (
            f"{told['styles'][told['style']]}{how}: {told['frames_per_second']:.1f} frames/s, {told['latency']} ms, "
            f"{told['dropped']} dropped" + f" ({told['trouble']})" * bool(told["trouble"])
        )

    def status(self) -> dict[str, Any]:
        """The figures, and what is painted how, as JSON values."""
        speed, took = self._meter.recent()
        return {
            "frames": self.frames,
            "frames_per_second": speed,
            "latency": round(took),
            "dropped": self._arrivals.newest.dropped,
            "trouble": self._arrivals.trouble,
            "styles": self._easel.names,
            "adjustable": self._easel.is_adjustable,
            **vars(self._easel.look),
            "stroke": self._easel.stroke,
        }

    def result(self, notes: Sequence[str]) -> LiveResult:
        return LiveResult(
            self.frames,
            self._arrivals.newest.dropped,
            self._arrivals.returns,
            self._ended - self._began if self._began else 0.0,
            self._meter.latency,
            tuple(sink.result for sink in self._sinks),
            tuple(notes),
        )


def _as_frames(write: Callable[[Frame], None], steady: bool) -> Callable[[_Painted], None]:
    """Painted pictures as frames at the times of their arrival; of a `steady` rate they need none."""
    first: float | None = None

    def send(painted: _Painted) -> None:
        nonlocal first
        first = painted.arrived if first is None else first
        at = None if steady else Fraction(round((painted.arrived - first) * 1000), 1000)
        write(Frame(from_uint8(painted.picture), time=at))

    return send
