"""nststab evaluate: the experiments, whose options are made from their settings."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from nststab.cli.common import (
    CLIP_PATH,
    EXISTING_FOLDER,
    STYLE,
    Commas,
    LazyGroup,
    Parsed,
    clip_path,
    console_listener,
    device_options,
    existing_styles,
    methods_option,
    output_option,
    overwrite_option,
    refuse_early,
    together,
    workers_options,
)
from nststab.cli.html import check_html, html_options, report_settings
from nststab.cli.options import SettingsCommand, gathered, set_options, settings_options
from nststab.experiments.settings import (
    DistortionSettings,
    DriftSettings,
    ExperimentSettings,
    GramTraceSettings,
    ShiftSettings,
    SpeedSettings,
    Table1Settings,
    TheoremSettings,
)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_OPTIMIZING = ("iterations", "flow_method", "flow_cache", "network", "vgg_weights")


def styled_clip(text: str) -> tuple[str, Path]:
    """A clip that another program stylized: STYLE_IMAGE=PATH."""
    image, _, path = text.partition("=")
    if not (image and path):
        raise ValueError(f"{text!r}: expected STYLE_IMAGE=PATH, the style's picture and its stylized clip")
    return existing_styles(image), clip_path(path)


_FILES: tuple[Decorator, ...] = (output_option, overwrite_option)
_ALL: tuple[Decorator, ...] = (*_FILES, workers_options, device_options)
_METHODS = methods_option("independent,recurrent", plugins=True)
_STYLES = click.option(
    "--styles",
    type=Commas(STYLE),
    metavar="STYLE,...",
    help="Styles, separated by commas: names, pictures, checkpoints, folders with a checkpoint of each method.  "
    "[default: all that are shipped]",
)
_DAVIS: tuple[Decorator, ...] = (
    click.option(
        "--davis",
        type=EXISTING_FOLDER,
        required=True,
        metavar="DIR",
        help="DAVIS 2016: the folder with JPEGImages and Annotations.",
    ),
    click.option(
        "--sequences",
        type=Commas(),
        metavar="SEQUENCE,...",
        help="Sequences of DAVIS, separated by commas.  [default: all]",
    ),
)


class Recipe(NamedTuple):
    """A command: the function of `nststab.experiments`, its settings, those with an option; options beside."""

    summary: str
    function: str
    settings: type[ExperimentSettings]
    options: Sequence[str]
    others: Sequence[Decorator]
    last: Sequence[Decorator] = _ALL


EXPERIMENTS = {
    "stability": Recipe(
        "Table 1: PSNR and SSIM of corresponding background patches on DAVIS.",
        "table1",
        Table1Settings,
        ("patches", "size", "limit", *_OPTIMIZING, "seed"),
        (*_DAVIS, _STYLES, _METHODS, html_options),
    ),
    "speed": Recipe(
        "Table 2: seconds per frame of every method at three sizes.",
        "speed",
        SpeedSettings,
        ("size", "limit", "measured_iterations", "engines", "light", "flow_methods", "network", "vgg_weights", "seed"),
        (
            click.option(
                "--styles",
                type=Commas(STYLE),
                metavar="STYLE",
                help="One style; all that are shipped take the same time.  [default: the first that is shipped]",
            ),
            methods_option("independent,recurrent,ruder,gatys", plugins=True),
        ),
        (*_FILES, device_options),
    ),
    "gram-trace": Recipe(
        "Figure 3: instability of styles against the trace of their Gram matrix.",
        "gram_trace",
        GramTraceSettings,
        ("size", "limit", *_OPTIMIZING, "seed"),
        (
            click.argument("videos", metavar="[VIDEO]...", nargs=-1, type=CLIP_PATH),
            _STYLES,
            methods_option("independent", plugins=True),
            click.option(
                "--clips",
                type=Parsed("clip", styled_clip),
                multiple=True,
                metavar="STYLE_IMAGE=PATH",
                help="A clip stylized by another program, measured as it is: a folder of frames or a video; "
                "once for each clip.",
            ),
        ),
    ),
    "distortions": Recipe(
        "Figure 6: does the result change as the input that was moved, blurred, sharpened?",
        "distortions",
        DistortionSettings,
        ("patches", "size", "limit", *_OPTIMIZING, "seed"),
        (*_DAVIS, _STYLES, _METHODS),
    ),
    "theorem": Recipe(
        "Figure 2 and Theorem 1: the minima of the style loss lie on a sphere.",
        "theorem",
        TheoremSettings,
        ("starts", "size", "seed"),
        (_STYLES,),
        (*_FILES, workers_options),
    ),
    "drift": Recipe(
        "Hundreds of frames: slope of brightness and colour, what a passing object leaves.",
        "drift",
        DriftSettings,
        ("frames", "noise", "size", "limit", *_OPTIMIZING, "seed"),
        (
            click.argument("source", metavar="[INPUT]", type=CLIP_PATH, required=False),
            _STYLES,
            _METHODS,
        ),
    ),
    "shift": Recipe(
        "How much a result changes when the picture only moves: why networks flicker.",
        "shift",
        ShiftSettings,
        ("size", "pans", *_OPTIMIZING, "seed"),
        (*_DAVIS, _STYLES, _METHODS),
    ),
}


def _command(name: str, recipe: Recipe) -> click.Command:
    """The command of an experiment: it parses, calls, and prints the table."""

    def run(output: str, yes: bool, assignments: Sequence[tuple[str, str]], **options: Any) -> None:
        refuse_early(Path(output) / "results.json", yes, Path(output) / "unfinished")
        settings = gathered(recipe.settings, options, dict(assignments))
        given = {key: value for key, value in options.items() if key not in recipe.options}
        if recipe.function == "speed":
            given["style"] = _one_style(given.pop("styles"))
        if "html" in given:
            check_html({**given, "yes": yes}, made=Path(output))
        jobs, cluster = given.pop("jobs", None), given.pop("cluster", None)

        from nststab import experiments
        from nststab.tasks.workers import workers

        with workers(jobs, cluster) as executor:
            if executor is not None:
                given["executor"] = executor
            function = getattr(experiments, recipe.function)
            results = function(
                output=output, settings=settings, overwrite=yes, progress=console_listener(), **_report(given)
            )
        click.echo(results.table())

    own, others = settings_options(recipe.settings, *recipe.options), set_options(recipe.settings)
    command = together(*recipe.others, own, *recipe.last, others)(run)
    return click.command(name, cls=SettingsCommand, help=recipe.settings.__doc__, short_help=recipe.summary)(command)


def _report(options: dict[str, Any]) -> dict[str, Any]:
    if "html" not in options:
        return options
    others = {name: value for name, value in options.items() if not name.startswith("html_")}
    return others | {"report": report_settings(options)}


def _one_style(styles: Sequence[str] | None) -> str | None:
    if styles is not None and len(styles) != 1:
        raise click.BadParameter(f"expected one style, got {len(styles)}: none is faster", param_hint="'--styles'")
    return styles[0] if styles else None


class ExperimentGroup(LazyGroup):
    """The experiments in the paper's order, then our own."""

    title = "Experiments"
    summaries = {name: recipe.summary for name, recipe in EXPERIMENTS.items()}  # noqa: RUF012

    def load(self, name: str) -> click.Command:
        """The command that the recipe of an experiment makes."""
        return _command(name, EXPERIMENTS[name])


@click.group("evaluate", cls=ExperimentGroup, short_help="The paper's experiments.")
def command() -> None:
    """Run an experiment of Gupta et al. 2017 and write its figures, with the paper's beside them.

    Into the folder -o go results.json, a table (table.md) and a figure (figure.png, figure.svg). A killed run resumes
    when the same command is given again.
    """
