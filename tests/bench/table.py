"""The figures as a markdown table."""

from __future__ import annotations

import math
from typing import Iterator, Mapping, Sequence

from tests.bench.figure import Figure, quantile

_HEAD = ("row", "what", "median", "min…max", "n", "bare reference", "bare median", "ours to bare", "goal")


def markdown(rows: Mapping[str, Sequence[Figure]]) -> str:
    """The table, and the notes below it."""
    lines = [_line(_HEAD), "|" + "---|" * len(_HEAD)]
    notes = []
    for row, figures in rows.items():
        for figure in figures:
            lines.append(_line(list(_cells(row, figure))))
            if figure.note:
                notes.append(f"- {row}, {figure.what}: {figure.note}")
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def _cells(row: str, figure: Figure) -> Iterator[str]:
    label = "" if figure.quantile == 0.5 else f"p{figure.quantile * 100:g} "
    yield row
    yield figure.what
    yield f"{label}{_number(figure.central)} {figure.unit}"
    yield f"{_number(min(figure.values))}…{_number(max(figure.values))}" if figure.values else "-"
    yield str(len(figure.values))
    yield figure.bare_is
    yield f"{label}{_number(quantile(figure.bare, figure.quantile))} {figure.unit}" if figure.bare else ""
    yield figure.comparison
    yield figure.goal


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float) -> str:
    """Three significant digits, whole numbers as they are."""
    if math.isnan(value):
        return "-"
    if value == int(value) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def steps_note(replies: Sequence[Mapping[str, float]]) -> str:
    """The medians of the steps that replies to launches name, in milliseconds."""
    names = list(dict.fromkeys(name for reply in replies for name in reply))
    parts = [f"{name} {_number(1000 * quantile([r[name] for r in replies if name in r], 0.5))}" for name in names]
    return "steps of the reply, median ms: " + ", ".join(parts)
