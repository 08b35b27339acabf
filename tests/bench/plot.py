"""Cost curves as SVG, without a library: how something grows with a number, drawn on a logarithmic axis."""

from __future__ import annotations

import math
import os
from html import escape
from typing import Dict, List, Sequence, Tuple

Curve = Sequence[Tuple[float, float]]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 900, 400, 40, 340, 40, 50
_COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8e5ea2", "#b8860b", "#444444")


def write(folder: str, name: str, title: str, across: str, curves: Dict[str, Curve]) -> str:
    """Write `<folder>/<name>.svg`; its path. Each curve is scaled to its own largest value, which its label tells."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"{name}.svg")
    with open(path, "w", encoding="utf-8") as file:
        file.write(_svg(title, across, curves))
    return path


def _svg(title: str, across: str, curves: Dict[str, Curve]) -> str:
    numbers = sorted({x for curve in curves.values() for x, _ in curve})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(across)}</text>',
    ]
    for number in numbers:
        x = _across(number, numbers)
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_HEIGHT - _BOTTOM}" stroke="#dddddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{number:g}</text>')
    for index, (label, curve) in enumerate(curves.items()):
        parts += _drawn(label, curve, numbers, _COLOURS[index % len(_COLOURS)], _TOP + 12 + 34 * index)
    return "\n".join([*parts, "</svg>", ""])


def _drawn(label: str, curve: Curve, numbers: Sequence[float], colour: str, label_y: float) -> List[str]:
    largest = max((y for _, y in curve), default=0.0) or 1.0
    points = [(_across(x, numbers), _HEIGHT - _BOTTOM - y / largest * (_HEIGHT - _TOP - _BOTTOM)) for x, y in curve]
    text_x = _WIDTH - _RIGHT + 14
    first, last = curve[0][1], curve[-1][1]
    return [
        f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points),
        f'<text x="{text_x}" y="{label_y}" fill="{colour}">{escape(label)}</text>',
        f'<text x="{text_x}" y="{label_y + 14}" fill="{colour}">{first:.3g} → {last:.3g}</text>',
    ]


def _across(number: float, numbers: Sequence[float]) -> float:
    low, high = math.log10(max(numbers[0], 1)), math.log10(max(numbers[-1], 10))
    return _LEFT + (math.log10(max(number, 1)) - low) / ((high - low) or 1) * (_WIDTH - _RIGHT - _LEFT)
