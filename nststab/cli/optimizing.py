"""The options of the optimisation methods, shared by `stylize`, `optimize` and `compare`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nststab.cli.common import (
    COUNT,
    NON_NEGATIVE,
    POSITIVE,
    NearestChoice,
    flow_cache_option,
    flow_method_option,
    flow_option,
    given,
    network_option,
    seed_option,
    setting,
    vgg_option,
)

if TYPE_CHECKING:
    from nststab.methods.build import OptimizerOptions

Command = TypeVar("Command", bound=Callable[..., Any])


class Iterations(click.ParamType):  # type: ignore[type-arg]
    """One count, or two: for the first frame and for each later one."""

    name = "N[,N]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if len(parts) > 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
            self.fail(f"{value!r}: expected a positive number, or two as in 500,150", param, ctx)
        return tuple(int(part) for part in parts)


class Weights(click.ParamType):  # type: ignore[type-arg]
    """Numbers of at least 0, not all of them 0."""

    name = "X,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        weights = tuple(NON_NEGATIVE.convert(part.strip(), param, ctx) for part in str(value).split(","))
        if not any(weights):
            self.fail(f"{value!r}: expected a weight above 0", param, ctx)
        return weights


class Distances(click.ParamType):  # type: ignore[type-arg]
    """How many frames back, rising from 1."""

    name = "N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        numbers = tuple(int(part) for part in parts if part.isdecimal())
        if len(numbers) != len(parts) or numbers[0] != 1 or list(numbers) != sorted(set(numbers)):
            self.fail(f"{value!r}: expected numbers that rise from 1, as in 1,2,4", param, ctx)
        return numbers


class Layers(click.ParamType):  # type: ignore[type-arg]
    """Names of a perceptual network's layers, separated by commas."""

    name = "LAYER,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(part.strip() for part in str(value).split(",")))
        for name in names:
            if not re.fullmatch(r"relu[1-5]_[1-4]", name):
                self.fail(f"{name!r}: expected layers relu1_1 to relu5_4", param, ctx)
        return names


_OPTIONS = (
    setting("--content-weight", 1.0, "Weight of the content loss."),
    setting("--style-weight", 1.0, "Weight of the style loss."),
    setting("--tv-weight", 0.0, "Weight of total variation, for a smoother picture."),
    setting("--temporal-weight", 50.0, "ruder: weight of the temporal loss."),
    setting(
        "--long-term",
        1,
        "ruder: how far back lie the frames that a frame is tied to, as in 1,2,4.",
        Distances(),
    ),
    setting("--passes", 1, "ruder: passes over a clip, in alternating direction.", COUNT),
    setting(
        "--temporal-from",
        "the second half",
        "ruder, several passes: the first with the temporal loss.",
        click.IntRange(min=2),
    ),
    setting(
        "--iterations",
        "500,150; with several passes 100,100",
        "Iterations a frame at most; ruder: of the first frame and of later ones, or of the first pass and later ones.",
        Iterations(),
    ),
    setting("--optimizer", "lbfgs", "How to minimise.", NearestChoice(("lbfgs", "adam"))),
    setting(
        "--init",
        "content",
        "Start from the content, noise, what a trained style makes of the content, or a picture.",
        str,
        "content|noise|style:NAME|IMAGE",
    ),
    setting("--scales", 1, "Sizes of the picture, each twice the one before; the last is the full one.", COUNT),
    setting("--style-weights", "equal parts", "Parts of several styles in their blend, as in 3,7.", Weights()),
    setting("--style-scale", 1.0, "Size of a style picture relative to the content's.", POSITIVE),
    flow_option,
    flow_method_option,
    flow_cache_option,
    network_option,
    vgg_option,
    setting("--pooling", "max", "Pooling of the perceptual network.", NearestChoice(("max", "average"))),
    setting(
        "--content-layers",
        "relu3_3; relu4_2 with VGG-19, as Gatys",
        "Where the content loss looks.",
        Layers(),
    ),
    setting(
        "--style-layers",
        "relu1_2,relu2_2,relu3_3,relu4_3; relu1_1 to relu5_1 with VGG-19, as Gatys",
        "Where the style loss looks.",
        Layers(),
    ),
    seed_option,
)


_NAMES = (
    "content_weight",
    "style_weight",
    "tv_weight",
    "temporal_weight",
    "long_term",
    "passes",
    "temporal_from",
    "iterations",
    "optimizer",
    "init",
    "scales",
    "style_weights",
    "style_scale",
    "flow",
    "flow_method",
    "flow_cache",
    "network",
    "vgg_weights",
    "pooling",
    "content_layers",
    "style_layers",
    "seed",
)
_LOSS = ("content_weight", "style_weight", "tv_weight", "content_layers", "style_layers")
_RUDER_ONLY = {"temporal_weight", "long_term", "passes", "temporal_from", "flow", "flow_method", "flow_cache"}


class OptimizerCommand(click.Command):
    """A command whose help shows the options of the optimisation methods apart."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        records = [(option.name, option.get_help_record(ctx)) for option in options]
        shared = [record for name, record in records if record and name not in _NAMES]
        own = [record for name, record in records if record and name in _NAMES]
        for title, shown in (("Options", shared), ("Options of ruder and gatys", own)):
            with formatter.section(title):
                formatter.write_dl(shown)


def optimizer_options(command: Command) -> Command:
    """Adds them all; `collect` turns what they gave into OptimizerOptions."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def collect(options: dict[str, Any]) -> "OptimizerOptions":
    """Takes the options of `optimizer_options` out of a command's keyword arguments."""
    from nststab.flow.source import flow_source
    from nststab.methods.build import OptimizerOptions

    init = options["init"]
    known = init in (None, "content", "noise") or init.startswith("style:") or Path(init).is_file()
    if not known:
        expected = "content, noise, style:NAME or an existing picture"
        raise click.BadParameter(f"{init}: expected {expected}", param_hint="'--init'")
    return OptimizerOptions(
        loss=given(**{name: options[name] for name in _LOSS}),
        loop=given(optimizer=options["optimizer"], seed=options["seed"]),
        iterations=options["iterations"],
        init=init,
        flow=flow_source(options["flow"], options["flow_method"], options["flow_cache"]),
        **given(
            temporal_weight=options["temporal_weight"],
            long_term=options["long_term"],
            passes=options["passes"],
            temporal_from=options["temporal_from"],
            style_scale=options["style_scale"],
            network=options["network"],
            vgg_weights=options["vgg_weights"],
            pooling=options["pooling"],
            scales=options["scales"],
        ),
    )


def refuse_unused(options: dict[str, Any], methods: tuple[str, ...]) -> None:
    """Raises a usage error for an option that none of `methods` uses: silence would pass for an effect."""
    used = set(_NAMES) if "ruder" in methods else set(_NAMES) - _RUDER_ONLY if "gatys" in methods else set()
    for name in _NAMES:
        if options[name] is not None and name not in used:
            flag = "--" + name.replace("_", "-")
            raise click.UsageError(f"{flag} has no effect on {', '.join(methods)}")
    several = (options["passes"] or 1) > 1
    if options["temporal_from"] and not several:
        raise click.UsageError("--temporal-from has no effect without several --passes")
    if options["temporal_from"] and options["temporal_from"] > options["passes"]:
        raise click.UsageError(f"--temporal-from is over the last of the {options['passes']} --passes")
    if options["long_term"] and several:
        raise click.UsageError("--long-term has no effect with several --passes")
    if options["iterations"] and len(options["iterations"]) == 2 and "ruder" not in methods:
        raise click.UsageError("--iterations takes two numbers for ruder only")
    if options["precision"] == "float16" and not {"recurrent", "independent"} & set(methods):
        raise click.UsageError(f"--precision float16 has not the range for {', '.join(methods)}")
