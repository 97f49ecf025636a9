# SPDX-License-Identifier: Apache-2.0
"""What a guest sees: vhost-user-blk sockets of bdfs and of qemu-storage-daemon, all under the same client,
bench/vhost_client.c, which sleeps while it waits. A figure of these rows compares with one of fio's rows as far as
the clients do: both are one thread that sleeps.
"""

import json

from race import fio, machine, paths, peers

# Of the client: requests in flight.
DEPTH_MAX = 64


class VhostPath(paths.Path):
    """A socket; targets is that. The first fill is the client's."""

    def accepts(self, load):
        return (self.writable or not load.writes) and load.jobs == 1 and load.depth <= DEPTH_MAX and \
            len(load.sides) == 1

    def client(self, setting, *words):
        return [str(setting.servers / "vhost-bench"), str(self.targets[0]), *words]

    def run_client(self, setting, operation, load, runtime_ms):
        words = self.client(setting, operation, str(load.block_bytes), str(load.depth), str(runtime_ms / 1000), "detail")
        status, out, err = fio.run_to_end(words, runtime_ms / 1000 + 60)
        if status:
            raise fio.FioError(f"{load.name} on {self.name}: the client ended with status {status}: {err.strip()[:600]}")
        return json.loads(out)

    def fill(self, setting):
        paths.run(self.client(setting, "fill", str(fio.MIB), "8", "0"), f"{self.name}: writing the device")

    def measure(self, size_bytes, load, warmup_ms, runtime_ms):
        operation = load.rw + ("sync" if load.syncs else "")
        if warmup_ms:
            self.run_client(self.setting, operation, load, warmup_ms)
        before = machine.cpu_times(self.server_pids)
        result = self.run_client(self.setting, operation, load, runtime_ms)
        after = machine.cpu_times(self.server_pids)
        if not result["ops"]:
            raise fio.FioError(f"{load.name} on {self.name}: the client did nothing")
        per_mop = 1e6 / result["ops"]
        return {**{key: result[key] for key in ("ops", "iops", "p50_us", "p99_us", "p99_9_us")},
                "bytes_per_s": result["iops"] * load.block_bytes,
                "server_cpu_s_per_mop": (after.server_s - before.server_s) * per_mop,
                "client_cpu_s_per_mop": result["cpu_s"] * per_mop,
                "machine_cpu_s_per_mop": (after.machine_s - before.machine_s) * per_mop,
                "steal_s": after.steal_s - before.steal_s}


class VhostBdfs(VhostPath):
    """A bd of a mounted pool behind a vhost-user adapter. outside: a file or device, served as it is; None: a thin
    disk, written all over."""

    def __init__(self, name, pool, outside=None, read_only=False):
        self.name, self.pool, self.outside = name, pool, outside
        self.writable = not read_only
        self.setting = pool.setting
        self.adapter = "vhost1" if outside else "vhost0"
        self.vtd = name
        self.is_mapped = False

    @property
    def server_pids(self):
        return [self.pool.server.pid]

    def setup(self):
        bd = self.outside
        if not bd:
            bd = self.name
            self.pool.make_disk(bd, filled=False)
        mapped = json.loads(self.pool.bdfs("mkvdev", "-sp", "bench", "-vdev", bd, "-vadapter", self.adapter, "-dev",
                                           self.vtd, *([] if self.writable else ["-ro"]), "--json",
                                           what="mapping a disk"))
        self.is_mapped = True
        self.targets = [find_device(mapped)]
        if self.writable:
            self.fill(self.setting)

    def teardown(self):
        if self.is_mapped:
            self.pool.bdfs("rmvdev", "-sp", "bench", "-vtd", self.vtd, "-force", what="unmapping a disk")
        self.is_mapped = False


def find_device(answer):
    """The socket in mkvdev's answer."""
    if isinstance(answer, dict):
        if isinstance(answer.get("device"), str):
            return answer["device"]
        answer = list(answer.values())
    if isinstance(answer, list):
        for value in answer:
            if found := find_device(value):
                return found
    return None


class VhostQsd(VhostPath):
    """qemu-storage-daemon's vhost-user-blk export with an iothread. kind: null, raw or qcow2."""

    def __init__(self, setting, name, kind):
        self.setting, self.name, self.kind = setting, name, kind
        self.image = None
        self.socket = setting.directory / f"{name}.sock"
        self.targets = [self.socket]
        self.server = None

    @property
    def server_pids(self):
        return [self.server.process.pid]

    def setup(self):
        peers.qsd_version(self.setting.qsd)
        peers.Qsd.make_image(self)
        export = (f"type=vhost-user-blk,id=e,node-name=n,addr.type=unix,addr.path={self.socket},writable=on,iothread=t")
        self.server = peers.Process([*self.setting.qsd, "--object", "iothread,id=t",
                                     *peers.blockdev(self.setting, self.kind, self.image), "--export", export],
                                    self.socket.with_suffix(".log"), self.socket.exists)
        self.server.start()
        self.fill(self.setting)

    def teardown(self):
        if self.server:
            self.server.stop()
        if self.image:
            self.image.unlink(missing_ok=True)
