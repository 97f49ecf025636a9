# SPDX-License-Identifier: Apache-2.0
"""The two backings, and which paths are raced on each.

ext4: everything ends in one directory of a real filesystem: the whole path, device included.
null: nothing ends anywhere: what the software costs. bdfs runs with its null engine; there is no
raw file to compare with, the references are the FUSE floor and a pass-through that passes nothing.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from race import paths

NAMES = ["ext4", "null"]
PATH_NAMES = {"ext4": ["raw", "floor", "passthrough", "bdfs", "loop-raw", "loop-bdfs"],
              "null": ["floor", "passthrough", "bdfs", "loop-bdfs"]}
# What each row is divided by, in the order of the table's columns.
REFERENCES = {"ext4": ["raw", "floor", "passthrough"], "null": ["floor", "passthrough"]}


@dataclass(frozen=True)
class Setting:
    """What every path of one backing is given."""
    name: str        # of the backing
    directory: Path  # ours alone, empty at start
    build: Path      # where the bench servers were built
    bdfs: Path       # the bdfs command
    size_bytes: int  # of every file raced
    engine: str      # bdfs's device engine on a real backing


def needed_bytes(backing, size_bytes, wanted):
    """Room on the disk: the raw file, and the pool with its two disks."""
    raw = size_bytes if backing == "ext4" and wanted & {"raw", "passthrough", "loop-raw"} else 0
    pool = size_bytes * 5 // 2 + 256 * paths.MIB if backing == "ext4" and wanted & {"bdfs", "loop-bdfs"} else 0
    return raw + pool


def set_up(setting, wanted, stack: ExitStack, say):
    """Sets up the wanted paths (a set of names) and what they stand on. Returns them in table order;
    stack takes them down again in the opposite order."""
    ready = []

    def add(thing):
        stack.callback(thing.teardown)
        thing.setup()
        return thing

    def add_path(path):
        say(f"{setting.name}: setting up {path.name}")
        ready.append(add(path))

    raw = paths.RawFile(setting)
    null = setting.name == "null"
    if not null and wanted & {"raw", "passthrough", "loop-raw"}:
        say(f"{setting.name}: writing the raw file")
        add(raw)
        if "raw" in wanted:
            ready.append(raw)
    if "floor" in wanted:
        add_path(paths.floor(setting))
    if "passthrough" in wanted:
        add_path(paths.passthrough_null(setting) if null else paths.passthrough(setting, raw))
    if wanted & {"bdfs", "loop-bdfs"}:
        say(f"{setting.name}: making a pool")
        pool = add(paths.BdfsPool(setting, "null" if null else setting.engine))
    if "bdfs" in wanted:
        add_path(paths.BdfsFile(pool))
    if "loop-raw" in wanted:
        add_path(paths.Loop("loop-raw", lambda: raw.target, lambda: None))
    if "loop-bdfs" in wanted:
        # A disk of its own, so that the bdfs row is not measured on a file that the loop driver holds open.
        add_path(paths.Loop("loop-bdfs", lambda: pool.make_disk("loop"), lambda: pool.server.pid))
    return ready
