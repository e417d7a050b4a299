"""What tests of monitoring share: a learner of few trees, for speed."""

import pytest

from ninefold.monitoring import two_sample


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_sample, "LEARNER", {**two_sample.LEARNER, "max_iter": 20, "learning_rate": 0.2})
