"""nststab train style."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nststab.cli.common import (
    EXISTING_FOLDER,
    POSITIVE,
    device_options,
    given,
    named,
    overwrite_option,
    plan_option,
    say,
    seed_option,
    setting,
    verbosity_options,
)

if TYPE_CHECKING:
    from torch import Tensor

    from nststab.train.folder import StyleFolder
    from nststab.train.style import StyleTraining


@click.command("style", short_help="Train both networks of an own style, with one command.")
@click.argument("style_image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--photos", required=True, type=EXISTING_FOLDER, metavar="DIR", help="Folder of photographs.")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="NAME", help="Folder of the style."
)
@setting(
    "--start-from",
    "the nearest shipped style",
    "Begin with the networks of this style: name, folder or checkpoint.",
    str,
    "STYLE",
)
@setting("--effort", 1.0, "Steps of every stage, as a multiple of the usual ones.", POSITIVE)
@setting("--style-weight", 2.0, "Weight of the style loss.", POSITIVE)
@setting("--style-size", 512, "Longest side of the style picture.", click.IntRange(min=16), "PIXELS")
@click.option(
    "--davis",
    type=EXISTING_FOLDER,
    metavar="DIR",
    help="DAVIS 2016, to measure the networks on it rather than on the bundled clip.",
)
@seed_option
@overwrite_option
@plan_option
@device_options
@verbosity_options
def command(style_image: Path, photos: Path, output: Path, **options: Any) -> None:
    """Train the independent and the recurrent network of STYLE_IMAGE, and write them to the folder NAME.

    `--style NAME` then takes the folder like a shipped style. It begins with the networks of the shipped style whose
    Gram matrices are nearest, says what that will take on this machine, trains on photographs and on clips made from
    them, and ends with figures and a contact sheet, NAME/sheet.jpg. A killed run goes on when the same command is given
    again.
    """
    from nststab.datasets.folders import davis_sequences
    from nststab.measure.rows import DAVIS_SIZE
    from nststab.styles.trace_line import traces
    from nststab.train.card import style_card
    from nststab.train.folder import StyleFolder
    from nststab.train.plan import plan_lines
    from nststab.video.images import read_picture

    folder = StyleFolder(output)
    if not options["plan"]:
        folder.refuse_overwriting(options["yes"])
    if options["davis"]:
        davis_sequences(options["davis"], None, DAVIS_SIZE)  # what is wrong there is said now, not after the training
    picture = read_picture(style_image).rgb
    training = _training(style_image, picture, photos, folder, options)
    tell = click.echo if options["plan"] else say
    tell(f"begins     from {training.start.name}, {training.start.why}")
    for line in plan_lines(training.plans(), training.where.device):
        tell(line)
    if options["plan"]:
        return
    done = training.run(picture)
    for number, trained in enumerate(done, 1):
        clips = "clips of " if trained.record["stage"] == "video" else ""
        say(f"stage {number}, on {clips}held-out photographs: {named(trained.record['validation'])}")
    trace = traces(training.training.vgg, picture)
    folder.finish(style_card(training, done, style_image, photos, trace, _measure(training, options["davis"])))
    say(f"{output}: both networks, card and sheet.jpg; --style {output} takes it")


def _training(
    style_image: Path, picture: "Tensor", photos: Path, folder: "StyleFolder", options: Mapping[str, Any]
) -> "StyleTraining":
    """The training with all that it needs, and crops that fit into memory; says what it begins with."""
    from nststab.datasets.folders import PhotoFolder
    from nststab.losses import LossSettings, style_target
    from nststab.networks.perceptual import perceptual_network
    from nststab.train.recipe import Recipe
    from nststab.train.start import starting_style
    from nststab.train.style import StyleTraining
    from nststab.train.training import Training, training_machine
    from nststab.video.images import resize

    own = given(style_weight=options["style_weight"], style_size=options["style_size"])
    recipe = replace(Recipe(), **own).scaled(options["effort"] or 1.0)
    where = training_machine(options)
    parts = PhotoFolder(photos).hold_out()
    perceptual = perceptual_network(None, where.device)
    loss = LossSettings(style_weight=recipe.style_weight)
    target = style_target(perceptual, resize(picture, recipe.style_size).to(where.device), loss.style_layers)
    start = starting_style(options["start_from"], target, perceptual, recipe.style_size, recipe.margin)
    training = StyleTraining(
        style_image.stem,
        recipe,
        Training(*parts, perceptual, target, loss),
        start,
        where,
        options["seed"] or 0,
        folder,
        options["yes"],
    )
    return training.fitted()


def _measure(training: "StyleTraining", davis: Path | None) -> dict[str, Any]:
    """The figures of the card; writes the sheet."""
    import torch

    from nststab.styles.source import style_source
    from nststab.train.figures import StyleNetworks, davis_footage, demo_footage
    from nststab.video.images import write_picture

    networks = StyleNetworks(
        style_source(str(training.folder.folder)),
        training.training.target,
        training.training.vgg,
        training.where,
        training.seed,
    )
    clips = davis_footage(davis) if davis else demo_footage()
    first = next(clips, None)
    figures = networks.figures([] if first is None else itertools.chain([first], clips))
    frames = training.moving_frames() if first is None else first.frames
    photos = torch.split(training.training.held_out.center_crops(*frames[0].shape[-2:]), 1)
    write_picture(training.folder.sheet, networks.sheet(photos, frames))
    return figures
