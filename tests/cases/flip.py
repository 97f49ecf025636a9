# SPDX-License-Identifier: Apache-2.0
"""Flips one bit of a live record in an LMDB file, for the case flipped-bits.

    flip.py FILE kinds                    prints the names of the databases that hold records
    flip.py FILE record KIND SEED         flips a bit of a value in that database; says where
    flip.py FILE page SEED                flips a bit anywhere in the used part of a live page

Knows just enough of LMDB 0.9's layout (64-bit, 4 KiB pages) to tell live pages from stale ones: the
newer of the two meta pages names the root, whose leaves name each database's root, and so on down.
"""
import random
import struct
import sys

PAGE = 4096
HEADER = 16
BRANCH, LEAF, OVERFLOW = 0x01, 0x02, 0x04
BIG_DATA, SUB_DATA = 0x01, 0x02
NO_PAGE = (1 << 64) - 1


class Environment:
    def __init__(self, path):
        self.path = path
        with open(path, "rb") as f:
            self.data = bytearray(f.read())
        metas = [self.data[n * PAGE:(n + 1) * PAGE] for n in (0, 1)]
        # After the page header: magic, version, address, map size, then two database records, then the
        # last page and the number of the transaction.
        newest = max(metas, key=lambda meta: struct.unpack_from("<Q", meta, HEADER + 24 + 2 * 48 + 8)[0])
        self.main_root = struct.unpack_from("<Q", newest, HEADER + 24 + 48 + 40)[0]

    def nodes(self, page_number):
        """Yields (page, offset of the node, flags) of every leaf node below a page."""
        if page_number == NO_PAGE:
            return
        base = page_number * PAGE
        flags, lower = struct.unpack_from("<HH", self.data, base + 10)
        for slot in range((lower - HEADER) // 2):
            at = base + struct.unpack_from("<H", self.data, base + HEADER + 2 * slot)[0]
            low, high, node_flags, key_bytes = struct.unpack_from("<HHHH", self.data, at)
            if flags & BRANCH:
                yield from self.nodes(low | high << 16 | node_flags << 32)
            else:
                yield page_number, at, node_flags

    def key(self, at):
        return bytes(self.data[at + 8:at + 8 + struct.unpack_from("<H", self.data, at + 6)[0]])

    def value(self, at, node_flags):
        """(offset, length) of a node's value in the file."""
        low, high, _, key_bytes = struct.unpack_from("<HHHH", self.data, at)
        start = at + 8 + key_bytes
        if node_flags & BIG_DATA:
            start = struct.unpack_from("<Q", self.data, start)[0] * PAGE + HEADER
        return start, low | high << 16

    def databases(self):
        found = {}
        for _, at, node_flags in self.nodes(self.main_root):
            if node_flags & SUB_DATA:
                found[self.key(at).decode()] = struct.unpack_from("<Q", self.data, self.value(at, node_flags)[0] + 40)[0]
        return found

    def flip(self, at, source):
        self.data[at] ^= 1 << source.randrange(8)
        with open(self.path, "r+b") as f:
            f.seek(at)
            f.write(self.data[at:at + 1])


def main():
    environment = Environment(sys.argv[1])
    databases = environment.databases()
    if sys.argv[2] == "kinds":
        print(" ".join(name for name, root in sorted(databases.items()) if root != NO_PAGE))
    elif sys.argv[2] == "record":
        source = random.Random(sys.argv[3] + sys.argv[4])
        _, at, node_flags = source.choice(list(environment.nodes(databases[sys.argv[3]])))
        start, length = environment.value(at, node_flags)
        byte = start + source.randrange(length)
        environment.flip(byte, source)
        print(f"{sys.argv[3]} record {environment.key(at).hex()}: byte {byte - start} of {length}")
    else:
        source = random.Random(int(sys.argv[3]))
        pages = sorted({page for root in databases.values() for page, _, _ in environment.nodes(root)})
        page = source.choice(pages)
        lower, upper = struct.unpack_from("<HH", environment.data, page * PAGE + 12)
        byte = source.choice([*range(HEADER, lower), *range(upper, PAGE)])
        environment.flip(page * PAGE + byte, source)
        print(f"page {page} byte {byte}")


main()
