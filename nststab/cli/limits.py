"""Limits of figures on the command line, for checks that run unattended."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from nststab.cli.common import FiniteRange, NearestChoice
from nststab.measure.settings import HIGHER_IS_BETTER, LOWER_IS_BETTER

Command = TypeVar("Command", bound=Callable[..., Any])


class Limits(click.ParamType):  # type: ignore[type-arg]
    """Limits of figures: ssim=0.5, or several with commas."""

    name = "limits"

    def __init__(self, figures: tuple[str, ...], others: tuple[str, ...], counterpart: str) -> None:
        self._choice, self._others, self._counterpart = NearestChoice(figures), others, counterpart

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        if isinstance(value, dict):
            return value
        limits = {}
        for part in str(value).split(","):
            name, _, limit = (text.strip() for text in part.partition("="))
            if name in self._others:
                self.fail(f"{name!r} is limited from the other side: {self._counterpart} {name}=...", param, ctx)
            if not limit:
                self.fail(f"{part.strip()!r}: expected a figure and its limit, as in ssim=0.5", param, ctx)
            limits[self._choice.convert(name, param, ctx)] = FiniteRange().convert(limit, param, ctx)
        return limits


def limit_options(command: Command) -> Command:
    """--fail-under and --fail-over, each of which gives dicts of limits."""
    for flag, less, own, other, counterpart in (
        ("--fail-over", "more", LOWER_IS_BETTER, HIGHER_IS_BETTER, "--fail-under"),
        ("--fail-under", "less", HIGHER_IS_BETTER, LOWER_IS_BETTER, "--fail-over"),
    ):
        command = click.option(
            flag,
            type=Limits(own, other, counterpart),
            multiple=True,
            metavar="FIGURE=X,...",
            help=f"Exit with 1 if a clip has {less}: {', '.join(own)}.",
        )(command)
    return command


def merged(limits: Sequence[dict[str, float]]) -> dict[str, float]:
    """What an option that was given several times says; of one figure the last."""
    return {figure: limit for given in limits for figure, limit in given.items()}
