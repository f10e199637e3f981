"""nststab score."""

from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nststab.cli.common import (
    CLIP_PATH,
    STANDARD,
    STYLE,
    FiniteRange,
    NearestChoice,
    Parsed,
    console_listener,
    device_option,
    flow_option,
    overwrite_option,
    say,
    together,
)
from nststab.cli.html import check_html, html_options, report_settings
from nststab.cli.options import SettingsCommand, gathered, settings_options
from nststab.measure.settings import HIGHER_IS_BETTER, LOWER_IS_BETTER, ScoreSettings
from nststab.report.settings import check_written
from nststab.storage.folders import refuse_overwriting
from nststab.video.settings import ClipSettings

if TYPE_CHECKING:
    from nststab.measure.scores import Scores
    from nststab.tasks.score import SequenceScores

_SETTINGS = ("patches", "gaps", "limit", "cuts", "flow_method", "flow_cache", "network", "vgg_weights", "seed")
_PASSED = ("style", "masks", "flow", "size", "start", "duration", "fps", "raw_size", "html", "device")


def _limits(text: str, figures: tuple[str, ...], others: tuple[str, ...], counterpart: str) -> dict[str, float]:
    """Limits of figures: ssim=0.5, or several with commas."""
    limits = {}
    for part in text.split(","):
        name, _, limit = (word.strip() for word in part.partition("="))
        if name in others:
            raise ValueError(f"{name!r} is limited from the other side: {counterpart} {name}=...")
        if not limit:
            raise ValueError(f"{part.strip()!r}: expected a figure and its limit, as in ssim=0.5")
        limits[NearestChoice(figures).convert(name, None, None)] = FiniteRange().convert(limit, None, None)
    return limits


limit_options = together(
    *(
        click.option(
            flag,
            type=Parsed("limits", partial(_limits, figures=own, others=other, counterpart=counterpart)),
            multiple=True,
            metavar="FIGURE=X,...",
            help=f"Exit with 1 if a clip has {less}: {', '.join(own)}.",
        )
        for flag, less, own, other, counterpart in (
            ("--fail-under", "less", HIGHER_IS_BETTER, LOWER_IS_BETTER, "--fail-over"),
            ("--fail-over", "more", LOWER_IS_BETTER, HIGHER_IS_BETTER, "--fail-under"),
        )
    )
)
"""Each gives dicts of limits."""


def merged(limits: Sequence[dict[str, float]]) -> dict[str, float]:
    """What an option that was given several times says; of one figure the last."""
    return {figure: limit for given in limits for figure, limit in given.items()}


@click.command("score", cls=SettingsCommand, short_help="Measure the stability of clips.")
@click.argument("original", metavar="ORIGINAL", type=CLIP_PATH)
@click.argument("stylized", metavar="STYLIZED...", type=CLIP_PATH, nargs=-1, required=True)
@click.option("--style", type=STYLE, metavar="STYLE", help="The style they were given: name, picture or checkpoint.")
@click.option(
    "--masks", type=CLIP_PATH, metavar="DIR", help="Foreground of ORIGINAL (above 0), where no patch may lie."
)
@click.option(
    "--size",
    type=click.IntRange(min=16),
    metavar="PIXELS",
    help="Longest side in pixels to measure at.  [default: that of the smallest clip]",
)
@settings_options(ClipSettings, "start", "duration", "fps", "raw_size")
@flow_option
@settings_options(ScoreSettings, *_SETTINGS)
@html_options
@click.option(
    "--measure",
    "own",
    metavar="MODULE:CALLABLE",
    multiple=True,
    help="A measure of your own: gets a measure.published.FramePair, gives a number.",
)
@click.option("--json", "json_file", metavar="FILE", help="Write all figures to this file, or - for standard output.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write all figures to this file, a row for each clip.")
@click.option("--latex", "latex_file", metavar="FILE", help="Write the tables to this file, for LaTeX with booktabs.")
@click.option("--figure", metavar="NAME", help="Draw stability against style loss: NAME.png and NAME.svg.")
@overwrite_option
@limit_options
@device_option
def command(original: Path, stylized: tuple[Path, ...], json_file: str | None, **options: Any) -> None:
    """Measure how stable STYLIZED is, which any program made of ORIGINAL; in a --style several are ranked.

    \b
    nststab score clip.mp4 mine.mp4 theirs.mp4 --style painting.jpg

    Clips are videos, folders of pictures or patterns of them; or all are folders of sequences, such as
    DAVIS/JPEGImages/480p and results/mine, which get a row for each sequence, and means. They must have the same
    frames: as many, of one shape, scaled or not, and at the same times where both have times. --start, --duration and
    --fps say which part of ORIGINAL was stylized.

    \b
    PSNR, SSIM    corresponding patches of adjacent frames (Gupta et al. 2017);
                  ranks are by SSIM, but none before a clip of less style loss
    warp          squared difference from the frame before, moved by the flow of
                  ORIGINAL, where that can be trusted (mean, of a range of 1)
    flicker       change where ORIGINAL stands still, in levels of 255
    drift         largest slope of brightness, R, G or B, in levels of 255 a frame

    Other authors' measures follow in their own definitions. A clip that is unstylized, blurred or mixed with the frame
    before is stable too: its losses tell, so --style is needed for ranks.
    --html writes a report that can be sent to anyone: the clips in step, their curves, what is steady and what is not.
    """
    clips = (original, *stylized)
    check_html(options, clips)
    outputs = _outputs(json_file, options)
    for _, file in outputs:
        check_written(file, clips)
        refuse_overwriting(Path(file), options["yes"])
    reports = [] if options["html"] is None else [("--html", options["html"])]
    for (first, file), (second, other) in combinations([*outputs, *reports], 2):
        if Path(file).absolute() == Path(other).absolute():
            raise click.UsageError(f"{first} and {second} name the same file, {other}")
    from nststab.experiments.figures import draw_style_plane
    from nststab.measure.scores import Scores
    from nststab.methods.plugin import load_callable
    from nststab.storage.durable import write_durably
    from nststab.tasks.score import score, score_sequences
    from nststab.video.picture_files import sequences

    def show(scores: "Scores | SequenceScores") -> None:
        click.echo(scores.table(), err=json_file == STANDARD)
        click.echo(f"\n{scores.published.text()}\n\n{scores.settings_line}", err=json_file == STANDARD)
        if json_file == STANDARD:
            click.echo(scores.json_text(), nl=False)
        for file, text in (
            (None if json_file == STANDARD else json_file, scores.json_text),
            (options["csv_file"], scores.csv),
            (options["latex_file"], scores.latex),
        ):
            if file is not None:
                write_durably(Path(file), text().encode())
                say(file)
        if options["figure"] is not None:
            own = scores if isinstance(scores, Scores) else scores.mean
            say(" ".join(map(str, draw_style_plane(own, options["figure"]))))

    passed: dict[str, Any] = {name: options[name] for name in _PASSED} | {
        "measures": {name: load_callable(name) for name in options["own"]},
        "report": report_settings(options),
        "settings": gathered(ScoreSettings, options),
        "progress": console_listener(),
    }
    scores: Scores | SequenceScores
    if sequences(original):
        scores = score_sequences(original, stylized, **passed)
        show(scores)
    else:
        scores = score(original, stylized, on_figures=show, **passed)
    under, over = merged(options["fail_under"]), merged(options["fail_over"])
    failed = [text for clip in scores.clips for text in clip.failures(under, over)]
    if failed:
        raise click.ClickException("; ".join(failed))


def _outputs(json_file: str | None, options: dict[str, Any]) -> list[tuple[str, str]]:
    """The files that are written beside the report, each after its option."""
    files = [("--json", None if json_file == STANDARD else json_file)]
    files += [("--csv", options["csv_file"]), ("--latex", options["latex_file"])]
    if options["figure"] is not None:
        files += [("--figure", f"{options['figure']}{suffix}") for suffix in (".png", ".svg")]
    return [(option, file) for option, file in files if file is not None]
