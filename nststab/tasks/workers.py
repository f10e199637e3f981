"""Where independent pieces of work run: in this process, in several, or on a cluster, all as `concurrent.futures`."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import get_context
from typing import Any, TypeVar

from nststab.errors import NststabError, SettingError

T = TypeVar("T")
_TRIES = 3


class _Result(Future[T]):
    """A result that outlives the process that was to compute it; cancelled where that has not begun."""

    inner: "Future[T] | None" = None

    def cancel(self) -> bool:
        return self.inner is not None and self.inner.cancel()


class Processes(Executor):
    """So many processes on this machine; what a killed one had begun is begun again, three times at most.

    Functions, arguments and results must pickle. A script that uses it needs `if __name__ == "__main__":`, as each
    process imports it.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._pool = self._new()
        self._ends = False

    def _new(self) -> ProcessPoolExecutor:
        context = get_context("forkserver" if sys.platform == "linux" else "spawn")  # a fork would inherit our locks
        # One import for all of them; an optimiser's first step imports the second, for seconds.
        context.set_forkserver_preload(["nststab.tasks.stylize", "torch._dynamo"])
        return ProcessPoolExecutor(self._count, context)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        """Begins `fn(*args, **kwargs)` in one of the processes."""
        result: _Result[T] = _Result()
        self._begin(result, lambda pool: pool.submit(fn, *args, **kwargs), 1)
        return result

    def _begin(self, result: "_Result[T]", submit: Callable[[Executor], "Future[T]"], number: int) -> None:
        with self._lock:
            pool = self._pool
            try:
                inner = submit(pool)
            except BrokenExecutor:  # a process died since the last one was begun
                pool = self._pool = self._new()
                inner = submit(pool)

        def settle(done: "Future[T]") -> None:
            if done.cancelled():
                Future.cancel(result)
                return
            error = done.exception()
            if isinstance(error, BrokenExecutor) and number < _TRIES and not self._ends:
                with self._lock:
                    if self._pool is pool:
                        self._pool = self._new()
                self._begin(result, submit, number + 1)
            elif error is not None:
                result.set_exception(error)
            else:
                result.set_result(done.result())

        result.inner = inner
        inner.add_done_callback(settle)

    def __exit__(self, *error: object) -> None:
        self.shutdown(cancel_futures=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the processes when they have finished what they do."""
        self._ends = True
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


@contextmanager
def workers(jobs: int | None = None, cluster: str | None = None) -> Iterator[Executor | None]:
    """So many processes of this machine, or the workers of a Dask cluster (`tcp://host:port`); None without either.

    The workers of a cluster need this package and the same paths for what is read. What a worker had begun that dies is
    begun again by another one.

    Raises SettingError for both at once, NststabError where the cluster cannot be reached.
    """
    if jobs is not None and cluster is not None:
        raise SettingError("jobs has no effect on a cluster")
    if cluster is not None:
        try:
            distributed: Any = import_module("distributed")
        except ModuleNotFoundError as error:
            raise NststabError("cluster needs Dask: pip install 'nststab[cluster]'") from error
        try:
            client = distributed.Client(cluster, timeout=30)
        except (OSError, ValueError) as error:
            raise NststabError(f"cluster: no Dask scheduler answers at {cluster} ({error})") from error
        with client, client.get_executor(pure=False) as executor:
            yield executor
    elif jobs is not None and jobs > 1:
        with Processes(jobs) as pool:
            yield pool
    else:
        yield None
