"""What stands in the table: a row's question, what each asked came to, and how ours compares to the best of the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence

from tests.bench.figure import quantile


@dataclass(frozen=True)
class Row:
    """`why`: what this agent gets for being behind, should it be. Less is better unless `is_more_better`."""

    title: str
    unit: str = ""
    why: str = ""
    is_more_better: bool = False
    quantile: float = 0.5


@dataclass
class Column:
    """What one of them came to, row by row: the text of the cell, the number that it is compared by, and every sample."""

    what: str
    cells: Dict[str, str] = field(default_factory=dict)
    values: Dict[str, float] = field(default_factory=dict)
    samples: Dict[str, Any] = field(default_factory=dict)
    failed: List[str] = field(default_factory=list)

    def add(self, row: Row, values: Sequence[float]) -> None:
        """A median with its spread, or the quantile that the row asks for."""
        self.samples[row.title] = list(values)
        self.values[row.title] = quantile(values, row.quantile)
        spread = f" ({brief(min(values))}…{brief(max(values))})" if len(values) > 1 and row.quantile == 0.5 else ""
        self.cells[row.title] = f"{brief(self.values[row.title])}{spread} {row.unit}".rstrip()

    def say(self, row: Row, text: str, value: float) -> None:
        """A cell in words, and what it counts."""
        self.samples[row.title] = self.values[row.title] = value
        self.cells[row.title] = text


def brief(value: float) -> str:
    """Three significant digits, never in scientific notation."""
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"


def verdict(row: Row, ours: Column, others: Sequence[Column]) -> str:
    """Ahead, as good, or behind of whom by how much and why; empty where there is nothing to compare."""
    rated = [other for other in others if row.title in other.values]
    if row.title not in ours.values or not rated:
        return ""
    sign = -1 if row.is_more_better else 1
    best = min(rated, key=lambda other: sign * other.values[row.title])
    own, theirs = ours.values[row.title], best.values[row.title]
    if own == theirs:
        return "as good as the best"
    larger, smaller = max(own, theirs), min(own, theirs)
    by = f", {brief(larger / smaller)}×" if smaller > 0 else ""
    if sign * own < sign * theirs:
        return f"**ahead** of {best.what.split()[0]}{by}"
    return f"behind {best.what.split()[0]}{by}: {row.why}"


def markdown(rows: Sequence[Row], ours: Optional[Column], others: Sequence[Column]) -> str:
    """The table; with ours in it the last column says how it compares."""
    columns = [*([ours] if ours is not None else []), *others]
    head = ["", *(column.what for column in columns), *(["this agent is …"] if ours is not None else [])]
    lines: List[List[str]] = [head]
    for row in rows:
        if any(row.title in column.cells for column in columns):
            cells = [row.title, *(column.cells.get(row.title, "–") for column in columns)]
            lines.append([*cells, *([verdict(row, ours, others)] if ours is not None else [])])
    lines.insert(1, ["---"] * len(head))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
