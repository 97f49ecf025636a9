# SPDX-License-Identifier: Apache-2.0
"""The workloads, and one run of fio on one path.

fio opens the files O_DIRECT and drives them by io_uring, whatever serves them. A run is two fio
processes: a short one to warm up, thrown away, and the measured one. They are separate processes
so that the server's processor time around the second belongs to exactly the operations that fio
counted (fio's own ramp leaves its operations out of the count, but the server worked for them).

A path in a state that the first touch ends (a disk with nothing in it yet, one of which a snapshot
was just taken) says `once`: it is made anew before each sample, there is no warm-up, and no block
is touched twice; the run ends with its time or when all was touched.
"""

import json
import subprocess
from dataclasses import dataclass

from race import machine

KIB, MIB = 1 << 10, 1 << 20


class FioError(Exception):
    """fio failed, or its result can't be used."""


@dataclass(frozen=True)
class Workload:
    name: str
    rw: str
    block_bytes: int
    depth: int          # requests in flight, of all jobs together
    jobs: int = 1
    syncs: bool = False  # each write is followed by fdatasync; depth threads do so
    read_percent: int = 100

    @property
    def sides(self):
        """The parts of fio's result that count."""
        return ["read", "write"] if self.rw == "randrw" else ["read" if self.rw.endswith("read") else "write"]

    @property
    def writes(self):
        return "write" in self.sides

    @property
    def unit(self):
        """What is printed as throughput."""
        return "MiB/s" if self.block_bytes >= 64 * KIB else "kIOPS"


CORE = [
    Workload("4k-randread-d1", "randread", 4 * KIB, 1),
    Workload("4k-randread-d32", "randread", 4 * KIB, 32),
    Workload("4k-randwrite-d1", "randwrite", 4 * KIB, 1),
    Workload("4k-randwrite-d32", "randwrite", 4 * KIB, 32),
    Workload("1m-read-d8", "read", MIB, 8),
    Workload("1m-write-d8", "write", MIB, 8),
]
SYNCS = [
    Workload("4k-writesync-d1", "randwrite", 4 * KIB, 1, syncs=True),
    Workload("4k-writesync-d16", "randwrite", 4 * KIB, 16, syncs=True),
]
FURTHER = [
    Workload("4k-randread-d4", "randread", 4 * KIB, 4),
    Workload("4k-randread-d128", "randread", 4 * KIB, 128),
    Workload("4k-randread-d32-j4", "randread", 4 * KIB, 32, jobs=4),
    Workload("4k-randwrite-d4", "randwrite", 4 * KIB, 4),
    Workload("4k-randwrite-d128", "randwrite", 4 * KIB, 128),
    Workload("4k-randwrite-d32-j4", "randwrite", 4 * KIB, 32, jobs=4),
    Workload("4k-mixed-d32", "randrw", 4 * KIB, 32, read_percent=70),
    Workload("64k-read-d8", "read", 64 * KIB, 8),
    Workload("64k-write-d8", "write", 64 * KIB, 8),
]
WORKLOADS = CORE + SYNCS + FURTHER


def workload(name):
    return next(w for w in WORKLOADS if w.name == name)


def version():
    try:
        return subprocess.run(["fio", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise FioError(f"fio can't be run ({error}); install the package fio") from error


def engine_options(load, target_count):
    if load.syncs:
        # One thread for each: that is what "each write is followed by a flush" means at a depth.
        return ["--ioengine=psync", "--fdatasync=1", "--thread=1", f"--numjobs={load.depth}"]
    return ["--ioengine=io_uring", f"--iodepth={load.depth // (load.jobs * target_count)}", f"--numjobs={load.jobs}"]


def command(path, size_bytes, load, runtime_ms):
    targets = path.targets
    once = [] if path.once else ["--time_based=1", "--norandommap=1"]
    words = ["fio", "--name=global", "--direct=1", f"--rw={load.rw}", f"--bs={load.block_bytes}",
             f"--rwmixread={load.read_percent}", f"--offset={path.offset_bytes}",
             f"--size={size_bytes // len(targets)}", f"--runtime={runtime_ms}ms", "--randrepeat=0", "--invalidate=0",
             "--fallocate=none", "--allow_file_create=0", "--group_reporting=1", "--lat_percentiles=1",
             "--clat_percentiles=0", "--percentile_list=50:99:99.9", "--output-format=json", "--eta=never", *once,
             *engine_options(load, len(targets))]
    for target in targets:
        # A colon separates file names for fio.
        name = str(target).replace(":", "\\:")
        words += ["--name=race", f"--filename={name}"]
    return words


def run_to_end(words, deadline_s):
    """Status, standard output, standard error. Whatever interrupts it, fio ends first: killed, it
    would leave its job behind, a process of its own, and the job would keep the file open."""
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    try:
        out, err = process.communicate(timeout=deadline_s)
        return process.returncode, out, err
    except BaseException:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        raise


def run_job(path, size_bytes, load, runtime_ms):
    """One fio process. Returns its job's part of the JSON."""
    # A run that hangs is a server that hangs: generous, but not for ever.
    deadline_s = runtime_ms / 1000 + 60
    where = f"{load.name} on {path.name}"
    try:
        status, out, err = run_to_end(command(path, size_bytes, load, runtime_ms), deadline_s)
    except subprocess.TimeoutExpired as error:
        raise FioError(f"{where}: fio did not end within {deadline_s:.0f} s") from error
    if status:
        raise FioError(f"{where}: fio ended with status {status}: {(err or out).strip()[:600]}")
    # fio puts its notes on standard output in front of the JSON.
    return json.loads(out[out.index("{"):])["jobs"][0]


def latency_part(job, load):
    """Whose percentiles are shown: the flush's where there is one, else the first side's."""
    return job["sync"] if load.syncs else job[load.sides[0]]


def sample_of_job(job, load, server_cpu_s, machine_cpu_s):
    """What is kept of one measured run. server_cpu_s is None when nothing serves the path."""
    sides = [job[side] for side in load.sides]
    ops = sum(side["total_ios"] for side in sides)
    if job["error"] or not ops:
        raise FioError(f"{load.name}: fio did {ops} operations and reports error {job['error']}")
    client_cpu_s = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] / 1000
    per_mop = 1e6 / ops
    percentile = latency_part(job, load)["lat_ns"]["percentile"]
    return {
        "ops": ops,
        "iops": sum(side["iops"] for side in sides),
        "bytes_per_s": sum(side["bw_bytes"] for side in sides),
        "server_cpu_s_per_mop": None if server_cpu_s is None else server_cpu_s * per_mop,
        "client_cpu_s_per_mop": client_cpu_s * per_mop,
        "machine_cpu_s_per_mop": machine_cpu_s * per_mop,
        "p50_us": percentile["50.000000"] / 1000,
        "p99_us": percentile["99.000000"] / 1000,
        "p99_9_us": percentile["99.900000"] / 1000,
    }


def measure(path, size_bytes, load, warmup_ms, runtime_ms):
    """Warms up, runs, and returns the sample."""
    path.prepare()
    if warmup_ms and not path.once:
        run_job(path, size_bytes, load, warmup_ms)
    before = machine.cpu_times(path.server_pids)
    job = run_job(path, size_bytes, load, runtime_ms)
    after = machine.cpu_times(path.server_pids)
    server_cpu_s = after.server_s - before.server_s if path.server_pids else None
    sample = sample_of_job(job, load, server_cpu_s, after.machine_s - before.machine_s)
    sample["steal_s"] = after.steal_s - before.steal_s
    return sample
