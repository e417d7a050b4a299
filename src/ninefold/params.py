"""Read ``params.yaml``: one section per stage, through typed models that refuse what they do not know."""

import difflib
import importlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import unquote

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, StringConstraints
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from ninefold import outdated, whatif
from ninefold.errors import ParamsError
from ninefold.stages import STAGES

FILE = "params.yaml"
LARGEST = 1e30  # of numbers: a pipeline may square one; beyond this it could overflow
ENCODED = "encoded"  # the key of a text with percent-encoded signs
MODULES = {name: f"ninefold.{name}" for name in (*STAGES, "engine", "labels")}  # of each section
MODULES |= {"deployment": "ninefold.serving.params", "serving": "ninefold.serving.challenger"}

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Name = Annotated[str, StringConstraints(min_length=1)]  # of a column or a table, which may hold anything
Duration = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?[mhd]$")]


def _iso(value: Any) -> Any:
    try:
        return date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError('a day written as "2013-12-31"') from None


Day = Annotated[date, BeforeValidator(_iso)]


class Section(BaseModel):
    """Base of every params model: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StageSection(Section):
    """The section of a stage. `silenced` holds the codes of checks that may fail, each with the reason."""

    silenced: dict[Annotated[str, StringConstraints(pattern=r"^NF\d{3}$")], Text] = Field({}, exclude=True)


class Sparse(Section):
    """A section of which only what is set is kept and shown: what is None is left out."""

    @pydantic.model_serializer(mode="wrap")
    def _brief(self, handler: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}


class Keyed(Sparse):
    """A key to another table: `by` lists the columns that both have, or gives those of that table by one's own."""

    table: Name
    by: list[Name] | dict[Name, Name] = Field(min_length=1)

    def keys(self) -> dict[str, str]:
        """Return the key: one's own columns -> the other table's."""
        return self.by if isinstance(self.by, dict) else {name: name for name in self.by}


def parse(text: str) -> Any:
    """Return what a text holds in YAML 1.2, read by DVC's own parser: `no` and `12:30` are texts.

    A list of ``{key: ..., value: ...}`` is a mapping, ``{encoded: two%20%20blanks}`` a text with percent-encoded signs: DVC
    breaks other long keys and odd texts when it rewrites a file.
    """
    return plain(YAML(typ="safe", pure=True).load(text))


def plain(value: Any) -> Any:
    """Return nested values of YAML with the mappings and texts that they stand for."""
    if isinstance(value, dict):
        is_text = value.keys() == {ENCODED}
        return unquote(str(value[ENCODED])) if is_text else {key: plain(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    if value and all(isinstance(item, dict) and item.keys() == {"key", "value"} for item in value):
        return {plain(item["key"]): plain(item["value"]) for item in value}
    return [plain(item) for item in value]


def root() -> Path:
    """Return the project's folder: the nearest one upwards that holds ``params.yaml``.

    Jupyter and nbval run a notebook in its own folder, papermill in the caller's; all find the same root. Raises
    `ParamsError` if there is none.
    """
    return _root_from(Path.cwd())


def in_project() -> bool:
    """Return whether `root` finds a project."""
    with suppress(ParamsError):
        return bool(root())
    return False


def load(section: str, overrides: dict[str, Any] | None = None) -> Any:
    """Load one section of ``params.yaml``, such as a stage's slug or ``"engine"``, as its typed ``Params`` model.

    `overrides` are nested values laid over the file's: what papermill injects, or a what-if in a notebook; {} ends it.
    Raises `ParamsError` with every unknown key and wrong value: its path, what was found, what was expected; or, if the
    project is written for an older engine, with the lines to change.
    """
    file = root() / FILE
    values, cell = _read(file).get(section) or {}, "overrides" + " in the cell tagged parameters" * whatif.by_hand()
    model = importlib.import_module(MODULES[section]).Params
    if not isinstance(overrides or {}, dict):
        raise ParamsError(f"{cell}: found {_short(overrides)}, expected a mapping of keys to values")
    try:
        loaded = model.model_validate(_merge(values, overrides or {}))
    except pydantic.ValidationError as error:
        outdated.refuse(file.parent, ParamsError)
        if overrides:
            load(section)  # raises if the file itself is wrong
        lines = [_explain(section, detail, model) for detail in error.errors()]
        raise ParamsError(f"{cell if overrides else FILE}: " + "\n".join(lines)) from None
    if overrides is not None and overrides != loaded.model_dump(mode="json"):  # all params: those of a headless run
        whatif.begin(overrides)
    return loaded


def flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``("search.max_iter", 200)`` for every leaf of nested params; lists are leaves."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@cache
def _root_from(folder: Path) -> Path:
    for candidate in (folder, *folder.parents):
        if (candidate / FILE).is_file():
            return candidate
    raise ParamsError(f"{FILE}: not found in {folder} or above it; run from inside the project's folder")


def _read(file: Path) -> dict[str, Any]:
    values = _parsed(file.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ParamsError(f"{FILE}: found {type(values).__name__}, expected a mapping with a section per stage")
    for key, section in values.items():
        if key not in MODULES:
            outdated.refuse(file.parent, ParamsError)
            raise ParamsError(f"{FILE}: {key}: unknown section{closest(str(key), tuple(MODULES))}")
        if not isinstance(section or {}, dict):
            raise ParamsError(f"{FILE}: {key}: found {_short(section)}, expected a mapping of keys to values")
    for path, value in flatten(values):
        if isinstance(value, date):
            raise ParamsError(f'{FILE}: {path}: found a bare date; put it in quotes, "{value}", or DVC cannot read it')
    return values


@lru_cache(maxsize=4)  # the parser takes 0.1 s, and a stage loads several sections
def _parsed(text: str) -> Any:
    try:
        return parse(text)
    except YAMLError as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise ParamsError(f"{FILE}: {where}: {problem}; expected valid YAML, as in the lines around it") from None


def _merge(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    nested = [key for key, value in overrides.items() if isinstance(value, dict) and isinstance(base.get(key), dict)]
    return {**base, **overrides, **{key: _merge(base[key], overrides[key]) for key in nested}}


def _explain(section: str, detail: ErrorDetails, model: type[BaseModel]) -> str:
    path = ".".join([section, *map(str, detail["loc"])])
    if detail["type"] == "extra_forbidden":
        return f"{path}: unknown key{closest(str(detail['loc'][-1]), _siblings(model, detail['loc']))}"
    if detail["type"] == "missing":
        return f"{path}: missing, and it has no default; add it"
    expected = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{path}: found {_short(detail['input'])}, expected {expected}"


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) < 80 else text[:77] + "..."


def _siblings(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[str, ...]:
    kind: Any = model.model_fields["root"].annotation if issubclass(model, RootModel) else model
    for key in loc[:-1]:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[str(key)].annotation if str(key) in kind.model_fields else None
        else:  # dict[str, Model] or list[Model]: any key, the last argument
            kind = next(iter(get_args(kind)[-1:]), None)
        members = [each for each in get_args(kind) if each is not type(None)]
        kind = members[0] if len(members) < len(get_args(kind)) else kind  # of Model | None the Model
    return tuple(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else ()


def closest(word: str, known: Sequence[str]) -> str:
    """Return what an unknown word may stand for, as the end of a message."""
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; expected one of {', '.join(known)}" if known else "; remove it, or correct its spelling"
