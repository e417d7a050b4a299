"""The nine stages, in order: one slug names a stage's notebook, module, params, report and tests.

Notebooks of your own stand under stage 05 and are named in full, such as ``05b_seasonality_by_region``.
"""

import re

from ninefold.errors import NinefoldError

STAGES = (
    "problem", "collection", "processing", "metrics", "exploration", "features", "training", "deployment", "monitoring",
)  # fmt: skip
FLOOR = "exploration"  # the stage under which notebooks of your own stand
OWN = re.compile(r"05z*[b-z]_\w+")


def label(slug: str) -> str:
    """Return the name of a stage with its number, ``07_training``, or of an own notebook; else `NinefoldError`."""
    if is_own(slug):
        return slug
    if slug not in STAGES:
        own = "a notebook of your own is named in full, as in 05b_a_title"
        raise NinefoldError(f"there is no stage {slug!r}; the stages are {', '.join(STAGES)}, and {own}")
    return f"{STAGES.index(slug) + 1:02d}_{slug}"


def is_own(name: str) -> bool:
    """Return whether a name is that of a notebook of your own, such as ``05b_seasonality_by_region``."""
    return OWN.fullmatch(name) is not None
