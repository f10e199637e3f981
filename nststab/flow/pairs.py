"""Flow in both directions between the frames of a stream, with its masks, computed ahead of its reader."""

from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from torch import Tensor

from nststab.errors import NststabError
from nststab.flow.estimators import FlowFunction
from nststab.frames import Frame
from nststab.warp import reliability

_FULL_TRUST = 0.999  # of a mask in [0, 1]: the sums of its smoothing are rounded


class FlowPair(NamedTuple):
    """The flows between a previous frame and this one, and where they hold.

    `forward` maps the previous frame to this one, `backward` this one to the previous: (1, 2, H, W). `forward_mask`
    lies on the previous frame's pixels, `backward_mask` on this one's: (1, 1, H, W), 1 = trust.
    """

    forward: Tensor
    backward: Tensor
    forward_mask: Tensor
    backward_mask: Tensor

    @classmethod
    def of(cls, forward: Tensor, backward: Tensor) -> "FlowPair":
        """Two opposite flows (1, 2, H, W) with the masks that follow from them; raises as `reliability`."""
        return cls(forward, backward, reliability(forward, backward), reliability(backward, forward))

    @property
    def trusted(self) -> Tensor:
        """The pixels of this frame whose backward flow is trusted in full, 0 or 1 (1, 1, H, W).

        Ruder's masks are soft, and leak a little trust into what is hidden: too much for a measure.
        """
        return (self.backward_mask > _FULL_TRUST).float()


_Futures = Mapping[int, tuple[Future[Tensor], Future[Tensor]]]  # distance -> forward and backward


def flow_ahead(
    frames: Iterable[Frame],
    flow: FlowFunction,
    distances: Sequence[int] = (1,),
    workers: int = 2,
    strides: Mapping[int, int] | None = None,
) -> Generator[tuple[Frame, Mapping[int, FlowPair]], None, None]:
    """Yield each frame with the flows from and to the frames which lie `distances` before it.

    The mapping goes from each distance, the nearest first, to the pair between that frame and this one; it lacks those
    that reach before the stream's beginning, so it is empty for the first frame, and those of a distance that `strides`
    wants at each so many-th frame only. All flows are estimated side by side
    in threads, which keep at work while the reader is busy: up to `workers` frames ahead of it. No more than
    `workers` + the largest distance + 1 frames are held. An error of `frames` or `flow` is raised here. Closing the
    generator waits for the estimates in work.

    Raises:
        ValueError: a distance below 1.
    """
    nearest_first = sorted(set(distances))
    if nearest_first and nearest_first[0] < 1:
        raise NststabError(f"expected distances of at least 1 frame, got {nearest_first[0]}")
    before: deque[Frame] = deque(maxlen=max(nearest_first, default=0))
    waiting: deque[tuple[Frame, _Futures]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="flow")
    try:
        for index, frame in enumerate(frames):
            due = [distance for distance in nearest_first if index % (strides or {}).get(distance, 1) == 0]
            reached = [distance for distance in due if distance <= len(before)]
            pairs = {d: (pool.submit(flow, before[-d], frame), pool.submit(flow, frame, before[-d])) for d in reached}
            waiting.append((frame, pairs))
            before.append(frame)
            if len(waiting) > workers:
                yield _finish(*waiting.popleft())
        while waiting:
            yield _finish(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _finish(frame: Frame, futures: _Futures) -> tuple[Frame, Mapping[int, FlowPair]]:
    return frame, {d: FlowPair.of(forward.result(), backward.result()) for d, (forward, backward) in futures.items()}
