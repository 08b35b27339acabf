"""A whole computer: Debian with systemd as its first process, emulated by qemu, driven over a virtual serial port.

The image has no network and asks for no name. What is run in it is told as JSON lines over a port, so that neither an
address nor a port of this host plays a part.

It is lean, since an emulated processor is some ten times slower than a real one: what a host has and no test looks at (udev,
logins, timers) is masked. And its clock counts instructions while there are any (`-icount`), two nanoseconds each: however busy
this host is, what runs in the machine gets as much done before its deadlines as on a quiet one.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shlex
import shutil
import socket
import subprocess
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence

from tests.support.wait import eventually

PROGRAMS = ("qemu-system-x86_64", "mmdebstrap", "mkfs.ext4")
PACKAGES = "systemd,systemd-sysv,python3,linux-image-cloud-amd64"
#: A boot takes 10 to 60 s. With the patience of `eventually` this is 10 minutes.
BOOT_SECONDS = 150.0
BUILD_SECONDS = 900.0
_ANSWER_SECONDS = 5.0
_IMAGE_BYTES = 2 << 30
_KERNEL_OPTIONS = "root=/dev/vda rw console=ttyS0 quiet panic=1 systemd.show_status=0 fsck.mode=skip mitigations=off audit=0"

#: The first file system holds these modules and no others: path in the image → text.
_INITRAMFS = {
    "etc/initramfs-tools/conf.d/lean": "MODULES=list\n",
    "usr/share/initramfs-tools/modules.d/lean": "virtio_pci\nvirtio_blk\nvirtio_console\nvirtio_rng\next4\n",
}
#: What no test looks at and each boot would wait for, or what would run at a time of its own.
_MASKED = """
apt-daily-upgrade.timer apt-daily.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
systemd-tmpfiles-clean.timer
console-getty.service getty-static.service getty@.service serial-getty@.service systemd-logind.service
systemd-ask-password-console.path systemd-ask-password-wall.path systemd-initctl.socket
systemd-udev-trigger.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udevd.service
kmod-static-nodes.service modprobe@.service systemd-modules-load.service
dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount
sys-kernel-tracing.mount proc-sys-fs-binfmt_misc.automount systemd-binfmt.service systemd-fsckd.socket systemd-pstore.service
systemd-network-generator.service systemd-networkd.service systemd-timesyncd.service
systemd-firstboot.service systemd-machine-id-commit.service systemd-random-seed.service systemd-sysusers.service
systemd-journal-flush.service systemd-update-utmp-runlevel.service systemd-update-utmp.service
""".split()

_DRIVER = '''
import glob, json, os, subprocess, time
port = os.open(glob.glob("/dev/vport*p1")[0], os.O_RDWR)  # while there is none, systemd tries it again
asked = b""
while True:
    data = os.read(port, 65536)
    if not data:  # nobody is at the other end
        time.sleep(0.1)
    *lines, asked = (asked + data).split(b"\\n")
    for line in lines:
        call = json.loads(line)
        done = subprocess.run(call["command"], stdin=subprocess.DEVNULL, capture_output=True, cwd="/")
        answer = {"id": call["id"], "code": done.returncode, "output": done.stdout.decode(errors="replace"),
                  "errors": done.stderr.decode(errors="replace")}
        left = json.dumps(answer).encode() + b"\\n"
        while left:
            left = left[os.write(port, left):]
'''
_UNIT = """
[Unit]
Description=runs what the test says
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/bin/python3 /opt/driver.py
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
"""
#: What else is in the image: path in it → text.
_FILES = {"opt/driver.py": _DRIVER, "etc/systemd/system/driver.service": _UNIT, "etc/machine-id": f"{1:032x}\n"}


class NotBuilt(Exception):
    """There is no image, and why: no fault of what is tested."""


@dataclass(frozen=True)
class Image:
    """A root file system, and the kernel and first file system that boot it."""

    disk: str
    kernel: str
    initrd: str


@dataclass(frozen=True)
class Done:
    """How a command in the machine ended."""

    code: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        """What it printed, read as JSON."""
        assert self.code == 0, self
        return json.loads(self.output)


def build_image(folder: str, files: Mapping[str, str]) -> Image:
    """An image in `folder` that also holds these files (path in the image → path here, or folder). NotBuilt if that can't be."""
    for program in PROGRAMS:
        if shutil.which(program, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin") is None:
            raise NotBuilt(f"there is no {program}")
    root = os.path.join(folder, "root")
    lean = os.path.join(folder, "lean")
    for path, text in _INITRAMFS.items():
        _write(os.path.join(lean, path), text)
    _run("mmdebstrap", "--mode=root", "--variant=essential", f"--include={PACKAGES}", "--format=directory",
         f"--essential-hook=cp -R {shlex.quote(lean)}/. \"$1\"",
         "--aptopt=APT::Install-Recommends false", "--dpkgopt=force-unsafe-io", _suite(), root, *_sources())  # fmt: skip
    for path, text in _FILES.items():
        _write(os.path.join(root, path), text)
    units = os.path.join(root, "etc/systemd/system")
    for unit in _MASKED:
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(units, unit))
        os.symlink("/dev/null", os.path.join(units, unit))
    os.symlink("/etc/systemd/system/driver.service", f"{units}/multi-user.target.wants/driver.service")
    for inside, here in files.items():
        copy = shutil.copytree if os.path.isdir(here) else shutil.copy
        copy(here, os.path.join(root, inside.lstrip("/")))
    image = Image(os.path.join(folder, "disk"), os.path.join(folder, "kernel"), os.path.join(folder, "initrd"))
    for name, target in (("vmlinuz", image.kernel), ("initrd.img", image.initrd)):
        found = glob.glob(f"{root}/boot/{name}-*")
        if len(found) != 1:
            raise NotBuilt(f"the image has {len(found)} files /boot/{name}-*")
        shutil.move(found[0], target)
    with open(image.disk, "wb") as disk:
        disk.truncate(_IMAGE_BYTES)
    _run("mkfs.ext4", "-q", "-F", "-d", root, image.disk)
    shutil.rmtree(root)
    return image


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _run(*command: str) -> None:
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            env={**os.environ, "PATH": path, "LC_ALL": "C"}, timeout=BUILD_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise NotBuilt(f"{command[0]} was not done in {BUILD_SECONDS:g} s") from error
    if done.returncode != 0:
        raise NotBuilt(f"{command[0]} failed: {done.stdout.decode(errors='replace')[-600:]}")


def _suite() -> str:
    """This host's own release of Debian, whose packages it can reach best."""
    with contextlib.suppress(OSError), open("/etc/os-release", encoding="utf-8") as file:
        facts = dict(line.rstrip().split("=", 1) for line in file if "=" in line)
        if facts.get("ID") == "debian" and "VERSION_CODENAME" in facts:
            return facts["VERSION_CODENAME"].strip('"')
    return "bookworm"


def _sources() -> Sequence[str]:
    """The file with this host's mirror, if it has one of Debian's; else mmdebstrap's own choice."""
    candidates = ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list")
    return [path for path in candidates if os.path.exists(path) and os.path.getsize(path)][:1]


class Machine:
    """One computer with that image. Its disk stays what it was when the power is cut."""

    def __init__(self, image: Image, folder: str) -> None:
        self._image = image
        self._port = os.path.join(folder, "port")
        self.console = os.path.join(folder, "console")
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._driver: Optional[socket.socket] = None
        self._heard = b""
        self._number = 0

    def start(self) -> None:
        """Switch it on; returns once it does what it is told."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._port)
        with open(self.console, "ab") as output:
            self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self._driver = eventually(self._connect, BOOT_SECONDS, self.last_words)
        self._heard = b""
        self.wait()

    def cut_power(self) -> None:
        """As if the plug were pulled: what the kernel in it had not written is lost.

        What it had written is with this host's kernel, so it is of no importance whether qemu had synced it (it never does:
        `cache=unsafe`). An fsync in the machine matters all the same: it is what makes the kernel in it write.
        """
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._driver is not None:
            self._driver.close()
            self._driver = None

    def run(self, *command: str) -> Done:
        """Run a command as root. AssertionError when there is no answer."""
        number = self._send(command)
        return eventually(lambda: self._answer(number), BOOT_SECONDS, lambda: f"{command}: {self.last_words()}")

    def reboot(self) -> None:
        """Let systemd reboot it; returns once it is up again. It may be down before it could say that it goes."""
        before = self.boot_id()
        self._send(["systemctl", "--no-block", "reboot"])
        self.wait(but=before)

    def boot_id(self) -> str:
        """Which boot this is."""
        return self.run("cat", "/proc/sys/kernel/random/boot_id").output.strip()

    def wait(self, but: str = "") -> None:
        """Until it answers, in another boot than that one; what is asked in vain while it goes down is asked again."""
        eventually(lambda: self._boot_id_now() not in ("", but), BOOT_SECONDS, self.last_words)

    def last_words(self) -> str:
        """The end of what its console shows."""
        with open(self.console, encoding="utf-8", errors="replace") as file:
            return file.read()[-3000:]

    def _command(self) -> Sequence[str]:
        return (
            # a /dev/kvm may be there and not work
            "qemu-system-x86_64", "-accel", "tcg", "-icount", "shift=1", "-machine", "pc", "-cpu", "qemu64", "-m", "512",
            "-nodefaults", "-nographic", "-nic", "none", "-serial", "stdio",
            "-kernel", self._image.kernel, "-initrd", self._image.initrd,
            "-append", _KERNEL_OPTIONS,
            "-drive", f"file={self._image.disk},format=raw,if=virtio,cache=unsafe", "-device", "virtio-rng-pci",
            "-device", "virtio-serial-pci", "-chardev", f"socket,id=driver,path={self._port},server=on,wait=off",
            "-device", "virtserialport,chardev=driver,name=driver",
        )  # fmt: skip

    def _connect(self) -> Optional[socket.socket]:
        assert self._process is not None and self._process.poll() is None, f"qemu ended: {self.last_words()}"
        port = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            port.connect(self._port)
        except OSError:
            port.close()
            return None
        port.settimeout(_ANSWER_SECONDS)
        return port

    def _send(self, command: Sequence[str]) -> int:
        assert self._driver is not None
        self._number += 1
        self._driver.sendall(json.dumps({"id": self._number, "command": command}).encode() + b"\n")
        return self._number

    def _answer(self, number: int) -> Optional[Done]:
        """The answer to that call, if it comes within a few seconds; answers to others are dropped."""
        assert self._driver is not None
        while b"\n" not in self._heard:
            try:
                data = self._driver.recv(65536)
            except socket.timeout:
                return None
            assert data, f"qemu ended: {self.last_words()}"
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        with contextlib.suppress(ValueError):  # a line that a reboot has cut off
            answer: Dict[str, Any] = json.loads(line)
            if answer["id"] == number:
                return Done(answer["code"], answer["output"], answer["errors"])
        return self._answer(number)

    def _boot_id_now(self) -> str:
        done = self._answer(self._send(["cat", "/proc/sys/kernel/random/boot_id"]))
        return done.output.strip() if done is not None else ""
