/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two layouts of a virtqueue share: the door to them, copying out of
 * guest memory, indirect tables, the order of resubmission.
 *
 * Failure modes, all the guest's: an indirect table that is empty, not whole,
 * too long or not all in its memory. They end the session.
 */
#include <errno.h>
#include <string.h>

#include "vtd/vring.h"

static const struct vtd_vring_ops *ops(const struct vtd_vring *v)
{
	return v->a.packed ? &vtd_vring_packed_ops : &vtd_vring_split_ops;
}

/* ---- sizes -------------------------------------------------------------------------------- */

size_t vtd_vring_descriptor_bytes(unsigned num)
{
	return num * sizeof(struct vring_desc);
}

size_t vtd_vring_available_bytes(bool packed, unsigned num)
{
	return packed ? sizeof(struct vring_packed_desc_event) : (3 + num) * sizeof(uint16_t);
}

size_t vtd_vring_used_bytes(bool packed, unsigned num)
{
	return packed ? sizeof(struct vring_packed_desc_event)
		      : 3 * sizeof(uint16_t) + num * sizeof(struct vring_used_elem);
}

size_t vtd_vring_inflight_bytes(unsigned num)
{
	/* The packed form is the larger one; one size for both, as the layout may be chosen later. */
	return round_up_to(sizeof(struct vtd_inflight_packed) + num * sizeof(struct vtd_inflight_packed_desc), 64);
}

/* ---- shared ------------------------------------------------------------------------------- */

int vtd_vring_bad(struct vtd_vring *v, const char *why)
{
	v->why = why;
	return -EPROTO;
}

bool vtd_vring_copy_guest(const struct vtd_vring *v, uint64_t addr, void *to, uint64_t bytes)
{
	while (bytes > 0) {
		uint64_t piece = bytes;
		void *from = vtd_memory_guest(v->a.memory, addr, &piece);

		if (!from)
			return false;
		vtd_copy_once(to, from, piece);
		to = (char *)to + piece;
		addr += piece; /* a slot ends before numbers do, so this wraps only where the next lookup fails */
		bytes -= piece;
	}
	return true;
}

int vtd_vring_push(struct vtd_vring *v, struct vtd_chain *chain, uint64_t addr, uint32_t len, bool is_write)
{
	if (chain->count == VTD_CHAIN_MAX)
		return vtd_vring_bad(v, "a chain of too many descriptors");
	chain->desc[chain->count++] = (struct vtd_desc){ .addr = addr, .len = len, .is_write = is_write };
	return 0;
}

int vtd_vring_table(struct vtd_vring *v, uint64_t addr, uint32_t len)
{
	uint32_t entries = len / sizeof(v->table[0]);

	if (!v->a.indirect)
		return vtd_vring_bad(v, "an indirect descriptor, which was not negotiated");
	if (len == 0 || len % sizeof(v->table[0]) != 0 || entries > VTD_CHAIN_MAX)
		return vtd_vring_bad(v, "an indirect table of a wrong size");
	if (!vtd_vring_copy_guest(v, addr, v->table, len))
		return vtd_vring_bad(v, "an indirect table outside the guest's memory");
	return (int)entries;
}

void vtd_vring_mark(const struct vtd_vring *v, const void *part, uint64_t bytes)
{
	if (v->a.dirty)
		vtd_dirty_mark_host(v->a.dirty, v->a.memory, part, bytes);
}

void vtd_vring_sort_resubmit(struct vtd_vring *v, const uint64_t *counters)
{
	for (unsigned i = 1; i < v->resubmit_count; i++) {
		uint16_t slot = v->resubmit[i];
		unsigned at = i;

		for (; at > 0 && counters[v->resubmit[at - 1]] > counters[slot]; at--)
			v->resubmit[at] = v->resubmit[at - 1];
		v->resubmit[at] = slot;
	}
}

/* ---- the door ----------------------------------------------------------------------------- */

void vtd_vring_open(struct vtd_vring *v, const struct vtd_vring_args *a)
{
	v->a = *a;
	v->why = "";
	v->unsignalled = 0;
	v->counter = 0;
	v->batch = 0;
	v->resubmit_count = v->resubmit_next = 0;
	memset(v->is_out, 0, sizeof(v->is_out));
	ops(v)->open(v);
}

int vtd_vring_take(struct vtd_vring *v, struct vtd_chain *ret)
{
	/* The inflight region's free list may not be changed from both ends at once. */
	if (v->batch)
		vtd_vring_publish(v);
	ret->count = 0;
	ret->is_resubmitted = false;
	return ops(v)->take(v, ret);
}

void vtd_vring_complete(struct vtd_vring *v, const struct vtd_token *token, uint32_t written)
{
	ops(v)->complete(v, token, written);
}

void vtd_vring_publish(struct vtd_vring *v)
{
	if (v->batch)
		ops(v)->publish(v);
	v->batch = 0;
}

bool vtd_vring_wants_call(struct vtd_vring *v)
{
	uint16_t count = v->unsignalled;

	if (count == 0)
		return false;
	v->unsignalled = 0;
	/* What was published is seen by the guest before we look at what it wants; it does the opposite. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return ops(v)->wants_call(v, count);
}

bool vtd_vring_expect_kicks(struct vtd_vring *v)
{
	ops(v)->ask_kicks(v);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!ops(v)->has_work(v))
		return true;
	ops(v)->suppress_kicks(v);
	return false;
}

void vtd_vring_suppress_kicks(struct vtd_vring *v)
{
	ops(v)->suppress_kicks(v);
}

bool vtd_vring_has_work(const struct vtd_vring *v)
{
	return v->resubmit_next < v->resubmit_count || ops(v)->has_work(v);
}

uint32_t vtd_vring_base(const struct vtd_vring *v)
{
	return ops(v)->base(v);
}
