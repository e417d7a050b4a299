"""Render the executed notebooks as one site to read offline, and sum up a run in the terminal.

Pages are in ``reports``, those of your own notebooks in ``reports/own``. Same input, same bytes; but the page of the model
card names the commit that recorded the model, that of experiments those of this clone: they are no outputs of the pipeline.
"""

import ast
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml
from jinja2 import Environment
from markupsafe import Markup
from nbformat.v4 import new_code_cell, new_markdown_cell

from ninefold import artifacts, jinja, labels, lineage
from ninefold.errors import DataError
from ninefold.params import FILE, flatten, plain
from ninefold.problem import title
from ninefold.reports import guides, progress, runner  # before nbconvert: it keeps a slow import away
from ninefold.reports.progress import FAILED, OWN, PASSED, Stage, overall, page_of, portable, read_project, read_stages
from ninefold.stages import FLOOR, STAGES, is_own, label

ENGINE = Path(__file__).parents[1]
BUNDLE, CARD, EXPERIMENTS = "models/bundle", "model_card.html", "experiments.html"
SCORES = f"reports/metrics/{label('training')}.json"
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
    pages: list[dict[str, Any]] = []
    for before, stage, after in zip([None, *shown], shown, [*shown[1:], None], strict=False):
        content = _headed(_body(stage)) | {"page": page_of(stage.slug), "title": f"{stage.number} {stage.name}"}
        page = template.render(stage=stage, up="../" * stage.own, before=before, after=after, **content)
        artifacts.write_text(page, place_of(stage.slug))
        pages.append(content)
    _render_experiments(environment)
    pages += _render_card(environment)
    index, place = artifacts.path("reports/index.html"), artifacts.path("dvc.yaml")
    pipeline = yaml.safe_load(place.read_text(encoding="utf-8"))["stages"] if place.exists() else {}
    facts: dict[str, Any] = {"rows": stages, "state": overall(stages), "stage": None, "up": "", "pages": pages}
    facts |= {"change": progress.changes(stages), "pipeline": pipeline, "published": _published}
    artifacts.write_text(environment.get_template("index.html.j2").render(**facts), index)
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
    environment.filters["zip"] = zip
    facts = {"stages": nine, "project": read_project(), "floor": FLOOR, "card": card, "measured": labels.measured}
    environment.globals |= facts
    return environment


def _render_experiments(environment: Environment) -> None:
    """Render the experiments from this commit, if any, as git has them: ``dvc exp show`` takes seconds for each."""
    place = artifacts.path(f"reports/{EXPERIMENTS}")
    place.unlink(missing_ok=True)
    head = (lineage.git("rev-parse", "--verify", "HEAD") or "").strip()
    begun = f"refs/exps/{head[:2]}/{head[2:]}/"  # from this commit
    revisions = (lineage.git("for-each-ref", "--sort=creatordate", "--format=%(refname)", begun) or "").split()
    if not head or not revisions:
        return
    runs = {"this commit": _run(head)} | {name.removeprefix(begun): _run(name) for name in revisions}
    names = dict.fromkeys(name for run in runs.values() for name in run)
    differing = [name for name in names if len({str(run.get(name)) for run in runs.values()}) > 1]
    facts = {"names": differing, "rows": [[name, *map(run.get, differing)] for name, run in runs.items()]}
    artifacts.write_text(environment.get_template("experiments.html.j2").render(**facts, stage=None, up=""), place)


def _run(revision: str) -> dict[str, Any]:
    """Return the params of a revision, by their path, and its scores on the holdout, by their title."""
    text, scored = (lineage.file_of(revision, name) or "{}" for name in (FILE, SCORES))
    params, record = yaml.load(text, yaml.CSafeLoader), json.loads(scored)  # ruamel takes ten times as long
    scores = record.get("metrics", {}).get("holdout", {})
    return {**dict(flatten(plain(params))), **{title(name): score["value"] for name, score in scores.items()}}


def _render_card(environment: Environment) -> list[dict[str, Any]]:
    """Render the model card of the bundle, with the commit that recorded the model; return what it shows, if there is one."""
    place = artifacts.path(f"reports/{CARD}")
    if not environment.globals["card"]:
        place.unlink(missing_ok=True)
        return []
    source = f"{BUNDLE}/MODEL_CARD.md"
    text = re.sub(r"\A# .+\n+", "", artifacts.path(source).read_text(encoding="utf-8"))
    v4 = runner.nbformat.v4
    body = _exporter()(v4.new_notebook(cells=[v4.new_markdown_cell(text)]))
    candidate = _published(f"{BUNDLE}/bundle.json").get("lineage", {}).get("dvc", "")  # its hash in dvc.lock
    commit = lineage.commit(lineage.dvc_md5(BUNDLE), candidate)
    facts = {"version": lineage.of_folder(f"{BUNDLE}/checksums.json"), "commit": commit, "now": lineage.lineage()}
    facts["experiments"] = EXPERIMENTS * artifacts.path(f"reports/{EXPERIMENTS}").exists()
    facts |= _headed(body) | {"page": CARD, "title": "Model card", "within": "deployment", "source": source}
    artifacts.write_text(environment.get_template("card.html.j2").render(stage=None, up="", **facts), place)
    return [facts]


def _published(name: str) -> Any:
    """Return what a JSON file holds; an empty mapping if it is missing or damaged, which the stage that reads it reports."""
    with suppress(DataError):
        return artifacts.published(name) or {}
    return {}


def _body(stage: Stage) -> str:
    """Return the notebook's cells as HTML, its headings with ids, its links to notebooks as links to pages."""
    body = portable(_exporter()(_prepare(stage)))
    anchors = set(re.findall(r'id="source-(\w+)"', body))
    linked = {True: r'<a href="#source-\1">\g<0></a>', False: r"\g<0>"}
    body = re.sub(r'<span class="n">(\w+)</span>', lambda name: name.expand(linked[name[1] in anchors]), body)
    body = re.sub(r"<td>(NF\d{3})</td>", r'<td><a href="#\1">\1</a></td>', body)
    body = re.sub(r"<(/?)h1>", r"<\1h2>", body)  # the page has its title already
    body = re.sub(r"<img (?![^>]*\balt=)", '<img alt="A picture without a description." ', body)
    up = "../" * stage.own
    link = re.compile(r'href="(?:\./)?(0\d[a-z]*_[^"/#]+)\.ipynb')
    body = link.sub(lambda name: f'href="{up}{f"{OWN}/" * is_own(unquote(name[1]))}{name[1]}.html', body)
    body = body.replace('class="dataframe">', 'class="dataframe"><caption></caption>')
    body = re.sub(r"(?s)<((?:fig)?caption)>(.*?)</\1>", partial(_numbered, Counter(), stage.number.lstrip("0")), body)
    return re.sub(r"<td>(pass|FAIL)</td></tr>", lambda cell: f'<td class="{cell[1].lower()}">{cell[1]}</td></tr>', body)


def _numbered(counts: Counter[str], number: str, caption: re.Match[str]) -> str:
    """Return the caption of a figure or table with its number, such as 7.3, which links to it."""
    kind = "figure" if caption[1] == "figcaption" else "table"
    counts[kind] += 1
    place, name = f"{kind}-{counts[kind]}", f"{kind.capitalize()} {number}.{counts[kind]}"
    link = f'<a class="ref" id="{place}" href="#{place}">{name}</a>'
    return f"<{caption[1]}><span>{link} {caption[2]}</span></{caption[1]}>"


def _headed(body: str) -> dict[str, Any]:
    """Return HTML as ``body``, its headings with ids, each its own; and the ids, headings and texts of its ``sections``.

    The first section is what stands before the first heading, and has neither id nor heading.
    """
    counts: Counter[str] = Counter()

    def name(heading: re.Match[str]) -> str:
        slug = re.sub(r"\W+", "-", re.sub(r"<[^>]+>|&\w+;", "", heading[1]).lower()).strip("-") or "section"
        counts[slug] += 1
        number = f"-{counts[slug]}" if counts[slug] > 1 else ""
        return f'<h2 id="{slug}{number}">{heading[1]}</h2>'

    body = re.sub(r"<h2>(.*?)</h2>", name, body)
    texts = ["", "", *re.split(r'<h2 id="([^"]+)">(.*?)</h2>', body)]
    parts = [Markup(text).striptags() for text in texts]
    return {"body": Markup(body), "sections": list(zip(parts[::3], parts[1::3], parts[2::3], strict=True))}


def _clear(slugs: list[str]) -> None:
    """Remove the pages of other notebooks. The folder of own ones is never empty: DVC would warn at each run."""
    pages = [*artifacts.path(f"reports/{OWN}").glob("*.html"), *map(place_of, STAGES)]
    for page in set(pages) - set(map(place_of, slugs)):
        page.unlink(missing_ok=True)
    artifacts.write_text(ABOUT_OWN, artifacts.path(f"reports/{OWN}/README.txt"))


def _prepare(stage: Stage) -> Any:
    """Return the notebook as its page shows it: no title, no parameter cells, labelled code."""
    shown = runner.nbformat.from_dict(stage.notebook)
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
            imports = all(line.startswith(("import ", "from ", ")", " ", "%")) for line in lines)
            cell.metadata["label"] = "Imports" if imports else "Code"
            cell.metadata["fold"] = "display.params(" in cell.source
            cell.metadata["unrun"] = stage.state == FAILED and cell.execution_count is None
        cells.append(cell)
    shown.cells = [*cells, *_explained(stage), *_sources(shown, FLOOR if stage.own else stage.slug)]
    return shown


def _explained(stage: Stage) -> list[Any]:
    """Return a cell that says what each check of a stage's gate measures, why, and what to do."""
    texts = guides.checks()
    codes = {check.get("code"): None for check in stage.record.get("gate", {}).get("checks", [])}
    shown = [f'<a id="{code}"></a>\n\n#{texts[code]}' for code in codes if code in texts]
    return [runner.nbformat.v4.new_markdown_cell("\n".join(["## The checks explained\n", *shown]))] if shown else []


@cache
def _exporter() -> Callable[[Any], str]:
    from nbconvert.exporters import HTMLExporter, TemplateExporter
    from nbconvert.filters import Highlight2HTML

    options: dict[str, Any] = {"extra_template_basedirs": [str(jinja.TEMPLATES)], "default_preprocessors": []}
    exporter = HTMLExporter(template_name="notebook", exclude_anchor_links=True, **options)
    exporter.register_filter("highlight_code", Highlight2HTML(pygments_lexer="ipython3"))
    # HTMLExporter itself would parse the whole page once more, pictures and all, to look for images without an alt text
    return lambda run: TemplateExporter.from_notebook_node(exporter, run)[0].strip()


def _sources(run: Any, stage: str) -> list[Any]:
    """Return cells that show each function and class that the code of a notebook calls; none if it calls none."""
    called = set(re.findall(r"\b(\w+)\(", "\n".join(cell.source for cell in run.cells if cell.cell_type == "code")))
    project, room = artifacts.path("src/project"), "serving" if stage == "deployment" else stage
    files = [project / name for name in (f"figures/{stage}.py", "figures/__init__.py", f"{stage}.py")]
    shown: dict[str, Any] = {}
    for file in filter(Path.is_file, [*files, *sorted((ENGINE / room).glob("*.py"))]):
        lines = file.read_text(encoding="utf-8").splitlines()
        for node in ast.parse("\n".join(lines)).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in called - shown.keys():
                root = project.parent if file.is_relative_to(project) else ENGINE.parent
                where = file.relative_to(root).as_posix()
                metadata = {"label": f"{node.name}, {where}", "anchor": f"source-{node.name}"}
                shown[node.name] = new_code_cell("\n".join(lines[node.lineno - 1 : node.end_lineno]), metadata=metadata)
    return [new_markdown_cell("## Source code"), *shown.values()] if shown else []
