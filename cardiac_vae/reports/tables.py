"""Tables of the page: numbers with their intervals, and differences that are more than chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

NO_VALUE = "\N{EN DASH}"
FEW = 5  # recipes that can be read side by side


@dataclass(frozen=True)
class Column:
    """One metric as a column.

    Attributes:
        metric: Its name in a row's metrics, differences or texts.
        title: What the reader sees above it.
        unit: Shown below the title.
        digits: After the decimal point.
        scale: Factor from the stored number to the unit shown.
        is_lower_better: Whether a negative difference is an improvement.
    """

    metric: str
    title: str
    unit: str = ""
    digits: int = 3
    scale: float = 1.0
    is_lower_better: bool = False


@dataclass(frozen=True)
class Row:
    """One variant as a row.

    Attributes:
        label: What the reader sees before it.
        metrics: Metric -> mean, low, high, n.
        differences: Metric -> mean, low, high, n of the paired difference to the first row.
        texts: Metric -> text shown in the place of the mean.
    """

    label: str
    metrics: Mapping[str, Any]
    differences: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Rows that are compared with each other, the reference first.

    Attributes:
        title: Shown above them.
        rows: The variants.
        columns: As many, with the same titles, as in the other groups of the table.
    """

    title: str
    rows: Sequence[Row]
    columns: Sequence[Column]


@dataclass(frozen=True)
class Cell:
    """One number as text.

    Attributes:
        text: What is read first.
        below: What stands below it, smaller.
        is_best: Whether it is emphasized.
    """

    text: str
    below: str = ""
    is_best: bool = False


@dataclass(frozen=True)
class Line:
    """One row of cells.

    Attributes:
        label: What the reader sees before it; it stays in view while the cells scroll.
        cells: One for each column.
        color: Of a swatch before the label; none if empty.
    """

    label: str
    cells: Sequence[Cell]
    color: str = ""


def metric_table(groups: Sequence[Group]) -> str:
    """Return a table with intervals below the values and differences below those.

    A column's best value is emphasized only where its paired difference from the reference row, or
    for the reference itself that of every other row, excludes zero.
    """
    head = "".join(
        f"<th scope='col'>{escape(column.title)}<small>{escape(column.unit)}</small></th>"
        for column in groups[0].columns
    )
    bodies = "".join(_body(group, len(groups[0].columns)) for group in groups)
    return (
        "<div class='scroll'><table class='metrics'><thead><tr><th scope='col'></th>"
        f"{head}</tr></thead>{bodies}</table></div>"
    )


def plain_table(head: Sequence[str], lines: Sequence[Sequence[str]], num_labels: int = 1) -> str:
    """Return a table of texts; the first ``num_labels`` columns are labels, the others numbers."""
    classes = ["label"] * num_labels + ["number"] * (len(head) - num_labels)
    titles = "".join(
        f"<th scope='col' class='{kind}'>{escape(title)}</th>"
        for kind, title in zip(classes, head, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td class='{kind}'>{escape(cell)}</td>"
            for kind, cell in zip(classes, line, strict=True)
        )
        + "</tr>"
        for line in lines
    )
    return (
        f"<div class='scroll'><table><thead><tr>{titles}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def stacked_table(
    heads: Mapping[str, Sequence[tuple[str, str]]], bodies: Sequence[Sequence[Line]]
) -> str:
    """Return a table that stays narrow: intervals below the numbers, columns under group titles.

    ``heads`` is title of a group -> title and unit of its columns; ``bodies`` are set apart by a
    stronger rule.
    """
    titles = "".join(
        f"<th colspan='{len(columns)}' scope='colgroup'>{escape(title)}</th>"
        for title, columns in heads.items()
    )
    over = f"<tr class='over'><td></td>{titles}</tr>" if any(heads) else ""
    starts = [not index for columns in heads.values() for index in range(len(columns))]
    columns = [column for group in heads.values() for column in group]
    named = "".join(
        f"<th scope='col'{_class(first)}>{escape(title)}<small>{escape(unit)}</small></th>"
        for (title, unit), first in zip(columns, starts, strict=True)
    )
    rows = "".join(
        "<tbody>" + "".join(_stacked_line(line, starts) for line in body) + "</tbody>"
        for body in bodies
    )
    return (
        f"<div class='scroll'><table class='stacked'><thead>{over}<tr><td></td>{named}</tr></thead>"
        f"{rows}</table></div>"
    )


def _stacked_line(line: Line, starts: Sequence[bool]) -> str:
    swatch = f"<i class='swatch' style='background:{line.color}'></i>" if line.color else ""
    cells = "".join(
        f"<td{_class(first)}>{_emphasis(cell)}"
        + (f"<small>{escape(cell.below)}</small>" if cell.below else "")
        + "</td>"
        for cell, first in zip(line.cells, starts, strict=True)
    )
    return f"<tr><th scope='row'>{swatch}{escape(line.label)}</th>{cells}</tr>"


def _emphasis(cell: Cell) -> str:
    return f"<b>{escape(cell.text)}</b>" if cell.is_best else escape(cell.text)


def _class(is_first: bool) -> str:
    return " class='first'" if is_first else ""


def number(value: float | None, digits: int, scale: float = 1.0, sign: bool = False) -> str:
    """Return a number as text, with a true minus sign; a dash for None."""
    if value is None:
        return NO_VALUE
    text = f"{value * scale:+.{digits}f}" if sign else f"{value * scale:.{digits}f}"
    if float(text) == 0:
        text = f"{0:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def interval(values: Mapping[str, Any] | None, digits: int, scale: float = 1.0) -> str:
    """Return a mean and its interval as text."""
    if not values:
        return NO_VALUE
    return f"{number(values['mean'], digits, scale)} {limits(values, digits, scale)}"


def limits(values: Mapping[str, Any], digits: int, scale: float = 1.0) -> str:
    """Return the ends of an interval as text; of one patient alone there is none."""
    if values["low"] is None:
        return "(one patient)"
    return f"[{number(values['low'], digits, scale)}, {number(values['high'], digits, scale)}]"


def verdict(difference: Mapping[str, Any] | None, is_lower_better: bool) -> int:
    """Return 1 if a difference is an improvement, -1 if a loss, 0 if its interval holds zero."""
    if not difference or difference["low"] is None:
        return 0
    sign = (difference["low"] > 0) - (difference["high"] < 0)
    return -sign if is_lower_better else sign


def _body(group: Group, num_columns: int) -> str:
    best = [_emphasized(group.rows, column) for column in group.columns]
    lines = "".join(
        f"<tr><th scope='row'>{escape(row.label)}</th>"
        + "".join(
            _cell(row, column, is_best=row is winner)
            for column, winner in zip(group.columns, best, strict=True)
        )
        + "</tr>"
        for row in group.rows
    )
    return (
        f"<tbody><tr class='group'><th colspan='{num_columns + 1}' scope='rowgroup'>"
        f"{escape(group.title)}</th></tr>{lines}</tbody>"
    )


def _cell(row: Row, column: Column, is_best: bool) -> str:
    values = row.metrics.get(column.metric)
    text = row.texts.get(column.metric)
    if text is None:
        text = number(values["mean"] if values else None, column.digits, column.scale)
    parts = [f"<b>{escape(text)}</b>" if is_best else f"<span>{escape(text)}</span>"]
    if values:
        parts.append(f"<small>{limits(values, column.digits, column.scale)}</small>")
    difference = row.differences.get(column.metric)
    if difference:
        kind = {1: "gain", -1: "loss", 0: "even"}[verdict(difference, column.is_lower_better)]
        change = number(difference["mean"], column.digits, column.scale, sign=True)
        parts.append(
            f"<small class='{kind}'>{change} "
            f"{limits(difference, column.digits, column.scale)}</small>"
        )
    return f"<td>{''.join(parts)}</td>"


def _emphasized(rows: Sequence[Row], column: Column) -> Row | None:
    known = [row for row in rows if column.metric in row.metrics]
    if len(known) < 2:
        return None
    sign = 1 if column.is_lower_better else -1
    best = min(known, key=lambda row: sign * row.metrics[column.metric]["mean"])
    judged = [best] if best is not rows[0] else known[1:]
    wanted = 1 if best is not rows[0] else -1
    verdicts = [
        verdict(row.differences.get(column.metric), column.is_lower_better) for row in judged
    ]
    return best if all(found == wanted for found in verdicts) else None
