"""Run a search on a Dask cluster; imported where params ask for one, since Dask is an extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from joblib import parallel_config

from ninefold.errors import ParamsError

TIMEOUT = 20  # seconds in which a scheduler has to answer


@contextmanager
def workers(scheduler: str | None) -> Iterator[None]:
    """Let joblib run on the cluster of a scheduler, such as ``tcp://host:8786``; without one, on a cluster of this machine.

    Raises
    ------
    ParamsError
        If Dask is not installed, or the scheduler does not answer.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ParamsError(
            "params.yaml: training.backend: found dask, which is not installed; run `make setup`, or say local"
        ) from None
    try:
        cluster = scheduler or LocalCluster(threads_per_worker=1, dashboard_address=None)
        client = Client(cluster, timeout=TIMEOUT)
    except (OSError, ValueError) as error:
        raise ParamsError(
            f"params.yaml: training.scheduler: {scheduler} does not answer ({error}); start it with `dask scheduler`, or "
            "leave it out for a cluster on this machine"
        ) from None
    try:
        with parallel_config(backend="dask"):
            yield
    finally:
        client.close()
        if not isinstance(cluster, str):
            cluster.close()
