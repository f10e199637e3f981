"""nststab evaluate: a group whose experiments are loaded when they are asked for."""

import click

from nststab.cli.common import verbosity_options
from nststab.cli.groups import LazyGroup


class ExperimentGroup(LazyGroup):
    """The experiments in the paper's order, then our own."""

    package = __name__
    title = "Experiments"
    summaries = {  # noqa: RUF012
        "stability": "Table 1: PSNR and SSIM of corresponding background patches on DAVIS.",
        "speed": "Table 2: seconds per frame of every method at three sizes.",
        "gram-trace": "Figure 3: instability of styles against the trace of their Gram matrix.",
        "distortions": "Figure 6: does the result change as the input that was moved, blurred, sharpened?",
        "theorem": "Figure 2 and Theorem 1: the minima of the style loss lie on a sphere.",
        "drift": "Hundreds of frames: slope of brightness and colour, what a passing object leaves.",
    }


@click.group("evaluate", cls=ExperimentGroup, short_help="The paper's experiments.")
@verbosity_options
def command() -> None:
    """Run an experiment of Gupta et al. 2017 and write its figures, with the paper's beside them.

    Into the folder -o go results.json, a table (table.md) and a figure (figure.png, figure.svg). A killed run goes on
    when the same command is given again.
    """
