"""Work beside the service, in threads that end with it: what goes wrong there is printed, and ends nothing."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ninefold.errors import NinefoldError

PATIENCE = 5.0  # seconds to wait at the end for what is being done


@contextmanager
def repeated(work: Callable[[], object], seconds: float, failed: str) -> Iterator[None]:
    """Do `work` at once, and again after so many `seconds`, in a thread, until the context ends; `failed` begins a warning."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            try:
                work()
            except Exception as error:
                say(f"warning: {failed}: {because(error)}")
            stop.wait(seconds)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE)


def say(text: str) -> None:
    """Print a line for whoever operates the service, who may not read it any more."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def because(error: Exception) -> str:
    """Return why something failed, in one text: errors of ours say all, others need their kind."""
    return str(error) if isinstance(error, NinefoldError) else f"{type(error).__name__}: {error}"
