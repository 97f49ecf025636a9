# SPDX-License-Identifier: Apache-2.0
"""The workloads, and one run of fio on one file.

fio opens the file O_DIRECT and drives it by io_uring, whatever serves it. A run is two fio
processes: a short one to warm up, thrown away, and the measured one. They are separate processes
so that the server's processor time around the second belongs to exactly the operations that fio
counted (fio's own ramp leaves its operations out of the count, but the server worked for them).
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
    depth: int

    @property
    def direction(self):
        return "read" if self.rw.endswith("read") else "write"

    @property
    def unit(self):
        """What is printed as throughput."""
        return "MiB/s" if self.block_bytes >= MIB else "kIOPS"


WORKLOADS = [
    Workload("4k-randread-d1", "randread", 4 * KIB, 1),
    Workload("4k-randread-d32", "randread", 4 * KIB, 32),
    Workload("4k-randwrite-d1", "randwrite", 4 * KIB, 1),
    Workload("4k-randwrite-d32", "randwrite", 4 * KIB, 32),
    Workload("1m-read-d8", "read", MIB, 8),
    Workload("1m-write-d8", "write", MIB, 8),
]


def workload(name):
    return next(w for w in WORKLOADS if w.name == name)


def version():
    try:
        return subprocess.run(["fio", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise FioError(f"fio can't be run ({error}); install the package fio") from error


def command(target, size_bytes, load, runtime_ms):
    # A colon separates file names for fio.
    filename = str(target).replace(":", "\\:")
    return ["fio", "--name=race", f"--filename={filename}", "--ioengine=io_uring", "--direct=1", f"--rw={load.rw}",
            f"--bs={load.block_bytes}", f"--iodepth={load.depth}", f"--size={size_bytes}", "--time_based=1",
            f"--runtime={runtime_ms}ms", "--norandommap=1", "--randrepeat=0", "--invalidate=0", "--fallocate=none",
            "--allow_file_create=0", "--lat_percentiles=1", "--clat_percentiles=0", "--percentile_list=50:99:99.9",
            "--output-format=json", "--eta=never"]


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


def run_job(target, size_bytes, load, runtime_ms):
    """One fio process. Returns its job's part of the JSON."""
    # A run that hangs is a server that hangs: generous, but not for ever.
    deadline_s = runtime_ms / 1000 + 60
    try:
        status, out, err = run_to_end(command(target, size_bytes, load, runtime_ms), deadline_s)
    except subprocess.TimeoutExpired as error:
        raise FioError(f"{load.name} on {target}: fio did not end within {deadline_s:.0f} s") from error
    if status:
        raise FioError(f"{load.name} on {target}: fio ended with status {status}: {(err or out).strip()[:600]}")
    # fio puts its notes on standard output in front of the JSON.
    return json.loads(out[out.index("{"):])["jobs"][0]


def sample_of_job(job, load, server_cpu_s, machine_cpu_s):
    """What is kept of one measured run. server_cpu_s is None when nothing serves the path."""
    side = job[load.direction]
    ops = side["total_ios"]
    if job["error"] or not ops:
        raise FioError(f"{load.name}: fio did {ops} operations and reports error {job['error']}")
    client_cpu_s = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] / 1000
    per_mop = 1e6 / ops
    percentile = side["lat_ns"]["percentile"]
    return {
        "ops": ops,
        "iops": side["iops"],
        "bytes_per_s": side["bw_bytes"],
        "server_cpu_s_per_mop": None if server_cpu_s is None else server_cpu_s * per_mop,
        "client_cpu_s_per_mop": client_cpu_s * per_mop,
        "machine_cpu_s_per_mop": machine_cpu_s * per_mop,
        "p50_us": percentile["50.000000"] / 1000,
        "p99_us": percentile["99.000000"] / 1000,
        "p99_9_us": percentile["99.900000"] / 1000,
    }


def measure(target, server_pid, size_bytes, load, warmup_ms, runtime_ms):
    """Warms up, runs, and returns the sample."""
    if warmup_ms:
        run_job(target, size_bytes, load, warmup_ms)
    before = machine.cpu_times(server_pid)
    job = run_job(target, size_bytes, load, runtime_ms)
    after = machine.cpu_times(server_pid)
    server_cpu_s = None if server_pid is None else after.server_s - before.server_s
    sample = sample_of_job(job, load, server_cpu_s, after.machine_s - before.machine_s)
    sample["steal_s"] = after.steal_s - before.steal_s
    return sample
