"""What every stylizer promises: a stream of frames in, as many of the same size out, state only within a call."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nststab.baselines.gatys import Gatys
from nststab.baselines.multipass import MultiPass
from nststab.baselines.ruder import Ruder
from nststab.baselines.settings import GatysSettings, MultiPassSettings, RuderSettings
from nststab.color import PreserveColor
from nststab.frames import Frame, Stylizer
from nststab.methods.deflicker import Deflicker, Steadied
from nststab.methods.feed_forward import FeedForward
from nststab.methods.settings import DeflickerSettings
from tests.conftest import TINY, TINY_RECURRENT, rand, random_network, tiny_loss

FEW = GatysSettings(iterations=2)
STYLE = rand(1, 3, 32, 32, seed=7)
Factory = Callable[[Path], Stylizer]


def gatys(**more: Any) -> Gatys:
    return Gatys(tiny_loss(STYLE), FEW, **more)


def feed_forward(recurrent: bool) -> Stylizer:
    return FeedForward(random_network(TINY_RECURRENT if recurrent else TINY))


def no_motion(first: Frame, _second: Frame) -> Tensor:
    return torch.zeros_like(first.rgb[:, :2])


FACTORIES: dict[str, Factory] = {
    "independent": lambda _: feed_forward(False),
    "recurrent": lambda _: feed_forward(True),
    "gatys": lambda _: gatys(),
    "gatys, coarse to fine": lambda _: gatys(coarse=[tiny_loss(STYLE)]),
    "ruder": lambda _: Ruder(gatys(), no_motion, RuderSettings(later_iterations=2)),
    "ruder, long-term": lambda _: Ruder(gatys(), no_motion, RuderSettings(2, long_term=(1, 2, 4))),
    "ruder, multi-pass": lambda folder: MultiPass(
        gatys(), no_motion, MultiPassSettings(later_iterations=2, passes=3, temporal_from=2), folder
    ),
    "recurrent, steadied": lambda _: Steadied(feed_forward(True), Deflicker(DeflickerSettings(look_ahead=2))),
    "recurrent, steadied, colours kept": lambda _: PreserveColor(
        Steadied(feed_forward(True), Deflicker(DeflickerSettings(look_ahead=0)))
    ),
    "gatys, steadied": lambda _: Steadied(gatys(), Deflicker(DeflickerSettings(look_ahead=0))),
    "ruder, multi-pass, steadied": lambda folder: Steadied(
        MultiPass(gatys(), no_motion, MultiPassSettings(later_iterations=2, passes=2), folder),
        Deflicker(),
    ),
    "recurrent, colours kept": lambda _: PreserveColor(feed_forward(True)),
    "ruder, colours kept": lambda _: PreserveColor(Ruder(gatys(), no_motion, RuderSettings(2))),
    "ruder, multi-pass, colours kept": lambda folder: PreserveColor(
        MultiPass(gatys(), no_motion, MultiPassSettings(later_iterations=2, passes=2), folder)
    ),
}


@pytest.fixture(params=FACTORIES)
def stylizer(request: pytest.FixtureRequest, tmp_path: Path) -> Stylizer:
    return FACTORIES[request.param](tmp_path)


def clip(count: int, height: int = 32, width: int = 32) -> list[Frame]:
    generator = torch.Generator().manual_seed(1)
    pictures = [torch.rand(1, 3, height, width, generator=generator) for _ in range(count)]
    alpha = torch.zeros(1, 1, height, width)
    return [Frame(rgb, 7 + number, Fraction(number, 25), alpha=alpha) for number, rgb in enumerate(pictures)]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 47), (5, 70), (1, 1)])
def test_as_many_frames_of_the_same_size_come_out(stylizer: Stylizer, height: int, width: int) -> None:
    frames = clip(3, height, width)
    stylized = list(stylizer(frames))
    for frame, source in zip(stylized, frames, strict=True):
        rgb = frame.rgb
        assert rgb.shape == source.rgb.shape
        assert (rgb.dtype, rgb.device.type, rgb.requires_grad) == (torch.float32, "cpu", False)
        assert 0 <= rgb.min() <= rgb.max() <= 1
        assert not torch.equal(rgb, source.rgb) or height * width == 1  # a flat frame stays, and one pixel is flat
        assert (frame.number, frame.time, frame.alpha) == (source.number, source.time, source.alpha)
        assert frame.content is None


def test_an_empty_stream_gives_an_empty_stream(stylizer: Stylizer) -> None:
    assert list(stylizer([])) == []


def test_a_call_starts_afresh_and_two_at_a_time_do_not_disturb_each_other(stylizer: Stylizer) -> None:
    frames = clip(3)
    alone = list(stylizer(frames))
    both = list(zip(stylizer(frames), stylizer(frames[::-1]), strict=True))
    assert all(torch.equal(a.rgb, b.rgb) for a, (b, _) in zip(alone, both, strict=True))


def test_frames_are_taken_as_they_are_needed(stylizer: Stylizer, request: pytest.FixtureRequest) -> None:
    if "multi-pass" in request.node.callspec.id:
        pytest.skip("passes over the whole shot, which it keeps on disk")
    taken = 0

    def endless() -> Iterator[Frame]:
        nonlocal taken
        while True:
            taken += 1
            yield clip(1)[0]

    stylized = stylizer(endless())
    for _ in range(2):
        next(stylized)
    assert taken <= 2 + 4  # a bounded look-ahead, for flow
