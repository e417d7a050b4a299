"""Models of your own, beside those of ``params.yaml``: each is chosen only if it is best on rows it had not seen."""

from __future__ import annotations

from sklearn.base import BaseEstimator

from ninefold.features import FeatureSchema
from ninefold.problem import Problem
from ninefold.training import OPTIONS, Params, gradient_boosting


# YOURS: return unfitted estimators by name; each takes a DataFrame of the columns schema.all.
def candidates(params: Params, schema: FeatureSchema, problem: Problem) -> dict[str, BaseEstimator]:
    """Return boosting on shallow trees: a simpler contender, which may generalize better over the seasons."""
    shallow = {**OPTIONS["gradient_boosting"], **params.candidates["boosting"].options(), "max_leaf_nodes": 6}
    return {"shallow_boosting": gradient_boosting(shallow, params.seed, schema, problem)}
