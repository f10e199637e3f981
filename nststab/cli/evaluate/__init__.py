"""nststab evaluate: a group whose experiments are loaded when they are asked for."""

import importlib

import click

from nststab.cli.common import NearestGroup, verbosity_options

# In the paper's order; short help stands here because reading it from the commands would import them all.
_EXPERIMENTS: dict[str, str] = {
    "stability": "Table 1: PSNR and SSIM of corresponding background patches on DAVIS.",
    "speed": "Table 2: seconds per frame of every method at three sizes.",
    "gram-trace": "Figure 3: instability of styles against the trace of their Gram matrix.",
    "distortions": "Figure 6: does the result change as the input that was moved, blurred, sharpened?",
    "theorem": "Figure 2 and Theorem 1: the minima of the style loss lie on a sphere.",
    "drift": "Hundreds of frames: slope of brightness and colour, what a passing object leaves.",
}


class ExperimentGroup(NearestGroup):
    """Loads `nststab.cli.evaluate.NAME.command` when NAME is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_EXPERIMENTS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _EXPERIMENTS:
            return None
        module = importlib.import_module(f"nststab.cli.evaluate.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Experiments"):
            formatter.write_dl(list(_EXPERIMENTS.items()))


@click.group("evaluate", cls=ExperimentGroup, short_help="The paper's experiments.")
@verbosity_options
def command() -> None:
    """Run an experiment of Gupta et al. 2017 and write its figures, with the paper's beside them.

    Into the folder -o go results.json, a table (table.md) and a figure (figure.png, figure.svg). A killed run goes on
    when the same command is given again.
    """
