# SPDX-License-Identifier: Apache-2.0
"""Disks in a state that the first touch ends, so that each sample needs a new one: see `once` in fio.py."""

from race import paths


class Once(paths.Path):
    """Takes writes at random places that touch each block once."""
    once = True

    def accepts(self, load):
        return load.sides == ["write"] and load.jobs == 1


class RawFresh(Once):
    """A sparse file with nothing in it."""
    name = "raw-fresh"

    def __init__(self, setting):
        self.size_bytes = setting.size_bytes
        self.targets = [setting.directory / "raw-fresh.img"]

    def prepare(self):
        self.teardown()
        with open(self.targets[0], "xb") as file:
            file.truncate(self.size_bytes)

    def teardown(self):
        self.targets[0].unlink(missing_ok=True)


class BdfsFresh(Once, paths.OnPool):
    """A thin disk with nothing in it: every write allocates, or is the first to its block."""

    def __init__(self, pool):
        super().__init__("bdfs-fresh", pool)
        self.targets = [pool.disks / "fresh"]

    def prepare(self):
        if self.targets[0].exists():
            self.targets[0].unlink()
            self.pool.bdfs("jobs", "-wait", "-sp", "bench", what="freeing a disk")
        self.pool.make_disk("fresh", filled=False)


class BdfsSnap(Once, paths.OnPool):
    """A thin disk of which a snapshot was just taken: every write is the first to its block since."""
    number = 0

    def __init__(self, pool):
        super().__init__("bdfs-snap", pool)

    def setup(self):
        self.targets = [self.pool.make_disk("snap")]

    def prepare(self):
        """The snapshot before goes, and with it what it kept."""
        if self.number:
            self.pool.bdfs("snapshot", "-remove", f"s{self.number}", "-sp", "bench", "-lu", "snap", "-yes")
        self.pool.bdfs("jobs", "-wait", "-sp", "bench", what="folding a snapshot")
        self.number += 1
        self.pool.bdfs("snapshot", "-create", f"s{self.number}", "-sp", "bench", "-lu", "snap")
