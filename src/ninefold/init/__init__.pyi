from . import (
    command,
    declare,
    migrate,
)

__all__ = [
    "command",
    "declare",
    "migrate",
]
