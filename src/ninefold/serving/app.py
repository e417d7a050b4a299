"""The service: the application that answers over HTTP from a bundle, and the process that serves it."""

import gc
import math
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import closing, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route

from ninefold import artifacts, params
from ninefold.errors import DataError, NinefoldError
from ninefold.serving import hot_swap, log_export, middleware, review, routes, schemas
from ninefold.serving.bundle import Bundle
from ninefold.serving.challenger import Challenger, watching
from ninefold.serving.hot_swap import SwappableApp, Watcher, repeated
from ninefold.serving.log import LOG, Log, LogError
from ninefold.serving.middleware import RETRY, Metrics, refuse

LISTED = 20  # problems of a refusal
HOUR = 3600.0  # seconds between two clean-ups of the log
CLEARER = {
    "Not Found": "no such address; expected POST /predict, or GET /, /health, /ready, /metrics, /openapi.json, /v2",
    "There was an error parsing the body": "body: not JSON: not UTF-8, nested too deeply, or with too long a number",
}


def create_app(
    bundle: Bundle,
    log: Log | None = None,
    token: str | None = None,
    rows: Path | None = None,
    challenger: Challenger | None = None,
    hosts: Sequence[str] = ("*",),
) -> FastAPI:
    """Return the service that answers from `bundle`: the review page of `rows`, and the `routes`.

    Every answer is written to `log`, which the caller closes, before it is returned. Callers have to send `token`, and to
    call by one of `hosts` (`middleware.allowed_hosts`). A `challenger` runs beside `bundle`, and has the metrics of the
    service.
    """
    problem, limits = bundle.problem, bundle.described["limits"]
    limiters = {kind: middleware.Limiter(threads, limits) for kind, threads in middleware.THREADS.items()}
    about = f"{problem.question} The forecast for each row, and what to do."
    # Pages of documentation would load scripts from other hosts.
    app = FastAPI(title=problem.title, version=bundle.version, description=about, docs_url=None, redoc_url=None)
    challenger = challenger or Challenger(Metrics(bundle, log), log)
    service = routes.Service(bundle, challenger)
    probes, review_page = routes.probes(service), review.router(service, rows)
    routers = [routes.plain(service), routes.open_inference(service), review_page]
    secured = Depends(HTTPBearer(auto_error=False))  # in the OpenAPI document; `check_caller` reads it
    common = routes.refusals(400, 503, *([401] if token is not None else []))
    asks: dict[str, Any] = {"responses": common, "dependencies": [secured] if token is not None else []}
    app.include_router(probes)
    for router in routers:
        app.include_router(router, **asks)
    check = partial(middleware.check_caller, hosts, token)
    app.add_middleware(lambda inner: partial(middleware.limit, inner, check, limiters))
    every = [route for router in (app.router, probes, *routers) for route in router.routes]
    templates = [(route.path_regex, route.path) for route in every if isinstance(route, Route)]
    app.add_middleware(lambda inner: partial(middleware.count_requests, inner, challenger.metrics, templates))
    for kind in (RequestValidationError, ValidationError, HTTPException, DataError, LogError):
        app.add_exception_handler(kind, partial(_answer_error, bundle))
    return app


def run(
    bundle: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    log: Path | None = None,
    no_log: bool = False,
    rows: Path | None = None,
) -> None:
    """Serve a bundle until SIGTERM or SIGINT; print its address, on one line, once it accepts requests.

    The defaults: `bundle`, the one that the project has in production, else its newest; `log`,
    ``data/predictions/log.sqlite``, for a named bundle none; `rows`, a table for the review page, the project's newest.
    A bundle that takes over (`ninefold promote`, `rollback`) answers from the next request on; no request is dropped.
    `NinefoldError` if the bundle is not as it was packed, the port is taken, the token is none, or an allowed host is none.
    """
    project = None if bundle else params.root()
    champion = Watcher(lambda: bundle or artifacts.path(hot_swap.in_production()))
    hosts = middleware.allowed_hosts(host, params.load("serving").allowed_hosts if project else ())
    first, token = champion.load(), middleware.token()
    # So that probes do not wait while others compute: without a collection of the libraries' objects, which stops all
    # threads for up to 0.5 s (measured), and with turns of 1 ms instead of 5.
    gc.freeze()
    sys.setswitchinterval(0.001)
    if warning := middleware.warning(host, token):
        print(warning, file=sys.stderr, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn ends its requests first, then hands the signal on
    with _logging(bundle, log, no_log) as open_log, _listen(host, port) as listener, suppress(KeyboardInterrupt):
        if open_log and (reason := open_log.failure(first)):
            print(f"warning: not ready: {reason}", file=sys.stderr, flush=True)
        challenger = Challenger(Metrics(first, open_log), open_log, project)
        app = SwappableApp(first, lambda newer: create_app(newer, open_log, token, rows, challenger, hosts))
        longest = math.ceil(first.described["limits"]["timeout_s"]) + 1
        options: dict[str, Any] = {"log_level": "warning", "access_log": False, "lifespan": "off"}
        server = uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=longest, **options))

        def clean_up() -> None:
            if open_log:
                log_export.prune(open_log.place, app.bundle.described["log"]["keep"])

        with watching(app, champion, challenger), repeated(clean_up, HOUR, "old answers are not deleted"):
            address = f"[{host}]" if ":" in host else host
            served = bundle or hot_swap.in_production()
            print(f"serving {served} at http://{address}:{listener.getsockname()[1]}", flush=True)
            server.run(sockets=[listener])


async def _answer_error(bundle: Bundle, _: Request, error: Any) -> Response:
    match error:
        case HTTPException():
            return refuse(error.status_code, CLEARER.get(error.detail, str(error.detail)), headers=error.headers)
        case LogError():
            return refuse(503, f"not answered: {error}", headers=RETRY)
        case DataError():
            return refuse(422, str(error))
    errors = error.errors()
    problems = schemas.explain(errors[:LISTED], bundle)
    more = f"; and at least {len(errors) - LISTED:,} more" if len(errors) > LISTED else ""
    return refuse(422, "; ".join(problem["message"] for problem in problems[:3]) + more, problems)


def _logging(bundle: Path | None, log: Path | None, no_log: bool) -> Any:
    """Return the log as a context, which closes it, or one of None."""
    if log and no_log:
        raise NinefoldError(f"--log {log} and --no-log: expected one of them")
    place = log or (artifacts.path(LOG) if bundle is None else None)
    return nullcontext() if place is None or no_log else closing(Log(place))


def _listen(host: str, port: int) -> socket.socket:
    family, both = (socket.AF_INET6, socket.has_dualstack_ipv6()) if ":" in host else (socket.AF_INET, False)
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048, dualstack_ipv6=both)
    except (OSError, OverflowError) as error:
        advice = "choose another --port, or 0 for a free one"
        raise NinefoldError(f"{host}:{port}: cannot listen there ({error}); {advice}") from None
    # With the protocol spelled out asyncio sets TCP_NODELAY; else an answer, two writes, waits 40 ms for an ACK (measured).
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, listener.detach())
