"""The schema of the features: the columns of the model by kind, as stage 06 records them."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from ninefold import artifacts
from ninefold.jinja import facts_table

FILE = "data/online/online.json"
KINDS = {"numeric": ("numeric", "history"), "categorical": ("categorical",), "text": ("text",), "dates": ("date",)}


@dataclass(frozen=True)
class FeatureSchema:
    """The columns that a model sees: `all` in order; by kind (history is ``numeric``); those of `high_cardinality`."""

    all: list[str] = field(default_factory=list)
    numeric: list[str] = field(default_factory=list)
    categorical: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    dates: list[str] = field(default_factory=list)
    high_cardinality: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, columns: Iterable[Mapping[str, Any]]) -> Self:
        """Return the schema of columns that each have ``name``, ``kind`` and perhaps ``wide`` (a high cardinality)."""
        columns = [column for column in columns if any(column["kind"] in kinds for kinds in KINDS.values())]
        by_kind = {name: [each["name"] for each in columns if each["kind"] in kinds] for name, kinds in KINDS.items()}
        many = [column["name"] for column in columns if column.get("wide")]
        return cls(all=[column["name"] for column in columns], high_cardinality=many, **by_kind)

    @classmethod
    def load(cls) -> Self:
        """Read the schema from what stage 06 wrote."""
        return cls.of(artifacts.read_json(FILE)["features"])

    def __repr__(self) -> str:
        """Return how many columns there are of each kind."""
        counts = [f"{len(getattr(self, name))} {name}" for name in KINDS if getattr(self, name)]
        return f"FeatureSchema({len(self.all)} columns: {', '.join(counts)})"

    def _repr_html_(self) -> str:
        facts = {name: ", ".join(names) for name, names in asdict(self).items() if names and name != "all"}
        return facts_table(f"{len(self.all)} features", facts)
