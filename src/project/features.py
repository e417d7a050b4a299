"""What is known of each flight two hours before its schedule: its own plan, the weather, the plane."""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.types as ir


# YOURS: one row per event in, one row per event out; add columns, join what is known at that moment.
def build(tables: dict[str, ir.Table], stated: dict[str, Any]) -> ir.Table:
    """Return the flights with calendar, plan, weather at the scheduled hour, and the plane's age and size.

    The recorded weather stands in for a forecast: see the risks in ``params.yaml``.
    """
    return with_plane(with_weather(with_plan(tables["flights"]), tables["weather"]), tables["planes"])


def with_plan(flights: ir.Table) -> ir.Table:
    """Add the local minute of departure and arrival as scheduled (0-1439), and the local weekday (Monday = 0)."""
    return flights.mutate(
        departure_minute=flights.hour * 60 + flights.minute,
        arrival_minute=flights.sched_arr_time // 100 * 60 + flights.sched_arr_time % 100,
        weekday=ibis.date(flights.year, flights.month, flights.day).day_of_week.index(),
    )


def with_weather(flights: ir.Table, weather: ir.Table) -> ir.Table:
    """Join the weather at the origin in the scheduled hour."""
    return flights.left_join(weather, ["origin", "time_hour"]).drop("origin_right", "time_hour_right")


def with_plane(flights: ir.Table, planes: ir.Table) -> ir.Table:
    """Join the plane's seats, and its age in years."""
    planes = planes.select("tailnum", "seats", built=planes.year)
    joined = flights.left_join(planes, "tailnum").drop("tailnum_right")
    return joined.mutate(plane_age=joined.year - joined.built)
