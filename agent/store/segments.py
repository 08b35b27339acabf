"""The names of the files that output is kept in."""

from __future__ import annotations

import os
from typing import List

_PREFIX, _SUFFIX = "output-", ".log"


def segment_name(number: int) -> str:
    """The file name of one segment; names sort in the order of writing."""
    return f"{_PREFIX}{number:08d}{_SUFFIX}"


def segment_numbers(directory: str) -> List[int]:
    """The segments in a project's `logs/`, oldest first."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    digits = (name[len(_PREFIX) : -len(_SUFFIX)] for name in names if name.startswith(_PREFIX) and name.endswith(_SUFFIX))
    return sorted(int(number) for number in digits if number.isdigit())
