"""Figures as images of a page: small SVG, and the values of their points, which the page shows beside the pointer."""

import base64
import io
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import dates, ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text

from ninefold import labels

LARGEST_SVG = 200_000  # bytes; a PNG of many marks is smaller
# A formula, or a power of ten: `plotting.theme` takes other texts between dollar signs as they are.
FORMULA = re.compile(r"\\[^$]")
MOST_LETTERS = 76  # of the name of a tick
MOST_POINTS = 200  # of a line, or marks: every nth of more


def picture(drawing: Figure) -> dict[str, str]:
    """Return a figure as the source of an image (``picture``), SVG or PNG, and its `values` as JSON (``points``); close it."""
    _label(drawing)

    def rendered(**options: Any) -> bytes:
        stream = io.BytesIO()
        with plt.rc_context({"svg.hashsalt": "ninefold"}):  # else ids of its parts are random
            drawing.savefig(stream, bbox_inches="tight", **options)
        return stream.getvalue()

    source = _small(rendered(format="svg", metadata={"Date": None, "Creator": None}).decode())
    if len(source) > LARGEST_SVG:
        source = f"png;base64,{base64.b64encode(rendered(format='png', dpi=160, metadata={'Software': None})).decode()}"
    points = json.dumps(values(drawing), ensure_ascii=False, separators=(",", ":"))
    plt.close(drawing)
    return {"picture": f"data:image/{source}", "points": points}


def _label(drawing: Figure) -> None:
    """Give what is named by a column its label, classes their names, shares per cent; a dollar sign is just one."""
    target, classes = labels.classes()
    names = {str(value): name for value, name in classes.items()}
    for legend in filter(None, [*drawing.legends, *(axes.get_legend() for axes in drawing.axes)]):
        for text in legend.get_texts() if legend.get_title().get_text() == target else ():
            text.set_text(names.get(text.get_text(), text.get_text()))
    for axis in (axis for axes in drawing.axes for axis in (axes.xaxis, axes.yaxis)):
        if axis.get_label_text().startswith("share of") and type(axis.get_major_formatter()) is ticker.ScalarFormatter:
            axis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=None))
        old = new = [tick.get_text() for tick in axis.get_ticklabels()]
        if axis.get_label_text() == target and names.keys() >= {*old}:
            new = [names[text] for text in old]
        new = [text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…" for text in map(_labelled, new)]
        if new != old:
            axis.set_ticks(axis.get_ticklocs(), new)
    for text in drawing.findobj(Text):
        text.set_parse_math(bool(FORMULA.search(text.get_text())))
        text.set_text(_labelled(text.get_text()))


def _labelled(text: str) -> str:
    """Return a text, or parts of it between commas or colons, with the labels of columns."""
    plain = text.replace(r"\$", "$")
    return text if FORMULA.search(text) else "".join(map(labels.of, re.split("(: |, )", plain)))


def _small(svg: str) -> str:
    """Return an SVG file for a URL: without comments, names of groups, needless spaces, and decimals that cannot be seen."""
    svg = re.sub(r'<\?[^>]*>|<![^>]*>|(?s:<metadata>.*?</metadata>)|(?<=<g) id="[^"]*"', "", svg)
    needless = re.compile(r'(\.\d\d)\d+|\s+(?=[A-Za-z"])|(?<=[A-Z])\s+')
    svg = re.sub(r'(?s) d="[^"]*"', lambda path: " " + needless.sub(r"\1", path[0][1:]), svg)
    svg = re.sub(r"\s+", " ", svg).replace("> <", "><").replace('"', "'")
    return "svg+xml," + quote(svg.strip(), safe=" !$'()*+,/:;=?@[]^{|}~")


def values(drawing: Figure) -> list[Any]:
    """Return the points of a figure by series: its panel, its label, names of its scales, and per point its place and texts.

    Places are in thousandths of the picture, from its lower left corner; those outside are not seen.
    """
    box, series = drawing.get_tightbbox().padded(0.1), []  # in inches, as of ``savefig``, which comes first
    for axes in drawing.axes:
        for label, places, scales, numbers in _series(axes):
            at = 1000 * (axes.transData.transform(places) / drawing.dpi - box.min) / box.size
            at = np.nan_to_num(at, nan=-1, posinf=-1, neginf=-1).round().astype("int64")
            points = [[*place, *map(_text, scales, row)] for place, row in zip(at.tolist(), numbers, strict=True)]
            names = [each.label.get_text() or getattr(drawing, f"get_sup{each.axis_name}label")() for each in scales]
            series.append([axes.get_title("left") or axes.get_title(), str(label), names, points])
    return series


def _series(axes: Axes) -> Iterator[tuple[Any, np.ndarray, list[Any], np.ndarray]]:
    """Yield the error bars (two points each), bars, lines, marks and cells of a panel: label, places, scales, and numbers."""
    both, errors = [axes.xaxis, axes.yaxis], [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
    labels, caps = {each[0]: each.get_label() for each in errors}, {cap for each in errors for cap in each[1]}
    if ends := [end for each in errors for part in each[2] for bar in part.get_segments() for end in bar]:
        yield "_interval", np.array(ends), both, np.array(ends)
    for bars in (each for each in axes.containers if isinstance(each, BarContainer)):
        order = -1 if bars.orientation == "vertical" else 1
        tops, lengths = (np.array([of, bars.position_centers]).T[:, ::order] for of in (bars.tops, bars.datavalues))
        yield bars.get_label(), tops, both, lengths
    lines: list[Any] = [each for each in axes.lines if each not in caps and each.get_transform() == axes.transData]
    for marks in [*lines, *(each for each in axes.collections if isinstance(each, PathCollection))]:
        points = np.array(marks.get_xydata() if marks in lines else marks.get_offsets())
        points = points[:: len(points) // MOST_POINTS + 1]
        yield labels.get(marks, marks.get_label()), points, both, points
    for cells in axes.collections:
        if isinstance(cells, QuadMesh) and cells.colorbar and (shades := cells.get_array()) is not None:
            points = np.argwhere(~np.ma.getmaskarray(shades))[:, ::-1] + 0.5
            yield "_", points, [*both, cells.colorbar.long_axis], np.column_stack([points, np.ma.compressed(shades)])


def _text(scale: Axis, number: float) -> str:
    """Return a number as its scale shows it: a category, a date, a share, or else with four significant digits."""
    form, rounded = scale.get_major_formatter(), f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"
    with suppress(Exception):  # a formatter of the user's may take the place among the ticks, too
        if isinstance(form, ticker.FixedFormatter):
            ticks = zip(scale.get_ticklocs(), scale.get_ticklabels(), strict=False)
            return next((tick.get_text() for place, tick in ticks if abs(place - number) < 0.5), "")
        if isinstance(form, dates.AutoDateFormatter):
            return str(np.datetime64(round(number * 1440), "m")).replace("T", " ").removesuffix(" 00:00")
        if not isinstance(form, ticker.ScalarFormatter | ticker.LogFormatter):
            return str(form(number if abs(number) >= 1000 else float(rounded)))  # names of ticks may be numbers
    return rounded
