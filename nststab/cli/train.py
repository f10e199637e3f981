"""nststab train image, nststab train video."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import nststab
from nststab.cli.common import (
    COUNT,
    EXISTING,
    EXISTING_FOLDER,
    POSITIVE,
    device_options,
    given,
    named,
    network_option,
    output_option,
    overwrite_option,
    plan_option,
    progress,
    refuse_overwriting,
    say,
    seed_option,
    setting,
    verbosity_options,
    vgg_option,
)
from nststab.cli.groups import NearestGroup

if TYPE_CHECKING:
    from torch import Tensor

    from nststab.cli.build import Machine
    from nststab.datasets import PhotoFolder
    from nststab.losses import LossSettings
    from nststab.networks import TransformationNetwork
    from nststab.train import Stage, TrainingSettings
    from nststab.vgg import PerceptualNetwork

Command = TypeVar("Command", bound=Callable[..., Any])


def _training_options(steps: int, weights: Mapping[str, object]) -> Callable[[Command], Command]:
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
    """Train a style: first `image` (independent network), then `video` (recurrent network, fine-tuned from it).

    A killed run goes on when the same command is given again. Beside OUT stand OUT.state, from which it goes on,
    OUT.jsonl with the losses of every step, and OUT.validation with pictures.
    """


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
@_training_options(6000, {"content": 1.0, "style": 1.0, "tv": 0.0})
def image(style_image: Path, style_size: int, start_from: str | None, **options: Any) -> None:
    """Train the independent network of STYLE_IMAGE on photographs, with content and style loss.

    From another style's network it takes a fraction of the steps.
    """
    import torch

    from nststab.cli.perceptual import perceptual_network
    from nststab.cli.planned_jobs import training_job
    from nststab.cli.planning import planned
    from nststab.datasets import PhotoFolder
    from nststab.images import read_picture, resize
    from nststab.losses import LossSettings, PerceptualLoss, style_target
    from nststab.networks import NetworkConfig, TransformationNetwork
    from nststab.stages import ImageStage

    output = _output(options)
    where = _machine(options)
    settings, loss_settings = _settings(options, where, LossSettings())
    vgg = perceptual_network(options["vgg_weights"], where.device, options["network"])
    torch.manual_seed(settings.seed)
    start = TransformationNetwork(NetworkConfig()) if start_from is None else _trained(start_from)
    network = start.to(where.device)
    job = training_job(network, vgg, loss_settings, settings, output, style_pixels=style_size**2)
    if planned(job, options["plan"]):
        return
    target = style_target(
        vgg, resize(read_picture(style_image).rgb, style_size).to(where.device), loss_settings.style_layers
    )
    photos, held_out = PhotoFolder(options["photos"]).hold_out()
    pictures = held_out.center_crops(settings.height, settings.width)
    stage = ImageStage(photos, PerceptualLoss(vgg, target, loss_settings), settings, where.device, pictures)
    record = {
        "stage": "image",
        "style": style_image.stem,
        "style_size": style_size,
        "photos": len(photos),
        "loss": asdict(loss_settings),
        **given(start_from=start_from and Path(start_from).stem),
    }
    _train(network, stage, settings, output, target, record, photos, vgg, settings.batch, options["yes"])


@command.command("video", short_help="Fine-tune it into a recurrent network, on clips.")
@click.argument("image_checkpoint", type=EXISTING)
@click.option(
    "--sintel", type=EXISTING_FOLDER, metavar="DIR", help="MPI-Sintel, in its own layout, added to the synthetic clips."
)
@setting("--temporal-weight", 100.0, "Weight of the temporal loss.")
@setting("--length", 4, "Frames of a clip, all back-propagated through.", click.IntRange(min=2))
@_training_options(3000, dict.fromkeys(("content", "style", "tv"), "as trained before"))
def video(
    image_checkpoint: Path, sintel: Path | None, temporal_weight: float | None, length: int | None, **options: Any
) -> None:
    """Fine-tune the independent network of IMAGE_CHECKPOINT into a recurrent one, on clips made from photographs.

    Back-propagation goes through all frames of a clip; the flow between them is exact. A recurrent checkpoint is
    trained further: a short run on larger crops, after a long one on small ones, brings the style loss down.
    """
    import torch

    from nststab.cli.perceptual import fingerprint, perceptual_network
    from nststab.cli.planned_jobs import training_job
    from nststab.cli.planning import planned
    from nststab.datasets import PhotoFolder, SintelClips
    from nststab.losses import LossSettings, PerceptualLoss
    from nststab.networks import make_recurrent
    from nststab.stages import VideoData, VideoSettings, VideoStage
    from nststab.stylizer import load_checkpoint
    from nststab.synthetic import SyntheticSettings

    output = _output(options)
    where = _machine(options)
    start = load_checkpoint(image_checkpoint)
    if not start.style:
        raise ValueError(f"{image_checkpoint} carries no Gram targets: it was not written by `nststab train image`")
    before: dict[str, Any] = start.training.get("loss", {})
    before = {name: tuple(value) if isinstance(value, list) else value for name, value in before.items()}
    base = LossSettings(**before)
    settings, loss_settings = _settings(options, where, base)
    vgg = perceptual_network(options["vgg_weights"], where.device, options["network"])
    if start.training.get("perceptual", fingerprint(vgg)) != fingerprint(vgg):
        raise ValueError(f"{image_checkpoint} was trained with another perceptual network (--vgg-weights)")
    target = {layer: gram.to(where.device) for layer, gram in start.style.items()}
    video_settings = replace(VideoSettings(), **given(temporal_weight=temporal_weight))
    synthetic = SyntheticSettings(height=settings.height, width=settings.width, **given(length=length))
    network = start.network if start.network.config.recurrent else make_recurrent(start.network)
    network = network.to(where.device)
    if planned(training_job(network, vgg, loss_settings, settings, output, synthetic.length), options["plan"]):
        return
    photos, held_out = PhotoFolder(options["photos"]).hold_out()
    clips = SintelClips(sintel) if sintel else None
    stage = VideoStage(
        VideoData(photos, synthetic, clips, video_settings.sintel_share),
        PerceptualLoss(vgg, target, loss_settings),
        video_settings,
        settings,
        where.device,
        VideoData(held_out, synthetic).clips(4, torch.Generator().manual_seed(0)),
    )
    record = {
        "stage": "video",
        "style": start.training.get("style"),
        "from": dict(start.training),
        "photos": len(photos),
        "loss": asdict(loss_settings),
        "video": asdict(video_settings),
        "synthetic": asdict(synthetic),
        "sintel_clips": len(clips) if clips else 0,
    }
    images = settings.batch * synthetic.length
    _train(network, stage, settings, output, target, record, photos, vgg, images, options["yes"])


def _trained(style: str) -> "TransformationNetwork":
    """The independent network of a shipped style or of a checkpoint."""
    from nststab.cli.style_source import style_source

    source = style_source(style)
    if source.checkpoint is None:
        raise click.BadParameter(f"expected a trained style, {style} is a picture", param_hint="'--start-from'")
    return source.trained("independent").network


def _output(options: Mapping[str, Any]) -> Path:
    output = Path(options["output"])
    if output.suffix != ".safetensors":
        raise click.BadParameter(f"expected a .safetensors file, got {output.name}", param_hint="'-o'")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent}: the folder to write to does not exist")
    refuse_overwriting(output, options["yes"] or options["plan"])
    return output


def _machine(options: Mapping[str, Any]) -> "Machine":
    """Where to train; never in float16, whose range small gradients fall below."""
    from nststab.cli.build import machine

    if options["precision"] == "float16":
        raise click.BadParameter("expected auto, float32 or bfloat16 to train in", param_hint="'--precision'")
    where = machine(options["device"], options["precision"])
    return replace(where, precision="float32") if where.precision == "float16" else where


def _settings(
    options: Mapping[str, Any], where: "Machine", loss: "LossSettings"
) -> "tuple[TrainingSettings, LossSettings]":
    from nststab.train import TrainingSettings

    fields = ("steps", "batch", "height", "width", "learning_rate", "validate_every", "seed")
    settings = replace(TrainingSettings(precision=where.precision), **given(**{name: options[name] for name in fields}))
    weights = ("content_weight", "style_weight", "tv_weight")
    return settings, replace(loss, **given(**{name: options[name] for name in weights}))


def _train(
    network: "TransformationNetwork",
    stage: "Stage",
    settings: "TrainingSettings",
    output: Path,
    target: "Mapping[str, Tensor]",
    record: dict[str, Any],
    photos: "PhotoFolder",
    vgg: "PerceptualNetwork",
    images: int,
    restart: bool,
) -> None:
    """Runs the loop, `images` a step, with a bar, a log and validation pictures; writes the checkpoint at the end."""
    from nststab.cli.perceptual import fingerprint
    from nststab.cli.resuming import training_state
    from nststab.cli.training_identity import training_identity
    from nststab.cli.training_log import TrainingLog
    from nststab.stylizer import Checkpoint, save_checkpoint
    from nststab.train import fit

    identity = training_identity(record, network, target, vgg, photos)
    state = output.with_suffix(".state")
    with progress(f"training {output.stem}", settings.steps) as advance, training_state(state) as stop:
        log = TrainingLog(output, settings.steps, images, advance)
        done = fit(
            network,
            stage,
            settings,
            state,
            identity,
            restart=restart,
            begun=log.begun,
            report=log.step,
            validated=log.validated,
            stop=stop,
        )
    if done < settings.steps:
        say(f"stopped after {done} steps, which {state} keeps; the same command goes on")
        raise click.Abort
    record |= {"settings": asdict(settings), "perceptual": fingerprint(vgg)}
    record |= {"validation": log.last, "version": nststab.__version__}
    save_checkpoint(output, Checkpoint(network, target, record))
    say(f"{output}: trained for {settings.steps} steps, validation {named(log.last)}")
