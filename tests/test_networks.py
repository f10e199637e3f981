"""The transformation network: its size, any resolution, the recurrence, and how an image network becomes recurrent."""

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F

from nststab.networks.transformation import (
    ConvolutionBlock,
    NetworkConfig,
    TransformationNetwork,
    interpolate,
    make_recurrent,
    reflect,
    transfer_recurrence,
    with_margin,
)
from tests.conftest import TINY, TINY_RECURRENT, rand, random_network


def papers_parameters(inputs: int) -> int:
    """9x9 conv 32, two 3x3 convs 64 and 128, ten of 128, back to 32, 9x9 to RGB; two per channel of normalisation."""
    convolutions = [(inputs, 32, 9), (32, 64, 3), (64, 128, 3), *[(128, 128, 3)] * 10, (128, 64, 3), (64, 32, 3)]
    normalized = sum(a * b * kernel**2 + 2 * b for a, b, kernel in convolutions)
    return normalized + 32 * 3 * 9**2 + 3


@pytest.mark.parametrize(("recurrent", "inputs"), [(False, 3), (True, 6)])
def test_the_default_is_the_papers_network(recurrent: bool, inputs: int) -> None:
    built = TransformationNetwork(NetworkConfig(recurrent=recurrent))
    assert sum(parameter.numel() for parameter in built.parameters()) == papers_parameters(inputs)
    assert papers_parameters(3) == 1_677_635
    strides = [block.convolution.stride for block in built.encoder]
    assert strides == [(1, 1), (2, 2), (2, 2)]
    assert [block.upsample for block in built.decoder] == ["nearest", "nearest"]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 40), (7, 9), (32, 32), (33, 47)])
@pytest.mark.parametrize("config", [TINY, TINY_RECURRENT])
def test_any_size_comes_out_as_it_went_in(config: NetworkConfig, size: tuple[int, int]) -> None:
    with torch.no_grad():
        output = random_network(config)(rand(2, 3, *size))
    assert output.shape == (2, 3, *size)
    assert output.min() > 0
    assert output.max() < 1


def test_odd_sizes_are_padded_by_replication_then_cropped() -> None:
    with torch.no_grad():
        model = random_network(TINY)
        padded = F.pad(rand(1, 3, 33, 47), (0, 1, 0, 3), mode="replicate")
        assert torch.equal(model(rand(1, 3, 33, 47)), model(padded)[..., :33, :47])


def test_reflection_leaves_out_the_border_pixel() -> None:
    row = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]] * 4]])
    assert reflect(row, 2)[0, 0, 0].tolist() == [3, 2, 1, 2, 3, 4, 3, 2]


def test_a_flat_frame_is_drawn_flat_up_to_the_border() -> None:
    """Padding by zeros would leave a frame of artefacts; normalisation amplifies what little rounding leaves."""
    with torch.no_grad():
        output = random_network(NetworkConfig(widths=(8, 8, 8), blocks=2))(torch.full((1, 3, 32, 32), 0.6))
    assert (output - output[..., 16:17, 16:17]).abs().max() < 1e-3


def test_batches_are_drawn_picture_by_picture() -> None:
    with torch.no_grad():
        model, pictures = random_network(TINY), rand(3, 3, 16, 20)
        alone = torch.cat([model(picture[None]) for picture in pictures])
        assert torch.allclose(model(pictures), alone, atol=1e-6)


# The recurrence


def test_a_recurrent_network_made_from_an_image_network_draws_what_that_draws() -> None:
    with torch.no_grad():
        independent = random_network(TINY)
        recurrent = make_recurrent(independent)
        content = rand(1, 3, 17, 22)
        first = recurrent(content)
        assert recurrent.config == TINY_RECURRENT
        assert torch.allclose(first, independent(content), atol=1e-5)
        for seed, scale in ((1, 1.0), (2, 100.0)):  # whatever came before: bit by bit
            assert torch.equal(recurrent(content, rand(1, 3, 17, 22, seed=seed) * scale), first)


def test_make_recurrent_leaves_the_image_network_alone() -> None:
    independent = random_network(TINY)
    recurrent = make_recurrent(independent)
    with torch.no_grad():
        for parameter in recurrent.parameters():
            parameter.add_(1)
    original = random_network(TINY).state_dict()
    assert all(torch.equal(value, original[name]) for name, value in independent.state_dict().items())
    assert independent.config == TINY


def test_the_previous_frame_counts_after_training_and_none_is_zeros() -> None:
    with torch.no_grad():
        model, content, previous = random_network(TINY_RECURRENT), rand(1, 3, 16, 16), rand(1, 3, 16, 16, seed=1)
        assert torch.equal(model(content), model(content, torch.zeros_like(content)))
        assert (model(content, previous) - model(content)).abs().max() > 0.01


def test_kinds_are_not_mixed_up() -> None:
    with pytest.raises(ValueError, match="independent network takes no previous"):
        random_network(TINY)(rand(1, 3, 16, 16), rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match="expected an independent network"):
        make_recurrent(random_network(TINY_RECURRENT))


def test_fine_tuning_can_start_from_zero_weights() -> None:
    """The new channels draw nothing at first, but their weights get a gradient as soon as there is a previous frame."""
    model = make_recurrent(random_network(TINY))
    torch.autograd.backward(model(rand(1, 3, 16, 16), rand(1, 3, 16, 16, seed=1)).square().sum())
    gradient = dict(model.named_parameters())["encoder.0.convolution.weight"].grad
    assert gradient is not None
    assert gradient[:, 3:].abs().max() > 1e-6


# Another style's networks


def test_the_recurrence_is_what_fine_tuning_changed() -> None:
    other, independent, recurrent = random_network(TINY, 2), random_network(TINY), random_network(TINY_RECURRENT, 1)
    transferred = transfer_recurrence(other, independent, recurrent)
    assert transferred.config == TINY_RECURRENT
    state, base, changed = (part.state_dict() for part in (transferred, make_recurrent(independent), recurrent))
    for name, value in make_recurrent(other).state_dict().items():
        torch.testing.assert_close(state[name] - value, changed[name] - base[name], rtol=0, atol=1e-6)
    unchanged = transfer_recurrence(other, independent, make_recurrent(independent)).state_dict()
    assert all(torch.equal(unchanged[name], value) for name, value in make_recurrent(other).state_dict().items())


def test_the_recurrence_goes_between_networks_of_one_shape() -> None:
    larger = random_network(replace(TINY, blocks=TINY.blocks + 1))
    with pytest.raises(ValueError, match="same widths and blocks"):
        transfer_recurrence(larger, random_network(TINY), random_network(TINY_RECURRENT, 1))
    with pytest.raises(ValueError, match="expected a recurrent network"):
        transfer_recurrence(random_network(TINY), random_network(TINY), random_network(TINY))
    with pytest.raises(ValueError, match="expected an independent network"):
        transfer_recurrence(random_network(TINY), random_network(TINY_RECURRENT, 1), random_network(TINY_RECURRENT, 1))


def test_the_margin_is_changed_in_a_copy_of_the_same_weights() -> None:
    model, content = random_network(TINY), rand(1, 3, 20, 24)
    other = with_margin(model, 8)
    assert (model.config.margin, other.config) == (0, replace(TINY, margin=8))
    with torch.no_grad():
        padded = F.pad(content, (8, 8, 8, 8), mode="reflect")
        torch.testing.assert_close(other(content), model(padded)[..., 8:-8, 8:-8])
        other.output.weight += 1
    assert not torch.equal(other.output.weight, model.output.weight)


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (17, 9)])
def test_a_margin_larger_than_the_frame_reflects_what_there_is(size: tuple[int, int]) -> None:
    content = rand(1, 3, *size)
    with torch.no_grad():
        output = with_margin(random_network(TINY), 16)(content)
    assert output.shape == content.shape
    assert output.isfinite().all()


def test_an_average_lies_between_two_networks_by_its_share() -> None:
    first, second = random_network(TINY), random_network(TINY, 1)
    for share, expected in ((0.0, first), (1.0, second)):
        state = interpolate(first, second, share).state_dict()
        assert all(torch.equal(value, expected.state_dict()[name]) for name, value in state.items())
    quarter = interpolate(first, second, 0.25).state_dict()
    for name, value in first.state_dict().items():
        torch.testing.assert_close(quarter[name], 0.75 * value + 0.25 * second.state_dict()[name])
    with pytest.raises(ValueError, match="got two kinds: margin 0 and margin 4"):
        interpolate(first, with_margin(second, 4), 0.5)
    with pytest.raises(ValueError, match=r"from 0 to 1, got 1\.5"):
        interpolate(first, second, 1.5)


# Arithmetic and settings


def test_the_picture_is_float32_under_autocast() -> None:
    with torch.no_grad():
        model, content = random_network(TINY), rand(1, 3, 16, 16)
        exact = model(content)
        with torch.autocast("cpu", torch.bfloat16):
            output = model(content)
    assert output.dtype == torch.float32
    assert (output - exact).abs().max() < 0.1
    # in bfloat16 every value would lie on its coarse grid
    assert not torch.equal(output, output.bfloat16().float())


@pytest.mark.parametrize(
    "values", [{"widths": (4, 6)}, {"widths": (4, 0, 8)}, {"widths": (4, 6, 8, 9)}, {"blocks": -1}]
)
def test_senseless_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected three positive widths, and at least 0 blocks"):
        NetworkConfig(**values)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_an_upsampling_convolution_is_that_of_the_upsampled_picture(mode: Literal["nearest", "bilinear"]) -> None:
    block = ConvolutionBlock(1, 3, 4, 3, upsample=mode).double()
    x = rand(2, 3, 6, 5, seed=1).double().requires_grad_()
    made = block.convolved(F.pad(x, (1, 1, 1, 1), mode=block.border))
    wide = F.pad(x, (1, 1, 1, 1), mode="replicate")
    large = F.interpolate(wide, scale_factor=2, mode=mode, align_corners=False if mode == "bilinear" else None)
    expected = F.conv2d(large, block.convolution.weight)[..., 1:-1, 1:-1]
    assert made.shape == expected.shape == (2, 4, 12, 10)
    assert torch.allclose(made, expected, rtol=0, atol=1e-12)
    weights = rand(*made.shape, seed=2).double()
    parts = (x, block.convolution.weight)
    gradients = [torch.autograd.grad((one * weights).sum(), parts) for one in (made, expected)]
    assert all(torch.allclose(own, other, rtol=0, atol=1e-12) for own, other in zip(*gradients, strict=True))
