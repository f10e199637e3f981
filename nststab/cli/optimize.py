"""nststab optimize."""

from pathlib import Path
from typing import Any

import click

from nststab.cli.common import CLIP_PATH, console_listener, refuse_early, show_plan, workers_options
from nststab.cli.options import SettingsCommand, gathered
from nststab.cli.stylize import stylize_options, told
from nststab.tasks.settings import StylizeSettings


@click.command("optimize", cls=SettingsCommand, short_help="Stylize by optimisation.")
@click.argument("content", type=CLIP_PATH)
@click.argument("style_images", nargs=-1, required=True, metavar="STYLE_IMAGE...")
@click.option("--no-temporal", is_flag=True, help="Stylize each frame of a clip on its own.")
@workers_options
@stylize_options()
def command(
    content: Path,
    style_images: tuple[str, ...],
    no_temporal: bool,
    output: str,
    yes: bool,
    plan: bool,
    jobs: int | None,
    cluster: str | None,
    assignments: tuple[tuple[str, str], ...],
    **options: Any,
) -> None:
    """Stylize CONTENT after STYLE_IMAGE: a picture by the method of Gatys et al., a clip by that of Ruder et al.

    STYLE_IMAGE may also be the name of a shipped style, or a checkpoint; several are blended. After a kill the
    same command goes on.
    """
    refuse_early(output, yes or plan)
    from nststab.tasks.stylize import optimisation_of, plan_stylize, stylize
    from nststab.tasks.workers import workers

    method = optimisation_of(content, not no_temporal)
    settings = gathered(StylizeSettings, options, dict(assignments))
    if plan:
        show_plan(plan_stylize(content, output, style=style_images, method=method, settings=settings))
        return
    with workers(jobs, cluster) as executor:
        made = stylize(
            content,
            output,
            style=style_images,
            method=method,
            settings=settings,
            overwrite=yes,
            executor=executor,
            progress=console_listener(),
        )
    told(made)
