from . import (
    command,
    declare,
    explain,
    migrate,
)

__all__ = [
    "command",
    "declare",
    "explain",
    "migrate",
]
