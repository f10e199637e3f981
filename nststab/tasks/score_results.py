"""What `nststab score` leaves: its table with notes on the terminal, its JSON, and the settings that decide both."""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import torch
from rich.box import SIMPLE
from rich.table import Table

from nststab.cli.clips import STANDARD
from nststab.cli.common import print_table
from nststab.flow.source import FlowSource
from nststab.measure.pairing import Pairing
from nststab.measure.score import UNITS, ClipScore, ScoreSettings, table
from nststab.methods.build import Machine
from nststab.networks.perceptual import perceptual_name
from nststab.report.findings import HARDLY_CHANGED
from nststab.storage.durable import write_durably
from nststab.storage.tables import versions, without_nan

log = logging.getLogger(__name__)


def decisive(
    pairing: Pairing, settings: ScoreSettings, flow: FlowSource, where: Machine, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The seed, and what else decides the figures."""
    patches = settings.stability.of_frames(pairing.height, pairing.width)
    said = {
        "width": pairing.width,
        "height": pairing.height,
        "patches": settings.patches,
        "patch_size": patches.size,
        "radius": patches.radius,
        "masks": options["masks"] is not None,
        "gaps": list(settings.gaps),
        "loss_every": settings.loss_every,
        "flow": flow.method if flow.files is None else "files",
        "cuts": not options["no_cuts"],
        "style": options["style"] and Path(options["style"]).name,
        "perceptual_network": perceptual_name(options),
        "limit": options["limit"],
        **{name: None if options[name] is None else float(options[name]) for name in ("start", "duration", "fps")},
        "device": where.device.type,
        "threads": torch.get_num_threads(),
    }
    return {"settings": said, "seed": settings.seed}


def print_scores(own: ClipScore, clips: Mapping[str, ClipScore], stderr: bool) -> None:
    """The table, and what it does not say by itself."""
    text = table(own, list(clips.items()))
    shown = Table(box=SIMPLE, show_edge=False, pad_edge=False, collapse_padding=True)
    shown.add_column(text.columns[0], overflow="fold")
    for column in text.columns[1:]:
        shown.add_column(column.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in text.rows:
        shown.add_row(*row)
    print_table(shown, stderr)
    log.warning(f"{text.note}")
    for name, score in clips.items():
        if score.stability.content_loss < HARDLY_CHANGED:
            log.warning(f"{name} is hardly more than the input (content loss {score.stability.content_loss:.3f})")
    if not own.stability.n:
        log.warning("no patch was measured: the frames, or what the masks leave of them, are too small")
    if math.isnan(own.stability.style_loss):
        log.warning("style was not measured (--style): a clip may be steady because it does little")


def write_json(content: Mapping[str, Any], target: str) -> None:
    """`content` with units and versions, to a file or to standard output."""
    full = without_nan({**content, "units": UNITS, "versions": versions()})
    text = json.dumps(full, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if target == STANDARD:
        click.echo(text, nl=False)
    else:
        write_durably(Path(target), text.encode())
        log.info(target)
