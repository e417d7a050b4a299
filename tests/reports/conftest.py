"""Fixtures of the tests of reports: a project whose stages have run."""

from pathlib import Path

import pytest
from site_files import CARD, executed, record, write

from ninefold.stages import STAGES, label


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text("{}\n")
    write(tmp_path / "data/problem.json", {"title": "Bread & butter", "question": "How many loaves to bake?"})
    for slug in STAGES:
        write(tmp_path / f"reports/notebooks/{label(slug)}.ipynb", executed(slug))
        write(tmp_path / f"reports/metrics/{label(slug)}.json", record(slug))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def packed(finished: Path) -> Path:
    write(finished / "models/bundle/checksums.json", {})
    write(finished / "models/bundle/bundle.json", {"lineage": {"dvc": "0" * 32}})
    (finished / "models/bundle/MODEL_CARD.md").write_text(CARD, encoding="utf-8")
    return finished
