"""nststab train, with image, video and average."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nststab.cli.common import (
    COUNT,
    EXISTING,
    EXISTING_FOLDER,
    POSITIVE,
    FiniteRange,
    device_options,
    given,
    named,
    network_option,
    output_option,
    overwrite_option,
    plan_option,
    refuse_overwriting,
    say,
    seed_option,
    setting,
    verbosity_options,
    vgg_option,
)
from nststab.cli.groups import NearestGroup
from nststab.cli.train_style import command as style

if TYPE_CHECKING:
    from torch import Tensor

    from nststab.networks.checkpoints import Checkpoint
    from nststab.networks.transformation import TransformationNetwork
    from nststab.train.loop import TrainingSettings
    from nststab.train.training import Training, Work

_CHECKPOINT = click.Path(exists=True, dir_okay=False, path_type=Path)

Command = TypeVar("Command", bound=Callable[..., Any])


def _training_options(steps: int, margin: object, weights: Mapping[str, object]) -> Callable[[Command], Command]:
    """What both stages take; `weights` are the defaults of the loss."""
    options = (
        click.option("--photos", required=True, type=EXISTING_FOLDER, metavar="DIR", help="Folder of photographs."),
        output_option,
        click.option("--steps", type=COUNT, default=steps, show_default=True, metavar="N", help="Steps of Adam."),
        setting("--batch", 1, "Pictures or clips a step.", COUNT),
        setting("--height", 256, "Height of the crops in pixels.", click.IntRange(min=32)),
        setting("--width", 256, "Width of the crops in pixels.", click.IntRange(min=32)),
        setting("--learning-rate", 0.001, "Highest learning rate; it falls to 0 on a cosine.", POSITIVE),
        setting("--content-weight", weights["content"], "Weight of the content loss."),
        setting("--style-weight", weights["style"], "Weight of the style loss."),
        setting("--tv-weight", weights["tv"], "Weight of total variation."),
        setting("--margin", margin, "Pixels by which frames are reflected, then cut off.", click.IntRange(min=0)),
        setting("--validate-every", 500, "Steps from one validation to the next.", COUNT),
        seed_option,
        network_option,
        vgg_option,
        overwrite_option,
        plan_option,
        device_options,
        verbosity_options,
    )

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.group("train", cls=NearestGroup, short_help="Train the networks of a style.")
@verbosity_options
def command() -> None:
    """Train a style: `style` makes both networks. Or step by step: first `image` (independent network), then `video`
    (recurrent network, fine-tuned from it); `average` makes a network between two.

    A killed run goes on when the same command is given again. Beside OUT stand OUT.state, from which it goes on,
    OUT.jsonl with the losses of every step, and OUT.validation with pictures.
    """


command.add_command(style)


@command.command("image", short_help="Train the independent network of a style picture.")
@click.argument("style_image", type=EXISTING)
@click.option(
    "--style-size",
    type=click.IntRange(min=16),
    default=384,
    show_default=True,
    metavar="PIXELS",
    help="Longest side of the style picture.",
)
@setting("--start-from", "random weights", "Begin with the network of this style: name or checkpoint.", str, "STYLE")
@_training_options(6000, 16, {"content": 1.0, "style": 1.0, "tv": 0.0})
def image(style_image: Path, style_size: int, start_from: str | None, **options: Any) -> None:
    """Train the independent network of STYLE_IMAGE on photographs, with content and style loss.

    From another style's network it takes a fraction of the steps.
    """
    import torch

    from nststab.datasets.folders import PhotoFolder
    from nststab.losses import LossSettings, style_target
    from nststab.networks.perceptual import perceptual_network
    from nststab.networks.transformation import MARGIN, NetworkConfig, TransformationNetwork, with_margin
    from nststab.tasks.planned_jobs import training_job
    from nststab.tasks.planning import planned
    from nststab.train.start import independent_network
    from nststab.train.training import Training, training_machine, training_settings
    from nststab.video.images import read_picture, resize

    output = _output(options)
    where = training_machine(options)
    settings, loss = training_settings(options, where, LossSettings())
    vgg = perceptual_network(options["vgg_weights"], where.device, options["network"])
    torch.manual_seed(settings.seed)
    start = TransformationNetwork(NetworkConfig()) if start_from is None else independent_network(start_from)
    network = with_margin(start, MARGIN if options["margin"] is None else options["margin"]).to(where.device)
    if planned(training_job(network, vgg, loss, settings, output, style_pixels=style_size**2), options["plan"]):
        return
    target = style_target(vgg, resize(read_picture(style_image).rgb, style_size).to(where.device), loss.style_layers)
    training = Training(*PhotoFolder(options["photos"]).hold_out(), vgg, target, loss)
    began = given(start_from=start_from and Path(start_from).stem)
    work = training.image(settings, {"style": style_image.stem, "style_size": style_size, **began})
    _train(training, network, work, settings, output, options["yes"])


@command.command("video", short_help="Fine-tune it into a recurrent network, on clips.")
@click.argument("image_checkpoint", type=_CHECKPOINT)
@click.option(
    "--sintel", type=EXISTING_FOLDER, metavar="DIR", help="MPI-Sintel, in its own layout, added to the synthetic clips."
)
@setting("--temporal-weight", 100.0, "Weight of the temporal loss.")
@setting("--length", 4, "Frames of a clip, all back-propagated through.", click.IntRange(min=2))
@_training_options(3000, "as trained before", dict.fromkeys(("content", "style", "tv"), "as trained before"))
def video(
    image_checkpoint: Path, sintel: Path | None, temporal_weight: float | None, length: int | None, **options: Any
) -> None:
    """Fine-tune the independent network of IMAGE_CHECKPOINT into a recurrent one, on clips made from photographs.

    Back-propagation goes through all frames of a clip; the flow between them is exact. A recurrent checkpoint is
    trained further: a short run on larger crops, after a long one on small ones, brings the style loss down.
    """
    from nststab.datasets.folders import PhotoFolder, SintelClips
    from nststab.datasets.synthetic import SyntheticSettings
    from nststab.losses import LossSettings
    from nststab.networks.checkpoints import load_checkpoint
    from nststab.networks.perceptual import perceptual_network
    from nststab.networks.transformation import make_recurrent, with_margin
    from nststab.tasks.planned_jobs import training_job
    from nststab.tasks.planning import planned
    from nststab.train.stages import VideoSettings
    from nststab.train.training import Training, training_machine, training_settings

    output = _output(options)
    where = training_machine(options)
    start = load_checkpoint(image_checkpoint)
    grams = _gram_targets(image_checkpoint, start)
    if not grams:
        raise ValueError(f"{image_checkpoint} carries no Gram targets: it was not written by `nststab train image`")
    before: dict[str, Any] = start.training.get("loss", {})
    before = {name: tuple(value) if isinstance(value, list) else value for name, value in before.items()}
    settings, loss = training_settings(options, where, LossSettings(**before))
    vgg = perceptual_network(options["vgg_weights"], where.device, options["network"])
    if start.training.get("perceptual", vgg.fingerprint) != vgg.fingerprint:
        raise ValueError(f"{image_checkpoint} was trained with another perceptual network (--vgg-weights)")
    target = {layer: gram.to(where.device) for layer, gram in grams.items()}
    video_settings = replace(VideoSettings(), **given(temporal_weight=temporal_weight))
    synthetic = SyntheticSettings(height=settings.height, width=settings.width, **given(length=length))
    network = start.network if start.network.config.recurrent else make_recurrent(start.network)
    margin = network.config.margin if options["margin"] is None else options["margin"]
    network = with_margin(network, margin).to(where.device)
    if planned(training_job(network, vgg, loss, settings, output, synthetic.length), options["plan"]):
        return
    training = Training(*PhotoFolder(options["photos"]).hold_out(), vgg, target, loss)
    clips = SintelClips(sintel) if sintel else None
    began = {"style": start.training.get("style"), "from": dict(start.training)}
    work = training.video(settings, video_settings, synthetic, clips, began)
    _train(training, network, work, settings, output, options["yes"])


@command.command("average", short_help="Average the weights of two networks of one training.")
@click.argument("first", type=_CHECKPOINT)
@click.argument("second", type=_CHECKPOINT)
@setting("--share", 0.5, "Of SECOND, from 0 to 1.", FiniteRange(0, 1))
@output_option
@overwrite_option
@verbosity_options
def average(first: Path, second: Path, share: float | None, **options: Any) -> None:
    """Write the network whose weights are the mean of those of FIRST and SECOND.

    Where SECOND was trained further from FIRST with other weights of the loss, it lies between them in style, content
    and stability: so one can have as much of each as wanted without another training.
    """
    from nststab.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
    from nststab.networks.transformation import interpolate

    output = _output({**options, "plan": False})
    share = 0.5 if share is None else share
    one, other = load_checkpoint(first), load_checkpoint(second)
    network = interpolate(one.network, other.network, share)
    record = {**other.training, "average": {"share": share, "first": dict(one.training)}}
    save_checkpoint(output, Checkpoint(network, _gram_targets(first, one), record))
    say(f"{output}: {1 - share:g} of {first} and {share:g} of {second}")


def _gram_targets(path: Path, checkpoint: "Checkpoint") -> "Mapping[str, Tensor]":
    """A checkpoint's own, or those that stand beside it in the folder of a style."""
    from nststab.networks.checkpoints import load_target

    beside = path.with_name("target.safetensors")
    return load_target(beside)[0] if not checkpoint.style and beside.is_file() else checkpoint.style


def _output(options: Mapping[str, Any]) -> Path:
    output = Path(options["output"])
    if output.suffix != ".safetensors":
        raise click.BadParameter(f"expected a .safetensors file, got {output.name}", param_hint="'-o'")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent}: the folder to write to does not exist")
    refuse_overwriting(output, options["yes"] or options["plan"])
    return output


def _train(
    training: "Training",
    network: "TransformationNetwork",
    work: "Work",
    settings: "TrainingSettings",
    output: Path,
    restart: bool,
) -> None:
    """Trains a stage and writes the checkpoint, with the Gram targets that the next stage needs."""
    from nststab.networks.checkpoints import Checkpoint, save_checkpoint

    record = training.run(network, work, settings, output, restart).record
    save_checkpoint(output, Checkpoint(network, training.target, record))
    say(f"{output}: trained for {settings.steps} steps, validation {named(record['validation'])}")
