"""Show things in a notebook, one way each: params, tables, figures, computed sentences, what comes in and goes out."""

import html
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
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
WIDE = 12  # columns of the data, of which more are shown a line each
CELLS = jinja.environment()
CELLS.filters["e"] = lambda value: value.__html__() if hasattr(value, "__html__") else html.escape(value)


def params(values: BaseModel) -> None:
    """Show typed params as a table of path and value; in a what-if below its banner."""
    banner()
    rows = [(key, _brief(value)) for key, value in flatten(values.model_dump(mode="json"))]
    table(pd.DataFrame(rows, columns=["parameter", "value"]), "Params of this stage, from params.yaml")


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
    if frame.index.names != [None] or not is_integer_dtype(frame.index):
        frame = pd.concat([frame.index.to_frame().rename(columns={0: ""}), frame], axis=1)
    if len(frame) > limit:
        caption = f"{caption} (first {limit:,} of {len(frame):,} rows)"
    columns = [frame.iloc[:, position] for position in range(frame.shape[1])]  # by position: two may have one name
    named = [name for name in frame if name in NAMES]  # lines of different units
    shown = {**dict.fromkeys(named, _named), **(formats or {})}
    forms = [shown.get(each.name) or (_number if named else _even(each)) for each in columns]
    numeric = [is_numeric_dtype(each) or is_datetime64_any_dtype(each) for each in columns]
    kinds = [' class="number"' * (one and not is_bool_dtype(each)) for each, one in zip(columns, numeric, strict=True)]
    rows = [list(map(_cell, row, forms)) for row in frame.head(limit).itertuples(index=False, name=None)]
    text = frame.head(limit).to_string(index=False)
    _display("table", text, caption=caption, names=list(frame.columns), kinds=kinds, rows=rows)


def rows(frame: pd.DataFrame, caption: str) -> None:
    """Show rows of the data, whole numbers without commas, under the labels of the columns; more than `WIDE` are a line each."""
    shown = frame.set_axis([*map(labels.of, frame)], axis=1)
    if frame.shape[1] > WIDE:
        shown = frame.astype(object).T.rename_axis("column").reset_index()
    plain = dict.fromkeys(shown, lambda value: value if isinstance(value, str) else _number(value).replace(",", ""))
    table(shown, caption, {**plain, "column": _named}, limit=len(shown))


def figure(drawing: Any, caption: str, meaning: str) -> None:
    """Show a matplotlib figure (or a seaborn grid) with its caption, and the computed sentence that says what it means.

    The sentence is also the picture's alternative text. Equal figures have equal bytes.
    """
    from ninefold.pictures import picture  # matplotlib takes 0.3 s

    shown = picture(getattr(drawing, "figure", drawing))
    _display("figure", f"[figure] {caption}", **shown, alternative=_spoken(meaning), caption=caption)
    say(meaning)


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


def checks(rows: Sequence[Mapping[str, Any]]) -> None:
    """Show the checks of a gate: name, value, limit, and whether each passed."""
    shown = [(row.get("code", ""), row["name"], row["value"], row["limit"], _result(row)) for row in rows]
    frame = pd.DataFrame(shown, columns=["code", "check", "found", "expected", "result"], dtype=object)
    table(frame, "Checks of this stage", {"found": _number})


def _result(row: Mapping[str, Any]) -> str:
    return "pass" if row["passed"] else f"silenced: {row['silenced']}" if row.get("silenced") else "FAIL"


def inputs(section: str) -> None:
    """Show what comes in: every data dependency that ``dvc.yaml`` declares, the stage that writes it, its size."""
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
    template = CELLS.get_template("cells.html.j2")
    markup = "".join(template.blocks[block](template.new_context(values)))
    display({"text/html": markup, "text/plain": text}, raw=True)


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
