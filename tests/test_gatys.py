"""Optimising pixels: the loop by known minima and hostile losses, Gatys by what it promises."""

import math
from collections.abc import Callable, Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.baselines.gatys import INTERVAL, SMALLEST_SCALE, Diverged, Gatys, objective, optimize
from nststab.baselines.settings import GatysSettings
from nststab.losses import LossSettings, PerceptualLoss, style_target, total_variation
from nststab.vgg import PerceptualNetwork
from tests.conftest import stylized

OPTIMIZERS = ("lbfgs", "adam")


class Log:
    """A callback which keeps the sum of the terms of each iteration."""

    def __init__(self) -> None:
        self.iterations: list[int] = []
        self.names: list[tuple[str, ...]] = []
        self.losses: list[float] = []

    def __call__(self, iteration: int, terms: Mapping[str, float]) -> None:
        self.iterations.append(iteration)
        self.names.append(tuple(terms))
        self.losses.append(sum(terms.values()))


@pytest.fixture
def loss(tiny_vgg: PerceptualNetwork, generator: torch.Generator) -> PerceptualLoss:
    return perceptual_loss(tiny_vgg, generator)


def perceptual_loss(
    network: PerceptualNetwork, generator: torch.Generator, style_weight: float = 2.0
) -> PerceptualLoss:
    settings = LossSettings(style_weight=style_weight)
    style = torch.rand(1, 3, 32, 32, generator=generator)
    return PerceptualLoss(network, style_target(network, style, settings.style_layers), settings)


def picture(seed: int = 1, height: int = 32, width: int = 32) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def distance(target: Tensor) -> dict[str, Tensor]:
    return {"distance": target.square().mean()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_known_minimum_is_found(optimizer: str) -> None:
    target = picture(2)
    settings = GatysSettings(iterations=100 if optimizer == "lbfgs" else 300, optimizer=optimizer, tolerance=0)
    result = optimize(picture(3), lambda pixels: distance(pixels - target), settings)
    assert (result - target).abs().max() < 1e-3


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_minimum_outside_the_range_is_met_at_its_border(optimizer: str) -> None:
    """x₁ + x₂ = 1.5 with x₁ drawn to 2: clamping the free minimum (2, -0.5) gives (1, 0), the true one is (1, 0.5)."""
    settings = GatysSettings(iterations=200, optimizer=optimizer, tolerance=0)

    def loss(pixels: Tensor) -> dict[str, Tensor]:
        first, second = pixels[..., 0], pixels[..., 1]
        return {"sum": (first + second - 1.5).square().mean(), "first": (first - 2).square().mean()}

    result = optimize(torch.full((1, 3, 1, 2), 0.3), loss, settings)
    assert result.max() <= 1
    assert sum(term.item() for term in loss(result).values()) == pytest.approx(1, abs=1e-3)


def test_first_step_does_not_vanish_in_a_large_picture() -> None:
    """By itself L-BFGS moves all pixels together by 1, here 3e-7 each: half the rounding of a pixel near 1."""
    changes: list[float] = []
    start = torch.full((1, 3, 1024, 1024), 0.9)

    def loss(pixels: Tensor) -> dict[str, Tensor]:
        changes.append((pixels.detach() - start).square().mean().sqrt().item())
        return distance(pixels - 0.2)

    optimize(start, loss, GatysSettings(iterations=1))
    assert changes == [0, pytest.approx(0.001, rel=0.01)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_loss_falls_and_every_iteration_is_reported(loss: PerceptualLoss, optimizer: str) -> None:
    log = Log()
    settings = GatysSettings(iterations=30, optimizer=optimizer)
    (result,) = stylized(Gatys(loss, settings, log), [picture()])
    assert log.iterations == list(range(31))
    assert set(log.names) == {("content", "style", "chroma")}
    assert min(log.losses) < 0.5 * log.losses[0]
    terms = objective(loss, picture(), None, settings.chroma_weight)(result)
    assert sum(term.item() for term in terms.values()) == pytest.approx(min(log.losses), rel=1e-5)


def test_best_iterate_is_returned() -> None:
    """From its fifth evaluation on, this loss rises, whatever the pixels are."""
    seen: list[Tensor] = []

    def loss(pixels: Tensor) -> dict[str, Tensor]:
        seen.append(pixels.detach().clone())
        return {"distance": pixels.square().mean(), "later": torch.tensor(2.0 * max(0, len(seen) - 4))}

    result = optimize(picture(), loss, GatysSettings(iterations=8, optimizer="adam"))
    assert len(seen) == 9
    assert torch.equal(result, seen[3])
    assert not torch.equal(result, seen[-1])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_loss_that_is_not_finite_ends_with_the_best_so_far(optimizer: str) -> None:
    log = Log()
    settings = GatysSettings(iterations=20, optimizer=optimizer)

    def loss(pixels: Tensor) -> dict[str, Tensor]:
        return {"distance": pixels.square().mean() * (math.nan if len(log.losses) == 5 else 1)}

    with pytest.warns(RuntimeWarning, match="diverged at iteration 5: nan"):
        result = optimize(picture(), loss, settings, log)
    assert math.isnan(log.losses[-1])
    assert len(log.losses) == 6
    assert result.square().mean().item() == pytest.approx(min(log.losses[:-1]))


@pytest.mark.parametrize("bad", [0, 1])
def test_loss_that_is_never_better_than_at_the_start_raises(bad: int) -> None:
    log = Log()

    def loss(pixels: Tensor) -> dict[str, Tensor]:
        return {"distance": pixels.square().mean() * (math.inf if len(log.losses) >= bad else 1)}

    with pytest.raises(Diverged, match=f"diverged at iteration {bad}"):
        optimize(picture(), loss, GatysSettings(iterations=20), log)


def test_gradient_that_is_not_finite_gives_no_picture_of_nans() -> None:
    """√ has no gradient at 0, so the first update is lost although the loss at the start is finite."""
    with pytest.raises(Diverged):
        optimize(
            torch.zeros(1, 3, 4, 4), lambda pixels: {"root": pixels.sqrt().sum() * 0 + pixels.sum()}, GatysSettings()
        )


def test_growing_loss_is_divergence_but_a_short_peak_is_not() -> None:
    log = Log()

    def peak(pixels: Tensor) -> dict[str, Tensor]:
        return {"distance": pixels.square().mean() + (1e3 if 3 <= len(log.losses) < 9 else 0)}

    optimize(picture(), peak, GatysSettings(iterations=20, optimizer="adam"), log)
    assert len(log.losses) == 21

    log = Log()

    def growth(pixels: Tensor) -> dict[str, Tensor]:
        return {"distance": pixels.square().mean() + (1e3 if len(log.losses) >= 3 else 0)}

    with pytest.warns(RuntimeWarning, match="diverged at iteration 12"):
        optimize(picture(), growth, GatysSettings(iterations=20, optimizer="adam"), log)


def test_lbfgs_that_strays_begins_anew_from_the_best() -> None:
    """A loss that is 1 higher from its 9th evaluation on, for 42 of them."""
    seen: list[Tensor] = []

    def loss(pixels: Tensor) -> dict[str, Tensor]:
        seen.append(pixels.detach().clone())
        astray = 1 if 9 <= len(seen) <= 50 else 0
        weights = torch.linspace(0.1, 10, pixels.shape[-1])
        return {"distance": ((pixels - 0.2).square() * weights).mean(), "rest": torch.tensor(1.0 + astray)}

    optimize(picture(), loss, GatysSettings(iterations=60, tolerance=0))
    best = 7  # counted from 0, and 40 later it is told apart
    assert [i for i, pixels in enumerate(seen) if torch.equal(pixels, seen[best])] == [best, best + 41]
    change = (seen[best + 42] - seen[best]).square().mean().sqrt()
    assert change == pytest.approx(0.001, rel=0.05)  # as at the very start


def test_loss_that_settled_stops_early() -> None:
    log = Log()
    optimize(picture(2), lambda pixels: distance(pixels - 0.5) | {"rest": torch.ones(())}, GatysSettings(), log)
    assert INTERVAL <= log.iterations[-1] < 2 * INTERVAL


def test_tolerance_is_relative(loss: PerceptualLoss) -> None:
    lengths = []
    for tolerance in (0.9, 0.0):
        log = Log()
        list(stylized(Gatys(loss, GatysSettings(iterations=90, init="noise", tolerance=tolerance), log), [picture()]))
        lengths.append(len(log.losses))
        if tolerance:
            best = [min(log.losses[: i + 1]) for i in range(len(log.losses))]
            assert best[-1 - INTERVAL] - best[-1] <= tolerance * best[-1 - INTERVAL]
            assert best[-2 - INTERVAL] - best[-2] > tolerance * best[-2 - INTERVAL]
    assert lengths[0] < lengths[1] == 91


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_same_seed_same_picture(loss: PerceptualLoss, optimizer: str) -> None:
    def run(seed: int) -> Tensor:
        settings = GatysSettings(iterations=5, optimizer=optimizer, init="noise", seed=seed)
        return torch.cat(list(stylized(Gatys(loss, settings), [picture()])))

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_noise_does_not_touch_the_global_generator(loss: PerceptualLoss) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    next(stylized(Gatys(loss, GatysSettings(iterations=1, init="noise")), [picture()]))
    assert torch.equal(torch.get_rng_state(), before)


def test_content_alone_stays_the_content(tiny_vgg: PerceptualNetwork, generator: torch.Generator) -> None:
    settings = GatysSettings(iterations=5, chroma_weight=0)
    (result,) = stylized(Gatys(perceptual_loss(tiny_vgg, generator, style_weight=0), settings), [picture()])
    assert torch.equal(result, picture())


def test_colours_of_single_pixels_cost_and_light_does_not(loss: PerceptualLoss) -> None:
    """Red 1 beside red 0: apart from their mean R, G and B differ by 2/3, 1/3 and 1/3."""
    speckled = torch.zeros_like(picture())
    speckled[:, 0, :, ::2] = 1
    terms = objective(loss, picture(), None, 2.0)
    assert float(terms(speckled)["chroma"]) == pytest.approx(2 * (4 + 1 + 1) / 9 / 3)
    assert float(terms(speckled[:, :1].expand(-1, 3, -1, -1))["chroma"]) == pytest.approx(0, abs=1e-10)
    assert objective(loss, picture())(speckled).keys() == {"content", "style"}


def test_a_picture_is_less_speckled(loss: PerceptualLoss) -> None:
    found = []
    for weight in (0.0, GatysSettings().chroma_weight):
        settings = GatysSettings(iterations=100, chroma_weight=weight, tolerance=0)
        (result,) = stylized(Gatys(loss, settings), [picture()])
        perceptual = sum(term.item() for term in objective(loss, picture())(result).values())
        found.append((perceptual, float(total_variation(result - result.mean(dim=1, keepdim=True)))))
    (plain, speckles), (mended, fewer) = found
    assert fewer < 0.1 * speckles
    assert mended < 2 * plain  # of noise in a network of noise; of photographs: docs/gatys.md


def test_start_picture_of_another_size_is_refused(loss: PerceptualLoss) -> None:
    with pytest.raises(ValueError, match="size 31x32, got 30x20"):
        next(stylized(Gatys(loss, GatysSettings(), start=lambda _: picture(7, 20, 30)), [picture(1, 32, 31)]))


def test_caller_without_gradients_and_channels_last_frames(loss: PerceptualLoss) -> None:
    expected = next(stylized(Gatys(loss, GatysSettings(iterations=3)), [picture()]))
    with torch.no_grad():
        frame = picture().contiguous(memory_format=torch.channels_last)
        assert torch.allclose(next(stylized(Gatys(loss, GatysSettings(iterations=3)), [frame])), expected, atol=1e-4)


def test_frames_are_left_as_they_were(loss: PerceptualLoss) -> None:
    frame = picture()
    next(stylized(Gatys(loss, GatysSettings(iterations=3)), [frame]))
    assert torch.equal(frame, picture())


# Scales, kept results


class Seen(PerceptualLoss):
    """A perceptual loss that keeps the content and the first picture it was asked about."""

    def __init__(self, loss: PerceptualLoss, style: Tensor) -> None:
        target = style_target(loss.network, style, loss.settings.style_layers)
        super().__init__(loss.network, target, loss.settings)
        self.contents: list[Tensor] = []
        self.starts: list[Tensor] = []

    def content_targets(self, images: Tensor) -> dict[str, Tensor]:
        self.contents.append(images)
        self.starts.append(torch.empty(0))
        return super().content_targets(images)

    def __call__(
        self, images: Tensor, content_targets: Mapping[str, Tensor], regions: Tensor | None = None
    ) -> dict[str, Tensor]:
        if not self.starts[-1].numel():
            self.starts[-1] = images.detach().clone()
        return super().__call__(images, content_targets, regions)


class Kept:
    """Keeps what it is told to compute, unless it has it already."""

    def __init__(self, *results: Tensor) -> None:
        self.results = list(results)
        self.calls = 0

    def __call__(self, compute: Callable[[], Tensor]) -> Tensor:
        if self.calls == len(self.results):
            self.results.append(compute())
        self.calls += 1
        return self.results[self.calls - 1]


def structured(height: int, width: int) -> Tensor:
    """A smooth picture with an edge, which is still there in a quarter of its size."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([x, (y > 0.4).float(), (6 * x * y).sin().abs()]).unsqueeze(0)


def scaled(image: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(image, (height, width), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def watched(loss: PerceptualLoss, count: int) -> list[Seen]:
    return [Seen(loss, picture(20)) for _ in range(count)]


def test_each_scale_begins_with_the_result_of_the_coarser_one(loss: PerceptualLoss) -> None:
    frame = structured(4 * SMALLEST_SCALE, 4 * SMALLEST_SCALE + 6)
    *coarse, full = losses = watched(loss, 3)
    kept = Kept()
    settings = GatysSettings(iterations=2, coarse_iterations=1)
    (result,) = stylized(Gatys(full, settings, keep=kept, coarse=coarse), [frame])
    sizes = [(32, 34), (64, 67), (128, 134)]
    assert SMALLEST_SCALE == 32
    for seen, size in zip(losses, sizes, strict=True):
        (content,) = seen.contents
        assert torch.equal(content, frame if size == (128, 134) else scaled(frame, *size))
    assert torch.equal(losses[0].starts[0], losses[0].contents[0])
    for seen, coarser, size in zip(losses[1:], kept.results, sizes[1:], strict=False):
        assert torch.equal(seen.starts[0], scaled(coarser, *size))
    assert torch.equal(result, kept.results[2])


def test_scales_that_are_too_small_are_left_out(loss: PerceptualLoss) -> None:
    frame = structured(2 * SMALLEST_SCALE, 3 * SMALLEST_SCALE)
    *coarse, full = watched(loss, 4)
    next(stylized(Gatys(full, GatysSettings(iterations=1, coarse_iterations=1), coarse=coarse), [frame]))
    assert [len(seen.contents) for seen in (*coarse, full)] == [0, 0, 1, 1]
    next(stylized(Gatys(full, GatysSettings(iterations=1, coarse_iterations=1), coarse=coarse), [picture()]))
    assert [len(seen.contents) for seen in (*coarse, full)] == [0, 0, 1, 2]


def test_coarse_scales_have_their_own_count_and_the_callback_hears_each(loss: PerceptualLoss) -> None:
    log = Log()
    settings = GatysSettings(iterations=2, coarse_iterations=4)
    next(stylized(Gatys(loss, settings, log, coarse=[loss]), [structured(128, 128)]))
    assert log.iterations == [0, 1, 2, 3, 4, 0, 1, 2]


def test_start_is_asked_once_for_each_frame_and_scaled(loss: PerceptualLoss) -> None:
    frames = [structured(128, 130), structured(128, 130).flip(-1)]
    asked: list[Tensor] = []

    def start(frame: Tensor) -> Tensor:
        asked.append(frame)
        return 1 - frame

    coarse, full = watched(loss, 2)
    list(stylized(Gatys(full, GatysSettings(iterations=1, coarse_iterations=1), start=start, coarse=[coarse]), frames))
    assert [frame is source for frame, source in zip(asked, frames, strict=True)] == [True, True]
    for frame, seen in zip(frames, coarse.starts, strict=True):
        assert torch.equal(seen, scaled(1 - frame, 64, 65))


def test_noise_has_its_strength_at_each_scale(loss: PerceptualLoss) -> None:
    coarse, full = watched(loss, 2)
    settings = GatysSettings(iterations=0, coarse_iterations=0, init="noise")
    next(stylized(Gatys(full, settings, coarse=[coarse]), [structured(128, 128)]))
    assert coarse.starts[0].std() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("finished", [0, 1, 4])
def test_kept_results_are_used_and_not_computed_again(loss: PerceptualLoss, finished: int) -> None:
    frames = [structured(128, 128), structured(128, 128).flip(-1)]
    settings = GatysSettings(iterations=2, coarse_iterations=1)
    whole = Kept()
    list(stylized(Gatys(loss, settings, keep=whole, coarse=[loss]), frames))
    log, resumed = Log(), Kept(*whole.results[:finished])
    results = list(stylized(Gatys(loss, settings, log, keep=resumed, coarse=[loss]), frames))
    assert torch.equal(torch.cat(results), torch.cat(whole.results[1::2]))
    assert log.iterations.count(0) == 4 - finished
    strange = Kept(torch.full((1, 3, 64, 64), 0.5), picture(3, 128, 128))
    assert torch.equal(next(stylized(Gatys(loss, settings, keep=strange, coarse=[loss]), frames)), picture(3, 128, 128))


def test_no_start_is_made_for_a_kept_result(loss: PerceptualLoss) -> None:
    def start(_frame: Tensor) -> Tensor:
        raise AssertionError("the feed-forward network ran for nothing")

    (result,) = stylized(Gatys(loss, GatysSettings(), start=start, keep=Kept(picture(9))), [picture()])
    assert torch.equal(result, picture(9))


def test_bfloat16_loss_serves_the_loop(loss: PerceptualLoss) -> None:
    target = style_target(loss.network, picture(20), loss.settings.style_layers)
    narrow = PerceptualLoss(loss.network, target, loss.settings, torch.bfloat16)
    exact = PerceptualLoss(loss.network, target, loss.settings)
    targets = exact.content_targets(picture())
    (result,) = stylized(Gatys(narrow, GatysSettings(iterations=60)), [picture()])
    before, after = (sum(term.item() for term in exact(x, targets).values()) for x in (picture(), result))
    assert result.dtype == torch.float32
    assert after < 0.5 * before


def test_a_step_far_too_long_is_shortened() -> None:
    """A slope, flat where the first, short step goes and steep beyond: the curvature promises a step of hundreds."""
    start = torch.full((1, 3, 8, 8), 0.5)
    moved: list[float] = []
    previous = start

    def slope(pixels: Tensor) -> dict[str, Tensor]:
        nonlocal previous
        moved.append(float((pixels.detach() - previous).square().mean().sqrt()))
        previous = pixels.detach().clone()
        down = 0.5 - pixels  # how far below the start
        return {"loss": (1 - down + 1e-3 * down.square() + 1e3 * (down - 0.1).clamp_min(0).square()).mean()}

    optimize(start, slope, GatysSettings(iterations=3, tolerance=0))
    assert moved[1] == pytest.approx(0.001, rel=1e-3)
    assert moved[2] == pytest.approx(0.05, rel=1e-3)  # and not to the border, by 0.499
