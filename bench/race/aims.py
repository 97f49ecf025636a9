# SPDX-License-Identifier: Apache-2.0
"""Where bdfs wants to be: ratios that a run is held against, as docs/performance.md lists them.

An aim is one path over another on one backing under one workload. A ratio that was refused (figures.py) reaches
nothing and misses nothing: its word stands there instead.
"""

from dataclasses import dataclass

from race import figures

SMALL_1 = ["4k-randread-d1", "4k-randwrite-d1"]
SMALL_32 = ["4k-randread-d32", "4k-randwrite-d32"]
LARGE = ["1m-read-d8", "1m-write-d8"]
SYNC_1, SYNC_16 = ["4k-writesync-d1"], ["4k-writesync-d16"]


@dataclass(frozen=True)
class Aim:
    backing: str
    path: str
    against: str
    workload: str
    ratio: float


def spread_out(backings, path, against, figure_of_group):
    """One aim for each backing and each workload of the groups."""
    return [Aim(backing, path, against, load, ratio) for backing in backings for loads, ratio in figure_of_group
            for load in loads]


def writes(loads):
    return [load for load in loads if "write" in load]


def every(d1, d32, large):
    return [(SMALL_1, d1), (SMALL_32, d32), (LARGE, large)]


def every_write(d1, d32, large):
    return [(writes(loads), ratio) for loads, ratio in every(d1, d32, large)]


def table(qsd_major=10):
    """All aims. The FUSE export of qemu-storage-daemon 11 is another program than that of 10."""
    qsd = every(1.2, 1.3, 1.1) if qsd_major >= 11 else every(1.5, 2.5, 1.5)
    return [
        *spread_out(["null"], "bdfs", "floor-uring", every(0.9, 0.9, 0.9)),
        *spread_out(["null", "ext4"], "bdfs", "qsd", qsd),
        *spread_out(["ext4"], "bdfs", "raw", every(0.65, 0.9, 0.9)),
        *spread_out(["null"], "vhost-bdfs", "vhost-qsd", every(1.1, 1.2, 1.0)),
        *spread_out(["ext4"], "vhost-bdfs", "vhost-qsd", every(1.1, 1.2, 1.1)),
        *spread_out(["ext4"], "vhost-bdfs", "raw", every(0.85, 0.95, 0.95)),
        *spread_out(["ext4"], "vhost-bdfs", "vhost-bd", every(0.95, 0.95, 0.98)),
        *spread_out(["ext4"], "bdfs-fresh", "bdfs", every_write(0.6, 0.6, 0.85)),
        *spread_out(["ext4"], "bdfs-snap", "bdfs", every_write(0.8, 0.8, 0.9)),
        *spread_out(["ext4"], "bdfs", "raw", [(SYNC_1, 0.85), (SYNC_16, 0.85)]),
        *spread_out(["ext4"], "bdfs-fresh", "raw-fresh", [(SYNC_1, 1.0), (SYNC_16, 1.0)]),
    ]


def paths_of(backing):
    """Every path that an aim of a backing needs."""
    return {name for aim in table() if aim.backing == backing for name in (aim.path, aim.against)}


def judge(results, spread_limit, qsd_major=10):
    """[{backing, path, against, workload, aim, ratio, verdict}] for the aims of which both sides were measured."""
    judged = []
    for aim in table(qsd_major):
        rows = results.get(aim.backing, {}).get(aim.workload, {})
        if aim.path not in rows or aim.against not in rows:
            continue
        sides = [figures.Figure([sample["iops"] for sample in rows[name]]) for name in (aim.path, aim.against)]
        ratio = figures.ratio(*sides, spread_limit)
        verdict = ratio if isinstance(ratio, str) else "reached" if ratio >= aim.ratio else "missed"
        judged.append({"backing": aim.backing, "path": aim.path, "against": aim.against, "workload": aim.workload,
                       "aim": aim.ratio, "ratio": None if isinstance(ratio, str) else ratio, "verdict": verdict})
    return judged
