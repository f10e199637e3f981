"""`train_style`: both networks of an own style, with its card, figures and contact sheet."""

import itertools
import logging
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nststab.datasets.folders import davis_sequences
from nststab.listener import Listener, named, silent
from nststab.losses import LossSettings
from nststab.measure.rows import DAVIS_SIZE, stability_table
from nststab.memory import available_memory
from nststab.networks.checkpoints import load_checkpoint
from nststab.networks.perceptual import perceptual_network
from nststab.networks.transformation import TransformationNetwork, make_recurrent, with_margin
from nststab.storage.jobs import unfinished
from nststab.styles.shipped import NETWORKS, Style
from nststab.styles.source import picture_target, style_source
from nststab.styles.trace_line import traces
from nststab.tasks.plan import (
    UNSEEN,
    DoesNotFit,
    Seconds,
    Work,
    added,
    duration,
    gib,
    known,
    plan,
    spanned,
    surely_fits,
)
from nststab.tasks.train import never, training_work
from nststab.train.card import StyleFigures, StyleNetworks, davis_footage, demo_footage, footage_of, style_card
from nststab.train.loop import STATE, read_state
from nststab.train.settings import ImageSettings, StyleSettings, VideoSettings, loss_weights
from nststab.train.style import StyleFolder, StyleTraining, kind, sized, starting_style
from nststab.train.training import Training, training_machine, training_photos
from nststab.video.images import read_picture, write_picture

log = logging.getLogger(__name__)

_LEAST, _GRAIN = 96, 32  # the smallest crops to train on, and what they are reduced by
_LARGEST_BATCH = 4


@dataclass(frozen=True)
class TrainedStyle:
    """A style that was trained: its folder, which `style=` takes, its card, and what was measured of its networks."""

    style: Style
    card: Mapping[str, Any]
    figures: StyleFigures | None

    @property
    def networks(self) -> dict[str, TransformationNetwork]:
        """The independent and the recurrent network."""
        return {method: load_checkpoint(self.style.checkpoint(method)).network for method in NETWORKS}

    def table(self) -> str:
        """Stability and losses of the input and of both networks; empty where nothing was measured."""
        return stability_table(self.figures.rows).text() if self.figures else ""

    def json(self) -> Mapping[str, Any]:
        """The card, as JSON values."""
        return self.card


def train_style(
    painting: str | Path,
    *,
    photos: str | Path,
    output: str | Path,
    start_from: str | Path | None = None,
    effort: float | None = None,
    davis: str | Path | None = None,
    settings: StyleSettings | None = None,
    device: str = "auto",
    restart: bool = False,
    command: str | None = None,
    progress: Listener = silent,
    stop: Callable[[], bool] = never,
) -> TrainedStyle:
    """Trains the independent and the recurrent network of a painting, and writes them to a folder that is a style.

        style = nststab.train_style("painting.jpg", photos="PHOTOS", output="painting")
        print(style.table())
        nststab.stylize("clip.mp4", "out.mp4", style="painting")

    Args:
        painting: the style's picture.
        photos: a folder of ten photographs or more; those that cannot be read are named in the log and left out.
        output: the folder. A killed run is resumed when the same call is made again.
        start_from: the style whose networks it begins with, by name, folder or checkpoint. None: the shipped style
            whose Gram matrices are nearest.
        effort: the steps of every stage, as a multiple of the usual ones.
        davis: the folder of DAVIS 2016, to measure the networks on it rather than on the bundled clip.
        restart: overwrite a finished style, and remove an unfinished one of other settings.
        command: what the card says that made it.
        stop: asked after every step whether to save the state and raise TrainingStopped.

    Raises:
        NststabError: a setting, an input or the output is wrong, or even the smallest crops do not fit into memory.
        OSError: a file cannot be read or written.
    """
    training = style_training(
        painting,
        photos=photos,
        output=output,
        start_from=start_from,
        effort=effort,
        davis=davis,
        settings=settings,
        device=device,
        restart=restart,
    )
    for line in plan_lines(training, Path(davis) if davis else None):
        log.info(line)
    painting, photos = Path(painting), Path(photos)
    picture = read_picture(painting).on_white()
    done = training.run(picture, progress, stop)
    for number, trained in enumerate(done, 1):
        clips = "clips of " if trained.record["stage"] == "video" else ""
        log.info(f"stage {number}, on {clips}held-out photographs: {named(trained.record['validation'])}")
    figures = _measure(training, Path(davis) if davis else None, progress)
    named_files = [painting.name, "--photos", photos.resolve().name, "-o", training.folder.style.name]
    command = command or shlex.join(["nststab", "train", "style", *named_files])
    trace = traces(training.training.vgg, picture)
    card = style_card(training, done, painting, photos, trace, figures, command)
    training.folder.finish(card)
    log.info(f"{output}: both networks, card and sheet.jpg")
    return TrainedStyle(training.folder.style, card, figures)


def style_training(
    painting: str | Path,
    *,
    photos: str | Path,
    output: str | Path,
    start_from: str | Path | None = None,
    effort: float | None = None,
    davis: str | Path | None = None,
    settings: StyleSettings | None = None,
    device: str = "auto",
    restart: bool = False,
) -> StyleTraining:
    """What `train_style` trains, with crops that fit into memory, before the first step."""
    folder = StyleFolder(Path(output))
    folder.refuse_overwriting(restart)
    if davis:
        davis_sequences(Path(davis), None, DAVIS_SIZE)  # what is wrong there is said now, not after the training
    settings = StyleSettings.of(settings).changed(effort=effort)
    where = training_machine(device, settings.image.precision)
    image, video = settings.stages
    stages = (image.on(where.precision), video.on(training_machine(device, video.precision).precision))
    parts = training_photos(photos, folder.outputs(stages)[0])
    perceptual = perceptual_network(where.device)
    loss = LossSettings(**loss_weights(image))
    target = picture_target(Path(painting), perceptual, loss.style_layers, image.style_size, "style_size")
    begun = None if start_from is None else str(start_from)
    start = starting_style(begun, target, perceptual, image.style_size, image.margin)
    training = Training(*parts, perceptual, target, loss)
    return _fitted(StyleTraining(Path(painting).stem, stages, training, start, where, folder, restart))


def _measure(training: StyleTraining, davis: Path | None, progress: Listener) -> StyleFigures | None:
    """The figures of the card; writes the sheet."""
    of, style = training.training, style_source(str(training.folder.folder))
    networks = StyleNetworks(style, of.target, of.vgg, training.where, training.stages[0].seed)
    clips = davis_footage(davis) if davis else demo_footage()
    first = next(clips, None)
    figures = networks.figures([] if first is None else itertools.chain([first], clips), progress)
    frames: Sequence[Tensor] = training.moving_frames() if first is None else first.frames
    photos = torch.split(of.held_out.center_crops(*frames[0].shape[-2:]), 1)
    write_picture(training.folder.sheet, networks.sheet(photos, frames))
    return figures


# What it will take on this machine: the crops that fit into its memory, and the time


def _fitted(training: StyleTraining) -> StyleTraining:
    """With the crops and batches of a run that is resumed, else those for the memory there is."""
    stages = training.remembered() or tuple(_fitting(training, stage) for stage in training.stages)
    for number, (stage, smaller) in enumerate(zip(training.stages, stages, strict=True), 1):
        if smaller.height < stage.height:
            sizes = f"{smaller.width}x{smaller.height} instead of {stage.width}x{stage.height}"
            log.warning(f"stage {number} trains on crops of {sizes}, for which there is too little memory")
    return replace(training, stages=stages)


def _fitting(training: StyleTraining, stage: ImageSettings | VideoSettings) -> ImageSettings | VideoSettings:
    """The stage with the largest crops that fit, and on a GPU the largest batch of those; raises DoesNotFit.

    On a GPU a step of several pictures takes little longer than of one; on a CPU it takes as much longer as it has
    more.
    """
    device = training.training.device
    available = available_memory(device)
    if available is None:
        return stage
    work = _work(training, stage)
    if device.type != "cuda" and surely_fits(work, available):
        return stage
    made = plan(work, budget=3.0)
    sizes = (stage.height, *range((stage.height - 1) // _GRAIN * _GRAIN, _LEAST - 1, -_GRAIN))
    batches = range(max(_LARGEST_BATCH, stage.batch) if device.type == "cuda" else stage.batch, 0, -1)
    for size, batch in itertools.product(sizes, batches):
        smaller = sized(stage, size, batch)
        sides = [round(side * math.sqrt(batch / stage.batch)) for side in (smaller.width, smaller.height)]
        need = made.needed(*sides)  # of crops with as many pixels as the batch has
        if need <= available:
            return smaller
    crops = f"crops of {smaller.width}x{smaller.height}"
    raise DoesNotFit(f"even {crops} need about {gib(need)} of memory, {gib(available)} are available")


def plan_lines(training: StyleTraining, davis: Path | None = None) -> list[str]:
    """What the training begins with, and how long each stage takes: some steps of each that is not done are measured.

    A picture of the figures, at the end, takes about as long as one of a step.
    """
    device = training.training.device
    available = available_memory(device)
    lines = [f"begins     from {training.start.name}, {training.start.why}"]
    works = [_work(training, stage) for stage in training.stages]  # before any is measured, which leaves memory behind
    parts, peak = list[Seconds](), 0
    frames, size = footage_of(davis)
    outputs = training.folder.outputs(training.stages)
    for number, (stage, work, output) in enumerate(zip(training.stages, works, outputs, strict=True), 1):
        saved = read_state(unfinished(output) / STATE) if training.resumes else None
        left = max(0, stage.steps - (saved["step"] if saved else 0))
        if left:
            made = plan(work)
            each, peak = made.seconds, max(peak, made.peak)
            seconds = left * (1 + work.beside / stage.steps) * each.later
            steps = str(stage.steps) if left == stage.steps else f"the last {left} of {stage.steps}"
            clips = f" of {stage.length} frames" if isinstance(stage, VideoSettings) else ""
            text = f"{steps} steps on {stage.width}x{stage.height}, {stage.batch} a step{clips}"
            lines.append(f"stage {number}    {kind(stage)}, {text}: {duration(seconds)}, {duration(each.later)} a step")
            pictures = stage.batch * (stage.length if isinstance(stage, VideoSettings) else 1)
            measuring = each.later / pictures * frames * size**2 / (stage.width * stage.height)
            parts.append(each._replace(later=seconds))
        else:
            lines.append(f"stage {number}    {kind(stage)}, {stage.steps} steps: done")
    if peak:
        lines.append(f"memory     {gib(peak)} at the peak, {known(available)} available")
    if not parts:
        return [*lines, "total      the figures"]
    whole = added([*parts, parts[-1]._replace(later=measuring)])
    span = spanned(whole.later * whole.quickest, whole.later * whole.slowest * UNSEEN)
    return [*lines, f"figures    {duration(measuring)}", f"total      {duration(whole.later)}, {span}"]


def _work(training: StyleTraining, stage: ImageSettings | VideoSettings) -> Work:
    start = training.start.independent
    network = make_recurrent(start) if isinstance(stage, VideoSettings) else start
    if stage.margin is not None:
        network = with_margin(network, stage.margin)
    length = stage.length if isinstance(stage, VideoSettings) else 1
    of = training.training
    return training_work(network.to(of.device), of.vgg, of.loss, stage, training.folder.folder, length)
