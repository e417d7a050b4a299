from . import decisions, stage
from .decisions import FORESIGHT
from .metric_names import ERROR, GUESSING, MEANING, PRIMARY, RANKING, title
from .stage import bullets, listed, sentence
from .statement import Costs, Params, Problem, Success

__all__ = [
    "ERROR", "FORESIGHT", "GUESSING", "MEANING", "PRIMARY", "RANKING", "Costs", "Params", "Problem", "Success",
    "bullets", "decisions", "listed", "sentence", "stage", "title",
]  # fmt: skip
