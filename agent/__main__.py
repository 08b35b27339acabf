"""The entry of the zipapp: picks the subcommand, nothing else.

Every subcommand is imported only when it is the one: `serve` must answer its first ping quickly,
and a shim must stay small.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Callable, List, NoReturn, Optional, Sequence, Tuple

from agent.errors import AgentError, AlreadyRunning

if TYPE_CHECKING:
    from agent.config import ServeConfig

_FLAGS_WITH_VALUE = (
    "--listen",
    "--store",
    "--token-file",
    "--allow-host",
    "--tls-cert",
    "--tls-key",
    "--tls-client-ca",
    "--url",
    "--ca",
    "--client-cert",
    "--token",
    "--host",
    "--hosts-file",
)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one subcommand (default `serve`) and return its exit code; errors end as two lines on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = dispatch(words)
        sys.stdout.flush()
        return code
    except AgentError as error:
        sys.stderr.write(explain(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough. /dev/null takes what the interpreter still flushes at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141


def dispatch(words: List[str]) -> int:
    """Hand the remaining words to the subcommand that they name."""
    gc.disable()  # nothing that is imported is garbage, and the search for it takes a tenth of the start
    subcommand = _load(words)
    gc.enable()
    return subcommand()


def _load(words: List[str]) -> Callable[[], int]:
    verb, rest = pick(words)
    if verb is None and "--version" in words:
        verb, rest = "version", [word for word in rest if word != "--version"]
    if verb == "shim":
        from agent.shim import main as shim

        return lambda: shim.main(rest)
    if verb == "agent":
        from agent.store.unpacker import Unpacker

        own = Unpacker.start()  # while this process has one thread, and is a third of what it will be
        from agent.web.entry import begin

        begun = begin(rest)
        from agent.web import main as web

        return lambda: web.main(begun, own)
    if verb == "unpacker":
        from agent.store import unpacker

        return lambda: unpacker.main(rest)
    if verb in (None, "serve", "boot") and not {"-h", "--help"} & set(words):
        from agent.config import parse_serve
        from agent.store import installed

        config = parse_serve(rest, os.environ)
        installed.prefer(config.store)
        from agent.operations.bootstrap import bootstrap

        return lambda: _serve(bootstrap, config, is_boot=verb == "boot")
    from agent.cli import main as cli

    return lambda: cli.run(verb or "help", rest)


def pick(words: Sequence[str]) -> Tuple[Optional[str], List[str]]:
    """The subcommand and the other words: it is the first word that is neither a flag nor a flag's value."""
    index = 0
    while index < len(words):
        if not words[index].startswith("-"):
            return words[index], [*words[:index], *words[index + 1 :]]
        index += 2 if words[index] in _FLAGS_WITH_VALUE else 1
    return None, list(words)


def explain(error: AgentError) -> str:
    """What a person reads: the sentence, below it what to do; then who survived a kill, and a program's last lines."""
    text = f"ant-host-agent: {error.detail}\n"
    if error.hint:
        text += f"  {error.hint}\n"
    for process in error.members.get("survivors") or ():
        text += f"  survived: pid {process.get('pid')}  {process.get('command')}\n"
    tail = error.members.get("log_tail") or ()
    lines = tail.splitlines() if isinstance(tail, str) else [str(line) for line in tail]
    if lines:
        text += "  Its last output:\n" + "".join(f"  | {line}\n" for line in lines)
    return text


def _serve(bootstrap: Callable[[ServeConfig, bool], NoReturn], config: ServeConfig, is_boot: bool) -> int:
    """Only ever returns after an upgrade of the agent that runs already, which the boot of a host never is."""
    try:
        bootstrap(config, is_boot)
    except AlreadyRunning as running:
        if is_boot:
            raise
        from agent.cli import upgrade

        return upgrade.run(running)


if __name__ == "__main__":
    sys.exit(main())
