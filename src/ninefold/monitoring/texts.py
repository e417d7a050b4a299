"""Sentences of stage 09, whose text is in ``templates/sentences/monitoring.md.j2``."""

from functools import partial

from ninefold.metrics import against_zero, with_interval
from ninefold.problem import decisions, listed, title
from ninefold.sentences import render

say = partial(
    render, "monitoring", against_zero=against_zero, with_interval=with_interval, listed=listed, title=title,
    level_name=decisions.level_name, show_level=decisions.show_level,
)  # fmt: skip
