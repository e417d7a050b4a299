"""The files from which the site is rendered, of a small run: what the tests of pages share."""

import json
from pathlib import Path

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ninefold.stages import label

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
WIDE = "".join(f'<th scope="col">a long name of column {i}</th>' for i in range(30))
ROWS = "".join(f"<tr>{f'<td>{value}</td>' * 30}</tr>" for value in ("10", "–", "9"))
POINTS = '[["","_interval",["x",""],[[400,500,"0","b"],[600,500,"2","b"]]],["","_",["x",""],[[500,500,"1","b"]]]]'
FIGURE = f'<figure class="nf-figure" data-points=\'{POINTS}\'><img src="data:image/png;base64,{PIXEL}" alt="A dot."><figcaption>A dot</figcaption></figure>'
TABLE = f'<div class="nf-table"><table><caption>Wide</caption><thead><tr>{WIDE}</tr></thead><tbody>{ROWS}</tbody></table></div>'
GATE = '<div class="nf-table"><table><tbody><tr><td>gain</td><td>pass</td></tr></tbody></table></div>'


def write(place: Path, content: dict) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(content), encoding="utf-8")


def record(slug: str, passed: bool = True) -> dict:
    checks = [
        {"name": "rows", "value": 9, "limit": ">= 1", "passed": True},
        {"name": "gain", "value": 0.5 if passed else -0.5, "limit": ">= 0", "passed": passed},
    ]
    headline = {f"figure of {slug}": "0.71"}
    return {"gate": {"passed": passed, "checks": checks}, "conclusion": f"Conclusion of {slug}.", "headline": headline}


def executed(slug: str, error: str | None = None, message: str = "") -> dict:
    """A notebook of the plan anatomy, as papermill leaves it; with `error`, its last cell raised."""
    root = Path.cwd()
    bare = new_output("display_data", {"image/png": PIXEL, "text/plain": "<Figure>"})
    trace = ["\x1b[31m---\x1b[0m", f"\x1b[36mFile {root}/src/x.py:1\x1b[0m", f"{error}: {message}"]
    raised = new_output("error", ename=error, evalue=message, traceback=trace) if error else None
    cells = [
        new_markdown_cell(f"# {label(slug)[:2]} · {slug.capitalize()}\n\n*What of {slug}?*\n\nAn introduction."),
        new_code_cell("import math", execution_count=1),
        new_code_cell('section = "secret"', execution_count=2, metadata={"tags": ["parameters"]}),
        new_code_cell('section = "hidden"', execution_count=3, metadata={"tags": ["injected-parameters"]}),
        new_code_cell("show.params(params)", execution_count=4, outputs=[show(TABLE)]),
        new_markdown_cell("## What comes in\n\nSee [the first](01_problem.ipynb), and *this*:"),
        new_code_cell("show.inputs(section)", execution_count=5, outputs=[*map(show, (TABLE, FIGURE, GATE)), bare]),
        new_markdown_cell("## Weigh & compare\n\n![pasted](attachment:a.png) A sentence:"),
        new_code_cell("print(" + "'x' * 300, " * 40 + ")", execution_count=6, outputs=[raised] if raised else []),
        new_markdown_cell("## The gate\n\nEach of these has to hold:"),
        new_code_cell("gate.close(section)", execution_count=None if error else 7),
    ]
    return new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})


def fail(slug: str, error: str, message: str, conclusion: str = "") -> str:
    """Let a stage fail: what the runner leaves of it; return its name."""
    name, left = label(slug), record(slug, passed=False) | ({"conclusion": conclusion} if conclusion else {})
    write(Path(f"reports/failed/{name}.ipynb"), executed(slug, error, message))
    write(Path(f"reports/failed/{name}.json"), left)
    return name


def show(content: str) -> dict:
    return new_output("display_data", {"text/html": content, "text/plain": "x"})


CARD = """# Model card: Bread & butter

## Intended use

**How many?** For `a|b`.

## Where it is weaker

| feature | rows |
| --- | ---: |
| <code>&#36;x&#36; &#124; y</code> | 12 |
"""
