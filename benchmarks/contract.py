"""Send the service ten thousand requests made from its OpenAPI document, valid and not, and count what breaks it.

The bundles are those of the tests: two classes with keys and history, several with texts and dates behind a token, a
quantity. Tests send a tenth of this, see `tests/serving/test_app.py`.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import HERE, ROOT, write_section

sys.path.insert(0, str(ROOT / "tests"))

RESULTS = HERE / "contract.csv"
CASES = {"binary": None, "multiclass": "a-token", "regression": None}
SEQUENCES = 2  # for each case that is made at random; a sequence has several requests


def measured(case: str, token: str | None, fuzzed: int) -> dict[str, Any]:
    """Return what came of the requests to the service of one bundle."""
    import bundles
    import conftest
    import contract

    from ninefold.serving import app as service

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        conftest.Project(Path(folder))
        app = service.create_app(bundles.pack(bundles.lay_out(case)), token=token)
        began = time.perf_counter()
        found = contract.run(app, fuzzed, fuzzed // SEQUENCES, token)
        seconds = time.perf_counter() - began
        os.chdir(ROOT)
    for what, again in found.breaches.items():
        print(f"{what}\n    {again}", file=sys.stderr)
    ways = ("examples", "coverage", "fuzzing", "stateful")
    statuses = {
        f"{kind}xx": sum(found.statuses[key] for key in found.statuses if key[1] // 100 == kind) for kind in (2, 4, 5)
    }
    phases = {way: found.phases[way] for way in ways}
    return {"bundle": case, **phases, "cases": found.phases.total(), **statuses, "breaches": len(found.breaches), "seconds": round(seconds)}  # fmt: skip


def report(rows: list[dict[str, Any]]) -> list[str]:
    """Return the section of the report."""
    import schemathesis

    cases, breaches, failed = (sum(row[name] for row in rows) for name in ("cases", "breaches", "5xx"))
    titles = ["bundle", "examples", "systematic", "at random", "in sequences", "cases", "2xx", "4xx", "5xx", "breaches"]
    lines = [
        "## The contract of the service",
        "",
        "Requests that Schemathesis makes from the OpenAPI document: what it describes and what it excludes, for every",
        "operation, with a fixed seed. A breach is a 5xx, a status, a type of content or a body that the document does not have,",
        "a wrong request that is accepted, a right one that is refused, or a route that forgets to ask for its token.",
        "",
        f"Schemathesis {schemathesis.__version__}.",
        "",
        f"| {' | '.join(titles)} |",
        f"|---|{'---:|' * (len(titles) - 1)}",
    ]
    keys = ["bundle", "examples", "coverage", "fuzzing", "stateful", "cases", "2xx", "4xx", "5xx", "breaches"]
    for row in rows:
        lines.append("| " + " | ".join(f"{row[key]:,}" if key != "bundle" else row[key] for key in keys) + " |")
    lines += ["", f"{cases:,} cases: {failed} answered with a 5xx, {breaches} kinds of breaches."]
    return [*lines, "", "Made by `python benchmarks/contract.py`, from [contract.csv](contract.csv)."]


def main() -> None:
    """Send what is asked for, and write the section of the report; fail if something broke the contract."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fuzzed", type=int, default=440, help="cases at random for each operation of each bundle")
    options = parser.parse_args()
    rows = [measured(case, token, options.fuzzed) for case, token in CASES.items()]
    with RESULTS.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_section("contract", report(rows))
    if any(row["breaches"] for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
