"""Ninefold: machine learning on tables, carried through the nine stages of its life by notebooks."""

import os
import sys

# Threads that wait by spinning take the cores from those that work: with anything else running on a small machine,
# boosting took eleven times as long. OpenMP reads this when it is loaded, so it has to stand before any import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # which has no such policy: a linear model took five times the time

# nbformat imports jsonschema, which would compile 2 s worth of grammars for a check that no notebook needs
# (python-jsonschema/jsonschema issue 1428). An entry of None makes that optional import fail at once.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
