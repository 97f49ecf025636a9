/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of a guest: what the front end shares, and how addresses become pointers.
 *
 * A table has slots; each maps a part of a file that the front end gave. Guest
 * addresses (in descriptors) and addresses of the front end (of the rings) are
 * numbers from outside: they become pointers here and nowhere else, and only
 * together with a length, which may be cut at the end of a slot.
 *
 * A table changes only while no ring runs and no request is in flight; the
 * session sees to that. So lookups take no lock.
 *
 * Context: changes: the control thread. Lookups: the control thread, or Q while rings run.
 */
#ifndef VTD_MEMORY_H
#define VTD_MEMORY_H

#include <stdatomic.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/types.h"
#include "vtd/guard.h"
#include "vtd/proto.h"

/* VHOST_USER_GET_MAX_MEM_SLOTS: enough for hot-plugged memory; each costs a mapping. */
#define VTD_SLOTS_MAX 64

/* A shared mapping of a part of somebody else's file. */
struct vtd_mapping {
	void *map;
	size_t map_bytes;
	uint8_t *host; /* where the part begins */
	struct vtd_guard *guard;
};

/*
 * Maps [offset, offset + size) of fd, which stays the caller's. The file has to be regular, in a file system that
 * does not need a program to answer page faults (tmpfs, hugetlbfs, ext4, xfs, btrfs), and at least offset + size
 * long. Return: 0; -EPROTO (ret_why); -ENOMEM, other negative errno of mmap.
 */
MUST_CHECK int vtd_mapping_open(int fd, uint64_t offset, uint64_t size, _Atomic bool *broken, struct vtd_mapping *ret,
				const char **ret_why);
void vtd_mapping_close(struct vtd_mapping *mapping);

struct vtd_slot {
	uint64_t guest_addr, user_addr, size;
	struct vtd_mapping mapping;
};

struct vtd_memory {
	unsigned count;
	struct vtd_slot slots[VTD_SLOTS_MAX];
};

/* Return: 0; -EPROTO (ret_why: overlaps, wraps, too many, a bad file); -ENOMEM ... fd stays the caller's. */
MUST_CHECK int vtd_memory_add(struct vtd_memory *memory, const struct vtd_region *region, int fd,
			      _Atomic bool *broken, const char **ret_why);
/* Return: 0; -EPROTO (no such region). */
MUST_CHECK int vtd_memory_remove(struct vtd_memory *memory, const struct vtd_region *region, const char **ret_why);
void vtd_memory_clear(struct vtd_memory *memory);

/*
 * The pointer to guest address addr and, in *length (bytes wanted, > 0), how many of them lie there before the slot
 * ends. NULL: not mapped. What is beyond is translated anew.
 */
void *vtd_memory_guest(const struct vtd_memory *memory, uint64_t addr, uint64_t *length);
/* All of [addr, addr + length) within one slot, by the front end's addresses; NULL otherwise. */
void *vtd_memory_user(const struct vtd_memory *memory, uint64_t addr, uint64_t length);
/* The way back, for the log of dirty pages: the guest address of a pointer that came from vtd_memory_guest. */
bool vtd_memory_address_of(const struct vtd_memory *memory, const void *host, uint64_t *ret_guest_addr);

/*
 * Copies out of shared memory, each byte read once. What is decided afterwards is decided on the copy: the compiler
 * may not read the source again.
 */
static inline void vtd_copy_once(void *to, const void *from, size_t bytes)
{
	__builtin_memcpy(to, from, bytes);
	__asm__ volatile("" : : "r"(to) : "memory");
}

#endif
