"""The nine stages, in order: one slug names a stage's notebook, module, params, report and tests."""

from __future__ import annotations

from ninefold.core.errors import NinefoldError

STAGES = (
    "problem",
    "collection",
    "processing",
    "metrics",
    "exploration",
    "features",
    "training",
    "deployment",
    "monitoring",
)


def label(slug: str) -> str:
    """Return the numbered name of a stage: ``label("training")`` is ``"07_training"``.

    Raises
    ------
    NinefoldError
        If there is no stage of that name.
    """
    if slug not in STAGES:
        raise NinefoldError(f"there is no stage {slug!r}; the stages are {', '.join(STAGES)}")
    return f"{STAGES.index(slug) + 1:02d}_{slug}"
