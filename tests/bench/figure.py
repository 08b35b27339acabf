"""What a row gives: samples of ours and of the bare reference, and how the two are compared."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any, Dict, Sequence


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    `values` and `bare` are samples in `unit`; `bare_is` says what the reference is. `quantile` is the one that stands
    for the samples: 0.5, the median, unless it is said. With `difference` ours less bare is shown, not ours / bare.
    """

    what: str
    unit: str
    values: Sequence[float]
    bare: Sequence[float] = ()
    bare_is: str = ""
    goal: str = ""
    note: str = ""
    quantile: float = 0.5
    difference: bool = False

    @property
    def central(self) -> float:
        """The quantile of ours."""
        return quantile(self.values, self.quantile)

    @property
    def comparison(self) -> str:
        """Ours against the reference, as the table shows it; empty without one."""
        if not self.bare or not self.values:
            return ""
        bare = quantile(self.bare, self.quantile)
        if self.difference:
            return f"{self.central - bare:+.3g} {self.unit}"
        return f"{self.central / bare:.2f}x" if bare else ""

    def to_json(self) -> Dict[str, Any]:
        """With every sample, so that two runs can be compared afterwards."""
        return {
            "what": self.what, "unit": self.unit, "quantile": self.quantile, "values": list(self.values),
            "bare": list(self.bare), "bare_is": self.bare_is, "comparison": self.comparison, "goal": self.goal,
            "note": self.note,
        }  # fmt: skip


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` of all do not exceed; the usual median for 0.5; NaN of nothing."""
    if not values:
        return math.nan
    if share == 0.5:
        return statistics.median(values)
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
