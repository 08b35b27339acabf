"""What the kernel of this machine lets a process do, where a test has to know."""

from __future__ import annotations

import os
import subprocess

from agent.host.pidfd import take_descriptor


def gives_descriptors() -> bool:
    """Whether one process may have copies of another's descriptors (pidfd_getfd(2)): some containers forbid it."""
    with subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL) as child:
        try:
            os.close(take_descriptor(child.pid, 0))
            return True
        except OSError:
            return False
        finally:
            child.kill()
