"""The gate at the end of every stage: checks with value and limit, written for machines, then pass or raise."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from ninefold import artifacts, display
from ninefold.errors import GateFailed
from ninefold.stages import label

Value = float | int | str | bool | None


class Check(BaseModel):
    """One line of a gate: what was measured, its limit, and whether it passed."""

    name: str
    value: Value
    limit: str
    passed: bool


def at_least(name: str, value: float, limit: float) -> Check:
    """Check that ``value >= limit``."""
    return Check(name=name, value=tidy(value), limit=f">= {limit:g}", passed=bool(value >= limit))


def at_most(name: str, value: float, limit: float) -> Check:
    """Check that ``value <= limit``."""
    return Check(name=name, value=tidy(value), limit=f"<= {limit:g}", passed=bool(value <= limit))


def holds(name: str, passed: bool, value: Value, limit: str) -> Check:
    """Check a statement: `value` is what was found, `limit` says in words what is expected."""
    return Check(name=name, value=tidy(value), limit=limit, passed=bool(passed))


def close(
    section: str,
    checks: Sequence[Check],
    metrics: dict[str, Any],
    conclusion: str,
    headline: dict[str, str] | None = None,
) -> None:
    """Show the checks, write ``reports/metrics/NN_slug.json``, publish the outputs; raise if a check failed.

    On failure nothing that was there before changes: the stage's outputs are discarded and its numbers go to
    ``reports/failed/NN_slug.json``, from which the report of the failed run is made; its JSON files are kept beside it.

    `section` is the stage's slug; there has to be a check; `metrics` are nested figures for ``dvc metrics``, floats to six
    significant digits; the `conclusion` is repeated on the index, with one to three figures, the `headline`: label to
    formatted value. `GateFailed` names each failed check with its value and limit.
    """
    if not checks:
        raise GateFailed(f"{section}: a gate without checks passes anything; give it at least one")
    failed = [check for check in checks if not check.passed]
    record = {
        "gate": {"passed": not failed, "checks": [check.model_dump() for check in checks]},
        "conclusion": conclusion,
        "headline": headline or {},
        "metrics": tidy(metrics),
    }
    display.checks([check.model_dump() for check in checks])
    if failed:
        artifacts.discard(f"reports/failed/{label(section)}")
        artifacts.write_json(record, artifacts.path(f"reports/failed/{label(section)}.json"))
        lines = [f"{check.name}: found {check.value}, expected {check.limit}" for check in failed]
        counts = f"{len(failed)} of {len(checks)} checks failed"
        raise GateFailed(f"{label(section)}: {conclusion} {counts}: {'; '.join(lines)}")
    artifacts.write_json(record, artifacts.path(f"reports/metrics/{label(section)}.json"))
    artifacts.publish()
    for trace in artifacts.path("reports/failed").glob(f"{label(section)}.*"):
        trace.unlink()


def tidy(value: Any) -> Any:
    """Return nested values as JSON's own types, floats to six significant digits (the rest is not reproducible)."""
    if isinstance(value, dict):
        return {str(key): tidy(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [tidy(inner) for inner in value]
    if hasattr(value, "item"):  # numpy and pandas scalars
        value = value.item()
    if isinstance(value, float):
        return None if value != value else float(f"{value:.6g}")
    return value
