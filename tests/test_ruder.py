"""Ruder's constraint on clips whose flow is known, and the contract that both optimisation baselines share."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from nststab.baselines.gatys import Gatys, GatysSettings
from nststab.baselines.ruder import Ruder, RuderSettings
from nststab.losses import LossSettings, PerceptualLoss, style_target
from nststab.stylizer import Stylizer
from nststab.vgg import PerceptualNetwork
from nststab.warp import reliability, warp

SHIFT = 2  # pixels to the right, each frame
LOOP = GatysSettings(iterations=12)


@pytest.fixture
def loss(tiny_vgg: PerceptualNetwork, generator: torch.Generator) -> PerceptualLoss:
    settings = LossSettings()
    style = torch.rand(1, 3, 32, 32, generator=generator)
    return PerceptualLoss(tiny_vgg, style_target(tiny_vgg, style, settings.style_layers), settings)


def translated(length: int) -> list[Tensor]:
    """A picture that moves to the right, with a little sensor noise of each frame's own."""
    generator = torch.Generator().manual_seed(3)
    wide = torch.rand(1, 3, 32, 32 + SHIFT * length, generator=generator)
    frames = [wide[..., SHIFT * (length - t) :][..., :32] for t in range(length)]
    return [(frame + 0.02 * torch.randn(frame.shape, generator=generator)).clamp(0, 1) for frame in frames]


def constant_flow(frame: Tensor, x: float) -> Tensor:
    flow = frame.new_zeros(1, 2, *frame.shape[-2:])
    flow[:, 0] = x
    return flow


class ExactFlow:
    """The flow between two frames of `translated`, in either direction."""

    def __init__(self, frames: list[Tensor]) -> None:
        self._frames = frames

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        return constant_flow(first, SHIFT * (self._index(second) - self._index(first)))

    def _index(self, frame: Tensor) -> int:
        return next(i for i, known in enumerate(self._frames) if known is frame)


def still(first: Tensor, second: Tensor) -> Tensor:
    assert first.shape == second.shape
    return constant_flow(first, 0)


def change_along_flow(results: list[Tensor]) -> float:
    """Mean squared distance of trusted pixels to the warped previous result."""
    backward = constant_flow(results[0], -SHIFT)
    mask = reliability(backward, -backward)
    assert 0.5 < mask.mean() < 1
    errors = [(mask * (b - warp(a, backward)).square()).mean().item() for a, b in pairwise(results)]
    return sum(errors) / len(errors)


def test_trusted_pixels_keep_near_to_the_previous_result(loss: PerceptualLoss) -> None:
    frames = translated(3)
    alone = change_along_flow(list(Gatys(loss, LOOP)(frames)))
    warm = change_along_flow(list(Ruder(loss, ExactFlow(frames), RuderSettings(LOOP, 12, 0.0))(frames)))
    tied = change_along_flow(list(Ruder(loss, ExactFlow(frames), RuderSettings(LOOP, 12))(frames)))
    assert tied < 0.5 * warm < 0.5 * alone


def test_later_frame_begins_with_the_previous_result_warped_by_the_backward_flow(loss: PerceptualLoss) -> None:
    """Disoccluded pixels included, as in the paper."""
    frames = translated(2)
    first, second = Ruder(loss, ExactFlow(frames), RuderSettings(LOOP, 0))(frames)
    assert torch.equal(first, next(Gatys(loss, LOOP)(frames)))
    assert torch.equal(second[..., SHIFT:], first[..., :-SHIFT])
    assert torch.equal(second[..., :SHIFT], first[..., :1].expand(-1, -1, -1, SHIFT))


def test_temporal_term_begins_at_zero_and_untrusted_pixels_are_free(loss: PerceptualLoss) -> None:
    frames = translated(2)
    terms: list[Mapping[str, float]] = []
    iterations: list[int] = []

    def log(iteration: int, values: Mapping[str, float]) -> None:
        iterations.append(iteration)
        terms.append(values)

    first, second = Ruder(loss, ExactFlow(frames), RuderSettings(LOOP, 40, 1e4), log)(frames)
    assert iterations == [*range(13), *range(41)]
    assert all("temporal" not in values for values in terms[:13])
    assert terms[13]["temporal"] == 0
    assert terms[14]["temporal"] > 0
    change = (second - warp(first, constant_flow(first, -SHIFT))).abs().mean(dim=1)  # (1, H, W)
    assert change[..., :SHIFT].mean() > 5 * change[..., 4:-4].mean()


def test_same_seed_same_clip(loss: PerceptualLoss) -> None:
    frames = translated(3)

    def run(seed: int) -> Tensor:
        settings = RuderSettings(GatysSettings(iterations=4, init="noise", seed=seed), 3)
        return torch.cat(list(Ruder(loss, ExactFlow(frames), settings)(frames)))

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_still_clip_stays_still(loss: PerceptualLoss) -> None:
    """Frames with noise of their own: Gatys passes it on, Ruder leaves a fifth of it."""
    generator = torch.Generator().manual_seed(4)
    picture = torch.rand(1, 3, 32, 32, generator=generator)
    frames = [(picture + 0.02 * torch.randn(picture.shape, generator=generator)).clamp(0, 1) for _ in range(3)]
    loop = GatysSettings(iterations=60)
    alone, tied = Gatys(loss, loop)(frames), Ruder(loss, still, RuderSettings(loop, 20))(frames)
    assert max(changes(tied)) < 0.2 * min(changes(alone))
    repeated = Ruder(loss, still, RuderSettings(loop, 20))([frames[0]] * 3)
    assert max(changes(repeated)) < 0.001


def changes(results: Iterable[Tensor]) -> list[float]:
    return [(after - before).abs().mean().item() for before, after in pairwise(results)]


def test_look_ahead_is_bounded(loss: PerceptualLoss) -> None:
    taken = 0

    def endless() -> Iterator[Tensor]:
        nonlocal taken
        while True:
            taken += 1
            yield torch.full((1, 3, 32, 32), 0.5)

    results = Ruder(loss, still, RuderSettings(GatysSettings(iterations=1), 1))(endless())
    for given in range(1, 13):
        next(results)
        assert taken <= given + 4


def test_each_call_is_a_new_shot(loss: PerceptualLoss) -> None:
    frames = translated(2)
    ruder = Ruder(loss, ExactFlow(frames), RuderSettings(GatysSettings(iterations=3), 2))
    once, again = list(ruder(frames)), list(ruder(frames))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@pytest.mark.parametrize("method", ["gatys", "ruder"])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 33), (5, 40), (1, 1)])
@pytest.mark.parametrize("init", ["content", "noise"])
def test_as_many_frames_of_the_same_size_in_range(
    loss: PerceptualLoss, generator: torch.Generator, method: str, height: int, width: int, init: str
) -> None:
    loop = GatysSettings(iterations=2, init=init)
    stylizer: Stylizer = Gatys(loss, loop) if method == "gatys" else Ruder(loss, still, RuderSettings(loop, 2))
    frames = [torch.rand(1, 3, height, width, generator=generator) for _ in range(3)]
    results = list(stylizer(iter(frames)))
    assert [result.shape for result in results] == [frame.shape for frame in frames]
    for result in results:
        assert result.dtype == torch.float32
        assert not result.requires_grad
        assert 0 <= result.min() <= result.max() <= 1
    assert list(stylizer([])) == []


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="temporal_weight of at least 0, got -1"):
        RuderSettings(temporal_weight=-1)
    with pytest.raises(ValueError, match="later_iterations of at least 0, got -5"):
        RuderSettings(later_iterations=-5)
