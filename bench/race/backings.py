# SPDX-License-Identifier: Apache-2.0
"""The backings, which paths are raced on each, and what each path is divided by.

ext4    everything ends in one directory of a real filesystem: the whole path, device included.
block   the same on block devices: loop devices on files of that directory.
null    nothing ends anywhere: what the software costs. bdfs runs with its null engine, others with theirs.
device  a block device of the user's. It is only read, unless the user has said that its content may be lost; then
        a pool takes it, and the raw row has its last part, which the pool does not come to.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from race import paths, peers, states, vhost

NAMES = ["ext4", "block", "null", "device"]
PATH_NAMES = {
    "ext4": ["raw", "raw-fresh", "raw-x8", "floor", "passthrough", "qsd", "qsd-qcow2", "nbdfuse", "bdfs", "bdfs-fresh",
             "bdfs-snap", "bdfs-x8", "loop-raw", "loop-xfs", "loop-bdfs", "vhost-qsd", "vhost-qcow2", "vhost-bd",
             "vhost-bdfs"],
    "block": ["raw", "passthrough", "bdfs", "bdfs-fresh", "bdfs-snap", "vhost-bdfs"],
    "null": ["floor", "floor-uring", "floor-ring-1", "floor-ring-2", "passthrough", "qsd", "bdfs", "bdfs-fresh", "bdfs-x8",
             "loop-bdfs", "vhost-qsd", "vhost-bdfs"],
    "device": ["raw", "passthrough", "bdfs", "bdfs-fresh", "vhost-bd", "vhost-bdfs"],
}
# The columns of ratios, in order.
REFERENCES = ["raw", "floor", "floor-uring", "passthrough", "qsd", "bd", "steady"]
# What a column means for a path for which it does not mean the path of that name. None: nothing.
COUNTERPARTS = {
    ("bdfs-fresh", "raw"): "raw-fresh", ("bdfs-x8", "raw"): "raw-x8", ("loop-bdfs", "raw"): "loop-raw",
    ("vhost-bdfs", "qsd"): "vhost-qsd", ("vhost-bd", "qsd"): "vhost-qsd", ("vhost-bdfs", "bd"): "vhost-bd",
    ("vhost-bdfs", "floor"): None, ("vhost-bdfs", "floor-uring"): None, ("vhost-bdfs", "passthrough"): None,
    ("raw-fresh", "steady"): "raw", ("bdfs-fresh", "steady"): "bdfs", ("bdfs-snap", "steady"): "bdfs",
    ("bdfs-x8", "steady"): "bdfs", ("raw-x8", "steady"): "raw",
}


def reference(path, column):
    """The path that this one is divided by in a column, or None."""
    found = COUNTERPARTS.get((path, column), column)
    return None if found == path or found in ("bd", "steady") else found


@dataclass(frozen=True)
class Setting:
    """What every path of one backing is given."""
    name: str        # of the backing
    directory: Path  # ours alone, empty at start
    servers: Path    # the directory of the bench servers
    bdfs: Path       # the bdfs command
    size_bytes: int  # of every file raced
    engine: str      # bdfs's device engine on a real backing
    qsd: list = field(default_factory=lambda: ["qemu-storage-daemon"])
    qemu_img: str = "qemu-img"
    device: Path = None             # of the backing "device"
    device_is_ours: bool = False    # its content may be lost
    required: frozenset = frozenset()  # paths that must not be left out


def needed_bytes(backing, size_bytes, wanted):
    """Room on the disk for everything that is there at the same time."""
    if backing not in ("ext4", "block"):
        return 64 * paths.MIB
    wanted = wanted & set(PATH_NAMES[backing])
    full = len(wanted & {"raw-fresh", "raw-x8", "qsd", "qsd-qcow2", "nbdfuse", "loop-xfs", "vhost-qsd", "vhost-qcow2",
                         "vhost-bd", "bdfs", "bdfs-x8", "loop-bdfs", "vhost-bdfs"})
    full += bool(wanted & {"raw", "passthrough", "loop-raw"}) + 3 * len(wanted & {"bdfs-fresh", "bdfs-snap"})
    return full * size_bytes * 5 // 4 + (256 + 512 * ("loop-xfs" in wanted)) * paths.MIB


class Assembly:
    """Sets up the wanted paths and what they stand on, each thing once, when it is first asked for."""

    def __init__(self, setting, stack: ExitStack, say):
        self.setting, self.stack, self.say = setting, stack, say
        self.made = {}

    def once(self, key, make):
        if key not in self.made:
            thing = make()
            self.stack.callback(thing.teardown)
            thing.setup()
            self.made[key] = thing
        return self.made[key]

    def file(self):
        return self.once("file", lambda: paths.RawFile(self.setting))

    def raw(self):
        s = self.setting
        if s.name == "block":
            return self.once("raw", lambda: paths.Loop("raw", lambda: self.file().targets[0]))
        if s.name == "device":
            offset = device_bytes(s.device) - s.size_bytes if s.device_is_ours else 0
            return self.once("raw", lambda: paths.Existing("raw", s.device, offset, s.device_is_ours))
        return self.file()

    def pool(self):
        s = self.setting
        device = None
        if s.name == "block":
            device = self.once("pool-loop", lambda: paths.Loop("pool", self.make_pool_file)).targets[0]
        elif s.name == "device" and s.device_is_ours:
            device = s.device
        engine = "null" if s.name == "null" else s.engine
        return self.once("pool", lambda: paths.BdfsPool(s, engine, device))

    def make_pool_file(self):
        image = self.setting.directory / "pool.img"
        self.stack.callback(image.unlink, missing_ok=True)
        with open(image, "xb") as file:
            file.truncate(self.setting.size_bytes * paths.POOL_DISKS + 256 * paths.MIB)
        return image

    def daemon(self):
        return [self.pool().server.pid]

    def passthrough(self):
        if self.setting.name == "null":
            return paths.passthrough_null(self.setting)
        path = paths.passthrough(self.setting, self.raw().targets[0], not self.raw().writable)
        path.offset_bytes = self.raw().offset_bytes
        return path

    def vhost_bd(self):
        raw = self.raw().targets[0]
        if self.setting.name == "device":
            return vhost.VhostBdfs("vhost-bd", self.pool(), raw, read_only=True)
        return vhost.VhostBdfs("vhost-bd", self.pool(), self.once("bd", lambda: paths.RawFile(self.setting, "bd")).targets[0])

    def maker(self, name):
        """What makes the path of that name."""
        s = self.setting
        kind = "null" if s.name == "null" else "raw"
        return {
            "raw-fresh": lambda: states.RawFresh(s),
            "raw-x8": lambda: paths.RawFile(s, "raw-x8", 8),
            "floor": lambda: paths.floor(s),
            "floor-uring": lambda: paths.floor_uring(s),
            "floor-ring-1": lambda: paths.floor_ring(s, 1),
            "floor-ring-2": lambda: paths.floor_ring(s, 2),
            "passthrough": self.passthrough,
            "qsd": lambda: peers.Qsd(s, "qsd", kind),
            "qsd-qcow2": lambda: peers.Qsd(s, "qsd-qcow2", "qcow2"),
            "nbdfuse": lambda: peers.NbdFuse(s),
            "bdfs": lambda: paths.BdfsFile("bdfs", self.pool()),
            "bdfs-fresh": lambda: states.BdfsFresh(self.pool()),
            "bdfs-snap": lambda: states.BdfsSnap(self.pool()),
            "bdfs-x8": lambda: paths.BdfsFile("bdfs-x8", self.pool(), 8),
            "loop-raw": lambda: paths.Loop("loop-raw", lambda: self.file().targets[0]),
            "loop-xfs": lambda: peers.LoopXfs(s),
            # A disk of its own, so that the bdfs row is not measured on a file that the loop driver holds open.
            "loop-bdfs": lambda: paths.Loop("loop-bdfs", lambda: self.pool().make_disk("loop"), self.daemon),
            "vhost-qsd": lambda: vhost.VhostQsd(s, "vhost-qsd", kind),
            "vhost-qcow2": lambda: vhost.VhostQsd(s, "vhost-qcow2", "qcow2"),
            "vhost-bd": self.vhost_bd,
            "vhost-bdfs": lambda: vhost.VhostBdfs("vhost-bdfs", self.pool()),
        }[name]

    def path(self, name):
        self.say(f"{self.setting.name}: setting up {name}")
        return self.raw() if name == "raw" else self.once(name, self.maker(name))


def device_bytes(device):
    with open(device, "rb") as file:
        return file.seek(0, 2)


def set_up(setting, wanted, stack: ExitStack, say):
    """Sets up the wanted paths (a set of names). Returns those that can be had, in table order, and {name: why not}
    of the others; stack takes all down again in the opposite order."""
    assembly = Assembly(setting, stack, say)
    names = [name for name in PATH_NAMES[setting.name] if name in wanted]
    if setting.name == "device" and not setting.device_is_ours:
        names = [name for name in names if name in ("raw", "passthrough", "vhost-bd")]
    ready, missing = [], {}
    for name in names:
        try:
            ready.append(assembly.path(name))
        except paths.Unavailable as why:
            if name in setting.required:
                raise
            say(f"{setting.name}: {name} is left out: {why}")
            missing[name] = str(why)
    return ready, missing
