# SPDX-License-Identifier: Apache-2.0
"""Facts about the machine, and processor time, all from /proc."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class CpuTimes:
    server_s: float   # user and system time of the server, all its threads, io_uring workers included
    machine_s: float  # everything that was not idle, kernel threads and other people's work included
    steal_s: float    # what the hypervisor gave to somebody else


def process_cpu_s(pid):
    # The name in parentheses may hold spaces and parentheses; the fields after the last one do not.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    utime, stime = int(fields[11]), int(fields[12])
    return (utime + stime) / TICKS_PER_S


def cpu_times(server_pids=()):
    """server_pids: of the processes that serve the path; none: the kernel alone does."""
    fields = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    return CpuTimes(server_s=sum(map(process_cpu_s, server_pids)),
                    machine_s=(user + nice + system + irq + softirq) / TICKS_PER_S,
                    steal_s=steal / TICKS_PER_S)


def filesystem_of(path):
    """Type, source and device number of the filesystem that holds path."""
    wanted = os.stat(path).st_dev
    found = ("unknown", "unknown")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        major, minor = left.split()[2].split(":")
        if os.makedev(int(major), int(minor)) == wanted:
            found = tuple(right.split()[:2])
    return found


def free_bytes(path):
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


def first_line(command):
    """The first line that a command prints, for versions."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (done.stdout or done.stderr).splitlines()[0].strip()


def describe():
    uname = os.uname()
    return {"kernel": f"{uname.sysname} {uname.release} {uname.machine}", "cores": len(os.sched_getaffinity(0)),
            "load_1min": os.getloadavg()[0]}
