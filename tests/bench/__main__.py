"""Measure: `python3 build.py bench [ROW …] [--quick] [--cycles N] [--json FILE]`, or beside others: `bench --peers [NAME …]
[--json FILE] [--markdown FILE] [--paste]`.

Nothing here fails for being slow.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
import traceback
from typing import Any, Dict, List, Tuple

import build
from tests.bench.figure import Figure
from tests.bench.peers.comparison import NAMES, compare
from tests.bench.setting import Setting
from tests.bench.table import markdown

#: Each is a module of tests.bench.rows with `measure(setting) -> List[Figure]`; they run in this order.
ROWS = (
    "size", "start", "launch", "upload_raw", "upload_multipart", "logs", "describe", "numbered", "shims", "idle", "capture",
    "ping", "kill", "deaths", "history", "scale", "fleet", "cycles",
)  # fmt: skip

#: Between these lines README has the table of `--peers`.
_BEGIN, _END = "<!-- measured peers -->", "<!-- end -->"


def main(words: List[str]) -> int:
    """0; 1 when a row could not be measured (its reason is on stderr)."""
    arguments = _parse(words)
    figures: Dict[str, List[Figure]] = {}
    failed: Dict[str, str] = {}
    print(f"Load before: {_loads()}; {os.cpu_count()} cores; {platform.platform()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ant-bench-") as folder:
        # a copy: whoever builds meanwhile must not change what is measured
        pyz = shutil.copy(os.environ.get("ANT_TEST_PYZ") or build.build(), folder)
        cycles = arguments.cycles or (50 if arguments.quick else 10_000)
        setting = Setting(pyz, arguments.python, arguments.quick, cycles, arguments.plots)
        if arguments.peers:
            return _compare(setting, tuple(arguments.rows), arguments)
        for row in arguments.rows or ROWS:
            started = time.monotonic()
            try:
                figures[row] = importlib.import_module(f"tests.bench.rows.{row}").measure(setting)
            except Exception as error:
                traceback.print_exc()
                failed[row] = f"{type(error).__name__}: {error}"
            sys.stderr.write(f"{row}: {time.monotonic() - started:.0f} s\n")
    print(markdown(figures))
    for row, reason in failed.items():
        print(f"- {row} could not be measured: {reason[:300]}")
    print(f"Load after: {_loads()}")
    if arguments.json:
        rows = {row: [figure.to_json() for figure in given] for row, given in figures.items()}
        _write(arguments.json, {"rows": rows, "failed": failed})
    return 1 if failed else 0


def _compare(setting: Setting, names: Tuple[str, ...], arguments: argparse.Namespace) -> int:
    """0; 1 when a peer could not be had here, or a row of one could not be measured."""
    before = _loads()
    found = compare(setting, names)
    title = (
        f"Measured by `python3 build.py bench --peers` on {time.strftime('%Y-%m-%d')}: {os.cpu_count()} cores of "
        f"{platform.machine()}, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}; the machine's load "
        f"was {before} before and {_loads()} after. Median (min…max)."
    )
    text = f"{title}\n\n{found.table}\n"
    print(text)
    if arguments.markdown:
        with open(arguments.markdown, "w", encoding="utf-8") as file:
            file.write(text)
    if arguments.paste:
        _paste(os.path.join(build.ROOT, "README.md"), text)
    if arguments.json:
        _write(arguments.json, {"peers": found.samples})
    return 1 if found.failed else 0


def _paste(path: str, text: str) -> None:
    """Put the text between the marks that the file has for it. ValueError if it has none."""
    with open(path, encoding="utf-8") as file:
        before, begin, rest = file.read().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"{path} has no place for the table: {_BEGIN} … {_END}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{begin}\n{text}{end}{after}")


def _parse(words: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="build.py bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; with --peers, names of these")
    parser.add_argument("--peers", action="store_true", help="ask supervisord, circus, PM2, runit and s6 the same as us")
    parser.add_argument("--quick", action="store_true", help="a few repetitions and 64 MiB in place of 1 GiB")
    plots = os.path.join(build.DIST, "bench")
    parser.add_argument("--plots", default=plots, metavar="FOLDER", help="where curves are drawn (dist/bench)")
    parser.add_argument("--cycles", type=int, help="launch/kill cycles (10000; quick 50)")
    parser.add_argument("--markdown", metavar="FILE", help="with --peers: write the table there, too")
    parser.add_argument("--paste", action="store_true", help="with --peers: put the table into README.md, too")
    parser.add_argument("--json", metavar="FILE", help="write every sample there")
    parser.add_argument("--python", default=os.path.realpath(sys.executable), help="the agent's interpreter")
    arguments = parser.parse_args(words)
    known = NAMES if arguments.peers else ROWS
    unknown = set(arguments.rows) - set(known)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return arguments


def _loads() -> str:
    return " ".join(f"{load:.1f}" for load in os.getloadavg())


def _write(path: str, found: Dict[str, Any]) -> None:
    host = {"platform": platform.platform(), "cores": os.cpu_count(), "load_after": os.getloadavg()}
    document: Dict[str, Any] = {"schema": 1, "host": host, **found}
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
