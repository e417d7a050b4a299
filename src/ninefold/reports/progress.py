"""The state of the stages as their files show it: passed, failed, not run, or not reached."""

import importlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ninefold import artifacts, gate, lineage
from ninefold.params import FILE, MODULES, flatten, parse, root
from ninefold.reports import runner
from ninefold.sentences import render
from ninefold.stages import FLOOR, STAGES, is_own, label

PASSED, FAILED, NOT_RUN, NOT_REACHED = "passed", "failed", "not run", "not reached"
OWN = "own"


@dataclass(frozen=True)
class Stage:
    """What the site says about a stage or an own notebook."""

    slug: str
    number: str  # such as 07, or 05b
    name: str  # as in Training; of an own notebook the title
    own: bool  # whether it is a notebook of the user's own, under stage 05
    state: str
    gate: str  # its state in words, such as "passed, 5 of 5 checks": those that passed, or that failed
    question: str
    notebook: Any  # what its page shows; None if it has no page
    source: str  # that notebook, relative to ``reports``
    page: str | None  # relative to ``reports``
    record: dict[str, Any]
    conclusion: str
    headline: dict[str, str]  # figures for the index, label to text
    failure: list[str]
    stopped_in: str  # the heading above the cell that raised
    earlier: bool  # whether its page shows an earlier run


def read_project() -> dict[str, str]:
    """Return the project's ``title`` and ``question``, as stage 01 wrote them; plain words until it has run."""
    values = artifacts.published("data/problem.json") or {}
    return {"title": values.get("title", "Ninefold"), "question": values.get("question", "")}


def read_stages() -> list[Stage]:
    """Return the nine stages, and own notebooks after that under which they stand, as their files show them."""
    stages: list[Stage] = []
    after = STAGES.index(FLOOR) + 1
    for slug in (*STAGES[:after], *runner.own(), *STAGES[after:]):
        stages.append(_stage(slug, reached=all(stage.state != FAILED for stage in stages)))
    return stages


def changes(stages: list[Stage]) -> dict[str, Any]:
    """Return headline figures and params that differ from those of the newest ``commit`` with others; empty without one.

    They are the same before and after a run is committed: the index does not change by the commit.
    """
    if not (commit := lineage.differing("reports/metrics", FILE)):
        return {}
    texts = (lineage.file_of(commit, FILE) or "", artifacts.path(FILE).read_text(encoding="utf-8"))
    figures = []
    for stage in stages:
        record = json.loads(lineage.file_of(commit, f"reports/metrics/{label(stage.slug)}.json") or "{}")
        figures += [(stage, *line) for line in _differing(record.get("headline", {}), stage.headline)]
    params = _differing(*(dict(flatten(parse(text) or {})) for text in texts))
    return {"commit": commit, "figures": figures, "params": params}


def overall(stages: list[Stage]) -> str:
    """Return the state of the project in one sentence."""
    return render("reports", "overall", stages=stages)


def _stage(slug: str, reached: bool) -> Stage:
    """Return a stage. A run that failed leaves a notebook if it was headless, in Jupyter the gate's record alone."""
    numbered, own, state, failure, section = label(slug), is_own(slug), FAILED, [], ""
    sources = [f"failed/{numbered}.ipynb", f"notebooks/{numbered}.ipynb"]
    source = next((each for each in sources if artifacts.path(f"reports/{each}").exists()), "")
    run = runner.read(artifacts.path(f"reports/{source}")) if source else None
    record = artifacts.published(f"reports/failed/{numbered}.json") or {}
    if source == sources[0]:
        section, error = _raised(run)
        failure = [portable(f"{error.ename}: {error.evalue}") if error else "the run stopped"]
        if not error or error.ename != "GateFailed":  # then numbers of a gate, if any, are of an older run
            record = {}
    elif not record:
        record = (artifacts.published(f"reports/metrics/{numbered}.json") if run else None) or {}
        passed = record.get("gate", {}).get("passed")
        state = NOT_REACHED if not reached else PASSED if passed else NOT_RUN
    checks = record.get("gate", {}).get("checks", [])
    failed, silenced = gate.failures(record), sum("silenced" in check for check in checks)
    count = len(failed) if state == FAILED else len(checks) - len(failed) - silenced
    few = f", {silenced} silenced" if silenced else ""
    return Stage(
        slug=slug,
        number=numbered.partition("_")[0],
        name=_title(slug, run) if own else slug.capitalize(),
        own=own,
        state=state,
        gate=f"{state}, {count} of {len(checks)} checks{few}" if checks and state in (PASSED, FAILED) else state,
        question=_question(slug, run),
        notebook=run,
        source=source,
        page=page_of(slug) if run else None,
        record=record,
        conclusion=str(record.get("conclusion", "")),
        headline=record.get("headline", {}),
        failure=failed or failure,
        stopped_in=section,
        earlier=source == sources[1] and state in (FAILED, NOT_REACHED),
    )


def _raised(run: Any) -> tuple[str, Any]:
    """Return the heading above the cell that raised, and its error; None if no cell did."""
    heading = ""
    for cell in run.cells:
        if cell.cell_type == "markdown":
            heading = [heading, *re.findall(r"^## +(.+)$", cell.source, re.M)][-1]
        if error := next((each for each in cell.get("outputs", []) if each.output_type == "error"), None):
            return heading, error
    return "", None


def _differing(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(name, before.get(name), now.get(name)) for name in before | now if before.get(name) != now.get(name)]


def _title(slug: str, run: Any) -> str:
    """Return the title of an own notebook; without a run, the words of its name."""
    number, _, words = slug.partition("_")
    title = re.match(rf"# +(?:{number} · )?(.+)", run.cells[0].source) if run else None
    return unescaped(title[1]) if title else words.replace("_", " ").capitalize()


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
