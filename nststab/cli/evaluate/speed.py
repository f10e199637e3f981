"""nststab evaluate speed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from nststab.cli.common import (
    COUNT,
    OPTIMISERS,
    Names,
    device_options,
    frames_of,
    given,
    methods_option,
    network_option,
    progress,
    say,
    setting,
    verbosity_options,
    vgg_option,
)
from nststab.experiments.cli_common import StyleNames, candidates, output_options, seconds_of, sources
from nststab.experiments.run import digests, experiment

if TYPE_CHECKING:
    from nststab.experiments.speed import Measured, SpeedSettings
    from nststab.experiments.speed_tasks import Task
    from nststab.methods.build import Machine
    from nststab.storage.tables import Row

FLOW = ("deepflow", "dis")
_LEAST_SIDE = 16
_START_SECONDS = 4.0  # of a process that loads the libraries


class Sizes(click.ParamType):  # type: ignore[type-arg]
    """Sides of frames, separated by commas, in rising order."""

    name = "sizes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isdecimal() and int(part) >= _LEAST_SIDE for part in parts):
            self.fail(f"{value!r}: expected sides of at least {_LEAST_SIDE} pixels, as in 256,512,1024", param, ctx)
        return tuple(sorted({int(part) for part in parts}))


@click.command("speed", short_help="Table 2: seconds a frame.")
@setting(
    "--styles",
    "the first that is shipped",
    "One style, by its name, picture, checkpoint or folder of checkpoints; all that are shipped take the same time.",
    StyleNames(),
    "STYLE",
)
@methods_option("independent,recurrent,ruder,gatys")
@setting("--size", "256,512,1024", "Sides of the square frames in pixels.", Sizes(), "PIXELS,...")
@setting("--limit", 10, "Frames of each network, and pairs of each flow, after the warm-up.", COUNT)
@setting("--measured-iterations", 10, "Iterations of ruder and gatys, which are scaled to the paper's 1000.", COUNT)
@click.option(
    "--flow-methods",
    type=Names(FLOW),
    metavar="FLOW,...",
    default=",".join(FLOW),
    show_default=True,
    help="With ruder: flow in both directions, timed apart.",
)
@network_option
@vgg_option
@output_options
@device_options
@verbosity_options
def command(**options: Any) -> None:
    """Seconds a frame of every method, with arithmetic, its share of the machine's matrix rate, and peak memory.

    Networks alternate frame by frame on the bundled clip, scaled to squares. Optimisations run a few iterations, whose
    median is scaled to the 1000 iterations a frame that the paper counts: such rows are extrapolated. The paper's own
    cells of this table are in no source that this was written from, so none stand beside ours.
    """
    import torch

    from nststab.experiments.speed import SpeedSettings, draw, flow_row, table
    from nststab.experiments.speed_tasks import Task, available_content
    from nststab.flow.estimators import require_estimator
    from nststab.methods.build import machine
    from nststab.tasks.doctor import processor

    asked = {"frames": options["limit"], "iterations": options["measured_iterations"], "sizes": options["size"]}
    where = machine(options["device"], options["precision"])
    methods, style = options["methods"], _one_style(options["styles"])
    styles = sources((style,))
    flow_methods = options["flow_methods"] if "ruder" in methods else ()
    for method in flow_methods:
        require_estimator(method)
    settings = replace(SpeedSettings(), **given(**asked))
    task = Task(
        style,
        settings,
        available_content(),
        options["seed"] or 0,
        where.device.type,
        where.precision,
        torch.get_num_threads(),
        {name: options[name] for name in ("network", "vgg_weights")},
        flow_methods,
    )
    candidates(styles, methods, where, task.candidate(1).optimizer)  # a usage error where there is no network
    decisive = {
        "styles": digests(styles, methods),
        "content": task.content,
        "machine": torch.cuda.get_device_name(where.device) if where.device.type == "cuda" else processor(),
    }
    with experiment("speed", options, where, **decisive) as run:
        parts = list(_parts(task, methods))
        _announce(task, [part for part in parts if not run.parts.done(part.name)])
        found = {}
        with progress("speed", len(parts)) as advance:
            for number, part in enumerate(parts):
                advance(number, note=part.name)
                found[part.name] = run.parts.get(part.name, part.compute)
        rows = _rows(found, task, next(iter(styles)), where, methods)
        flow = [flow_row(name, size, found[f"flow {size}"][name]) for name in flow_methods for size in settings.sizes]
        run.finish(
            rows,
            table(rows, flow, _note(rows, where, settings)),
            lambda figure: draw(figure, rows, flow),
            flow=flow,
            recurrent_to_independent=_ratios(found, task, methods),
        )


def _one_style(styles: Sequence[str] | None) -> str:
    from nststab.styles.shipped import styles as shipped

    if styles is None:
        return shipped()[0].name
    if len(styles) != 1:
        raise click.BadParameter(f"expected one style, got {len(styles)}: none is faster", param_hint="'--styles'")
    return styles[0]


class Part(NamedTuple):
    """What is finished or not at all, with what it will take: `start` seconds, and `frames` of each method.

    Those of an optimisation are iterations; with `flow` they are pairs, of which only the flow is estimated.
    """

    name: str
    size: int
    methods: Sequence[str]
    compute: Callable[[], Any]
    frames: int
    start: float = 0.0
    flow: bool = False


def _parts(task: "Task", methods: Sequence[str]) -> Iterator[Part]:
    """Size by size: the networks in step, each method by itself, the flows in step."""
    from nststab.experiments.fresh_process import in_fresh_process
    from nststab.experiments.speed import WARM_UP
    from nststab.experiments.speed_tasks import alone, flows_in_step, frames_alone, networks_in_step

    rounds = WARM_UP + task.settings.frames
    networks = [method for method in methods if method not in OPTIMISERS]
    for size in task.settings.sizes:
        sized = replace(task, size=size)
        if networks:
            yield Part(f"networks {size}", size, networks, partial(networks_in_step, sized, networks), rounds)
        for method in methods:
            own = replace(sized, method=method)
            compute = partial(in_fresh_process, alone, own)
            yield Part(f"{method} {size}", size, [method], compute, frames_alone(own), _START_SECONDS)
        if task.flow_methods:
            yield Part(f"flow {size}", size, ["ruder"], partial(flows_in_step, sized), rounds, flow=True)


def _announce(task: "Task", left: Sequence[Part]) -> None:
    """Says what is left to measure and how long that takes, after a probe of each method at the smallest size."""
    from nststab.tasks.planning import duration

    if not left:
        return
    least, settings = min(task.settings.sizes), task.settings
    methods = dict.fromkeys(method for part in left for method in part.methods)
    # with one iteration a frame, so that what a later frame of ruder takes longer is its flow
    probed = {method: seconds_of(replace(task, method=method).candidate(1), least, least) for method in methods}
    seconds = 0.0
    for part in left:
        each = sum(later - first if part.flow else first for first, later in (probed[name] for name in part.methods))
        seconds += part.start + part.frames * each * (part.size / least) ** 2
    sizes = ", ".join(f"{size}x{size}" for size in settings.sizes)
    say(
        f"{', '.join(methods)} at {sizes}: {len(left)} measurements of {frames_of(settings.frames)} or "
        f"{settings.iterations} iterations, about {duration(seconds)} on this machine"
    )


def _rows(found: Mapping[str, Any], task: "Task", style: str, where: "Machine", methods: Sequence[str]) -> "list[Row]":
    from nststab.experiments.speed import PAPER_ITERATIONS, method_row

    rows = []
    for method in methods:
        for size in task.settings.sizes:
            alone = found[f"{method} {size}"]
            if method in OPTIMISERS:
                rows.append(method_row(style, method, size, where.optimizing, alone, PAPER_ITERATIONS))
            else:
                rows.append(method_row(style, method, size, where.precision, _network(found, method, size)))
    return rows


def _network(found: Mapping[str, Any], method: str, size: int) -> "Measured":
    """Of a network: its time beside the others, its memory alone."""
    together = found[f"networks {size}"]
    return {
        "seconds": together["seconds"][method],
        "flop": together["flop"][method],
        "matrix_rates": together["matrix_rates"],
        "peak_bytes": found[f"{method} {size}"]["peak_bytes"],
    }


def _ratios(found: Mapping[str, Any], task: "Task", methods: Sequence[str]) -> "list[Row]":
    """Of the recurrent to the independent network's time, which measures what the memory of a frame costs."""
    from nststab.experiments.speed import ratio_row

    if not {"recurrent", "independent"} <= set(methods):
        return []
    return [
        ratio_row(size, _network(found, "recurrent", size), _network(found, "independent", size))
        for size in task.settings.sizes
    ]


def _note(rows: "Sequence[Row]", where: "Machine", settings: "SpeedSettings") -> str:
    """What the table's figures count."""
    import torch

    from nststab.experiments.speed import matrix_side

    rates = [row["matrix_gflop_per_second"] for row in rows]
    precisions = " and ".join(dict.fromkeys(row["precision"] for row in rows))
    side = matrix_side(where.device)
    return (
        f"Medians of {settings.frames} frames or {settings.iterations} iterations after a warm-up, "
        f"{where.device.type}, {torch.get_num_threads()} threads, {precisions}. "
        "GFLOP: convolutions and matrix products, a multiply-add as two. "
        f"Matrix rate: products of {side}x{side} matrices in the same arithmetic beside each measurement, "
        f"{min(rates):.0f} to {max(rates):.0f} GFLOP/s. Memory: what a fresh process adds at its peak, "
        "of an optimisation within those iterations. "
        "Flow: both directions of a pair side by side, which ruder needs besides."
    )
