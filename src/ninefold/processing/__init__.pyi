from . import ingest, sentences, warehouse
from .contract import RULE, Params
from .stage import (
    EVENT,
    LAKE,
    broken_rules,
    check_problem,
    checks,
    conclusion,
    convert,
    headline,
    judge,
    metrics,
    missing_shares,
    newest,
    read,
    update,
    validate,
    view,
)

__all__ = [
    "EVENT", "LAKE", "RULE", "Params", "broken_rules", "check_problem", "checks", "conclusion", "convert",
    "headline", "ingest", "judge", "metrics", "missing_shares", "newest", "read", "sentences", "update", "validate",
    "view", "warehouse",
]  # fmt: skip
