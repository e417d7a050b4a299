"""The routes of the service: health probes, plain rows, metrics, and the Open Inference Protocol V2."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Body, Depends, HTTPException, Request
from fastapi import Path as InPath
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import create_model

from ninefold.errors import DataError
from ninefold.serving import schemas
from ninefold.serving.bundle import Answered, Bundle
from ninefold.serving.challenger import Challenger
from ninefold.serving.fields import names
from ninefold.serving.log import Entry
from ninefold.serving.middleware import RETRY, VALID_ID
from ninefold.serving.schemas import Inference, InferenceAnswer, Refusal

# Postponed annotations are not used here: FastAPI has to see the models that are made from a bundle's signature.
# All routes but the probes run in threads, each in an event loop of its own (`middleware.limit`): they may block.

WARNING = "row {first_row}, field {field!r}: {value!r} {reason}"
Rows: TypeAlias = list[dict[str, Any]]
Write: TypeAlias = Callable[[Rows, Answered, Bundle], Response]


class Service:
    """What the routes share: the bundle that answers, the challenger beside it, and the log of both."""

    def __init__(self, bundle: Bundle, challenger: Challenger) -> None:
        self.bundle, self.challenger, self.log = bundle, challenger, challenger.log
        self.request = schemas.request_model(bundle)

    def failure(self) -> str | None:
        """Return why nothing can be answered; None if it can."""
        return self.log.failure(self.bundle) if self.log else None

    def answer(self, call: Request, rows: Rows, write: Write) -> Response:
        """Compute the answer to rows, log it, and only then return what `write` makes of it."""
        moment, number = datetime.now(UTC), call.state.request_id
        answered, bundle, role = self.challenger.answer(rows, self.bundle, number)
        response = write(rows, answered, bundle)
        entry = self.log.entry(number, moment, bundle, rows, answered.records, role) if self.log else None
        self.record(call, entry)
        self.challenger.metrics.count_answers(answered.records, bundle)
        self.challenger.shadow(number, moment, rows)
        return response

    def record(self, call: Request, entry: Entry | None) -> None:
        """Write the answer to a call to the log, if there is one; refuse with 503, and write nothing, if it is too late."""
        left = call.state.deadline - time.monotonic()  # seconds; after them the caller is refused
        if left > 0:
            if self.log is None:
                return
            written = self.log.submit(entry)
            with suppress(TimeoutError):
                return written.result(left)
            written.cancel()
        raise HTTPException(503, "not answered in time; send fewer rows, or send it again later", RETRY)


def probes(service: Service) -> APIRouter:
    """Return the routes for health probes, which need no token."""
    router, bundle, challenger = APIRouter(), service.bundle, service.challenger

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Return that the process is alive."""
        return {"status": "alive"}

    @router.get("/ready", responses=refusals(503))
    async def ready() -> dict[str, str]:
        """Return which model answers, the challenger beside it, and whether a promotion would reach this service.

        503 while the prediction log cannot be written, since no request is answered then.
        """
        if reason := await asyncio.to_thread(service.failure):  # the log may wait for its disk
            raise HTTPException(503, f"not ready: {reason}", RETRY)
        fast = bundle.compiled.reason or "in use"
        answer = {"status": "ready", "model": bundle.name, "version": bundle.version, "fast_form": fast}
        if challenger.champion:
            answer["watcher"] = challenger.champion.state()
        if challenger.active:
            answer["challenger"] = f"{challenger.active.bundle.version} ({challenger.active.mode})"
        if challenger.reason:
            answer["no_challenger"] = challenger.reason
        return answer

    @router.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/v2/health/ready", responses={503: {"model": dict[str, bool]}})
    async def v2_ready() -> Any:
        failed = await asyncio.to_thread(service.failure)
        return JSONResponse({"ready": False}, 503, RETRY) if failed else {"ready": True}

    return router


def plain(service: Service) -> APIRouter:
    """Return the plain routes: rows in, predictions out; which server it is; and what Prometheus reads."""
    router, registry = APIRouter(), service.challenger.metrics.registry
    kind = schemas.PREDICTIONS[service.bundle.problem.task]
    answer = create_model("Predictions", __base__=schemas.Answer, predictions=(list[kind], ...))  # type: ignore[valid-type]
    identity = names(service.bundle.signature, "identity")

    @router.post("/predict", response_model=answer, responses=refusals(400, 408, 413, 422, 503))
    async def predict(body: service.request, call: Request) -> Response:  # type: ignore[name-defined]
        """Return the forecast, the best action and its expected payoff for every row."""

        def write(rows: Rows, answered: Answered, bundle: Bundle) -> Response:
            answers = schemas.predictions(answered.records, bundle)
            for row, each in zip(rows, answers, strict=True):
                if identified := {name: row[name] for name in identity if name in row}:
                    each["identity"] = identified
            model = {"model": bundle.name, "version": bundle.version, "history_as_of": bundle.moment}
            warnings = [{**each, "message": WARNING.format(**each)} for each in answered.warnings]
            content = answer(request_id=call.state.request_id, **model, predictions=answers, warnings=warnings)
            # What was not set is left out: the identity of a row that was sent without one.
            return Response(content.model_dump_json(exclude_unset=True), media_type="application/json")

        return service.answer(call, schemas.sent_rows(body), write)

    @router.get("/v2")
    async def server() -> dict[str, Any]:
        return {"name": "ninefold", "version": service.bundle.version, "extensions": []}

    # A class with a media type would lend it to the refusals too, which are JSON.
    text = {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus's text format."}

    @router.get("/metrics", response_class=Response, responses={200: text})
    async def read_metrics() -> Response:
        """Return the metrics for Prometheus: requests, their time, rows, actions, the bundle, the log, the monitoring state."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


def open_inference(service: Service) -> APIRouter:
    """Return the routes of the Open Inference Protocol V2 (https://github.com/kserve/open-inference-protocol)."""
    bundle, row = service.bundle, service.bundle.described["example"]
    inputs = {field["name"]: "FP64" if field["type"] == "number" else "BYTES" for field in bundle.signature}
    outputs = {each: "BYTES" if each == "action" and bundle.problem.is_class else "FP64" for each in bundle.answers}
    example = [{"name": name, "shape": [1], "datatype": inputs[name], "data": [row[name]]} for name in row]
    inference: TypeAlias = Annotated[Inference, Body(examples=[{"inputs": example}])]

    async def require(name: Annotated[str, InPath(json_schema_extra={"enum": [bundle.name]})]) -> None:
        if name != bundle.name:
            raise HTTPException(404, f"no model {name!r} here; this service has {bundle.name!r}")

    router = APIRouter(prefix="/v2/models/{name}", dependencies=[Depends(require)], responses=refusals(404, 422))

    @router.get("/ready", responses={503: {"model": dict[str, Any]}})
    async def model_ready() -> Any:
        answer = {"name": bundle.name, "ready": service.failure() is None}
        return answer if answer["ready"] else JSONResponse(answer, 503, RETRY)

    @router.get("")
    async def metadata() -> dict[str, Any]:
        sides = {"inputs": inputs.items(), "outputs": outputs.items()}
        shape = {side: [{"name": n, "datatype": k, "shape": [-1]} for n, k in each] for side, each in sides.items()}
        return {"name": bundle.name, "versions": [bundle.version], "platform": "sklearn_skops", **shape}

    @router.post("/infer", response_model=InferenceAnswer, responses=refusals(400, 408, 413, 503))
    async def infer(body: inference, call: Request) -> Response:
        """Return the forecast, the best action and its expected payoff, a tensor each; ``id`` names the request."""
        wanted = [each.name for each in body.outputs or []] or list(outputs)
        if unknown := [each for each in wanted if each not in outputs]:
            raise DataError(f"outputs: no {unknown[0]!r}; expected {', '.join(outputs)}")
        if body.id is not None and VALID_ID.fullmatch(body.id):
            call.state.request_id = body.id
        number = call.state.request_id if body.id is None else body.id

        rows = schemas.sent_rows(service.request.model_validate({"rows": schemas.tensor_rows(body.inputs)}))

        def write(rows: Rows, answered: Answered, by: Bundle) -> Response:
            columns = {each: [record[each] for record in answered.records] for each in wanted}
            about, model = {"shape": [len(rows)]}, {"model_name": bundle.name, "model_version": by.version}
            tensors = [{"name": each, **about, "datatype": outputs[each], "data": columns[each]} for each in wanted]
            return JSONResponse({**model, "id": number, "outputs": tensors})

        return service.answer(call, rows, write)

    return router


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the refusals with these statuses for the OpenAPI document."""
    return {code: {"model": Refusal} for code in codes}
