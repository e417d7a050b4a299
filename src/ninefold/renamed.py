"""Keys of ``params.yaml`` and names of the engine that were renamed.

Whoever renames one adds a line here; if it is renamed again, the line gets the newest name. A project that uses an old
one is refused (`ninefold.outdated`), and ``ninefold migrate`` changes it.
"""

from __future__ import annotations

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
    "": ("engine", "errors", "gate", "hooks", "incidents", "lineage", "outdated", "params", "renamed", "stages"),
    "collection": ("databases", "delimited", "deliveries", "sources", "tabular"),
    "metrics": ("evaluation", "scores"),
    "monitoring": ("decomposition", "drift", "period", "two_sample"),
    "problem": ("decisions",),
    "processing": ("contract", "lake", "warehouse"),
    "training": ("estimators", "explanation", "fairness", "holdout", "model_file", "models", "selection", "slices"),
}
MODULES = {
    "alerts": "monitoring.alerts",
    "core.adjustment": "training.calibration",
    "core.clock": "exploration.calendar",
    "core.estimation": "monitoring.performance_estimation",
    "core.examination": "monitoring.report",
    "core.faults": "monitoring.data_quality",
    "core.fitting": "training.cross_validation",
    "core.io": "artifacts",
    "core.later_rows": "exploration.entity_leakage",
    "core.leaks": "exploration.leakage",
    "core.levels": "exploration.group_rates",
    "core.limits": "monitoring.control_limits",
    "core.moments": "timestamps",
    "core.one_column": "exploration.univariate",
    "core.places": "collection.files",
    "core.plots": "plotting",
    "core.root_cause": "monitoring.causes",
    "core.search": "training.search",
    "core.shifts": "monitoring.shift_tests",
    "core.show": "display",
    "core.texts": "collection.datetimes",
    "deployment": "serving.deployment",
    "figures.deployment": "serving.figures",
    "figures.explanation": "training.explanation_figures",
    "figures.exploration": "exploration.figures",
    "figures.features": "features.figures",
    "figures.monitoring": "monitoring.figures",
    "figures.processing": "processing.figures",
    "figures.slices": "training.slice_figures",
    "figures.strategies": "monitoring.backtest_figures",
    "figures.training": "training.figures",
    "guides": "reports.guides",
    "ingest": "processing.ingest",
    "labels": "monitoring.labels",
    "migrate": "init.migrate",
    "notebook": "reports.runner",
    "notify": "monitoring.notification",
    "own_notebook": "reports.own_notebook",
    "production": "monitoring.production",
    "repository": "registry.repository",
    "retrain": "registry.retraining",
    "sampling": "testing.sampling",
    "serving.batch_databases": "serving.batch_duckdb",
    "serving.batch_io": "serving.chunks",
    "serving.card": "serving.model_card",
    "serving.desk": "serving.review",
    "serving.fast": "serving.compiled",
    "serving.fast_encode": "serving.compiled_encoders",
    "serving.fast_models": "serving.compiled_models",
    "serving.findings": "serving.monitoring_state",
    "serving.messages": "serving.schemas",
    "serving.operations": "serving.middleware",
    "serving.rollout": "serving.hot_swap",
    "serving.service": "serving.app",
    "serving.signature": "serving.fields",
    "site": "reports.site",
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
    "figures.arrival_table": "tables.arrival_table",
    "figures.scorecard": "tables.scorecard",
    "figures.rule_table": "tables.rule_table",
    "figures.alert_table": "tables.alert_table",
    "figures.cause_table": "tables.cause_table",
    "figures.decision_table": "tables.decision_table",
    "figures.describe_arrival": "tables.describe_arrival",
    "figures.describe_arrivals": "tables.describe_arrivals",
    "figures.describe_unusual": "tables.describe_unusual",
    "figures.describe_alerts": "tables.describe_alerts",
    "figures.describe_decision": "tables.describe_decision",
}
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
    Name("ninefold.problem.load", "ninefold.problem.Problem.load"),
    Name("ninefold.metrics.load", "ninefold.metrics.EvaluationPlan.load"),
    Name("ninefold.training.columns", "ninefold.features.FeatureSchema.load"),
    Name("ninefold.exploration.one_column_scores", "ninefold.exploration.univariate_scores"),
    Name("ninefold.core.decisions.is_class", None, "use problem.is_class"),
    Name("ninefold.core.decisions.break_even", None, "use problem.break_even"),
    Name("ninefold.core.decisions.payoff_matrix", None, "use problem.payoff_matrix"),
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
        parts = key.old.split(".")
        if len(parts) == len(old) and all(part in ("*", name) for part, name in zip(parts, old, strict=True)):
            same = iter([name for part, name in zip(parts, old, strict=True) if part == "*"])
            return tuple(next(same) if part == "*" else part for part in key.new.split(".")) if key.new else None, key
    return old, None


def new_name(old: str) -> tuple[str | None, Name | None]:
    """Return the new full name of a name, by itself or by the module that it is in, and its entry in `NAMES`; likewise."""
    entries = [name for name in NAMES if f"{old}.".startswith(f"{name.old}.")]
    if not entries:
        return old, None
    name = max(entries, key=lambda name: len(name.old))
    return name.new and name.new + old[len(name.old) :], name
