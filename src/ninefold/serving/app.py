"""Answer over HTTP from a bundle: plain rows, the Open Inference Protocol V2, health, and errors that name the field."""

import asyncio
import difflib
import json
import math
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import uvicorn
from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Request
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException

from ninefold import artifacts, params
from ninefold.errors import DataError, NinefoldError
from ninefold.problem import Problem, decisions
from ninefold.serving import hot_swap, middleware, review
from ninefold.serving.bundle import Bundle
from ninefold.serving.challenger import Challenger, Reply, watching
from ninefold.serving.fields import names
from ninefold.serving.hot_swap import SwappableApp, Watcher
from ninefold.serving.log import LOG, Log
from ninefold.serving.log_entry import Entry, LogError, filled
from ninefold.serving.middleware import (
    RETRY,
    ConcurrencyLimiter,
    CountRequests,
    LimitBody,
    Metrics,
    RequireToken,
    refuse,
)
from ninefold.serving.schemas import (
    LARGEST,
    Inference,
    InferenceAnswer,
    Refusal,
    Tensor,
    answer_model,
    inference_example,
    input_types,
    predicted,
    request_model,
    sent,
)

# Postponed annotations are not used here: FastAPI has to see the models that are made from a bundle's signature.

HOST, PORT = "127.0.0.1", 8000
REPORTED = 20
SAID = {
    400: "The body cannot be read.",
    401: "No token, or another one.",
    404: "No such model.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    422: "A row or a field is wrong.",
    503: "Too much is asked at once, an answer takes too long, or the prediction log cannot be written. Try again.",
}
Failure: TypeAlias = Callable[[], str | None]
Rows: TypeAlias = list[dict[str, Any]]
Answering: TypeAlias = Callable[[Request, Callable[[], Rows], Callable[[Rows, Reply], Response]], Awaitable[Response]]


def create_app(
    bundle: Bundle,
    log: Log | None = None,
    token: str | None = None,
    rows: Path | None = None,
    metrics: Metrics | None = None,
    challenger: Challenger | None = None,
) -> FastAPI:
    """Return the service that answers from `bundle`: the review page, ``/predict``, ``/health``, ``/ready``, ``/metrics``, ``/v2``.

    Parameters
    ----------
    bundle : Bundle
    log : Log, optional
        The prediction log: every answer is written to it before it is returned. The caller closes it. None: no log.
    token : str, optional
        The bearer token that callers have to send, see `middleware.RequireToken`.
    rows : Path, optional
        The rows of the review page, see `review.router`.
    metrics : Metrics, optional
        New ones if absent.
    challenger : Challenger, optional
        A bundle that runs beside this one.
    """
    problem, limits = bundle.problem, bundle.described["limits"]
    app = FastAPI(
        title=problem.title,
        version=bundle.version,
        description=f"{problem.question} {_baseline(problem)}, and what to do.",
        docs_url=None,  # these pages would load scripts from other hosts
        redoc_url=None,
    )
    request, metrics = request_model(bundle), metrics or Metrics(bundle, log)
    challenger = challenger or Challenger(metrics, log)
    limiter = ConcurrencyLimiter(limits["timeout_s"], limits["max_waiting"])
    answering = _answering(bundle, limiter, metrics, log, challenger)

    def failure() -> str | None:
        return log.failure(bundle) if log else None

    routers = [
        probes(bundle, failure, challenger),
        plain(bundle, request, answering, metrics, token is not None),
        open_inference(bundle, request, answering, failure, token is not None),
        review.router(bundle, rows, failure, log),
    ]
    for router in routers:
        app.include_router(router)
    app.add_middleware(LimitBody, limit=int(limits["max_body_mb"] * 1_000_000), timeout=limits["timeout_s"])
    if token is not None:
        app.add_middleware(RequireToken, token=token)
    templates = [getattr(route, "path", "") for router in routers for route in router.routes]
    app.add_middleware(CountRequests, metrics=metrics, templates=[*templates, "/openapi.json"])
    app.add_exception_handler(RequestValidationError, _refuse_fields(bundle))
    app.add_exception_handler(ValidationError, _refuse_fields(bundle))
    app.add_exception_handler(StarletteHTTPException, _refuse)
    app.add_exception_handler(DataError, lambda _, error: refuse(422, str(error)))
    app.add_exception_handler(LogError, lambda _, error: refuse(503, f"not answered: {error}", headers=RETRY))
    return app


def probes(bundle: Bundle, failure: Failure, challenger: Challenger) -> APIRouter:
    """Return the routes for health probes, which need no token."""
    router = APIRouter()

    @router.get("/health")
    def health() -> dict[str, str]:
        """Return that the process is alive."""
        return {"status": "alive"}

    @router.get("/ready", responses=_refusals(503))
    def ready() -> dict[str, str]:
        """Return which model answers, and the challenger beside it.

        503 while the prediction log cannot be written, since no request is answered then.
        """
        if reason := failure():
            raise HTTPException(503, f"not ready: {reason}", RETRY)
        fast = bundle.fast_reason or "in use"
        answer = {"status": "ready", "model": bundle.name, "version": bundle.version, "fast_form": fast}
        if challenger.active:
            answer["challenger"] = f"{challenger.active.bundle.version} ({challenger.active.mode})"
        if challenger.reason:
            answer["no_challenger"] = challenger.reason
        return answer

    @router.get("/v2/health/live")
    def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/v2/health/ready", responses={503: {"model": dict[str, bool]}})
    def v2_ready() -> Any:
        return JSONResponse({"ready": False}, 503, RETRY) if failure() else {"ready": True}

    return router


def plain(
    bundle: Bundle, request: type[BaseModel], answering: Answering, metrics: Metrics, guarded: bool = False
) -> APIRouter:
    """Return the plain routes: rows in, predictions out; and what Prometheus reads."""
    router = _router(guarded)
    identity, answer = names(bundle.signature, "identity"), answer_model(bundle)

    @router.post("/predict", response_model=answer, responses=_refusals(400, 408, 413, 422, 503))
    async def predict(body: request, call: Request) -> Response:  # type: ignore[valid-type]
        """Return the forecast, the best action and its expected payoff for every row."""

        def write(rows: Rows, reply: Reply) -> Response:
            predictions = predicted(reply.answered.records, reply.bundle)
            for row, prediction in zip(rows, predictions, strict=True):
                if named := {name: row[name] for name in identity if name in row}:
                    prediction["identity"] = named
            given = answer(
                request_id=call.state.request_id,
                model=reply.bundle.name,
                version=reply.bundle.version,
                history_as_of=reply.bundle.moment,
                predictions=predictions,
                warnings=[{**each, "message": _warn(each)} for each in reply.answered.unseen],
            )
            # What was not set is left out: the identity of a row that was sent without one.
            return Response(given.model_dump_json(exclude_unset=True), media_type="application/json")

        return await answering(call, lambda: sent(body), write)

    # A class with a media type would lend it to the refusals too, which are JSON.
    text = {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus's text format."}

    @router.get("/metrics", response_class=Response, responses={200: text})
    def read_metrics() -> Response:
        """Return the metrics for Prometheus: requests, their time, rows, actions, the bundle, the log, the monitoring state."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def open_inference(
    bundle: Bundle, request: type[BaseModel], answering: Answering, failure: Failure, guarded: bool = False
) -> APIRouter:
    """Return the routes of the Open Inference Protocol V2 (https://github.com/kserve/open-inference-protocol).

    Every field is an input of shape [n] or [n, 1]; null in ``data`` means missing.
    """
    router = _router(guarded, prefix="/v2")
    name_here: TypeAlias = Annotated[str, InPath(json_schema_extra={"enum": [bundle.name]})]
    example: TypeAlias = Annotated[Inference, Body(examples=[inference_example(bundle)])]
    outputs = dict.fromkeys(bundle.answers, "FP64")
    if bundle.problem.is_class:
        outputs["action"] = "BYTES"

    def known(name: str) -> None:
        if name != bundle.name:
            raise HTTPException(404, f"no model {name!r} here; this service has {bundle.name!r}")

    @router.get("")
    def server() -> dict[str, Any]:
        return {"name": "ninefold", "version": bundle.version, "extensions": []}

    @router.get("/models/{name}/ready", responses={**_refusals(404, 422), 503: {"model": dict[str, Any]}})
    def model_ready(name: name_here) -> Any:
        known(name)
        return JSONResponse({"name": name, "ready": False}, 503, RETRY) if failure() else {"name": name, "ready": True}

    @router.get("/models/{name}", responses=_refusals(404, 422))
    def metadata(name: name_here) -> dict[str, Any]:
        known(name)
        described = {"inputs": _tensors(input_types(bundle)), "outputs": _tensors(outputs)}
        return {"name": name, "versions": [bundle.version], "platform": "sklearn_skops", **described}

    @router.post(
        "/models/{name}/infer", response_model=InferenceAnswer, responses=_refusals(400, 404, 408, 413, 422, 503)
    )
    async def infer(name: name_here, body: example, call: Request) -> Response:
        """Return the forecast, the best action and its expected payoff, a tensor each; ``id`` names the request."""
        known(name)
        wanted = [each.name for each in body.outputs or []] or list(outputs)
        if strange := [each for each in wanted if each not in outputs]:
            raise HTTPException(422, f"outputs: no {strange[0]!r}; expected {', '.join(outputs)}")
        if body.id is not None and middleware.VALID_ID.fullmatch(body.id):
            call.state.request_id = body.id

        def read() -> Rows:
            return sent(request.model_validate({"rows": as_rows(body.inputs)}))

        def write(rows: Rows, reply: Reply) -> Response:
            data = {each: [record[each] for record in reply.answered.records] for each in wanted}
            tensors = [
                {"name": each, "shape": [len(rows)], "datatype": outputs[each], "data": data[each]} for each in wanted
            ]
            number = call.state.request_id if body.id is None else body.id
            told = {"model_name": name, "model_version": reply.bundle.version, "id": number, "outputs": tensors}
            return JSONResponse(told)

        return await answering(call, read, write)

    return router


def _answering(
    bundle: Bundle, limiter: ConcurrencyLimiter, metrics: Metrics, log: Log | None, challenger: Challenger
) -> Answering:
    """Return what both routes share: compute in a thread, write to the log, and only then answer."""

    async def answer(call: Request, read: Callable[[], Rows], write: Callable[[Rows, Reply], Response]) -> Response:
        moment, number = datetime.now(UTC), call.state.request_id

        def work() -> tuple[Rows, Reply, Response, Entry | None]:
            rows = read()
            reply = challenger.answer(rows, bundle, number)
            one, records, role = reply.bundle, reply.answered.records, reply.role
            entry = log.entry(number, moment, one, filled(rows, one), records, role) if log else None
            return rows, reply, write(rows, reply), entry

        async with limiter.slot():
            rows, reply, response, entry = await limiter.compute(work)
            if log and entry:
                await asyncio.wrap_future(log.submit(entry))
        metrics.count_answers(reply.answered.records)
        challenger.shadow(number, moment, rows)
        return response

    return answer


def _router(guarded: bool, prefix: str = "") -> APIRouter:
    """Return a router that says, where a token is asked for, so in the OpenAPI document; `RequireToken` checks it."""
    if not guarded:
        return APIRouter(prefix=prefix)
    return APIRouter(prefix=prefix, dependencies=[Depends(HTTPBearer(auto_error=False))], responses=_refusals(401))


def _refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Refusal, "description": SAID[code]} for code in codes}


def as_rows(inputs: list[Tensor]) -> list[dict[str, Any]]:
    """Return columns as rows.

    Raises
    ------
    HTTPException
        422, if names repeat, a shape is not [n] or [n, 1], does not fit its data, or the columns differ in length.
    """
    columns = {each.name: each for each in inputs}
    if len(columns) < len(inputs):
        raise HTTPException(422, "inputs: a name stands there twice; expected a column per field")
    for each in inputs:
        if len(each.shape) not in (1, 2) or each.shape[1:] not in ([], [1]) or each.shape[0] != len(each.data):
            expected = f"[{len(each.data)}] or [{len(each.data)}, 1], flat data"
            raise HTTPException(
                422, f"input {each.name!r}: shape {each.shape} for {len(each.data)} values, expected {expected}"
            )
        if each.shape[0] != inputs[0].shape[0]:
            found = f"{each.shape[0]} values, {inputs[0].name!r} has {inputs[0].shape[0]}"
            raise HTTPException(422, f"input {each.name!r}: {found}; expected columns of one length")
    return [dict(zip(columns, values, strict=True)) for values in zip(*(each.data for each in inputs), strict=True)]


def run(
    bundle: Path | None = None,
    host: str = HOST,
    port: int = PORT,
    log: Path | None = None,
    no_log: bool = False,
    rows: Path | None = None,
) -> None:
    """Serve a bundle until SIGTERM or SIGINT; print its address, on one line, once it accepts requests.

    When another bundle takes the place of the one that it serves (`ninefold promote`, `rollback`), it answers with that
    one from the next request on; none is dropped. At the end it takes no more requests, answers those in hand, and closes
    the log.

    Parameters
    ----------
    bundle : Path, optional
        A bundle; if absent, the one that the project has in production, or its newest for want of it.
    host : str
        The address to listen at.
    port : int
        0 takes a free one.
    log : Path, optional
        Where to write the prediction log. If absent, the project's bundle is logged in the project's
        ``data/predictions/log.sqlite``, and a bundle that is named not at all.
    no_log : bool
        Log nothing.
    rows : Path, optional
        A table of rows to decide on, for the review page; the newest ones of the project if absent.

    Raises
    ------
    NinefoldError
        If the bundle is not as it was packed, the port is taken, or the token is none.
    """
    project = None if bundle else params.root()
    champion = Watcher(lambda: bundle or artifacts.path(hot_swap.in_production()))
    packed, token = champion.load(), middleware.token()
    if said := middleware.warning(host, token):
        print(said, file=sys.stderr, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn ends its requests first, then hands the signal on
    with _logging(bundle, log, no_log) as kept, _listen(host, port) as listener, suppress(KeyboardInterrupt):
        if kept and (reason := kept.failure(packed)):
            print(f"warning: not ready: {reason}", file=sys.stderr, flush=True)
        metrics = Metrics(packed, kept)
        challenger = Challenger(metrics, kept, project)
        swappable = SwappableApp(packed, lambda one: create_app(one, kept, token, rows, metrics, challenger))
        longest = math.ceil(packed.described["limits"]["timeout_s"]) + 1
        settings = {
            "log_level": "warning",
            "access_log": False,
            "timeout_graceful_shutdown": longest,
            "lifespan": "off",
        }
        server = uvicorn.Server(uvicorn.Config(swappable, **settings))
        with watching(swappable, champion, challenger):
            shown, served = f"[{host}]" if ":" in host else host, bundle or hot_swap.in_production()
            print(f"serving {served} at http://{shown}:{listener.getsockname()[1]}", flush=True)
            server.run(sockets=[listener])


def _logging(bundle: Path | None, log: Path | None, no_log: bool) -> Any:
    """Return the log as a context, which closes it, or one of None."""
    if log and no_log:
        raise NinefoldError(f"--log {log} and --no-log: expected one of them")
    place = log or (artifacts.path(LOG) if bundle is None else None)
    return nullcontext() if place is None or no_log else closing(Log(place))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol spelled out asyncio sets TCP_NODELAY; else an answer, two writes, waits 40 ms for an ACK (measured).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        advice = "choose another --port, or 0 for a free one"
        raise NinefoldError(f"{host}:{port}: cannot listen there ({error}); {advice}") from None
    return listener


def _refuse_fields(bundle: Bundle) -> Callable[[Request, Any], Response]:
    fields = [field["name"] for field in bundle.signature]

    def explain(_: Request, error: Any) -> Response:
        found = error.errors()
        problems = [_explain(detail, fields) for detail in found[:REPORTED]]
        more = f"; and {len(found) - REPORTED:,} more" if len(found) > REPORTED else ""
        return refuse(422, "; ".join(each["message"] for each in problems[:3]) + more, problems)

    return explain


def _refuse(_: Request, error: Any) -> Response:
    clearer = {
        "Not Found": "no such address; expected POST /predict, or GET /, /health, /ready, /metrics, /openapi.json, /v2",
        "There was an error parsing the body": "body: not JSON: not UTF-8, nested too deeply, or with too long a number",
    }
    return refuse(error.status_code, clearer.get(error.detail, str(error.detail)), headers=error.headers)


def _explain(detail: dict[str, Any], fields: list[str]) -> dict[str, Any]:
    """Return where a request is wrong and how: ``row`` and ``field`` (if there), and a ``message`` that names them."""
    path = [part for part in detail["loc"] if part != "body"] if detail["type"] != "json_invalid" else []
    row = next((part for part in path if isinstance(part, int)), None) if path[:1] == ["rows"] else None
    field = str(path[2]) if row is not None and len(path) > 2 else None
    where = f"row {row}" if row is not None else ".".join(map(str, path)) or "body"
    if field is not None:
        where = f"{where}, field {field!r}"
    return {"row": row, "field": field, "message": f"{where}: {_what(detail, field, fields)}"}


def _what(detail: dict[str, Any], field: str | None, fields: list[str]) -> str:
    context, value, message = detail.get("ctx", {}), detail["input"], detail["msg"]
    whole = {
        "json_invalid": f"not JSON: {context.get('error', message)}, at character {detail['loc'][-1]}",
        "missing": "missing; it is needed to look up history" if field else "missing",
        "extra_forbidden": f"unknown field; {_closest(str(detail['loc'][-1]), fields if field else ['rows'])}",
        "too_short": f"none, expected at least {context.get('min_length')}",
        "too_long": f"too many, expected at most {context.get('max_length', 0):,}; send several requests, or use "
        "`ninefold predict`",
    }
    bound = f"a number from {-LARGEST:g} to {LARGEST:g}"
    expected = {"less_than_equal": bound, "greater_than_equal": bound}.get(
        detail["type"], message.removeprefix("Input should be ").removeprefix("Value error, ")
    )
    if "dictionary" in expected:
        expected = "an object" + (", sent with Content-Type: application/json" if isinstance(value, bytes) else "")
    return whole.get(detail["type"], f"found {_brief(value)}, expected {expected}")


def _closest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"expected {', '.join(known)}"


def _brief(value: Any) -> str:
    if isinstance(value, list | dict | bytes):
        return {list: "a list", dict: "an object"}.get(type(value), "text")
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:57]}..."


def _warn(unseen: dict[str, Any]) -> str:
    return f"row {unseen['first_row']}, field {unseen['field']!r}: {unseen['value']!r} was not seen in training"


def _baseline(problem: Problem) -> str:
    if not problem.is_class:
        return f"The {problem.target} of {decisions.one(problem)}, with an interval"
    event = (
        f"that {decisions.one(problem)} {problem.positive}" if problem.task == "binary" else f"of each {problem.target}"
    )
    return f"The probability {event}"


def _tensors(types: dict[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in types.items()]


if __name__ == "__main__":
    import typer

    typer.run(run)
