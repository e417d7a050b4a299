"""What only Dask needs: the cluster that scores the trials of a search; imported when params ask for it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from joblib import parallel_config

from ninefold.errors import ParamsError
from ninefold.sentences import render

TIMEOUT = 20  # seconds in which a scheduler has to answer


@contextmanager
def connect(scheduler: str | None) -> Iterator[None]:
    """Let joblib run on a scheduler's cluster (default: this machine's cores); raise ParamsError without Dask or an answer."""
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ParamsError(render("training", "no_dask")) from None
    with ExitStack() as stack:
        try:
            local = {"threads_per_worker": 1, "dashboard_address": None}
            stack.enter_context(Client(scheduler or stack.enter_context(LocalCluster(**local)), timeout=TIMEOUT))
        except (OSError, ValueError) as error:
            raise ParamsError(render("training", "no_scheduler", scheduler=scheduler, error=error)) from None
        stack.enter_context(parallel_config(backend="dask"))
        yield
