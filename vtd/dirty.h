/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of guest pages that this side has written, for live migration: a bitmap that the front end shares, one bit
 * for each 4 KiB of guest-physical memory.
 *
 * Context: Q while rings run; changes: the control thread, while none runs.
 */
#ifndef VTD_DIRTY_H
#define VTD_DIRTY_H

#include "vtd/memory.h"

#define VTD_DIRTY_PAGE_SHIFT 12

struct vtd_dirty {
	bool is_on; /* VHOST_F_LOG_ALL is negotiated */
	uint64_t bytes;
	struct vtd_mapping mapping; /* map NULL: none */
};

/* Marks the pages of [guest_addr, guest_addr + bytes); what lies beyond the bitmap is left out. */
static inline void vtd_dirty_mark(const struct vtd_dirty *dirty, uint64_t guest_addr, uint64_t bytes)
{
	if (!dirty->is_on || !dirty->mapping.map || bytes == 0)
		return;
	uint64_t last = (guest_addr + bytes - 1) >> VTD_DIRTY_PAGE_SHIFT;
	for (uint64_t page = guest_addr >> VTD_DIRTY_PAGE_SHIFT; page <= last && page / 8 < dirty->bytes; page++)
		__atomic_fetch_or(&dirty->mapping.host[page / 8], (uint8_t)(1u << page % 8), __ATOMIC_RELAXED);
}

/* The same for memory that a pointer from vtd_memory_guest leads to. */
static inline void vtd_dirty_mark_host(const struct vtd_dirty *dirty, const struct vtd_memory *memory,
				       const void *host, uint64_t bytes)
{
	uint64_t guest_addr;

	if (dirty->is_on && vtd_memory_address_of(memory, host, &guest_addr))
		vtd_dirty_mark(dirty, guest_addr, bytes);
}

#endif
