"""Write small source files, and read them back as text."""

from pathlib import Path
from typing import Any

from ninefold.collection import sources

PLAIN = {"id": ["01", "2"], "city": ["Köln", "NA"]}


def put(name: str, content: str | bytes, encoding: str = "utf-8") -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return name


def read(source: str, **options: Any) -> dict[str, list[str]]:
    frame = sources.read(source, options)
    assert all(str(kind) == "str" for kind in frame.dtypes)
    return frame.to_dict("list")
