"""The command line: ``ninefold --help`` lists the commands."""

from ninefold.cli import common
from ninefold.cli.common import app

from ninefold.cli import project  # isort: skip  -- its commands come first
from ninefold.cli import production  # isort: skip

__all__ = ["app", "common", "production", "project"]
