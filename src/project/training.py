"""Models of your own, beside the built-in ones: each is chosen only if it is best on validation."""

from __future__ import annotations

from sklearn.base import BaseEstimator, clone

from ninefold.training import Params, gradient_boosting


# YOURS: return unfitted estimators by name; each takes a DataFrame of the columns signed["all"].
def candidates(params: Params, signed: dict[str, list[str]]) -> dict[str, BaseEstimator]:
    """Return boosting on shallow trees: a simpler contender, which may generalize better over the seasons."""
    shallow = clone(gradient_boosting(params, signed))
    shallow.set_params(histgradientboostingclassifier__max_leaf_nodes=6)
    return {"shallow_boosting": shallow}
