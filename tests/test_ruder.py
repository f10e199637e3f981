"""Ruder's constraint on clips whose flow is known, and the contract that both optimisation baselines share."""

from collections.abc import Iterable, Mapping
from itertools import pairwise

import torch
from torch import Tensor

from nststab.baselines.gatys import Gatys, GatysSettings
from nststab.baselines.ruder import Ruder, RuderSettings, long_term_masks, tied
from nststab.datasets.layers import Layer, affine, render_layers
from nststab.frames import Frame
from nststab.losses import PerceptualLoss
from nststab.warp import reliability, warp
from tests.conftest import stylized, translated

SHIFT = 2  # pixels to the right, each frame
LOOP = GatysSettings(iterations=12)


def constant_flow(frame: Tensor, x: float) -> Tensor:
    flow = frame.new_zeros(1, 2, *frame.shape[-2:])
    flow[:, 0] = x
    return flow


def exact_flow(first: Frame, second: Frame) -> Tensor:
    """The flow between two frames of `translated`, in either direction."""
    return constant_flow(first.rgb, SHIFT * (second.number - first.number))


def still(first: Frame, second: Frame) -> Tensor:
    assert first.rgb.shape == second.rgb.shape
    return constant_flow(first.rgb, 0)


def change_along_flow(results: list[Tensor]) -> float:
    """Mean squared distance of trusted pixels to the warped previous result."""
    backward = constant_flow(results[0], -SHIFT)
    mask = reliability(backward, -backward)
    assert 0.5 < mask.mean() < 1
    errors = [(mask * (b - warp(a, backward)).square()).mean().item() for a, b in pairwise(results)]
    return sum(errors) / len(errors)


def test_trusted_pixels_keep_near_to_the_previous_result(loss: PerceptualLoss) -> None:
    frames = translated(3)
    alone = change_along_flow(list(stylized(Gatys(loss, LOOP), frames)))
    warm = change_along_flow(list(stylized(Ruder(Gatys(loss, LOOP), exact_flow, RuderSettings(12, 0.0)), frames)))
    tied = change_along_flow(list(stylized(Ruder(Gatys(loss, LOOP), exact_flow, RuderSettings(12)), frames)))
    assert tied < 0.5 * warm < 0.5 * alone


def test_later_frame_begins_with_the_previous_result_warped_by_the_backward_flow(loss: PerceptualLoss) -> None:
    """Disoccluded pixels included, as in the paper."""
    frames = translated(2)
    first, second = stylized(Ruder(Gatys(loss, LOOP), exact_flow, RuderSettings(0)), frames)
    assert torch.equal(first, next(stylized(Gatys(loss, LOOP), frames)))
    assert torch.equal(second[..., SHIFT:], first[..., :-SHIFT])
    assert torch.equal(second[..., :SHIFT], first[..., :1].expand(-1, -1, -1, SHIFT))


def test_temporal_term_begins_at_zero_and_untrusted_pixels_are_free(loss: PerceptualLoss) -> None:
    frames = translated(2)
    terms: list[Mapping[str, float]] = []
    iterations: list[int] = []

    def log(iteration: int, values: Mapping[str, float]) -> None:
        iterations.append(iteration)
        terms.append(values)

    first, second = stylized(Ruder(Gatys(loss, LOOP, log), exact_flow, RuderSettings(40, 1e4)), frames)
    assert iterations == [*range(13), *range(41)]
    assert all("temporal" not in values for values in terms[:13])
    assert terms[13]["temporal"] == 0
    assert terms[14]["temporal"] > 0
    change = (second - warp(first, constant_flow(first, -SHIFT))).abs().mean(dim=1)  # (1, H, W)
    assert change[..., :SHIFT].mean() > 5 * change[..., 4:-4].mean()


class PassingObject:
    """A bar that passes over a still background, each pixel of which it hides in one frame; and its exact flow."""

    height, width, length, bar, step = 32, 48, 5, 12, 12

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(5)
        textures = torch.rand(2, 1, 3, 48, 48, generator=generator)
        x = torch.arange(self.length, dtype=torch.float64) * self.step - self.bar / 2
        poses = torch.eye(3, dtype=torch.float64).repeat(self.length, 1, 1)
        poses[:, 0, 2] = x  # the bar's middle: first outside, then over columns 0 to 11, 12 to 23, ...
        poses[:, 1, 2] = (self.height - 1) / 2
        rest = torch.eye(3, dtype=torch.float64)
        half = torch.tensor([self.bar / 2, self.height], dtype=torch.float64)
        outline = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64) * half
        self._layers = [
            Layer(textures[0], rest, None, rest.repeat(self.length, 1, 1)),
            Layer(textures[1], affine(1, 1, 24, 24), outline, poses),
        ]
        self.frames = list(render_layers(self._layers, self.height, self.width).frames[0].unsqueeze(1))

    def __call__(self, first: Frame, second: Frame) -> Tensor:
        layers = [layer._replace(poses=layer.poses[[first.number, second.number]]) for layer in self._layers]
        return render_layers(layers, self.height, self.width).forward[0]


def test_what_was_hidden_comes_back_as_it_was_with_the_long_term_constraint_only(loss: PerceptualLoss) -> None:
    clip = PassingObject()
    hidden = slice(2, 10)  # columns under the bar in frame 1, clear of its edges; seen in frames 0 and 2
    assert torch.equal(clip.frames[2][..., hidden], clip.frames[0][..., hidden])
    assert not torch.equal(clip.frames[1][..., hidden], clip.frames[0][..., hidden])
    begin = GatysSettings(iterations=30, init="noise")

    def change(long_term: tuple[int, ...]) -> float:
        ruder = Ruder(Gatys(loss, begin), clip, RuderSettings(30, 50.0, long_term))
        results = list(stylized(ruder, clip.frames))
        return float((results[2] - results[0])[..., hidden].abs().mean())

    free, tied_to_it = change((1,)), change((1, 2, 4))
    assert free > 0.1
    assert tied_to_it < 0.2 * free


def test_masks_of_farther_frames_without_what_nearer_ones_trust() -> None:
    masks = [torch.tensor(values).view(1, 1, 1, 5) for values in ([1, 0, 0.5, 0.3, 0], [1, 1, 0.75, 0.3, 0], [1.0] * 5)]
    near, middle, far = (mask.flatten() for mask in long_term_masks(masks))
    torch.testing.assert_close(near, torch.tensor([1, 0, 0.5, 0.3, 0]))
    torch.testing.assert_close(middle, torch.tensor([0, 1, 0.25, 0, 0]))
    torch.testing.assert_close(far, torch.tensor([0, 0, 0, 0.4, 1]))


def test_temporal_term_sums_the_distances_under_their_masks() -> None:
    pixels = torch.zeros(1, 3, 2, 2)
    warped = [torch.full((1, 3, 2, 2), value) for value in (0.5, 1.0)]
    masks = [torch.tensor([[1.0, 0], [0, 0]]).view(1, 1, 2, 2), torch.tensor([[0.0, 1], [1, 0]]).view(1, 1, 2, 2)]
    terms = tied(lambda _: {"content": torch.tensor(2.0)}, warped, masks, weight=10.0)(pixels)
    assert terms["content"] == 2
    assert terms["temporal"] == 10 * (3 * 0.25 + 2 * 3 * 1) / 4  # over three channels, divided by the four pixels


def changes(results: Iterable[Tensor]) -> list[float]:
    return [(after - before).abs().mean().item() for before, after in pairwise(results)]
