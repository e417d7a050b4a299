"""Show things in a notebook, one way each: params, tables, figures, computed sentences, what comes in and goes out."""

import hashlib
import html
import math
import numbers
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import yaml
from IPython import get_ipython
from IPython.display import Markdown, display
from markupsafe import Markup
from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype, is_float_dtype, is_integer_dtype, is_numeric_dtype
from pydantic import BaseModel

from ninefold import artifacts, jinja, labels, whatif
from ninefold.errors import DataError
from ninefold.params import flatten
from ninefold.stages import STAGES, is_own, label

Format = str | Callable[[Any], str]

SHARE = "{:.1%}"
COUNT = "{:,.0f}"
NAMES = ("column", "feature")  # of our columns that hold names of columns
# Columns that are in per cent, and those that have separators between thousands.
SHARES = ("share", "missing", "empty", "negative", "zero")
COUNTS = ("count", "distinct", "expected", "freq", "lake", "quarantine", "raw", "rows", "size", "unique")
MOST_LINES, FIRST = 60, 10  # rows of a DataFrame, and of a table of Ibis, that a cell shows itself
CELLS = jinja.environment()
CELLS.filters["e"] = lambda value: value.__html__() if hasattr(value, "__html__") else html.escape(value)


def params(values: BaseModel) -> None:
    """Show typed params as a table of path and value; in a what-if below its banner."""
    banner()
    table(_params(values), "Params of this stage, from params.yaml")


def banner() -> None:
    """Show which overrides a what-if tries, and where its results go; nothing where none runs."""
    if whatif.overrides:
        text = f"What-if: overrides {whatif.overrides}; results go to {whatif.FOLDER}"
        _display("whatif", text, sentence=text)


def table(frame: pd.DataFrame, caption: str, formats: Mapping[str, Format] | None = None, limit: int = 30) -> None:
    """Show a table as HTML: numbers right-aligned, to three digits, at most `limit` rows, which the caption says.

    Its index is shown if it has a name, or labels that are no numbers. `formats` has per column a format string such as
    `SHARE`, or a function of the value. Names of columns, in those called ``column`` or ``feature``, are shown as labels.
    """
    _display("table", frame.head(limit).to_string(index=False), **_table(frame, caption, formats, limit))


def _table(frame: pd.DataFrame, caption: str, formats: Mapping[str, Format] | None, limit: int) -> dict[str, Any]:
    """Return the values of the block of a table."""
    headers = [*map(labels.of if _hold_columns(frame.columns.name) else str, frame)]
    if frame.index.names != [None] or not is_integer_dtype(frame.index):
        index = frame.index.to_frame().rename(columns={0: ""})
        headers = [*map(labels.of, index), *headers]
        frame = pd.concat([index, frame], axis=1)
    if len(frame) > limit:
        caption = f"{caption} (first {limit:,} of {len(frame):,} rows)".strip()
    columns = [frame.iloc[:, position] for position in range(frame.shape[1])]  # by position: two may have one name
    named = [name for name in frame if name in NAMES]  # lines of different units
    shown = {**dict.fromkeys(named, _named), **(formats or {})}
    forms = [shown.get(each.name) or (_number if named else _even(each)) for each in columns]
    kinds = [' class="number"' * _is_numeric(each) for each in columns]
    rows = [list(map(_cell, row, forms)) for row in frame.head(limit).itertuples(index=False, name=None)]
    return {"caption": caption, "names": headers, "kinds": kinds, "rows": rows}


def _hold_columns(axis: Any) -> bool:
    """Return whether the labels of an axis of this name may be names of columns: an axis without a name, or of one of `NAMES`."""
    return axis is None or str(axis).rpartition(" ")[2] in (*NAMES, "figure", "metric")


def _is_numeric(column: pd.Series) -> bool:
    """Return whether a column is shown at the right: numbers, also as objects, or dates."""
    if column.dtype != object:
        return not is_bool_dtype(column) and (is_numeric_dtype(column) or is_datetime64_any_dtype(column))
    return bool(column.notna().any()) and all(isinstance(each, numbers.Real) for each in column.dropna())


def own_table(frame: pd.DataFrame | pd.Series) -> str:
    """Return the HTML of a DataFrame or a Series that a cell shows itself: its last expression, or what `display` gets.

    Columns, and an index of columns, have their labels, and so have the classes of the target. Numbers have separators in
    columns of counts (``rows``, ``size``), or from 10,000 on in a table with a named index, as those of rows may be years or
    ids; columns such as ``share`` or ``missing`` are in per cent.
    """
    if isinstance(frame, pd.Series):
        frame = frame.to_frame("value" if frame.name is None else frame.name)
    frame = _with_classes(frame)
    least = 10_000 if any(frame.index.names) else math.inf
    forms: dict[Any, Any] = {name: partial(_plain, form=_even(column), least=least) for name, column in frame.items()}
    forms |= {name: _named if name is None or _hold_columns(name) else _plain for name in frame.index.names}
    forms[""] = forms.pop(None, _named)
    forms |= dict.fromkeys(COUNTS, lambda value: value if isinstance(value, str) else f"{value:,.0f}")
    forms |= {name: SHARE for name, kind in frame.dtypes.items() if name in SHARES and is_float_dtype(kind)}
    return _html("table", **_table(frame, "", forms, MOST_LINES))


def _with_classes(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the labels of classes for the target: in rows of data, turned or not, and in an index of its values."""
    target, classes = labels.classes()
    for axis in (axis for axis in (0, 1) if target in frame.axes[axis].names):
        frame = frame.rename(classes, axis=axis, level=target)
    is_turned = is_integer_dtype(frame.columns) and bool((frame.dtypes == "object").all())
    rows = frame.T if is_turned else frame
    if rows.index.names != [None] or list(rows).count(target) != 1 or not rows[target].dropna().isin(classes).all():
        return frame
    rows = rows.copy()
    rows[target] = rows[target].map(classes).astype(object)
    return rows.T if is_turned else rows


def own_style(style: Any) -> str:
    """Return the HTML of a Styler, with the caption, colours and formats that it has; equal ones have equal bytes."""
    markup = style.set_uuid(hashlib.sha256(style.set_uuid("").to_html().encode()).hexdigest()[:8]).to_html()
    caption = "" if "<caption>" in markup else "<caption></caption>"
    return f'<div class="nf-table mathjax_ignore">{markup.replace("<thead>", f"{caption}<thead>", 1)}</div>'


def figure(drawing: Any, caption: str, meaning: str) -> None:
    """Show a matplotlib figure (or a seaborn grid) with its caption, and the computed sentence that says what it means.

    The sentence is also the picture's alternative text. Equal figures have equal bytes.
    """
    from ninefold.pictures import picture  # matplotlib takes 0.3 s

    shown = picture(getattr(drawing, "figure", drawing))
    _display("figure", f"[figure] {caption}", **shown, alternative=_spoken(meaning), caption=caption)
    say(meaning)


def own_figures() -> None:
    """Show the figures that a cell has drawn itself, as `figure` does; their titles are the alternative text."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    for drawing in map(pyplot.figure, pyplot.get_fignums()) if pyplot and "inline" in pyplot.get_backend() else ():
        from ninefold.pictures import picture

        titles = [drawing.get_suptitle(), *(axes.get_title("left") or axes.get_title() for axes in drawing.axes)]
        title = ". ".join(dict.fromkeys(filter(None, titles))) or "A figure without a title"
        _display("figure", f"[figure] {title}", **picture(drawing), alternative=title, caption="")


def say(sentence: str) -> None:
    """Show a computed sentence, as Markdown."""
    display(Markdown(sentence))


def code(name: Any) -> str:
    """Return a name of the data for a computed sentence, as code: no character of it is taken for Markdown."""
    text = re.sub(r"\s", " ", str(name)) or '""'
    if not re.search(r"[`$|\\]|^ | $", text):
        return f"`{text}`"
    return f"<code>{re.sub('[^0-9A-Za-z ]', lambda character: f'&#{ord(character[0])};', text)}</code>"


def conclusion(sentence: str) -> None:
    """Show the conclusion of a stage, set apart."""
    _display("conclusion", sentence, sentence=sentence)


def checks(rows: Sequence[Mapping[str, Any]], title: str = "Checks of this stage") -> None:
    """Show checks of a gate: name, value, limit, and whether each passed."""
    shown = [(row.get("code", ""), row["name"], labels.measured(row), row["limit"], _result(row)) for row in rows]
    table(pd.DataFrame(shown, columns=["code", "check", "found", "expected", "result"], dtype=object), title)


def _params(values: BaseModel) -> pd.DataFrame:
    rows = [(key, _brief(value)) for key, value in flatten(values.model_dump(mode="json"))]
    return pd.DataFrame(rows, columns=["parameter", "value"])


def _result(row: Mapping[str, Any]) -> str:
    return "pass" if row["passed"] else f"silenced: {row['silenced']}" if row.get("silenced") else "FAIL"


def inputs(section: str, values: BaseModel | None = None) -> None:
    """Show what comes in: the params, folded, and every data dependency in ``dvc.yaml``, the stage that writes it, its size."""
    if values is not None:
        banner()
        folded = _html("table", **_table(_params(values), "from params.yaml", None, 1000))
        _display("params", f"Params of stage {section}", table=folded)
    pipeline = _pipeline(section)
    makers = {out: slug for slug, stage in pipeline.items() for out in _paths(stage.get("outs", []))}
    code = ("${ninefold.", "src/", "reports/sources")
    names = [name for name in _paths(pipeline[section].get("deps", [])) if not name.startswith(code)]
    origins = {name: makers.get(name, "the project") for name in names}
    origins |= {name: label(origin) for name, origin in origins.items() if origin in STAGES}
    _files("Inputs", "from stage", origins, f"stage **{label(section)}** reads only its params")


def outputs(section: str) -> None:
    """Show what goes out when the gate passes: every output that ``dvc.yaml`` declares; `DataError` if one was not written."""
    declared = _paths(_pipeline(section)[section].get("outs", []))
    names = [name for name in declared if not name.startswith("reports/notebooks")]
    if lost := [name for name in names if not artifacts.pending(name).exists()]:
        raise DataError(f"{section}: did not write {', '.join(lost)}, which dvc.yaml declares as outs")
    _files("Outputs", "by stage", dict.fromkeys(names, label(section)), f"**{label(section)}** writes only its report")


def _pipeline(section: str) -> dict[str, dict[str, Any]]:
    """Return what ``dvc.yaml`` declares for each stage, and for `section` if it is a notebook of your own."""
    text = artifacts.path("dvc.yaml").read_text(encoding="utf-8").replace("${item}", section)
    stages: dict[str, dict[str, Any]] = yaml.safe_load(text)["stages"]
    return {**stages, section: stages["own"]["do"]} if is_own(section) else stages


def _paths(entries: Sequence[Any]) -> list[str]:
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def _files(caption: str, origin: str, origins: Mapping[str, str], otherwise: str) -> None:
    if not origins:
        return say(f"No {caption.lower()}: {otherwise}.")
    contents, counts, columns = zip(*map(_content, origins), strict=True)
    facts = {"path": list(origins), origin: list(origins.values()), "content": contents}
    table(pd.DataFrame({**facts, "rows": pd.array(counts, "Int64")}), caption, {"rows": COUNT})
    for name, fields in zip(origins, columns, strict=True):
        if fields:
            _display("schema", f"{name}: {', '.join(fields)}", name=name, fields=fields)


def _content(name: str) -> tuple[str, int | None, list[str]]:
    """Return what a file or folder of the project holds: its kind, rows, and columns with their types."""
    place = artifacts.existing(name)
    files = sorted(place.rglob("*.parquet")) if place.is_dir() else [place] if name.endswith(".parquet") else []
    if not files:
        return "folder" if place.is_dir() else Path(name).suffix.removeprefix(".").upper() + " file", None, []
    metadata = [artifacts.parquet_metadata(file) for file in files]
    content, rows = f"{len(files)} Parquet file{'s' if len(files) > 1 else ''}", sum(part.num_rows for part in metadata)
    tables = sorted({file.relative_to(place).parts[0] for file in files if len(file.relative_to(place).parts) > 1})
    if tables and "=" not in tables[0]:
        return f"{content}; tables {', '.join(tables)}", rows, []
    schemas = [part.schema.to_arrow_schema() for part in metadata]
    same = all(schema.names == schemas[0].names for schema in schemas)
    return content, rows, [f"{field.name} ({field.type})" for field in schemas[0]] if same else []


def _display(block: str, text: str, **values: Any) -> None:
    """Show a block of ``templates/cells.html.j2``, filled with values; `text` where there is no HTML."""
    display({"text/html": _html(block, **values), "text/plain": text}, raw=True)


def _html(block: str, **values: Any) -> str:
    template = CELLS.get_template("cells.html.j2")
    return "".join(template.blocks[block](template.new_context(values)))


def _spoken(sentence: str) -> str:
    """Return a computed sentence without the marks of Markdown, as a screen reader reads it."""
    return html.unescape(re.sub(r"`([^`]*)`|<code>(.*?)</code>|\*", lambda mark: mark[1] or mark[2] or "", sentence))


def _cell(value: Any, form: Format) -> Any:
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value):
        return None
    if hasattr(value, "__html__"):
        return value
    return form(value) if callable(form) else form.format(value)


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | numbers.Real):
        return str(value)
    return f"{value:,}" if isinstance(value, numbers.Integral) else labels.number(float(value))


def _plain(value: Any, form: Format = _number, least: float = math.inf) -> str:
    """Return a time to the minute, a number with separators from `least` on, or a text."""
    if isinstance(value, pd.Timestamp):
        return re.sub(r"( 00:00)?:00$", "", f"{value:%Y-%m-%d %H:%M:%S}")
    if not isinstance(value, int | float | numbers.Real):
        return str(value)
    text = str(_cell(value, form))
    return text if float(abs(value)) >= least else text.replace(",", "")


def _named(name: Any) -> Any:
    """Return the label of a column for a cell, its name at hand where the pointer is."""
    text = labels.of(name)
    return text if text == str(name) else Markup('<span title="{}">{}</span>').format(name, text)


def _even(column: pd.Series) -> Format:
    """Return a format that gives all numbers of a float column the decimals at which the largest has three digits."""
    size, smallest = (column.abs().max(), column.abs().where(column != 0).min()) if is_float_dtype(column) else (0, 0)
    decimals = labels.decimals(size)
    return _number if not size or smallest < 10**-decimals else f"{{:,.{decimals}f}}"


def _brief(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_brief(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_brief(item)}" for key, item in value.items())
    return "–" if value is None else str(value) or '""'


def _quiet(lines: list[str]) -> list[str]:
    """Return the lines of a cell that shows no value if it ends in a semicolon, also where no history is kept (nbval).

    ``plt.show()`` is left out: it would show figures without labels and alternative texts, before `own_figures` does.
    """
    lines = [re.sub(r"\bplt\.show\(\)", "None", line) for line in lines]
    return [*lines, "\nNone"] if lines and lines[-1].rstrip().endswith((";", "None")) else lines


# In notebooks this module has the name of IPython's function, so it can be called like it: `display(df)`.
sys.modules[__name__].__class__ = type("Callable", (ModuleType,), {"__call__": staticmethod(display)})

if shell := get_ipython():  # what cells show without a function of this module has its look, too
    for kind in (pd.DataFrame, pd.Series):
        shell.display_formatter.formatters["text/html"].for_type(kind, own_table)
    html_of = shell.display_formatter.formatters["text/html"].for_type_by_name
    html_of("pandas.io.formats.style", "Styler", own_style)
    html_of("ibis.expr.types.relations", "Table", lambda table: own_table(table.limit(FIRST).to_pandas()))
    pd.set_option("styler.format.precision", 3)
    shell.events.register("post_execute", own_figures)
    shell.input_transformers_post.append(_quiet)
