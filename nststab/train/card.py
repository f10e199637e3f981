"""The card of a style that `train style` has made: what it is of, how it was trained, and what it is worth."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

import nststab
from nststab.styles.shipped import NETWORKS
from nststab.train.style import StyleTraining
from nststab.train.training import Trained

_TRACE = "tr(ΦΦᵀ)/(CHW), style image at longest side 512"
_LOSSES = "weighted terms on held-out data at the end of training: photographs and synthetic clips, {sizes}"
_NOT_TOLD = ("output", "yes", "plan", "style_image", "photos")
_PATHS = ("davis", "start_from")  # what may be one


def style_card(
    training: StyleTraining,
    done: Sequence[Trained],
    picture: Path,
    photos: Path,
    traces: Mapping[str, float],
    figures: Mapping[str, Any],
) -> dict[str, Any]:
    """The fields of a shipped style's card; of artist, year, source and rights nothing is known."""
    image, *between, recurrent = (_settings(trained.record) for trained in done)
    losses = [trained.record["validation"] for trained in (done[0], done[-1])]
    command = told_command(picture, photos, training.folder.style.name)
    sizes = ", ".join(f"{stage.kind} {stage.size}x{stage.size}" for stage in training.recipe.stages)
    return {
        "name": training.folder.style.name,
        "title": title(picture),
        **dict.fromkeys(("artist", "year", "source", "rights")),
        "data": {
            "photos": len(training.training.photos),
            "held_out": len(training.training.held_out),
            "what": f"photographs of the folder {photos.resolve().name}",
            "clips": "synthetic, made from the same photographs",
        },
        "seed": training.seed,
        "command": [command],
        "start": {"style": training.start.name, "why": training.start.why},
        "settings": {
            "independent": image,
            "between": between,
            "recurrent": recurrent,
        },
        "seconds": [round(trained.seconds, 2) for trained in done],
        "losses": {
            "what": _LOSSES.format(sizes=sizes),
            **{name: _rounded(terms) for name, terms in zip(NETWORKS, losses, strict=True)},
        },
        "gram_trace": {**{layer: round(trace, 1) for layer, trace in traces.items()}, "what": _TRACE},
        "figures": {"command": command, **figures},
        "version": nststab.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }


def title(picture: Path) -> str:
    """What a picture's file name says that it is."""
    words = picture.stem.replace("_", " ").replace("-", " ").split()
    return " ".join(words)[:1].upper() + " ".join(words)[1:]


def told_command(picture: Path, photos: Path, name: str) -> str:
    """The command that runs, with the names of files and folders in place of their paths."""
    context = click.get_current_context()
    parts = ["nststab", "train", "style", picture.name, "--photos", photos.resolve().name, "-o", name]
    for option in context.command.params:
        value = context.params.get(option.name or "")
        if option.name not in _NOT_TOLD and value is not None and value != option.default:
            parts += [option.opts[-1], Path(value).name if option.name in _PATHS else str(value)]
    return shlex.join(parts)


def _settings(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in ("stage", "settings", "loss", "video", "synthetic") if key in record}


def _rounded(terms: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in terms.items()}
