"""What the experiments share: their options, styles and methods, and what is said before they begin and meanwhile."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nststab.cli.common import (
    EXISTING_FOLDER,
    flow_cache_option,
    flow_method_option,
    given,
    network_option,
    output_option,
    overwrite_option,
    say,
    seed_option,
    setting,
    vgg_option,
)
from nststab.cli.optimizing import Iterations

if TYPE_CHECKING:
    from nststab.baselines.gatys import Keep
    from nststab.frames import Stylizer
    from nststab.methods.build import Machine, OptimizerOptions
    from nststab.styles.source import StyleSource

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])
_PROBE_SECONDS = 3.0


class StyleNames(click.ParamType):  # type: ignore[type-arg]
    """Styles separated by commas: shipped ones by name; pictures, checkpoints and folders of checkpoints by path."""

    name = "styles"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:  # noqa: ARG002
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(part.strip() for part in str(value).split(",") if part.strip()))


styles_option = setting(
    "--styles",
    "all that are shipped",
    "Styles, separated by commas: names, pictures, checkpoints, folders with a checkpoint of each method.",
    StyleNames(),
    "STYLE,...",
)
limit_option = setting("--limit", "all", "Frames of each clip.", click.IntRange(min=2), "N")


def davis_options(command: Command) -> Command:
    """--davis and --sequences, of which `davis_sequences` takes the values."""
    command = setting("--sequences", "all", "Sequences of DAVIS, separated by commas.", StyleNames(), "SEQUENCE,...")(
        command
    )
    return click.option(
        "--davis",
        type=EXISTING_FOLDER,
        required=True,
        metavar="DIR",
        help="DAVIS 2016: the folder with JPEGImages and Annotations.",
    )(command)


def size_option(default: object) -> Callable[[Command], Command]:
    """--size, the longest side of the frames."""
    return setting("--size", default, "Longest side of the frames in pixels.", click.IntRange(min=16), "PIXELS")


_OPTIMIZING = (
    setting(
        "--iterations",
        "500,150",
        "ruder and gatys: iterations of each first frame, and of ruder's later ones.",
        Iterations(),
    ),
    flow_method_option,
    flow_cache_option,
    network_option,
    vgg_option,
)
_OUTPUT = (seed_option, output_option, overwrite_option)


def optimizing_options(command: Command) -> Command:
    """--iterations, --flow-method, --flow-cache, --network and --vgg-weights, of which `optimizer_of` takes the values.

    The last two also choose the network that style and content losses are measured with.
    """
    for option in reversed(_OPTIMIZING):
        command = option(command)
    return command


def output_options(command: Command) -> Command:
    """--seed, -o and -y."""
    for option in reversed(_OUTPUT):
        command = option(command)
    return command


def optimizer_of(options: Mapping[str, Any]) -> "OptimizerOptions":
    """What `optimizing_options` gave."""
    from nststab.flow.source import flow_source
    from nststab.methods.build import OptimizerOptions

    return OptimizerOptions(
        loop=given(seed=options["seed"]),
        iterations=options["iterations"],
        network=options["network"],
        vgg_weights=options["vgg_weights"],
        flow=flow_source(None, options["flow_method"], options["flow_cache"]),
    )


@dataclass(frozen=True)
class Candidate:
    """A style by a method: what an experiment measures. `style` is its name in the rows."""

    style: str
    method: str
    source: "StyleSource"
    where: "Machine"
    optimizer: "OptimizerOptions"

    @property
    def name(self) -> str:
        return f"{self.style} {self.method}"

    def stylizer(
        self,
        longest_side: int,
        report: "Callable[[int, dict[str, float]], None] | None" = None,
        keep: "Keep | None" = None,
    ) -> "Stylizer":
        """Built for frames of a longest side; `report` gets every iteration of an optimisation, `keep` its result."""
        from nststab.methods.build import stylizer

        return stylizer(self.method, self.source, self.optimizer, longest_side, self.where, report, keep)


def sources(styles: Sequence[str] | None) -> "dict[str, StyleSource]":
    """The styles by their names in the rows; all shipped ones by default. A usage error where two have one name."""
    from nststab.styles.shipped import styles as shipped
    from nststab.styles.source import style_name, style_source

    found: dict[str, StyleSource] = {}
    for text in styles if styles is not None else [style.name for style in shipped()]:
        name = style_name(text)
        if name in found:
            raise click.UsageError(f"--styles has two that are called {name}")
        found[name] = style_source(text)
    if not found:
        raise click.UsageError("--styles names none")
    return found


def candidates(
    styles: "Mapping[str, StyleSource]", methods: Sequence[str], where: "Machine", optimizer: "OptimizerOptions"
) -> list[Candidate]:
    """Every style by every method, style by style; a usage error at once where one has no network for a method."""
    from nststab.methods.build import FEED_FORWARD

    for source in styles.values():
        for method in set(methods) & set(FEED_FORWARD):
            source.trained(method)
    return [Candidate(name, method, source, where, optimizer) for name, source in styles.items() for method in methods]


def counting(advance: Callable[..., None]) -> Callable[[Iterable[T]], Iterator[T]]:
    """Lets streams through, and counts on a progress bar what has passed in all of them."""
    numbers = itertools.count(1)

    def counted(items: Iterable[T]) -> Iterator[T]:
        for item in items:
            advance(next(numbers))
            yield item

    return counted


def announce(work: "Sequence[tuple[Candidate, int, int]]", width: int, height: int, measured: int) -> None:
    """Says what is about to be stylized and how long that and its losses will take, after a short probe of both.

    work: of each candidate the frames that are not finished yet, and the clips that they belong to (their first frames
    take an optimiser longer). measured: how many of the pictures have their losses measured.
    """
    from nststab.tasks.planning import duration

    total = sum(frames for _, frames, _ in work)
    if not total:
        return
    seconds = 0.0
    for method in dict.fromkeys(candidate.method for candidate, frames, _ in work if frames):
        own = [(candidate, frames, clips) for candidate, frames, clips in work if candidate.method == method]
        first, later = seconds_of(own[0][0], width, height)
        seconds += sum(clips * first + (frames - clips) * later for _, frames, clips in own)
    losses = measured * _seconds_of_losses(work[0][0], width, height)
    say(
        f"{total} frames of {width}x{height} to stylize, about {duration(seconds)} on this machine, "
        f"and {duration(losses)} to measure their losses"
    )


def _seconds_of_losses(candidate: Candidate, width: int, height: int) -> float:
    """Seconds that the losses of a frame take, from a short probe at that size or below."""
    from nststab.methods.build import measuring_losses
    from nststab.tasks.plan import Seconds, noise, probe

    options = {"network": candidate.optimizer.network, "vgg_weights": candidate.optimizer.vgg_weights}
    losses = measuring_losses(candidate.source, options, max(width, height), candidate.where)

    def measure(across: int, down: int) -> Seconds:
        content, frame = noise(across, down, 2)
        started = time.monotonic()
        losses(frame, content)
        return Seconds(*[time.monotonic() - started] * 2)

    return probe(measure, width, height, budget=_PROBE_SECONDS, device=candidate.where.device).seconds.later


def seconds_of(candidate: Candidate, width: int, height: int) -> tuple[float, float]:
    """Seconds of a first and of a later frame, from a short probe at that size or below."""
    from nststab.tasks.plan import probe
    from nststab.tasks.planned_jobs import frame_seconds

    def measure(across: int, down: int) -> Any:
        return frame_seconds(candidate.method, candidate.source, candidate.optimizer, candidate.where, across, down)

    measured = probe(measure, width, height, budget=_PROBE_SECONDS, device=candidate.where.device)
    return measured.seconds.first, measured.seconds.later
