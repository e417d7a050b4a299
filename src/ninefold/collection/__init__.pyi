from . import databases, datetimes, deliveries, files, numbers, sources
from .databases import Database
from .reading import LANDING, SOURCE, read_file, read_landed, reader
from .settings import Params, Source
from .stage import (
    WHOLE,
    checks,
    collect,
    last_part,
    manifest,
    metrics,
    missing,
    periods,
    plan,
    tables,
    verified_manifest,
)
from .summary import (
    conclusion,
    datasheet,
    describe_columns,
    describe_plan,
    describe_volume,
    example,
    headline,
    outline,
    plot_volume,
)
from .tabular import demand_columns, line, names, plain

__all__ = [
    "LANDING", "SOURCE", "WHOLE", "Database", "Params", "Source", "checks", "collect", "conclusion", "databases",
    "datasheet", "datetimes", "deliveries", "demand_columns", "describe_columns", "describe_plan",
    "describe_volume", "example", "files", "headline", "last_part", "line", "manifest", "metrics", "missing",
    "names", "numbers", "outline", "periods", "plain", "plan", "plot_volume", "read_file", "read_landed", "reader",
    "sources", "tables", "verified_manifest",
]  # fmt: skip
