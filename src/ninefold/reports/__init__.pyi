from . import (
    guides,
    own_notebook,
    runner,
    site,
)
from .runner import (
    refresh_sources,
)

__all__ = [
    "guides",
    "own_notebook",
    "refresh_sources",
    "runner",
    "site",
]
