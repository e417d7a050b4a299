"""Section ``exploration`` of ``params.yaml``."""

from pydantic import Field, ValidationInfo, field_validator

from ninefold.params import Name, Section, StageSection, Text
from ninefold.problem import Problem

# Default limits, which columns without a leak hardly reach: on scores, and on effects of missing values.
SCORES = {True: 0.995, False: 0.99}  # of classes; of a quantity, where a noise of 5 % of its spread leaves 0.9975
GAPS = {True: 0.5, False: 1.5}  # of shares; of standard deviations


class Related(Section):
    """A table of the lake to join: the columns that identify its rows (the rows have them too), and those to compare."""

    key: list[Name] = Field(min_length=1)
    columns: list[Name] = Field(min_length=1)


class Params(StageSection):
    """Section ``exploration`` of ``params.yaml``."""

    by: list[Name] = Field(default_factory=list)
    related: dict[Name, Related] = Field(default_factory=dict)
    bins: int = Field(default=6, ge=2, le=20)
    min_rows: int | None = Field(default=None, ge=2)
    leak_score: float | None = Field(default=None, gt=0, le=1)
    leak_gap: float | None = Field(default=None, gt=0)
    known_later: dict[Name, Text] = Field(default_factory=dict)
    justified: dict[Name, Text] = Field(default_factory=dict)

    def most_score(self, problem: Problem) -> float:
        """Return the limit on the score of a single column."""
        return self.leak_score or SCORES[problem.is_class]

    @field_validator("justified")
    @classmethod
    def _decided_once(cls, justified: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if both := justified.keys() & info.data.get("known_later", {}):
            raise ValueError(f"columns to drop or to keep, not both; take {', '.join(sorted(both))} out of one of them")
        return justified
