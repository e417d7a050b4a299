"""Sentences of stage 09, whose text is in ``templates/sentences/monitoring.md.j2``."""

from functools import partial

from ninefold.metrics import against_zero, with_interval
from ninefold.problem import decisions, listed, title
from ninefold.sentences import render

HELPERS = (against_zero, with_interval, listed, title, decisions.level_name, decisions.number, decisions.show_level)
say = partial(render, "monitoring", **{each.__name__: each for each in HELPERS})
