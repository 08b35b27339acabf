"""How a host is told to run the agent from its boot on: systemd's unit, and what to write where other programs do that."""

from __future__ import annotations

import shlex
from typing import Optional, Sequence

#: systemd.service(5), systemd.exec(5), systemd.kill(5), systemd.resource-control(5).
_UNIT = """\
[Unit]
Description=ant-host-agent: launches and supervises the projects of this host
After=network.target local-fs.target
# it is tried again for ever: a host without its agent can't be repaired from afar
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
# TLS certificates are read again
ExecReload=/bin/sh -c "kill -HUP $MAINPID"
{user}Restart=always
RestartSec=1
# an agent that is stopped or restarted leaves its projects at work
KillMode=process
TimeoutStartSec=300
TimeoutStopSec=60
WatchdogSec=60
# limits of projects need control groups of their own
Delegate=yes
DelegateSubgroup=self
TasksMax=infinity
# when memory runs out, a project goes first, and its end is no end of the agent
OOMScoreAdjust=-900
OOMPolicy=continue

[Install]
WantedBy=multi-user.target
"""

_ELSEWHERE = """\
This host does not run systemd. The file is in place; what runs at boot here has to run it, in the foreground, as {user}:

  {command}

cron: one line for `crontab -e{crontab}`
  @reboot {command} >/dev/null 2>&1

OpenRC: /etc/init.d/ant-host-agent with mode 0755, then `rc-update add ant-host-agent default`
  #!/sbin/openrc-run
  supervisor=supervise-daemon
  command={program}
  command_args={arguments}
  command_user={user}
  respawn_delay=1
  respawn_max=0

s6, runit: an executable file `run` in the service's own directory
  #!/bin/sh
  exec {become}{command} 2>&1
"""


def systemd_unit(command: Sequence[str], user: Optional[str]) -> str:
    """`ant-host-agent.service` for this command line; `user` None is root."""
    return _UNIT.format(command=" ".join(map(_for_systemd, command)), user=f"User={user}\n" if user else "")


def elsewhere(command: Sequence[str], user: Optional[str]) -> str:
    """The lines to put where there is no systemd."""
    return _ELSEWHERE.format(
        command=shlex.join(command), user=user or "root", crontab=f" -u {user}" if user else "",
        program=command[0], arguments=shlex.quote(shlex.join(command[1:])), become=f"s6-setuidgid {user} " if user else "",
    )  # fmt: skip


def _for_systemd(word: str) -> str:
    """One word of an ExecStart= line ("COMMAND LINES" and "SPECIFIERS" in systemd.service(5) and systemd.unit(5))."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if escaped and not set(escaped) & set(" \t\"'\\;") else f'"{escaped}"'
