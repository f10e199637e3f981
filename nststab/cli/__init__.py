"""The command line: a lazy group, so that `nststab --help` answers without importing torch."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

import click

import nststab
from nststab.cli.common import LazyGroup, logged, run_options, say
from nststab.errors import NststabError, SettingError
from nststab.startup import tune_process


class RootGroup(LazyGroup):
    """Loads `nststab.cli.NAME.command` when NAME is asked for, and turns the library's errors into one line."""

    package = __name__
    summaries = {  # noqa: RUF012
        "stylize": "Stylize a clip or a picture with one of four methods.",
        "optimize": "Stylize by optimisation: a picture by Gatys, a clip by Ruder.",
        "preview": "Draw one frame in several styles and strokes, with what each takes.",
        "compare": "Stylize with several methods, side by side, with a table of figures.",
        "evaluate": "The paper's experiments: tables, figures and results with their settings.",
        "deflicker": "Take the flicker out of a clip that any program processed.",
        "score": "Measure the stability of clips that any program made.",
        "study": "Ask people which of two clips flickers more, as in Table 3.",
        "figure": "The paper's Figures 7, 8 and 9, of your clips.",
        "train": "Train the feed-forward networks of a style.",
        "flow": "Optical flow and its reliability masks.",
        "export": "Write a network for other programs, as ONNX.",
        "live": "Stylize a camera or a stream as its frames arrive.",
        "web": "A page that stylizes the camera in the browser.",
        "styles": "Show the styles that are shipped.",
        "doctor": "Check what works here, and how to mend what does not.",
        "demo": "Stylize the bundled clip with the recurrent network.",
    }

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _usage_errors_of_one_line():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> object:
        try:
            with warnings.catch_warnings(), logged(run_options(ctx)), _usage_errors_of_one_line():
                warnings.showwarning = lambda message, *_args, **_options: say(f"note: {_one_line(message)}")
                return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort):  # RuntimeErrors of click's own
            raise
        except (NststabError, OSError, MemoryError, RuntimeError) as error:
            text_unread = isinstance(error, BrokenPipeError) and error.filename is None  # as by `nststab doctor | head`
            message = _message(error)
            if run_options(ctx).debug or text_unread or message is None:
                raise
            told = "; ".join([message, *getattr(error, "__notes__", ())])
            raise (click.UsageError if isinstance(error, SettingError) else click.ClickException)(told) from error


@contextmanager
def _usage_errors_of_one_line() -> Iterator[None]:
    """click prints the usage above an error that knows its context; a missing subcommand keeps its help."""
    try:
        yield
    except click.UsageError as error:
        if type(error).show is click.UsageError.show:
            error.ctx = None
        raise


def _message(error: Exception) -> str | None:
    """An error that a user can mend in one line; None for a fault of ours, which shows its traceback."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without importing it
        return f"out of memory; smaller frames need less ({_one_line(error)[:200]})"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return (_one_line(error) or type(error).__name__) if isinstance(error, NststabError | OSError) else None


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


@click.group(
    "nststab", cls=RootGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(nststab.__version__, prog_name="nststab")
def group() -> None:
    """Video stylization that does not flicker, and the measures that prove it.

    \b
    nststab demo                                                   see it work
    nststab preview clip.mp4 --styles mosaic,painting.jpg -o sheet.png
    nststab stylize clip.mp4 -o out.mp4 --style the_great_wave     stylize a clip
    nststab compare clip.mp4 -o compared.mp4 --style the_great_wave
    """


def main() -> None:
    """Entry point of the `nststab` script."""
    tune_process()
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a name that it cannot encode loses no result
    group.main(args=sys.argv[1:], prog_name="nststab")
