"""Render the executed notebooks as one site to read offline, and sum up a run in the terminal.

Reads: ``reports/notebooks``, ``reports/metrics``, ``reports/failed``, ``data/problem.json``, ``notebooks/own.yaml``.
Writes: ``reports/index.html``, and a page for every stage that has an executed notebook; those of your own notebooks to
``reports/own``. Same input, same bytes. Beside them, where there is a bundle, ``reports/model_card.html``: it names the
commit that recorded the model, and so is no output of the pipeline.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ninefold import notebook as notebooks  # before nbconvert: it keeps a slow import away
from ninefold.core import io, lineage
from ninefold.core.errors import DataError
from ninefold.core.params import root
from ninefold.core.stages import FLOOR, STAGES, is_own, label

TEMPLATES = Path(__file__).with_name("templates")
PASSED, FAILED, NOT_RUN, NOT_REACHED = "passed", "failed", "not run", "not reached"
BOTTOM_LINE = ("training", "monitoring")
BESIDE = ("deployment",)
BUNDLE, CARD = "models/bundle", "model_card.html"
OWN = "own"
ABOUT_OWN = """The pages of your own notebooks, one each. `ninefold notebook "Title"` adds a notebook.\n"""


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
        """Its number, as in ``07``, or ``05b`` of an own notebook."""
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
        found = re.match(rf"# +(?:{self.number} · )?(.+)", self.notebook.cells[0].source) if self.notebook else None
        return _unmarked(found[1]) if found else self.slug.partition("_")[2].replace("_", " ").capitalize()

    @property
    def page(self) -> str | None:
        """Its page, relative to ``reports``, or None."""
        return _file(self.slug) if self.notebook else None

    @property
    def up(self) -> str:
        """The way from its page to ``reports``: empty, or ``../``."""
        return "../" if self.own else ""

    @property
    def source(self) -> str:
        """The notebook that the page shows, relative to ``reports``."""
        folder = "failed" if self.state == FAILED and not self.earlier else "notebooks"
        return f"{folder}/{label(self.slug)}.ipynb"

    @property
    def verdict(self) -> str:
        """Its bottom line; empty if it has none."""
        return str(self.record.get("verdict", ""))

    @property
    def headline(self) -> dict[str, str]:
        """Its figures for the index, label to text."""
        return self.record.get("headline", {})

    @property
    def gate(self) -> str:
        """The state of its gate in words, such as ``passed, 5 of 5 checks``: those that passed, or that failed."""
        checks = self.record.get("gate", {}).get("checks", [])
        if self.state not in (PASSED, FAILED) or not checks:
            return self.state
        count = sum(check["passed"] == (self.state == PASSED) for check in checks)
        return f"{self.state}, {count} of {len(checks)} checks"


def render() -> Path:
    """Render a page per executed notebook, and the index; return the index's path.

    A stage whose last run failed shows that run, under a banner that names the failed checks or the error. Pages of
    the stages after it stay, marked as from an earlier run. Pages whose notebook is gone are removed.
    """
    stages, project = read_stages(), read_project()
    environment = _environment(stages, project)
    index = io.path("reports/index.html")
    _clear_own([stage.slug for stage in stages])
    for position, stage in enumerate(stages):
        place = place_of(stage.slug)
        if stage.page is None:
            place.unlink(missing_ok=True)
            continue
        body = _body(stage)
        around = {"before": _nearest(stages[:position][::-1]), "after": _nearest(stages[position + 1 :])}
        page = environment.get_template("page.html.j2")
        told = {"stage": stage, "body": Markup(body), "sections": _sections(body), "up": stage.up}
        io.write_text(page.render(**told, **around), place)
    _render_card(environment)
    overview = environment.get_template("index.html.j2")
    io.write_text(overview.render(stage=None, rows=stages, up="", state=overall(stages), **_leading(stages)), index)
    return index


def place_of(slug: str) -> Path:
    """Return where the page of a stage, or of an own notebook, is rendered to."""
    return io.path(f"reports/{_file(slug)}")


def summarize() -> None:
    """Print the gate and the headline figures of every stage, and where the report is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {PASSED: "green", FAILED: "bold red"}
    stages = read_stages()
    table = Table(title=read_project()["title"], title_justify="left", caption=overall(stages), caption_justify="left")
    for column in ("stage", "gate", "in short"):
        table.add_column(column, no_wrap=column == "stage")
    for stage in stages:
        figures = "; ".join(f"{name} {value}" for name, value in stage.headline.items())
        short = "; ".join(stage.failure) or figures + (" (from an earlier run)" if figures and stage.earlier else "")
        called = stage.name if stage.own else stage.slug
        table.add_row(Text(f"{stage.number} {called}"), Text(stage.gate, colours.get(stage.state, "dim")), Text(short))
    console = Console()
    console.print(table)
    index = io.path("reports/index.html")
    found = os.path.relpath(index) if index.exists() else "not rendered yet; run `ninefold site`"
    console.print(f"Report: {found}", markup=False, highlight=False, soft_wrap=True)


def read_project() -> dict[str, str]:
    """Return the project's ``title`` and ``question``, as stage 01 wrote them; plain words until it has run."""
    place = io.path("data/problem.json")
    stated = io.read_json("data/problem.json") if place.exists() else {}
    return {"title": stated.get("title", "Ninefold"), "question": stated.get("question", "")}


def read_stages() -> list[Stage]:
    """Return the nine stages as their files show them: passed, failed, not run, or not reached since one failed.

    Notebooks of the user's own follow the stage under which they stand.
    """
    stages: list[Stage] = []
    after = STAGES.index(FLOOR) + 1
    for slug in (*STAGES[:after], *notebooks.own(), *STAGES[after:]):
        reached = all(stage.state != FAILED for stage in stages)
        stages.append(_failed(slug) or _last_good(slug, reached))
    return stages


def overall(stages: list[Stage]) -> str:
    """Return the state of the project in one sentence."""
    passed = sum(stage.state == PASSED for stage in stages)
    if failed := [f"{stage.number} {stage.name}" for stage in stages if stage.state == FAILED]:
        return f"Stopped at {', '.join(failed)}: {passed} of {len(stages)} gates passed"
    if passed == len(stages):
        return f"All {len(stages)} gates passed"
    return f"{passed} of {len(stages)} gates passed, the others not run"


def _last_good(slug: str, reached: bool) -> Stage:
    name = label(slug)
    place = io.path(f"reports/notebooks/{name}.ipynb")
    metrics = f"reports/metrics/{name}.json"
    if not place.exists():
        return Stage(slug, NOT_RUN if reached else NOT_REACHED, _question(slug, None))
    run = notebooks.read(place)
    record = io.read_json(metrics) if io.path(metrics).exists() else {}
    passed = record.get("gate", {}).get("passed", False)
    state = (PASSED if passed else NOT_RUN) if reached else NOT_REACHED
    return Stage(slug, state, _question(slug, run), run, record, earlier=not reached)


def _failed(slug: str) -> Stage | None:
    """Return the stage if its last run failed: a headless run leaves a notebook, a run in Jupyter the gate's numbers."""
    place, gate = (io.path(f"reports/failed/{label(slug)}.{kind}") for kind in ("ipynb", "json"))
    record = io.read_json(f"reports/failed/{gate.name}") if gate.exists() else {}
    if not place.exists():
        if not record:
            return None
        good = _last_good(slug, reached=False)
        return Stage(slug, FAILED, good.question, good.notebook, record, _failed_checks(record), earlier=True)
    run = notebooks.read(place)
    section, error = _raised(run)
    if not error or error.ename != "GateFailed":  # then numbers of a gate, if any, are of an older run
        record = {}
    failure = _failed_checks(record) or [_plain(f"{error.ename}: {error.evalue}") if error else "the run stopped"]
    return Stage(slug, FAILED, _question(slug, run), run, record, failure, section)


def _failed_checks(record: dict[str, Any]) -> list[str]:
    checks = record.get("gate", {}).get("checks", [])
    return [
        f"{check['name']}: found {check['value']}, expected {check['limit']}" for check in checks if not check["passed"]
    ]


def _raised(run: Any) -> tuple[str, Any]:
    """Return the heading above the cell that raised, and its error; None if no cell did."""
    heading = ""
    for cell in run.cells:
        if cell.cell_type == "markdown":
            heading = [heading, *re.findall(r"^## +(.+)$", cell.source, re.M)][-1]
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return heading, output
    return "", None


def _question(slug: str, run: Any) -> str:
    """Return the italic line under the notebook's title; without a notebook, the module's first line."""
    if run and (found := re.search(r"^\*([^*\n]+)\*$", run.cells[0].source, re.M)):
        return _unmarked(found[1])
    module = Path(__file__).with_name(f"{slug}.py")
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) if module.exists() else None
    return (text or "").split("\n")[0]


def _nearest(stages: list[Stage]) -> Stage | None:
    return next((stage for stage in stages if stage.page), None)


def _leading(stages: list[Stage]) -> dict[str, Any]:
    """Return whose verdicts and figures lead the index, and under which heading.

    What a failed gate concluded is the bottom line, and nothing of an earlier run beside it; else the agreed stages
    speak, or until they have run, the last that has.
    """
    failures = [stage for stage in stages if stage.state == FAILED]
    stopped = [stage for stage in failures if stage.verdict]
    told = [stage for stage in stages if stage.page and stage.verdict and stage.state == PASSED and not stage.own]
    last_words = [stage for stage in told if stage.slug in BOTTOM_LINE]
    beside = [] if stopped else [stage for stage in told if stage.slug in BESIDE and stage.headline]
    heading = "Bottom line" if stopped or (last_words and not failures) else "So far"
    return {"heading": heading, "verdicts": stopped or last_words or told[-1:], "beside": beside, "failures": failures}


def _environment(stages: list[Stage], project: dict[str, str]) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    nine = [stage for stage in stages if not stage.own]
    card = CARD if all(io.path(f"{BUNDLE}/{name}").exists() for name in ("MODEL_CARD.md", "checksums.json")) else ""
    environment.globals |= {"stages": nine, "project": project, "floor": FLOOR, "card": card}
    return environment


def _render_card(environment: Environment) -> None:
    """Render the model card of the bundle, with the commit that recorded the model; without a bundle there is no page."""
    place = io.path(f"reports/{CARD}")
    if not environment.globals["card"]:
        place.unlink(missing_ok=True)
        return
    source = f"{BUNDLE}/MODEL_CARD.md"
    text = re.sub(r"\A# .+\n+", "", io.path(source).read_text(encoding="utf-8"))
    v4 = notebooks.nbformat.v4
    body = _headed(_exporter()(v4.new_notebook(cells=[v4.new_markdown_cell(text)])))
    body = body.replace("<table>", '<div class="nf-table"><table>').replace("</table>", "</table></div>")
    told = {
        "body": Markup(body),
        "sections": _sections(body),
        "source": source,
        "version": lineage.of_folder(f"{BUNDLE}/checksums.json"),
        "commit": lineage.commit(lineage.dvc_md5(BUNDLE), _candidate()),
        "now": lineage.lineage(),
    }
    page = environment.get_template("card.html.j2")
    io.write_text(page.render(stage=None, within="deployment", up="", **told), place)


def _candidate() -> str:
    """Return the hash by which ``dvc.lock`` knows the candidate in the bundle; empty if the bundle does not say."""
    try:
        return (io.published(f"{BUNDLE}/bundle.json") or {}).get("lineage", {}).get("dvc", "")
    except DataError:  # the page tells what the card says; what is damaged is told by who loads it
        return ""


def _body(stage: Stage) -> str:
    """Return the notebook's cells as HTML, its headings with ids, its links to notebooks as links to pages."""
    body = _plain(_exporter()(_prepare(stage.notebook, failed=stage.state == FAILED)))
    body = re.sub(r"<(/?)h1>", r"<\1h2>", body)  # the page has its title already
    body = re.sub(r"<img (?![^>]*\balt=)", '<img alt="A picture without a description." ', body)
    body = _headed(body)
    body = re.sub(r'href="(?:\./)?(0\d[a-z]*_[^"/#]+)\.ipynb', lambda found: f'href="{_link(found[1], stage)}', body)
    body = re.sub(r"<caption>(.*?)</caption>", r"<caption><span>\1</span></caption>", body)
    body = re.sub(r"<td>pass</td></tr>", '<td class="pass">pass</td></tr>', body)
    return re.sub(r"<td>FAIL</td></tr>", '<td class="fail">FAIL</td></tr>', body)


def _headed(body: str) -> str:
    """Return HTML whose headings have ids, each its own."""
    seen: dict[str, int] = {}

    def name(found: re.Match[str]) -> str:
        slug = re.sub(r"\W+", "-", re.sub(r"<[^>]+>|&\w+;", "", found[1]).lower()).strip("-") or "section"
        seen[slug] = seen.get(slug, 0) + 1
        return f'<h2 id="{slug}{"" if seen[slug] == 1 else f"-{seen[slug]}"}">{found[1]}</h2>'

    return re.sub(r"<h2>(.*?)</h2>", name, body)


def _file(slug: str) -> str:
    return f"{OWN}/{slug}.html" if is_own(slug) else f"{label(slug)}.html"


def _link(name: str, stage: Stage) -> str:
    """Return where the page of a notebook is, seen from a stage's page."""
    return f"{stage.up}{OWN}/{name}.html" if is_own(unquote(name)) else f"{stage.up}{name}.html"


def _clear_own(names: list[str]) -> None:
    """Remove the pages of own notebooks that are no more. The folder is never empty: DVC would warn at each run."""
    folder = io.path(f"reports/{OWN}")
    for page in folder.glob("*.html"):
        if page.stem not in names:
            page.unlink()
    io.write_text(ABOUT_OWN, folder / "README.txt")


def _unmarked(text: str) -> str:
    """Return text of a notebook without the backslashes that keep Markdown from reading marks into it."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text.strip())


def _sections(body: str) -> list[tuple[str, str]]:
    return [
        (name, Markup(re.sub(r"<[^>]+>", "", text))) for name, text in re.findall(r'<h2 id="(.*?)">(.*?)</h2>', body)
    ]


def _prepare(run: Any, failed: bool) -> Any:
    """Return the notebook as its page shows it: no title (the page has its own), no parameter cells, labelled code."""
    shown = notebooks.nbformat.from_dict(run)
    cells: list[Any] = []
    for cell in shown.cells:
        tags = cell.metadata.pop("tags", [])
        if cell.cell_type == "markdown":
            if not cells:
                cell.source = re.sub(r"\A# .+\n+(\*[^*\n]+\*\n*)?", "", cell.source)
            if not cell.get("attachments"):
                cell.source = re.sub(r"!\[(.*?)\]\(attachment:.*?\)", r"*[picture not kept: \1]*", cell.source)
        elif {"parameters", "injected-parameters"} & set(tags):
            continue
        elif cell.cell_type == "code":
            lines = [line for line in cell.source.splitlines() if line.strip()]
            imports = all(line.startswith(("import ", "from ", ")", " ")) for line in lines)
            cell.metadata["label"] = "Imports" if imports else "Code"
            cell.metadata["fold"] = "show.params(" in cell.source
            cell.metadata["unrun"] = failed and cell.execution_count is None
        cells.append(cell)
    shown.cells = cells
    return shown


@cache
def _exporter() -> Callable[[Any], str]:
    from nbconvert.exporters import HTMLExporter, TemplateExporter
    from nbconvert.filters import Highlight2HTML

    exporter = HTMLExporter(
        template_name="notebook",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_anchor_links=True,
        default_preprocessors=[],
    )
    exporter.register_filter("highlight_code", Highlight2HTML(pygments_lexer="ipython3"))
    # HTMLExporter itself would parse the whole page once more, pictures and all, to look for images without an alt text
    return lambda run: TemplateExporter.from_notebook_node(exporter, run)[0].strip()


def _plain(text: str) -> str:
    """Return text without what differs from one machine to the next: the project's folder, addresses in memory."""
    folder = str(root())
    for prefix in (folder, folder.replace(str(Path.home()), "~", 1)):
        text = text.replace(f"{prefix}/", "")
    return re.sub(r"\b0x[0-9a-f]{8,16}\b", "0x…", text)
