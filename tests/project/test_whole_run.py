"""The nine stages, run once on a sample of the source in a copy of the project."""

import json
from pathlib import Path

import pytest

from ninefold import testing
from ninefold.errors import DataError
from ninefold.stages import STAGES, label
from ninefold.testing import sampling

ROWS = 8_000  # more take longer, and find more


def test_every_gate_passes_and_the_reports_are_written(tmp_path: Path) -> None:
    try:
        sample = sampling.choose(ROWS)
    except (DataError, OSError) as error:
        pytest.skip(f"the source cannot be read on this machine: {error}")
    copy = tmp_path / "project"
    sampling.copy_project(copy, sample)
    if failure := testing.repro(copy):
        pytest.fail(failure, pytrace=False)
    for slug in STAGES:
        record = json.loads((copy / f"reports/metrics/{label(slug)}.json").read_text(encoding="utf-8"))
        assert record["gate"]["passed"], slug
        assert (copy / f"reports/{label(slug)}.html").is_file(), slug
    assert (copy / "reports/index.html").is_file()
