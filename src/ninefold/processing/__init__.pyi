from . import ingest, sentences, warehouse
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
    metrics,
    newest,
    read,
    update,
    validate,
)

__all__ = [
    "LAKE", "QUARANTINE", "RULE", "Params", "broken_rules", "check_problem", "checks", "conclusion", "convert",
    "headline", "ingest", "judge", "metrics", "newest", "read", "sentences", "update", "validate",
    "warehouse",
]  # fmt: skip
