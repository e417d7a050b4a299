"""What is written of a request: its rows and answers as JSON, in which redacted values are keyed hashes."""

import hmac
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from ninefold import artifacts
from ninefold.collection import plain
from ninefold.errors import NinefoldError
from ninefold.serving.bundle import Bundle
from ninefold.serving.fields import EPOCH

CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"  # role of the bundle; a shadow's answer is not returned
KEY_BYTES = 32
Rows = Sequence[Mapping[str, Any]]
encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class LogError(NinefoldError):
    """The log cannot be written: what was asked must not be answered."""


class Entry(NamedTuple):
    """A request as it is written; `rows` are JSON texts of the inputs and outputs of every row."""

    request_id: str
    moment: int  # microseconds since 1970, UTC
    version: str
    described: str
    role: str
    rows: list[tuple[str, str]]


class Layout:
    """How rows of a bundle are written to the log at `place`; its ``log.redact`` names the redacted fields."""

    def __init__(self, bundle: Bundle, place: Path) -> None:
        self.kinds = {field["name"]: field["type"] for field in bundle.signature}
        self.redacted = frozenset(bundle.described["log"]["redact"])
        self.key = key(place) if self.redacted else b""
        fields = {name: "any" if name in self.redacted else kind for name, kind in self.kinds.items()}
        answers = dict.fromkeys(bundle.answers, "number") | ({"action": "any"} if bundle.problem.is_class else {})
        self.described = encode({"model": bundle.name, "fields": fields, "answers": answers, "columns": bundle.added})

    def inputs(self, row: Mapping[str, Any]) -> str:
        """Return a row as JSON: absent fields are null, others left out; what identifies a row is text, see `as_text`."""
        values = {name: row.get(name) for name in self.kinds}
        for name, value in values.items():
            if value is not None and name in self.redacted:
                values[name] = pseudonym(value, self.key)
            elif value is not None and self.kinds[name] == "any":
                values[name] = as_text(value)
        return encode(values)


def as_text(value: Any) -> str:
    """Return a value as the text by which it is joined: 7, 7.0, "7" and a decimal 7.00 are the same."""
    if isinstance(value, float | Decimal) and value % 1 == 0:
        value = int(value)
    return encode(value) if isinstance(value, float | list | dict) else plain(value)


def pseudonym(value: Any, secret: bytes) -> str:
    """Return what replaces a redacted value: the first 128 bits of its HMAC-SHA-256 (RFC 2104), hexadecimal.

    Equal values, of whichever column, give equal pseudonyms, so that joins and counts still work. Without the key nobody
    can read a value or test a guess. What was written before a column was redacted stays as it is.
    """
    return hmac.new(secret, as_text(value).encode(), "sha256").hexdigest()[:32]


def key(place: Path) -> bytes:
    """Return the key of a log's pseudonyms, ``log.key``, made (mode 0600) if there is none; `LogError` if it is none."""
    file = place.with_suffix(".key")
    try:
        if not file.exists():
            temporary = file.with_name(f".{file.name}.{os.getpid()}")
            artifacts.write_durable(secrets.token_hex(KEY_BYTES).encode(), temporary)
            with suppress(FileExistsError):  # another process was first: its key counts
                os.link(temporary, file)
            temporary.unlink()
            artifacts.sync(file.parent)
        content = bytes.fromhex(file.read_text(encoding="ascii"))
        if len(content) != KEY_BYTES:
            raise ValueError(f"{len(content)} bytes, expected {KEY_BYTES}")
    except (OSError, ValueError) as error:
        raise LogError(f"{file}: no key can be read there ({error}); put back the copy that you keep") from None
    return content


def microseconds(moment: datetime) -> int:
    """Return a moment with a zone as microseconds since 1970, UTC."""
    return (moment.astimezone(UTC).replace(tzinfo=None) - EPOCH) // timedelta(microseconds=1)
