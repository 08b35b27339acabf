"""The READMEs' pictures, drawn as Mermaid from the code's own tables. `python3 -m tests.architecture.pictures` redraws them."""

from __future__ import annotations

import os
import re
import sys
from typing import Callable, Dict, Mapping, Sequence, Set, Tuple

import build
from agent.shim import machine
from tests.architecture.test_imports import MAY_IMPORT, SUBCOMMANDS

#: File → the pictures in it.
READMES = {"README.md": ("packages", "states"), "agent/README.md": ("states",)}

Edges = Set[Tuple[str, str]]


def packages() -> str:
    """Who may import whom, a package a node; what follows from other arrows is left out."""
    edges = reduced(collapsed(MAY_IMPORT))
    lines = ["flowchart TD", *(f"  {upper} --> {lower}" for upper, lower in sorted(edges))]
    lines += [f"  main -. subcommand .-> {module}" for module in dict.fromkeys(map(group, SUBCOMMANDS))]
    return "\n".join(lines)


def states() -> str:
    """Every transition of a project's life; several events between the same two states share an arrow."""
    arrows: Dict[Tuple[str, str], list[str]] = {}
    for (state, event), after in machine.TRANSITIONS.items():
        arrows.setdefault((state, after), []).append(event.replace("_", " "))
    return "\n".join(
        ["stateDiagram-v2", *(f"  {state} --> {after}: {', '.join(events)}" for (state, after), events in arrows.items())]
    )


PICTURES: Dict[str, Callable[[], str]] = {"packages": packages, "states": states}


def group(module: str) -> str:
    """`agent.shim.record` belongs to `shim`."""
    return module.split(".")[1].strip("_")


def collapsed(table: Mapping[str, Sequence[str]]) -> Edges:
    """The table's rows as arrows between packages."""
    return {(group(row), group(name)) for row, names in table.items() for name in names if group(row) != group(name)}


def reduced(edges: Edges) -> Edges:
    """Without the arrows that a longer way replaces (transitive reduction). ValueError for a circle: it has none."""
    below: Dict[str, Set[str]] = {}

    def reach(node: str, above: Tuple[str, ...]) -> Set[str]:
        if node in above:
            raise ValueError(f"packages import each other in a circle: {' → '.join([*above, node])}")
        if node not in below:
            nexts = [lower for upper, lower in edges if upper == node]
            below[node] = {*nexts, *(far for lower in nexts for far in reach(lower, (*above, node)))}
        return below[node]

    for upper, _ in edges:
        reach(upper, ())
    return {
        (upper, lower)
        for upper, lower in edges
        if not any(upper == start and lower in below[other] for start, other in edges if other != lower)
    }


def redrawn(text: str, names: Sequence[str]) -> str:
    """The text with these pictures as the tables have them now. ValueError if the place of one is not there once."""
    for name in names:
        pattern = rf"(<!-- picture {name} -->\n```mermaid\n).*?(```)"
        text, count = re.subn(pattern, lambda match: f"{match[1]}{PICTURES[name]()}\n{match[2]}", text, flags=re.DOTALL)  # noqa: B023
        if count != 1:
            raise ValueError(f"the place of picture {name} is there {count} times")
    return text


def main() -> int:
    """Redraw every picture."""
    for path, names in READMES.items():
        whole = os.path.join(build.ROOT, path)
        drawn = redrawn(build.read(whole).decode(), names)
        with open(whole, "w", encoding="utf-8") as file:
            file.write(drawn)
    return 0


if __name__ == "__main__":
    sys.exit(main())
