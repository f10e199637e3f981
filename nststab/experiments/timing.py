"""How long and how much: rounds by a clock, iterations of an optimisation, memory in a fresh process, arithmetic."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from typing import Any, TypedDict, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from nststab.errors import NststabError
from nststab.frames import Stylizer, as_frames
from nststab.memory import reset_peak, resident

T = TypeVar("T")
WARM_UP = 2  # rounds
_MATRIX_SIDES = {"cpu": 2048}
_MATRIX_SIDE = 8192  # of accelerators

IterationReport = Callable[[int, Mapping[str, float]], None]


class Measured(TypedDict):
    """Of a method at a size: JSON values. `flop` and each of `seconds` belong to a frame, or to an iteration."""

    seconds: list[float]
    flop: int
    matrix_rates: list[float]  # FLOP a second of matrix products beside it
    peak_bytes: int | None


def alternating(
    jobs: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each job in each of `rounds` rounds, in which each runs once; `WARM_UP` rounds before do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(WARM_UP + rounds):
        for name, job in jobs.items():
            started = clock()
            job()
            if number >= WARM_UP:
                seconds[name].append(clock() - started)
    return seconds


def iteration_steps(
    build: Callable[[IterationReport], Stylizer],
    frames: Sequence[Tensor],
    reading: Callable[[], float] = time.perf_counter,
    between: Callable[[], object] = lambda: None,
) -> list[float]:
    """By how much `reading` grows in each iteration of the last of `frames`, (1, 3, H, W): an update and an evaluation.

    build: makes the optimisation, which tells the report its iterations from 0, before the first update, on. between:
    is called where an iteration ends, and counts to none.
    """
    steps: list[float] = []
    before = 0.0

    def report(iteration: int, _terms: Mapping[str, float]) -> None:
        nonlocal before
        after = reading()
        if iteration == 0:
            steps.clear()
        else:
            steps.append(after - before)
        between()
        before = reading()

    for _ in build(report)(as_frames(frames)):
        pass
    return steps


def flop_of_iteration(build: Callable[[IterationReport], Stylizer], frames: Sequence[Tensor]) -> int:
    """FLOP of the last iteration that `iteration_steps` sees."""
    counter = FlopCounter()
    with counter:
        return int(iteration_steps(build, frames, lambda: counter.flop)[-1])


def matrix_side(device: torch.device) -> int:
    """Of the matrices that the machine is measured with: large enough to reach its rate, small beside a frame."""
    return _MATRIX_SIDES.get(device.type, _MATRIX_SIDE)


class MatrixProduct:
    """A square matrix product, the machine's measure: calling it multiplies once, and waits for an accelerator.

    On CUDA float32 convolutions may use TF32, which products do not: a share of more than 1 is then possible.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, side: int | None = None, seed: int = 0) -> None:
        self.side = side or matrix_side(device)
        self.flop = 2 * self.side**3
        generator = torch.Generator(device).manual_seed(seed)
        sides = self.side, self.side
        self._factors = [torch.randn(sides, generator=generator, dtype=dtype, device=device) for _ in range(2)]

    def __call__(self) -> None:
        first, second = self._factors
        (first @ second)[0, 0].item()

    def rate(self, seconds: float) -> float:
        """FLOP a second of a product that took so long."""
        return self.flop / seconds


class AddedMemory:
    """What the process holds at its peak beyond what it held when this was made.

    It is to be made in a fresh process, before the method: an allocator keeps what others freed, and would hand it to
    the method unseen. The libraries are loaded by then, their code that nothing used yet is not. Of a GPU it is the
    memory of tensors on it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._known = True
        else:
            self._known = device.type == "cpu" and reset_peak()
        self._before = torch.cuda.memory_allocated(device) if device.type == "cuda" else resident().now

    def bytes(self) -> int | None:
        """None where the system does not tell: elsewhere than on Linux and CUDA."""
        if not self._known:
            return None
        on_gpu = self._device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self._device) if on_gpu else resident().peak
        return max(0, peak - self._before)  # Linux counts each thread's pages in batches: its peak may lag by some


# a process of its own


def in_fresh_process(function: Callable[..., T], *arguments: Any) -> T:
    """What `function` returns in a newly started interpreter: a module's function, arguments and result that pickle.

    Raises:
        ValueError: the function raised ValueError or OSError there, whose message it has, or the system ended the
            process. RuntimeError: the function raised anything else.
    """
    context = get_context("spawn")  # a forked one inherits what this process holds, and locks of its threads
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, function, *arguments), daemon=True)
    process.start()
    sender.close()  # else its end in that process would not be the last, and its death go unnoticed
    try:
        kind, value = receiver.recv()
    except EOFError:
        process.join()
        raise NststabError(
            f"the process that measures ended with exit code {process.exitcode}; the memory may not do"
        ) from None
    finally:
        process.kill()  # after the answer nothing is left to do; without one, somebody interrupted
        process.join()
        receiver.close()
    if kind == "result":
        result: T = value
        return result
    raise NststabError(value) if kind == "fault" else RuntimeError(value)


def _work(sender: Connection, function: Callable[..., Any], *arguments: Any) -> None:
    with suppress(ValueError):  # outside of a main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process, with one message instead of two
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = "result", function(*arguments)
    except (ValueError, OSError) as error:
        answer = "fault", str(error)
    except Exception as error:
        answer = "error", f"{type(error).__name__}: {error}"
    sender.send(answer)


def _end_with_parent() -> None:
    """Left over from a killed run, this process would disturb what the next one measures."""
    if parent := parent_process():
        parent.join()
        os._exit(1)


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered `flop` grows by the FLOP of convolutions and matrix products, forward and backward.

    By the formulas of `torch.utils.flop_counter`. Its own `FlopCounterMode` also follows the modules, with hooks that
    `torch.autograd.grad` refuses.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flop = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func.overloadpacket):
            self.flop += formula(*args, **(kwargs or {}), out_val=result)
        return result


def flop_of(job: Callable[[], object]) -> int:
    """FLOP of `job`."""
    counter = FlopCounter()
    with counter:
        job()
    return counter.flop
