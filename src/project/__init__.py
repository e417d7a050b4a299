"""Yours: what is particular to your problem. Every function here is optional; the machinery has defaults."""
