"""What was renamed for projects, as ``renamed.yaml`` lists it: keys of ``params.yaml``, and names of the engine."""

from dataclasses import field
from fnmatch import fnmatchcase
from pathlib import Path

import yaml
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config={"extra": "forbid"})
class Name:
    """A key of ``params.yaml``; or a module of the engine, or a name in one (``*`` is any end of it).

    What is in a module moves with it. `new` is None if it was removed. `add` holds what the mapping of a key needs now, too.
    A `new` key that is there already is refused; of durations, the `longest` may be kept.
    """

    old: str
    new: str | None = None
    why: str = ""
    longest: bool = False
    add: dict[str, str] = field(default_factory=dict)


_LISTED = TypeAdapter(dict[str, tuple[Name, ...]]).validate_python(
    yaml.load(Path(__file__).with_suffix(".yaml").read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
)
KEYS, NAMES = _LISTED["keys"], _LISTED["names"]


@dataclass(frozen=True)
class Change:
    """A line of a project that has to change; `how` says what to do where ``ninefold migrate`` does not change it."""

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
    possible = [name for name in NAMES if old.startswith(name.old.partition("*")[0])]  # `fnmatch` is slow
    entries = [name for name in possible if fnmatchcase(f"{old}.", f"{name.old}.*")]
    if not entries:
        return old, None
    name = max(entries, key=lambda name: (name.new is None, len(name.old)))
    new = name.new and name.new + old[len(name.old) :]
    removed = next((each for each in NAMES if each.new is None and each.old == new), None)
    return (None, removed) if removed else (new, name)
