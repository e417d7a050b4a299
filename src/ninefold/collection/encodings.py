"""The encoding of a text: what is asked for, what a byte order mark says, or the likeliest; refuse what is no text."""

import codecs
import re
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ninefold.errors import DataError
from ninefold.sentences import render

# UTF-32 before UTF-16, whose mark it begins with.
MARKS = {codecs.BOM_UTF8: "utf-8", **dict.fromkeys((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "utf-32")}
MARKS |= dict.fromkeys((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "utf-16")
MAGIC = {b"PAR1": "Parquet", b"PK\x03\x04": "zip or Excel", b"\x1f\x8b": "gzip", b"SQLite format 3": "SQLite"}
WEST = "àáâãäåæçèéêëìíîïñòóôõöøùúûüßœ"
# One-byte code pages, of equals the first is taken -> the letters of their languages.
LATIN = {"cp1252": WEST, "cp850": WEST, "cp1254": "âäçéêëîïi\u0307ôöûüğışß", "cp1257": "āąäåčćēęėģīįķļłņńóõöšśūųüźžż"}
LATIN["cp1250"] = "áâäąăçćčďđéęëěíîłľĺńňóôöőŕřśšşťţúůüűýźžżß"
ODD = 0.05  # share of letters beyond ASCII from which on a code page is the wrong one
CUT = ("unexpected end of data", "truncated data", "incomplete multibyte sequence")  # what decoders say of an end
MARK = b"\n\xef\xbb\xbf"  # of UTF-8, at the start of a line
SAMPLE, CHUNK = 1 << 20, 1 << 24  # bytes of a file's head, and of what is read of it at once


class Scan(NamedTuple):
    """What one pass over a text file shows: why it is not of an encoding to its end, or None, and what is known until there."""

    error: UnicodeDecodeError | None
    start: int  # the byte at which it fails
    line: int  # of that byte, from 1
    end: str  # the letters before it
    is_ascii: bool
    zero: int | None  # where a byte is zero first
    is_joined: bool  # a byte order mark of UTF-8 begins a line, as where two files were joined


def scan(place: Path, encoding: str = "utf-8") -> Scan:
    """Look through a text file, which may be larger than the memory."""
    decoder, zero, passed, before, is_joined = codecs.getincrementaldecoder(encoding)(), None, 0, b"", False
    start, line, end, is_ascii, error = 0, 1, "", True, None
    with place.open("rb") as file:
        for chunk in chain(iter(partial(file.read, CHUNK), b""), [b""]):
            if zero is None and (at := chunk.find(b"\0")) >= 0:
                zero = passed + at
            is_joined = is_joined or MARK in before + chunk
            passed, before = passed + len(chunk), (before + chunk)[1 - len(MARK) :]
            if error:
                continue
            state = decoder.getstate()
            try:
                text, step = decoder.decode(chunk, not chunk), len(chunk)
            except UnicodeDecodeError as problem:
                error, step = problem, problem.start - len(state[0])
                decoder.setstate(state)
                text = decoder.decode(chunk[: max(step, 0)])
            start, line, end = start + step, line + text.count("\n"), (end + text[-20:])[-20:]
            is_ascii = is_ascii and text.isascii()
    return Scan(error, start, line, end, is_ascii, zero, is_joined)


def guess(place: Path, scan: Scan) -> str:
    """Return the encoding of a text file: by its byte order mark, UTF-8 if `scan` says so, else the likeliest."""
    head, start = piece(place), scan.start
    if mark := _marked(head):
        return mark
    if b"\0" in head:
        return _utf_16(head) or "utf-8"
    if not scan.error:
        return "utf-8"
    from charset_normalizer import from_bytes

    foreign = b"\n".join(line for line in piece(place, start, CHUNK).splitlines()[:20_000] if not line.isascii())
    sample = piece(place, max(start - 4096, 0), min(start, 4096)) + foreign[:SAMPLE]
    odd = {name: _odd(sample.decode(name, "replace"), letters) for name, letters in LATIN.items()}
    if odd[best := min(odd, key=lambda name: odd[name])] <= ODD:
        return best
    match = from_bytes(sample).best()
    return "cp1252" if match is None or "cp1252" in match.could_be_from_charset else match.encoding


def _odd(text: str, letters: str) -> float:
    """Return the share of signs beyond ASCII in words that are no such letters; 1 of another script, without letters of ASCII."""
    words = [word for word in re.findall(r"[^\s!-/:-@\[-`{-~]{2,}", text) if not word.isascii()]
    mixed, letter = [word for word in words if re.search("[A-Za-z]", word)], "(?:(?![ªº¹²³¼-¾])[^\\W\\d_])"
    foreign = rf"(?i:(?![\x00-\x7f°µ€’{letters}])(?:{letter}|\ufffd|.(?={letter})))"  # m² is a word, K³ndigung none
    odd, signs = re.findall(rf"{foreign}|(?<=[a-z])[À-Þ]", " ".join(mixed)), re.findall(r"[^\x00-\x7f]", "".join(mixed))
    return 1.0 if 2 * len(mixed) < len(words) else len(odd) / max(len(signs), 1)


def known(where: str, place: Path, encoding: str | None, scan: Scan) -> str:
    """Return the encoding that is given, or a byte order mark says, or UTF-8; `DataError` if it is not that of the file."""
    head = piece(place)
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            raise DataError(f"{where}: found a {kind} file, expected text; give the file the suffix of its kind")
    encoding = encoding or _marked(head) or "utf-8"
    try:
        b"a".decode(encoding, "replace")
        encoding = codecs.lookup(encoding).name.removesuffix("-sig")
    except (LookupError, UnicodeError):
        raise DataError(f"{where}: options.encoding: found {encoding!r}, expected a name such as cp1252") from None
    is_unmarked = encoding in ("utf-16", "utf-32") and _marked(head) != encoding
    has_zero = scan.zero is not None and not is_wide(encoding)
    if is_unmarked or (has_zero and _utf_16(head)):
        raise DataError(f"{where}: found text that is not {encoding}; set options: {{encoding: {guess(place, scan)}}}")
    if scan.zero is not None and has_zero:
        before = piece(place, max(scan.zero - 20, 0), min(scan.zero, 20)).decode(errors="replace")
        raise DataError(render("collection", "no_text", where=where, before=before))
    # An encoding with a byte for each letter would decode UTF-8, to wrong letters.
    one_byte = not encoding.startswith("utf") and len(bytes(range(128, 256)).decode(encoding, "replace")) == 128
    if one_byte and not scan.error and not scan.is_ascii:  # letters beyond ASCII are not UTF-8 by chance
        raise DataError(render("collection", "is_utf_8", where=where, encoding=encoding))
    return encoding


def is_wide(encoding: str) -> bool:
    """Return whether delimiters and line ends are not the bytes of ASCII, as in UTF-16 and EBCDIC."""
    return ',"\n'.encode(encoding) != b',"\n'


def undecodable(where: str, place: Path, encoding: str) -> DataError:
    """Return what is wrong with a text file that cannot be decoded: the line, whether it was cut off, what to set."""
    error, start, line, end, is_ascii, *_ = scan(place, encoding)
    at = f"{where}: line {line}"
    if error and error.reason in CUT and start + error.end - error.start == place.stat().st_size:
        return DataError(f"{at}: ends within a letter, after {end!r}, as a file does that was cut off; fetch it again")
    likely, problem = guess(place, scan(place)), f"{at}: found text that is not {encoding}"
    if (encoding == "utf-8" and not is_ascii) or likely == encoding:
        return DataError(f"{problem}, as the text before it is; fix that line, after {end!r}, or fetch the file again")
    return DataError(f"{problem}; set options: {{encoding: {likely}}}, or write the file again as {encoding}")


def piece(place: Path, start: int = 0, size: int = SAMPLE) -> bytes:
    """Return a piece of a file, by default its first."""
    with place.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _marked(head: bytes) -> str | None:
    return next((name for mark, name in MARKS.items() if head.startswith(mark)), None)


def _utf_16(head: bytes) -> str | None:
    """Return the UTF-16 of text without a byte order mark, by which of two bytes is mostly zero; None if neither is."""
    half = len(head) / 2
    if head[1::2].count(0) > 0.5 * half > head[0::2].count(0) * 10:
        return "utf-16-le"
    return "utf-16-be" if head[0::2].count(0) > 0.5 * half > head[1::2].count(0) * 10 else None
