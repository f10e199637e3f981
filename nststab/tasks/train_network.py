"""`train_network`: one network of many styles."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as distributed
from torch import Tensor

import nststab
from nststab.errors import MissingFile, NststabError, SettingError
from nststab.listener import Listener, named, silent
from nststab.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from nststab.networks.perceptual import perceptual_network
from nststab.networks.rows import PHOTOGRAPH, row_name, with_rows
from nststab.networks.transformation import MARGIN, NetworkConfig, TransformationNetwork, make_recurrent
from nststab.settings import LossSettings
from nststab.storage.jobs import by_content, content_hash, open_job, unfinished
from nststab.styles.shipped import LIGHT, light_network
from nststab.styles.source import picture_target, style_name, style_source
from nststab.tasks.train import checked_output, never
from nststab.train.loop import PHOTOS, STATE
from nststab.train.network import NetworkLoss, NetworkTrainer, fit_network, place, wait_for_all
from nststab.train.settings import NetworkSettings
from nststab.train.training import training_machine, training_photos

log = logging.getLogger(__name__)

_SEEN = 192  # side of the photograph by which rows are told apart


@dataclass(frozen=True)
class TrainedMany:
    """A network of many styles that was trained, the mean losses on held-out photographs, and its file."""

    network: TransformationNetwork
    losses: Mapping[str, float]
    output: Path


def train_network(
    styles: Sequence[str | Path],
    *,
    photos: str | Path,
    output: str | Path,
    start_from: str | Path | None = None,
    settings: NetworkSettings | None = None,
    device: str = "auto",
    restart: bool = False,
    progress: Listener = silent,
    stop: Callable[[], bool] = never,
) -> TrainedMany:
    """Trains one light network of many styles, each at several stroke sizes; `torchrun` spreads it over processes.

    Of clips (`length`) it is recurrent: the video stage of Gupta et al. 2017, which begins with an independent network.
    One more row, `PHOTOGRAPH`, draws the photograph as it is, so that styles can be weakened.

    Args:
        styles: pictures, or names or folders of styles that have their picture. A style is called NAME@SIZE.
        output: the `.safetensors` file for the averaged weights, in float16, NAME.safetensors. Beside it NAME.jsonl
            gets means of the losses, NAME.validation pictures, and NAME.safetensors.unfinished keeps what a killed run
            has done.
        start_from: the state of another run of the same styles, all of which goes on, or a network of this kind, such
            as the shipped one, "light": a style that it has not begins as the one of its own that is nearest.
        settings: may be others than before where a run is resumed, except those that make another network.
        restart: overwrite the output, and remove unfinished work of other styles.

    Raises:
        NststabError: an input or the output is wrong. TrainingStopped: `stop` said so, and the state is saved.
    """
    settings, output = NetworkSettings.of(settings), checked_output(output, restart)
    weights = settings.style_weights or (1.0,) * len(styles)
    if settings.only_rows and start_from is None:
        raise SettingError("only_rows needs start_from, a network to add the styles to")
    if len(weights) != len(styles):
        raise SettingError(f"style_weights: expected one for each style, got {len(weights)} for {len(styles)} styles")
    begins = None if start_from is None else _start(start_from, settings.length > 1, output)
    where = training_machine(device, settings.precision)
    if where.device.type == "cuda" and torch.cuda.device_count() > 1:  # else it is shown one of its own
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    settings = settings.on(where.precision)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if where.device.type == "cuda" else "gloo")
    if settings.batch % place()[1]:
        raise SettingError(f"batch: expected a multiple of the {place()[1]} processes, got {settings.batch}")
    seen, held_out = training_photos(photos, output)
    order = sorted(zip(map(str, styles), weights, strict=True), key=lambda style: style_name(style[0]))
    names = (*(row_name(style_name(text), size) for text, _ in order for size in settings.strokes), PHOTOGRAPH)
    if len(set(names)) < len(names):
        raise SettingError(f"expected styles of different names, got {', '.join(sorted(names))}")
    vgg = perceptual_network(where.device, padding="replicate")  # zeros are an edge, for which a network draws a frame
    layers = LossSettings().style_layers
    targets = [
        picture_target(_picture(text), vgg, layers, size, "strokes") for text, _ in order for size in settings.strokes
    ]
    torch.manual_seed(settings.seed)
    width = settings.width
    config = NetworkConfig(
        settings.length > 1, (width // 4, width // 2, width), settings.blocks, MARGIN, "light", names
    )
    network = TransformationNetwork(config).to(where.device)
    trainer = NetworkTrainer(network, settings)
    loss = NetworkLoss.of(vgg, targets, settings, [weight for _, weight in order for _ in settings.strokes])
    identity = {
        "styles": [f"{style_name(text)} ({content_hash(_picture(text))})" for text, _ in order],
        "perceptual": vgg.fingerprint,
        "settings": settings.identity(),
        "start_from": None if start_from is None else by_content(start_from, str(start_from)),
    }
    usual = {"settings": NetworkSettings().identity(), "start_from": identity["start_from"]}
    record = {"styles": list(names), "photos": len(seen), "perceptual": vgg.fingerprint, "version": nststab.__version__}

    def fitted(state: Path) -> dict[str, float]:
        if begins is not None and not state.exists():
            _begin(trainer, begins, names, loss, held_out.center_crops(_SEEN, _SEEN)[:1].to(where.device))
        losses = fit_network(trainer, loss, seen, held_out, names, state, output, progress=progress, stop=stop)
        network.load_state_dict(trainer.average)
        return losses

    wait_for_all()  # each has read which photographs a run that is resumed was on
    if place()[0]:  # the first process keeps the work and writes
        wait_for_all()  # it has removed what another run left
        return TrainedMany(network, fitted(unfinished(output) / STATE), output)
    with open_job(unfinished(output), identity, restart, usual) as job:
        try:
            seen.keep_list(job.folder / PHOTOS)
            wait_for_all()
            losses = fitted(job.folder / STATE)
            done = {"steps": trainer.step, "pictures": trainer.pictures, "validation": dict(losses)}
            made = {**record, "settings": asdict(trainer.settings), **done}
            save_checkpoint(output, Checkpoint(network, {}, made))
        except BaseException:
            if not (job.folder / STATE).exists():
                job.finish()
            raise
        job.finish()
    log.info(f"{output}: {len(order)} styles, trained on {trainer.pictures} pictures, validation {named(losses)}")
    return TrainedMany(network, losses, output)


def _picture(text: str) -> Path:
    source = style_source(text).drawn()
    if source.picture is None:
        raise SettingError(f"the style {text} has no picture to take Gram matrices of at several sizes")
    return source.picture


def _start(start_from: str | Path, recurrent: bool, output: Path) -> Path:
    """The file of what to begin with; raises MissingFile, and SettingError for the run's own state."""
    kind = "recurrent" if recurrent and light_network("recurrent").is_file() else "independent"
    path = light_network(kind) if str(start_from) == LIGHT else Path(start_from)
    if not path.is_file():
        raise MissingFile(f"no such network, or state of a training: {path}")
    if path.resolve().is_relative_to(unfinished(output).resolve()):
        raise SettingError(f"start_from: {path} is the unfinished work of {output} itself; what began it goes on")
    return path


def _begin(trainer: NetworkTrainer, path: Path, names: Sequence[str], loss: NetworkLoss, photo: Tensor) -> None:
    """Goes on from the state of another run, or begins with the weights of a network."""
    if path.suffix == ".safetensors":
        network = load_checkpoint(path).network.to(photo.device)
        rows = network.config.styles
        if not rows:
            raise NststabError(f"{path} is a network of one style, to which none can be added")
        if trainer.network.config.recurrent and not network.config.recurrent:
            network = make_recurrent(network)
        trainer.begin_with(with_rows(network, torch.stack(list(_rows_for(names, network, loss, photo))), names))
    else:
        trainer.load(path, names)


def _rows_for(
    names: Sequence[str], network: TransformationNetwork, loss: NetworkLoss, photo: Tensor
) -> Iterator[Tensor]:
    """Weights (S,) of the network's rows that each of `names` begins with: its own, or the one that is nearest to it.

    That is the one in which `photo` has the least style loss for it.
    """
    rows, each = network.config.styles, torch.eye(network.config.rows, device=photo.device)
    with torch.no_grad():
        drawn = [network(photo, None, one[None]) for one in each]
    for number, name in enumerate(names):
        if name in rows:
            yield each[rows.index(name)]
        elif name == PHOTOGRAPH:
            yield each.mean(0)
        else:
            style = torch.tensor([number], device=photo.device)
            with torch.no_grad():
                losses = [float(loss.painted(one, photo, style)["style"]) for one in drawn]
            nearest = min((value, row) for row, value in enumerate(losses) if rows[row] != PHOTOGRAPH)[1]
            log.info(f"{name} begins as {rows[nearest]}")
            yield each[nearest]
