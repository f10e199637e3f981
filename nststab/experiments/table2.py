"""Table 2 of Gupta et al. 2017: seconds a frame of every method, beside the arithmetic and memory that it takes.

What runs is timed by a wall clock after a warm-up. Jobs that are to be compared alternate, one frame of each in every
round, so that a noisy machine disturbs them alike. An optimisation is timed by its iterations and scaled to as many as
the paper counts. Arithmetic is what `torch.utils.flop_counter` counts: convolutions and matrix products, a
multiply-add as two; normalisation, pooling, warping and the optimizer's own vector arithmetic count nothing.
"""

import logging
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, cycle, islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.baselines.gatys import Callback
from nststab.datasets.synthetic import SyntheticSettings, make_clip
from nststab.experiments import paper
from nststab.experiments.cast import Cast
from nststab.experiments.figures import OTHERS, color_of, grouped
from nststab.experiments.runner import Experiment, Part, Results, Work, run
from nststab.experiments.settings import SpeedSettings
from nststab.experiments.timing import (
    WARM_UP,
    AddedMemory,
    MatrixProduct,
    Measured,
    alternating,
    flop_of,
    flop_of_iteration,
    in_fresh_process,
    iteration_steps,
    matrix_side,
)
from nststab.flow.estimators import ESTIMATORS, Estimator, between_frames, require_estimator
from nststab.flow.pairs import flow_ahead
from nststab.flow.settings import FlowSettings
from nststab.frames import Frame, Stylizer, as_frames
from nststab.listener import Listener, silent
from nststab.methods.build import Around, Machine, build, machine
from nststab.methods.settings import FEED_FORWARD, OPTIMISERS, MethodSettings
from nststab.storage.tables import Json, Row, Table
from nststab.styles.shipped import LIGHT, demo_clip, light_styles
from nststab.styles.shipped import styles as shipped_styles
from nststab.styles.source import style_source
from nststab.tasks.doctor import processor
from nststab.tasks.plan import duration
from nststab.video.clip import open_clip

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

PAPER_ITERATIONS = 1000
"""Of a frame, as the paper counts an optimisation in its Table 2."""

CLIP, TEXTURE = "the bundled clip", "a moving texture"
_UNDER = ("recurrent", "ruder")  # in figures; the other method of their kind takes nearly as long, and lies on top
_REAL_TIME = 1 / 25  # seconds a frame
_TEXTURE_SIDE = 256
_DIFFERENT = 12  # frames, gone through forwards and backwards
_MEMORY_FRAMES = 3  # after which a network's memory grows no more
_START_SECONDS = 4.0  # of a process that loads the libraries


def speed(
    output: str | Path,
    *,
    style: str | Path | None = None,
    methods: Sequence[str] = ("independent", "recurrent", "ruder", "gatys"),
    stylizers: Mapping[str, Stylizer] | None = None,
    size: Sequence[int] | None = None,
    limit: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    settings: SpeedSettings | None = None,
    overwrite: bool = False,
    progress: Listener = silent,
) -> Results:
    """Measures Table 2 of Gupta et al. 2017 on this machine and writes it to the folder `output`.

        nststab.experiments.speed("out", methods=["recurrent"], stylizers={"mine": my_callable})

    style: by default the first that is shipped; none is faster. stylizers: methods of your own, which alternate with
    our networks; their memory is measured where they pickle. size: sides of the square frames; limit: as in
    `SpeedSettings`. Parts follow one another, as they would disturb each other: there is no executor.

    Raises SettingError for what contradicts, OSError for missing files.
    """
    chosen = SpeedSettings.of(settings).changed(size=None if size is None else tuple(size), limit=limit)
    chosen = replace(chosen, size=tuple(sorted(set(chosen.size))))
    styles = [shipped_styles()[0].name if style is None else style]
    cast = Cast.of(styles, methods, stylizers, chosen, device, precision)
    others = _others(cast, chosen, precision)
    if others:
        cast = Cast.of(styles, methods, {**others, **cast.stylizers}, chosen, device, precision)
    for method in chosen.flow_methods if "ruder" in cast.methods else ():
        require_estimator(method)
    return run(Table2(chosen, cast, available_content()), output, overwrite, None, progress)


@dataclass(frozen=True)
class _Network:
    """A network of ours that is no row of its own among the methods: another engine's, or another kind of network.

    It pickles, so that its memory can be measured in a process of its own.
    """

    style: str
    method: str
    machine: Machine

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        yield from build(self.method, style_source(self.style), longest_side=0, machine=self.machine)(frames)

    def by_torch(self) -> "_Network":
        """The same by torch, whose arithmetic can be counted."""
        return replace(self, machine=replace(self.machine, engine="torch"))


def _others(cast: Cast, settings: SpeedSettings, precision: str) -> dict[str, _Network]:
    """The networks by other engines, and the light ones, by the names of their rows."""
    ((name, text),) = cast.texts.items()
    texts = {"": text} | ({f"{LIGHT} ": f"{LIGHT}/{name}"} if settings.light and name in light_styles() else {})
    found = {}
    for method in set(cast.methods) & set(FEED_FORWARD):
        for kind, style in texts.items():
            for engine in settings.engines:
                if (kind or engine != "torch") and style_source(style).has(method):
                    by = "" if engine == "torch" else f", {engine}"
                    where = machine(cast.device, precision, engine)
                    found[f"{kind}{method}{by}"] = _Network(style, method, where)
    return dict(sorted(found.items()))


class InStep(TypedDict):
    """Seconds of each job in each round, and FLOP of a frame of each network."""

    seconds: dict[str, list[float]]
    flop: dict[str, int]
    matrix_rates: list[float]


@dataclass(frozen=True)
class Timing:
    """What a part measures: methods at a size; together in step, or one alone in a fresh process, or flow only."""

    size: int
    methods: tuple[str, ...]
    kind: str


@dataclass(frozen=True)
class Table2(Experiment):
    """Size by size: the networks in step, each method by itself, the flows in step.

    Attributes:
        content: what is stylized, `CLIP` or `TEXTURE`.
    """

    settings: SpeedSettings
    cast: Cast
    content: str
    name = "speed"

    @property
    def style(self) -> str:
        """The style's name in the rows."""
        return next(iter(self.cast.texts))

    @property
    def flow_methods(self) -> tuple[str, ...]:
        """The ways to estimate flow that are timed."""
        return self.settings.flow_methods if "ruder" in self.cast.methods else ()

    def identity(self) -> dict[str, Json]:
        device = self.cast.where.device
        return self.cast.identity() | {
            "content": self.content,
            "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        }

    def parts(self, found: Mapping[str, Json]) -> list[Part]:  # noqa: ARG002
        parts = []
        networks = tuple(method for method in self.cast.methods if method not in OPTIMISERS)
        for size in self.settings.size:
            if networks:
                parts.append(Part(f"networks {size}", Timing(size, networks, "in step")))
            parts += [Part(f"{method} {size}", Timing(size, (method,), "alone")) for method in self.cast.methods]
            if self.flow_methods:
                parts.append(Part(f"flow {size}", Timing(size, ("ruder",), "flow")))
        return parts

    def measure(self, part: Part, work: Work) -> Json:  # noqa: ARG002
        timing: Timing = part.data
        if timing.kind == "in step":
            return self._networks_in_step(timing)
        if timing.kind == "flow":
            return self._flows_in_step(timing)
        (method,) = timing.methods
        own = {name: one for name, one in self.cast.stylizers.items() if name == method}
        alone = replace(self, cast=replace(self.cast, stylizers=own))
        try:
            pickle.dumps(own)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            log.warning(f"the memory of {method} is not measured: it cannot be handed to another process ({error})")
            return {"seconds": [], "flop": 0, "matrix_rates": [], "peak_bytes": None}
        return in_fresh_process(measure_alone, alone, method, timing.size, torch.get_num_threads())

    def _networks_in_step(self, timing: Timing) -> InStep:
        """The feed-forward and the caller's own methods and the machine's matrix product, alternating."""
        rounds = self.settings.limit
        frames = self.frames(timing.size, WARM_UP + rounds)
        stylizers = {method: self.cast.stylizer(self.style, method, timing.size) for method in timing.methods}
        streams = {method: stylizer(as_frames(frames)) for method, stylizer in stylizers.items()}
        product = self._product(self.cast.precision)
        jobs: dict[str, Callable[[], object]] = {method: stream.__next__ for method, stream in streams.items()}
        seconds = alternating({**jobs, "": product}, rounds)
        rates = [product.rate(value) for value in seconds.pop("")]
        plain = {name: one.by_torch() for name, one in self.cast.stylizers.items() if isinstance(one, _Network)}
        flop = {name: flop_of(one(as_frames(frames)).__next__) for name, one in {**stylizers, **plain}.items()}
        return {"seconds": seconds, "flop": flop, "matrix_rates": rates}

    def _flows_in_step(self, timing: Timing) -> dict[str, list[float]]:
        """Seconds of a pair of frames by each way to estimate flow, alternating."""
        rounds = self.settings.limit
        frames = self.frames(timing.size, WARM_UP + rounds + 1)

        def job(method: str) -> Callable[[], object]:
            pairs = pairwise(frames)
            return lambda: flow_both_ways(ESTIMATORS[method], next(pairs))

        return alternating({method: job(method) for method in self.flow_methods}, rounds)

    def alone(self, method: str, size: int) -> Measured:
        """A method by itself, of a network the memory only; to be called in a fresh process."""
        return self._optimization(method, size) if method in OPTIMISERS else self._network_memory(method, size)

    def _network_memory(self, method: str, size: int) -> Measured:
        frames = self.frames(size, _MEMORY_FRAMES)
        memory = AddedMemory(self.cast.where.device)
        for _ in self.cast.stylizer(self.style, method, size)(as_frames(frames)):
            pass
        return {"seconds": [], "flop": 0, "matrix_rates": [], "peak_bytes": memory.bytes()}

    def _optimization(self, method: str, size: int) -> Measured:
        """Two frames of ruder, whose second is timed, or one of gatys; once before to warm up.

        The machine's matrix product runs between the iterations, where less memory is held than within. Not before:
        what it left to the allocator would not count as the method's.
        """
        frames = self.frames(size, 2 if method == "ruder" else 1)
        source, where = self.cast.sources[self.style], self.cast.where
        with TemporaryDirectory() as cache:  # not the user's

            def building(iterations: int) -> Callable[[Callback], Stylizer]:
                settings = self._optimizer(method, iterations, Path(cache))
                return lambda report: build(
                    method, source, settings, longest_side=size, machine=where, around=Around(report)
                )

            product = self._product(where.optimizing)
            rates: list[float] = []

            def multiply() -> None:
                rates.extend(map(product.rate, alternating({"": product}, 1)[""]))

            memory = AddedMemory(where.device)
            iteration_steps(building(1), frames)
            seconds = iteration_steps(building(self.settings.measured_iterations), frames, between=multiply)
            peak = memory.bytes()
            flop = flop_of_iteration(building(1), frames)
        return {"seconds": seconds, "flop": flop, "matrix_rates": rates, "peak_bytes": peak}

    def _optimizer(self, method: str, iterations: int, cache: Path) -> MethodSettings:
        """So many iterations of the last frame, none of which ends early: of ruder's first one is enough."""
        counts = (1, iterations) if method == "ruder" else (iterations,)
        settings = self.cast.methods_settings(tolerance=0.0, iterations=counts)
        return replace(settings, flow=FlowSettings((*self.settings.flow_methods, "deepflow")[0], cache=cache))

    def _product(self, precision: str) -> MatrixProduct:
        return MatrixProduct(getattr(torch, precision), self.cast.where.device, seed=self.settings.seed)

    def frames(self, size: int, count: int) -> list[Tensor]:
        """So many frames (1, 3, size, size): of the bundled clip, forwards and backwards, or of a moving texture."""
        if self.content == CLIP:
            seen = [frame.rgb for frame in islice(open_clip(demo_clip()).frames(), min(count, _DIFFERENT))]
        else:
            seen = _texture(self.settings.seed)
        square = (size, size)
        scaled = [F.interpolate(frame, square, mode="bicubic", antialias=True).clamp_(0, 1) for frame in seen]
        return list(islice(cycle(chain(scaled, scaled[-2:0:-1])), count))

    def announce(self, parts: Sequence[Part]) -> None:
        """Says how long all that takes, after a probe of each method at the smallest size."""
        if not parts:
            return
        timings: list[Timing] = [part.data for part in parts]
        least, settings = min(settings_sizes := self.settings.size), self.settings
        methods = dict.fromkeys(method for timing in timings for method in timing.methods)
        probed = {
            method: self.cast.seconds(
                self.style, method, least, least, iterations=(1, 1) if method == "ruder" else (1,)
            )
            for method in methods
        }
        seconds = 0.0
        for timing in timings:
            flow = timing.kind == "flow"  # what a later frame of ruder takes longer, with one iteration, is its flow
            each = sum(later - first if flow else first for first, later in (probed[name] for name in timing.methods))
            rounds = WARM_UP + settings.limit
            if timing.kind == "alone":  # a network's frames, or the iterations of an optimisation's three runs
                optimises = timing.methods[0] in OPTIMISERS
                rounds = settings.measured_iterations + 6 if optimises else _MEMORY_FRAMES
            seconds += _START_SECONDS * (timing.kind == "alone") + rounds * each * (timing.size / least) ** 2
        sizes = ", ".join(f"{size}x{size}" for size in settings_sizes)
        log.info(
            f"{', '.join(methods)} at {sizes}: {len(parts)} measurements of {settings.limit} frames or "
            f"{settings.measured_iterations} iterations, about {duration(seconds)} on this machine"
        )

    def rows(self, found: Mapping[str, Json]) -> list[Row]:
        rows = []
        for method in self.cast.methods:
            for size in self.settings.size:
                if method in OPTIMISERS:
                    precision, iterations = self.cast.where.optimizing, PAPER_ITERATIONS
                    rows.append(method_row(self.style, method, size, precision, found[f"{method} {size}"], iterations))
                else:
                    rows.append(
                        method_row(self.style, method, size, self.cast.precision, _network(found, method, size))
                    )
        return rows

    def more(self, rows: Sequence[Row], found: Mapping[str, Json]) -> dict[str, Json]:  # noqa: ARG002
        sizes = self.settings.size
        flow = [flow_row(name, size, found[f"flow {size}"][name]) for name in self.flow_methods for size in sizes]
        both = {"recurrent", "independent"} <= set(self.cast.methods)
        ratios = [
            ratio_row(size, _network(found, "recurrent", size), _network(found, "independent", size))
            for size in sizes
            if both
        ]
        return {"flow": flow, "recurrent_to_independent": ratios, "paper": paper.SOURCE_2}

    def table(self, rows: Sequence[Row], more: Mapping[str, Json]) -> Table:
        return table(rows, more["flow"], self._note(rows))

    def draw(self, figure: "Figure", rows: Sequence[Row], more: Mapping[str, Json]) -> None:
        draw(figure, rows, more["flow"])

    def _note(self, rows: Sequence[Row]) -> str:
        rates = [row["matrix_gflop_per_second"] for row in rows]
        precisions = " and ".join(dict.fromkeys(row["precision"] for row in rows))
        device, settings = self.cast.where.device, self.settings
        side = matrix_side(device)
        return (
            f"Medians of {settings.limit} frames or {settings.measured_iterations} iterations after a warm-up, "
            f"{device.type}, {torch.get_num_threads()} threads, {precisions}. "
            "GFLOP: convolutions and matrix products, a multiply-add as two. "
            f"Matrix rate: products of {side}x{side} matrices in the same arithmetic beside each measurement, "
            f"{min(rates):.0f} to {max(rates):.0f} GFLOP/s. Memory: what a fresh process adds at its peak, "
            "of an optimisation within those iterations. "
            "Flow: both directions of a pair side by side, which ruder needs besides. "
            f"The paper's: {paper.SOURCE_2}."
        )


def measure_alone(experiment: Table2, method: str, size: int, threads: int) -> Measured:
    """`Table2.alone` in a fresh process, with as many threads."""
    torch.set_num_threads(threads)
    return experiment.alone(method, size)


def _network(found: Mapping[str, Any], method: str, size: int) -> Measured:
    """Of a network: its time beside the others, its memory alone."""
    together = found[f"networks {size}"]
    return {
        "seconds": together["seconds"][method],
        "flop": together["flop"][method],
        "matrix_rates": together["matrix_rates"],
        "peak_bytes": found[f"{method} {size}"]["peak_bytes"],
    }


def _texture(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    side, cell = _TEXTURE_SIDE, 8
    photos = [
        F.interpolate(torch.rand(1, 3, side // cell, side // cell, generator=generator), (side, side), mode="bicubic")
        for _ in range(3)
    ]
    settings = SyntheticSettings(length=_DIFFERENT, height=side, width=side, still_clips=0, still_layers=0)
    frames = make_clip(photos, settings, generator).frames[0]  # (T, 3, H, W)
    return [frame[None] for frame in frames]


def available_content() -> str:
    """The bundled clip; where no video can be decoded a texture, which it says."""
    try:
        open_clip(demo_clip())
    except OSError as error:
        log.info(f"measuring on {TEXTURE}: {error}")
        return TEXTURE
    return CLIP


def flow_both_ways(flow: Estimator, pair: tuple[Tensor, Tensor]) -> None:
    """Estimates the flow between two frames, both directions side by side, and its masks: what Ruder's frame needs."""
    for _ in flow_ahead(as_frames(pair), between_frames(flow)):
        pass


def spread(values: Sequence[float], name: str = "seconds") -> dict[str, float]:
    """Median, as `name`, minimum and quartiles."""
    keys = (name, f"{name}_min", f"{name}_q1", f"{name}_q3")
    return dict(zip(keys, np.quantile(values, (0.5, 0, 0.25, 0.75)).tolist(), strict=True))


def method_row(
    style: str, method: str, size: int, precision: str, measured: Measured, iterations: int | None = None
) -> Row:
    """A row; with `iterations` of a frame `measured` is of one of them, and the row is extrapolated."""
    times = iterations or 1
    gflop = measured["flop"] * times / 1e9
    seconds = spread([value * times for value in measured["seconds"]])
    rate = float(np.median(measured["matrix_rates"])) / 1e9
    return {
        "style": style,
        "method": method,
        "size": size,
        "precision": precision,
        **seconds,
        "n": len(measured["seconds"]),
        "extrapolated": iterations is not None,
        "iterations": iterations,
        "gflop": gflop,
        "gflop_per_second": gflop / seconds["seconds"],
        "matrix_gflop_per_second": rate,
        "matrix_share": gflop / seconds["seconds"] / rate,
        "peak_bytes": measured["peak_bytes"],
        "paper_seconds": paper.TABLE_2.get(size, {}).get(method),
    }


def flow_row(method: str, size: int, seconds: Sequence[float]) -> Row:
    """A way to estimate flow: a pair of frames, both directions."""
    return {"flow": method, "size": size, **spread(seconds), "n": len(seconds)}


def ratio_row(size: int, numerator: Measured, denominator: Measured) -> Row:
    """How many times as long a frame of one method takes as one of another in the same round."""
    ratios = [a / b for a, b in zip(numerator["seconds"], denominator["seconds"], strict=True)]
    return {"size": size, **spread(ratios, "ratio")}


def table(rows: Sequence[Row], flow: Sequence[Row], note: str) -> Table:
    """Table 2, with a line of each way to estimate flow."""
    columns = ("", "size", "s/frame", "paper's", "min", "quartiles", "GFLOP", "GFLOP/s", "of matrix rate", "peak MiB")
    lines = [_method_line(row) for row in rows]
    lines += [[f"flow: {row['flow']}", str(row["size"]), *_times(row), "-", "-", "-", "-"] for row in flow]
    starred = any(row["extrapolated"] for row in rows)
    explained = f"* a median iteration, times {PAPER_ITERATIONS} as the paper counts them. " if starred else ""
    return Table("Table 2: seconds a frame", columns, lines, explained + note)


def _method_line(row: Row) -> list[str]:
    memory = row["peak_bytes"]
    return [
        *(row["method"], str(row["size"])),
        *_times(row, "*" if row["extrapolated"] else "", row["paper_seconds"]),
        *(digits(row["gflop"]), digits(row["gflop_per_second"]), f"{row['matrix_share']:.0%}"),
        "-" if memory is None else f"{memory / 2**20:.0f}",
    ]


def _times(row: Row, mark: str = "", papers: float | None = None) -> list[str]:
    median, least, low, high = (digits(row[f"seconds{part}"]) for part in ("", "_min", "_q1", "_q3"))
    return [median + mark, "-" if papers is None else digits(papers), least, f"{low} to {high}"]


def digits(value: float) -> str:
    """Three significant digits, and all before the point: 0.0413, 12.3, 8120."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:.0f}" if rounded >= 100 else f"{rounded:.3g}"


def draw(figure: "Figure", rows: Sequence[Row], flow: Sequence[Row]) -> None:
    """Median seconds a frame over the size, with quartiles; what is extrapolated has hollow points, flow is dashed."""
    axes = figure.subplots()
    for label, own, look in _lines(rows, flow):
        medians = np.array([row["seconds"] for row in own])
        quartiles = [medians - [row["seconds_q1"] for row in own], [row["seconds_q3"] for row in own] - medians]
        axes.errorbar([row["size"] for row in own], medians, quartiles, label=label, capsize=3, **look)
    for place, (method, own) in enumerate(grouped(rows, "method").items()):
        if theirs := [(row["size"], row["paper_seconds"]) for row in own if row["paper_seconds"]]:
            axes.plot(*zip(*theirs, strict=True), "x", color=color_of(method, place), label=f"{method}: the paper's")
    axes.axhline(_REAL_TIME, color=OTHERS[-1], linewidth=0.8, linestyle=":")
    corner: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "bottom"}
    axes.text(1, _REAL_TIME, "25 frames a second", color=OTHERS[-1], fontsize=8, **corner)
    sizes = sorted({row["size"] for row in (*rows, *flow)})
    axes.set(xscale="log", yscale="log", xlabel="side of the square frames in pixels", ylabel="seconds a frame")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(lambda value, _place: digits(value))
    figure.legend(loc="outside right center")


def _lines(rows: Sequence[Row], flow: Sequence[Row]) -> list[tuple[str, list[Row], dict[str, Any]]]:
    """Label, rows by size and look of each line, the slowest first, as they lie above each other."""
    lines: list[tuple[str, list[Row], dict[str, Any]]] = []
    for place, (method, own) in enumerate(grouped(rows, "method").items()):
        extrapolated = own[0]["extrapolated"]
        label = f"{method} (extrapolated)" if extrapolated else method
        width, marker, side, order = (3.0, "o", 9, 2.1) if method in _UNDER else (1.2, "s", 5, 2.2)
        look = {
            "color": color_of(method, place),
            "linewidth": width,
            "marker": marker,
            "markersize": side,
            "zorder": order,
        }
        lines.append((label, own, look | ({"markerfacecolor": "white"} if extrapolated else {})))
    for (method, own), color in zip(grouped(flow, "flow").items(), OTHERS, strict=False):
        lines.append((f"flow alone: {method}", own, {"color": color, "linestyle": "--", "marker": "D"}))
    by_size = [(label, sorted(own, key=lambda row: row["size"]), look) for label, own, look in lines]
    return sorted(by_size, key=lambda line: -max(row["seconds"] for row in line[1]))
