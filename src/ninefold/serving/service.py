"""Answer over HTTP from a bundle: plain rows, the Open Inference Protocol V2, health, and errors that name the field."""

import difflib
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException

from ninefold.core import decisions
from ninefold.core.errors import DataError, NinefoldError
from ninefold.serving.bundle import BUNDLE, Bundle, load
from ninefold.serving.messages import LARGEST, Inference, Refusal, Tensor, answer_model, predicted, request_model, sent
from ninefold.serving.signature import names

# Postponed annotations are not used here: FastAPI has to see the models that are made from a bundle's signature.

HOST, PORT = "127.0.0.1", 8000
REPORTED = 20
Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
Send: TypeAlias = Callable[..., Awaitable[None]]


def create_app(bundle: Bundle) -> FastAPI:
    """Return the service that answers from `bundle`: ``/predict``, ``/health``, ``/ready`` and ``/v2``."""
    stated = bundle.stated
    app = FastAPI(
        title=stated["title"],
        version=bundle.version,
        description=f"{stated['question']} {_promise(stated)}, and what to do.",
        docs_url=None,  # these pages would load scripts from other hosts
        redoc_url=None,
    )
    request = request_model(bundle)
    app.include_router(plain(bundle, request))
    app.include_router(open_inference(bundle, request))
    app.add_middleware(LimitBody, limit=int(bundle.described["limits"]["max_body_mb"] * 1_000_000))
    app.add_exception_handler(RequestValidationError, _refuse_fields(bundle))
    app.add_exception_handler(ValidationError, _refuse_fields(bundle))
    app.add_exception_handler(StarletteHTTPException, _refuse)
    app.add_exception_handler(DataError, lambda _, error: _json(422, str(error)))
    return app


def plain(bundle: Bundle, request: type[BaseModel]) -> APIRouter:
    """Return the plain routes: rows in, predictions out."""
    router = APIRouter()
    refusals: dict[int | str, dict[str, Any]] = {code: {"model": Refusal} for code in (400, 413, 422)}
    identity, answer = names(bundle.signature, "identity"), answer_model(bundle)

    # What was not set is left out: the identity of a row that was sent without one.
    @router.post("/predict", response_model_exclude_unset=True, responses=refusals)
    def predict(body: request) -> answer:  # type: ignore[valid-type]
        """Return the forecast, the best action and its expected payoff for every row."""
        rows = sent(body)
        frame = bundle.complete(rows)
        predictions = predicted(bundle.decide(frame), bundle)
        for row, prediction in zip(rows, predictions, strict=True):
            if named := {name: row[name] for name in identity if name in row}:
                prediction["identity"] = named
        return answer(
            model=bundle.name,
            version=bundle.version,
            history_as_of=bundle.moment,
            predictions=predictions,
            warnings=[{**each, "message": _warn(each)} for each in bundle.unseen(frame)],
        )

    @router.get("/health")
    def health() -> dict[str, str]:
        """Return that the process is alive."""
        return {"status": "alive"}

    @router.get("/ready")
    def ready() -> dict[str, str]:
        """Return which model answers; it was loaded, verified and tried before the service listened."""
        return {"status": "ready", "model": bundle.name, "version": bundle.version}

    return router


def open_inference(bundle: Bundle, request: type[BaseModel]) -> APIRouter:
    """Return the routes of the Open Inference Protocol V2 (https://github.com/kserve/open-inference-protocol).

    Every field is an input of shape [n] or [n, 1]; null in ``data`` means missing.
    """
    router = APIRouter(prefix="/v2")
    outputs = dict.fromkeys(bundle.answers, "FP64")
    if decisions.is_class(bundle.stated):
        outputs["action"] = "BYTES"

    def known(name: str) -> None:
        if name != bundle.name:
            raise HTTPException(404, f"no model {name!r} here; this service has {bundle.name!r}")

    @router.get("")
    def server() -> dict[str, Any]:
        return {"name": "ninefold", "version": bundle.version, "extensions": []}

    @router.get("/health/live")
    def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/health/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    @router.get("/models/{name}/ready")
    def model_ready(name: str) -> dict[str, Any]:
        known(name)
        return {"name": name, "ready": True}

    @router.get("/models/{name}")
    def metadata(name: str) -> dict[str, Any]:
        known(name)
        inputs = {each["name"]: "FP64" if each["type"] == "number" else "BYTES" for each in bundle.signature}
        described = {"inputs": _tensors(inputs), "outputs": _tensors(outputs)}
        return {"name": name, "versions": [bundle.version], "platform": "sklearn_skops", **described}

    @router.post("/models/{name}/infer")
    def infer(name: str, body: Inference) -> dict[str, Any]:
        known(name)
        decided = bundle.decide(bundle.complete(sent(request.model_validate({"rows": as_rows(body.inputs)}))))
        wanted = [str(each.get("name")) for each in body.outputs or []] or list(outputs)
        if strange := [each for each in wanted if each not in outputs]:
            raise HTTPException(422, f"outputs: no {strange[0]!r}; expected {', '.join(outputs)}")
        tensors = [
            {"name": each, "shape": [len(decided)], "datatype": outputs[each], "data": decided[each].tolist()}
            for each in wanted
        ]
        named = {} if body.id is None else {"id": body.id}
        return {"model_name": name, "model_version": bundle.version, **named, "outputs": tensors}

    return router


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


class LimitBody:
    """Refuse bodies above a limit with 413; hold no more than the limit in memory.

    What comes beyond the limit is read and forgotten (up to a few times as much), or the sender, still sending, would
    see a broken connection instead of the answer.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, then pass it on or refuse it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        chunks, size, more = [], 0, True
        while more and size <= 4 * self.limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
            if size <= self.limit:
                chunks.append(message.get("body", b""))
        if size > self.limit:
            refusal = _json(413, f"body: more than {self.limit / 1e6:g} MB; send fewer rows, or use `ninefold predict`")
            return await refusal(scope, receive, send)
        whole = [{"type": "http.request", "body": b"".join(chunks), "more_body": False}]

        async def replay() -> dict[str, Any]:
            return whole.pop() if whole else await receive()

        return await self.app(scope, replay, send)


def run(bundle: Path | None = None, host: str = HOST, port: int = PORT) -> None:
    """Serve a bundle until SIGTERM or SIGINT; print its address, on one line, once it accepts requests.

    Parameters
    ----------
    bundle : Path, optional
        A bundle; that of the project if absent.
    host : str
        The address to listen at.
    port : int
        0 takes a free one.

    Raises
    ------
    NinefoldError
        If the bundle is not as it was packed, or the port is taken.
    """
    packed = load(bundle)
    packed.decide(packed.complete([packed.described["example"]]))  # the first one also pays for threads and caches
    server = uvicorn.Server(
        uvicorn.Config(create_app(packed), log_level="warning", access_log=False, timeout_graceful_shutdown=10)
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn ends its requests first, then hands the signal on
    with _listen(host, port) as listener, suppress(KeyboardInterrupt):
        shown = f"[{host}]" if ":" in host else host
        print(f"serving {bundle or BUNDLE} at http://{shown}:{listener.getsockname()[1]}", flush=True)
        server.run(sockets=[listener])


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

    def refuse(_: Request, error: Any) -> Response:
        found = error.errors()
        problems = [_explain(detail, fields) for detail in found[:REPORTED]]
        more = f"; and {len(found) - REPORTED:,} more" if len(found) > REPORTED else ""
        return _json(422, "; ".join(each["message"] for each in problems[:3]) + more, problems)

    return refuse


def _refuse(_: Request, error: Any) -> Response:
    clearer = {
        "Not Found": "no such address; expected POST /predict, or GET /health, /ready, /openapi.json, /v2",
        "There was an error parsing the body": "body: not JSON: not UTF-8, nested too deeply, or with too long a number",
    }
    return _json(error.status_code, clearer.get(error.detail, str(error.detail)))


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


def _promise(stated: dict[str, Any]) -> str:
    if not decisions.is_class(stated):
        return f"The {stated['target']} of {decisions.one(stated)}, with an interval"
    event = (
        f"that {decisions.one(stated)} {stated['positive']}"
        if stated["task"] == "binary"
        else f"of each {stated['target']}"
    )
    return f"The probability {event}"


def _tensors(types: dict[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in types.items()]


def _json(status: int, error: str, problems: Iterable[dict[str, Any]] = ()) -> Response:
    # Names and values come from outside, and may hold half a character, which no UTF-8 can carry.
    content = json.dumps({"error": error, "problems": list(problems)})
    return Response(content, status_code=status, media_type="application/json")


if __name__ == "__main__":
    import typer

    typer.run(run)
