"""The gate at the end of every stage: checks with value and limit, written for machines, then pass or raise."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from ninefold import artifacts, labels, params, whatif
from ninefold.errors import GateFailed, ParamsError
from ninefold.stages import STAGES, label

Value = float | int | str | bool | None
# What may not fail for any reason: rows or labels are lost, data is not what its contract says, the future is used, the
# model is none, or the service gives other answers. Leaks (NF501, NF707) are decided by column: `ninefold keep`.
NEVER_SILENCED = {"NF301", "NF302", "NF501", "NF502", "NF601", "NF602", "NF603", "NF605", "NF701", "NF707"}
NEVER_SILENCED |= {"NF801", "NF802", "NF803", "NF901", "NF902", "NF903", "NF904", "NF905"}


class Check(BaseModel):
    """One line of a gate: what was measured, its limit, and whether it passed.

    `code` is that of ``ninefold guide CODE``; a check of your own has none. `silenced` is the reason why it may fail.
    """

    code: str = ""
    name: str
    value: Value
    limit: str
    passed: bool
    silenced: str = ""


def at_least(name: str, value: float, limit: float) -> Check:
    """Check that ``value >= limit``; a name such as ``"NF201 partitions with rows"`` begins with the check's code."""
    return holds(name, bool(value >= limit), value, f">= {limit:g}")


def at_most(name: str, value: float, limit: float) -> Check:
    """Check that ``value <= limit``."""
    return holds(name, bool(value <= limit), value, f"<= {limit:g}")


def holds(name: str, passed: bool, value: Value, limit: str) -> Check:
    """Check a statement: `value` is what was found, `limit` says in words what is expected."""
    code, text = re.fullmatch(r"(?:(NF\d{3}) )?(.*)", name, re.DOTALL).groups(default="")  # type: ignore[union-attr]
    return Check(name=text, value=tidy(value), limit=limit, passed=bool(passed), code=code)


def failures(record: Mapping[str, Any]) -> list[str]:
    """Return the checks of a stage's record that failed and are not silenced: code and name, value, limit."""
    checks = record.get("gate", {}).get("checks", [])
    failed = [check for check in checks if not check["passed"] and not check.get("silenced")]
    names = [" ".join(filter(None, [check.get("code"), check["name"]])) for check in failed]
    return [
        f"{name}: found {labels.measured(one)}, expected {one['limit']}"
        for name, one in zip(names, failed, strict=True)
    ]


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
    A what-if writes its numbers beside its other outputs (`whatif.FOLDER`), and publishes nothing.

    `section` is the stage's slug; there has to be a check; `metrics` are nested figures for ``dvc metrics``, floats to six
    significant digits; the `conclusion` is repeated on the index, with one to three figures, the `headline`: label to
    formatted value. `GateFailed` names each failed check with its value and limit.
    """
    from ninefold import display  # IPython, which the service does without

    if not checks:
        raise GateFailed(f"{section}: a gate without checks passes anything; give it at least one")
    silenced = params.load(section).silenced if section in STAGES else {}
    if refused := sorted(NEVER_SILENCED & silenced.keys()):
        why = f"{refused[0]} cannot be silenced; see `ninefold guide {refused[0]}`"
        raise ParamsError(f"{params.FILE}: {section}.silenced: {why}")
    lines = [one.model_copy(update={"silenced": "" if one.passed else silenced.get(one.code, "")}) for one in checks]
    shown = [check.model_dump(exclude_defaults=True) for check in lines]
    failed = failures({"gate": {"checks": shown}})
    record = {
        "gate": {"passed": not failed, "checks": shown},
        "conclusion": conclusion,
        "headline": headline or {},
        "metrics": tidy(metrics),
    }
    display.checks(shown)
    display.banner()
    place = artifacts.undeclared(f"reports/{'failed' if failed else 'metrics'}/{label(section)}.json")
    artifacts.write_json(record, place)
    if failed and not whatif.overrides:
        artifacts.discard(f"reports/failed/{label(section)}")
    elif not whatif.overrides:
        artifacts.publish()
        for trace in artifacts.path("reports/failed").glob(f"{label(section)}.*"):
            trace.unlink()
    if failed:
        counts = f"{len(failed)} of {len(checks)} checks failed"
        raise GateFailed(f"{label(section)}: {conclusion} {counts}: {'; '.join(failed)}")


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
