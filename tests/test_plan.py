"""The model of a job's memory, the largest size that fits, and the probe of its time."""

import gc
import mmap
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from nststab.losses import LossSettings, PerceptualLoss, style_target
from nststab.memory import Resident
from nststab.networks.checkpoints import read_tensors
from nststab.styles.shipped import perceptual_weights
from nststab.tasks.plan import (
    Footprint,
    Plan,
    Probe,
    Seconds,
    largest_size,
    noise,
    peak_memory,
    probe,
    saved_for_backward,
)
from nststab.vgg import PerceptualNetwork, Pooling, normalization


def test_a_footprint_grows_with_the_pixels() -> None:
    assert Footprint(10, 2).at(4, 3) == 34
    assert Footprint(10, 2).plus(Footprint(1, 0.5), Footprint(0, 1)) == Footprint(11, 3.5)
    assert Footprint(10, 2).plus() == Footprint(10, 2)


def test_the_peak_is_not_below_that_of_before() -> None:
    assert peak_memory(3e9, Resident(1_000_000_000, 1_500_000_000)) == 4_000_000_000
    assert peak_memory(2e8, Resident(1_000_000_000, 1_500_000_000)) == 1_500_000_000
    assert peak_memory(0, Resident(1_000_000_000, 1_000_000_000)) > 1_000_000_000  # the interpreter's end


@given(st.integers(1, 500), st.integers(1, 500), st.integers(-5, 600))
def test_the_largest_size_fits_and_the_next_does_not(below: int, least: int, limit: int) -> None:
    found = largest_size(lambda size: size <= limit, below, least)
    expected = [size for size in range(least, below) if size <= limit]
    assert found == (max(expected) if expected else None)


def test_what_a_convolution_saves() -> None:
    weight = torch.randn(4, 3, 3, 3)

    def loss(pixels: Tensor) -> dict[str, Tensor]:
        return {"sum": F.relu(F.conv2d(pixels, weight.requires_grad_(), padding=1)).sum()}

    # the convolution keeps its input (3 channels), the ReLU its result (4); and three times the larger of them
    assert saved_for_backward(loss) == (3 + 4 + 3 * 4) * 4


class Living(TorchDispatchMode):
    """Counts the bytes of all tensors, and the most that there were at a time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self.sizes:
                storage = tensor.untyped_storage()
                self.sizes[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.sizes.pop, storage._cdata)
                self.peak = max(self.peak, sum(self.sizes.values()))
        return result


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_the_count_agrees_with_all_tensors_of_the_real_network(pooling: Pooling) -> None:
    tensors, metadata = read_tensors(perceptual_weights())
    network = PerceptualNetwork(tensors, normalization(tensors, metadata), pooling)
    settings = LossSettings()
    target = style_target(network, torch.rand(1, 3, 32, 32), settings.style_layers)
    loss = PerceptualLoss(network, target, settings)

    def terms(pixels: Tensor) -> Mapping[str, Tensor]:
        return loss(pixels, loss.content_targets(pixels.detach()))

    counted = saved_for_backward(terms)
    living = Living()
    with living:
        pixels = torch.rand(1, 3, 96, 128, requires_grad=True)
        torch.autograd.grad(torch.stack(list(terms(pixels).values())).sum(), pixels)
    assert counted == pytest.approx(living.peak / (96 * 128), rel=0.08)


def test_counting_leaves_threads_and_random_state_alone() -> None:
    torch.manual_seed(5)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    saved_for_backward(lambda pixels: {"sum": pixels.square().sum()})
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until somebody advances it."""
    now = [0.0]
    monkeypatch.setattr("nststab.tasks.plan.time.monotonic", lambda: now[0])
    return now


def machine(clock: list[float], seconds_a_pixel: float, sizes: list[tuple[int, int]]) -> Callable[[int, int], Seconds]:
    def run(width: int, height: int) -> Seconds:
        sizes.append((width, height))
        torch.rand(1)
        clock[0] += 2 * width * height * seconds_a_pixel
        return Seconds(width * height * seconds_a_pixel, width * height * seconds_a_pixel / 2)

    return run


def test_a_quick_job_is_probed_at_its_own_size(clock: list[float]) -> None:
    sizes: list[tuple[int, int]] = []
    result = probe(machine(clock, 1e-6, sizes), 1280, 720)
    assert sizes == [(128, 72), (128, 72), (1280, 720)]
    assert result[:3] == (1280, 720, Seconds(0.9216, 0.4608))


def test_a_slow_job_is_probed_at_a_smaller_size_and_scaled_by_the_pixels(clock: list[float]) -> None:
    sizes: list[tuple[int, int]] = []
    result = probe(machine(clock, 1e-4, sizes), 1280, 720, budget=4.0)
    assert (result.width, result.height) == sizes[-1]
    assert 0.9 * 4 < 2e-4 * sizes[-1][0] * sizes[-1][1] < 1.1 * 4
    assert result.seconds.first == pytest.approx(92.16)
    assert result.seconds.later == pytest.approx(46.08)


def test_a_probe_stays_in_its_room_and_takes_no_random_numbers(clock: list[float]) -> None:
    sizes: list[tuple[int, int]] = []
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    probe(machine(clock, 1e-9, sizes), 1280, 720, largest=0.5)
    assert max(sizes) == (640, 360)
    assert torch.equal(torch.rand(3), expected)


def test_a_probe_tells_what_it_added() -> None:
    def run(width: int, height: int) -> Seconds:
        with mmap.mmap(-1, 4 * width * height) as block:  # new memory, where a tensor may get what others have left
            torch.frombuffer(block, dtype=torch.float32).fill_(1)
        return Seconds(1.0, 1.0)

    gc.collect()  # what others left to be collected may not be freed meanwhile
    assert 100e6 < probe(run, 8192, 4096).added < 160e6


def test_time_needs_the_number_of_frames() -> None:
    small = Probe(64, 36, Seconds(5.0, 2.0), 0)
    known = Plan(4, 64, 36, 10, 11, small.seconds, small)
    assert (known.total_seconds, known.fits) == (11.0, True)
    assert Plan(None, 64, 36, 10, 9, small.seconds, small).total_seconds is None
    assert not Plan(None, 64, 36, 10, 9, small.seconds, small).fits
    assert Plan(1, 64, 36, 10, None, small.seconds, small).fits


def test_noise_is_the_same_every_time() -> None:
    first, second = (list(noise(8, 6, 2)) for _ in range(2))
    assert [frame.shape for frame in first] == [(1, 3, 6, 8)] * 2
    assert torch.equal(torch.cat(first), torch.cat(second))
    assert not torch.equal(first[0], first[1])
