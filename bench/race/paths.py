# SPDX-License-Identifier: Apache-2.0
"""The paths that are raced: each is a file (or a device) that fio can hit, and whatever serves it.

A path lives from setup() to teardown(). In between `targets` are what fio opens (mostly one) and
`server_pids` the processes whose processor time is counted (none: the kernel alone serves it).
teardown() undoes what setup() did, also when setup() failed half-way, ends only the processes that
setup() started, and may be called twice. Everything that a path makes lies in the directory it was
given.

Here are those that stand for themselves; peers.py has other people's programs, states.py disks in
a state that lasts for one sample, vhost.py what a guest sees.
"""

import json
import mmap
import os
import shutil
import subprocess
import time
from pathlib import Path as FilePath

from race import fio

MIB = 1 << 20
START_DEADLINE_S = 30
STOP_DEADLINE_S = 60
# Disks of the full size that a pool has room for: one filled for each of bdfs, loop-bdfs, bdfs-x8, vhost-bdfs,
# bdfs-snap and bdfs-fresh, each of the last two with as much again that was freed and is not free yet.
POOL_DISKS = 10


class PathError(Exception):
    """A path can't be set up."""


class Unavailable(PathError):
    """What a path needs is not on this machine. Such a row is left out, with a word."""


class Path:
    """What a race needs to know of any path."""
    name = None
    targets = ()
    server_pids = ()
    once = False       # prepare() makes what one sample uses up; see fio.py
    offset_bytes = 0   # where on the target the race may go
    writable = True

    def setup(self):
        """Makes the targets."""

    def teardown(self):
        """Undoes setup()."""

    def prepare(self):
        """Before each sample."""

    def accepts(self, load):
        """Whether this workload makes sense here."""
        return (self.writable or not load.writes) and load.depth >= len(self.targets) and \
            not (load.syncs and len(self.targets) > 1)

    def measure(self, size_bytes, load, warmup_ms, runtime_ms):
        return fio.measure(self, size_bytes, load, warmup_ms, runtime_ms)


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
        self.mountpoint = FilePath(mountpoint)
        self.answers = FilePath(answers)  # a file that is there as soon as the server is ready
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


class RawFile(Path):
    """The raw file itself: what the device and its filesystem give without anything in between."""

    def __init__(self, setting, name="raw", count=1):
        self.name = name
        self.size_bytes = setting.size_bytes // count
        self.targets = [setting.directory / f"{name}{'' if count == 1 else i}.img" for i in range(count)]

    def setup(self):
        # All written once: fio then meets neither holes nor extents that still have to be converted.
        for target in self.targets:
            with open(target, "xb") as file:
                os.posix_fallocate(file.fileno(), 0, self.size_bytes)
            fill(target, self.size_bytes)

    def teardown(self):
        for target in self.targets:
            target.unlink(missing_ok=True)


class Existing(Path):
    """Something that is there already: a device."""

    def __init__(self, name, target, offset_bytes=0, writable=True):
        self.name = name
        self.targets = [target]
        self.offset_bytes = offset_bytes
        self.writable = writable


class BenchServer(Path):
    """A file served by one of the bench servers."""

    def __init__(self, setting, name, arguments, needs_fill=False):
        self.name = name
        self.setting = setting
        self.needs_fill = needs_fill
        mountpoint = setting.directory / f"{name}.mnt"
        self.targets = [mountpoint / "data"]
        self.server = Server([*arguments, mountpoint], mountpoint, self.targets[0])

    @property
    def server_pids(self):
        return [self.server.pid]

    def setup(self):
        if not os.access(self.server.command[0], os.X_OK):
            raise Unavailable(f"{self.server.command[0]} is not there")
        self.server.start()
        if self.needs_fill:
            fill(self.targets[0], self.setting.size_bytes)

    def teardown(self):
        self.server.stop()


def floor(setting):
    return BenchServer(setting, "floor", [setting.servers / "fuse_floor", setting.size_bytes], needs_fill=True)


def floor_uring(setting):
    """The device by our own loop on io_uring: one thread, as bdfs has it under one client."""
    return BenchServer(setting, "floor-uring", [setting.servers / "fuse_ring", "--null", setting.size_bytes])


def floor_ring(setting, threads=1):
    """FUSE over io_uring: one thread for the queues of all processors, or several, not pinned."""
    switch = FilePath("/sys/module/fuse/parameters/enable_uring")
    if not switch.exists() or switch.read_text().strip() != "Y":
        raise Unavailable(f"FUSE over io_uring is switched off; as root: echo 1 > {switch}")
    return BenchServer(setting, f"floor-ring-{threads}", [setting.servers / "fuse_ring", "--transport", "ring",
                                                          "--threads", threads, "--null", setting.size_bytes])


def passthrough(setting, target, read_only=False):
    path = BenchServer(setting, "passthrough", [setting.servers / "fuse_passthrough",
                                                *(["--read-only"] if read_only else []), target])
    path.writable = not read_only
    return path


def passthrough_null(setting):
    return BenchServer(setting, "passthrough", [setting.servers / "fuse_passthrough", "--null", setting.size_bytes])


class BdfsPool:
    """A pool of our own, mounted; not a path by itself but what the bdfs paths stand on. Its registry
    lies beside it, so that the machine's pools are not touched. device: its space is that one, whole."""

    def __init__(self, setting, engine, device=None):
        self.setting = setting
        self.device = device
        self.directory = setting.directory / ("state/pools/bench" if device else "pool")
        self.environment = dict(os.environ, BDFS_STATE_DIR=str(setting.directory / "state"))
        mountpoint = setting.directory / "bdfs.mnt"
        self.disks = mountpoint / "disks"
        self.server = Server([setting.bdfs, "mount", "bench", mountpoint, "-engine", engine, "-foreground"],
                             mountpoint, self.directory / "control", self.environment)  # its socket is made last

    def bdfs(self, *words, what="a verb"):
        return run([self.setting.bdfs, *words], what, self.environment)

    def setup(self):
        # Room for several disks, and more: a chunk that was freed is not at once to be had again.
        pool_mib = self.setting.size_bytes * POOL_DISKS // MIB + 256
        where = ["-f", self.device] if self.device else ["-size", f"{pool_mib}M", self.directory]
        self.bdfs("mksp", "bench", *where, what="making the pool")
        if self.device:
            self.directory = FilePath(self.find_directory())
            self.server.answers = self.directory / "control"
        self.server.start()

    def find_directory(self):
        pools = json.loads(self.bdfs("lssp", "--json"))["pools"]
        return pools[0]["directory"]

    def make_disk(self, name, size_bytes=None, filled=True):
        size_bytes = size_bytes or self.setting.size_bytes
        self.bdfs("mkbdsp", "-sp", "bench", f"{size_bytes // MIB}M", "-bd", name, what="making a disk")
        target = self.disks / name
        if filled:
            fill(target, size_bytes)
        return target

    def teardown(self):
        self.server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class OnPool(Path):
    """A path whose server is a pool's daemon."""

    def __init__(self, name, pool):
        self.name = name
        self.pool = pool

    @property
    def server_pids(self):
        return [self.pool.server.pid]


class BdfsFile(OnPool):
    """Thin disks of a bdfs pool as files in the mount, every block of them written."""

    def __init__(self, name, pool, count=1):
        super().__init__(name, pool)
        self.count = count

    def setup(self):
        size_bytes = self.pool.setting.size_bytes // self.count
        self.targets = [self.pool.make_disk(f"{self.name}{i}", size_bytes) for i in range(self.count)]


class Loop(Path):
    """A loop device with direct I/O on the file of another path, set up as its manual page advises
    for a device that does its own scheduling: 4 KiB sectors, no scheduler, not rotational."""

    def __init__(self, name, make_file, get_server_pids=lambda: ()):
        self.name = name
        self.make_file = make_file              # () -> the file below
        self.get_server_pids = get_server_pids  # () -> the processes that serve that file

    @property
    def server_pids(self):
        return self.get_server_pids()

    def setup(self):
        file = self.make_file()
        device = FilePath(run(["losetup", "--find", "--show", "--direct-io=on", "--sector-size", "4096", file],
                              "attaching a loop device").strip())
        self.targets = [device]
        queue = FilePath("/sys/block") / device.name
        if (queue / "loop/dio").read_text().strip() != "1":
            raise PathError(f"{device}: the loop driver refused direct I/O on {file}")
        (queue / "queue/scheduler").write_text("none")
        (queue / "queue/rotational").write_text("0")

    def teardown(self):
        for device in self.targets:
            run(["losetup", "--detach", device], "detaching a loop device")
            wait_until_detached(device)
        self.targets = []


def wait_until_detached(device):
    """The kernel detaches when the last opener has gone; the file below stays busy until then."""
    backing = FilePath("/sys/block") / device.name / "loop/backing_file"
    deadline = time.monotonic() + STOP_DEADLINE_S
    while backing.exists():
        if time.monotonic() > deadline:
            raise PathError(f"{device} is still attached after {STOP_DEADLINE_S} s")
        time.sleep(0.01)
