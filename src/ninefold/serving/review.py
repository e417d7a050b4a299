"""The review page: a page for the person who acts. Rows ranked by what acting on each gains, why, and one record by form."""

import hashlib
import secrets
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl

import numpy as np
import pandas as pd
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from ninefold import jinja
from ninefold.errors import DataError, NinefoldError
from ninefold.problem import decisions
from ninefold.serving import monitoring_state, review_rows, schemas
from ninefold.serving.bundle import Bundle, sample
from ninefold.serving.hot_swap import stamp
from ninefold.serving.review_rows import Scored, advantage, forecasts, listing
from ninefold.serving.routes import Service
from ninefold.training import explanation

TOP = 5  # contributions named
BACKGROUND, LEAST_BACKGROUND = 100, 10  # rows that a row is compared with; where there are hundreds of features
SEED = 0  # of the orders in which features become known
CHOICES = 200  # known categories of a field that a list still suggests
GROUPS = {"identity": "What identifies it", "history": "History"}
HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff"}
SECURITY = (  # connect-src: the script fetches explanations from the service
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGES = jinja.environment(autoescape=True)
PAGES.globals |= {"decisions": decisions, "number": decisions.number, "top": TOP}


class Review:
    """A bundle and the rows that it decides on: of a file, or else of the project that the service runs in.

    The prediction log has what it answers before: a form under the id of its request, the rows of a file under an id that
    depends on them, once for each bundle. Rows of the project's own feature table are not logged: nobody sent them.
    """

    def __init__(self, service: Service, place: Path | None) -> None:
        self.service, self.bundle, self.log, self.place = service, service.bundle, service.log, place
        self._scoring = threading.Lock()  # the page and an explanation may want the same rows
        self._score = lru_cache(1)(self._score_again)

    def rows(self) -> tuple[Scored | None, str]:
        """Return the rows, scored again where their files have changed; or None, and why there are none."""
        try:
            if files := (self.place,) if self.place else review_rows.newest_period():
                with self._scoring:
                    return self._score(files, tuple(map(stamp, files))), ""
        except (NinefoldError, OSError) as error:
            return None, str(error)
        return None, "No rows to decide on: the service runs in no project with data/features."

    def explain(self, row: pd.DataFrame, scored: Scored | None) -> dict[str, Any]:
        """Return the contributions to the forecast of a row, compared with other rows, or else with the example.

        ``bars``: `explanation.explain`, the largest first; ``base`` and ``level``: the mean forecast of the ``others``, a
        number of rows, and the row's own.
        """
        bundle = self.bundle
        cells = 8 * len(bundle.features) ** 2  # of each background row: orders, both ways
        most = max(LEAST_BACKGROUND, min(BACKGROUND, explanation.MOST_CELLS // cells))
        others = sample(scored.frame, most) if scored else bundle.complete([bundle.described["example"]])
        rows, background = row[bundle.features], others[bundle.features]
        values = explanation.explain(self._forecast, rows, background, SEED, bundle.columns.dates)
        base, total = float(values["base"].iloc[0]), float(values["contribution"].sum())
        bars = values.sort_values("contribution", key=np.abs, ascending=False, kind="stable").to_dict("records")
        return {"bars": bars, "base": base, "level": base + total, "others": len(others)}

    def answer(self, row: Mapping[str, Any], scored: Scored | None, call: Request) -> dict[str, Any]:
        """Return the answer to one record with its gain and explanation; `LogError` if it cannot be logged."""
        bundle, number, moment = self.bundle, call.state.request_id, datetime.now(UTC)
        records, warnings = bundle.answer([row])
        decided = pd.DataFrame(records)
        answer = {
            **records[0],
            "text": forecasts(decided, bundle.problem)[0],
            "gain": float(advantage(decided, scored.always, bundle.problem)[0]) if scored else 0.0,
            "warnings": warnings,
            "why": self.explain(bundle.complete([row]), scored),
        }
        entry = self.log.entry(number, moment, bundle, [row], records) if self.log else None
        self.service.record(call, entry)
        return answer

    def page(self, page: str, scored: Scored | None, status: int = 200, **shown: Any) -> HTMLResponse:
        """Return a page; only its own script carries the nonce of the answer."""
        nonce, failure = secrets.token_urlsafe(16), self.service.failure()
        shown |= {"page": page, "scored": scored, "bundle": self.bundle, "problem": self.bundle.problem, "nonce": nonce}
        html = PAGES.get_template("review.html.j2").render(shown, failure=failure, monitored=monitoring_state.read())
        return HTMLResponse(html, status, {**HEADERS, "Content-Security-Policy": SECURITY.format(nonce=nonce)})

    def _forecast(self, frame: pd.DataFrame) -> np.ndarray:
        return decisions.expected(self.bundle.predict(frame), self.bundle.problem)

    def _score_again(self, files: tuple[Path, ...], _: tuple[Any, ...]) -> Scored:
        if self.place is None:
            return review_rows.score(*review_rows.newest_rows(files, self.bundle), self.bundle)
        scored = review_rows.score(review_rows.read_file(self.place), str(self.place), self.bundle)
        hashes = pd.util.hash_pandas_object(scored.frame, index=False).to_numpy()
        digest = hashlib.sha256(hashes.tobytes()).hexdigest()[:16]
        if self.log and (self.bundle.version, digest) not in self.log.shown:  # else this bundle has shown them before
            self.log.record(scored.frame, scored.answers, self.bundle, f"review-{digest}")
            self.log.shown.add((self.bundle.version, digest))
        return scored


def router(service: Service, rows: Path | None) -> APIRouter:
    """Return the review page: ``/``, ``/review/why`` and ``/review/record``. What is shown was written to the log before.

    `rows` is a .csv or .parquet file with the rows to decide on, as `batch.predict` takes it, read again when it changes
    (`DataError` if it cannot be scored); by default those of `review_rows.newest_rows`.
    """
    review, routes, bundle = Review(service, rows), APIRouter(include_in_schema=False), service.bundle
    example = form(bundle, bundle.described["example"])
    if rows is not None and (reason := review.rows()[1]):
        raise DataError(reason)

    @routes.get("/")
    async def home(request: Request) -> HTMLResponse:
        query, (scored, notice) = request.query_params, review.rows()
        shown = listing(scored, bundle, query) if scored else example
        return review.page("rows", scored, notice=notice, query=query, **shown)

    @routes.get("/review/why")
    async def why(row: int) -> HTMLResponse:
        scored, _ = review.rows()
        if scored is None or not 0 <= row < len(scored.frame):
            raise HTTPException(404, f"row {row}: not among the rows of the review page; / shows those there are")
        named = ", ".join(scored.keys.iloc[row]) or f"row {row}"
        return review.page("why", scored, named=named, why=review.explain(scored.frame.iloc[[row]], scored))

    @routes.get("/review/record")
    async def blank() -> HTMLResponse:
        return review.page("record", review.rows()[0], **example)

    @routes.post("/review/record")
    async def record(request: Request, body: Annotated[str, Depends(_own_form)]) -> HTMLResponse:
        row, (scored, _) = as_row(body, bundle), review.rows()
        try:
            (checked,) = schemas.sent_rows(service.request.model_validate({"rows": [row]}))
        except ValidationError as error:
            problems = schemas.explain(error.errors(), bundle)  # what /predict says, to the word
            return review.page("record", scored, 422, **form(bundle, row, problems))
        answer = review.answer(checked, scored, request)
        return review.page("record", scored, answer=answer, **form(bundle, row))

    return routes


def form(bundle: Bundle, row: Mapping[str, Any], problems: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the fields of the form in their groups, filled with a row, and the `problems` of that row beside them."""
    groups: dict[str, list[dict[str, Any]]] = {"What is known": [], **{group: [] for group in GROUPS.values()}}
    errors = {problem["field"]: problem["message"] for problem in problems}
    for number, field in enumerate(bundle.signature):
        name, kind, known = field["name"], field["kind"], field.get("known", [])
        choices = known if len(known) <= CHOICES else []
        shown = {"name": name, "id": f"field_{number}", "text": _text(row.get(name)), "choices": choices}
        shown |= {"type": kind if kind == "text" else field["type"]}
        shown |= {"needed": field["required"] and not field.get("nullable")}
        shown |= {"help": "known, or other" if choices else schemas.ABOUT.get(kind, field["type"])}
        shown |= {"error": errors.get(name, "").removeprefix(f"row 0, field {name!r}: ")}
        groups[GROUPS.get(kind, "What is known")].append(shown)
    bad = [field for fields in groups.values() for field in fields if field["error"]]
    return {"groups": groups, "bad": bad, "empty": errors.get(None, "").removeprefix("row 0: ")}


def as_row(body: str, bundle: Bundle) -> dict[str, Any]:
    """Return a form as it was sent (URL-encoded) as the row that one would send to ``/predict``; what is blank is absent.

    Text that is no number stays text, so that it is refused as it was written. 400 if there are more fields than it has.
    """
    try:
        texts = dict(parse_qsl(body, max_num_fields=len(bundle.signature)))
    except ValueError as error:
        raise HTTPException(400, f"form: {error}; send the form of GET /review/record") from None
    row: dict[str, Any] = {}
    for number, field in enumerate(bundle.signature):
        text = texts.get(f"field_{number}", "")
        if text.strip():
            row[field["name"]] = _number(text) if field["type"] == "number" else text.replace("\r\n", "\n")
        elif field["required"] and field.get("nullable"):
            row[field["name"]] = None
    return row


def _text(value: Any) -> str:
    return "" if value is None else repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _number(text: str) -> float | str:
    try:
        return text if "_" in text else float(text)  # of which Python would make 1000 of 1_000
    except ValueError:
        return text


async def _own_form(request: Request) -> str:
    """Return the body of a form that a page of this service sent; refuse that of another with 403."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin", "")
    # Browsers send the first on secure addresses and this machine alone; the second with every form.
    if not (site == "same-origin" if site else origin.partition("://")[2] == request.headers.get("host")):
        raise HTTPException(403, "form: sent from another site; open /review/record, or send rows to POST /predict")
    return (await request.body()).decode("utf-8", "replace")
