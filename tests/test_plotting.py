"""What figures of several stages share: names of the data are drawn as they are, and intervals where they belong."""

from typing import Any

import pandas as pd
import pytest

from ninefold import plotting

LONG = "a name that never ends " * 9


@pytest.mark.parametrize(
    ("name", "shown"), [("$x$", r"\$x\$"), ("a\tb\n c", "a b c"), ("", '""'), (7, "7"), (LONG, f"{LONG[:31]}…")]
)
def test_a_name_is_plain_short_and_on_one_line(name: object, shown: str) -> None:
    assert plotting.label(name) == shown


def test_lines_have_their_first_name_on_top_and_intervals_are_not_below_zero() -> None:
    table = pd.DataFrame({"value": [3.0, 2.0], "low": [1.0, 2.1], "high": [4.0, 5.0]})
    reach = plotting.reach(table, "value")
    assert reach.tolist() == [[2, 0], [1, 3]]
    fig, (axes,) = plotting.panels("Which?", 1, 2)
    plotting.name_lines(axes, ["$a$", "b"])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [r"\$a\$", "b"]
    assert axes.get_ylim() == (1.5, -0.5)
    fig.canvas.draw()


@pytest.mark.parametrize(("count", "grid"), [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 2)), (7, (3, 3))])
def test_panels_stand_side_by_side_spare_ones_are_empty_and_one_of_nothing_says_so(count: int, grid: Any) -> None:
    fig, axes = plotting.panels("Which?", count, 2)
    assert axes[0].get_gridspec().get_geometry() == grid
    assert [each for each in fig.axes if each.axison] == axes
    fig, axes = plotting.panels("Which?", 0, 2)
    assert (axes, [text.get_text() for text in fig.axes[0].texts]) == ([], ["nothing to compare"])
