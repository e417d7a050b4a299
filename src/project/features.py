"""What is known of each flight two hours before its schedule: its own plan, beside the weather and the plane."""

from __future__ import annotations

import ibis.expr.types as ir

from ninefold import engine
from ninefold.problem import Problem


# YOURS: one row per event in, one row per event out; add columns. `features.joins` has joined the related tables.
def build(tables: dict[str, ir.Table], problem: Problem) -> ir.Table:
    """Return the flights with local minutes of departure and arrival as scheduled (0-1439), weekday (Monday = 0), plane age.

    The recorded weather, which ``features.joins`` names, stands in for a forecast: see the risks in ``params.yaml``.
    """
    flights = tables["flights"]
    departure = engine.local_time(flights.scheduled, problem.timezone)
    return flights.mutate(
        departure_minute=departure.hour() * 60 + departure.minute(),
        arrival_minute=flights.sched_arr_time // 100 * 60 + flights.sched_arr_time % 100,
        weekday=departure.day_of_week.index(),
        plane_age=flights.year - flights.built,
    )
