# SPDX-License-Identifier: Apache-2.0
"""Other people's programs as paths: qemu-storage-daemon's FUSE export, nbdkit with nbdfuse, and a loop
device on a sparse file of XFS. Each says Unavailable when its programs are not here.

qemu-storage-daemon may be any version: --qsd takes a whole command, with words before it if it has to run
in an environment of its own; it has to see the directory of the race by the same path.
"""

import os
import re
import shutil
import signal
import subprocess
import time

from race import paths
from race.machine import first_line


def need(program, package):
    if not shutil.which(program):
        raise paths.Unavailable(f"needs {program} (Debian: {package})")


def qsd_version(command):
    try:
        return first_line([*command, "--version"])
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise paths.Unavailable(f"{' '.join(command)} can't be run ({error}); Debian has it in "
                                "qemu-system-common (12) or qemu-utils (13)") from error


def qsd_major(version):
    """Of "qemu-storage-daemon version 10.0.13 (...)"; 10 where there is none."""
    found = re.search(r"version (\d+)\.", version)
    return int(found.group(1)) if found else 10


def version_of(program):
    """The first line of its --version, or None when it is not here."""
    return first_line([program, "--version"]) if shutil.which(program) else None


def make_qcow2(setting, name):
    need(setting.qemu_img, "qemu-utils")
    image = setting.directory / f"{name}.qcow2"
    paths.run([setting.qemu_img, "create", "-q", "-f", "qcow2", image, setting.size_bytes], "making a qcow2 image")
    return image


def blockdev(setting, kind, image):
    """The words that give the node `n`."""
    if kind == "null":
        return ["--blockdev", f"driver=null-co,size={setting.size_bytes},read-zeroes=off,node-name=n"]
    file = f"driver=file,filename={image},aio=io_uring,cache.direct=on"
    if kind == "raw":
        return ["--blockdev", f"{file},node-name=n"]
    return ["--blockdev", f"{file},node-name=f", "--blockdev", "driver=qcow2,file=f,node-name=n"]


class Process:
    """A server that runs until SIGTERM, ready when answers() says so."""

    def __init__(self, command, log, answers):
        self.command, self.log, self.answers = [str(word) for word in command], log, answers
        self.process = None

    def start(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + paths.START_DEADLINE_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise paths.Unavailable(f"{' '.join(self.command)}: did not start: "
                                        f"{self.log.read_text(errors='replace').strip()[-600:]}")
            time.sleep(0.01)

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(paths.STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


class Qsd(paths.Path):
    """A FUSE export: an image as one file. kind: null, raw or qcow2."""

    def __init__(self, setting, name, kind):
        self.setting, self.name, self.kind = setting, name, kind
        self.image = None
        self.point = setting.directory / f"{name}.export"
        self.targets = [self.point]
        self.server = None

    @property
    def server_pids(self):
        return [self.server.process.pid]

    def make_image(self):
        if self.kind == "raw":
            self.image = self.setting.directory / f"{self.name}.img"
            with open(self.image, "xb") as file:
                os.posix_fallocate(file.fileno(), 0, self.setting.size_bytes)
        elif self.kind == "qcow2":
            self.image = make_qcow2(self.setting, self.name)

    def setup(self):
        qsd_version(self.setting.qsd)
        self.make_image()
        self.point.touch()
        export = f"type=fuse,id=e,node-name=n,mountpoint={self.point},writable=on"
        self.server = Process([*self.setting.qsd, *blockdev(self.setting, self.kind, self.image), "--export", export],
                              self.point.with_suffix(".log"), lambda: os.path.ismount(self.point))
        self.server.start()
        if self.kind != "null":
            paths.fill(self.point, self.setting.size_bytes)

    def teardown(self):
        if self.server:
            self.server.stop()
        if os.path.ismount(self.point):
            subprocess.run(["umount", "-l", str(self.point)], capture_output=True, check=False)
        self.point.unlink(missing_ok=True)
        if self.image:
            self.image.unlink(missing_ok=True)


class NbdFuse(paths.Path):
    """nbdkit's file plug-in, seen as a file by nbdfuse."""
    name = "nbdfuse"

    def __init__(self, setting):
        self.setting = setting
        self.socket = setting.directory / "nbd.sock"
        self.mountpoint = setting.directory / "nbdfuse.mnt"
        self.image = setting.directory / "nbdfuse.img"
        self.targets = [self.mountpoint / "data"]
        self.kit = self.fuse = None

    @property
    def server_pids(self):
        return [self.kit.process.pid, self.fuse.process.pid]

    def setup(self):
        need("nbdkit", "nbdkit")
        need("nbdfuse", "libnbd-bin")
        with open(self.image, "xb") as file:
            os.posix_fallocate(file.fileno(), 0, self.setting.size_bytes)
        self.kit = Process(["nbdkit", "--foreground", "--exit-with-parent", "-U", self.socket, "file",
                            f"file={self.image}", "cache=none"], self.socket.with_suffix(".log"), self.socket.exists)
        self.kit.start()
        self.mountpoint.mkdir()
        self.fuse = Process(["nbdfuse", self.targets[0], "--unix", self.socket], self.mountpoint.with_suffix(".log"),
                            self.targets[0].exists)
        self.fuse.start()
        paths.fill(self.targets[0], self.setting.size_bytes)

    def teardown(self):
        if os.path.ismount(self.mountpoint):
            subprocess.run(["umount", "-l", str(self.mountpoint)], capture_output=True, check=False)
        for server in (self.fuse, self.kit):
            if server:
                server.stop()
        self.image.unlink(missing_ok=True)


class LoopXfs(paths.Loop):
    """A loop device on a sparse file of XFS: what many use for a thin disk without any of this. The XFS lies on a
    loop device of its own, as the machine's disk has another filesystem."""

    def __init__(self, setting):
        super().__init__("loop-xfs", self.make_sparse)
        self.setting = setting
        self.image = setting.directory / "xfs.img"
        self.mountpoint = setting.directory / "xfs.mnt"
        self.below = paths.Loop("xfs", lambda: self.image)

    def make_sparse(self):
        return self.mountpoint / "sparse.img"

    def setup(self):
        need("mkfs.xfs", "xfsprogs")
        with open(self.image, "xb") as file:
            os.posix_fallocate(file.fileno(), 0, self.setting.size_bytes * 5 // 4 + (512 << 20))
        paths.run(["mkfs.xfs", "-q", "-f", self.image], "making an XFS")
        self.below.setup()
        self.mountpoint.mkdir()
        try:
            paths.run(["mount", "-t", "xfs", self.below.targets[0], self.mountpoint], "mounting the XFS")
        except paths.PathError as error:
            raise paths.Unavailable(str(error)) from error
        with open(self.make_sparse(), "xb") as file:
            file.truncate(self.setting.size_bytes)
        super().setup()
        paths.fill(self.targets[0], self.setting.size_bytes)

    def teardown(self):
        super().teardown()
        if os.path.ismount(self.mountpoint):
            paths.run(["umount", self.mountpoint], "unmounting the XFS")
        self.below.teardown()
        self.image.unlink(missing_ok=True)
