# SPDX-License-Identifier: Apache-2.0
"""The paths that are raced: each is a file (or a device) that fio can hit, and whatever serves it.

A path lives from setup() to teardown(). In between `target` is what fio opens and `server_pid` the
process whose processor time is counted (None: the kernel alone serves it). teardown() undoes what
setup() did, also when setup() failed half-way, ends only the processes that setup() started, and
may be called twice. Everything that a path makes lies in the directory it was given.
"""

import mmap
import os
import shutil
import subprocess
import time
from pathlib import Path

MIB = 1 << 20
START_DEADLINE_S = 30
STOP_DEADLINE_S = 60


class PathError(Exception):
    """A path can't be set up."""


def run(command, what, environment=None):
    """Runs a helper command to its end. Returns its standard output."""
    try:
        done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=300, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PathError(f"{what}: {error}") from error
    if done.returncode:
        raise PathError(f"{what}: {' '.join(map(str, command))}: status {done.returncode}: "
                        f"{(done.stderr or done.stdout).strip()[:600]}")
    return done.stdout


def fill(target, size_bytes):
    """Writes the whole of target with random data, so that no measured request meets a hole or a
    run of zeros that somebody on the way might treat as cheap."""
    with mmap.mmap(-1, MIB) as block:  # anonymous: page-aligned, as O_DIRECT wants it
        descriptor = os.open(target, os.O_RDWR | os.O_DIRECT)
        try:
            for offset in range(0, size_bytes, MIB):
                block[:] = os.urandom(MIB)
                written = os.pwrite(descriptor, block, offset)
                if written != MIB:
                    raise PathError(f"{target}: short write at {offset}: {written} bytes")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Server:
    """A server process of ours that mounts something: started in the foreground, ended by its umount."""

    def __init__(self, command, mountpoint, answers, environment=None):
        self.command = [str(word) for word in command]
        self.environment = environment
        self.mountpoint = Path(mountpoint)
        self.answers = Path(answers)  # a file that is there as soon as the server is ready
        self.log = self.mountpoint.with_suffix(".log")
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        self.mountpoint.mkdir()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.environment)
        deadline = time.monotonic() + START_DEADLINE_S
        while not self.answers.exists():
            if self.process.poll() is not None:
                raise PathError(f"{self.command[0]} ended with status {self.process.returncode}: "
                                f"{self.log.read_text(errors='replace').strip()[-600:]}")
            if time.monotonic() > deadline:
                raise PathError(f"{self.command[0]}: {self.answers} did not appear within {START_DEADLINE_S} s")
            time.sleep(0.01)

    def stop(self):
        if self.process is None:
            return
        if os.path.ismount(self.mountpoint):
            subprocess.run(["umount", str(self.mountpoint)], capture_output=True, check=False)
        try:
            self.process.wait(STOP_DEADLINE_S if not os.path.ismount(self.mountpoint) else 0.1)
        except subprocess.TimeoutExpired:
            self.end_by_force()
        self.process = None

    def end_by_force(self):
        self.process.terminate()
        try:
            self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        subprocess.run(["umount", "-l", str(self.mountpoint)], capture_output=True, check=False)


class RawFile:
    """The raw file itself: what the device and its filesystem give without anything in between."""
    name = "raw"
    server_pid = None

    def __init__(self, setting):
        self.setting = setting
        self.target = setting.directory / "raw.img"

    def setup(self):
        # All written once: fio then meets neither holes nor extents that still have to be converted.
        with open(self.target, "xb") as file:
            os.posix_fallocate(file.fileno(), 0, self.setting.size_bytes)
        fill(self.target, self.setting.size_bytes)

    def teardown(self):
        self.target.unlink(missing_ok=True)


class BenchServer:
    """A file served by one of the two bench servers."""

    def __init__(self, setting, name, arguments, needs_fill):
        self.name = name
        self.setting = setting
        self.needs_fill = needs_fill
        mountpoint = setting.directory / f"{name}.mnt"
        self.target = mountpoint / "data"
        self.server = Server([*arguments, mountpoint], mountpoint, self.target)

    @property
    def server_pid(self):
        return self.server.pid

    def setup(self):
        self.server.start()
        if self.needs_fill:
            fill(self.target, self.setting.size_bytes)

    def teardown(self):
        self.server.stop()


def floor(setting):
    return BenchServer(setting, "floor", [setting.build / "bench/fuse_floor", setting.size_bytes], needs_fill=True)


def passthrough(setting, raw):
    return BenchServer(setting, "passthrough", [setting.build / "bench/fuse_passthrough", raw.target], needs_fill=False)


def passthrough_null(setting):
    return BenchServer(setting, "passthrough",
                       [setting.build / "bench/fuse_passthrough", "--null", setting.size_bytes], needs_fill=False)


class BdfsPool:
    """A pool of our own, mounted; not a path by itself but what the bdfs paths stand on. Its registry
    lies beside it, so that the machine's pools are not touched."""

    def __init__(self, setting, engine):
        self.setting = setting
        self.directory = setting.directory / "pool"
        self.environment = dict(os.environ, BDFS_STATE_DIR=str(setting.directory / "state"))
        mountpoint = setting.directory / "bdfs.mnt"
        self.disks = mountpoint / "disks"
        self.server = Server([setting.bdfs, "mount", self.directory, mountpoint, "-engine", engine, "-foreground"],
                             mountpoint, self.directory / "control", self.environment)  # its socket is made last

    def setup(self):
        # Two disks, and an eighth more: a chunk that was freed is not at once to be had again.
        pool_mib = self.setting.size_bytes * 2 * 9 // 8 // MIB + 64
        run([self.setting.bdfs, "mksp", "bench", "-size", f"{pool_mib}M", self.directory], "making the pool",
            self.environment)
        self.server.start()

    def make_disk(self, name):
        run([self.setting.bdfs, "mkbdsp", "-sp", self.directory, f"{self.setting.size_bytes // MIB}M", "-bd", name],
            "making a disk", self.environment)
        target = self.disks / name
        fill(target, self.setting.size_bytes)
        return target

    def teardown(self):
        self.server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class BdfsFile:
    """A thin disk of a bdfs pool as a file in the mount, every block of it written."""
    name = "bdfs"

    def __init__(self, pool):
        self.pool = pool
        self.target = None

    @property
    def server_pid(self):
        return self.pool.server.pid

    def setup(self):
        self.target = self.pool.make_disk("file")

    def teardown(self):
        """The disk goes with its pool."""


class Loop:
    """A loop device with direct I/O on the file of another path, set up as its manual page advises
    for a device that does its own scheduling: 4 KiB sectors, no scheduler, not rotational."""

    def __init__(self, name, make_file, server_pid):
        self.name = name
        self.make_file = make_file      # () -> the file below
        self.get_server_pid = server_pid  # () -> the process that serves that file, or None
        self.target = None

    @property
    def server_pid(self):
        return self.get_server_pid()

    def setup(self):
        file = self.make_file()
        self.target = Path(run(["losetup", "--find", "--show", "--direct-io=on", "--sector-size", "4096", file],
                               "attaching a loop device").strip())
        queue = Path("/sys/block") / self.target.name
        if (queue / "loop/dio").read_text().strip() != "1":
            raise PathError(f"{self.target}: the loop driver refused direct I/O on {file}")
        (queue / "queue/scheduler").write_text("none")
        (queue / "queue/rotational").write_text("0")

    def teardown(self):
        if self.target:
            run(["losetup", "--detach", self.target], "detaching a loop device")
            wait_until_detached(self.target)
            self.target = None


def wait_until_detached(device):
    """The kernel detaches when the last opener has gone; the file below stays busy until then."""
    backing = Path("/sys/block") / device.name / "loop/backing_file"
    deadline = time.monotonic() + STOP_DEADLINE_S
    while backing.exists():
        if time.monotonic() > deadline:
            raise PathError(f"{device} is still attached after {STOP_DEADLINE_S} s")
        time.sleep(0.01)
