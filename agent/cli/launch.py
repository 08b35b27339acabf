"""`launch`: send an artifact, wait until it runs, say so."""

from __future__ import annotations

import argparse
import os
import tempfile

from agent.cli.options import client
from agent.cli.pack import pack
from agent.cli.printing import ProgressLine, print_json, print_launch

EPILOG = """\
A folder is packed to a tar.gz first, without .git and __pycache__. Sending the same artifact
again changes nothing, so this command may be repeated after any failure.

  ant-host-agent.pyz launch hello ./hello
  ant-host-agent.pyz launch hello dist/hello-1.2.tar.gz --version 1.2
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `launch` takes."""
    parser.add_argument("project", metavar="PROJECT", help="the project's id: a-z, 0-9 and '-'")
    parser.add_argument("artifact", metavar="ARTIFACT_OR_FOLDER", help="a tar, zip, zipapp, executable, or a folder")
    parser.add_argument("--version", metavar="V", help="the release's label (default: the manifest's)")
    parser.add_argument("--sha256", metavar="H", help="the digest that the artifact must have (default: computed here)")


def run(args: argparse.Namespace) -> int:
    """Launch, and print the verdict."""
    agent = client(args)
    with tempfile.TemporaryFile() as packed, ProgressLine("uploading") as progress:
        artifact = args.artifact
        if os.path.isdir(artifact):
            pack(artifact, packed)
            artifact = packed
        reply = agent.launch(args.project, artifact, args.version, args.sha256, progress)
    if args.json:
        print_json(reply)
    else:
        print_launch(reply)
    return 0
