"""nststab study: people as the measure, from the pairs of clips to what they saw."""

from pathlib import Path
from typing import Any

import click

from nststab.cli.common import (
    CLIP_PATH,
    EXISTING_FOLDER,
    STYLE,
    NearestGroup,
    Parsed,
    clip_path,
    console_listener,
    output_option,
    overwrite_option,
    say,
)
from nststab.cli.options import SettingsCommand, gathered, settings_options
from nststab.storage.folders import refuse_overwriting
from nststab.study.settings import LOOPBACK, PORT, StudySettings

_FOLDER = click.argument("folder", metavar="STUDY", type=EXISTING_FOLDER)


class _Clips(click.Option):
    """An option that takes all words up to the next option: --clips ours=a.mp4 theirs=b.mp4."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        option = parser._long_opt["--clips"]
        process = option.process

        def take(value: str, state: Any) -> None:
            process(value, state)
            while state.rargs and "=" in state.rargs[0] and not state.rargs[0].startswith("-"):
                process(state.rargs.pop(0), state)

        option.process = take


def named_clip(text: str) -> tuple[str, str]:
    """A clip by the name that the results call it: NAME=PATH."""
    name, _, path = text.partition("=")
    if not (name and path):
        raise ValueError(f"{text!r}: expected NAME=PATH, as in ours=a.mp4")
    return name, path if "{style}" in path else str(clip_path(path))


@click.group("study", cls=NearestGroup)
def command() -> None:
    """Ask people which of two clips flickers more, as in Table 3.

    \b
    nststab study make --input clip.mp4 --clips ours=a.mp4 theirs=b.mp4 --style painting.jpg -o STUDY
    nststab study serve STUDY
    nststab study results STUDY
    """


@command.command("make", cls=SettingsCommand, short_help="Blind pairs of clips, with sides and order from a seed.")
@click.option("--input", "source", type=CLIP_PATH, required=True, metavar="INPUT", help="A clip, or a folder of them.")
@click.option(
    "--clips",
    cls=_Clips,
    type=Parsed("clip", named_clip),
    multiple=True,
    required=True,
    metavar="NAME=PATH...",
    help="What programs made of INPUT, by the names that the results call them.",
)
@click.option(
    "--style",
    "styles",
    type=STYLE,
    multiple=True,
    metavar="STYLE",
    help="The style they were given: name or picture; once for each style, whose name is {style} in the paths.",
)
@output_option
@settings_options(StudySettings)
@overwrite_option
def make(
    source: Path, clips: tuple[tuple[str, str], ...], styles: tuple[str, ...], output: str, yes: bool, **options: Any
) -> None:
    """Make a study of clips that any programs made of INPUT: every pair of them, blind, in step and at one size.

    A folder of sequences is a study of all of them; then each clip is a folder with a sequence, or a video, of the same
    names. Pairs of a clip against itself, as it is and with planted flicker, find out who does not look. The first of
    --clips is the one that the results compare with each of the others.
    """
    named = dict(clips)
    if len(named) < len(clips):
        raise click.BadParameter("two clips have one name", param_hint="'--clips'")
    from nststab.study.make import make_study
    from nststab.study.page import minutes

    settings = gathered(StudySettings, options)
    made = make_study(
        source, named, output, styles=styles, settings=settings, overwrite=yes, progress=console_listener()
    )
    pairs = sum(trial.kind == "pair" for trial in made.trials)
    say(
        f"{output}: {pairs} pairs; each person sees {max(map(len, made.sheets))} with the catch pairs, in about "
        f"{minutes(made)} min"
    )


@command.command("serve", cls=SettingsCommand, short_help="A page that shows the pairs and keeps the answers.")
@_FOLDER
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Where it listens.")
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    metavar="ADDRESS",
    help="Whom it listens to: by default this machine alone; 0.0.0.0 is whoever can reach it.",
)
def serve(folder: Path, host: str, port: int) -> None:
    """Serve the page of STUDY to browsers on this machine; Ctrl-C ends it, and the same command goes on.

    The address holds a secret: who does not know it is shown nothing. Every answer is kept at once, under a random
    number. With --host others can take part over the network: what they send is not encrypted.
    """
    from nststab.study.page import StudyServer

    with StudyServer(folder, host, port) as server:
        click.echo(server.address)
        if host != LOOPBACK:
            say("note: whoever reaches this machine and has the address can take part, and nothing is encrypted")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            answers = server.answers.all()
            say(f"{folder}: {len(answers)} answers of {len({one.person for one in answers})} people")


@command.command("pack", cls=SettingsCommand, short_help="The same page as a folder for any static host.")
@_FOLDER
@output_option
@overwrite_option
def pack(folder: Path, output: str, yes: bool) -> None:
    """Write the page of STUDY with its videos into the folder OUT, for any static host or crowd platform.

    At the end it gives a code, or a file with it, which `nststab study collect` takes. Nothing in OUT names the clips.
    """
    refuse_overwriting(Path(output), yes)
    from nststab.study.page import pack_study

    say(f"{pack_study(folder, output, overwrite=yes)}: put the folder on a web server; it cannot be opened as a file")


@command.command("collect", cls=SettingsCommand, short_help="Take the codes that a packed page gave.")
@_FOLDER
@click.argument("codes", metavar="CODE_OR_FILE...", nargs=-1, required=True)
def collect(folder: Path, codes: tuple[str, ...]) -> None:
    """Check codes that the page of `nststab study pack` gave, and keep their answers in STUDY.

    A file may be anything with codes in it, such as the table of a crowd platform. A code that is damaged, that belongs
    to another study, or that says something else than before, is named and left out.
    """
    from nststab.study.answers import collect as take

    found = take(folder, codes)
    say(f"{folder}: {found.new} new answers from {found.codes} code{'s' * (found.codes != 1)}")
    if found.refused:
        raise click.ClickException("; ".join(found.refused))


@command.command("results", cls=SettingsCommand, short_help="What people saw, beside the paper's Table 3.")
@_FOLDER
@click.option("-o", "--output", metavar="OUT", help="Where the results go.  [default: the folder results in STUDY]")
@click.option("--no-measures", is_flag=True, help="Do not score the clips, which says what measure knew.")
def results(folder: Path, output: str | None, no_measures: bool) -> None:
    """Say what people answered so far: tables, figure, JSON, LaTeX and a report to look at.

    Majorities by video as in Table 3 of Gupta et al. 2017, beside its cells where clips are called recurrent,
    independent and ruder; answers, exact binomial intervals, agreement, strengths; and how often each measure of
    `nststab score` names the clip that people chose. Who failed a catch pair is left out and counted apart.
    """
    from nststab.study.results import results as find

    found = find(folder, output, measures=not no_measures, progress=console_listener())
    click.echo(found.table())
    say(f"{Path(output or folder / 'results')}/report.html")
