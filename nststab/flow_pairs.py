"""Flow in both directions between the frames of a stream, with its masks, computed ahead of its reader."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from torch import Tensor

from nststab.flow import FlowFunction
from nststab.warp import reliability


class FlowPair(NamedTuple):
    """The flows between the previous frame and this one, and where they hold.

    `forward` maps the previous frame to this one, `backward` this one to the previous: (1, 2, H, W). `forward_mask`
    lies on the previous frame's pixels, `backward_mask` on this one's: (1, 1, H, W), 1 = trust.
    """

    forward: Tensor
    backward: Tensor
    forward_mask: Tensor
    backward_mask: Tensor


def flow_ahead(
    frames: Iterable[Tensor], flow: FlowFunction, workers: int = 2
) -> Generator[tuple[Tensor, FlowPair | None], None, None]:
    """Yield each frame (1, 3, H, W) with the flows from and to the one before it; None for the first.

    Both directions are estimated side by side in threads, which keep at work while the reader is busy: up to `workers`
    frames ahead of it. An error of `frames` or `flow` is raised here. Closing the generator waits for the estimates in
    work.
    """
    waiting: deque[tuple[Tensor, tuple[Future[Tensor], Future[Tensor]] | None]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="flow")
    try:
        previous: Tensor | None = None
        for frame in frames:
            if previous is None:
                waiting.append((frame, None))
            else:
                waiting.append((frame, (pool.submit(flow, previous, frame), pool.submit(flow, frame, previous))))
            previous = frame
            if len(waiting) > workers:
                yield _finish(*waiting.popleft())
        while waiting:
            yield _finish(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _finish(frame: Tensor, flows: tuple[Future[Tensor], Future[Tensor]] | None) -> tuple[Tensor, FlowPair | None]:
    if flows is None:
        return frame, None
    forward, backward = (future.result() for future in flows)
    return frame, FlowPair(forward, backward, reliability(forward, backward), reliability(backward, forward))
