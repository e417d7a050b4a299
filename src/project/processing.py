"""What is derived from the typed raw tables before the contract is checked: exact times and the target."""

from __future__ import annotations

import ibis


# YOURS: derive columns of the typed tables. Keep every row: rows leave only by the contract, into quarantine.
def refine(tables: dict[str, ibis.Table]) -> dict[str, ibis.Table]:
    """Add to the flights the scheduled minute (UTC), the target, and what is known of a departure two hours on."""
    flights = tables["flights"]
    scheduled = flights.time_hour + flights.minute.as_interval("m")
    flights = flights.mutate(
        scheduled=scheduled,
        late=(flights.arr_delay >= 15).cast("int64"),
        # Two hours after its schedule a departure is either gone, and its delay known, or at least 120 minutes late.
        delay_so_far=flights.dep_delay.fill_null(120.0).clip(-15.0, 120.0),
    )
    return {**tables, "flights": flights}
