"""Models of your own, beside those of ``params.yaml``: each is chosen only if it is best on rows it had not seen."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator

from ninefold.core.models import OPTIONS, gradient_boosting
from ninefold.training import Params


# YOURS: return unfitted estimators by name; each takes a DataFrame of the columns signed["all"].
def candidates(params: Params, signed: dict[str, list[str]], stated: dict[str, Any]) -> dict[str, BaseEstimator]:
    """Return boosting on shallow trees: a simpler contender, which may generalize better over the seasons."""
    shallow = {**OPTIONS["gradient_boosting"], **params.candidates["boosting"].options(), "max_leaf_nodes": 6}
    return {"shallow_boosting": gradient_boosting(shallow, params.seed, signed, stated)}
