"""Computed sentences: their text is in ``templates/sentences``, a file per room and a block per sentence."""

from functools import cache
from typing import Any

from jinja2 import Environment, FunctionLoader

from ninefold import jinja, labels

TEMPLATES = jinja.TEMPLATES / "sentences"


def render(room: str, name: str, /, **values: Any) -> str:
    """Return a sentence, the block `name` of a room's template, filled with values.

    Lines of a template are joined by a space; the values stay as they are. Filters beside Jinja's own: ``spec`` is Python's
    `format`, ``code`` is `display.code`, ``label`` is `labels.of`, ``named`` both: the label of a column, as code; ``duration`` is
    `labels.duration`.
    """
    template = _environment().get_template(f"{room}.md.j2")
    return "".join(template.blocks[name](template.new_context(values)))


@cache
def _environment() -> Environment:
    environment = jinja.environment(FunctionLoader(_in_one_line))
    environment.filters |= {"spec": format, "code": _code, "label": labels.of, "duration": labels.duration}
    environment.filters["named"] = lambda name: _code(labels.of(name))
    return environment


def _code(name: Any) -> str:
    from ninefold import display  # which needs IPython: the image of the service has none

    return display.code(name)


def _in_one_line(file: str) -> str:
    return " ".join((TEMPLATES / file).read_text(encoding="utf-8").split())
