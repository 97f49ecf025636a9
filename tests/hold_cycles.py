#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fills a pool to the brim while it holds its writers, gives it space, and again.

A writer writes blocks that say where they belong, one after the other, and must see no error. A
reader reads a second disk all the time and notes how long each read took. Each time that lssp says a
write is held, a pv is added, and the time from the start of `chsp -add` to the next block that the
writer gets done is noted. In the end everything that was written is read back.
"""
import argparse
import json
import mmap
import os
import random
import struct
import subprocess
import sys
import threading
import time

BLOCK = 256 << 10
PV_MIB = 24


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--bdfs", "--pool", "--writer", "--reader", "--data", "--pvs"):
        parser.add_argument(name, required=True)
    parser.add_argument("--cycles", type=int, required=True)
    return parser.parse_args()


def block_of(number):
    return struct.pack("<QQ", number, number ^ 0x5A5A5A5A) * (BLOCK // 16)


class Writer(threading.Thread):
    def __init__(self, path):
        super().__init__(daemon=True)
        self.fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
        self.memory = mmap.mmap(-1, BLOCK)
        self.done = 0
        self.done_at = []
        self.stop = False
        self.error = None

    def run(self):
        try:
            while not self.stop:
                self.memory[:] = block_of(self.done)
                os.pwrite(self.fd, self.memory, self.done * BLOCK)
                self.done_at.append(time.monotonic())
                self.done += 1
        except OSError as error:
            self.error = error


class Reader(threading.Thread):
    def __init__(self, path):
        super().__init__(daemon=True)
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        self.memory = mmap.mmap(-1, 4096)
        self.times = {"free": [], "held": []}
        self.phase = "free"
        self.stop = False
        self.error = None

    def run(self):
        try:
            while not self.stop:
                began, phase = time.monotonic(), self.phase
                os.preadv(self.fd, [self.memory], random.randrange(2048) * 4096)
                self.times[phase].append(time.monotonic() - began)
                time.sleep(0.001)
        except OSError as error:
            self.error = error


def held_writes(arguments):
    out = subprocess.run([arguments.bdfs, "lssp", "-sp", arguments.pool, "--json"], check=True, capture_output=True)
    return json.loads(out.stdout)["pools"][0]["held_writes"]


def wait_for(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"FAILED: {what}: not within {seconds} s")
        time.sleep(0.01)


def add_space(arguments, cycle, writer):
    """Returns the seconds from the start of chsp to the next block done."""
    # A pool has 64 pvs at most: every fourth cycle adds one, the others make that one larger.
    path = os.path.join(arguments.pvs, f"cycle{cycle // 4}")
    before, began = writer.done, time.monotonic()
    subprocess.run(
        [arguments.bdfs, "chsp", "-add", "-sp", arguments.pool, "-size", f"{PV_MIB}M", path], check=True, capture_output=True
    )
    wait_for("a held write goes on after chsp -add", lambda: writer.done > before or writer.error)
    return writer.done_at[before] - began if writer.done > before else 0.0


def compare(path, blocks):
    with open(path, "rb") as file:
        for number in range(blocks):
            if file.read(BLOCK) != block_of(number):
                sys.exit(f"FAILED: block {number} is not what was written")


def percentile(times, share):
    times = sorted(times)
    return times[int(len(times) * share)] * 1000 if times else 0.0


def main():
    arguments = parse_arguments()
    writer, reader = Writer(arguments.writer), Reader(arguments.reader)
    reader.start()
    writer.start()
    released = []
    for cycle in range(arguments.cycles):
        wait_for("the writer is held", lambda: writer.error or held_writes(arguments) > 0)
        reader.phase = "held"
        time.sleep(0.2)
        released.append(add_space(arguments, cycle, writer))
        reader.phase = "free"
        if writer.error:
            break
    writer.stop = True
    # The last block may be held again.
    wait_for("the writer's last block", lambda: not writer.is_alive() or held_writes(arguments) > 0)
    if writer.is_alive():
        add_space(arguments, arguments.cycles, writer)
    writer.join()
    reader.stop = True
    reader.join()
    if writer.error or reader.error:
        sys.exit(f"FAILED: writer: {writer.error}, reader: {reader.error}")
    compare(arguments.writer, writer.done)
    for phase, times in reader.times.items():
        print(f"reads of the second disk, {phase}: {len(times)}, median {percentile(times, 0.5):.2f} ms, "
              f"99 % {percentile(times, 0.99):.2f} ms")
    print(f"{arguments.cycles} cycles, {writer.done * BLOCK >> 20} MiB written and compared; from chsp -add to the first "
          f"released write: median {percentile(released, 0.5):.1f} ms, longest {max(released) * 1000:.1f} ms")


if __name__ == "__main__":
    main()
