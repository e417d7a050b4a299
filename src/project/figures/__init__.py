"""Figures of the notebooks, a module per stage: change them as you like."""
