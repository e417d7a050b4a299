"""Hold a service to its OpenAPI document: requests made from it, valid and not, and what Schemathesis says of the answers."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from hypothesis import strategies
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

PROTOCOL = "POST /v2/models/{name}/infer"


@dataclass
class Run:
    """What came of the cases: which status each operation answered with, and every breach of the document."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)  # how many cases of each
    breaches: dict[str, str] = field(default_factory=dict)  # what is wrong -> how to see it again


def run(app: Any, fuzzed: int, sequences: int, token: str | None = None) -> Run:
    """Send an application what its document at ``/openapi.json`` describes and what it excludes; always the same cases.

    `fuzzed` cases are made at random for every operation, beside the systematic ones, and `sequences` of requests that
    follow from each other. `token` is what the application asks for.
    """
    moments = [strategies.datetimes(), strategies.datetimes(timezones=strategies.timezones())]
    texts = [strategies.dates().map(str), *(each.map(lambda moment: moment.isoformat()) for each in moments)]
    schemathesis.openapi.format("iso-8601", strategies.one_of(texts))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # The document cannot say that shapes fit data, and which columns have to be there: 422 for a valid tensor is right.
    accepted = {"positive_data_acceptance": {"expected-statuses": ["2xx", "422"]}}
    settings: dict[str, Any] = {
        "seed": 1,
        "workers": 1,
        "continue-on-failure": True,
        "headers": headers,
        "generation": {"mode": "all", "max-examples": fuzzed, "database": "none", "no-shrink": True},
        "phases": {"stateful": {"generation": {"max-examples": sequences}}},
        "operations": [{"include-name": PROTOCOL, "checks": accepted}],
    }
    config = SchemathesisConfig.from_dict(settings)
    schema, run = schemathesis.openapi.from_asgi("/openapi.json", app, config=config, headers=headers), Run()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _count(event, run)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            error = event.value if isinstance(event, events.NonFatalError) else event.exception
            run.breaches.setdefault(f"no case could be made: {error!r}", "")
    return run


def _count(event: events.ScenarioFinished, run: Run) -> None:
    recorder = event.recorder
    labels = {case: each.value.operation.label for case, each in recorder.cases.items()}
    run.phases[event.phase.value] += len(recorder.interactions)
    for case, interaction in recorder.interactions.items():
        if interaction.response is not None:
            run.statuses[labels[case], interaction.response.status_code] += 1
    for case, checks in recorder.checks.items():
        for each in (check.failure_info for check in checks if check.failure_info is not None):
            what = f"{labels[case]}: {each.failure.title}: {each.failure.message}"
            run.breaches.setdefault(what, each.code_sample)
