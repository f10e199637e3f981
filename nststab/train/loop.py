"""Training: one loop for every stage, that survives a kill."""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from nststab.datasets.folders import PhotoFolder
from nststab.datasets.synthetic import SyntheticSettings
from nststab.engines.torch_engine import autocast
from nststab.errors import NststabError
from nststab.losses import LossSettings, StyleTarget
from nststab.networks.transformation import TransformationNetwork
from nststab.storage.durable import write_durably
from nststab.storage.jobs import Job
from nststab.train.settings import TrainingSettings
from nststab.vgg import PerceptualNetwork
from nststab.video.threads import Prefetcher

SKIPPED_IN_A_ROW = 10
STATE, PHOTOS = "state.pt", "photos.json"  # in the folder of a job


class TrainingDiverged(NststabError):
    """Loss or gradient was not finite for several steps in a row."""


class TrainingStopped(Exception):
    """A training ended early because it was told to; its state is saved, and the message says where."""


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


Report = Callable[[int, Mapping[str, float]], None]
Validated = Callable[[int, Validation], None]


def fit(
    network: TransformationNetwork,
    stage: Stage,
    settings: TrainingSettings,
    job: Job,
    *,
    begun: Callable[[int], None] | None = None,
    report: Report | None = None,
    validated: Validated | None = None,
    stop: Callable[[], bool] | None = None,
) -> int:
    """Trains `network` in place with Adam; a killed run resumes from the state in `job` and ends with the same weights.

    Data depends on the seed and the step alone, so the step is the random state. The job's identity says which run the
    state belongs to (`training_identity`). The state is left when done: a second call only validates.

    Args:
        begun: is told first how many steps were done before.
        report: gets each step's terms.
        validated: gets every validation, the first before training and the last after it.
        stop: asked after each step whether to save the state and return.

    Returns:
        The number of steps done, all unless `stop` said so.

    Raises:
        NststabError: the state is damaged. OSError: it cannot be saved; the one before stays. TrainingDiverged: the
        loss stayed not finite.
    """
    if next(network.parameters()).device.type == "cuda":  # on a CPU instance normalisation copies it back each time
        network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate)
    state = job.folder / STATE
    start = _resume(network, optimizer, state)
    if begun:
        begun(start)
    if validated and start in (0, settings.steps):
        validated(start, _validate(network, stage, settings))
    skipped, saved = 0, time.monotonic()
    with Prefetcher(_batches(stage, settings, start), depth=2) as batches:
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
            stopping = stop is not None and stop()
            if stopping or time.monotonic() - saved > settings.save_seconds or done == settings.steps:
                _save(network, optimizer, state, done)
                saved = time.monotonic()
            if stopping:
                return done
    return settings.steps


def training_identity(
    record: Mapping[str, Any],
    network: TransformationNetwork,
    target: StyleTarget,
    vgg: PerceptualNetwork,
    photos: PhotoFolder,
) -> dict[str, Any]:
    """What a training is of, as JSON values: the settings in `record`, and the contents that decide the result.

    A run goes on only with the same. `network` is what it begins with.
    """
    return {
        **record,
        "network": asdict(network.config),
        "perceptual": vgg.fingerprint,
        "style_content": _digest(target.values()),
        "start_network": _digest(network.state_dict().values()),
        "photo_files": _names(photos),
    }


def usual_identity(settings: type[TrainingSettings]) -> dict[str, Any]:
    """The parts of an identity that are settings, with their defaults: what a run counts by that was begun without."""
    return {
        "settings": settings().identity(),
        "loss": asdict(LossSettings()),
        "synthetic": asdict(SyntheticSettings()),
    }


def _digest(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _names(photos: PhotoFolder) -> str:
    """Tells folders of photographs apart by names and sizes: reading them all would take minutes."""
    files = [(path.name, photos.lengths[path]) for path in photos.paths]
    return hashlib.blake2b(repr(files).encode(), digest_size=8).hexdigest()


def _gradients(
    network: TransformationNetwork,
    stage: Stage,
    settings: TrainingSettings,
    optimizer: torch.optim.Optimizer,
    batch: Any,
) -> dict[str, float]:
    """Leaves the gradient of the summed terms in the parameters and returns the terms."""
    optimizer.zero_grad(set_to_none=True)
    with autocast(next(network.parameters()).device, settings.arithmetic):
        terms = stage.loss(network, batch)
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    return {name: float(term.detach()) for name, term in terms.items()}


def _batches(stage: Stage, settings: TrainingSettings, start: int) -> Iterator[tuple[int, Any]]:
    for step in range(start, settings.steps):
        yield step, stage.batch(torch.Generator().manual_seed(settings.seed * 1_000_003 + step))


def _validate(network: TransformationNetwork, stage: Stage, settings: TrainingSettings) -> Validation:
    network.eval()
    with torch.no_grad(), autocast(next(network.parameters()).device, settings.arithmetic):
        result = stage.validate(network)
    network.train()
    return result


def _finite(network: TransformationNetwork, terms: Mapping[str, float]) -> bool:
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    return all(map(math.isfinite, terms.values())) and all(bool(gradient.isfinite().all()) for gradient in gradients)


def _save(network: TransformationNetwork, optimizer: torch.optim.Adam, state: Path, step: int) -> None:
    file = BytesIO()
    torch.save({"step": step, "network": network.state_dict(), "optimizer": optimizer.state_dict()}, file)
    write_durably(state, file.getvalue())


def _resume(network: TransformationNetwork, optimizer: torch.optim.Adam, state: Path) -> int:
    """Loads the state, if there is one, and returns the number of steps done."""
    saved = read_state(state)
    if saved is None:
        return 0
    network.load_state_dict(saved["network"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"])


def read_state(path: Path) -> dict[str, Any] | None:
    """What a training has saved, with the number of steps as "step"; None where there is no file of that name."""
    if not path.is_file():
        return None
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        int(saved["step"])
    except Exception as error:  # a foreign or damaged pickle can raise anything
        raise NststabError(f"{path} is no training state; delete it or choose another output") from error
    return saved
