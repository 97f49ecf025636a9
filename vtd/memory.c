/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots of guest memory.
 *
 * Mapping: the part asked for is extended to the file's block size, as a
 * mapping of huge pages can be made and unmapped in those units only. Every
 * mapping is guarded (vtd/guard.h), since its file can be cut short later, and
 * left out of children of a fork.
 *
 * Lookup: a guest has a handful of slots, so they are looked through in order.
 *
 * Failure modes, all of them the front end's: a region of no size; sums that
 * wrap; one that overlaps another; a file that ends before the region does; a file whose pages somebody would have to
 * bring (FUSE, a network): a queue thread that waits for such a page would hold up all guests, and for ever if the
 * file were in our own mount.
 */
#include <errno.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vtd/memory.h"

#ifndef HUGETLBFS_MAGIC
#define HUGETLBFS_MAGIC 0x958458f6
#endif
#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

static int refuse(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -EPROTO;
}

static bool wraps(uint64_t start, uint64_t bytes)
{
	uint64_t end;

	return __builtin_add_overflow(start, bytes, &end);
}

/* ---- mappings ----------------------------------------------------------------------------- */

static bool is_local_memory(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return false;
	switch ((unsigned long)fs.f_type) {
	case TMPFS_MAGIC:
	case HUGETLBFS_MAGIC:
	case RAMFS_MAGIC:
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
		return true;
	}
	return false;
}

int vtd_mapping_open(int fd, uint64_t offset, uint64_t size, _Atomic bool *broken, struct vtd_mapping *ret,
		     const char **ret_why)
{
	uint64_t end, unit = (uint64_t)sysconf(_SC_PAGESIZE);
	struct stat st;

	if (size == 0 || __builtin_add_overflow(offset, size, &end) || end > (uint64_t)INT64_MAX - GIB)
		return refuse(ret_why, "memory of no size, or past the end of numbers");
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return refuse(ret_why, "memory that is not a file");
	if (end > (uint64_t)st.st_size)
		return refuse(ret_why, "memory past the end of its file");
	if (!is_local_memory(fd))
		return refuse(ret_why, "memory in a file system that may not answer (FUSE, network)");
	if (st.st_blksize > (blksize_t)unit && (st.st_blksize & (st.st_blksize - 1)) == 0 &&
	    (uint64_t)st.st_blksize <= GIB)
		unit = (uint64_t)st.st_blksize;
	uint64_t begin = round_down_to(offset, unit);
	size_t bytes = (size_t)(round_up_to(end, unit) - begin);
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, (off_t)begin);
	if (map == MAP_FAILED) {
		*ret_why = "memory that can't be mapped";
		return -errno;
	}
	(void)madvise(map, bytes, MADV_DONTFORK);
	*ret = (struct vtd_mapping){ .map = map, .map_bytes = bytes, .host = (uint8_t *)map + (offset - begin) };
	int rc = vtd_guard_add(map, bytes, broken, &ret->guard);
	if (rc < 0)
		munmap(map, bytes);
	return rc;
}

void vtd_mapping_close(struct vtd_mapping *mapping)
{
	if (!mapping->map)
		return;
	vtd_guard_remove(mapping->guard);
	munmap(mapping->map, mapping->map_bytes);
	*mapping = (struct vtd_mapping){ 0 };
}

/* ---- slots -------------------------------------------------------------------------------- */

static bool overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
	return a < b + b_bytes && b < a + a_bytes;
}

int vtd_memory_add(struct vtd_memory *memory, const struct vtd_region *region, int fd, _Atomic bool *broken,
		   const char **ret_why)
{
	struct vtd_slot *slot = &memory->slots[memory->count];

	if (memory->count == VTD_SLOTS_MAX)
		return refuse(ret_why, "more regions of memory than there are slots");
	if (wraps(region->guest_addr, region->size) || wraps(region->user_addr, region->size))
		return refuse(ret_why, "a region of memory past the end of numbers");
	for (unsigned i = 0; i < memory->count; i++) {
		const struct vtd_slot *other = &memory->slots[i];

		/* The same memory may be seen at two guest addresses, so user addresses may overlap. */
		if (overlap(region->guest_addr, region->size, other->guest_addr, other->size))
			return refuse(ret_why, "regions of memory that overlap");
	}
	*slot = (struct vtd_slot){ .guest_addr = region->guest_addr,
				   .user_addr = region->user_addr,
				   .size = region->size };
	int rc = vtd_mapping_open(fd, region->mmap_offset, region->size, broken, &slot->mapping, ret_why);
	if (rc == 0)
		memory->count++;
	return rc;
}

int vtd_memory_remove(struct vtd_memory *memory, const struct vtd_region *region, const char **ret_why)
{
	for (unsigned i = 0; i < memory->count; i++) {
		struct vtd_slot *slot = &memory->slots[i];

		if (slot->guest_addr != region->guest_addr || slot->user_addr != region->user_addr ||
		    slot->size != region->size)
			continue;
		vtd_mapping_close(&slot->mapping);
		memmove(slot, slot + 1, (--memory->count - i) * sizeof(*slot));
		return 0;
	}
	return refuse(ret_why, "the removal of a region of memory that is not there");
}

void vtd_memory_clear(struct vtd_memory *memory)
{
	while (memory->count > 0)
		vtd_mapping_close(&memory->slots[--memory->count].mapping);
}

/* ---- addresses ---------------------------------------------------------------------------- */

void *vtd_memory_guest(const struct vtd_memory *memory, uint64_t addr, uint64_t *length)
{
	for (unsigned i = 0; i < memory->count; i++) {
		const struct vtd_slot *slot = &memory->slots[i];
		uint64_t into = addr - slot->guest_addr;

		if (addr < slot->guest_addr || into >= slot->size)
			continue;
		*length = MIN(*length, slot->size - into);
		return slot->mapping.host + into;
	}
	return NULL;
}

void *vtd_memory_user(const struct vtd_memory *memory, uint64_t addr, uint64_t length)
{
	for (unsigned i = 0; i < memory->count; i++) {
		const struct vtd_slot *slot = &memory->slots[i];
		uint64_t into = addr - slot->user_addr;

		if (addr >= slot->user_addr && into < slot->size)
			return length <= slot->size - into ? slot->mapping.host + into : NULL;
	}
	return NULL;
}

bool vtd_memory_address_of(const struct vtd_memory *memory, const void *host, uint64_t *ret_guest_addr)
{
	for (unsigned i = 0; i < memory->count; i++) {
		const struct vtd_slot *slot = &memory->slots[i];
		uintptr_t into = (uintptr_t)host - (uintptr_t)slot->mapping.host;

		if ((uintptr_t)host >= (uintptr_t)slot->mapping.host && into < slot->size) {
			*ret_guest_addr = slot->guest_addr + into;
			return true;
		}
	}
	return false;
}
