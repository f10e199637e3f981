"""A function in a process of its own: what it adds to the memory is then not what something else left there."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from nststab.errors import NststabError

T = TypeVar("T")


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
