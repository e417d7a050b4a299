from . import (
    command,
    migrate,
)

__all__ = [
    "command",
    "migrate",
]
