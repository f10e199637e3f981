"""nststab figure."""

from pathlib import Path

import click

from nststab.cli.common import CLIP_PATH, overwrite_option, say
from nststab.cli.options import SettingsCommand
from nststab.storage.folders import refuse_overwriting


@click.command("figure", cls=SettingsCommand, short_help="The paper's Figures 7, 8 and 9, of your clips.")
@click.argument("number", metavar="7|8|9", type=click.Choice(["7", "8", "9"]))
@click.argument("original", metavar="ORIGINAL", type=CLIP_PATH)
@click.argument("clips", metavar="STYLIZED...", type=CLIP_PATH, nargs=-1, required=True)
@click.option("-o", "--output", metavar="NAME", required=True, help="Write NAME.png and NAME.svg.")
@click.option("--names", metavar="NAME,...", help="What the figure calls the clips.  [default: their files' names]")
@click.option("--size", type=click.IntRange(min=64), metavar="PIXELS", help="Longest side in pixels to look at.")
@overwrite_option
def command(
    number: str, original: Path, clips: tuple[Path, ...], output: str, names: str | None, size: int | None, yes: bool
) -> None:
    """Draw a figure of Gupta et al. 2017 for a paper, of STYLIZED, which any program made of ORIGINAL.

    \b
    nststab figure 9 clip.mp4 mine.mp4 theirs.mp4 -o figure9

    \b
    7   something is seen, hidden, and seen again: is it painted the same?
    8   where the optical flow is trusted and wrong
    9   consecutive crops, the least and the most stable, with PSNR and SSIM
    """
    for suffix in (".png", ".svg"):
        refuse_overwriting(Path(f"{output}{suffix}"), yes)
    from nststab.experiments.moment_figures import paper_figure

    called = None if names is None else [name.strip() for name in names.split(",")]
    say(" ".join(map(str, paper_figure(int(number), original, clips, output, names=called, size=size))))
