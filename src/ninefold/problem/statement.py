"""The problem: what is decided, for whom, at what costs; section ``problem`` of ``params.yaml``, completed and checked."""

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from ninefold import artifacts, timestamps
from ninefold.errors import DataError
from ninefold.jinja import facts_table
from ninefold.params import Duration, Name, Section, StageSection, Text
from ninefold.problem.metric_names import MEANING

FILE = "data/problem.json"
OUTCOMES = ("positive", "negative")  # of a binary target: the event happens, or not
EVENT = {"0": "no event", "1": "event"}  # classes that have no labels


class Uses(Section):
    """What each kind of analytics is for."""

    descriptive: Text
    predictive: Text
    prescriptive: Text


class Costs(Section):
    """What one unit costs by which the quantity acted on is too high (over), or too low (under)."""

    over: float = Field(gt=0)
    under: float = Field(gt=0)


class Success(Section):
    """What makes the project worth having, measured on the holdout."""

    scores: dict[Text, float] = Field(default_factory=dict)
    min_payoff_gain: float = Field(ge=0)
    confidence: float = Field(gt=0.75, lt=1)

    @property
    def level(self) -> float:
        """The level of an interval with two ends whose low end is exceeded with `confidence`."""
        return 2 * self.confidence - 1


def _labelled(classes: Any) -> Any:
    """Return classes with their labels; in a list each is its own."""
    labels = classes if isinstance(classes, list) else [*classes.values()] if isinstance(classes, dict) else []
    if len({*map(str, labels)}) < len(labels):
        raise ValueError("every class, and every label, once")
    return dict(zip(map(str, classes), labels, strict=True)) if labels else classes


class Params(StageSection):
    """Section ``problem`` of ``params.yaml``; `classes`: the values of the target -> what they are called."""

    title: Text
    question: Text
    unit: Text
    units: Text
    table: Name
    key: list[Name] = Field(min_length=1)
    time: Name | None = None
    timezone: str = "UTC"
    group: list[Name] | None = None
    task: Literal["binary", "multiclass", "regression"] = "binary"
    target: Name
    classes: Annotated[dict[Name, Text], BeforeValidator(_labelled)] | None = Field(default=None, min_length=2)
    focus: Name | None = None
    positive: Text | None = None
    horizon: Duration = "0h"
    label_delay: Duration = "0h"
    owner: Text
    action_meaning: Text
    uses: Uses
    payoff_unit: Text
    payoffs: dict[Text, dict[Name, float]] | None = Field(default=None, min_length=2)
    costs: Costs | None = None
    success: Success
    risks: list[Text] = Field(min_length=1)

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            raise ValueError("a name of the IANA time zone database, such as Europe/Paris") from None
        return name

    @model_validator(mode="after")
    def _fits_the_task(self) -> Self:
        task, classes, payoffs = self.task, list(self.classes or []), self.payoffs or {}
        needed, foreign = ("costs", "payoffs") if task == "regression" else ("payoffs", "costs")
        if getattr(self, needed) is None:
            raise ValueError(f"{needed} for task {task}; they are missing")
        if getattr(self, foreign) is not None:
            raise ValueError(f"{needed} for task {task}; found {foreign}, which are for another task")
        if task == "multiclass" and not classes:
            raise ValueError("classes for task multiclass: all values of the target, as text")
        if task == "binary" and len(classes) not in (0, 2):
            raise ValueError(f"two classes for task binary, the second is the event; found {len(classes)}")
        if task != "regression" and self.positive is None:
            raise ValueError("positive: a verb phrase that says what the event is, such as 'arrives late'")
        if classes and self.focus not in (None, *classes):
            raise ValueError(f"focus to be one of the classes, {', '.join(classes)}; found {self.focus}")
        if strange := sorted(set(self.success.scores) - set(MEANING[task])):
            raise ValueError(f"success.scores of {', '.join(MEANING[task])}; found {', '.join(strange)}")
        known = list(OUTCOMES) if task == "binary" else classes
        for action, pays in payoffs.items():
            if sorted(pays) != sorted(known):
                raise ValueError(f"payoffs.{action} for each of {', '.join(known)}; found {', '.join(pays)}")
        if payoffs and len({tuple(sorted(pays.items())) for pays in payoffs.values()}) < 2:
            raise ValueError("actions whose payoffs differ; with equal ones there is nothing to decide")
        return self


class Problem(Params):
    """The decision that a project supports, as every stage reads it.

    `classes`, the values of the target as text in the order of their codes, `class_labels`, what each is called, and `focus`,
    the class that descriptions look at, are filled in: of two the second is the event. A regression has none, and `costs` for
    `payoffs` (action -> outcome -> payoff).
    """

    class_labels: dict[Name, Text] = Field(default_factory=dict)

    if TYPE_CHECKING:  # which of these there are, the task tells
        classes: list[str]  # type: ignore[assignment]
        focus: str
        payoffs: dict[str, dict[str, float]]
        costs: Costs
    else:
        classes: list[Name] | None = None

    @classmethod
    def of(cls, params: Params) -> Self:
        """Return the problem that params describe."""
        labels = {} if params.task == "regression" else params.classes or EVENT
        labels = EVENT if params.task == "binary" and [*labels.values()] == [*EVENT] else labels
        focus = (
            params.focus if params.task == "multiclass" and params.focus is not None else next(reversed(labels), None)
        )
        filled = {"classes": list(labels) or None, "class_labels": labels, "focus": focus}
        return cls(**{**params.model_dump(mode="json"), **filled})

    @classmethod
    def read(cls, values: dict[str, Any], where: str) -> Self:
        """Return the problem that `save` or a bundle stored as JSON."""
        try:
            return cls(**{key: value for key, value in values.items() if key not in ("actions", "break_even")})
        except (ValidationError, TypeError) as error:
            raise DataError(f"{where}: not a problem as this version writes it ({error}); run stage 01 again") from None

    @classmethod
    def load(cls) -> Self:
        """Read ``data/problem.json``, which stage 01 writes."""
        return cls.read(artifacts.read_json(FILE), FILE)

    def save(self) -> None:
        """Write ``data/problem.json``, with ``actions`` and ``break_even`` for people who read it."""
        artifacts.write_json(self.values(), artifacts.output(FILE))

    def changed(self, **values: Any) -> "Problem":
        """Return the problem with other values for some fields; the caller answers for them, they are not checked."""
        return Problem.model_construct(**{**dict(self), **values})

    def at_price(self, price: str, factor: float) -> "Problem":
        """Return the problem with one price multiplied: all payoffs of an action, or the cost ``over`` or ``under``."""
        if not self.is_class:
            return self.changed(costs=self.costs.model_copy(update={price: factor * getattr(self.costs, price)}))
        payoffs = {name: factor * value for name, value in self.payoffs[price].items()}
        return self.changed(payoffs={**self.payoffs, price: payoffs})

    def values(self) -> dict[str, Any]:
        """Return the problem as JSON's own types, with ``actions`` and ``break_even``."""
        return {**self.model_dump(mode="json"), "actions": self.actions, "break_even": self.break_even}

    def local_times(self, frame: pd.DataFrame) -> pd.Series:
        """Return the local time of each row, in `timezone`: datetime64 without a zone; NaT where the problem has no time."""
        times = frame[self.time] if self.time else pd.Series(pd.NaT, frame.index, dtype="datetime64[us]")
        return timestamps.local(times, self.timezone)

    def local_days(self, frame: pd.DataFrame) -> pd.Series:
        """Return the local day of each row: datetime64, its midnight."""
        return self.local_times(frame).dt.normalize()

    def known_before(self, time: Any, delay: str | None = None) -> Any:
        """Return the latest time of outcomes, or values with another `delay`, that are known when a row of `time` is decided."""
        return time - pd.Timedelta(self.horizon) - pd.Timedelta(delay or self.label_delay)

    @property
    def is_class(self) -> bool:
        """Whether the target is a class, not a quantity."""
        return self.task != "regression"

    @property
    def actions(self) -> list[str]:
        """The actions to choose from, in the order of params; none for a regression, whose action is a quantity."""
        return list(self.payoffs or {})

    @property
    def focus_index(self) -> int:
        """The position of `focus` among the classes."""
        return 1 if self.task == "binary" else self.classes.index(self.focus)

    @property
    def ratio(self) -> float:
        """The quantile to act on of a regression, which has the least expected cost: ``under / (under + over)``, 0-1."""
        return self.costs.under / (self.costs.under + self.costs.over)

    @cached_property
    def payoff_matrix(self) -> pd.DataFrame:
        """What each action pays by class: float64, a row per action and a column per class, in their orders."""
        names = ["negative", "positive"] if self.task == "binary" else self.classes
        return pd.DataFrame.from_dict(self.payoffs or {}, orient="index", columns=names).astype("float64")

    @cached_property
    def break_even(self) -> float | None:
        """The lowest probability at which the best action changes, 0-1; None if none does, or the task is not binary.

        Two actions with payoff lines ``n + p (y - n)`` are equal at ``p = (n2 - n1) / ((y1 - n1) - (y2 - n2))``.
        """
        if self.task != "binary":
            return None
        matrix = self.payoff_matrix
        slope, start = (matrix["positive"] - matrix["negative"]).to_numpy(), matrix["negative"].to_numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            crossings = ((start[:, None] - start) / (slope - slope[:, None])).ravel()
        for point in np.sort(crossings[np.isfinite(crossings) & (crossings > 0) & (crossings < 1)]):
            below, above = (np.argmax(start + slope * each) for each in (point - 1e-9, point + 1e-9))
            if below != above:
                return float(point)
        return None

    def __repr__(self) -> str:
        """Return the decision in one line."""
        among = f"actions {', '.join(self.actions)}" if self.is_class else f"the {self.ratio:.0%} quantile"
        return f"Problem({self.task}: {self.target} of {self.table}; {among}; {self.horizon} ahead)"

    def _repr_html_(self) -> str:
        facts = {name: getattr(self, name) for name in ("task", "target", "table", "horizon", "label_delay")}
        facts |= {"actions": ", ".join(self.actions)} if self.is_class else {"acts on": f"{self.ratio:.0%} quantile"}
        return facts_table(self.question, facts)
