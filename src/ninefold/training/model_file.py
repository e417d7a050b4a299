"""Write and read models as skops files, never pickle: types are trusted by name, equal models give equal bytes."""

from __future__ import annotations

import json
import re
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import skops.io

from ninefold.errors import DataError

# Reviewed one by one: each only holds or checks numbers, or reads trees from text. Files with any other type are refused.
TRUSTED = [
    "collections.OrderedDict",
    "functools.partial",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "ninefold.training.calibration.Calibrated",
    "ninefold.training.conformal.WithInterval",
    "ninefold.training.estimators.Blend",
    "ninefold.training.estimators.Categories",
    "ninefold.training.estimators.DateParts",
    "ninefold.training.estimators.EmptyAsZero",
    "ninefold.training.estimators.Words",
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.model_selection._split.KFold",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
]
EPOCH = (1980, 1, 1, 0, 0, 0)


def dump(model: Any, place: Path) -> None:
    """Write a fitted estimator.

    Skops writes memory addresses and the time; both are replaced, so that equal models give equal files.
    """
    source = zipfile.ZipFile(BytesIO(skops.io.dumps(model)))
    schema = source.read("schema.json").decode()
    numbers: dict[str, str] = {}

    def renumber(match: re.Match[str]) -> str:
        return match[1] + numbers.setdefault(match[2], str(len(numbers) + 1)) + match[3]

    schema = re.sub(r'("__id__": )(\d+)()', renumber, schema)
    schema = re.sub(r'("file": ")(\d+)(\.\w+")', renumber, schema)
    place.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr(zipfile.ZipInfo("schema.json", EPOCH), json.dumps(json.loads(schema)), zipfile.ZIP_DEFLATED)
        members = {numbers.get(name.split(".")[0], name.split(".")[0]): name for name in source.namelist()}
        for number, name in sorted(members.items(), key=lambda member: (len(member[0]), member[0])):
            if name != "schema.json":
                renamed = f"{number}.{name.split('.', 1)[1]}"
                target.writestr(zipfile.ZipInfo(renamed, EPOCH), source.read(name), zipfile.ZIP_DEFLATED)


def load(place: Path) -> Any:
    """Read a fitted estimator.

    Raises
    ------
    DataError
        If the file is missing, damaged, or asks for a type that is not in `TRUSTED`.
    """
    try:
        if unknown := sorted(set(skops.io.get_untrusted_types(file=place)) - set(TRUSTED)):
            raise DataError(f"{place.name}: asks for types that are not trusted: {', '.join(unknown)}")
        return skops.io.load(place, trusted=TRUSTED)
    except FileNotFoundError:
        raise DataError(f"{place}: not found; run stage 07 with `dvc repro`") from None
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise DataError(f"{place.name}: damaged ({error}); restore it with `dvc checkout`") from None
