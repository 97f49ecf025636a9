# SPDX-License-Identifier: Apache-2.0
"""The peers of `bench/snapshots peers`: what snapshots cost elsewhere, measured as in bench/snapshots.

    bdfs          a file of the mount
    qcow2 chain   qemu-storage-daemon, FUSE export; a snapshot is another file on top (a backing chain)
    qcow2 inside  the same with internal snapshots (qemu-img snapshot -c)
    dm-thin       the kernel's, blocks of 64 KiB, in a User-mode Linux (--uml) on two of its disks

All of them have chunks (clusters, blocks) of 64 KiB. Each is raced against itself without snapshots, so a ratio says
nothing of how fast it is, only of what a snapshot takes away. A side is a device or file that is read and written with
O_DIRECT, 4 KiB at depth 1.
"""
import json, os, resource, shutil, signal, subprocess, sys, time

SECTOR, BLOCK_SECTORS = 512, 128
DEPTHS = (1, 100, 1000)


def run(*words):
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)


def wait_for(what, done, seconds=60):
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def io_of(pid):
    with open(f"/proc/{pid}/io", encoding="ascii") as io:
        return next(int(line.split()[1]) for line in io if line.startswith("write_bytes:"))


# ---- qcow2 ----------------------------------------------------------------------------------------


class Qcow2:
    """Disks of one kind of snapshot; each is served by a daemon of its own."""

    def __init__(self, home, qsd, inside):
        self.home, self.qsd, self.inside = home, qsd, inside
        self.img = os.path.join(os.path.dirname(qsd), "qemu-img")
        # One that lies in a folder with a system of its own needs that system's libraries.
        root = os.path.abspath(qsd).removesuffix("/usr/bin/qemu-storage-daemon")
        self.loader = []
        if root not in ("", os.path.abspath(qsd)):
            libraries = [os.path.join(root, part) for part in ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")]
            self.loader = [os.path.join(root, "lib64/ld-linux-x86-64.so.2"), "--library-path", ":".join(libraries)]
        self.disks = {}
        resource.setrlimit(resource.RLIMIT_NOFILE, 2 * resource.getrlimit(resource.RLIMIT_NOFILE)[1:])  # a long chain

    def tool(self, program, *words):
        return [*self.loader, program, *map(str, words)]

    def make(self, name, size):
        self.disks[name] = {"file": os.path.join(self.home, f"{name}.0"), "depth": 0, "pid": None}
        run(*self.tool(self.img, "create", "-q", "-f", "qcow2", self.disks[name]["file"], size))
        return self.open(name)

    def path(self, name):
        return os.path.join(self.home, f"{name}.export")

    def open(self, name):
        disk, path = self.disks[name], self.path(name)
        open(path, "w", encoding="ascii").close()
        disk["pid"] = subprocess.Popen(
            self.tool(self.qsd, "--blockdev", f"file,node-name=f,filename={disk['file']},cache.direct=on",
                      "--blockdev", "qcow2,node-name=q,file=f,discard=unmap",
                      "--export", f"fuse,id=e,node-name=q,mountpoint={path},writable=on"))
        wait_for(f"{name}: the export", lambda: self.is_exported(name))
        return path

    def is_exported(self, name):
        if self.disks[name]["pid"].poll() is not None:
            sys.exit(f"{self.qsd}: ended with {self.disks[name]['pid'].returncode}")
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            return any(f" {self.path(name)} " in line for line in mounts)

    def close(self, name):
        daemon = self.disks[name]["pid"]
        if daemon and daemon.poll() is None:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(120)
        self.disks[name]["pid"] = None

    def snapshot(self, name, count=1, between=None):
        """The export goes and comes back. between: what a snapshot changes, by one file descriptor a time."""
        disk = self.disks[name]
        for _ in range(count):
            if between:
                between()
            self.close(name)
            disk["depth"] += 1
            if self.inside:
                run(*self.tool(self.img, "snapshot", "-c", f"s{disk['depth']}", disk["file"]))
            else:
                upper = os.path.join(self.home, f"{name}.{disk['depth']}")
                run(*self.tool(self.img, "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", disk["file"], upper))
                disk["file"] = upper
            self.open(name)

    def written(self, name):
        return io_of(self.disks[name]["pid"].pid)

    def done(self):
        for name in self.disks:
            self.close(name)


# ---- dm-thin, in the guest ------------------------------------------------------------------------


class Thin:
    """On the disks ubdb (metadata) and ubdc (data)."""

    def __init__(self):
        self.numbers, self.next = {}, 0
        sectors = int(open("/sys/block/ubdc/size", encoding="ascii").read())
        self.dmsetup("create", "pool", "--table", f"0 {sectors} thin-pool /dev/ubdb /dev/ubdc {BLOCK_SECTORS} 0 "
                                                  "1 skip_block_zeroing")

    @staticmethod
    def dmsetup(*words):
        run("dmsetup", *words, "--noudevsync", "--noudevrules")

    def make(self, name, size):
        self.numbers[name] = self.next
        self.dmsetup("message", "pool", 0, f"create_thin {self.next}")
        self.next += 1
        self.dmsetup("create", name, "--table", f"0 {size // SECTOR} thin {self.path('pool')} {self.numbers[name]}")
        return self.path(name)

    def path(self, name):
        """By its number: without udev nobody makes names."""
        words = ["dmsetup", "info", "-c", "--noheadings", "-o", "blkdevname", name]
        return "/dev/" + subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout.decode().strip()

    def snapshot(self, name, count=1, between=None):
        for _ in range(count):
            if between:
                between()
            self.dmsetup("suspend", name)
            self.dmsetup("message", "pool", 0, f"create_snap {self.next} {self.numbers[name]}")
            self.dmsetup("resume", name)
            self.next += 1

    def written(self, _):
        return sum(int(open(f"/sys/block/{disk}/stat", encoding="ascii").read().split()[6]) * SECTOR
                   for disk in ("ubdb", "ubdc"))

    def open(self, name):
        return self.path(name)

    def close(self, name):
        pass

    def done(self):
        pass


def thin_in_uml(home, script, options):
    """Runs `bench/snapshots thin` as the init of a User-mode Linux and takes what it prints."""
    modules = [os.path.join("/usr/lib/uml/modules", name) for name in os.listdir("/usr/lib/uml/modules")]
    for name, size in ("meta", 64 << 20), ("data", 1 << 30):
        with open(os.path.join(home, name), "w", encoding="ascii") as disk:
            disk.truncate(size)
    init = os.path.join(home, "init")
    with open(init, "w", encoding="ascii") as file:
        file.write(f"""#!/bin/bash
mount -t proc proc /proc; mount -t sysfs sys /sys; mountpoint -q /dev || mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp; mount -t tmpfs run /run; mkdir -p /tmp/modules/lib/modules
ln -s {modules[0]} /tmp/modules/lib/modules/
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp TMPDIR=/tmp LC_ALL=C.UTF-8
modprobe -d /tmp/modules dm-thin-pool
echo FIGURES $(/usr/bin/python3 {script} {options} thin)
sync; echo o >/proc/sysrq-trigger; sleep 60
""")
    os.chmod(init, 0o755)
    guest = subprocess.run(
        ["setsid", "timeout", "-s", "KILL", "900", "linux.uml", "mem=512M", "root=/dev/root", "rootfstype=hostfs",
         "rootflags=/", "ro", f"ubd1={home}/meta", f"ubd2={home}/data", "con=null", "con0=null,fd:1", "quiet",
         f"init={init}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        env=dict(os.environ, TMPDIR=home))
    said = guest.stdout.decode(errors="replace").replace("\r", "")
    for line in said.splitlines():
        if line.startswith("FIGURES {"):
            return json.loads(line.removeprefix("FIGURES "))
    print(said[-2000:], file=sys.stderr)
    return None


# ---- the measurement ------------------------------------------------------------------------------


def overwrites(peer, tools, size, seconds):
    """(rate of the first overwrite after a snapshot to a steady one, bytes written for each byte, without, with)"""
    File, race, blocks_of = tools
    blocks = blocks_of(size, 1, 16)
    disks = [File(peer.make(name, size)) for name in ("steady", "first")]
    for disk in disks:
        disk.fill(size)
        disk.close()
    peer.snapshot("first")
    disks = [File(peer.path(name)) for name in ("steady", "first")]
    (steady, first), done = race([(disk.write, blocks) for disk in disks], seconds)
    for disk in disks:
        os.fsync(disk.fd)
        disk.close()
    peer.snapshot("first")
    per_byte = []
    for name in "steady", "first":
        disk, before = File(peer.path(name)), peer.written(name)
        for block in blocks:
            disk.write(block)
        os.fsync(disk.fd)
        per_byte.append((peer.written(name) - before) / (len(blocks) * 4096))
        disk.close()
    return {"overwrite": steady / first, "written_steady": per_byte[0], "written_first": per_byte[1]}


def deepen(peer, have, depth, change, patience):
    """Return how deep it is, which is less than asked for when it took too long."""
    end = time.monotonic() + patience
    while have < depth and time.monotonic() < end:
        peer.snapshot("deep", 1, lambda: change(have))
        have += 1
    return have


def reads(peer, tools, size, args):
    File, race, blocks_of = tools
    figures, have = {}, 0
    for name in "flat", "deep":
        disk = File(peer.make(name, size))
        disk.fill(size)
        disk.close()

    def change(number):
        disk = File(peer.path("deep"))
        disk.write(number * 37 % (size // 4096))
        disk.close()

    for depth in (depth for depth in DEPTHS if depth <= args.deepest):
        have = deepen(peer, have, depth, change, args.patience)
        if have < depth:
            figures[f"depth {depth}"] = f"{have} snapshots in {args.patience} s: given up"
            break
        flat, deep = (File(peer.path(name), os.O_RDONLY) for name in ("flat", "deep"))
        blocks = blocks_of(size, depth)
        for block in blocks[:512]:
            flat.read(block)
            deep.read(block)
        (one, other), _ = race([(flat.read, blocks), (deep.read, blocks)], args.seconds)
        figures[f"depth {depth}"] = one / other
        flat.close()
        deep.close()
    return figures


def measure(peer, tools, args):
    figures = overwrites(peer, tools, args.peer_size << 20, args.seconds)
    figures.update(reads(peer, tools, 64 << 20, args))
    peer.done()
    return figures


def show(columns):
    rows = [("overwrite", "first overwrite to steady, rate"), ("written_steady", "written per byte, steady"),
            ("written_first", "written per byte, after a snapshot")]
    rows += [(f"depth {depth}", f"reads {depth} deep to none, rate") for depth in DEPTHS]
    print(f"{'4 KiB at depth 1':<36}" + "".join(f"{name:>14}" for name in columns))
    for key, text in rows:
        cells = []
        for figures in columns.values():
            value = figures.get(key) if figures else None
            cells.append("-" if value is None else f"{value:.2f}" if isinstance(value, float) else "given up")
        print(f"{text:<36}" + "".join(f"{cell:>14}" for cell in cells))
    for name, figures in columns.items():
        for key, value in (figures or {}).items():
            if isinstance(value, str):
                print(f"{name}, {key}: {value}")


def cleanup(home):
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        for where in [line.split()[4] for line in mounts if home in line]:
            subprocess.run(["umount", "-l", where], check=False)
    shutil.rmtree(home, ignore_errors=True)
