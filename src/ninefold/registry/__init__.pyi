from . import planning, promotion, retraining

__all__ = [
    "planning", "promotion", "retraining",
]  # fmt: skip
