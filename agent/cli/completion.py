"""`completion`: a script for bash or zsh, written from the very table of verbs."""

from __future__ import annotations

import argparse
from typing import List, Mapping, Optional, Set

from agent.config import OPTIONS

EPILOG = """\
  bash, in ~/.bashrc:  eval "$(ant-host-agent.pyz completion bash)"
  zsh, in ~/.zshrc:    eval "$(ant-host-agent.pyz completion zsh)"

Both complete the command `ant-host-agent.pyz` (and `ant-host-agent`): put the file, which is
executable, or a link to it on the PATH. Project ids come from the agent on this host.
"""

#: Verbs whose first word is a project that is there.
OF_PROJECTS = ("status", "why", "logs", "events", "kill", "restart", "rollback", "launch", "secrets")
_NAMES = ("ant-host-agent.pyz", "ant-host-agent")

_BASH = """\
# bash completion of ant-host-agent.pyz
_ant_host_agent() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} verb="" i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in {verb_pattern}) verb=${{COMP_WORDS[i]}}; break ;; esac
    done
    case ${{COMP_WORDS[COMP_CWORD-1]}} in {file_options}) COMPREPLY=($(compgen -f -- "$word")); return ;; esac
    if [[ -z $verb ]]; then
        COMPREPLY=($(compgen -W "{verbs}" -- "$word"))
    elif [[ $word == -* ]]; then
        case $verb in
{cases}
        esac
    else
        case $verb in
        launch) COMPREPLY=($(compgen -W "$(_ant_host_agent_projects "$1")" -- "$word") $(compgen -f -- "$word")) ;;
        {project_pattern}) COMPREPLY=($(compgen -W "$(_ant_host_agent_projects "$1")" -- "$word")) ;;
        completion) COMPREPLY=($(compgen -W "bash zsh" -- "$word")) ;;
        esac
    fi
}}
_ant_host_agent_projects() {{
    "$1" status </dev/null 2>/dev/null | while IFS=$'\\t' read -r project _; do [[ $project == PROJECT ]] || echo "$project"; done
}}
complete -o filenames -F _ant_host_agent {names}
"""

_ZSH = """\
# zsh completion of ant-host-agent.pyz
_ant_host_agent_projects() {{
    local -a lines
    lines=("${{(@f)$($1 status </dev/null 2>/dev/null)}}")
    compadd -- ${{${{lines%%$'\\t'*}}:#PROJECT}}
}}
_ant_host_agent() {{
    local verb="" word
    for word in ${{words[2,CURRENT-1]}}; do
        case $word in ({verb_pattern}) verb=$word; break ;; esac
    done
    case ${{words[CURRENT-1]}} in ({file_options}) _files; return ;; esac
    if [[ -z $verb ]]; then
        compadd -- {verbs}
    elif [[ ${{words[CURRENT]}} == -* ]]; then
        case $verb in
{cases}
        esac
    else
        case $verb in
        (launch) _ant_host_agent_projects $words[1]; _files ;;
        ({project_pattern}) _ant_host_agent_projects $words[1] ;;
        (completion) compadd -- bash zsh ;;
        esac
    fi
}}
if (( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}; then compdef _ant_host_agent {names}; fi
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `completion` takes."""
    parser.add_argument("shell", choices=("bash", "zsh"))


def script(shell: str, parsers: Mapping[str, Optional[argparse.ArgumentParser]]) -> str:
    """The completion script; `serve` has no parser, its options are agent.config's."""
    cases: List[str] = []
    files: Set[str] = set()
    for verb, parser in parsers.items():
        options = options_of(parser)
        files.update(name for name, is_file in options.items() if is_file)
        names = " ".join(options)
        if shell == "bash":
            cases.append(f'        {verb}) COMPREPLY=($(compgen -W "{names}" -- "$word")) ;;')
        else:
            cases.append(f"        ({verb}) compadd -- {names} ;;")
    projects = [verb for verb in OF_PROJECTS if verb in parsers and verb != "launch"]
    return (_BASH if shell == "bash" else _ZSH).format(
        verbs=" ".join(parsers), verb_pattern="|".join(parsers), project_pattern="|".join(projects),
        file_options="|".join(sorted(files)), cases="\n".join(cases), names=" ".join(_NAMES),
    )  # fmt: skip


def options_of(parser: Optional[argparse.ArgumentParser]) -> Mapping[str, bool]:
    """The long options, each with whether a path follows it."""
    if parser is None:
        return {"--" + name.replace("_", "-"): metavar in ("FILE", "DIR") for name, metavar in OPTIONS.items()}
    found: List[argparse.Action] = [action for action in parser._actions if action.option_strings]
    return {action.option_strings[-1]: action.metavar in ("FILE", "DIR") for action in found}
