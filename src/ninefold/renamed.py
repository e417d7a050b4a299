"""Keys of ``params.yaml``, and names of the engine that notebooks and ``src/project`` used, which were renamed.

Whoever renames one adds a line here; if it is renamed again, the line gets the newest name. A project that uses an old
one is refused (`ninefold.outdated`), and ``ninefold migrate`` changes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

Parts = tuple[str, ...]  # of keys, or the parts of a dotted name


@dataclass(frozen=True)
class Name:
    """A module of the engine, or a name in one; what is in a module moves with it. `new` is None if it was removed."""

    old: str
    new: str | None
    why: str = ""


@dataclass(frozen=True)
class Key(Name):
    """A key of ``params.yaml``; ``*`` is any one key, the same in both. `add` holds what its mapping needs now, too."""

    add: Mapping[str, str] = field(default_factory=dict)


KEYS = (
    Key("problem.success.min_roc_auc", "problem.success.scores.roc_auc"),
    Key("exploration.leak_auc", "exploration.leak_score"),
    Key("training.logistic_regression", "training.candidates.logistic_regression", add={"model": "linear"}),
    Key("training.gradient_boosting", "training.candidates.gradient_boosting", add={"model": "gradient_boosting"}),
    Key("monitoring.alerts.share", "monitoring.alerts.outcomes"),
    Key("monitoring.alerts.brier", "monitoring.alerts.error"),
    Key("monitoring.deliver.webhook", "monitoring.deliver.notify", "a list of variables, each with an Apprise URL"),
)
SAME_NAME = {  # room -> modules of `core` that moved there; the spine is the empty one
    "": ("engine", "errors", "gate", "hooks", "params", "stages"),
    "collection": ("sources",),
    "metrics": ("evaluation", "scores"),
    "problem": ("decisions",),
    "processing": ("contract", "lake", "warehouse"),
    "training": ("estimators", "fairness", "model_file", "models", "selection", "slices"),
}
MODULES = {
    "core.adjustment": "training.calibration",
    "core.fitting": "training.cross_validation",
    "core.io": "artifacts",
    "core.plots": "plotting",
    "core.show": "display",
    "core.texts": "collection.datetimes",
    "deployment": "serving.deployment",
    **{
        f"figures.{room}": f"{room}.figures"
        for room in ("exploration", "features", "monitoring", "processing", "training")
    },
    "figures.deployment": "serving.figures",
    "figures.explanation": "training.explanation_figures",
    "figures.slices": "training.slice_figures",
    "figures.strategies": "monitoring.backtest_figures",
    "notebook": "reports.runner",
    "sampling": "testing.sampling",
    "strategies": "monitoring.backtest",
}
PARSERS = ("matches", "number", "whole_number", "plain_number")
MONITORING = {  # functions of stage 09
    "arrived": "read_arrivals",
    "wait": "add_label_status",
    "hold": "predict_holdout",
    "beside": "with_holdout",
    "unusual": "monitoring_reports",
    "worsened": "worse_slices",
    "watched": "service_reports",
    "judge": "apply_rules",
    "backtest.told": "backtest.as_plain",
}
TABLES = (  # functions of stage 09 that moved from its figures
    "arrival_table", "scorecard", "rule_table", "alert_table", "cause_table", "decision_table", "describe_arrival",
    "describe_arrivals", "describe_unusual", "describe_alerts", "describe_decision",
)  # fmt: skip
NAMES = (
    *(
        Name(f"ninefold.core.{name}", f"ninefold.{room}.{name}".replace("..", "."))
        for room, names in SAME_NAME.items()
        for name in names
    ),
    *(Name(f"ninefold.{old}", f"ninefold.{new}") for old, new in MODULES.items()),
    Name("ninefold.problem.load", None, "use Problem.load, from ninefold.problem"),
    Name("ninefold.metrics.load", None, "use EvaluationPlan.load, from ninefold.metrics"),
    Name("ninefold.training.columns", None, "use FeatureSchema.load, from ninefold.features"),
    Name("ninefold.collection.held", "ninefold.collection.verified_manifest"),
    *(Name(f"ninefold.core.texts.{name}", f"ninefold.collection.numbers.{name}") for name in PARSERS),
    Name("ninefold.core.texts.moment", "ninefold.collection.datetimes.parse"),
    Name("ninefold.core.texts.moments", "ninefold.collection.datetimes.parse_series"),
    Name("ninefold.training.tried", "ninefold.training.trial_scores"),
    *(Name(f"ninefold.monitoring.{old}", f"ninefold.monitoring.{new}") for old, new in MONITORING.items()),
    *(Name(f"ninefold.monitoring.figures.{name}", f"ninefold.monitoring.tables.{name}") for name in TABLES),
    Name("ninefold.exploration.one_column_scores", "ninefold.exploration.univariate_scores"),
    *(
        Name(f"ninefold.core.decisions.{name}", None, f"use problem.{name}")
        for name in ("is_class", "break_even", "payoff_matrix")
    ),
)


@dataclass(frozen=True)
class Change:
    """A line of a project that has to change; `how` says what to do if ``ninefold migrate`` cannot change it."""

    file: str
    where: str
    old: Parts
    new: Parts | None
    entry: Name | None = None
    how: str = ""

    def __str__(self) -> str:
        """Return the line of an error message."""
        now = f"is now {'.'.join(self.new)}" if self.new else "was removed"
        why = self.entry.why if self.entry else ""
        return "; ".join(filter(None, [f"{self.file}, {self.where}: {'.'.join(self.old)} {now}", why, self.how]))


def new_key(old: Parts) -> tuple[Parts | None, Key | None]:
    """Return the new name of a key, and its entry in `KEYS`; the key itself and None if it was not renamed."""
    for key in KEYS:
        if match := re.fullmatch(re.escape(key.old).replace(r"\*", "([^\0]+)").replace(r"\.", "\0"), "\0".join(old)):
            names = iter(match.groups())
            new = tuple(next(names) if part == "*" else part for part in (key.new or "").split("."))
            return new if key.new else None, key
    return old, None


def new_name(old: str) -> tuple[str | None, Name | None]:
    """Return the new full name of a name, by itself or by the module that it is in, and its entry in `NAMES`; likewise."""
    entries = [name for name in NAMES if f"{old}.".startswith(f"{name.old}.")]
    if not entries:
        return old, None
    name = max(entries, key=lambda name: len(name.old))
    return name.new and name.new + old[len(name.old) :], name
