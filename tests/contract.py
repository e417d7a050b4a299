"""Hold a service to its OpenAPI document: requests made from it, valid and not, and what Schemathesis says of the answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from hypothesis import strategies
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

TOKEN = "a-token"
PROTOCOL = "POST /v2/models/{name}/infer"


@dataclass
class Run:
    """What came of the cases: how many, which status each operation answered with, and every breach of the document."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    breaches: dict[str, str] = field(default_factory=dict)  # what is wrong -> how to see it again

    @property
    def cases(self) -> int:
        """Return how many requests were made."""
        return sum(self.phases.values())


def settings(fuzzed: int, sequences: int, token: str | None) -> dict[str, Any]:
    """Return the settings of a run: all phases, valid and invalid data, always the same cases.

    The document can type the tensors of the protocol, but not say that shapes fit data, that columns have one length, and
    which fields have to be there: a tensor may be valid and yet refused with 422, which is documented.
    """
    accepted = {"expected-statuses": ["2xx", "422"]}
    return {
        "seed": 1,
        "workers": 1,
        "continue-on-failure": True,
        "headers": {"Authorization": f"Bearer {token}"} if token else {},
        "generation": {"mode": "all", "max-examples": fuzzed, "database": "none", "no-shrink": True},
        "phases": {"stateful": {"generation": {"max-examples": sequences}}},
        "operations": [{"include-name": PROTOCOL, "checks": {"positive_data_acceptance": accepted}}],
    }


def run(app: Any, fuzzed: int, sequences: int, token: str | None = None) -> Run:
    """Send an application what its document describes and what it excludes; return what came of it.

    Parameters
    ----------
    app : ASGI application
        With its document at ``/openapi.json``.
    fuzzed : int
        Cases made at random for every operation, beside the systematic ones.
    sequences : int
        Sequences of requests that follow from each other.
    token : str, optional
        What the application asks for.
    """
    moments = [strategies.datetimes(), strategies.datetimes(timezones=strategies.timezones())]
    texts = [strategies.dates().map(str), *(each.map(lambda moment: moment.isoformat()) for each in moments)]
    schemathesis.openapi.format("iso-8601", strategies.one_of(texts))
    config = SchemathesisConfig.from_dict(settings(fuzzed, sequences, token))
    headers = {"headers": {"Authorization": f"Bearer {token}"}} if token else {}
    schema, found = schemathesis.openapi.from_asgi("/openapi.json", app, config=config, **headers), Run()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _count(event, found)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            error = event.value if isinstance(event, events.NonFatalError) else event.exception
            found.breaches.setdefault(f"no case could be made: {error!r}", "")
    return found


def _count(event: events.ScenarioFinished, found: Run) -> None:
    recorder = event.recorder
    found.phases[event.phase.value] += len(recorder.interactions)
    for case, interaction in recorder.interactions.items():
        if interaction.response is not None:
            found.statuses[recorder.cases[case].value.operation.label, interaction.response.status_code] += 1
    for case, checks in recorder.checks.items():
        for check in checks:
            if check.failure_info is not None:
                label, failure = recorder.cases[case].value.operation.label, check.failure_info.failure
                what = f"{label}: {check.name}: {failure.title}: {failure.message}"
                found.breaches.setdefault(what, check.failure_info.code_sample)
