from . import ingest, warehouse
from .contract import RULE, Params
from .stage import (
    LAKE,
    QUARANTINE,
    broken_rules,
    check_problem,
    checks,
    conclusion,
    convert,
    headline,
    judge,
    left_out,
    metrics,
    newest,
    promises,
    read,
    update,
    validate,
)

__all__ = [
    "LAKE", "QUARANTINE", "RULE", "Params", "broken_rules", "check_problem", "checks", "conclusion", "convert",
    "headline", "ingest", "judge", "left_out", "metrics", "newest", "promises", "read", "update", "validate",
    "warehouse",
]  # fmt: skip
