"""Ninefold: machine learning on tables, carried through the nine stages of its life by notebooks."""

import os

# Threads that wait by spinning take the cores from those that work: with anything else running on a small machine,
# boosting took eleven times as long. OpenMP reads this when it is loaded, so it has to stand before any import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
