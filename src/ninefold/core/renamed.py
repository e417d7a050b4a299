"""Keys of ``params.yaml`` and names of the engine that were renamed.

Whoever renames one adds a line here; of what is renamed again, the line gets the newest name. A project that has an old
one is refused (`ninefold.core.outdated`), and ``ninefold migrate`` changes it.
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
)
NAMES = (
    Name("ninefold.training.OPTIONS", "ninefold.core.models.OPTIONS"),
    Name("ninefold.training.gradient_boosting", "ninefold.core.models.gradient_boosting"),
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
    """Return what became of a key, and its entry in `KEYS`; the key itself and None if it is not an old one."""
    for key in KEYS:
        parts = key.old.split(".")
        if len(parts) == len(old) and all(part in ("*", name) for part, name in zip(parts, old, strict=True)):
            same = iter([name for part, name in zip(parts, old, strict=True) if part == "*"])
            return tuple(next(same) if part == "*" else part for part in key.new.split(".")) if key.new else None, key
    return old, None


def new_name(old: str) -> tuple[str | None, Name | None]:
    """Return what became of a full name, or of the module that it is in, and its entry in `NAMES`; likewise."""
    found = [name for name in NAMES if f"{old}.".startswith(f"{name.old}.")]
    if not found:
        return old, None
    name = max(found, key=lambda name: len(name.old))
    return name.new and name.new + old[len(name.old) :], name
