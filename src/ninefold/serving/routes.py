"""The routes of the service: health probes, plain rows, metrics, and the Open Inference Protocol V2."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Body, Depends, HTTPException, Request
from fastapi import Path as InPath
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ninefold.errors import DataError
from ninefold.serving import schemas
from ninefold.serving.bundle import Bundle
from ninefold.serving.challenger import Challenger, Reply
from ninefold.serving.fields import names
from ninefold.serving.log import Log
from ninefold.serving.log_entry import Entry, filled
from ninefold.serving.middleware import RETRY, VALID_ID, ConcurrencyLimiter
from ninefold.serving.schemas import Inference, InferenceAnswer, Refusal

# Postponed annotations are not used here: FastAPI has to see the models that are made from a bundle's signature.

STATUS = {
    400: "The body cannot be read.",
    401: "No token, or another one.",
    404: "No such model.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    422: "A row or a field is wrong.",
    503: "Too much is asked at once, an answer takes too long, or the prediction log cannot be written. Try again.",
}
WARNING = "row {first_row}, field {field!r}: {value!r} was not seen in training"
Rows: TypeAlias = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Service:
    """What the routes share: the bundle that answers, the challenger beside it, and the log of what both answer."""

    bundle: Bundle
    challenger: Challenger
    log: Log | None
    limiter: ConcurrencyLimiter
    token_required: bool

    def failure(self) -> str | None:
        """Return why nothing can be answered; None if it can."""
        return self.log.failure(self.bundle) if self.log else None

    def router(self, prefix: str = "") -> APIRouter:
        """Return a router whose OpenAPI document asks for the token, if one is needed; `require_token` checks it."""
        if not self.token_required:
            return APIRouter(prefix=prefix)
        return APIRouter(prefix=prefix, dependencies=[Depends(HTTPBearer(auto_error=False))], responses=_refusals(401))

    async def answer(
        self, call: Request, read: Callable[[], Rows], write: Callable[[Rows, Reply], Response]
    ) -> Response:
        """Compute the answer to the rows that `read` returns in a thread, log it, and only then return what `write` makes."""
        moment, number = datetime.now(UTC), call.state.request_id

        def work() -> tuple[Rows, Reply, Response, Entry | None]:
            rows = read()
            reply = self.challenger.answer(rows, self.bundle, number)
            one, records, role = reply.bundle, reply.answered.records, reply.role
            entry = self.log.entry(number, moment, one, filled(rows, one), records, role) if self.log else None
            return rows, reply, write(rows, reply), entry

        async with self.limiter.slot():
            rows, reply, response, entry = await self.limiter.compute(work)
            if self.log and entry:
                await asyncio.wrap_future(self.log.submit(entry))
        self.challenger.metrics.count_answers(reply.answered.records, reply.bundle)
        self.challenger.shadow(number, moment, rows)
        return response


def probes(service: Service) -> APIRouter:
    """Return the routes for health probes, which need no token."""
    router, bundle, challenger = APIRouter(), service.bundle, service.challenger

    @router.get("/health")
    def health() -> dict[str, str]:
        """Return that the process is alive."""
        return {"status": "alive"}

    @router.get("/ready", responses=_refusals(503))
    def ready() -> dict[str, str]:
        """Return which model answers, and the challenger beside it.

        503 while the prediction log cannot be written, since no request is answered then.
        """
        if reason := service.failure():
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
        return JSONResponse({"ready": False}, 503, RETRY) if service.failure() else {"ready": True}

    return router


def plain(service: Service) -> APIRouter:
    """Return the plain routes: rows in, predictions out; and what Prometheus reads."""
    router, registry = service.router(), service.challenger.metrics.registry
    request, answer = schemas.request_model(service.bundle), schemas.answer_model(service.bundle)
    identity = names(service.bundle.signature, "identity")

    @router.post("/predict", response_model=answer, responses=_refusals(400, 408, 413, 422, 503))
    async def predict(body: request, call: Request) -> Response:  # type: ignore[valid-type]
        """Return the forecast, the best action and its expected payoff for every row."""

        def write(rows: Rows, reply: Reply) -> Response:
            answers = schemas.predictions(reply.answered.records, reply.bundle)
            for row, each in zip(rows, answers, strict=True):
                if identified := {name: row[name] for name in identity if name in row}:
                    each["identity"] = identified
            content = answer(
                request_id=call.state.request_id,
                model=reply.bundle.name,
                version=reply.bundle.version,
                history_as_of=reply.bundle.moment,
                predictions=answers,
                warnings=[{**each, "message": WARNING.format(**each)} for each in reply.answered.unseen],
            )
            # What was not set is left out: the identity of a row that was sent without one.
            return Response(content.model_dump_json(exclude_unset=True), media_type="application/json")

        return await service.answer(call, lambda: schemas.sent_rows(body), write)

    # A class with a media type would lend it to the refusals too, which are JSON.
    text = {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus's text format."}

    @router.get("/metrics", response_class=Response, responses={200: text})
    def read_metrics() -> Response:
        """Return the metrics for Prometheus: requests, their time, rows, actions, the bundle, the log, the monitoring state."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


def open_inference(service: Service) -> APIRouter:
    """Return the routes of the Open Inference Protocol V2 (https://github.com/kserve/open-inference-protocol).

    Every field is an input of shape [n] or [n, 1]; null in ``data`` means missing.
    """
    router, bundle = service.router("/v2"), service.bundle
    request, row = schemas.request_model(bundle), bundle.described["example"]
    inputs = {field["name"]: "FP64" if field["type"] == "number" else "BYTES" for field in bundle.signature}
    outputs = {each: "BYTES" if each == "action" and bundle.problem.is_class else "FP64" for each in bundle.answers}
    example = [{"name": name, "shape": [1], "datatype": inputs[name], "data": [row[name]]} for name in row]
    name_here: TypeAlias = Annotated[str, InPath(json_schema_extra={"enum": [bundle.name]})]
    inference: TypeAlias = Annotated[Inference, Body(examples=[{"inputs": example}])]

    def require(name: str) -> None:
        if name != bundle.name:
            raise HTTPException(404, f"no model {name!r} here; this service has {bundle.name!r}")

    @router.get("")
    def server() -> dict[str, Any]:
        return {"name": "ninefold", "version": bundle.version, "extensions": []}

    @router.get("/models/{name}/ready", responses={**_refusals(404, 422), 503: {"model": dict[str, Any]}})
    def model_ready(name: name_here) -> Any:
        require(name)
        failed = service.failure() is not None
        return JSONResponse({"name": name, "ready": False}, 503, RETRY) if failed else {"name": name, "ready": True}

    @router.get("/models/{name}", responses=_refusals(404, 422))
    def metadata(name: name_here) -> dict[str, Any]:
        require(name)
        tensors = {
            side: [{"name": each, "datatype": kind, "shape": [-1]} for each, kind in types.items()]
            for side, types in (("inputs", inputs), ("outputs", outputs))
        }
        return {"name": name, "versions": [bundle.version], "platform": "sklearn_skops", **tensors}

    @router.post(
        "/models/{name}/infer", response_model=InferenceAnswer, responses=_refusals(400, 404, 408, 413, 422, 503)
    )
    async def infer(name: name_here, body: inference, call: Request) -> Response:
        """Return the forecast, the best action and its expected payoff, a tensor each; ``id`` names the request."""
        require(name)
        wanted = [each.name for each in body.outputs or []] or list(outputs)
        if unknown := [each for each in wanted if each not in outputs]:
            raise DataError(f"outputs: no {unknown[0]!r}; expected {', '.join(outputs)}")
        if body.id is not None and VALID_ID.fullmatch(body.id):
            call.state.request_id = body.id
        number = call.state.request_id if body.id is None else body.id

        def read() -> Rows:
            return schemas.sent_rows(request.model_validate({"rows": schemas.tensor_rows(body.inputs)}))

        def write(rows: Rows, reply: Reply) -> Response:
            data = {each: [record[each] for record in reply.answered.records] for each in wanted}
            about = {"shape": [len(rows)]}
            tensors = [{"name": each, **about, "datatype": outputs[each], "data": data[each]} for each in wanted]
            version = reply.bundle.version
            return JSONResponse({"model_name": name, "model_version": version, "id": number, "outputs": tensors})

        return await service.answer(call, read, write)

    return router


def _refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Refusal, "description": STATUS[code]} for code in codes}
