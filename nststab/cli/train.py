"""nststab train, with style, image, video, network and average."""

import shlex
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from nststab.cli.common import (
    EXISTING,
    EXISTING_FOLDER,
    STYLE,
    Command,
    FiniteRange,
    NearestGroup,
    console_listener,
    device_option,
    given,
    output_option,
    overwrite_option,
    plan_option,
    refuse_early,
    say,
    show_plan,
    together,
)
from nststab.cli.options import SettingsCommand, gathered, set_options, settings_options
from nststab.errors import SettingError
from nststab.networks.settings import PerceptualSettings
from nststab.train.settings import (
    ADDED_STYLE,
    ImageSettings,
    NetworkSettings,
    StyleSettings,
    TrainingSettings,
    VideoSettings,
)

_CHECKPOINT = click.Path(exists=True, dir_okay=False, path_type=Path)
_PHOTOS = click.option("--photos", required=True, type=EXISTING_FOLDER, metavar="DIR", help="Folder of photographs.")
_COMMON = ("steps", "batch", "height", "width", "learning_rate", "content_weight", "style_weight", "tv_weight")
_LATER = ("margin", "validate_every", "seed", "precision")
_START = "Begin with the networks of this style: name, folder or checkpoint."
_NOT_TOLD = ("output", "yes", "plan", "style_image", "photos")  # by the command on a card
_PATHS = ("davis", "start_from")  # what may be one


def _stage_options(settings: type[TrainingSettings], *own: str) -> Callable[[Command], Command]:
    """What both stages take, and what only this one does."""
    return together(
        settings_options(settings, *own),
        _PHOTOS,
        output_option,
        settings_options(settings, *_COMMON, *_LATER),
        settings_options(PerceptualSettings, "network", "vgg_weights"),
        overwrite_option,
        plan_option,
        device_option,
        set_options(settings),
    )


@click.group("train", cls=NearestGroup, short_help="Train the networks of a style.")
def command() -> None:
    """Train a style: `style` makes both networks. Or step by step: first `image` (independent network), then `video`
    (recurrent network, fine-tuned from it); `average` makes a network between two. `network` trains one of many styles.

    A killed run goes on when the same command is given again. Beside OUT.safetensors stand
    OUT.safetensors.unfinished, from which it goes on, OUT.jsonl with the losses of every step (of `network` in means of
    50), and OUT.validation with pictures.
    """


@command.command("style", cls=SettingsCommand, short_help="Train both networks of an own style, with one command.")
@click.argument("style_image", type=_CHECKPOINT)
@_PHOTOS
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="NAME", help="Folder of the style."
)
@click.option("--start-from", type=STYLE, metavar="STYLE", help=f"{_START}  [default: the nearest shipped style]")
@settings_options(StyleSettings, "effort", "image.style_weight", "image.style_size")
@click.option(
    "--davis",
    type=EXISTING_FOLDER,
    metavar="DIR",
    help="DAVIS 2016, to measure the networks on it rather than on the bundled clip.",
)
@settings_options(ImageSettings, "seed", "precision")
@overwrite_option
@plan_option
@device_option
@set_options(StyleSettings)
def style(
    style_image: Path,
    photos: Path,
    output: Path,
    start_from: str | None,
    davis: Path | None,
    seed: int | None,
    precision: str | None,
    device: str,
    yes: bool,
    plan: bool,
    assignments: Mapping[str, str],
    **options: Any,
) -> None:
    """Train the independent and the recurrent network of STYLE_IMAGE, and write them to the folder NAME.

    \b
    nststab train style painting.jpg --photos PHOTOS -o painting

    `--style NAME` then takes the folder like a shipped style. It begins with the networks of the shipped style whose
    Gram matrices are nearest, says what that will take on this machine, trains on photographs and on clips made from
    them, and ends with figures and a contact sheet, NAME/sheet.jpg. A killed run goes on when the same command is given
    again.
    """
    if output.is_dir():
        refuse_early(output, yes or plan, output / "training" / "sizes.json")
    from nststab.tasks.train_style import plan_lines, style_training, train_style
    from nststab.train.style import StyleFolder

    settings = gathered(StyleSettings, options, dict(assignments))
    both: dict[str, Any] = given(seed=seed, precision=precision)
    settings = replace(settings, image=replace(settings.image, **both), video=replace(settings.video, **both))
    asked: dict[str, Any] = {
        "photos": photos,
        "output": output,
        "start_from": start_from,
        "davis": davis,
        "settings": settings,
        "device": device,
        "restart": yes or (plan and not StyleFolder(output).unfinished),
    }
    if plan:
        click.echo("\n".join(plan_lines(style_training(style_image, **asked), davis)))
        return
    with _stoppable() as stop:
        told = _told_command(style_image, photos, output)
        made = train_style(style_image, **asked, command=told, progress=console_listener(), stop=stop)
    if table := made.table():
        click.echo(table)


@command.command("image", cls=SettingsCommand, short_help="Train the independent network of a style picture.")
@click.argument("style_image", type=EXISTING)
@click.option(
    "--start-from",
    type=STYLE,
    metavar="STYLE",
    help="Begin with the network of this style: name or checkpoint.  [default: random weights]",
)
@_stage_options(ImageSettings, "style_size")
def image(style_image: Path, assignments: Mapping[str, str], **options: Any) -> None:
    """Train the independent network of STYLE_IMAGE on photographs, with content and style loss.

    \b
    nststab train image painting.jpg --photos PHOTOS -o first.safetensors

    From another style's network it takes a fraction of the steps.
    """
    refuse_early(options["output"], options["yes"] or options["plan"])
    from nststab.tasks.train import image_training

    settings = gathered(ImageSettings, options, dict(assignments))
    ready = image_training(style_image, start_from=options["start_from"], settings=settings, **_stage(options))
    _run(ready, options["plan"])


@command.command("video", cls=SettingsCommand, short_help="Fine-tune it into a recurrent network, on clips.")
@click.argument("image_checkpoint", type=_CHECKPOINT)
@click.option(
    "--sintel", type=EXISTING_FOLDER, metavar="DIR", help="MPI-Sintel, in its own layout, added to the synthetic clips."
)
@_stage_options(VideoSettings, "temporal_weight", "length")
def video(image_checkpoint: Path, assignments: Mapping[str, str], **options: Any) -> None:
    """Fine-tune the independent network of IMAGE_CHECKPOINT into a recurrent one, on clips made from photographs.

    \b
    nststab train video first.safetensors --photos PHOTOS -o second.safetensors

    Back-propagation goes through all frames of a clip; the flow between them is exact. A recurrent checkpoint is
    trained further: a short run on larger crops, after a long one on small ones, brings the style loss down.
    """
    refuse_early(options["output"], options["yes"] or options["plan"])
    from nststab.tasks.train import video_training

    settings = gathered(VideoSettings, options, dict(assignments))
    ready = video_training(image_checkpoint, sintel=options["sintel"], settings=settings, **_stage(options))
    _run(ready, options["plan"])


@command.command("network", cls=SettingsCommand, short_help="Train one network of many styles.")
@click.argument("styles", nargs=-1, required=True, type=STYLE, metavar="STYLE...")
@_PHOTOS
@output_option
@click.option("--start-from", metavar="FILE|light", help="State of the same styles, or a network; light is shipped.")
@settings_options(
    NetworkSettings,
    "only_rows",
    "length",
    "pictures",
    "batch",
    "crops",
    "strokes",
    "style_weights",
    "shift_weight",
    "seed",
    "precision",
)
@overwrite_option
@device_option
@set_options(NetworkSettings)
def network(styles: tuple[str, ...], assignments: Mapping[str, str], yes: bool, **options: Any) -> None:
    """Train one network that paints in many styles, each a picture or a style that has its picture.

    \b
    nststab train network mosaic painting.jpg --photos PHOTOS -o many.safetensors
    nststab train network painting.jpg --photos PHOTOS -o painting.safetensors --start-from light --only-rows

    It is lighter than those of single styles, moves what it draws with the scene, and mixes its styles. The second line
    is a matter of minutes: the shipped network with scales and shifts of the painting's own, for `--method
    independent`; by default of one stroke, on 320 crops of 128 pixels, one a step. A killed run goes on when the same
    command is given again, also with other rates, crops or --pictures. Under torchrun each process takes its part of
    every batch.
    """
    refuse_early(options["output"], yes)
    from nststab.tasks.train_network import train_network

    settings = gathered(NetworkSettings, options, dict(assignments))
    if settings.only_rows:
        settings = gathered(NetworkSettings, options, dict(assignments), ADDED_STYLE)
    with _stoppable() as stop:
        train_network(
            styles,
            photos=options["photos"],
            output=options["output"],
            start_from=options["start_from"],
            settings=settings,
            device=options["device"],
            restart=yes,
            progress=console_listener(),
            stop=stop,
        )


@command.command("average", cls=SettingsCommand, short_help="Average the weights of two networks of one training.")
@click.argument("first", type=_CHECKPOINT)
@click.argument("second", type=_CHECKPOINT)
@click.option("--share", type=FiniteRange(0, 1), default=0.5, show_default=True, help="Of SECOND, from 0 to 1.")
@output_option
@overwrite_option
def average(first: Path, second: Path, share: float, output: str, yes: bool) -> None:
    """Write the network whose weights are the mean of those of FIRST and SECOND.

    \b
    nststab train average one.safetensors other.safetensors -o between.safetensors

    Where SECOND was trained further from FIRST with other weights of the loss, it lies between them in style, content
    and stability: so one can have as much of each as wanted without another training.
    """
    refuse_early(output, yes)
    from nststab.tasks.train import average_networks

    average_networks(first, second, output, share, yes)


def _stage(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the library's functions of both stages take."""
    same = {name: options[name] for name in ("photos", "output", "network", "vgg_weights", "device")}
    return same | {"restart": options["yes"] or options["plan"]}


def _run(ready: Any, told: bool) -> None:
    from nststab.tasks.plan import plan

    if told:
        show_plan(plan(ready.planned))
        return
    with _stoppable() as stop:
        ready.run(console_listener(), stop)


def _told_command(picture: Path, photos: Path, output: Path) -> str:
    """The command that runs, with the names of files and folders in place of their paths."""
    context = click.get_current_context()
    parts = ["nststab", "train", "style", picture.name, "--photos", photos.resolve().name, "-o", output.resolve().name]
    for option in context.command.params:
        value = context.params.get(option.name or "")
        if option.name == "assignments":
            parts += [part for name, text in value or () for part in ("--set", f"{name}={text}")]
        elif option.name not in _NOT_TOLD and value is not None and value != option.default:
            parts += [option.opts[-1], Path(value).name if option.name in _PATHS else str(value)]
    return shlex.join(parts)


@contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """What to ask whether Ctrl-C or SIGTERM came, so that the state is saved first; a second one ends at once."""
    from nststab.storage.jobs import OtherSettings
    from nststab.train.loop import TrainingStopped

    asked = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in signals}

    def remember(number: int, _frame: object) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in signals:
        signal.signal(number, remember)
    try:
        yield asked.is_set
    except TrainingStopped as stopped:
        say(str(stopped))
        raise click.Abort from stopped
    except OtherSettings as error:
        raise SettingError(f"{error}; say -y to begin afresh") from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
