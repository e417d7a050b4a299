"""Keys of ``params.yaml``, and names of the engine that notebooks and ``src/project`` used, which were renamed.

Whoever renames one adds a line here; if it is renamed again, the line gets the newest name. A project that uses an old
one is refused (`ninefold.outdated`), and ``ninefold migrate`` changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Name:
    """A key of ``params.yaml``; or a module of the engine, or a name in one (``*`` is any end of it).

    What is in a module moves with it. `new` is None if it was removed. `add` holds what the mapping of a key needs now, too.
    A `new` key that is there already is refused; of durations, the `longest` may be kept.
    """

    old: str
    new: str | None
    why: str = ""
    longest: bool = False
    add: Mapping[str, str] = field(default_factory=dict)


KEYS = (
    Name("problem.success.min_roc_auc", "problem.success.scores.roc_auc"),
    Name("exploration.leak_auc", "exploration.leak_score"),
    Name("training.logistic_regression", "training.candidates.logistic_regression", add={"model": "linear"}),
    Name("training.gradient_boosting", "training.candidates.gradient_boosting", add={"model": "gradient_boosting"}),
    Name("training.gap", "problem.label_delay", "one delay for all stages, the longest", longest=True),
    Name("monitoring.label_delay", "problem.label_delay", "one delay for all stages, the longest", longest=True),
    Name("monitoring.alerts.share", "monitoring.alerts.outcomes"),
    Name("monitoring.alerts.brier", "monitoring.alerts.error"),
    Name("metrics.bootstrap.level", "metrics.level"),
    Name("metrics.bootstrap", None, "intervals are no longer drawn at random; `metrics.level` remains"),
    Name("monitoring.deliver.webhook", "monitoring.deliver.notify", "a list of variables, each with an Apprise URL"),
    Name("exploration.timezone", "problem.timezone"),
)
SAME_NAME = {  # room -> modules of `core` that moved there; the spine is the empty one
    "": ("engine", "errors", "gate", "hooks", "params", "stages"),
    "collection": ("sources",),
    "metrics": ("evaluation", "scores"),
    "problem": ("decisions",),
    "processing": ("contract", "lake", "warehouse"),
    "training": ("estimators", "fairness", "model_file", "models", "selection", "slices"),
}
FIGURES = ("exploration", "features", "monitoring", "processing", "serving", "training")  # rooms that had figures
PLOTS = "copy src/project/figures from the template, import it from there, and add the file to its stage in dvc.yaml"
MODULES = {
    "core.adjustment": "training.calibration",
    "core.fitting": "training.cross_validation",
    "core.io": "artifacts",
    "core.plots": "plotting",
    "core.show": "display",
    "core.texts": "collection.datetimes",
    "deployment": "serving.deployment",
    **{f"{room}.figures": f"{room}.sentences" for room in FIGURES},
    **{f"figures.{room}": f"{room}.sentences" for room in FIGURES},
    "figures.deployment": "serving.sentences",
    **dict.fromkeys(("figures.strategies", "monitoring.backtest_figures"), "monitoring.sentences"),
    **dict.fromkeys(("figures.explanation", "figures.slices"), "training.sentences"),
    **{f"training.{each}_figures": "training.sentences" for each in ("selection", "slice", "explanation")},
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
    "describe_arrivals", "describe_unusual",
)  # fmt: skip
REPEATS = {  # module -> what the sentences were about that only repeated the table above them, or the gate
    "collection": ("columns",),
    "features.sentences": ("events", "proofs"),
    "metrics": ("outcomes", "references"),
    "monitoring.tables": ("alerts", "decision"),
    "processing.sentences": ("answer", "broken", "counts"),
    "serving.sentences": ("answers", "latency", "refusals"),
    "training.sentences": ("calibration", "fairness", "folds", "results", "tests", "worst"),
}
NAMES = (
    *(
        Name(f"ninefold.core.{name}", f"ninefold.{room}.{name}".replace("..", "."))
        for room, names in SAME_NAME.items()
        for name in names
    ),
    *(Name(f"ninefold.{old}", f"ninefold.{new}") for old, new in MODULES.items()),
    Name("ninefold.*.plot_*", None, PLOTS),
    Name("ninefold.monitoring.figures.empty_figure", "ninefold.plotting.empty"),
    Name("ninefold.training.figures.bars", None, "use ninefold.plotting.bars"),
    Name("ninefold.training.figures.reach", "ninefold.plotting.reach"),
    Name("ninefold.problem.load", None, "use Problem.load, from ninefold.problem"),
    Name("ninefold.metrics.load", None, "use EvaluationPlan.load, from ninefold.metrics"),
    Name("ninefold.training.columns", None, "use FeatureSchema.load, from ninefold.features"),
    Name("ninefold.collection.held", "ninefold.collection.verified_manifest"),
    *(Name(f"ninefold.core.texts.{name}", f"ninefold.collection.numbers.{name}") for name in PARSERS),
    Name("ninefold.core.texts.moment", "ninefold.collection.datetimes.parse"),
    Name("ninefold.core.texts.moments", "ninefold.collection.datetimes.parse_series"),
    Name("ninefold.training.tried", "ninefold.training.trial_scores"),
    *(Name(f"ninefold.monitoring.{old}", f"ninefold.monitoring.{new}") for old, new in MONITORING.items()),
    Name("plan.bootstrap", None, "`plan.level` is the confidence of intervals"),
    *(Name(f"ninefold.metrics.{old}", None, "use ninefold.metrics.estimate") for old in ("Bootstrap", "replicates")),
    *(Name(f"ninefold.monitoring.figures.{name}", f"ninefold.monitoring.tables.{name}") for name in TABLES),
    *(
        Name(f"ninefold.monitoring.backtest_figures.{name}", f"ninefold.monitoring.tables.{name}")
        for name in ("strategy_table", "retraining_table")
    ),
    Name("ninefold.exploration.one_column_scores", "ninefold.exploration.univariate_scores"),
    *(
        Name(f"ninefold.{module}.describe_{name}", None, "drop its line: the tables and the gate say it")
        for module, names in REPEATS.items()
        for name in names
    ),
    Name("ninefold.processing.sentences.query_caption", None, "write the caption of the table in the notebook"),
    Name("ninefold.serving.deployment.reference", None, "use deployment.distributions(parts, signature)"),
    Name("ninefold.problem.stage.describe_decision", "ninefold.problem.stage.conclusion"),
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
    old: str
    new: str | None
    entry: Name | None = None
    how: str = ""

    def __str__(self) -> str:
        now = f"is now {self.new}" if self.new else "was removed"
        why = self.entry.why if self.entry else ""
        return "; ".join(filter(None, [f"{self.file}, {self.where}: {self.old} {now}", why, self.how]))


def new_name(old: str) -> tuple[str | None, Name | None]:
    """Return the new full name of a name, by itself or by the module that it is in, and its entry in `NAMES`, or None."""
    entries = [name for name in NAMES if fnmatchcase(f"{old}.", f"{name.old}.*")]
    if not entries:
        return old, None
    name = max(entries, key=lambda name: (name.new is None, len(name.old)))
    if name.new is None:
        return None, name
    new = name.new + old[len(name.old) :]
    removed = next((each for each in NAMES if each.new is None and each.old == new), None)
    return (None, removed) if removed else (new, name)
