"""The models that params can name: unfitted pipelines from columns of every kind to a classifier or a regressor."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

from ninefold.core import decisions
from ninefold.core.estimators import DateParts, EmptyAsZero, Words
from ninefold.core.params import Sparse

OPTIONS: dict[str, dict[str, Any]] = {
    "linear": {"C": 1.0, "rare": 20},
    "gradient_boosting": {
        "learning_rate": 0.1,
        "max_iter": 100,
        "max_leaf_nodes": 31,
        "min_samples_leaf": 20,
        "l2_regularization": 0.0,
        "early_stopping": False,  # it would hold out random rows, and time is not random
    },
    "extra_trees": {"n_estimators": 200, "min_samples_leaf": 2, "max_features": 0.5},
}


class Candidate(Sparse):
    """One model to choose from; what is not given has scikit-learn's, or a sensible, default.

    ``linear``: logistic or ridge regression. ``gradient_boosting``: on histograms. ``extra_trees``: a random forest with
    random splits.
    """

    model: Literal["linear", "gradient_boosting", "extra_trees"]
    C: float | None = Field(default=None, gt=0)
    rare: int | None = Field(default=None, ge=1)
    learning_rate: float | None = Field(default=None, gt=0, le=1)
    max_iter: int | None = Field(default=None, ge=1, le=10_000)
    max_leaf_nodes: int | None = Field(default=None, ge=2)
    min_samples_leaf: int | None = Field(default=None, ge=1)
    l2_regularization: float | None = Field(default=None, ge=0)
    early_stopping: bool | None = None
    n_estimators: int | None = Field(default=None, ge=1, le=5_000)
    max_features: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _of_the_model(self) -> Candidate:
        known = OPTIONS[self.model]
        if strange := sorted(self.model_fields_set - {"model", *known}):
            raise ValueError(f"options of {self.model}: {', '.join(known)}; found {', '.join(strange)}")
        return self

    def options(self) -> dict[str, Any]:
        """Return the model's options, defaults filled in."""
        given = {name: getattr(self, name) for name in OPTIONS[self.model]}
        return {**OPTIONS[self.model], **{name: value for name, value in given.items() if value is not None}}


def linear(options: dict[str, Any], seed: int, signed: dict[str, list[str]], stated: dict[str, Any]) -> Pipeline:
    """Return a linear model: gaps filled by the median and marked, numbers scaled, rare categories pooled, words weighed."""
    fill = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    numbers, dates = make_pipeline(fill, StandardScaler()), make_pipeline(DateParts(), clone(fill), StandardScaler())
    categories = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=options["rare"])
    steps = [
        ("numbers", numbers, signed["numeric"]),
        ("dates", dates, signed["dates"]),
        ("categories", categories, signed["categorical"]),
        *((f"text {number}", Words(), name) for number, name in enumerate(signed["text"])),
    ]
    if decisions.is_class(stated):
        return make_pipeline(ColumnTransformer(steps), LogisticRegression(C=options["C"], max_iter=500))
    return make_pipeline(ColumnTransformer(steps), Ridge(alpha=1 / options["C"]))


def gradient_boosting(
    options: dict[str, Any], seed: int, signed: dict[str, list[str]], stated: dict[str, Any]
) -> Pipeline:
    """Return gradient boosting on histograms: categories as codes, or of many values by their mean outcome; gaps stay."""
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        max_categories=250,  # the model takes at most 255
    )
    narrow = [name for name in signed["categorical"] if name not in signed["wide"]]
    encode = ColumnTransformer([("categories", codes, narrow), *_for_trees(signed, signed["wide"], seed, stated)])
    kind = HistGradientBoostingClassifier if decisions.is_class(stated) else HistGradientBoostingRegressor
    model = kind(**options, categorical_features=list(range(len(narrow))), random_state=seed)
    return make_pipeline(encode, EmptyAsZero(), model)


def extra_trees(options: dict[str, Any], seed: int, signed: dict[str, list[str]], stated: dict[str, Any]) -> Pipeline:
    """Return extremely randomized trees (Geurts, Ernst and Wehenkel, 2006): categories by their mean outcome."""
    encode = ColumnTransformer(_for_trees(signed, signed["categorical"], seed, stated))
    kind = ExtraTreesClassifier if decisions.is_class(stated) else ExtraTreesRegressor
    return make_pipeline(encode, kind(**options, random_state=seed))


def _for_trees(
    signed: dict[str, list[str]], encoded: list[str], seed: int, stated: dict[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Return what trees read beside codes: numbers as they are, categories by mean outcome, dates and texts in parts."""
    # Whole numbers as a quantity would be taken for classes, each with a column of its own.
    kind = "auto" if decisions.is_class(stated) else "continuous"
    means = TargetEncoder(target_type=kind, cv=KFold(5, shuffle=True, random_state=seed))
    return [
        ("means", means, encoded),
        ("dates", DateParts(), [name for name in signed["dates"] if name != stated["time"]]),
        ("own time", DateParts(trend=False), [name for name in signed["dates"] if name == stated["time"]]),
        *((f"text {number}", Words(30, seed=seed), name) for number, name in enumerate(signed["text"])),
        ("numbers", "passthrough", signed["numeric"]),
    ]  # fmt: skip
