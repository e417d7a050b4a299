"""The review page: a page for the person who acts. Rows ranked by what acting on each gains, why, and one record by form."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

import numpy as np
import pandas as pd
import pyarrow as pa
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from ninefold import artifacts
from ninefold.errors import DataError, ParamsError
from ninefold.params import root
from ninefold.problem import Problem, decisions
from ninefold.serving import monitoring_state, pages
from ninefold.serving.bundle import Bundle, sample
from ninefold.serving.chunks import CHUNK, readable, reader
from ninefold.serving.fields import iso
from ninefold.serving.log import Log
from ninefold.serving.log_entry import LogError, filled
from ninefold.serving.schemas import request_model, sent
from ninefold.serving.scoring import check_columns, typed
from ninefold.timestamps import as_days
from ninefold.training import explanation

SHOWN = 500  # rows on a page
MOST_ROWS = 200_000  # of a table, which is held in memory
FEW = 30  # values of a feature among which one chooses to filter
CHOICES = 200  # known categories of a field that a list still serves; of more, one is typed
TOP = 5  # contributions named
BACKGROUND, LEAST_BACKGROUND = 100, 10  # rows that a row is compared with; where there are hundreds of features
SEED = 0  # of the orders in which features become known
EXPLAINED = 1000  # explanations kept
OTHER = "other"  # a category that is none of the known ones, which are sent by their place
GROUPS = {"identity": "What identifies it", "history": "History"}
HELP = {  # by kind, or else by type
    "history": "number; looked up when left blank",
    "identity": "passed through",
    "number": "number",
    "string": "text",
    "date": "date or time, UTC",
}


@dataclass(frozen=True, eq=False)
class Scored:
    """Rows with their answers; the position of a row is its number in addresses.

    Attributes
    ----------
    name : str
        What the rows are, for the reader.
    frame : DataFrame
        The model's columns, history filled in.
    keys : DataFrame of text
        What identifies a row.
    identity : DataFrame
        The same, as the rows have it.
    answers : DataFrame
        The decisions, and of each row ``level`` (its forecast as one number), ``told`` (as text) and ``gain``.
    always : str or float
        The best action for all rows alike, with which ``gain`` compares; see `advantage`.
    """

    name: str
    frame: pd.DataFrame
    keys: pd.DataFrame
    identity: pd.DataFrame
    answers: pd.DataFrame
    always: str | float


class Review:
    """A bundle and the rows that it decides on: of a file, or else of the project that the service runs in.

    What it answers is in the prediction log before: a form under the id of its request, the rows of a file under one that
    is drawn from them, once for each bundle. Rows of the project's own feature table were asked for by nobody.
    """

    def __init__(
        self, bundle: Bundle, place: Path | None, failure: Callable[[], str | None], log: Log | None = None
    ) -> None:
        self.bundle, self.place, self.failure, self.request = bundle, place, failure, request_model(bundle)
        self.log = log
        self._one_at_a_time = threading.Lock()  # to explain takes both cores; answers come first
        self.why = lru_cache(maxsize=EXPLAINED)(self._why)
        self._read = lru_cache(maxsize=1)(self._anew)

    def scored(self) -> Scored | None:
        """Return the rows, scored again where their files have changed; None where there are none.

        Raises
        ------
        DataError
            If they cannot be read or scored.
        """
        files = (self.place,) if self.place else _newest_period()
        try:
            stamp = tuple((file.stat().st_mtime_ns, file.stat().st_size) for file in files)
        except OSError as error:
            raise DataError(
                f"{error.filename}: not readable ({error.strerror}); give rows with --review FILE"
            ) from None
        return self._read(files, stamp) if files else None

    def explain(self, row: pd.DataFrame, scored: Scored | None) -> dict[str, Any]:
        """Return the largest contributions to the forecast of a row, against other rows, or the example for want of such.

        ``bars``: ``feature``, ``value``, ``contribution``, ``told``, ``width`` (0-100, of the largest); ``rest``: how many
        more features there are, and what they add; ``base`` and ``level``: the forecast compared with, and the row's own.
        """
        bundle, count = self.bundle, len(self.bundle.features)
        most = max(LEAST_BACKGROUND, min(BACKGROUND, explanation.MOST_CELLS // (8 * count**2)))  # 8: orders, both ways
        others = sample(scored.frame, most) if scored else bundle.complete([bundle.described["example"]])
        compared = f"The mean over {len(others):,} of the rows here" if scored else "That of the example record"

        def forecast(frame: pd.DataFrame) -> np.ndarray:
            return decisions.expected(bundle.predict(frame), bundle.problem)

        with self._one_at_a_time:
            dates = bundle.columns.dates
            found = explanation.explain(forecast, row, others, bundle.features, SEED, dates=dates)
        ranked = found.sort_values("contribution", key=np.abs, ascending=False, kind="stable")
        largest, base = float(ranked["contribution"].abs().iloc[0]), float(found["base"].iloc[0])
        bars = ranked.head(TOP).to_dict("records")
        for bar in bars:
            width = 100 * abs(bar["contribution"]) / largest if largest else 0.0
            bar |= {"told": _change(bar["contribution"], bundle), "width": round(width, 1)}
        return {
            "bars": bars,
            "rest": (max(0, len(ranked) - TOP), _change(float(ranked["contribution"].iloc[TOP:].sum()), bundle)),
            "base": decisions.show_level(base, bundle.problem),
            "level": decisions.show_level(base + float(found["contribution"].sum()), bundle.problem),
            "compared": compared,
        }

    def answer(self, row: Mapping[str, Any], scored: Scored | None, number: str) -> dict[str, Any]:
        """Return what there is to say of one record: forecast, action, payoff, strange categories, why.

        Raises
        ------
        LogError
            If it could not be logged under the number of its request.
        """
        frame, problem = self.bundle.complete([row]), self.bundle.problem
        decided = self.bundle.decide(frame)
        if self.log:
            records = decided[self.bundle.answers].to_dict("records")
            rows = filled([row], self.bundle)
            self.log.submit(self.log.entry(number, datetime.now(UTC), self.bundle, rows, records)).result()
        gain = float(advantage(decided, scored.always, problem)[0]) if scored else 0.0
        return {
            "forecast": forecasts(decided, problem)[0],
            "action": _named(decided["action"].iloc[0]),
            "payoff": decisions.number(decided["expected_payoff"].iloc[0]),
            "gain": decisions.number(gain, "+") if gain > 0 else "",
            "unseen": self.bundle.unseen(frame),
            "why": self.explain(frame, scored),
        }

    def _why(self, scored: Scored, row: int) -> dict[str, Any]:
        return self.explain(scored.frame.iloc[[row]], scored)

    def _anew(self, files: tuple[Path, ...], _: tuple[tuple[int, int], ...]) -> Scored:
        self.why.cache_clear()  # it holds on to the rows that were
        if self.place is None:
            return score(*_newest_rows(files, self.bundle), self.bundle)
        found = score(_of_file(self.place), str(self.place), self.bundle)
        if self.log:
            try:
                self._keep(found, self.log)
            except LogError as error:
                raise DataError(f"{self.place}: not shown: {error}") from None
        return found

    def _keep(self, found: Scored, log: Log) -> None:
        """Log the rows, if they were not shown before by this bundle."""
        rows = found.frame.join(found.identity[[name for name in found.identity if name not in found.frame]])
        digest = hashlib.sha256(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()).hexdigest()[:16]
        if (mark := (self.bundle.version, digest)) in log.shown:
            return
        log.record(rows, found.answers, self.bundle, f"review-{digest}")
        log.shown.add(mark)


def router(
    bundle: Bundle,
    rows: Path | None = None,
    failure: Callable[[], str | None] = lambda: None,
    log: Log | None = None,
) -> APIRouter:
    """Return the review page: ``/``, ``/review/why`` and ``/review/record``.

    Parameters
    ----------
    bundle : Bundle
    rows : Path, optional
        A .csv or .parquet file with the rows to decide on, as `scoring.predict` takes it; read again when it changes.
        Absent: the newest day of the project that the service runs in (without time: the rows without outcome).
    failure : callable
        Returns why the service is not ready, or None if it is.
    log : Log, optional
        Where what is shown was written before.

    Raises
    ------
    DataError
        If the file cannot be read or scored.
    """
    review, made = Review(bundle, rows, failure, log), APIRouter(include_in_schema=False)
    if rows is not None:
        review.scored()

    @made.get("/")
    def home(request: Request) -> HTMLResponse:
        scored, notice = _rows(review)
        example = form(bundle, bundle.described["example"])
        listed = listing(scored, bundle, request.query_params) if scored else example
        return _page("rows", review, scored=scored, notice=notice, query=request.query_params, **listed)

    @made.get("/review/why")
    def why(row: int) -> HTMLResponse:
        scored = _rows(review)[0]
        if scored is None or not 0 <= row < len(scored.frame):
            raise HTTPException(404, f"row {row}: not among the rows of the review page; / shows those there are")
        named = ", ".join(scored.keys.iloc[row]) or f"row {row}"
        return _page("why", review, scored=scored, named=named, why=review.why(scored, row))

    @made.get("/review/record")
    def blank() -> HTMLResponse:
        return _page("record", review, scored=_rows(review)[0], **form(bundle, bundle.described["example"]))

    @made.post("/review/record")
    def record(request: Request, body: Annotated[str, Depends(_from_here)]) -> HTMLResponse:
        row, scored = as_row(body, bundle), _rows(review)[0]
        try:
            (checked,) = sent(review.request.model_validate({"rows": [row]}))
        except ValidationError as error:
            refusal = request.app.exception_handlers[ValidationError](request, error)  # what /predict says, to the word
            problems = json.loads(refusal.body)["problems"]
            return _page("record", review, 422, scored=scored, **form(bundle, row, problems))
        answer = review.answer(checked, scored, request.state.request_id)
        return _page("record", review, scored=scored, answer=answer, **form(bundle, row))

    return made


def score(table: pa.Table, name: str, bundle: Bundle) -> Scored:
    """Return a table with its answers.

    Raises
    ------
    DataError
        If a column is absent, a value is none of its feature's, or there are no rows or too many.
    """
    if not 0 < table.num_rows <= MOST_ROWS:
        found = f"more than {MOST_ROWS:,} rows" if table.num_rows else "none"
        raise DataError(f"{name}: found {found}, expected 1 to {MOST_ROWS:,} rows; give the rows of a day")
    columns, problem = table.column_names, bundle.problem
    check_columns(columns, bundle, Path(name))
    used = [field for field in bundle.signature if field["kind"] != "identity" and field["name"] in columns]
    typed = {field["name"]: typed(table[field["name"]], field, Path(name), 0) for field in used}
    frame = bundle.look_up(pd.DataFrame(typed, index=range(table.num_rows)))
    answers = bundle.decide(frame)
    always = _always(answers, bundle)
    level = decisions.probabilities(answers, problem).max(axis=1) if problem.task == "multiclass" else None
    answers["level"] = decisions.expected(answers, problem) if level is None else level
    answers["gain"] = advantage(answers, always, problem)
    answers["told"] = forecasts(answers, problem)
    key = [each for each in dict.fromkeys([*problem.key, problem.time]) if each in columns]
    texts = {
        each: [explanation.as_text(value, each in bundle.columns.dates) for value in table[each].to_pandas()]
        for each in key
    }
    keys = pd.DataFrame(texts, index=frame.index, dtype="str")
    return Scored(name, frame, keys, table.select(key).to_pandas().set_axis(frame.index), answers, always)


def advantage(answers: pd.DataFrame, always: str | float, problem: Problem) -> np.ndarray:
    """Return what the best other action is expected to pay beyond the action `always`: float64, shape (n,).

    Negative where `always` is best for the row too: the nearer to 0, the nearer is another action. Of quantities: what
    the row's own action saves if its forecast comes true.
    """
    if problem.is_class:
        values = decisions.expected_payoff(answers, problem)
        return (values.drop(columns=str(always)).max(axis=1) - values[str(always)]).to_numpy()
    own, target = answers["action"].to_numpy(), answers["prediction"].to_numpy()
    same = np.full(len(own), float(always))
    return decisions.payoff(own, target, problem) - decisions.payoff(same, target, problem)


def forecasts(answers: pd.DataFrame, problem: Problem) -> list[str]:
    """Return the forecast of each row as text: a probability, the likeliest class with its own, or a quantity and interval."""
    if problem.task == "binary":
        return [f"{value:.1%}" for value in answers["probability"]]
    if problem.task == "multiclass":
        likely = decisions.probabilities(answers, problem)
        best = zip(likely.argmax(axis=1), likely.max(axis=1), strict=True)
        return [f"{problem.classes[place]} {value:.1%}" for place, value in best]
    rows = answers[["prediction", "low", "high"]].map(decisions.number).itertuples(index=False)
    return [f"{row.prediction} ({row.low} – {row.high})" for row in rows]


def listing(scored: Scored, bundle: Bundle, query: Mapping[str, str]) -> dict[str, Any]:
    """Return what the page of rows shows for a query: ``action``, ``key``, ``in.FEATURE``, ``sort`` and ``order``."""
    answers, problem = scored.answers, bundle.problem
    chosen = pd.Series(True, index=scored.frame.index)
    if action := query.get("action"):
        chosen &= answers["action"].astype("str") == action
    if text := query.get("key", "").strip().casefold():
        chosen &= np.array([text in " ".join(each).casefold() for each in scored.keys.to_numpy()], dtype=bool)
    choices = _choices(scored, bundle)
    for name in choices:
        if value := query.get(f"in.{name}"):
            chosen &= scored.frame[name] == value
    by = _orders(scored)
    sort, order = query.get("sort", "gain"), "asc" if query.get("order") == "asc" else "desc"
    sort = sort if sort in by else "gain"
    ranked = by[sort][chosen].sort_values(ascending=order == "asc", kind="stable").index
    kept = {name: value for name, value in query.items() if name not in ("sort", "order") and value}
    turned = {name: "asc" if (name, order) == (sort, "desc") else "desc" for name in by}
    return {
        "lines": _lines(scored, ranked[:SHOWN]),
        "found": len(ranked),
        "counts": {action: int((answers["action"] == action).sum()) for action in problem.actions},
        "choices": choices,
        "links": {name: "/?" + urlencode({**kept, "sort": name, "order": turned[name]}) for name in by},
        "orders": {name: _heading(name, scored) for name in by},
        "sorted": (sort, f"{order}ending"),
        "bottom_line": _summary(scored, problem),
    }


def form(bundle: Bundle, row: Mapping[str, Any], problems: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return the fields of the form in their groups, with what stands in each and what is wrong there.

    Parameters
    ----------
    bundle : Bundle
    row : mapping
        What stands in the form; an absent field is blank.
    problems : list of dict, optional
        Of the row, as ``/predict`` tells them.
    """
    wrong = {
        each["field"]: each["message"].removeprefix(f"row 0, field {each['field']!r}: ") for each in problems or []
    }
    groups: dict[str, list[dict[str, Any]]] = {"What is known": [], "What identifies it": [], "History": []}
    for number, field in enumerate(bundle.signature):
        value, known = row.get(field["name"]), field.get("known", [])
        made = {
            "name": field["name"],
            "id": f"field_{number}",
            "type": field["kind"] if field["kind"] == "text" else field["type"],
            "text": _text(value),
            "choices": known if len(known) <= CHOICES else [],
            "chosen": "" if value is None else known.index(value) if value in known else OTHER,
            "needed": field["required"] and not field.get("nullable"),
            "help": HELP.get(field["kind"], HELP.get(field["type"], "")),
            "error": wrong.get(field["name"]),
        }
        groups[GROUPS.get(field["kind"], "What is known")].append(made)
    bad = [field for fields in groups.values() for field in fields if field["error"]]
    return {"groups": groups, "bad": bad}


def as_row(body: str, bundle: Bundle) -> dict[str, Any]:
    """Return a form as it was sent (URL-encoded) as the row that one would send to ``/predict``; what is blank is absent.

    Text that is no number stays text, so that it is refused as it was written.

    Raises
    ------
    HTTPException
        400, if there are more fields than the form has.
    """
    try:
        filled = dict(parse_qsl(body, keep_blank_values=True, max_num_fields=2 * len(bundle.signature)))
    except ValueError as error:
        raise HTTPException(400, f"form: {error}; send the form of GET /review/record") from None
    row: dict[str, Any] = {}
    for number, field in enumerate(bundle.signature):
        text, known = filled.get(f"field_{number}", ""), field.get("known", [])
        if text and 0 < len(known) <= CHOICES:
            listed = text.isdecimal() and int(text) < len(known)
            text = known[int(text)] if listed else filled.get(f"field_{number}_other", "")
            if listed or text:
                row[field["name"]] = text
        elif text.strip():
            row[field["name"]] = _number(text) if field["type"] == "number" else text.replace("\r\n", "\n")
        if field["required"] and field.get("nullable"):
            row.setdefault(field["name"], None)
    return row


def _rows(review: Review) -> tuple[Scored | None, str]:
    """Return the rows, and why there are none."""
    try:
        scored = review.scored()
    except DataError as error:
        return None, str(error)
    return scored, "" if scored else "No rows to decide on: the service runs in no project with data/features."


def _of_file(place: Path) -> pa.Table:
    """Return the rows of a file, of one with too many just enough to see that."""
    chunks: list[pa.Table] = []
    for chunk, _ in readable(place, reader(place)(place, CHUNK)):
        chunks.append(chunk)
        if sum(each.num_rows for each in chunks) > MOST_ROWS:
            break
    return pa.concat_tables(chunks) if chunks else pa.table({})


def _newest_period() -> tuple[Path, ...]:
    """Return the files of the last period of the project's feature table that holds rows; none where there is none."""
    try:
        root()
    except ParamsError:
        return ()
    from ninefold import (
        engine,
        features,  # with all that a project takes, which a packed service does not
    )

    periods = reversed(engine.periods(features.FEATURES))
    filled = next((period for period in periods if engine.count(features.FEATURES, period)), None)
    return tuple(engine.parts(features.FEATURES, filled)) if filled is not None else ()


def _newest_rows(files: tuple[Path, ...], bundle: Bundle) -> tuple[pa.Table, str]:
    """Return of a period the rows of its last day, or without time those without outcome (all, if each has one)."""
    name, problem = "data/features", bundle.problem
    frame = pd.concat([artifacts.read_table(str(file)) for file in files], ignore_index=True)
    artifacts.require(frame, [problem.time or problem.target], name)
    if problem.time:
        day = np.floor(as_days(frame[problem.time]))
        frame, name = frame[day == day.max()], f"{iso(day.max())[:10]}, the newest day of {name}"
    elif frame[problem.target].isna().any():
        frame, name = frame[frame[problem.target].isna()], f"the rows of {name} without an outcome"
    taken = [column for column in bundle.added.values() if column in frame]
    return pa.Table.from_pandas(frame.drop(columns=taken), preserve_index=False), name


def _always(answers: pd.DataFrame, bundle: Bundle) -> str | float:
    """Return the best action for all rows alike: that of the holdout, or where none is recorded that of these rows."""
    problem = bundle.problem
    if not problem.is_class:
        return next(iter(decisions.policies(answers["prediction"].to_numpy(), problem).values()))
    paid = {each["policy"]: each["payoff"] for each in bundle.described.get("evidence", {}).get("policies", [])}
    constant = {action: paid[f"always {action}"] for action in problem.actions if f"always {action}" in paid}
    found = constant or decisions.expected_payoff(answers, problem).mean().to_dict()
    return max(found, key=found.__getitem__)


def _choices(scored: Scored, bundle: Bundle) -> dict[str, list[str]]:
    """Return the values to filter by, of each categorical feature that has few."""
    values = {name: sorted(set(scored.frame[name].dropna()) - {""}) for name in bundle.columns.categorical}
    return {name: found for name, found in values.items() if 1 < len(found) <= FEW}


def _orders(scored: Scored) -> dict[str, pd.Series]:
    """Return what each column of the page is ordered by: a key by its numbers, if it has nothing else."""
    answers, by = scored.answers, {}
    for place, name in enumerate(scored.keys):
        numbers = pd.to_numeric(scored.keys[name], errors="coerce")
        by[f"key{place}"] = numbers if numbers.notna().all() else scored.keys[name].str.casefold()
    named = {"forecast": "level", "action": "action", "payoff": "expected_payoff", "gain": "gain"}
    return {**by, **{name: answers[column] for name, column in named.items()}}


def _heading(name: str, scored: Scored) -> str:
    return scored.keys.columns[int(name[3:])] if name.startswith("key") else name.replace("payoff", "expected payoff")


def _lines(scored: Scored, rows: pd.Index) -> list[dict[str, Any]]:
    """Return the rows as they are shown, payoffs with as many decimals as the largest of all needs for three digits."""
    answers = scored.answers
    largest = max(float(answers[["expected_payoff", "gain"]].abs().max(axis=None)), 1e-12)
    decimals = max(0, 2 - int(np.floor(np.log10(largest))))
    told = pd.DataFrame(
        {
            "row": rows,
            "forecast": answers["told"][rows],
            "level": answers["level"][rows],
            "action": answers["action"][rows].map(_named),
            "moved": (answers["action"] != scored.always)[rows],
            "payoff": [f"{value:,.{decimals}f}" for value in answers["expected_payoff"][rows]],
            "gain": [f"{value:+,.{decimals}f}" if value > 0 else "" for value in answers["gain"][rows]],
        }
    ).to_dict("records")
    return [{**line, "keys": scored.keys.loc[line["row"]].to_dict()} for line in told]


def _summary(scored: Scored, problem: Problem) -> tuple[str, str]:
    """Return the bottom line, and what it is worth."""
    gain, units, always = scored.answers["gain"], problem.units, _named(scored.always)
    total, worth = decisions.number(float(gain.clip(lower=0).sum())), f"more in all, in {problem.payoff_unit}"
    if not problem.is_class:
        saved = f"Against {always} for all that pays {total} {worth}, if the forecasts come true."
        return f"Each of {len(gain):,} {units} has a quantity of its own", saved
    others = [action for action in problem.actions if action != always]
    better = f"“{others[0]}”" if len(others) == 1 else "Another action"
    which = f"{int((gain > 0).sum()):,} of {len(gain):,} {units}"
    return f"{better} pays more than “{always}” for {which}", f"Expected to pay {total} {worth}."


def _named(action: Any) -> str:
    return action if isinstance(action, str) else decisions.number(float(action))


def _change(value: float, bundle: Bundle) -> str:
    return f"{100 * value:+.1f} points" if bundle.problem.is_class else decisions.number(value, "+")


def _text(value: Any) -> str:
    return "" if value is None else repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _number(text: str) -> float | str:
    try:
        return text if "_" in text else float(text)  # of which Python would make 1000 of 1_000
    except ValueError:
        return text


async def _from_here(request: Request) -> str:
    """Return the body of a form that a page of this service sent; refuse that of another with 403."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin", "")
    # Browsers tell the first on secure addresses and this machine alone; the second with every form.
    if not (site == "same-origin" if site else origin.partition("://")[2] == request.headers.get("host")):
        raise HTTPException(403, "form: sent from another site; open /review/record, or send rows to POST /predict")
    return (await request.body()).decode("utf-8", "replace")


def _page(page: str, review: Review, status: int = 200, **shown: Any) -> HTMLResponse:
    scored, bundle, problem = shown["scored"], review.bundle, review.bundle.problem
    always = _named(scored.always) if scored else ""
    whole = {"page": page, "bundle": bundle, "problem": problem, "most": SHOWN, "always": always}
    whole |= {
        "subject": _subject(problem),
        "answer": None,
        "failure": review.failure(),
        "monitored": monitoring_state.read(),
    }
    return pages.render("review.html.j2", {**whole, **shown}, status)


def _subject(problem: Problem) -> str:
    """Return what is explained: the forecast of `decisions.event`."""
    if not problem.is_class:
        return f"the forecast of {problem.target}"
    event = f"that {decisions.one(problem)} {problem.positive}"
    return f"the probability {event}" if problem.task == "binary" else f"the probability of “{problem.focus}”"
