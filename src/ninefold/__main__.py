"""Let ``python -m ninefold`` be the command ``ninefold``."""

from ninefold.cli import app

app()
