from . import (
    sampling,
)
from .project import (
    lake,
    read_rows,
    repro,
)

__all__ = [
    "lake",
    "read_rows",
    "repro",
    "sampling",
]
