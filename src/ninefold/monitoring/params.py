"""Section ``monitoring`` of ``params.yaml``."""

from typing import Literal

from pydantic import Field

from ninefold.monitoring.alerts import Rules
from ninefold.monitoring.decision import Decide
from ninefold.monitoring.notification import Deliver
from ninefold.params import Day, StageSection


class Params(StageSection):
    """Section ``monitoring`` of ``params.yaml``."""

    source: Literal["replay", "log"] = "replay"
    replay_until: Day | None = None
    period: Literal["day", "week", "month", "quarter", "year"] = "month"
    alpha: float = Field(gt=0, lt=1)
    false_alarms: float = Field(default=0.05, gt=0, lt=1)
    alerts: Rules
    decide: Decide
    deliver: Deliver = Deliver()
