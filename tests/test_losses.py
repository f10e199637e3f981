"""The losses: known answers, literal versions of the paper's equations, invariances, gradients."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nststab.losses import (
    LossSettings,
    PerceptualLoss,
    Scaling,
    blend,
    content_loss,
    gram,
    ruder_temporal_loss,
    shift_loss,
    style_loss,
    style_target,
    temporal_loss,
    total_variation,
)
from nststab.vgg import PerceptualNetwork
from nststab.warp import warp

Array = NDArray[np.float64]
LAYERS = LossSettings().style_layers
SCALINGS: tuple[Scaling, ...] = ("energy", "paper")


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# Gram


def test_gram_is_johnsons_formula() -> None:
    features = double(2, 3, 4, 5)
    expected = np.zeros((2, 3, 3))
    values = features.numpy()
    for n, a, b, y, x in itertools.product(range(2), range(3), range(3), range(4), range(5)):
        expected[n, a, b] += values[n, a, y, x] * values[n, b, y, x] / (3 * 4 * 5)
    assert np.allclose(gram(features).numpy(), expected, rtol=1e-12)


def test_gram_does_not_depend_on_the_size() -> None:
    features = double(1, 3, 4, 5)
    assert torch.allclose(gram(features.tile(1, 1, 3, 2)), gram(features), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gram_stays_in_float32_under_autocast(dtype: torch.dtype) -> None:
    features = double(1, 4, 32, 32).float()
    with torch.autocast("cpu", torch.bfloat16):
        result, narrow = gram(features), gram(features.to(dtype))
    assert result.dtype == narrow.dtype == torch.float32
    assert torch.allclose(result, gram(features), rtol=1e-6)  # bf16 would be off by 1e-2
    assert torch.allclose(narrow, gram(features.to(dtype).float()), rtol=1e-6)


# Content and style


def test_paper_scaling_is_literally_the_paper() -> None:
    """Eq. (2) and (3), sums over elements written out; Gram matrices divided by C·H·W."""
    output, content, style = double(2, 3, 4, 5), double(2, 3, 4, 5, seed=1), double(1, 3, 6, 2, seed=2)
    p, c = output.numpy(), content.numpy()
    eq2 = np.mean([((p[n] - c[n]) ** 2).sum() / (3 * 4 * 5) for n in range(2)])
    assert float(content_loss(output, content, "paper")) == pytest.approx(eq2, rel=1e-12)

    def literal_gram(features: Array) -> Array:
        flat = features.reshape(len(features), -1)
        return flat @ flat.T / flat.size

    target = literal_gram(style.numpy()[0])
    eq3 = np.mean([np.linalg.norm(literal_gram(p[n]) - target, "fro") ** 2 for n in range(2)])
    assert float(style_loss(gram(output), gram(style), "paper")) == pytest.approx(eq3, rel=1e-12)


def test_energy_scaling_divides_by_the_targets_energy() -> None:
    output, target = double(1, 3, 4, 5), double(1, 3, 4, 5, seed=1)
    ratio = content_loss(output, target, "paper") / content_loss(output, target, "energy")
    assert float(ratio) == pytest.approx(float(target.square().mean()))
    ratio = style_loss(gram(output), gram(target), "paper") / style_loss(gram(output), gram(target), "energy")
    assert float(ratio) == pytest.approx(float(gram(target).square().sum()))


def test_energy_scaling_does_not_see_the_scale_of_the_features() -> None:
    output, target = double(2, 3, 4, 5), double(2, 3, 4, 5, seed=1)
    output[1] *= 3  # each picture by its own energy: the mean must not mix them
    for scale in (1e-3, 50.0):
        scaled = torch.tensor([scale, 7.0], dtype=torch.float64).view(2, 1, 1, 1)
        assert torch.allclose(content_loss(output * scaled, target * scaled), content_loss(output, target))
        losses = [style_loss(gram(a), gram(b)) for a, b in ((output * scaled, target * scaled), (output, target))]
        assert torch.allclose(losses[0], losses[1])


def test_a_target_without_energy_is_finite() -> None:
    zeros = torch.zeros(1, 2, 3, 3)
    assert content_loss(zeros, zeros) == style_loss(gram(zeros), gram(zeros)) == 0


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_batch_is_the_mean_of_its_pictures(scaling: Scaling) -> None:
    output, content, style = double(3, 2, 4, 4), double(3, 2, 4, 4, seed=1), gram(double(1, 2, 4, 4, seed=2))
    single = [content_loss(output[i : i + 1], content[i : i + 1], scaling) for i in range(3)]
    assert torch.allclose(content_loss(output, content, scaling), torch.stack(single).mean())
    single = [style_loss(gram(output[i : i + 1]), style, scaling) for i in range(3)]
    assert torch.allclose(style_loss(gram(output), style, scaling), torch.stack(single).mean())


# Temporal


def moving_pair() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A picture moved by 3 px right and 2 px up: current, previous, forward flow, mask of what stays in the frame."""
    previous = double(1, 3, 12, 12).abs()
    forward = torch.tensor([3.0, -2.0], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 12, 12)
    mask = torch.zeros(1, 1, 12, 12, dtype=torch.float64)
    mask[..., 2:, :-3] = 1
    return previous.roll((-2, 3), (-2, -1)), previous, forward, mask


def test_temporal_loss_is_literally_the_paper() -> None:
    """Eq. (6)-(7) written out for a flow of whole pixels."""
    generator = torch.Generator().manual_seed(3)
    current, previous = double(2, 3, 5, 6), double(2, 3, 5, 6, seed=1)
    mask = torch.rand(2, 1, 5, 6, dtype=torch.float64, generator=generator)
    rows, columns = torch.arange(5).view(5, 1), torch.arange(6).view(1, 6)
    target_y = torch.randint(5, (2, 5, 6), generator=generator)
    target_x = torch.randint(6, (2, 5, 6), generator=generator)
    forward = torch.stack([target_x - columns, target_y - rows], 1).double()
    expected = 0.0
    for n, k, y, x in itertools.product(range(2), range(3), range(5), range(6)):
        warped = current[n, k, target_y[n, y, x], target_x[n, y, x]]
        expected += float(mask[n, 0, y, x] * previous[n, k, y, x] - mask[n, 0, y, x] * warped) ** 2
    loss = temporal_loss(current, previous, forward, mask)
    assert float(loss) == pytest.approx(expected / (5 * 6) / 2)  # divided by H·W, mean over two pairs


def test_ruders_loss_is_the_temporal_loss_of_a_still_scene() -> None:
    current, previous, forward, mask = moving_pair()
    still = torch.zeros_like(forward)
    assert torch.equal(ruder_temporal_loss(current, previous, mask), temporal_loss(current, previous, still, mask))
    # his mask is a weight, c (p - ω)², where Gupta et al.'s is squared with the difference
    assert ruder_temporal_loss(current, previous, mask / 2) == pytest.approx(
        float(ruder_temporal_loss(current, previous, mask)) / 2
    )
    backward = -forward  # of a uniform motion; his previous picture is warped, his mask that of the current frame
    seen = mask.roll((-2, 3), (-2, -1))
    assert ruder_temporal_loss(current, warp(previous, backward), seen) == 0


# Total variation


def test_total_variation_by_hand() -> None:
    picture = torch.tensor([[0.0, 1.0, 3.0], [0.0, 1.0, 3.0]]).view(1, 1, 2, 3)
    assert float(total_variation(picture)) == pytest.approx((1 + 4) / 2)
    assert total_variation(picture.transpose(-1, -2)) == total_variation(picture)
    assert total_variation(torch.full((1, 3, 4, 4), 0.3)) == 0
    assert total_variation(torch.rand(1, 3, 1, 1)) == 0


# Gradients


@pytest.mark.parametrize("scaling", SCALINGS)
def test_gradients_of_content_and_style(scaling: Scaling) -> None:
    features, target = double(2, 3, 3, 2).requires_grad_(), double(2, 3, 3, 2, seed=1)
    assert torch.autograd.gradcheck(lambda x: content_loss(x, target, scaling), features)
    assert torch.autograd.gradcheck(lambda x: style_loss(gram(x), gram(target[:1]), scaling), features)


def test_gradients_of_gram_temporal_and_total_variation() -> None:
    first, second = double(1, 3, 4, 5).requires_grad_(), double(1, 3, 4, 5, seed=1).requires_grad_()
    flow, mask = double(1, 2, 4, 5, seed=2), double(1, 1, 4, 5, seed=3).sigmoid()
    assert torch.autograd.gradcheck(gram, first)
    assert torch.autograd.gradcheck(lambda a, b: temporal_loss(a, b, flow, mask), (first, second))
    assert torch.autograd.gradcheck(lambda a, b: ruder_temporal_loss(a, b, mask), (first, second))
    assert torch.autograd.gradcheck(total_variation, first)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradient_of_the_gram_matrix_is_autograds(memory_format: torch.memory_format) -> None:
    """Of ΦΦᵀ written out; and it lies in memory as the features do, or adding it to others is slow."""
    features = double(2, 3, 4, 5).contiguous(memory_format=memory_format).requires_grad_()
    flat = features.flatten(2)
    weights = double(2, 3, 3, seed=1)  # not symmetric
    (expected,) = torch.autograd.grad((flat @ flat.transpose(1, 2) / 60 * weights).sum(), features)
    (gradient,) = torch.autograd.grad((gram(features) * weights).sum(), features)
    torch.testing.assert_close(gradient, expected)
    assert gradient.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradient_of_the_gram_matrix_of_16_bits(dtype: torch.dtype) -> None:
    """Divided by C·H·W it has no float16, but the product with the features has."""
    features = (double(1, 3, 8, 8) * 1e4).to(dtype).requires_grad_()
    weights = double(1, 3, 3, seed=1).float() * 1e-7
    (gradient,) = torch.autograd.grad((gram(features) * weights).sum(), features)
    wide = features.detach().float().requires_grad_()
    (expected,) = torch.autograd.grad((gram(wide) * weights).sum(), wide)
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient.float(), expected, rtol=0.02, atol=0.1 * float(expected.abs().mean()))


# Several styles


def test_blend_stands_for_all_of_its_styles() -> None:
    """Σ wᵢ ‖G - Gᵢ‖² = W ‖G - Ḡ‖² + Σ wᵢ ‖Gᵢ - Ḡ‖²."""
    targets = [{"relu1_2": gram(double(1, 4, 5, 6, seed=seed))} for seed in range(3)]
    weights = (3.0, 7.0, 0.5)
    (mixed,) = blend(targets, weights).values()

    def pull(grams: Tensor) -> Tensor:
        parts = [w * style_loss(grams, t["relu1_2"], "paper") for w, t in zip(weights, targets, strict=True)]
        return torch.stack(parts).sum()

    for seed in range(10, 14):
        other = gram(double(1, 4, 5, 6, seed=seed))
        assert torch.allclose(pull(other), sum(weights) * style_loss(other, mixed, "paper") + pull(mixed), rtol=1e-12)


def test_blend_has_the_layers_that_all_styles_have() -> None:
    one, two = double(1, 2, 2, seed=1), double(1, 3, 3, seed=2)
    assert list(blend([{"a": one, "b": two}, {"b": two, "c": one}], (1, 1))) == ["b"]
    with pytest.raises(ValueError, match="no layer in common"):
        blend([{"a": one}, {"b": one}], (1, 1))
    with pytest.raises(ValueError, match="one size at a, got 2, 3"):
        blend([{"a": one}, {"a": two}], (1, 1))


@pytest.mark.parametrize(
    "weights", [(1.0,), (1.0, -0.5), (0.0, 0.0), (math.nan, 1.0), (math.inf, 1.0), (1.0, 1.0, 1.0)]
)
def test_weights_that_are_none_are_refused(weights: tuple[float, ...]) -> None:
    target = {"relu1_2": double(1, 2, 2)}
    with pytest.raises(ValueError, match=r"^expected (one weight for each style|weights of at least 0)[^\n]*$"):
        blend([target, target], weights)


# All of it


@pytest.fixture
def style(tiny_vgg: PerceptualNetwork) -> dict[str, Tensor]:
    return style_target(tiny_vgg, torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(5)), LAYERS)


def pictures(seed: int) -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scaling", SCALINGS)
def test_terms_are_sums_over_layers(tiny_vgg: PerceptualNetwork, style: dict[str, Tensor], scaling: Scaling) -> None:
    settings = LossSettings(content_layers=("relu2_2", "relu3_3"), scaling=scaling)
    loss = PerceptualLoss(tiny_vgg, style, settings)
    terms = loss(pictures(1), loss.content_targets(pictures(2)))
    output, content = tiny_vgg(pictures(1), LAYERS), tiny_vgg(pictures(2), LAYERS)
    expected = sum(float(content_loss(output[j], content[j], scaling)) for j in settings.content_layers)
    assert list(terms) == ["content", "style"]
    assert float(terms["content"]) == pytest.approx(expected, rel=1e-5)
    expected = sum(float(style_loss(gram(output[j]), style[j], scaling)) for j in LAYERS)
    assert float(terms["style"]) == pytest.approx(expected, rel=1e-5)


def test_weights_multiply_and_total_variation_comes_only_with_one(
    tiny_vgg: PerceptualNetwork, style: dict[str, Tensor]
) -> None:
    weighted = LossSettings(content_weight=3, style_weight=0.5, tv_weight=7)
    plain, heavy = (PerceptualLoss(tiny_vgg, style, settings) for settings in (LossSettings(), weighted))
    targets = plain.content_targets(pictures(2))
    before, after = plain(pictures(1), targets), heavy(pictures(1), targets)
    assert float(after["content"] / before["content"]) == pytest.approx(3)
    assert float(after["style"] / before["style"]) == pytest.approx(0.5)
    assert float(after["tv"]) == pytest.approx(7 * float(total_variation(pictures(1))))
    assert "tv" not in before


def test_the_style_picture_has_no_style_loss_and_the_content_no_content_loss(tiny_vgg: PerceptualNetwork) -> None:
    loss = PerceptualLoss(tiny_vgg, style_target(tiny_vgg, pictures(1)[:1], LAYERS), LossSettings())
    terms = loss(pictures(1)[:1], loss.content_targets(pictures(1)[:1]))
    assert terms == {"content": 0, "style": pytest.approx(0, abs=1e-10)}


def test_one_pass_gives_the_targets_of_a_content_and_its_own_terms(tiny_vgg: PerceptualNetwork) -> None:
    style = style_target(tiny_vgg, pictures(2)[:1], LAYERS)
    loss = PerceptualLoss(tiny_vgg, style, LossSettings(tv_weight=0.5))
    targets, terms = loss.content_terms(pictures(1)[:1].requires_grad_())
    expected = loss.content_targets(pictures(1)[:1])
    assert all(torch.equal(targets[layer], expected[layer]) for layer in expected | targets)
    again = loss(pictures(1)[:1], expected)
    assert terms.keys() == again.keys()
    assert all(torch.allclose(terms[name], again[name]) for name in terms)
    assert terms["style"] > terms["content"] == 0
    assert not any(value.requires_grad for value in (*targets.values(), *terms.values()))


def test_targets_carry_no_gradient(tiny_vgg: PerceptualNetwork) -> None:
    images = pictures(1).requires_grad_()
    loss = PerceptualLoss(tiny_vgg, style_target(tiny_vgg, images[:1], LAYERS), LossSettings())
    assert not any(target.requires_grad for target in loss.content_targets(images).values())
    assert not any(target.requires_grad for target in style_target(tiny_vgg, images[:1], LAYERS).values())
    assert sum(loss(images, loss.content_targets(images)).values(), torch.zeros(())).requires_grad


def test_a_style_without_a_layer_is_refused(tiny_vgg: PerceptualNetwork, style: dict[str, Tensor]) -> None:
    del style["relu2_2"]
    with pytest.raises(ValueError, match=r"no Gram matrix at relu2_2; it has relu1_2, relu3_3, relu4_3"):
        PerceptualLoss(tiny_vgg, style, LossSettings())


def test_a_layer_that_the_network_does_not_reach_is_refused_at_once(
    tiny_vgg: PerceptualNetwork, style: dict[str, Tensor]
) -> None:
    with pytest.raises(ValueError, match="no layer relu5_1"):
        PerceptualLoss(tiny_vgg, style, replace(LossSettings(), content_layers=("relu5_1",)))


def test_the_loss_may_fix_its_own_arithmetic(tiny_vgg: PerceptualNetwork, style: dict[str, Tensor]) -> None:
    plain, narrow, wide = (
        PerceptualLoss(tiny_vgg, style, LossSettings(), dtype) for dtype in (None, torch.bfloat16, torch.float32)
    )
    exact = plain(pictures(1), plain.content_targets(pictures(2)))
    assert narrow.content_targets(pictures(2))["relu3_3"].dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        expected = plain(pictures(1), plain.content_targets(pictures(2)))
        kept = wide(pictures(1), wide.content_targets(pictures(2)))
    terms = narrow(pictures(1), narrow.content_targets(pictures(2)))
    assert terms == expected != exact
    assert kept == exact
    assert all(term.dtype == torch.float32 for term in terms.values())


# The change of a picture when its content moves


def test_the_shift_loss_of_a_known_change() -> None:
    """5x6 pixels, and another crop one row and two columns further: 4x4 overlap, 2x2 of it without a border of 1."""
    one = torch.arange(30.0).view(1, 1, 5, 6)
    other = torch.full((1, 1, 5, 6), 100.0)
    other[..., :4, :4] = one[..., 1:, 2:]
    assert shift_loss(one, other, (1, 2), 0) == 0
    assert shift_loss(other, one, (-1, -2), 0) == 0
    other[..., 1, 1] += 4  # inside, and
    other[..., 0, 3] += 8  # on the border of the overlap
    assert shift_loss(one, other, (1, 2), 1) == 16 / 4
    assert shift_loss(one, other, (1, 2), 0) == (16 + 64) / 16
    with pytest.raises(ValueError, match="overlap by more than 4 pixels"):
        shift_loss(one, other, (1, 2), 2)


@pytest.mark.parametrize("offset", [(0, 0), (3, -2), (-1, 4)])
def test_crops_of_one_picture_have_no_shift_loss(offset: tuple[int, int], generator: torch.Generator) -> None:
    photo = torch.rand(2, 3, 24, 24, generator=generator)
    top, left = 6, 6
    one = photo[..., top : top + 12, left : left + 12]
    other = photo[..., top + offset[0] : top + offset[0] + 12, left + offset[1] : left + offset[1] + 12]
    assert shift_loss(one, other, offset, 2) == 0
    assert shift_loss(one, other + 0.5, offset, 2) == pytest.approx(0.25)


def test_the_gradient_of_the_shift_loss(generator: torch.Generator) -> None:
    one, other = (torch.rand(1, 2, 7, 6, dtype=torch.float64, generator=generator) for _ in range(2))
    pictures = (one.requires_grad_(), other.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: shift_loss(a, b, (-1, 1), 1), pictures)


def test_weights_of_pictures_in_the_style_loss(generator: torch.Generator) -> None:
    grams, targets = (gram(torch.rand(2, 4, 5, 5, generator=generator)) for _ in range(2))
    each = torch.stack([style_loss(grams[k : k + 1], targets[k : k + 1]) for k in range(2)])
    weighted = style_loss(grams, targets, weights=torch.tensor([3.0, 0.5]))
    assert weighted.item() == pytest.approx((3 * each[0] + 0.5 * each[1]).item() / 2)
