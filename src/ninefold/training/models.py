"""The models of ``training.candidates``: unfitted pipelines from columns of every kind to a classifier or a regressor."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import yaml
from pydantic import Field, model_validator
from sklearn import ensemble
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

from ninefold.errors import ParamsError
from ninefold.features import FeatureSchema
from ninefold.params import Sparse
from ninefold.problem import Problem
from ninefold.training.estimators import Categories, DateParts, EmptyAsZero, Words


class Range(NamedTuple):
    """From where to where an option is searched, both included: integers if both are, on a log scale if `log`."""

    low: float
    high: float
    log: bool = False


_FILE: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("models.yaml").read_text("utf-8"))
OPTIONS = {model: {name: usual for name, [usual, *_] in known.items()} for model, known in _FILE["models"].items()}
SPACES = {
    model: {name: Range(ends[0], ends[1], len(ends) > 2) for name, [_, *ends] in known.items() if ends}
    for model, known in _FILE["models"].items()
}
LIGHTGBM_NAMES: dict[str, str] = _FILE["lightgbm names"]
MOST_COLUMNS = 500  # of a linear model that is fitted by Newton's method, which needs the full Hessian


class Candidate(Sparse):
    """One model to choose from; absent options have defaults (`OPTIONS`)."""

    model: Literal["linear", "random_forest", "extra_trees", "gradient_boosting", "lightgbm"]
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
    def _of_the_model(self) -> Self:
        known = OPTIONS[self.model]
        if strange := sorted(self.model_fields_set - {"model", *known}):
            raise ValueError(f"options of {self.model}: {', '.join(known)}; found {', '.join(strange)}")
        return self

    def options(self) -> dict[str, Any]:
        """Return the model's options, defaults filled in."""
        return OPTIONS[self.model] | self.model_dump(exclude={"model"})

    def estimator(self, seed: int, schema: FeatureSchema, problem: Problem) -> Pipeline:
        """Return the unfitted pipeline from the columns ``schema.all`` to a classifier or a regressor."""
        return BUILDERS[self.model](self.options(), seed, schema, problem)


def encoder(schema: FeatureSchema, problem: Problem, rare: int = OPTIONS["linear"]["rare"]) -> ColumnTransformer:
    """Return the encoding for linear models, neighbours and networks: all columns as numbers of about the same scale.

    Missing numbers are imputed and flagged, numbers scaled, categories of fewer than `rare` rows pooled; TF-IDF of words.
    """
    fill = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    return ColumnTransformer(
        [
            ("numbers", make_pipeline(fill, StandardScaler()), schema.numeric),
            ("dates", make_pipeline(DateParts(timezone=problem.timezone), clone(fill), StandardScaler()), schema.dates),
            ("categories", OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=rare), schema.categorical),
            *((f"text {number}", Words(), name) for number, name in enumerate(schema.text)),
        ]
    )


def linear(options: dict[str, Any], seed: int, schema: FeatureSchema, problem: Problem) -> Pipeline:
    """Return a linear model behind `encoder`."""
    encode = encoder(schema, problem, options["rare"])
    if not problem.is_class:
        return make_pipeline(encode, Ridge(alpha=1 / options["C"]))
    # Newton's method needs a few steps where lbfgs needs a hundred, but a matrix of all pairs of columns.
    few = not schema.text and not schema.high_cardinality and len(problem.classes) * len(schema.all) < MOST_COLUMNS
    solver = "newton-cholesky" if few else "lbfgs"
    return make_pipeline(encode, LogisticRegression(C=options["C"], max_iter=500, solver=solver))


def gradient_boosting(options: dict[str, Any], seed: int, schema: FeatureSchema, problem: Problem) -> Pipeline:
    """Return gradient boosting on histograms: categories as codes, those of many values target-encoded; gaps stay."""
    encode, narrow = _with_codes(seed, schema, problem)
    kind = ensemble.HistGradientBoostingClassifier if problem.is_class else ensemble.HistGradientBoostingRegressor
    model = kind(**options, categorical_features=list(range(narrow)), random_state=seed)
    return make_pipeline(encode, EmptyAsZero(), model)


def lightgbm(options: dict[str, Any], seed: int, schema: FeatureSchema, problem: Problem) -> Pipeline:
    """Return LightGBM (Ke et al., 2017) with the options of `gradient_boosting`, and its own splits of categories."""
    try:
        from lightgbm import LGBMClassifier, LGBMRegressor
    except ImportError:
        text = "found model lightgbm, which is not installed; run `make setup`, or name gradient_boosting"
        raise ParamsError(f"params.yaml: training.candidates: {text}") from None
    encode, narrow = _with_codes(seed, schema, problem)
    own = {LIGHTGBM_NAMES.get(name, name): value for name, value in options.items()}
    repeats: dict[str, Any] = {"random_state": seed, "deterministic": True, "force_row_wise": True, "verbose": -1}
    kind = LGBMClassifier if problem.is_class else LGBMRegressor
    return make_pipeline(encode, Categories(narrow), kind(**own, **repeats))


def _forest(kinds: Any, options: dict[str, Any], seed: int, schema: FeatureSchema, problem: Problem) -> Pipeline:
    means = ColumnTransformer(_for_trees(schema, schema.categorical, seed, problem))
    return make_pipeline(means, kinds[0 if problem.is_class else 1](**options, random_state=seed))


BUILDERS: dict[str, Callable[..., Pipeline]] = {
    "linear": linear,
    # Breiman, Random forests, 2001; Geurts, Ernst and Wehenkel, Extremely randomized trees, 2006.
    "random_forest": partial(_forest, (ensemble.RandomForestClassifier, ensemble.RandomForestRegressor)),
    "extra_trees": partial(_forest, (ensemble.ExtraTreesClassifier, ensemble.ExtraTreesRegressor)),
    "gradient_boosting": gradient_boosting,
    "lightgbm": lightgbm,
}


def _with_codes(seed: int, schema: FeatureSchema, problem: Problem) -> tuple[ColumnTransformer, int]:
    """Return the encoder for boosting, and how many of its first columns are codes of categories."""
    codes = OrdinalEncoder(  # scikit-learn's model takes at most 255 categories
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan, max_categories=250
    )
    narrow = [name for name in schema.categorical if name not in schema.high_cardinality]
    steps = [("categories", codes, narrow), *_for_trees(schema, schema.high_cardinality, seed, problem)]
    return ColumnTransformer(steps), len(narrow)


def _for_trees(schema: FeatureSchema, encoded: list[str], seed: int, problem: Problem) -> list[tuple[str, Any, Any]]:
    """Return the steps beside codes: some categories target-encoded, dates and texts in parts, numbers as they are."""
    # TargetEncoder takes a quantity of whole numbers for classes, each with a column of its own.
    kind = "auto" if problem.is_class else "continuous"
    means = TargetEncoder(target_type=kind, cv=KFold(5, shuffle=True, random_state=seed))
    own = [name for name in schema.dates if name == problem.time]
    return [
        ("means", means, encoded),
        ("dates", DateParts(timezone=problem.timezone), [name for name in schema.dates if name not in own]),
        ("own time", DateParts(trend=False, timezone=problem.timezone), own),
        *((f"text {number}", Words(30, seed=seed), name) for number, name in enumerate(schema.text)),
        ("numbers", "passthrough", schema.numeric),
    ]
