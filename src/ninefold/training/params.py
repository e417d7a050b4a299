"""Section ``training`` of ``params.yaml``."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ninefold.params import Duration, Name, Section, StageSection, Text
from ninefold.training.calibration import Method
from ninefold.training.models import SPACES, Candidate


class Search(Section):
    """How long to search for options, and where; without a budget candidates keep their options."""

    budget: Annotated[int, Field(ge=0)] | Duration = 0
    space: dict[Text, dict[Name, tuple[float, float]]] = Field(default_factory=dict)


class Params(StageSection):
    """Section ``training`` of ``params.yaml``."""

    seed: int = Field(ge=0)
    folds: int = Field(default=5, ge=1, le=20)
    blend: bool = True
    candidates: dict[Text, Candidate] = Field(min_length=1)
    search: Search = Search()
    backend: Literal["local", "dask"] = "local"
    scheduler: Text | None = None
    calibration: Literal["auto"] | Method = "auto"
    interval: float = Field(default=0.9, gt=0.5, lt=1)
    importance_rows: int = Field(ge=100)
    protected: list[Name] = Field(default_factory=list)
    perfect_score: float | None = Field(default=None, gt=0, le=1)
    justified: dict[Name, Text] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _spaces(self) -> Self:
        for name, options in self.search.space.items():
            if name not in self.candidates:
                raise ValueError(f"search.space of candidates, which are {', '.join(self.candidates)}; found {name}")
            known = SPACES[self.candidates[name].model]
            for option, (low, high) in options.items():
                if option not in known:
                    raise ValueError(f"search.space.{name}: options of {', '.join(known)}; found {option}")
                if not low < high:
                    raise ValueError(f"search.space.{name}.{option}: [lower, higher]; found [{low:g}, {high:g}]")
        return self
