"""The evaluation plan: metrics, thresholds, split and baselines, fixed before any model has been scored."""

from typing import Any, Literal, Self

from pydantic import Field, ValidationError

from ninefold import artifacts, gate
from ninefold.errors import DataError
from ninefold.jinja import facts_table
from ninefold.params import Section, StageSection
from ninefold.problem import Success

FILE = "data/metrics.json"


class Shares(Section):
    """Shares of the labelled rows: the rest is for training. By time, where there is time: the oldest train."""

    validation: float = Field(gt=0, lt=0.5)
    holdout: float = Field(ge=0.2, le=0.3)
    min_rarest: int = Field(default=20, ge=1)


class Params(StageSection):
    """Section ``metrics`` of ``params.yaml``."""

    primary: str
    split: Shares
    level: float = Field(gt=0.5, lt=1)


class Primary(Section):
    """The metric that chooses the model, and which values of it are better."""

    name: str
    better: Literal["lower", "higher"]


class Split(Section):
    """How rows are split into ``train``, ``validation`` and ``holdout``.

    By time, `validation` and `holdout` are the local days (ISO) on which these parts begin. By group or rows, they are the
    hashes, 0-1, where they begin: the shares of the rows before them. `copies` are pairs of hashes, of a row and of the
    first one that it is a copy of, in whose part it lies.
    """

    by: Literal["time", "group", "rows"]
    validation: str | float
    holdout: str | float
    copies: tuple[tuple[float, float], ...] = Field(default=(), repr=False)

    def _repr_html_(self) -> str:
        return facts_table("Split", self.model_dump(exclude={"copies"}))


class EvaluationPlan(Section):
    """What later stages evaluate models by, as stage 04 fixed it.

    `metrics` are, by name, ``better`` (lower or higher) and ``meaning``. `level` is the confidence of intervals (0-1).
    `policies` (name to action) need no model, and `naive` (shares of the classes, or the mean) no features. `baselines` are
    the mean payoffs per row of each policy on ``train`` and ``validation``.
    """

    primary: Primary
    metrics: dict[str, dict[str, str]] = Field(default_factory=dict)
    thresholds: Success
    split: Split
    level: float
    policies: dict[str, Any] = Field(default_factory=dict)
    naive: list[float] = Field(default_factory=list)
    best_baseline: str = ""
    baselines: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    rows: int = 0

    @classmethod
    def load(cls) -> Self:
        """Read ``data/metrics.json``; raise `DataError` if it is missing, or not a plan as this version writes it."""
        try:
            return cls.model_validate(artifacts.read_json(FILE))
        except ValidationError as error:
            raise DataError(f"{FILE}: not a plan as this version writes it ({error}); run stage 04 again") from None

    def save(self) -> None:
        """Write ``data/metrics.json``."""
        values = {**self.model_dump(mode="json"), "baselines": gate.tidy(self.baselines)}
        artifacts.write_json(values, artifacts.output(FILE))

    def __repr__(self) -> str:
        """Return the plan in one line."""
        return f"EvaluationPlan({self.primary.name}; split by {self.split.by}; to beat: {self.best_baseline!r})"

    def _repr_html_(self) -> str:
        facts = {"primary metric": self.primary.name, "split by": self.split.by, "policy to beat": self.best_baseline}
        start = "starts" if self.split.by == "time" else "starts at hash"
        facts |= {f"{name} {start}": point for name, point in self.split.model_dump(exclude={"by", "copies"}).items()}
        return facts_table("Evaluation plan", facts)
