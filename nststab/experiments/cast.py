"""The styles and methods that an experiment measures, how they are built in any process, and how long they take."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch

from nststab.datasets.folders import DavisSequence, davis_sequences
from nststab.errors import SettingError
from nststab.experiments.runner import Experiment, Part, Work
from nststab.experiments.settings import (
    DistortionSettings,
    PerceptualSettings,
    ShiftSettings,
    StylizingSettings,
    Table1Settings,
)
from nststab.flow.settings import FlowSettings
from nststab.frames import Stylizer, as_frames
from nststab.measure.stability import CONTENT, FrameLosses, unchanged
from nststab.methods.build import ALONE, Around, Machine, build, losses_beside, machine
from nststab.methods.plugin import checked, load_stylizer
from nststab.methods.settings import FEED_FORWARD, METHODS, OPTIMISERS, MethodSettings, OptimizationSettings
from nststab.networks.perceptual import perceptual_name
from nststab.styles.shipped import styles as shipped_styles
from nststab.styles.source import StyleSource, style_name, style_source
from nststab.tasks.clip_plan import flow_seconds, frame_seconds
from nststab.tasks.plan import Seconds, duration, measured, noise

log = logging.getLogger(__name__)
_say_once = lru_cache(log.warning)  # a style is asked for its losses for every part
_PROBE_SECONDS = 3.0
_OF_OPTIMISERS = ("iterations", "flow_method")
INDEPENDENT = ("independent", "gatys", CONTENT)
"""Methods whose result does not depend on the frame before."""


@dataclass(frozen=True)
class Cast:
    """Every style by every method. It pickles where the own stylizers do.

    Attributes:
        texts: what names each style, by its name in the rows.
        methods: ours by name; others by the name that `stylizers` has, or as "module:callable".
        stylizers: the caller's own.
        device, precision: resolved, so that all processes compute alike.
    """

    texts: Mapping[str, str]
    methods: Sequence[str]
    stylizers: "Mapping[str, Stylizer]"
    settings: PerceptualSettings
    device: str
    precision: str

    @classmethod
    def of(
        cls,
        styles: Sequence[str | Path] | None,
        methods: Sequence[str],
        stylizers: "Mapping[str, Stylizer] | None",
        settings: PerceptualSettings,
        device: str = "auto",
        precision: str = "auto",
    ) -> "Cast":
        """All shipped styles by default. Raises SettingError at once for a style without a network for a method."""
        where = machine(device, precision, "torch")
        own = dict(stylizers or {})
        if taken := set(own) & set(METHODS):
            raise SettingError(f"stylizers: {', '.join(sorted(taken))} is the name of a method of ours")
        chosen = tuple(dict.fromkeys((*methods, *own)))
        made = cls(named_styles(styles), chosen, own, settings, where.device.type, where.precision)
        for source in made.sources.values():
            for method in set(chosen) & set(FEED_FORWARD):
                source.trained(method)
        return made

    @cached_property
    def sources(self) -> Mapping[str, StyleSource]:
        """The styles by their names in the rows."""
        return {name: style_source(text) for name, text in self.texts.items()}

    @cached_property
    def where(self) -> Machine:
        """Device and arithmetic."""
        return machine(self.device, self.precision, "torch")

    @property
    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every style with every method, style by style."""
        return ((style, method) for style in self.texts for method in self.methods)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is built from it."""
        return {name: value for name, value in vars(self).items() if name not in ("sources", "where")}

    def methods_settings(self, **changes: Any) -> MethodSettings:
        """What ruder and gatys read; `changes` of how they minimise."""
        own = self.settings
        flow = FlowSettings()
        if isinstance(own, StylizingSettings):
            changes = {"iterations": own.iterations, **changes}
            flow = FlowSettings(own.flow_method, cache=own.flow_cache)
        gatys = OptimizationSettings(own.network, own.vgg_weights, seed=own.seed).changed(**changes)
        return MethodSettings(gatys=gatys, flow=flow)

    @contextmanager
    def stylizing(self, style: str, method: str, longest_side: int, work: Work) -> "Iterator[Stylizer]":
        """The stylizer for frames of a longest side; what an optimisation made is kept until the block ends well."""
        if method in OPTIMISERS:
            with work.keeping() as keep:
                yield self._built(style, method, longest_side, Around(work.iteration, keep))
        else:
            yield self.stylizer(style, method, longest_side)

    def stylizer(self, style: str, method: str, longest_side: int) -> "Stylizer":
        """The stylizer alone."""
        if method in self.stylizers:
            return checked(method, self.stylizers[method])
        if ":" in method:
            return load_stylizer(method)
        return self._built(style, method, longest_side)

    def _built(self, style: str, method: str, longest_side: int, around: Around = ALONE) -> Stylizer:
        settings, source = self.methods_settings(), self.sources[style]
        return build(method, source, settings, longest_side=longest_side, machine=self.where, around=around)

    def losses(self, style: str, longest_side: int) -> FrameLosses:
        """Style and content loss of a frame, unweighted."""
        return self.losses_of(self.sources[style], longest_side)

    def losses_of(self, source: StyleSource, longest_side: int) -> FrameLosses:
        """The losses of a style that is none of ours."""
        return losses_beside(source, self.settings.perceptual, longest_side, self.where, say=_say_once)

    def identity(self) -> dict[str, Any]:
        """What decides the figures: settings, methods, contents of the styles' files, networks, arithmetic."""
        said = self.settings.identity()
        if not set(self.methods) & set(OPTIMISERS):
            said = {name: value for name, value in said.items() if name not in _OF_OPTIMISERS}
        for name in ("network", "vgg_weights"):
            said.pop(name, None)
        return {
            **said,
            "methods": list(self.methods),
            "styles": {name: source.digest(self.methods) for name, source in self.sources.items()},
            "perceptual_network": perceptual_name(self.settings.perceptual),
            "device": self.device,
            "precision": self.precision,
            "threads": torch.get_num_threads(),
        }

    def announce(self, parts: Sequence[Part]) -> None:
        """Logs what the parts stylize and how long that and their losses will take, after a short probe of both."""
        parts = [part for part in parts if part.method in self.methods and part.frames]
        for width, height in dict.fromkeys(part.size for part in parts):
            todo = [part for part in parts if part.size == (width, height)]
            seconds = 0.0
            for method in dict.fromkeys(part.method for part in todo):
                own = [part for part in todo if part.method == method]
                first, later = self.seconds(own[0].style, method, width, height)
                seconds += sum(part.shots * first + (part.frames - part.shots) * later for part in own)
            losses = sum(part.losses for part in todo) * self._seconds_of_losses(todo[0].style, width, height)
            log.info(
                f"{sum(part.frames for part in todo)} frames of {width}x{height} to stylize, about {duration(seconds)} "
                f"on this machine, and {duration(losses)} to measure their losses"
            )

    def seconds(self, style: str, method: str, width: int, height: int, **changes: Any) -> tuple[float, float]:
        """Seconds of a first and of a later frame, from a short probe at that size or below; see `methods_settings`."""

        def measure(across: int, down: int) -> Seconds:
            if method in METHODS:
                settings = self.methods_settings(**changes)
                first, later, *_ = frame_seconds(method, self.sources[style], settings, self.where, across, down)
                return Seconds(
                    first, later + (flow_seconds(settings.flow.method, across, down) if method == "ruder" else 0)
                )
            times = [time.monotonic()]
            for _ in self.stylizer(style, method, max(across, down))(as_frames(noise(across, down, 2))):
                times.append(time.monotonic())
            return Seconds(times[1] - times[0], times[-1] - times[-2])

        found = measured(measure, width, height, budget=_PROBE_SECONDS, device=self.where.device).seconds
        return found.first, found.later

    def _seconds_of_losses(self, style: str, width: int, height: int) -> float:
        losses = self.losses(style, max(width, height))

        def measure(across: int, down: int) -> Seconds:
            content, frame = noise(across, down, 2)
            started = time.monotonic()
            losses(frame, content)
            return Seconds(*[time.monotonic() - started] * 2)

        return measured(measure, width, height, budget=_PROBE_SECONDS, device=self.where.device).seconds.later


def named_styles(styles: Sequence[str | Path] | None) -> dict[str, str]:
    """Texts of styles by their names in the rows, all shipped ones by default. SettingError where two have one name."""
    found: dict[str, str] = {}
    for text in map(str, styles) if styles is not None else [style.name for style in shipped_styles()]:
        name = style_name(text)
        if name in found:
            raise SettingError(f"styles has two that are called {name}")
        style_source(text)  # raises where there is none
        found[name] = text
    if not found:
        raise SettingError("styles names none")
    return found


def part_name(style: str, method: str, clip: str) -> str:
    """What the part of a style, method and sequence is called."""
    return f"{style} {method} {clip}"


@dataclass(frozen=True)
class Stylizing(Experiment):
    """An experiment that measures every style by every method; it says before how long that takes."""

    settings: PerceptualSettings
    cast: Cast

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Of each style the input as it is, and then its methods."""
        return [(style, method) for style in self.cast.texts for method in (CONTENT, *self.cast.methods)]

    def announce(self, parts: Sequence[Part]) -> None:
        self.cast.announce(parts)

    @contextmanager
    def stylizing(self, part: Part, longest_side: int, work: Work) -> Iterator[Stylizer]:
        """The stylizer of a part, which leaves the input as it is; the frames that it gives are counted."""
        if part.method == CONTENT:
            yield lambda frames: work.counted(unchanged(frames))
        else:
            with self.cast.stylizing(part.style, part.method, longest_side, work) as stylizer:
                yield lambda frames: work.counted(stylizer(frames))


@dataclass(frozen=True)
class OnDavis(Stylizing):
    """One that measures on DAVIS.

    Attributes:
        davis: the folder with JPEGImages and Annotations.
        names: of the sequences.
    """

    settings: Table1Settings | DistortionSettings | ShiftSettings
    davis: Path
    names: tuple[str, ...]

    @cached_property
    def sequences(self) -> Mapping[str, DavisSequence]:
        """The sequences by name."""
        return {one.name: one for one in davis_sequences(self.davis, self.names, self.settings.size)}
