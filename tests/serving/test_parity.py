"""Online equals offline: ten thousand rows over HTTP, as callers send them, against the model's pipeline on a table."""

from typing import Any

import httpx
import numpy as np
import pandas as pd
from bundles import PARAMS, lay_out, offline, pack, rows

from ninefold.problem import decisions
from ninefold.serving import client, compiled

COUNT, PRIOR = 10_000, 0.25
SIZES = [1] * 500 + [7] * 500 + [500] * 12  # few rows are answered by the compiled predictor, many by the pipeline
HISTORY = "rate_by_customer_7d"


def as_sent(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows with what callers do: fields left out or null, unknown and empty categories, numbers far away."""
    random = np.random.default_rng(5)
    strange = {"channel": ["web", "never seen", "", None], "amount": [0, -7.5, 1e9, -1e30, None], "items": [None, 3.5]}
    sent = []
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        row["customer"] = str(random.choice(["ann", "bob", "eve", "nobody", "Ann "]))
        for name, values in strange.items():
            if random.random() < 0.2:
                row[name] = values[random.integers(len(values))]
        absent = [name for name in (*strange, HISTORY) if random.random() < (0.6 if name == HISTORY else 0.1)]
        sent.append({name: value for name, value in row.items() if name not in absent})
    return sent


def as_known(sent: list[dict[str, Any]], online: pd.DataFrame) -> pd.DataFrame:
    """Return the table of what was sent, with history that is absent looked up."""
    found = pd.DataFrame(sent).astype({"amount": "float64", "items": "float64", HISTORY: "float64", "channel": "str"})
    looked_up = found["customer"].map(online.set_index("customer")["value"]).fillna(PRIOR)
    absent = [HISTORY not in row for row in sent]
    return found.assign(**{HISTORY: found[HISTORY].mask(absent, looked_up)})


def test_ten_thousand_rows_are_answered_over_http_as_the_pipeline_answers_them(project: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("bundles.PARAMS", PARAMS.model_copy(update={"max_rows": max(SIZES), "max_body_mb": 1}))
    bundle = pack(lay_out(model="large", prior=PRIOR))
    assert bundle.compiled.reason == ""
    assert 7 <= compiled.FEW < 500
    sent = as_sent(rows("binary", COUNT)[bundle.features])
    sizes = np.random.default_rng(6).permutation(SIZES)
    assert sizes.sum() == len(sent) == COUNT
    answered: list[dict[str, Any]] = []
    with client.serving(bundle.place) as url, httpx.Client(base_url=url, trust_env=False, timeout=60) as caller:
        for size in sizes:
            answer = caller.post("/predict", json={"rows": sent[len(answered) : len(answered) + size]})
            assert answer.status_code == 200, answer.text
            answered += answer.json()["predictions"]
    online = pd.read_parquet(project.folder / "data/online/rate.parquet")
    wanted = offline(as_known(sent, online))
    found = pd.DataFrame(answered)
    assert (found["probability"] - wanted["probability"]).abs().max() <= 1e-9
    assert found["action"].tolist() == decisions.decide(wanted, bundle.problem)["action"].tolist()
    assert set(found["action"]) == set(bundle.problem.actions)
    assert found["probability"].nunique() > 1000
