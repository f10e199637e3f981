"""nststab evaluate theorem."""

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from nststab.cli.common import given, progress, say, setting, verbosity_options
from nststab.experiments.cli_common import output_options, sources, styles_option
from nststab.experiments.run import digests, experiment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nststab.experiments.theorem import Case
    from nststab.styles.source import StyleSource


@click.command("theorem", short_help="The minima of the style objective.")
@styles_option
@setting("--starts", 8, "Random starts of each Gram matrix.", click.IntRange(min=2))
@setting("--size", 512, "Longest side of the style pictures.", click.IntRange(min=16), "PIXELS")
@click.option("--methods", hidden=True, help="As all experiments take it; nothing is stylized here.")
@click.option("--limit", hidden=True, help="As all experiments take it; nothing is stylized here.")
@output_options
@verbosity_options
def command(methods: str | None, limit: str | None, **options: Any) -> None:
    """Minimise the style objective in feature space from random starts (Gupta et al. 2017, Figure 2 and Theorem 1).

    Features with the Gram matrix G lie on a sphere of radius sqrt(tr G); that every point of it has that Gram matrix,
    as the paper says too, holds for one channel only. Both are shown by numbers, for random Gram matrices and those of
    the styles at relu1_1. Nothing is stylized.
    """
    for flag, value in (("--methods", methods), ("--limit", limit)):
        if value is not None:
            say(f"note: {flag} has no effect, nothing is stylized")
    import torch

    from nststab.experiments.theorem import TheoremSettings, counterexample, draw, measure, plane, random_cases, table

    settings = TheoremSettings(**given(starts=options["starts"], size=options["size"], seed=options["seed"]))
    styles = sources(options["styles"])
    cases = random_cases(settings.seed) + _style_cases(styles, settings.size)
    decisive: dict[str, Any] = {"styles": digests(styles, ()), "threads": torch.get_num_threads()}
    with experiment("theorem", options, **decisive) as run:
        say(f"no frames to stylize: {settings.starts} starts for each of {len(cases)} Gram matrices, some seconds each")
        rows = []
        with progress("theorem", len(cases)) as advance:
            for number, case in enumerate(cases):
                rows.append(run.parts.get(f"{number} {case.name}", partial(measure, case, settings)))
                advance(number + 1)
        found = run.parts.get("plane", lambda: plane(settings.seed))
        more = {"plane": found, "counterexample": counterexample()}
        run.finish(rows, table(rows), lambda figure: draw(figure, rows, found), (10.0, 3.8), **more)


def _style_cases(styles: "Mapping[str, StyleSource]", size: int) -> "list[Case]":
    """The Gram matrix of each style at the layer; a usage error for one that has neither it nor a picture."""
    import torch

    from nststab.experiments.theorem import STYLE_LAYER, style_case
    from nststab.networks.perceptual import perceptual_network

    network = perceptual_network(None, torch.device("cpu"))
    cases = []
    for name, source in styles.items():
        target = source.target(network, (STYLE_LAYER,), size)
        if STYLE_LAYER not in target:
            raise click.UsageError(
                f"{source.text} has no Gram matrix of {STYLE_LAYER}; give the style's picture instead"
            )
        cases.append(style_case(name, target[STYLE_LAYER]))
    return cases
