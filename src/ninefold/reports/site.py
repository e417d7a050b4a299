"""Render the executed notebooks as one site to read offline, and sum up a run in the terminal.

Pages are in ``reports``, those of your own notebooks in ``reports/own``. Same input, same bytes; but the page of the model
card names the commit that recorded the model, and so is no output of the pipeline.
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jinja2 import Environment
from markupsafe import Markup

from ninefold import artifacts, jinja, lineage
from ninefold.errors import DataError
from ninefold.reports import runner  # before nbconvert: it keeps a slow import away
from ninefold.reports.progress import FAILED, OWN, PASSED, Stage, overall, page_of, portable, read_project, read_stages
from ninefold.stages import FLOOR, STAGES, is_own

BUNDLE, CARD = "models/bundle", "model_card.html"
ABOUT_OWN = """The pages of your own notebooks, one each. `ninefold notebook "Title"` adds a notebook.\n"""


def render() -> Path:
    """Render a page per executed notebook, and the index; return the index's path.

    A stage whose last run failed shows that run, under a banner that names the failed checks or the error. Pages of
    the stages after it stay, marked as from an earlier run. Pages whose notebook is gone are removed.
    """
    stages = read_stages()
    environment = _environment(stages)
    _clear([stage.slug for stage in stages if stage.page])
    shown = [stage for stage in stages if stage.page]
    template = environment.get_template("page.html.j2")
    for before, stage, after in zip([None, *shown], shown, [*shown[1:], None], strict=False):
        page = template.render(stage=stage, up="../" * stage.own, before=before, after=after, **_headed(_body(stage)))
        artifacts.write_text(page, place_of(stage.slug))
    _render_card(environment)
    index, content = artifacts.path("reports/index.html"), {"stage": None, "rows": stages, "state": overall(stages)}
    artifacts.write_text(environment.get_template("index.html.j2").render(**content, up=""), index)
    return index


def place_of(slug: str) -> Path:
    """Return where the page of a stage, or of an own notebook, is rendered to."""
    return artifacts.path(f"reports/{page_of(slug)}")


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
        name = stage.name if stage.own else stage.slug
        table.add_row(Text(f"{stage.number} {name}"), Text(stage.gate, colours.get(stage.state, "dim")), Text(short))
    console = Console()
    console.print(table)
    index = artifacts.path("reports/index.html")
    report = os.path.relpath(index) if index.exists() else "not rendered yet; run `ninefold site`"
    console.print(f"Report: {report}", markup=False, highlight=False, soft_wrap=True)


def _environment(stages: list[Stage]) -> Environment:
    environment = jinja.environment(autoescape=True, keep_trailing_newline=True)
    nine = [stage for stage in stages if not stage.own]
    card = CARD * all(artifacts.path(f"{BUNDLE}/{name}").exists() for name in ("MODEL_CARD.md", "checksums.json"))
    environment.globals |= {"stages": nine, "project": read_project(), "floor": FLOOR, "card": card}
    return environment


def _render_card(environment: Environment) -> None:
    """Render the model card of the bundle, with the commit that recorded the model; without a bundle there is no page."""
    place = artifacts.path(f"reports/{CARD}")
    if not environment.globals["card"]:
        place.unlink(missing_ok=True)
        return
    source = f"{BUNDLE}/MODEL_CARD.md"
    text = re.sub(r"\A# .+\n+", "", artifacts.path(source).read_text(encoding="utf-8"))
    v4 = runner.nbformat.v4
    body = _exporter()(v4.new_notebook(cells=[v4.new_markdown_cell(text)]))
    body = body.replace("<table>", '<div class="nf-table"><table>').replace("</table>", "</table></div>")
    candidate = ""  # the hash by which dvc.lock knows the candidate in the bundle
    with suppress(DataError):  # a damaged bundle is reported when it is loaded
        candidate = (artifacts.published(f"{BUNDLE}/bundle.json") or {}).get("lineage", {}).get("dvc", "")
    commit = lineage.commit(lineage.dvc_md5(BUNDLE), candidate)
    facts = {"version": lineage.of_folder(f"{BUNDLE}/checksums.json"), "commit": commit, "now": lineage.lineage()}
    page = environment.get_template("card.html.j2").render(
        stage=None, within="deployment", up="", source=source, **_headed(body), **facts
    )
    artifacts.write_text(page, place)


def _body(stage: Stage) -> str:
    """Return the notebook's cells as HTML, its headings with ids, its links to notebooks as links to pages."""
    body = portable(_exporter()(_prepare(stage.notebook, failed=stage.state == FAILED)))
    body = re.sub(r"<(/?)h1>", r"<\1h2>", body)  # the page has its title already
    body = re.sub(r"<img (?![^>]*\balt=)", '<img alt="A picture without a description." ', body)
    up = "../" * stage.own
    folders = {True: f"{up}{OWN}/", False: up}
    link = re.compile(r'href="(?:\./)?(0\d[a-z]*_[^"/#]+)\.ipynb')
    body = link.sub(lambda name: f'href="{folders[is_own(unquote(name[1]))]}{name[1]}.html', body)
    body = re.sub(r"<caption>(.*?)</caption>", r"<caption><span>\1</span></caption>", body)
    return re.sub(r"<td>(pass|FAIL)</td></tr>", lambda cell: f'<td class="{cell[1].lower()}">{cell[1]}</td></tr>', body)


def _headed(body: str) -> dict[str, Any]:
    """Return HTML as ``body``, its headings with ids, each its own; and the ids and texts of these as ``sections``."""
    names: list[str] = []
    sections: list[tuple[str, Markup]] = []

    def name(heading: re.Match[str]) -> str:
        slug = re.sub(r"\W+", "-", re.sub(r"<[^>]+>|&\w+;", "", heading[1]).lower()).strip("-") or "section"
        names.append(slug)
        own = slug if names.count(slug) == 1 else f"{slug}-{names.count(slug)}"
        sections.append((own, Markup(re.sub(r"<[^>]+>", "", heading[1]))))
        return f'<h2 id="{own}">{heading[1]}</h2>'

    return {"body": Markup(re.sub(r"<h2>(.*?)</h2>", name, body)), "sections": sections}


def _clear(slugs: list[str]) -> None:
    """Remove the pages of other notebooks. The folder of own ones is never empty: DVC would warn at each run."""
    pages = [*artifacts.path(f"reports/{OWN}").glob("*.html"), *map(place_of, STAGES)]
    for page in set(pages) - set(map(place_of, slugs)):
        page.unlink(missing_ok=True)
    artifacts.write_text(ABOUT_OWN, artifacts.path(f"reports/{OWN}/README.txt"))


def _prepare(run: Any, failed: bool) -> Any:
    """Return the notebook as its page shows it: no title, no parameter cells, labelled code."""
    shown = runner.nbformat.from_dict(run)
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
            cell.metadata["fold"] = "display.params(" in cell.source
            cell.metadata["unrun"] = failed and cell.execution_count is None
        cells.append(cell)
    shown.cells = cells
    return shown


@cache
def _exporter() -> Callable[[Any], str]:
    from nbconvert.exporters import HTMLExporter, TemplateExporter
    from nbconvert.filters import Highlight2HTML

    options: dict[str, Any] = {"extra_template_basedirs": [str(jinja.TEMPLATES)], "default_preprocessors": []}
    exporter = HTMLExporter(template_name="notebook", exclude_anchor_links=True, **options)
    exporter.register_filter("highlight_code", Highlight2HTML(pygments_lexer="ipython3"))
    # HTMLExporter itself would parse the whole page once more, pictures and all, to look for images without an alt text
    return lambda run: TemplateExporter.from_notebook_node(exporter, run)[0].strip()
