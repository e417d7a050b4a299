"""The page for who watches over the model: what monitoring found, what it decided, and what goes through the service now."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from ninefold.core import decisions
from ninefold.core.incidents import Incident, finite
from ninefold.core.scores import title, with_interval
from ninefold.serving import pages
from ninefold.serving.bundle import Bundle
from ninefold.serving.findings import Findings, Folder
from ninefold.serving.log import Log
from ninefold.serving.operations import Meters
from ninefold.serving.rollout import Trial
from ninefold.serving.traffic import Measured, Tally, Traffic, measured, tally_of
from ninefold.serving.versions import Registry, Versions

TRACED = 60  # periods that are told, and drawn
COLUMNS, LINES, ENDED = 3, 12, 8  # periods with their figures; lines of periods; ended incidents
WIDTH, HEIGHT, EDGE = 160.0, 40.0, 4.0  # of a drawing
_HIGH, _LOW = attrgetter("high"), attrgetter("low")
NOTHING = "Nothing was monitored yet: there is no data/monitoring."
RUN = "`dvc repro` in the project monitors, as its last stage; this page then shows what was found, without a restart."


class Figure(BaseModel):
    """A figure, with its interval where it has one."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Period(BaseModel):
    """What was found in one period; null is not known."""

    period: str
    predictions: int | None
    labelled: int | None = Field(description="predictions whose label was there at its close")
    quarantined: int | None
    drifted: int | None = Field(description="features that drifted")
    alerts: int
    decision: str | None
    figures: dict[str, Figure]
    levels: dict[str, Figure]


class Decision(BaseModel):
    """What monitoring decided at the close of the last period."""

    decision: str
    reasons: list[str]
    model: str | None = Field(description="the version of the bundle that was monitored")


class Board(BaseModel):
    """All that the page shows."""

    moment: str = Field(description="when it was asked for, UTC")
    model: str
    notice: str = Field(description="what is not there, or cannot be read, and what to do; empty if nothing")
    decision: Decision | None
    open: list[Incident] = Field(description="the alerts that have not ended, the worst first")
    ended: list[Incident] = Field(description="the last that ended, the newest first")
    periods: list[Period] = Field(description="the last ones, the oldest first")
    promise: dict[str, Figure] = Field(description="the figures on the holdout; empty if another model was monitored")
    versions: Versions
    counting: bool = Field(description="the prediction log is being counted for the first time")
    hour: Traffic | None = Field(description="the last hour; null without a count")
    day: Traffic | None = Field(description="the last 24 hours; null without a count")
    service: Measured


def router(
    bundle_now: Callable[[], Bundle],
    place: Path | None,
    log: Log | None,
    meters: Meters,
    trial: Trial | None = None,
    report: str = "reports/09_monitoring.html",
) -> APIRouter:
    """Return ``/monitor``, the page, and ``/monitor.json``, the same for programs.

    Parameters
    ----------
    bundle_now : callable
        Returns the bundle that answers now.
    place : Path, optional
        The folder of what stage 09 found; None: that of the project that the service runs in, if any.
    log : Log, optional
        The prediction log, for what was answered lately.
    meters : Meters
        Of this process.
    trial : Trial, optional
        The challenger that is tried beside that bundle.
    report : str
        Where the report is: an address, which the page links to, or a path, which it names.
    """
    folder, tally, registry, made = Folder(place), tally_of(log) if log else None, Registry(), APIRouter()

    def board() -> Board:
        return board_of(bundle_now(), folder.now(), tally, registry, meters, trial)

    @made.get("/monitor.json", response_model=Board)
    def numbers() -> Board:
        """Return what monitoring found last, its alerts and decision, the versions, and what goes through now."""
        return board()

    @made.get("/monitor", include_in_schema=False)
    def page() -> HTMLResponse:
        bundle, shown = bundle_now(), board()
        whole = {"page": "monitor", "bundle": bundle, "stated": bundle.stated, "board": shown, "report": report}
        return pages.render("monitor.html.j2", {**whole, **_drawn(shown, bundle.stated)})

    return made


def board_of(
    bundle: Bundle,
    found: Findings | None,
    tally: Tally | None,
    registry: Registry,
    meters: Meters,
    trial: Trial | None = None,
) -> Board:
    """Return what the page shows, from what stage 09 found (None: nothing), the log, the registry and the meters."""
    now = datetime.now(UTC)
    records = found.periods[-TRACED:] if found else []
    decided = found.decision if found else {}
    notices = [NOTHING + " " + RUN if found is None else found.failure]
    if found and not found.failure and not records:
        notices.append("Nothing has arrived since the model was built, so there is nothing to judge yet.")
    traffic, counting = None, False
    if tally:
        try:
            traffic = tally.now(now, bundle.stated)
            counting = traffic is None
        except sqlite3.Error as error:
            notices.append(f"{tally.place}: the prediction log cannot be read ({error}).")
    model = _text(decided.get("model"))
    if model and model != bundle.version:
        notices.append(f"What monitoring found is of model {model}; now {bundle.version} answers.")
    if trial and trial.reason:
        notices.append(f"No challenger is tried: {trial.reason}.")
    held = bundle.described.get("holdout", {}) if model in (None, bundle.version) else {}
    return Board(
        moment=now.isoformat(timespec="seconds"),
        model=bundle.name,
        notice=" ".join(filter(None, notices)),
        decision=_decision(decided, records),
        open=found.open if found else [],
        ended=[incident for incident in reversed(found.incidents) if incident.until is not None][:ENDED]
        if found
        else [],
        periods=[_period(record) for record in records],
        promise=_figures(held),
        versions=registry.now(bundle, trial),
        counting=counting,
        hour=traffic[0] if traffic else None,
        day=traffic[1] if traffic else None,
        service=measured(meters),
    )


def trace(values: Sequence[Figure | None], promise: Figure | None) -> dict[str, Any]:
    """Return a small drawing of a figure over the periods, as coordinates: ``lines``, ``areas``, ``dots``, ``band``, ``level``.

    Lines and areas break where a figure is not known. The band is the interval of the promise, the level its value.
    """
    y, step = _scale([*values, promise]), (WIDTH - 2 * EDGE) / max(len(values) - 1, 1)
    first = EDGE if len(values) > 1 else WIDTH / 2
    runs: list[list[tuple[float, Figure]]] = [[]]
    for number, each in enumerate(values):
        if each is None or each.value is None:
            runs.append([])
        else:
            runs[-1].append((round(first + number * step, 1), each))
    runs = [run for run in runs if run]
    areas = []
    for run in runs:
        known = [(x, each) for x, each in run if each.low is not None and each.high is not None]
        if len(known) > 1:
            highs, lows = ([f"{x},{y(end(each))}" for x, each in known] for end in (_HIGH, _LOW))
            areas.append(" ".join([*highs, *reversed(lows)]))
    ends = [run[-1] for run in runs if len(run) == 1 or run is runs[-1]]  # a single point is no line
    band = promise is not None and promise.low is not None and promise.high is not None
    return {
        "lines": [" ".join(f"{x},{y(each.value)}" for x, each in run) for run in runs],
        "areas": areas,
        "dots": [(x, y(each.value)) for x, each in ends],
        "band": (y(promise.high), max(y(promise.low) - y(promise.high), 1)) if promise and band else None,
        "level": y(promise.value) if promise and promise.value is not None else None,
    }


def _scale(figures: Sequence[Figure | None]) -> Callable[[Any], float]:
    """Return what leads from a value to its height in a drawing that shows all ends of all figures."""
    found = [end for each in figures if each for end in (each.value, each.low, each.high) if end is not None]
    low, high = (min(found), max(found)) if found else (0.0, 1.0)

    def y(value: Any) -> float:
        part = (value - low) / (high - low) if high > low else 0.5
        return round(EDGE + (HEIGHT - 2 * EDGE) * (1 - part), 1)

    return y


def _drawn(board: Board, stated: dict[str, Any]) -> dict[str, Any]:
    """Return what only the page needs: figures as text and as drawings, periods as lines."""
    names = list(dict.fromkeys(name for period in reversed(board.periods) for name in period.figures))
    columns = board.periods[-COLUMNS:]
    figures = []
    for name in names:
        values = [period.figures.get(name) for period in board.periods]
        held = board.promise.get(name)
        told = [(period.period, _shown(period.figures.get(name))) for period in columns]
        first, last = (_shown(each and Figure(value=each.value)) for each in (values[0], values[-1]))
        label = f"{title(name)} over {len(values)} periods, from {first} to {last}"
        label += f"; on the holdout {_shown(held)}" if held else ""
        drawing = trace(values, held)
        figures.append({"name": title(name), "told": told, "held": _shown(held), "label": label, "drawing": drawing})
    spans = [("The last hour", board.hour), ("The last 24 hours", board.day)]
    return {
        "figures": figures,
        "columns": [period.period for period in columns],
        "lines": board.periods[: -LINES - 1 : -1],
        "spans": [(name, span, _level(span.mean_forecast, stated)) for name, span in spans if span],
        "shares": [(share, _level(share.mean_forecast, stated)) for share in (board.day.by if board.day else [])],
        "forecast": f"mean forecast, {decisions.level_name(stated)}",
    }


def _decision(decided: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Decision | None:
    last = {**(records[-1] if records else {}), **decided}
    if not last.get("decision"):
        return None
    reasons = last.get("reasons") or []
    return Decision(
        decision=str(last["decision"]), reasons=[str(each) for each in reasons], model=_text(decided.get("model"))
    )


def _period(record: Mapping[str, Any]) -> Period:
    drifted = record.get("drifted")
    return Period(
        period=str(record.get("period", "–")),
        predictions=_count(record.get("predictions")),
        labelled=_count(record.get("at close")),
        quarantined=_count(record.get("quarantined")),
        drifted=len(drifted) if isinstance(drifted, dict | list) else _count(drifted),
        alerts=len(record.get("alerts") or []),
        decision=_text(record.get("decision")),
        figures=_figures(record.get("figures")),
        levels=_figures(record.get("levels")),
    )


def _figures(found: Any) -> dict[str, Figure]:
    """Return figures as they stand there, with null for what is no number."""
    told = {name: each for name, each in (found or {}).items() if isinstance(each, dict)}
    ends = ("value", "low", "high")
    return {str(name): Figure(**{end: finite(each.get(end)) for end in ends}) for name, each in told.items()}


def _count(value: Any) -> int | None:
    number = finite(value)
    return None if number is None else int(number)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _shown(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "–"
    whole = figure.low is not None and figure.high is not None
    return with_interval(figure.model_dump() if whole else {"value": figure.value})  # as the report has it


def _level(value: float | None, stated: dict[str, Any]) -> str:
    return "–" if value is None else decisions.show_level(value, stated)
