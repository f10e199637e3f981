"""Limits of figures on the command line, for checks that run unattended."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import click

from nststab.cli.common import FiniteRange, NearestChoice

Command = TypeVar("Command", bound=Callable[..., Any])
_HIGHER_IS_BETTER = ("psnr", "ssim", "trusted")
_LOWER_IS_BETTER = ("warp_error", "flicker", "drift", "content_loss", "style_loss")


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


_OPTIONS = (
    click.option(
        "--fail-under",
        type=Limits(_HIGHER_IS_BETTER, _LOWER_IS_BETTER, "--fail-over"),
        multiple=True,
        metavar="FIGURE=X,...",
        help=f"Exit with 1 if a clip has less: {', '.join(_HIGHER_IS_BETTER)}.",
    ),
    click.option(
        "--fail-over",
        type=Limits(_LOWER_IS_BETTER, _HIGHER_IS_BETTER, "--fail-under"),
        multiple=True,
        metavar="FIGURE=X,...",
        help=f"Exit with 1 if a clip has more: {', '.join(_LOWER_IS_BETTER)}.",
    ),
)


def limit_options(command: Command) -> Command:
    """--fail-under and --fail-over, which `failures` looks at."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def failures(name: str, figures: Mapping[str, float], options: Mapping[str, Any]) -> Iterator[str]:
    """A line for each limit that the figures of a clip break; one that could not be measured (NaN) keeps none."""
    for side, sign in (("under", 1), ("over", -1)):
        for figure, limit in (item for given in options[f"fail_{side}"] for item in given.items()):
            value = figures[figure]
            if math.isnan(value):
                yield f"{name}: {figure} could not be measured, the limit is {limit:g}"
            elif sign * value < sign * limit:
                yield f"{name}: {figure} {value:.4g} is {side} {limit:g}"
