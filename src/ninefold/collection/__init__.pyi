from . import databases, datetimes, deliveries, files, layout, numbers, sources
from .databases import Database
from .delimited import strict_records
from .reading import LANDING, SOURCE, read_file, read_landed, reader, whole
from .settings import Options, Params, Source
from .stage import (
    WHOLE,
    checks,
    collect,
    conclusion,
    headline,
    is_whole,
    last_part,
    manifest,
    metrics,
    missing,
    periods,
    plan,
    verified_manifest,
)
from .tabular import ONE_TABLE, demand_columns, failing, names, plain

__all__ = [
    "LANDING", "ONE_TABLE", "SOURCE", "WHOLE", "Database", "Options", "Params", "Source", "checks", "collect", "conclusion",
    "databases", "datetimes", "deliveries", "demand_columns", "failing", "files", "headline", "is_whole", "last_part", "layout",
    "manifest", "metrics", "missing", "names", "numbers", "periods", "plain", "plan", "read_file", "read_landed", "reader",
    "sources", "strict_records", "verified_manifest", "whole",
]  # fmt: skip
