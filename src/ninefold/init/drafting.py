"""Write a proposal down: ``params.yaml`` with its comments, the files of ``src/project``, and a summary to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ninefold.init.defaults import data, models, problem
from ninefold.init.proposal import Proposal
from ninefold.init.yaml_text import aligned, cut, day, formatted, number, to_python, to_yaml
from ninefold.params import FILE

TEMPLATES = Path(__file__).with_name("templates")


def draft(p: Proposal, tables: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the text of every file, by its path in the project.

    Parameters
    ----------
    p : Proposal
    tables : dict
        Table -> its ``source`` and ``options``, the main table first.
    """
    context = {
        "p": p,
        **problem(p),
        **data(p, tables),
        **models(p),
        "with_signs": _with_signs(p),
        "example": _example(p),
    }
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters |= {"y": to_yaml, "n": number, "py": to_python}
    texts = {FILE: aligned(environment.get_template("params.yaml.j2").render(context))}
    for place in sorted((TEMPLATES / "project").glob("*.j2")):
        text = environment.get_template(f"project/{place.name}").render(context)
        texts[f"src/project/{place.stem}"] = formatted(text)
    return texts


def summary(p: Proposal) -> str:
    """Return what was found and written, as at most 40 lines to read."""
    lines = [f"{p.table}: {p.rows:,} rows, {len(p.columns)} columns; target {p.target.name}, task {p.task}"]
    if p.classes:
        total = sum(p.sizes.values())
        shown = sorted(p.sizes.items(), key=lambda pair: -pair[1])
        listed = ", ".join(f"{name} {size / total:.1%}" for name, size in shown[:8])
        lines.append(f"  classes   {listed}{', ...' if len(shown) > 8 else ''}; {'event' if p.task == 'binary' else 'in focus'}: {p.focus}")  # fmt: skip
    else:
        known = p.target.rows()[~np.isnan(p.target.rows())]
        lines.append(f"  values    {known.min():,.4g} to {known.max():,.4g}, mean {known.mean():,.4g}")
    lines.append(f"  key       {', '.join(p.key)}{' (numbered as read)' if p.number else ''}")
    if p.time is not None:
        times = p.time.rows()[~np.isnat(p.time.rows())]
        lines.append(
            f"  time      {p.time.name}, {day(times.min())} to {day(times.max())}, format {p.time.format or 'iso'}"
        )
    how = "by time" if p.time is not None else f"by {', '.join(p.group)}" if p.group else "by row"
    sizes = ", ".join(f"{name} {size:,}" for name, size in p.parts.items())
    lines.append(f"  split     {how}: {sizes} rows")
    for kind, names in p.features.items():
        if names:
            lines.append(f"  {kind:<11} {_short(names)}")
    for one in p.related:
        lines.append(f"  joined    {one.name} by {', '.join(one.by)}: {_short(list(one.renamed.values()))}")
    reasons: dict[str, list[str]] = {}
    for name, why in p.left.items():
        reasons.setdefault(why, []).append(name)
    lines += [f"  left out  {_short(names)}: {why}" for why, names in list(reasons.items())[:6]]
    if p.quarantined:
        lines.append(f"  quarantine {p.quarantined:,} rows do not keep their types")
    warnings = [f"  {count}. {cut(warning)}" for count, warning in enumerate(p.warnings, start=1)]
    room = 40 - len(lines) - 6
    if warnings:
        lines.append("Warnings, each with the key of params.yaml to change:")
        lines += (
            warnings if len(warnings) <= room else [*warnings[: room - 1], f"  ... and {len(warnings) - room + 1} more"]
        )
    return "\n".join([
        *lines,
        "Wrote params.yaml and src/project. Prices are assumed: see the lines marked so in params.yaml. Next:",
        "  git add -A && git commit -m 'Begin with my own table'",
        "  dvc repro       # or make run: nine notebooks, nine reports, reports/index.html",
        "  make lab        # the same notebooks, cell by cell",
    ])  # fmt: skip


def _with_signs(p: Proposal) -> dict[str, dict[str, tuple[str, str, str]]]:
    tables = {p.table: p.columns, **{one.name: one.columns for one in p.related}}
    numbers = {
        table: {c.name: (c.raw, c.decimal or ".", c.thousands or "") for c in columns.values() if c.raw != c.name}
        for table, columns in tables.items()
    }
    return {table: columns for table, columns in numbers.items() if columns}


def _example(p: Proposal) -> dict[str, str | None]:
    own = p.contract()
    numbers = [name for name in p.features["numeric"] if name in own]
    numbers.sort(key=lambda name: not name.isascii())
    anything = next(iter(name for names in p.features.values() for name in names if name in own), p.target.name)
    return {
        "number": numbers[0] if numbers else None,
        "other": numbers[1] if len(numbers) > 1 else None,
        "any": anything,
    }


def _short(names: list[str], most: int = 8) -> str:
    more = f" ... ({len(names)})" if len(names) > most else ""
    return ", ".join(names[:most]) + more
