"""Training: one loop that survives a kill, an image stage and a video stage (Gupta et al. 2017, sections 4 and 5)."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from nststab._threads import Ahead
from nststab.datasets import PhotoFolder, SintelClips
from nststab.layers import FlowClip
from nststab.losses import PerceptualLoss, temporal_loss
from nststab.networks import TransformationNetwork
from nststab.stylizer import Precision, autocast
from nststab.synthetic import SyntheticSettings, make_clip

SKIPPED_IN_A_ROW = 10


class TrainingDiverged(ValueError):
    """Loss or gradient was not finite for several steps in a row."""


@dataclass(frozen=True)
class TrainingSettings:
    """What both stages share. The learning rate falls to zero on a half cosine, after a short warm-up.

    The paper keeps Adam's 1e-3 to the end; the fall ends at a lower loss in as many steps.
    """

    steps: int = 6000
    batch: int = 1
    height: int = 256
    width: int = 256
    learning_rate: float = 1e-3
    seed: int = 0
    precision: Precision = "bfloat16"
    validate_every: int = 500
    save_seconds: float = 120.0

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        warm_up = min(1.0, (step + 1) / 50)
        return self.learning_rate * warm_up * 0.5 * (1 + math.cos(math.pi * step / self.steps))


@dataclass(frozen=True)
class Validation:
    """Mean loss terms on held-out data, and pictures to look at: rows of (1, 3, H, W)."""

    terms: Mapping[str, float]
    rows: list[list[Tensor]]


class Stage(Protocol):
    """What is trained: data determined by the step's generator, and its loss."""

    def batch(self, generator: torch.Generator) -> Any: ...

    def loss(self, network: TransformationNetwork, batch: Any) -> dict[str, Tensor]: ...

    def validate(self, network: TransformationNetwork) -> Validation: ...


class ImageStage:
    """Photographs, content and style loss: Johnson et al. 2016.

    `held_out` (N, 3, H, W) are the pictures of the validation.
    """

    def __init__(
        self,
        photos: PhotoFolder,
        loss: PerceptualLoss,
        settings: TrainingSettings,
        device: torch.device,
        held_out: Tensor,
    ) -> None:
        self._photos = photos
        self._loss = loss
        self._settings = settings
        self._device = device
        self._held_out = held_out

    def batch(self, generator: torch.Generator) -> Tensor:
        return self._photos.crops(self._settings.batch, self._settings.height, self._settings.width, generator)

    def loss(self, network: TransformationNetwork, batch: Tensor) -> dict[str, Tensor]:
        photos = batch.to(self._device)
        return self._loss(network(photos), self._loss.content_targets(photos))

    def validate(self, network: TransformationNetwork) -> Validation:
        terms, rows = [], []
        for photo in torch.split(self._held_out.to(self._device), 1):
            output = network(photo)
            terms.append(self._loss(output, self._loss.content_targets(photo)))
            rows.append([photo.cpu(), output.float().cpu()])
        return Validation(_mean(terms), rows)


@dataclass(frozen=True)
class VideoSettings:
    """What the video stage adds.

    `temporal_weight` weighs eq. (6) as written, summed over channels and divided by H·W, in the mean over pairs.
    `sintel_share` of the clips are Sintel's where there are any.
    """

    temporal_weight: float = 100.0
    sintel_share: float = 0.2


@dataclass(frozen=True)
class VideoData:
    """Clips of the video stage: synthetic ones from photographs, mixed with Sintel's."""

    photos: PhotoFolder
    synthetic: SyntheticSettings
    sintel: SintelClips | None = None
    sintel_share: float = 0.0

    def clips(self, count: int, generator: torch.Generator) -> FlowClip:
        """`count` clips (N = count), determined by the generator."""
        return FlowClip(
            *(torch.cat(parts) for parts in zip(*(self._clip(generator) for _ in range(count)), strict=True))
        )

    def _clip(self, generator: torch.Generator) -> FlowClip:
        size = self.synthetic
        if self.sintel and float(torch.rand((), generator=generator)) < self.sintel_share:
            return self.sintel.clip(size.height, size.width, generator, size.length)
        indices = torch.randint(len(self.photos), (1 + size.cutouts[1],), generator=generator).tolist()
        return make_clip([self.photos.photo(index) for index in indices], size, generator)


class VideoStage:
    """Clips, content, style and temporal loss, back-propagated through all the frames: Gupta et al. 2017, eq. (5)-(7).

    The recurrence p_t = f(p_{t-1}, c_t) is unrolled over the whole clip, from p_0 = 0, and nothing is detached: the
    temporal loss of a late frame reaches the first one. Content and style are means over frames, temporal over the
    pairs that have flow.
    """

    def __init__(
        self,
        data: VideoData,
        loss: PerceptualLoss,
        video: VideoSettings,
        settings: TrainingSettings,
        device: torch.device,
        held_out: FlowClip,
    ) -> None:
        self._data = data
        self._loss = loss
        self._video = video
        self._settings = settings
        self._device = device
        self._held_out = held_out

    def batch(self, generator: torch.Generator) -> FlowClip:
        return self._data.clips(self._settings.batch, generator)

    def loss(self, network: TransformationNetwork, batch: FlowClip) -> dict[str, Tensor]:
        return self._unrolled(network, batch)[0]

    def validate(self, network: TransformationNetwork) -> Validation:
        terms, rows = [], []
        for index in range(len(self._held_out.frames)):
            clip = FlowClip(*(part[index : index + 1] for part in self._held_out))
            term, pictures = self._unrolled(network, clip)
            terms.append(term)
            rows.append([*torch.split(clip.frames[0], 1)] + [picture.float().cpu() for picture in pictures])
        return Validation(_mean(terms), rows)

    def _unrolled(self, network: TransformationNetwork, clip: FlowClip) -> tuple[dict[str, Tensor], list[Tensor]]:
        frames, forward, mask = (part.to(self._device) for part in clip)  # (N, T, 3, H, W), (N, T-1, 2 | 1, H, W)
        pictures: list[Tensor] = []
        for frame in frames.unbind(1):
            pictures.append(network(frame, pictures[-1] if pictures else None))
        stacked = torch.stack(pictures, dim=1)  # (N, T, 3, H, W)
        terms = self._loss(stacked.flatten(0, 1), self._loss.content_targets(frames.flatten(0, 1)))
        pairs = (stacked[:, 1:], stacked[:, :-1], forward, mask)
        change = temporal_loss(*(part.flatten(0, 1) for part in pairs))
        with_flow = mask.flatten(2).any(dim=2).float().mean().clamp_min(0.01)  # of Sintel's pairs not every one has
        return terms | {"temporal": self._video.temporal_weight * change / with_flow}, pictures


Report = Callable[[int, Mapping[str, float]], None]
Validated = Callable[[int, Validation], None]


def fit(
    network: TransformationNetwork,
    stage: Stage,
    settings: TrainingSettings,
    state: Path,
    identity: Mapping[str, Any],
    *,
    report: Report | None = None,
    validated: Validated | None = None,
) -> None:
    """Trains `network` in place with Adam; a killed run goes on from `state` and ends with the same weights.

    Data depends on the seed and the step alone, so the step is the random state. `identity`, JSON values, says which
    run the state belongs to: style, data, weights. `report` gets each step's terms, `validated` every validation, the
    first before training and the last after it. The state file is left when done: a second call only validates.

    Raises:
        ValueError: the state belongs to another run. TrainingDiverged: the loss stayed not finite.
    """
    if next(network.parameters()).device.type == "cuda":  # on a CPU instance normalisation copies it back each time
        network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate)
    run = json.dumps({**identity, "settings": asdict(settings)}, sort_keys=True)
    start = _resume(network, optimizer, run, state)
    if validated and start in (0, settings.steps):
        validated(start, _validate(network, stage, settings))
    skipped, saved = 0, time.monotonic()
    with Ahead(_batches(stage, settings, start), depth=2) as batches:
        for step, batch in batches:
            optimizer.param_groups[0]["lr"] = settings.rate(step)
            terms = _gradients(network, stage, settings, optimizer, batch)
            if _finite(network, terms):
                optimizer.step()
                skipped = 0
            else:
                skipped += 1
                if skipped == SKIPPED_IN_A_ROW:
                    raise TrainingDiverged(f"not finite for {skipped} steps in a row, at step {step + 1}: {terms}")
            done = step + 1
            if report:
                report(done, terms)
            if validated and (done % settings.validate_every == 0 or done == settings.steps):
                validated(done, _validate(network, stage, settings))
            if time.monotonic() - saved > settings.save_seconds or done == settings.steps:
                _save(network, optimizer, run, state, done)
                saved = time.monotonic()


def _gradients(
    network: TransformationNetwork,
    stage: Stage,
    settings: TrainingSettings,
    optimizer: torch.optim.Optimizer,
    batch: Any,
) -> dict[str, float]:
    """Leaves the gradient of the summed terms in the parameters and returns the terms."""
    optimizer.zero_grad(set_to_none=True)
    with autocast(next(network.parameters()).device, settings.precision):
        terms = stage.loss(network, batch)
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    return {name: float(term.detach()) for name, term in terms.items()}


def _batches(stage: Stage, settings: TrainingSettings, start: int) -> Iterator[tuple[int, Any]]:
    for step in range(start, settings.steps):
        yield step, stage.batch(torch.Generator().manual_seed(settings.seed * 1_000_003 + step))


def _validate(network: TransformationNetwork, stage: Stage, settings: TrainingSettings) -> Validation:
    network.eval()
    with torch.no_grad(), autocast(next(network.parameters()).device, settings.precision):
        result = stage.validate(network)
    network.train()
    return result


def _finite(network: TransformationNetwork, terms: Mapping[str, float]) -> bool:
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    return all(map(math.isfinite, terms.values())) and all(bool(gradient.isfinite().all()) for gradient in gradients)


def _mean(terms: list[dict[str, Tensor]]) -> dict[str, float]:
    return {name: sum(float(term[name]) for term in terms) / len(terms) for name in terms[0]}


def _save(network: TransformationNetwork, optimizer: torch.optim.Adam, run: str, state: Path, step: int) -> None:
    part = state.with_name(state.name + ".part")
    try:
        torch.save(
            {"step": step, "run": run, "network": network.state_dict(), "optimizer": optimizer.state_dict()}, part
        )
        os.replace(part, state)
    finally:
        part.unlink(missing_ok=True)


def _resume(network: TransformationNetwork, optimizer: torch.optim.Adam, run: str, state: Path) -> int:
    """Loads the state, if there is one, and returns the number of steps done."""
    if not state.is_file():
        return 0
    try:
        saved = torch.load(state, map_location="cpu", weights_only=True)
        owner = saved["run"]
    except Exception as error:  # a foreign or damaged pickle can raise anything
        raise ValueError(f"{state} is no training state; delete it or choose another output") from error
    if owner != run:
        raise ValueError(f"{state} belongs to a run with other settings; delete it or choose another output")
    network.load_state_dict(saved["network"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"])
