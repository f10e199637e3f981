"""One network of many styles: conditional instance normalisation, exact shifts, Muon, averaged weights.

Dumoulin et al. 2017 for the styles; that an output should move with its content by whole pixels is ours. Run by
torchrun on several processes it takes the same steps as on one, each process with its part of every batch.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as distributed
import torch.nn.functional as F
from torch import Tensor, nn

from nststab.datasets.folders import PhotoFolder
from nststab.datasets.layers import FlowClip
from nststab.datasets.synthetic import SyntheticSettings, draw_index, uniform
from nststab.engines.torch_engine import autocast
from nststab.errors import NststabError
from nststab.listener import Listener, named, reported
from nststab.losses import StyleTarget, content_loss, gram, shift_loss, style_loss, temporal_loss
from nststab.networks.rows import is_row
from nststab.networks.transformation import TransformationNetwork
from nststab.report.sheet import contact_sheet
from nststab.settings import LossSettings
from nststab.storage.durable import write_durably
from nststab.train.loop import SKIPPED_IN_A_ROW, TrainingDiverged, TrainingStopped, read_state
from nststab.train.muon import Muon
from nststab.train.settings import NetworkSettings
from nststab.train.stages import VideoData, unrolled
from nststab.train.training import cut_back
from nststab.vgg import PerceptualNetwork
from nststab.video.images import write_picture
from nststab.video.threads import Prefetcher

log = logging.getLogger(__name__)

SHIFT, BORDER = 8, 8  # the largest shift in pixels, and what does not count of the overlap
_LARGEST_SCALE = 1.5  # of a photograph
_LEAST_CONTRAST = 0.02  # standard deviation of a crop
_AS_THEY_ARE = 1 / 8  # of the pictures, which the row `PHOTOGRAPH` is to give back
_LOGGED = 50  # steps from one line of the log to the next
_SHOWN = 8  # styles on a sheet, at least, where there are so many


class Batch(NamedTuple):
    """Two crops of each photograph (N, 3, S, S), by how much the second lies further down and right, and the styles."""

    photos: Tensor
    moved: Tensor
    offset: tuple[int, int]
    styles: Tensor  # (N,), numbers of styles

    def part(self, rank: int, processes: int, device: torch.device) -> "Batch":
        """What one of several processes trains on."""
        photos, moved = (
            one[rank::processes].to(device, memory_format=torch.channels_last) for one in (self.photos, self.moved)
        )
        return Batch(photos, moved, self.offset, self.styles[rank::processes].to(device))


class ClipBatch(NamedTuple):
    """Clips with exact flow, for a recurrent network, their first frames moved by whole pixels, and the styles."""

    clips: FlowClip
    moved: Tensor  # (N, 3, S, S), first frames without as many rows and columns as `offset` says
    offset: tuple[int, int]
    styles: Tensor  # (N,), numbers of styles

    def part(self, rank: int, processes: int, device: torch.device) -> "ClipBatch":
        """What one of several processes trains on."""
        *clips, moved, styles = (one[rank::processes].to(device) for one in (*self.clips, self.moved, self.styles))
        return ClipBatch(FlowClip(*clips), moved, self.offset, styles)


@dataclass(frozen=True)
class NetworkData:
    """Photographs as `train_network` sees them; the last of the `rows` draws them as they are."""

    photos: PhotoFolder
    rows: int

    def batch(self, count: int, side: int, generator: torch.Generator) -> Batch:
        """A batch that the generator determines: half of the pictures brighter or darker, the second crops noisy.

        Crops without contrast, such as of a clear sky, are drawn again: instance normalisation multiplies the gradient
        of a flat picture by up to 316 a layer, 1/sqrt(1e-5), which overflows behind fifteen of them.
        """
        crops = torch.cat([self._crop(side + SHIFT, generator) for _ in range(count)])
        top, left, below, beside = (draw_index(SHIFT + 1, generator) for _ in range(4))
        photos = crops[..., top : top + side, left : left + side]
        moved = crops[..., below : below + side, beside : beside + side]
        offset = below - top, beside - left
        return Batch(photos, _disturbed(moved, generator), offset, self._styles(count, generator))

    def clips(self, count: int, side: int, length: int, generator: torch.Generator) -> ClipBatch:
        """A batch of clips made from photographs, which the generator determines."""
        clips = VideoData(self.photos, SyntheticSettings(length, side, side)).clips(count, generator)
        styles = self._styles(count, generator)
        offset = draw_index(SHIFT + 1, generator), draw_index(SHIFT + 1, generator)
        return ClipBatch(clips, _disturbed(_moved(clips.frames[:, 0], offset), generator), offset, styles)

    def _styles(self, count: int, generator: torch.Generator) -> Tensor:
        styles = torch.randint(self.rows - 1, (count,), generator=generator)
        styles[torch.rand(count, generator=generator) < _AS_THEY_ARE] = self.rows - 1
        return styles

    def _crop(self, side: int, generator: torch.Generator) -> Tensor:
        crop = self.photos.crops(1, side, side, generator, _LARGEST_SCALE)
        for _ in range(100):
            if float(crop[..., SHIFT:-SHIFT, SHIFT:-SHIFT].std()) >= _LEAST_CONTRAST:  # what both crops show of it
                break
            crop = self.photos.crops(1, side, side, generator, _LARGEST_SCALE)
        if draw_index(2, generator):
            gamma, gain = math.exp(uniform(-0.4, 0.4, generator)), uniform(0.7, 1.0, generator)
            crop = crop.clamp_min(0).pow(gamma) * gain
        return crop.clamp(0, 1)


def _moved(pictures: Tensor, offset: tuple[int, int]) -> Tensor:
    """Pictures (N, C, H, W) without their first rows and columns; the last ones are repeated instead."""
    down, right = offset
    return F.pad(pictures, (0, right, 0, down), mode="replicate")[..., down:, right:]


def _disturbed(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """A little brighter or darker, with as little noise."""
    strength = uniform(0, 1, generator)
    noise = torch.randn(pictures.shape, generator=generator) * (0.02 * strength)
    return (pictures * (1 + 0.04 * (strength - 0.5)) + noise).clamp(0, 1)


@dataclass(frozen=True)
class NetworkLoss:
    """Content, style and shift loss of a network of many styles, and what its last row changes of a photograph.

    `grams` are their Gram matrices, (S, C, C) a layer, and `weights` (S,) those of their style losses among each other.
    """

    perceptual: PerceptualNetwork
    grams: Mapping[str, Tensor]
    weights: Tensor
    settings: NetworkSettings

    @classmethod
    def of(
        cls,
        perceptual: PerceptualNetwork,
        targets: Sequence[StyleTarget],
        settings: NetworkSettings,
        weights: Sequence[float] | None = None,
    ) -> "NetworkLoss":
        """Of the targets of each style, layer -> (1, C, C); weights of 1 by default."""
        device = perceptual.mean.device
        grams = {layer: torch.cat([target[layer] for target in targets]).to(device) for layer in targets[0]}
        return cls(perceptual, grams, torch.tensor(weights or [1.0] * len(targets), device=device), settings)

    def __call__(self, network: nn.Module, batch: Batch | ClipBatch) -> dict[str, Tensor]:
        """Weighted terms "content", "style", "photograph", of clips "temporal", and "shift" where it weighs anything:
        means over the batch."""
        styles = F.one_hot(batch.styles, len(self.weights) + 1).float()
        if isinstance(batch, ClipBatch):
            return self._of_clips(network, batch, styles)
        output = network(batch.photos, None, styles)
        terms = self._of_pictures(output, batch.photos, batch.styles)
        return terms | self._of_shift(network, batch, output, None, styles)

    def _of_shift(
        self, network: nn.Module, batch: Batch | ClipBatch, output: Tensor, previous: Tensor | None, styles: Tensor
    ) -> dict[str, Tensor]:
        """How the moved pictures are drawn otherwise than `output`, after `previous`."""
        if not self.settings.shift_weight:
            return {}
        moved = network(batch.moved, previous, styles)
        return {"shift": self.settings.shift_weight * shift_loss(output, moved, batch.offset, BORDER)}

    def _of_clips(self, network: nn.Module, batch: ClipBatch, styles: Tensor) -> dict[str, Tensor]:
        """The recurrence unrolled over whole clips, from p_0 = 0, nothing detached: Gupta et al. 2017, eq. (5)-(7).

        The shift is that of a first frame which a moved one follows.
        """
        frames, forward, mask = batch.clips  # (N, T, 3, H, W), (N, T-1, 2 | 1, H, W)
        stacked = unrolled(network, frames, styles)
        numbers = batch.styles.repeat_interleave(frames.shape[1])
        terms = self._of_pictures(stacked.flatten(0, 1), frames.flatten(0, 1), numbers)
        pairs = (stacked[:, 1:], stacked[:, :-1], forward, mask)
        change = temporal_loss(*(part.flatten(0, 1) for part in pairs))
        terms["temporal"] = self.settings.temporal_weight * change
        return terms | self._of_shift(network, batch, stacked[:, 0], stacked[:, 0], styles)

    def _of_pictures(self, output: Tensor, photos: Tensor, styles: Tensor) -> dict[str, Tensor]:
        painted = styles < len(self.weights)
        share = painted.float().mean()
        terms = dict.fromkeys(("content", "style", "photograph"), output.new_zeros(()))
        if painted.any():
            found = self.painted(output[painted], photos[painted], styles[painted])
            terms |= {name: share * term for name, term in found.items()}
        if not painted.all():
            change = (output - photos)[~painted].square().mean()
            terms["photograph"] = self.settings.photograph_weight * (1 - share) * change
        return terms

    def painted(self, output: Tensor, photos: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """Content and style loss of pictures (N, 3, H, W), each in its own style."""
        content_layer = LossSettings().content_layers[0]
        features = self.perceptual(output, (content_layer, *self.grams))
        with torch.no_grad():
            content = self.perceptual(photos, (content_layer,))[content_layer]
        style = [
            style_loss(gram(features[layer]), grams[styles], weights=self.weights[styles])
            for layer, grams in self.grams.items()
        ]
        return {
            "content": self.settings.content_weight * content_loss(features[content_layer], content),
            "style": self.settings.style_weight * torch.stack(style).sum(),
        }


class NetworkTrainer:
    """A network in training, with its optimizers and the running average of its weights.

    Attributes:
        average: weights by name; they are what is worth keeping.
        step, pictures: what was done, in all runs.
    """

    def __init__(self, network: TransformationNetwork, settings: NetworkSettings) -> None:
        self.network, self.settings = network, settings
        parameters = dict(network.named_parameters())
        for name, value in parameters.items():
            value.requires_grad_(is_row(name) or not settings.only_rows)
        trained = [name for name, value in parameters.items() if value.requires_grad]
        self._convolutions = [name for name in trained if parameters[name].ndim == 4 and not name.startswith("output")]
        rest = [parameters[name] for name in trained if name not in self._convolutions]
        self._muon = Muon([parameters[name] for name in self._convolutions]) if self._convolutions else None
        self._adam = torch.optim.Adam(rest, betas=(0.9, 0.99))  # Muon is for the convolutions but the last
        self.average = {name: value.clone() for name, value in network.state_dict().items()}
        self.step = self.pictures = self.skipped = 0

    def train(self, loss: NetworkLoss, batch: Batch | ClipBatch, rate: float) -> dict[str, float] | None:
        """One step on this process' part of a batch; None where the gradient was not finite, and nothing was changed.

        Raises TrainingDiverged where that was so several times in a row.
        """
        device = next(self.network.parameters()).device
        part = batch.part(*place(), device)
        self.network.zero_grad(set_to_none=True)
        with autocast(device, self.settings.arithmetic):
            terms = loss(self.network, part)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        values = torch.stack([term.detach().float() for term in terms.values()])
        gradients = [weight.grad for weight in self.network.parameters() if weight.grad is not None]
        for shared in (values, *gradients):
            _mean_of_processes(shared)
        finite = torch.stack([shared.isfinite().all() for shared in (values, *gradients)]).all()
        self.step, self.pictures = self.step + 1, self.pictures + len(batch.styles)
        if not finite:
            self.skipped += 1
            log.debug(f"step {self.step} was skipped: its gradient is not finite")
            if self.skipped == SKIPPED_IN_A_ROW:
                raise TrainingDiverged(f"not finite for {self.skipped} steps in a row, at step {self.step}")
            return None
        self.skipped = 0
        for optimizer, highest in ((self._muon, self.settings.learning_rate), (self._adam, self.settings.adam_rate)):
            if optimizer is not None:
                optimizer.param_groups[0]["lr"] = highest * rate
                optimizer.step()
        kept = min(self.settings.averaging, self.step / (self.step + 20))  # what it began with is forgotten soon
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - kept)
        return dict(zip(terms, values.tolist(), strict=True))

    def begin_with(self, network: TransformationNetwork) -> None:
        """Takes the weights of a network, before the first step; raises NststabError for one of another shape."""
        if not network.config.has_weights_of(self.network.config):
            raise NststabError(f"expected a network of {self.network.config}, got {network.config}")
        self.network.load_state_dict(network.state_dict())
        for name, value in self.average.items():
            value.copy_(network.state_dict()[name])

    def save(self, path: Path, rows: Sequence[str]) -> None:
        """Writes the state, whole or not at all."""
        parameters = dict(self.network.named_parameters())
        momentum = [self._muon.state[parameters[name]].get("momentum") for name in self._convolutions if self._muon]
        state = {
            "net": self.network.state_dict(),
            "ema": self.average,
            "muon": [
                torch.zeros_like(parameters[n]) if m is None else m
                for n, m in zip(self._convolutions, momentum, strict=True)
            ],
            "adam": self._adam.state_dict(),
            "step": self.step,
            "pictures": self.pictures,
            "rows": list(rows),
        }
        file = BytesIO()
        torch.save(state, file)
        write_durably(path, file.getvalue())

    def load(self, path: Path, rows: Sequence[str]) -> bool:
        """Resumes from a state; False where there is none.

        Raises NststabError where the state is damaged, or of another network or of other styles.
        """
        state = read_state(path)
        if state is None:
            return False
        try:
            if list(state["rows"]) != list(rows):
                raise NststabError(f"{path} is of the styles {', '.join(state['rows'])}")
            if list(state["net"]) != list(self.network.state_dict()):  # the optimizers' parts stand in this order
                raise NststabError(
                    f"{path} is the state of another network: its weights have other names or another order"
                )
            self.network.load_state_dict(state["net"])
            parameters = dict(self.network.named_parameters())
            for name, momentum in zip(self._convolutions, state["muon"], strict=True):
                assert self._muon is not None
                self._muon.state[parameters[name]]["momentum"] = momentum.to(parameters[name])
            self._adam.load_state_dict(state["adam"])
            for name, value in self.average.items():
                value.copy_(state["ema"][name])
            self.step, self.pictures = int(state["step"]), int(state["pictures"])
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            if isinstance(error, NststabError):
                raise
            raise NststabError(
                f"{path} is the state of another network: {str(error).splitlines()[-1].strip()}"
            ) from error
        return True


def fit_network(
    trainer: NetworkTrainer,
    loss: NetworkLoss,
    photos: PhotoFolder,
    held_out: PhotoFolder,
    rows: Sequence[str],
    state: Path,
    output: Path,
    *,
    progress: Listener,
    stop: Callable[[], bool],
) -> dict[str, float]:
    """Trains until all pictures were seen, and gives the mean terms of the averaged weights on held-out photographs.

    A killed run resumes from `state` and ends with the same weights. Beside the output, NAME.safetensors, NAME.jsonl
    gets means over 50 steps, and NAME.validation sheets of what the averaged weights draw.

    Raises TrainingStopped where `stop` said so, the state being saved, and TrainingDiverged.
    """
    settings, data = trainer.settings, NetworkData(photos, len(rows))
    if resumed := trainer.load(state, rows):
        log.info(f"going on: {trainer.step} steps were done, on {trainer.pictures} pictures")
    main = place()[0] == 0
    lines, pictures = output.with_suffix(".jsonl"), output.with_suffix(".validation")
    if main:
        cut_back(lines, pictures, trainer.step if resumed else 0)
    saved, sums, summed = time.monotonic(), dict[str, float](), 0
    with (
        reported(progress, f"training {output.stem}", settings.pictures) as advance,
        _read_ahead(data, settings, trainer, _readers(loss.weights.device)) as batches,
    ):
        advance(trainer.pictures)
        for batch in batches:
            terms = trainer.train(loss, batch, settings.rate(trainer.pictures, trainer.step))
            for name, value in (terms or {}).items():
                sums[name] = sums.get(name, 0.0) + value
            summed += terms is not None
            stopping = _any_process(stop(), loss.weights.device)
            means = {name: value / max(1, summed) for name, value in sums.items()}
            if trainer.step % _LOGGED == 0 and main:
                size = batch.clips.frames.shape[-1] if isinstance(batch, ClipBatch) else batch.photos.shape[-1]
                line = {"step": trainer.step, "pictures": trainer.pictures, "size": size, **means}
                with lines.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            if trainer.step % _LOGGED == 0:
                advance(trainer.pictures, note=named(means))
                sums, summed = {}, 0
            if main and (stopping or time.monotonic() - saved > settings.save_seconds):
                trainer.save(state, rows)
                saved = time.monotonic()
            if stopping:
                raise TrainingStopped(
                    f"stopped after {trainer.step} steps, which {state.parent} keeps; the same command goes on"
                )
            if main and trainer.step % settings.validate_every == 0:
                _validate(trainer, loss, held_out, pictures)
    if main:
        trainer.save(state, rows)
    return _validate(trainer, loss, held_out, pictures) if main else {}


def _readers(device: torch.device) -> int:
    """Threads that make batches: a processor trains slower than one makes them, a GPU faster than many."""
    if device.type != "cuda":
        return 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of torchrun, on this machine
    return max(1, (os.cpu_count() or 1) // processes - 1)


@contextmanager
def _read_ahead(
    data: NetworkData, settings: NetworkSettings, trainer: NetworkTrainer, readers: int
) -> Iterator[Iterator[Batch | ClipBatch]]:
    """The batches that are left, in their order, each of the readers making every so-manieth of them."""
    left = list(zip(count(trainer.step), range(trainer.pictures, settings.pictures, settings.batch), strict=False))
    with ExitStack() as stack:
        made = [
            stack.enter_context(Prefetcher(_batches(data, settings, left[reader::readers]), depth=2))
            for reader in range(readers)
        ]
        yield (next(made[number % readers]) for number in range(len(left)))


def _batches(
    data: NetworkData, settings: NetworkSettings, steps: Iterable[tuple[int, int]]
) -> Iterator[Batch | ClipBatch]:
    """Those of some steps, each with the pictures that were seen before it."""
    for step, pictures in steps:
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        side = settings.crop(pictures)
        if settings.length > 1:
            yield data.clips(settings.batch, side, settings.length, generator)
        else:
            yield data.batch(settings.batch, side, generator)


def _validate(trainer: NetworkTrainer, loss: NetworkLoss, held_out: PhotoFolder, folder: Path) -> dict[str, float]:
    """Mean terms of the averaged weights, of each style on one photograph, and a sheet of some in the folder."""
    network, device = trainer.network, loss.perceptual.mean.device
    trained = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(trainer.average)
    side, count = trainer.settings.crops[-1], len(loss.weights)
    photos = held_out.center_crops(side, side).to(device)
    sums: dict[str, float] = {}
    rows: list[list[Tensor]] = [[], []]
    with torch.no_grad(), autocast(device, trainer.settings.arithmetic):
        for row in range(count + 1):
            photo, number = photos[row % len(photos)][None], torch.tensor([row], device=device)
            drawn = network(photo, None, F.one_hot(number, count + 1).float())
            for name, term in (loss.painted(drawn, photo, number) if row < count else {}).items():
                sums[name] = sums.get(name, 0.0) + float(term) / count
            if row % max(1, count // _SHOWN) == 0 or row == count:
                rows[0].append(photo.cpu())
                rows[1].append(drawn.float().cpu())
    network.load_state_dict(trained)
    write_picture(folder / f"{trainer.step:07d}.png", contact_sheet(rows, ["", ""]))
    log.info(f"step {trainer.step}: validation {named(sums)}")
    return sums


def place() -> tuple[int, int]:
    """The number of this process and how many there are: (0, 1) without torchrun."""
    if not distributed.is_available() or not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def wait_for_all() -> None:
    """Goes on when every process of torchrun has come here."""
    if place()[1] > 1:
        distributed.barrier()


def _mean_of_processes(value: Tensor) -> None:
    if place()[1] > 1:
        distributed.all_reduce(value)
        value /= place()[1]


def _any_process(said: bool, device: torch.device) -> bool:
    if place()[1] == 1:
        return said
    votes = torch.tensor(float(said), device=device)
    distributed.all_reduce(votes)
    return bool(votes)
