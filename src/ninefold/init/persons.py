"""Recognize what names a person, and what says of which group a person is: by names in several languages, and by values."""

import re

import numpy as np

from ninefold.init.columns import SAMPLED, WORDS, Column
from ninefold.init.spelling import folded

SHAPES, GIVEN = WORDS["shapes"], {*WORDS["given_names"]}
FEW, FEW_NAMES, MANY = 3, 5, 10  # values that may be contacts; names; any of these where only the column's name says so


def personal(column: Column) -> str | None:
    """Return what of persons a column holds: birth, name, address or contact (mail, phone); None if nothing."""
    is_text, known = column.type == "string", column.texts[~column.gap][:SAMPLED]
    said = [kind for kind, words in WORDS["persons"].items() if re.search(rf"\b({words})\b", _words(column.name))]
    if column.kind == "timestamp":
        return "birth" if "birth" in said else None
    if column.distinct < FEW or not (is_text or column.bounds()[1] >= 1e6):
        return None
    if share("mail", known) > 0.9 or share("phone", known) > 0.9:
        return "contact"
    if share("street", known) > 0.5:
        return "address"
    if share("person", known) > 0.8:  # names of towns hold few given names
        given = np.mean([not GIVEN.isdisjoint(_words(text).split()) for text in known]) > 1 / 3
        if column.distinct >= (FEW_NAMES if given else MANY) and (given or "perhaps" in said):
            return "name"
    sure = [kind for kind in said if kind in ("contact", "address") or (is_text and kind == "name")]
    return sure[0] if sure and column.distinct >= MANY else None


def protected(column: Column) -> str | None:
    """Return of which kind of group a column tells, such as gender, which a decision should treat alike; or None."""
    few = column.kind == "category" and column.distinct <= 250
    for kind, words in WORDS["protected"].items():
        if re.search(rf"(^|\b(customer|client|patient|person|applicant|user) )({words})$", _words(column.name)):
            low, high = column.bounds() if column.kind == "number" else (-1, -1)
            is_age = kind == "age" and (0 <= low <= high <= 130 or 1850 <= low <= high <= 2100)  # or a year of birth
            return kind if few or is_age else None
    texts = {folded(text) for text in column.texts[~column.gap]} if few and 2 <= column.distinct <= 6 else set()
    men, others = (set(words) for words in WORDS["sexes"])
    return "gender" if texts & men and texts & others and texts <= men | others else None


def _words(name: str) -> str:
    """Return a name of a column as words, folded: "FirstName" and "first_name" are "first name"."""
    return re.sub(r"[\W_]+", " ", folded(re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name))).strip()


def share(shape: str, texts: np.ndarray) -> float:
    """Return how many of the texts have a shape of ``words.yaml``."""
    return float(np.mean([bool(re.fullmatch(SHAPES[shape], text)) for text in texts])) if len(texts) else 0.0
