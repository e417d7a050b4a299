from . import (
    guides,
    own_notebook,
    pdf,
    runner,
    site,
)
from .runner import (
    refresh_sources,
)

__all__ = [
    "guides",
    "own_notebook",
    "pdf",
    "refresh_sources",
    "runner",
    "site",
]
