"""Ninefold: machine learning on tables, carried through the nine stages of its life by notebooks."""
