"""`launch`: send an artifact, wait until it runs, say so."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, Optional

from agent.cli import artifact, partial
from agent.cli.options import client
from agent.cli.printing import ProgressLine, print_json, print_launch
from agent.cli.watch import Watch
from agent.client import Client, digest
from agent.errors import UsageError
from agent.host import sshsig
from agent.model import parse_version

EPILOG = """\
Without PROJECT, the manifest's "project" counts, else the name of the folder or file. A folder is packed
to a tar first, without .git, __pycache__ and what its .gitignore files name. Of a folder and of a plain tar
only those files are sent that the host does not have from an earlier release. Sending the same artifact
again changes nothing, so this command may be repeated after any failure. A URL is fetched by the agent
itself, and --sha256 says what must be there.

  ant-host-agent.pyz launch ./hello
  ant-host-agent.pyz launch hello dist/hello-1.2.tar.gz --version 1.2
  ant-host-agent.pyz launch hello dist/hello-1.2.tar.gz --version 1.2 --sign ~/.ssh/id_ed25519
  ant-host-agent.pyz launch hello https://builds.example/hello.tgz --sha256 4355a46b19d348dc2f57c046f8ef63d4...
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `launch` takes."""
    parser.add_argument("words", metavar="[PROJECT] ARTIFACT", nargs="+", help="a folder, tar, zip, zipapp, executable or URL")
    parser.add_argument("--version", metavar="V", help="the release's label (default: the manifest's)")
    parser.add_argument("--sha256", metavar="H", help="the digest that the artifact must have (default: computed here)")
    parser.add_argument("--manifest", metavar="FILE", help="what counts instead of the artifact's own anthill.json")
    parser.add_argument("--sign", metavar="FILE", help="sign it with this SSH key, by ssh-keygen; the version is signed, too")
    parser.add_argument("--force", action="store_true", help="try a release of the agent again that failed on this host")
    parser.add_argument("--all", action="store_true", help="pack what .gitignore names, too")


def run(args: argparse.Namespace) -> int:
    """Launch, and print the verdict."""
    agent = client(args)
    with prepared(args), Watch(agent, args.project) as watch, ProgressLine("uploading") as progress:
        reply = ask(agent, args, _followed(progress, watch, args))
    if args.json:
        print_json(reply)
    else:
        print_launch(reply)
    return 0


def _followed(progress: ProgressLine, watch: Watch, args: argparse.Namespace) -> Optional[Callable[[int, int], None]]:
    """What is told of the bytes sent: first the line with the bar, and once all are there what the project does, as it does it.

    On a terminal only: elsewhere the verdict with its steps is all that there is to read.
    """
    if not sys.stderr.isatty() or args.json:
        return progress
    if args.is_url:
        watch.start("asked; the agent fetches the artifact")
        return None

    def told(sent: int, size: int) -> None:
        progress(sent, size)
        if sent >= size:
            progress.close()
            watch.start(f"sent, {size / 1e6:.1f} MB" if size >= 1e6 else f"sent, {size / 1e3:.1f} kB")

    return told


@contextmanager
def prepared(args: argparse.Namespace) -> Iterator[None]:
    """Read the words; pack a folder, once for however many hosts. UsageError names what is missing."""
    if len(args.words) > 2:
        raise UsageError(f"{args.words[2]!r} is one word too many.", "Write `launch [PROJECT] ARTIFACT`.")
    *named, source = args.words
    args.manifest_document = artifact.parse_manifest_file(args.manifest) if args.manifest else None
    args.is_url = source.startswith(("http://", "https://"))
    if args.is_url:
        if not named or not args.sha256:
            raise UsageError(f"{source} needs a project and a digest.", f"Write `launch PROJECT {source} --sha256 DIGEST`.")
        args.project, args.source = named[0], source
        _sign(args)
        yield
        return
    if not named and not os.path.exists(source):
        raise UsageError(f"There is no file or folder {source}.", "Write `launch [PROJECT] ARTIFACT`.")
    args.project = named[0] if named else artifact.project_of(source, args.manifest_document)
    with artifact.on_disk(source, args.all) as args.source:
        _sign(args)
        yield


def _sign(args: argparse.Namespace) -> None:
    """Sign project, version and digest if that was asked for; both are then part of the call."""
    args.signature = None
    if args.sign is None:
        return
    if args.sha256 is None:
        with open(args.source, "rb") as file:
            args.sha256 = digest(file)
    if args.version is None:
        manifest = args.manifest_document or ({} if args.is_url else artifact.read_manifest(args.source))
        args.version = parse_version(manifest.get("version") or args.sha256[:12])
    args.signature = sshsig.sign(sshsig.signed_text(args.project, args.version, args.sha256), args.sign, os.environ)


def ask(agent: Client, args: argparse.Namespace, progress: Any = None) -> Dict[str, Any]:
    """One launch on one host."""
    how = {"manifest": args.manifest_document, "force": args.force, "signature": args.signature}
    if args.is_url:
        return agent.launch_url(args.project, args.source, args.sha256, args.version, **how)
    if partial.is_plain_tar(args.source):
        return partial.launch(agent, args.project, args.source, args.version, args.sha256, progress, **how)
    return agent.launch(args.project, args.source, args.version, args.sha256, progress, **how)
