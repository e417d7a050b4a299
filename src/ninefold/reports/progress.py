"""The state of the stages as their files show it: passed, failed, not run, or not reached."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ninefold import artifacts
from ninefold.params import MODULES, root
from ninefold.reports import runner
from ninefold.stages import FLOOR, STAGES, is_own, label

PASSED, FAILED, NOT_RUN, NOT_REACHED = "passed", "failed", "not run", "not reached"
OWN = "own"


@dataclass(frozen=True)
class Stage:
    """What the site says about a stage or an own notebook; `notebook` is what its page shows, None if it has no page."""

    slug: str
    state: str
    question: str
    notebook: Any = None
    record: dict[str, Any] = field(default_factory=dict)
    failure: list[str] = field(default_factory=list)
    stopped_in: str = ""
    earlier: bool = False

    @property
    def number(self) -> str:
        """Its number, such as ``07``, or ``05b``."""
        return label(self.slug).partition("_")[0]

    @property
    def own(self) -> bool:
        """Whether it is a notebook of the user's own, under stage 05."""
        return is_own(self.slug)

    @property
    def name(self) -> str:
        """Its name, as in ``Training``; of an own notebook the title."""
        if not self.own:
            return self.slug.capitalize()
        title = re.match(rf"# +(?:{self.number} · )?(.+)", self.notebook.cells[0].source) if self.notebook else None
        return unescaped(title[1]) if title else self.slug.partition("_")[2].replace("_", " ").capitalize()

    @property
    def page(self) -> str | None:
        """Its page, relative to ``reports``, or None."""
        return page_of(self.slug) if self.notebook else None

    @property
    def up(self) -> str:
        """The path from its page to ``reports``: empty, or ``../``."""
        return "../" if self.own else ""

    @property
    def source(self) -> str:
        """The notebook that the page shows, relative to ``reports``."""
        folder = "failed" if self.state == FAILED and not self.earlier else "notebooks"
        return f"{folder}/{label(self.slug)}.ipynb"

    @property
    def conclusion(self) -> str:
        """Its conclusion, or an empty text."""
        return str(self.record.get("conclusion", ""))

    @property
    def headline(self) -> dict[str, str]:
        """Its figures for the index, label to text."""
        return self.record.get("headline", {})

    @property
    def gate(self) -> str:
        """The state of its gate in words, such as ``passed, 5 of 5 checks``: those that passed, or that failed."""
        checks = _checks(self.record)
        if self.state not in (PASSED, FAILED) or not checks:
            return self.state
        count = sum(check["passed"] == (self.state == PASSED) for check in checks)
        return f"{self.state}, {count} of {len(checks)} checks"


def read_project() -> dict[str, str]:
    """Return the project's ``title`` and ``question``, as stage 01 wrote them; plain words until it has run."""
    values = _record("data/problem.json")
    return {"title": values.get("title", "Ninefold"), "question": values.get("question", "")}


def read_stages() -> list[Stage]:
    """Return the nine stages, and own notebooks after that under which they stand, as their files show them."""
    stages: list[Stage] = []
    after = STAGES.index(FLOOR) + 1
    for slug in (*STAGES[:after], *runner.own(), *STAGES[after:]):
        reached = all(stage.state != FAILED for stage in stages)
        stages.append(_failed(slug) or _last_good(slug, reached))
    return stages


def overall(stages: list[Stage]) -> str:
    """Return the state of the project in one sentence."""
    passed = sum(stage.state == PASSED for stage in stages)
    if failed := [f"{stage.number} {stage.name}" for stage in stages if stage.state == FAILED]:
        return f"Stopped at {', '.join(failed)}: {passed} of {len(stages)} gates passed"
    all_passed = f"All {len(stages)} gates passed"
    return all_passed if passed == len(stages) else f"{passed} of {len(stages)} gates passed, the others not run"


def _last_good(slug: str, reached: bool) -> Stage:
    place = artifacts.path(f"reports/notebooks/{label(slug)}.ipynb")
    run = runner.read(place) if place.exists() else None
    record = _record(f"reports/metrics/{label(slug)}.json") if run else {}
    state = PASSED if record.get("gate", {}).get("passed") else NOT_RUN
    earlier = run is not None and not reached
    return Stage(slug, state if reached else NOT_REACHED, _question(slug, run), run, record, earlier=earlier)


def _failed(slug: str) -> Stage | None:
    """Return the stage if its last run failed: headless, it leaves a notebook; in Jupyter, the gate's record alone."""
    place = artifacts.path(f"reports/failed/{label(slug)}.ipynb")
    record = _record(f"reports/failed/{label(slug)}.json")
    if not place.exists():
        if not record:
            return None
        good = _last_good(slug, reached=False)
        return Stage(slug, FAILED, good.question, good.notebook, record, _failed_checks(record), earlier=True)
    run = runner.read(place)
    section, error = _raised(run)
    if not error or error.ename != "GateFailed":  # then numbers of a gate, if any, are of an older run
        record = {}
    failure = _failed_checks(record) or [portable(f"{error.ename}: {error.evalue}") if error else "the run stopped"]
    return Stage(slug, FAILED, _question(slug, run), run, record, failure, section)


def _failed_checks(record: dict[str, Any]) -> list[str]:
    failed = [check for check in _checks(record) if not check["passed"]]
    return [f"{check['name']}: found {check['value']}, expected {check['limit']}" for check in failed]


def _checks(record: dict[str, Any]) -> list[dict[str, Any]]:
    return record.get("gate", {}).get("checks", [])


def _record(name: str) -> dict[str, Any]:
    return artifacts.read_json(name) if artifacts.path(name).exists() else {}


def _raised(run: Any) -> tuple[str, Any]:
    """Return the heading above the cell that raised, and its error; None if no cell did."""
    heading = ""
    for cell in run.cells:
        if cell.cell_type == "markdown":
            heading = [heading, *re.findall(r"^## +(.+)$", cell.source, re.M)][-1]
        if error := next((each for each in cell.get("outputs", []) if each.output_type == "error"), None):
            return heading, error
    return "", None


def _question(slug: str, run: Any) -> str:
    """Return the italic line under the notebook's title; without a notebook, the module's first line."""
    if run and (line := re.search(r"^\*([^*\n]+)\*$", run.cells[0].source, re.M)):
        return unescaped(line[1])
    module = importlib.import_module(MODULES[slug]) if slug in MODULES else None
    return ((module and module.__doc__) or "").split("\n")[0]


def page_of(slug: str) -> str:
    """Return the page of a stage, or of an own notebook, relative to ``reports``."""
    return f"{OWN}/{slug}.html" if is_own(slug) else f"{label(slug)}.html"


def unescaped(text: str) -> str:
    """Return text of a notebook without the backslashes that keep Markdown from reading marks into it."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text.strip())


def portable(text: str) -> str:
    """Return text without what differs from one machine to the next: the project's folder, addresses in memory."""
    folder = str(root())
    text = text.replace(f"{folder}/", "").replace(f"{folder.replace(str(Path.home()), '~', 1)}/", "")
    return re.sub(r"\b0x[0-9a-f]{8,16}\b", "0x…", text)
