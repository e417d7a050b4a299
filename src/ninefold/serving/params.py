"""Does the packaged service give the same answers, fast enough?

The params of the stage, apart from it: the runner reads them without scikit-learn.
"""

from pydantic import Field

from ninefold.params import Duration, Name, Section, StageSection


class LogParams(Section):
    """What the prediction log keeps."""

    keep: Duration = "90d"
    redact: list[Name] = Field(default=[])


class Params(StageSection):
    """Section ``deployment`` of ``params.yaml``."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    max_rows: int = Field(ge=1, le=1_000_000)
    max_body_mb: float = Field(gt=0, le=1024)
    timeout_s: float = Field(default=10, gt=0, le=3600)
    max_waiting: int = Field(default=100, ge=0, le=10_000)
    latency_budget_ms: float = Field(gt=0)
    parity_rows: int = Field(ge=1)
    single_rows: int = Field(ge=1)
    log: LogParams = LogParams()
