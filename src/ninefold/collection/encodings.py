"""The encoding of a text: what is asked for, what a byte order mark says, or the likeliest; refuse what is no text."""

import codecs
import re
from typing import Any

import pyarrow as pa

from ninefold.errors import DataError

MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
MAGIC = {b"PAR1": "Parquet", b"PK\x03\x04": "zip or Excel", b"\x1f\x8b": "gzip", b"SQLite format 3": "SQLite"}
LATIN = ["cp1252", "cp1250", "cp1254", "cp1257", "cp850"]
CUT = ("unexpected end of data", "truncated data", "incomplete multibyte sequence")  # what decoders say of an end
SAMPLE = 1 << 20


def guess(content: bytes) -> str:
    """Return the encoding of a text: by its byte order mark, UTF-8 if it is that, else the likeliest."""
    if mark := _marked(content):
        return mark
    if b"\0" in content[:SAMPLE]:
        return _utf_16(content[:SAMPLE]) or "utf-8"
    try:
        content.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError as error:
        from charset_normalizer import from_bytes

        foreign = b"\n".join(line for line in content[error.start :].splitlines()[:20_000] if not line.isascii())
        sample = content[max(error.start - 4096, 0) : error.start] + foreign[:SAMPLE]
        runs = re.findall(rb"[\x80-\xff]+", sample)
        single = sum(len(run) == 1 for run in runs) > len(runs) / 2  # letters among ASCII: no encoding of two bytes
        # One-byte code pages that differ little look alike; of equals the most used one is taken.
        matches = list(from_bytes(sample, cp_isolation=LATIN if single else None))
        best = [each for each in matches if (each.chaos, each.coherence) == (matches[0].chaos, matches[0].coherence)]
        alike = {name for match in best for name in match.could_be_from_charset}
        return "cp1252" if "cp1252" in alike or not best else best[0].encoding


def known(where: str, content: pa.Buffer, options: dict[str, Any]) -> str:
    """Return the encoding of the options, a byte order mark, or UTF-8; `DataError` if it is not that of the text."""
    head = bytes(content[:SAMPLE])
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            raise DataError(f"{where}: found a {kind} file, expected text; give the file the suffix of its kind")
    encoding = options.get("encoding", _marked(head) or "utf-8")
    try:
        b"a".decode(encoding, "replace")
        encoding = codecs.lookup(encoding).name
    except (LookupError, UnicodeError):
        raise DataError(f"{where}: options.encoding: found {encoding!r}, expected a name such as cp1252") from None
    zero = None if encoding.startswith(("utf-16", "utf-32")) else re.search(b"\0", content)
    if zero and (likely := _utf_16(head)):
        raise DataError(f"{where}: found text that is not {encoding}; set options: {{encoding: {likely}}}")
    if zero:
        before = bytes(content[max(zero.start() - 20, 0) : zero.start()]).decode(errors="replace")
        raise DataError(
            f"{where}: found bytes that are no text (a zero after {before!r}), expected a table as text; is the suffix "
            "right? If so, fetch the file anew"
        )
    # An encoding with a byte for each letter would decode UTF-8, to wrong letters.
    one_byte = not encoding.startswith("utf") and len(bytes(range(128, 256)).decode(encoding, "replace")) == 128
    if one_byte and _is_utf8(content):
        raise DataError(
            f"{where}: found text that is utf-8, expected {encoding}, as options.encoding says; write the file anew as "
            f"{encoding}, or, if all of the table is so, set options: {{encoding: utf-8}}"
        )
    return "utf-8" if encoding == "utf-8-sig" else encoding


def undecodable(where: str, content: pa.Buffer, encoding: str) -> DataError:
    """Return what is wrong with a text that cannot be decoded: the line, whether it was cut off, what to set."""
    raw, line, cut, mixed, end = bytes(content), 1, False, False, ""
    try:
        raw.decode(encoding)
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode(encoding, "ignore")
        line, end = before.count("\n") + 1, before[-20:]
        cut, mixed = error.end == len(raw) and error.reason in CUT, encoding == "utf-8" and not before.isascii()
    at = f"{where}: line {line}"
    if cut:
        return DataError(f"{at}: ends within a letter, after {end!r}, as a file does that was cut off; fetch it anew")
    likely, problem = guess(raw), f"{at}: found text that is not {encoding}"
    if mixed or likely == encoding:
        return DataError(f"{problem}, as the text before it is; mend that line, after {end!r}, or fetch the file anew")
    return DataError(f"{problem}; set options: {{encoding: {likely}}}, or write the file anew as {encoding}")


def _marked(head: bytes) -> str | None:
    return next((name for mark, name in MARKS.items() if head.startswith(mark)), None)


def _utf_16(head: bytes) -> str | None:
    """Return the UTF-16 of text without a byte order mark, by which of two bytes is mostly zero; None if neither is."""
    half = len(head) / 2
    if head[1::2].count(0) > 0.5 * half > head[0::2].count(0) * 10:
        return "utf-16-le"
    return "utf-16-be" if head[0::2].count(0) > 0.5 * half > head[1::2].count(0) * 10 else None


def _is_utf8(content: pa.Buffer) -> bool:
    """Return whether a text is UTF-8 with letters beyond ASCII, which text in another encoding is not by chance."""
    try:
        return not str(content, "utf-8").isascii()
    except UnicodeDecodeError:
        return False
