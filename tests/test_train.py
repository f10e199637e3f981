"""Training: losses fall, a killed run ends with the same weights, NaN is survived, clips are back-propagated whole."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.datasets.folders import PhotoFolder
from nststab.datasets.layers import FlowClip
from nststab.datasets.synthetic import SyntheticSettings
from nststab.errors import NststabError
from nststab.losses import PerceptualLoss, temporal_loss
from nststab.networks.transformation import NetworkConfig, TransformationNetwork, make_recurrent, with_margin
from nststab.storage.jobs import Job, open_job
from nststab.train.loop import (
    SKIPPED_IN_A_ROW,
    STATE,
    Stage,
    TrainingDiverged,
    Validation,
    fit,
    training_identity,
)
from nststab.train.settings import TrainingSettings, VideoSettings
from nststab.train.stages import ImageStage, VideoData, VideoStage
from nststab.vgg import PerceptualNetwork
from tests.conftest import TINY, rand, save_frames, tiny_loss, tiny_state_dict, tiny_target

CPU = torch.device("cpu")
TINY_RECURRENT = replace(TINY, recurrent=True)
SETTINGS = TrainingSettings(
    steps=6, batch=2, height=32, width=32, precision="float32", validate_every=4, save_seconds=1e9
)
VIDEO = VideoSettings(steps=6, height=32, width=32, precision="float32", validate_every=4, save_seconds=1e9)
CLIPS = SyntheticSettings(length=4, height=32, width=32, still_clips=0)


def network(config: NetworkConfig = TINY, seed: int = 0) -> TransformationNetwork:
    torch.manual_seed(seed)
    return TransformationNetwork(config)


@pytest.fixture
def photos(tmp_path: Path) -> PhotoFolder:
    smooth = [F.interpolate(rand(1, 3, 5, 5, seed=seed), (40, 44), mode="bilinear") for seed in range(4)]
    return PhotoFolder(save_frames(tmp_path / "photos", smooth, "{}.png"))


@pytest.fixture
def loss() -> PerceptualLoss:
    return tiny_loss(rand(1, 3, 32, 32, seed=9))


@pytest.fixture
def image_stage(photos: PhotoFolder, loss: PerceptualLoss) -> ImageStage:
    return ImageStage(photos, loss, SETTINGS, CPU, photos.center_crops(32, 32)[:2])


@pytest.fixture
def video_stage(photos: PhotoFolder, loss: PerceptualLoss) -> VideoStage:
    data = VideoData(photos, CLIPS)
    return VideoStage(data, loss, VIDEO, CPU, data.clips(2, torch.Generator().manual_seed(5)))


def same(first: TransformationNetwork, second: TransformationNetwork) -> bool:
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


def opened(folder: Path) -> Job:
    return open_job(folder, {})


def trained(stage: Stage, folder: Path, start: TransformationNetwork, **options: Any) -> TransformationNetwork:
    with opened(folder) as job:
        fit(start, stage, options.pop("settings", SETTINGS), job, **options)
    return start


# The loop


def test_the_image_loss_falls(image_stage: ImageStage, tmp_path: Path) -> None:
    validations: dict[int, Validation] = {}
    settings = replace(SETTINGS, steps=30, learning_rate=0.02, validate_every=30)
    trained(image_stage, tmp_path / "state", network(), settings=settings, validated=validations.__setitem__)
    before, after = (sum(validations[step].terms.values()) for step in (0, 30))
    assert after < 0.7 * before


def test_the_video_loss_falls(video_stage: VideoStage, tmp_path: Path) -> None:
    validations: dict[int, Validation] = {}
    settings = replace(SETTINGS, steps=12, batch=1, learning_rate=0.05, validate_every=12)
    start = make_recurrent(network())
    trained(video_stage, tmp_path / "state", start, settings=settings, validated=validations.__setitem__)
    first, last = validations[0].terms, validations[12].terms
    assert sorted(first) == ["content", "style", "temporal"]
    assert sum(last.values()) < 0.8 * sum(first.values())
    assert last["temporal"] < first["temporal"]


def test_the_seed_determines_the_weights(image_stage: ImageStage, tmp_path: Path) -> None:
    first = trained(image_stage, tmp_path / "a", network())
    torch.manual_seed(1234)  # the global generator has no part in it
    start = network()
    torch.manual_seed(77)
    assert same(first, trained(image_stage, tmp_path / "b", start))
    other = trained(image_stage, tmp_path / "c", network(), settings=replace(SETTINGS, seed=1))
    assert not same(first, other)


class Killed(Exception):
    """Stands for the signal."""


def kill_at(step: int) -> Callable[[int, Mapping[str, float]], None]:
    def report(done: int, _terms: Mapping[str, float]) -> None:
        if done == step:
            raise Killed

    return report


def test_a_finished_run_only_validates(image_stage: ImageStage, tmp_path: Path) -> None:
    validations: dict[int, Validation] = {}
    finished = trained(image_stage, tmp_path / "state", network(), validated=validations.__setitem__)
    again: dict[int, Validation] = {}
    start = network(seed=3)
    trained(image_stage, tmp_path / "state", start, report=kill_at(1), validated=again.__setitem__)
    assert same(start, finished)
    assert list(again) == [6]
    assert again[6].terms == validations[6].terms


def test_a_training_is_known_by_all_that_decides_it(photos: PhotoFolder, tiny_vgg: PerceptualNetwork) -> None:
    target = tiny_target(rand(1, 3, 32, 32, seed=9))
    brighter = {**target, "relu1_2": target["relu1_2"] * 1.01}
    other_vgg = PerceptualNetwork(tiny_state_dict(1))
    same_photos = PhotoFolder(photos.paths[0].parent)
    first = training_identity({"style": "wave"}, network(), target, tiny_vgg, photos)
    assert first == training_identity({"style": "wave"}, network(), dict(target), tiny_vgg, same_photos)
    others = [
        training_identity({"style": "scream"}, network(), target, tiny_vgg, photos),
        training_identity({"style": "wave"}, network(seed=1), target, tiny_vgg, photos),
        training_identity({"style": "wave"}, with_margin(network(), 8), target, tiny_vgg, photos),
        training_identity({"style": "wave"}, network(), brighter, tiny_vgg, photos),
        training_identity({"style": "wave"}, network(), target, other_vgg, photos),
        training_identity({"style": "wave"}, network(), target, tiny_vgg, photos.hold_out()[0]),
    ]
    for other in others:
        assert len([name for name in first if other[name] != first[name]]) == 1
    assert "save_seconds" not in SETTINGS.identity()  # how often it is saved decides nothing


def test_a_stopped_run_ends_with_the_same_weights(image_stage: ImageStage, tmp_path: Path) -> None:
    undisturbed = trained(image_stage, tmp_path / "a", network())
    asked: list[int] = []

    def stop() -> bool:
        asked.append(len(asked))
        return len(asked) == 3

    with opened(tmp_path / "b") as job:
        assert fit(network(), image_stage, SETTINGS, job, stop=stop) == 3
    resumed = network(seed=5)
    with opened(tmp_path / "b") as job:
        assert fit(resumed, image_stage, SETTINGS, job, begun=asked.append, stop=stop) == 6
    assert asked == [0, 1, 2, 3, 4, 5, 6]
    assert same(resumed, undisturbed)


@pytest.mark.parametrize("content", [b"", b"Dear diary\n" * 9, b"PK\x03\x04"])
def test_a_file_that_is_no_state_is_refused(image_stage: ImageStage, tmp_path: Path, content: bytes) -> None:
    with opened(tmp_path / "job") as job:
        state = job.folder / STATE
        state.write_bytes(content)
        with pytest.raises(NststabError, match=r"state\.pt is no training state"):
            fit(network(), image_stage, SETTINGS, job)
    assert state.read_bytes() == content


def test_reports_and_validations_come_in_order(image_stage: ImageStage, tmp_path: Path) -> None:
    events: list[tuple[str, int]] = []
    start = network()
    modes: list[bool] = []

    def report(step: int, terms: Mapping[str, float]) -> None:
        assert sorted(terms) == ["content", "style"]
        events.append(("report", step))

    def validated(step: int, validation: Validation) -> None:
        assert [[picture.shape for picture in row] for row in validation.rows] == [[(1, 3, 32, 32)] * 2] * 2
        assert not validation.rows[0][1].requires_grad
        events.append(("validated", step))
        modes.append(torch.is_grad_enabled())

    trained(image_stage, tmp_path / "state", start, report=report, validated=validated)
    expected = [("validated", 0), *(("report", step) for step in range(1, 7))]
    expected.insert(5, ("validated", 4))
    assert events == [*expected, ("validated", 6)]
    assert modes == [True] * 3  # validation leaves the mode as it was
    assert start.training


def test_the_learning_rate_warms_up_then_falls_on_a_half_cosine() -> None:
    settings = TrainingSettings(steps=1000, learning_rate=2e-3)
    assert settings.rate(0) == pytest.approx(2e-3 / 50)
    assert settings.rate(24) == pytest.approx(1e-3, rel=0.01)
    assert settings.rate(500) == pytest.approx(1e-3)
    assert settings.rate(250) == pytest.approx(2e-3 * (1 + math.sqrt(0.5)) / 2)
    assert 0 < settings.rate(999) < 1e-8
    rates = [settings.rate(step) for step in range(49, 1000)]
    assert rates == sorted(rates, reverse=True)


class Broken:
    """A stage whose loss (or only whose gradient) is NaN in some steps."""

    def __init__(self, steps: Iterable[int], gradient_only: bool = False) -> None:
        self._steps = set(steps)
        self._gradient_only = gradient_only
        self._calls = 0

    def batch(self, generator: torch.Generator) -> Tensor:
        return torch.rand(1, 3, 16, 16, generator=generator)

    def loss(self, network: TransformationNetwork, batch: Tensor) -> dict[str, Tensor]:
        self._calls += 1
        output = network(batch)
        if self._calls in self._steps:
            # the gradient of sqrt at 0 is infinite, times 0 it is NaN, while the value is fine
            output = (output * 0).sqrt() if self._gradient_only else output * math.nan
        return {"content": output.square().mean()}

    def validate(self, network: TransformationNetwork) -> Validation:
        return Validation({"content": float(self.loss(network, torch.rand(1, 3, 16, 16))["content"])}, [])


@pytest.mark.parametrize("gradient_only", [False, True])
def test_one_nan_is_skipped(tmp_path: Path, gradient_only: bool) -> None:
    snapshots: list[dict[str, Tensor]] = []
    model = network()

    def report(_step: int, _terms: Mapping[str, float]) -> None:
        snapshots.append({name: value.clone() for name, value in model.state_dict().items()})

    trained(Broken([3], gradient_only), tmp_path / "state", model, report=report)
    moved = [any(not torch.equal(a[name], b[name]) for name in a) for a, b in itertools.pairwise(snapshots)]
    assert moved == [True, False, True, True, True]
    assert all(bool(value.isfinite().all()) for value in snapshots[-1].values())


def test_nan_in_a_row_ends_the_training(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=40)
    model = network()
    with pytest.raises(TrainingDiverged, match=rf"not finite for {SKIPPED_IN_A_ROW} steps in a row, at step 14"):
        trained(Broken(range(5, 40)), tmp_path / "state", model, settings=settings)
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
    scattered = [step for step in range(1, 40) if step % SKIPPED_IN_A_ROW]
    trained(Broken(scattered), tmp_path / "other", network(), settings=settings)  # never ten in a row


def test_training_in_bfloat16_keeps_float32_weights(image_stage: ImageStage, tmp_path: Path) -> None:
    terms: list[float] = []
    settings = replace(SETTINGS, precision="bfloat16", steps=3)
    model = trained(
        image_stage,
        tmp_path / "state",
        network(),
        settings=settings,
        report=lambda _, values: terms.append(sum(values.values())),
    )
    exact: list[float] = []
    trained(
        image_stage,
        tmp_path / "exact",
        network(),
        settings=replace(settings, precision="float32"),
        report=lambda _, values: exact.append(sum(values.values())),
    )
    assert terms == pytest.approx(exact, rel=0.05)
    assert terms != exact
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}


# The video stage


def moving_clip(length: int = 4) -> FlowClip:
    """A smooth texture that moves by whole pixels, without occlusion but at the border."""
    texture = torch.nn.functional.interpolate(rand(1, 3, 6, 6), (32, 32), mode="bilinear")
    frames = torch.stack([texture.roll((t, 2 * t), (-2, -1)) for t in range(length)], 1)
    forward = torch.tensor([2.0, 1.0]).view(1, 1, 2, 1, 1).expand(1, length - 1, 2, 32, 32).contiguous()
    mask = torch.zeros(1, length - 1, 1, 32, 32)
    mask[..., :-1, :-2] = 1
    return FlowClip(frames, forward, mask)


def gradients(total: Tensor, model: TransformationNetwork) -> list[Tensor]:
    return list(torch.autograd.grad(total, list(model.parameters())))


def by_hand(model: TransformationNetwork, loss: PerceptualLoss, clip: FlowClip, detached: bool) -> dict[str, Tensor]:
    """Eq. (5) for four frames, written out; `detached` cuts what runs through the recurrence."""
    cut: Callable[[Tensor], Tensor] = Tensor.detach if detached else (lambda picture: picture)
    c = [clip.frames[:, t] for t in range(4)]
    p1 = model(c[0], torch.zeros_like(c[0]))
    p2 = model(c[1], cut(p1))
    p3 = model(c[2], cut(p2))
    p4 = model(c[3], cut(p3))
    perceptual = [loss(p, loss.content_targets(frame)) for p, frame in zip((p1, p2, p3, p4), c, strict=True)]
    pairs = [(p2, p1), (p3, p2), (p4, p3)]
    changes = [temporal_loss(b, a, clip.forward[:, t], clip.mask[:, t]) for t, (b, a) in enumerate(pairs)]
    return {
        "content": sum((terms["content"] for terms in perceptual), torch.zeros(())) / 4,
        "style": sum((terms["style"] for terms in perceptual), torch.zeros(())) / 4,
        "temporal": 100 * sum(changes, torch.zeros(())) / 3,
    }


def test_back_propagation_goes_through_the_whole_clip(video_stage: VideoStage, loss: PerceptualLoss) -> None:
    model, clip = network(TINY_RECURRENT), moving_clip()
    terms = video_stage.loss(model, clip)
    expected, detached = by_hand(model, loss, clip, False), by_hand(model, loss, clip, True)
    for name, value in expected.items():
        assert torch.allclose(terms[name], value, rtol=1e-5), name
        assert torch.allclose(detached[name], value, rtol=1e-5), name  # only gradients tell them apart
    found = gradients(sum(terms.values(), torch.zeros(())), model)
    whole = gradients(sum(expected.values(), torch.zeros(())), model)
    cut = gradients(sum(detached.values(), torch.zeros(())), model)
    size = torch.cat([gradient.flatten() for gradient in whole]).norm()
    error = torch.cat([(a - b).flatten() for a, b in zip(found, whole, strict=True)]).norm() / size
    difference = torch.cat([(a - b).flatten() for a, b in zip(cut, whole, strict=True)]).norm() / size
    assert error < 1e-4
    assert difference > 1e-2


def test_the_temporal_weight_weighs_the_temporal_term_only(photos: PhotoFolder, loss: PerceptualLoss) -> None:
    terms = []
    for weight in (10.0, 40.0):
        stage = VideoStage(VideoData(photos, CLIPS), loss, replace(VIDEO, temporal_weight=weight), CPU, moving_clip())
        terms.append(stage.loss(network(TINY_RECURRENT), moving_clip()))
    assert torch.allclose(terms[1]["temporal"], 4 * terms[0]["temporal"])
    assert terms[1]["content"] == terms[0]["content"]
    assert terms[1]["style"] == terms[0]["style"]


class FakeSintel:
    """Clips that are recognised by their colour."""

    def clip(self, height: int, width: int, _generator: torch.Generator, length: int = 4) -> FlowClip:
        return FlowClip(
            torch.full((1, length, 3, height, width), 2.0),
            torch.zeros(1, length - 1, 2, height, width),
            torch.zeros(1, length - 1, 1, height, width),
        )


def test_clips_are_mixed_by_share_and_determined_by_the_generator(photos: PhotoFolder) -> None:
    data = VideoData(photos, CLIPS, FakeSintel(), 0.6)  # type: ignore[arg-type]
    clips = data.clips(40, torch.Generator().manual_seed(1))
    assert clips.frames.shape == (40, 4, 3, 32, 32)
    assert clips.forward.shape == (40, 3, 2, 32, 32)
    assert clips.mask.shape == (40, 3, 1, 32, 32)
    share = (clips.frames.flatten(1).amin(1) == 2).float().mean()
    assert 0.4 < share < 0.8
    again = data.clips(8, torch.Generator().manual_seed(1))
    assert all(torch.equal(a[:8], b) for a, b in zip(clips, again, strict=True))
    alone = VideoData(photos, CLIPS).clips(4, torch.Generator().manual_seed(1))
    assert alone.frames.max() <= 1


def test_video_validation_shows_frames_then_pictures(video_stage: VideoStage) -> None:
    with torch.no_grad():
        validation = video_stage.validate(network(TINY_RECURRENT))
    assert len(validation.rows) == 2
    assert all([picture.shape for picture in row] == [(1, 3, 32, 32)] * 8 for row in validation.rows)
