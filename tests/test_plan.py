"""What a long job takes: a step is measured at growing sizes, and the rest is predicted from that."""

import gc
import mmap
from dataclasses import replace

import pytest
import torch

from nststab.memory import Resident, resident
from nststab.tasks import plan as plan_module
from nststab.tasks.plan import (
    DoesNotFit,
    Measured,
    Plan,
    Seconds,
    Work,
    check,
    duration,
    largest_size,
    measured,
    noise,
    sized_like,
)


def a_step(bytes_per_pixel: int, sizes: list[tuple[int, int]], seconds: float = 1e-6) -> plan_module.Step:
    """Holds new memory by the pixels, and says that it took so many seconds a pixel."""

    def step(width: int, height: int) -> Seconds:
        sizes.append((width, height))
        count = bytes_per_pixel * width * height
        with mmap.mmap(-1, count) as block:  # where a tensor may get what others have left
            torch.frombuffer(block, dtype=torch.uint8).fill_(1)
        return Seconds(2 * seconds * width * height, seconds * width * height)

    return step


def test_a_step_is_measured_at_the_size_that_is_asked_for() -> None:
    gc.collect()
    sizes: list[tuple[int, int]] = []
    found = measured(a_step(100, sizes), 1600, 900)
    assert sizes[0] == sizes[1] == (128, 72)
    assert sizes[-1] == (found.width, found.height) == (1600, 900)
    assert found.added(1600, 900) == pytest.approx(144e6, rel=0.15)
    assert found.seconds.first == pytest.approx(2.88)
    assert found.seconds.later == pytest.approx(1.44)


def test_what_may_not_fit_is_measured_smaller_and_scaled() -> None:
    gc.collect()
    sizes: list[tuple[int, int]] = []
    available = resident().now + 100_000_000
    found = measured(a_step(100, sizes), 3200, 1800, available=available)
    assert 100 * found.width * found.height < 90e6
    assert found.added(3200, 1800) == pytest.approx(576e6, rel=0.15)
    assert found.seconds.later == pytest.approx(5.76)


def test_measuring_takes_no_random_numbers_and_noise_is_the_same_every_time() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    def step(_width: int, _height: int) -> Seconds:
        torch.rand(7)
        return Seconds(1, 1)

    measured(step, 64, 64)
    assert torch.equal(torch.rand(3), expected)
    first, second = (list(noise(8, 6, 2)) for _ in range(2))
    assert [frame.shape for frame in first] == [(1, 3, 6, 8)] * 2
    assert torch.equal(torch.cat(first), torch.cat(second))


def work(step: plan_module.Step = lambda *_: Seconds(1, 1), frames: int | None = 4) -> Work:
    """Of a clip of 640x360, in a process that holds nothing."""
    return Work(
        {"input": "film"},
        frames,
        "frames",
        640,
        360,
        (step,),
        lambda width, height: 10 * width * height,
        "size={}".format,
        sized_like(640, 360),
        held=Resident(0, 0),
    )


def made(available: int | None, frames: int | None = 4) -> Plan:
    """A plan of a step that takes 1 GB and 990 bytes a pixel."""
    part = Measured(Seconds(5.0, 2.0), 1e9, 990.0, 640, 360)
    return Plan(work(frames=frames), (part,), available)


def needed(width: int, height: int, steps: int = 1) -> int:
    """What such steps are said to take: what they were measured at and 15 % more, and what waits."""
    return round(1.15 * steps * (1e9 + 990 * width * height) + 10 * width * height)


def test_a_plan_says_what_it_takes_and_whether_it_fits() -> None:
    need = needed(640, 360)
    assert made(need).peak == need
    assert made(need).fits
    assert not made(need - 1).fits
    assert made(None).fits
    assert made(need).total_seconds == 11.0
    rows = dict(line.split(maxsplit=1) for line in made(need).table().splitlines())
    assert rows["input"] == "film"
    assert rows["frames"] == "4"
    assert rows["time"] == "11 s, 2 s for each of the frames"
    assert rows["verdict"] == "fits"
    unknown = dict(line.split(maxsplit=1) for line in made(None, None).table().splitlines())
    assert (unknown["available"], unknown["frames"]) == ("unknown", "not known before it is read")
    assert unknown["time"] == "2 s for each of the frames"


def test_the_size_that_is_named_fits_and_the_next_does_not() -> None:
    plan = made(needed(320, 180))
    assert plan.advice == "the largest size that fits is size=320"
    assert plan.needed(*plan.work.sized(320)) <= (plan.available or 0) < plan.needed(*plan.work.sized(322))
    assert made(1000).advice == "no size fits"


def test_two_steps_are_in_memory_at_the_same_time() -> None:
    part = Measured(Seconds(5.0, 2.0), 1e9, 990.0, 640, 360)
    both = Plan(work(), (part, part), None)
    assert both.peak == needed(640, 360, steps=2)
    assert both.seconds == Seconds(10.0, 4.0)


def test_a_job_is_measured_only_where_it_may_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    sizes: list[tuple[int, int]] = []
    job = work(a_step(5000, sizes))
    monkeypatch.setattr(plan_module, "available_memory", lambda _device: 8 << 30)
    check(job)
    assert not sizes
    held = resident()
    monkeypatch.setattr(plan_module, "available_memory", lambda _device: held.now + 400_000_000)
    with pytest.raises(
        DoesNotFit, match=r"640x360 needs about \d\.\d\d GiB .*; the largest size that fits is size=\d+"
    ):
        check(replace(job, held=held))
    assert sizes
    monkeypatch.setattr(plan_module, "available_memory", lambda _device: None)
    check(job)


@pytest.mark.parametrize(("below", "least", "limit", "expected"), [(100, 1, 37, 37), (100, 1, 0, None), (9, 4, 99, 8)])
def test_the_largest_size(below: int, least: int, limit: int, expected: int | None) -> None:
    assert largest_size(lambda size: size <= limit, below, least) == expected


@pytest.mark.parametrize(("seconds", "words"), [(0.123, "0.12 s"), (12.4, "12 s"), (400, "7 min"), (7500, "2 h 5 min")])
def test_time_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
