/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtqueues as the device sees them: taking what the guest offers, giving back what is done.
 *
 * Everything in a ring can be rewritten by the guest at any time. So each index,
 * each descriptor and each indirect table is copied once into memory of our own,
 * and only the copy is looked at; what we need to remember (positions, which
 * heads are out, the free list of the inflight region) is kept here and not
 * read back from there.
 *
 * vring_split.c and vring_packed.c are the two layouts behind one set of
 * functions. A chain that was taken is known by its token until it is completed.
 * On split rings completed chains gather in a batch; vtd_vring_publish() shows it to the guest.
 *
 * With an inflight region (struct vtd_inflight_split, _packed in proto.h) each
 * chain is noted in it from take to publish, so that after our death the next
 * daemon knows what to carry out again: vtd_vring_take() gives those first.
 *
 * Context: vtd_vring_open: the control thread, ring stopped. Others: the ring's Q.
 */
#ifndef VTD_VRING_H
#define VTD_VRING_H

#include <linux/virtio_ring.h>

#include "base/error.h"
#include "base/types.h"
#include "vtd/dirty.h"
#include "vtd/memory.h"
#include "vtd/proto.h"

/* Largest ring that is served, and so the longest chain: 256 is usual, 1,024 the most that front ends offer. */
#define VTD_VRING_SIZE_MAX 1024
#define VTD_CHAIN_MAX VTD_VRING_SIZE_MAX

struct vtd_desc {
	uint64_t addr;
	uint32_t len;
	bool is_write; /* the device writes there */
};

struct vtd_token {
	uint16_t id;    /* what the guest knows it by: head (split), buffer id (packed) */
	uint16_t descs; /* packed: entries of the ring that it takes up */
	uint16_t slot;  /* of the inflight region */
};

struct vtd_chain {
	struct vtd_token token;
	bool is_resubmitted;
	unsigned count;
	struct vtd_desc desc[VTD_CHAIN_MAX];
};

/* What a ring is opened with; pointers are translated already and checked to hold all of it. */
struct vtd_vring_args {
	bool packed, event_idx, indirect;
	uint16_t num;
	uint32_t base;          /* as SET_VRING_BASE says; a region that is in use knows better */
	void *descriptor;       /* 16 bytes each */
	void *available, *used; /* packed: driver and device event areas */
	void *inflight;         /* this queue's part of the region, or NULL */
	const struct vtd_memory *memory;
	const struct vtd_dirty *dirty;
};

struct vtd_vring {
	struct vtd_vring_args a;      /* const while open */
	const char *why;              /* after -EPROTO: what the guest did */
	uint16_t avail_pos, used_pos; /* split: count freely; packed: positions in the ring, */
	bool avail_wrap, used_wrap;   /*	with these */
	uint16_t unsignalled;         /* used entries since the last decision about an interrupt */
	uint64_t counter;             /* next number for the inflight region */
	unsigned batch;               /* split: completed and not published */
	uint16_t batch_slots[VTD_VRING_SIZE_MAX];
	uint64_t is_out[VTD_VRING_SIZE_MAX / 64]; /* split: heads that were taken */
	/* packed: entries of the ring that were taken; the inflight region's free slots, and the chains in it */
	unsigned out_descs;
	uint16_t free_head, free_next[VTD_VRING_SIZE_MAX], slot_descs[VTD_VRING_SIZE_MAX];
	struct vring_packed_desc copies[VTD_VRING_SIZE_MAX];
	/* What was under way when another daemon died, in order. */
	unsigned resubmit_count, resubmit_next;
	uint16_t resubmit[VTD_VRING_SIZE_MAX];
	/* Copy of an indirect table. */
	struct vring_desc table[VTD_CHAIN_MAX];
};

/* Bytes of the parts of a ring, and of a queue's part of the inflight region (the same for both layouts). */
size_t vtd_vring_descriptor_bytes(unsigned num);
size_t vtd_vring_available_bytes(bool packed, unsigned num);
size_t vtd_vring_used_bytes(bool packed, unsigned num);
size_t vtd_vring_inflight_bytes(unsigned num);

/* a->num: 1 to VTD_VRING_SIZE_MAX, split: a power of two. Never fails: an inflight region that makes no sense is
 * started anew. */
void vtd_vring_open(struct vtd_vring *v, const struct vtd_vring_args *a);

/* The next chain. Return: 1 (ret is filled), 0 (none), -EPROTO (v->why). */
MUST_CHECK int vtd_vring_take(struct vtd_vring *v, struct vtd_chain *ret);
/* written: bytes that the device wrote into the chain. */
void vtd_vring_complete(struct vtd_vring *v, const struct vtd_token *token, uint32_t written);
void vtd_vring_publish(struct vtd_vring *v);
/* After a publish: does the guest want an interrupt for what came since the last time it was asked? */
bool vtd_vring_wants_call(struct vtd_vring *v);

/* Asks the guest for kicks. False: there is something already, and the caller goes on without waiting. */
bool vtd_vring_expect_kicks(struct vtd_vring *v);
void vtd_vring_suppress_kicks(struct vtd_vring *v);
bool vtd_vring_has_work(const struct vtd_vring *v);

/* For GET_VRING_BASE: nothing is in flight. */
uint32_t vtd_vring_base(const struct vtd_vring *v);

/* ---- shared by the two layouts ------------------------------------------------------------ */

/* Bytes of guest memory, wherever they lie, copied once. False: not all of it is mapped. */
bool vtd_vring_copy_guest(const struct vtd_vring *v, uint64_t addr, void *to, uint64_t bytes);
int vtd_vring_bad(struct vtd_vring *v, const char *why);
int vtd_vring_push(struct vtd_vring *v, struct vtd_chain *chain, uint64_t addr, uint32_t len, bool is_write);
/* Copies the table of an indirect descriptor into v->table. Return: its entries, or -EPROTO. */
int vtd_vring_table(struct vtd_vring *v, uint64_t addr, uint32_t len);
/* For the log of dirty pages: this part of the ring was written. */
void vtd_vring_mark(const struct vtd_vring *v, const void *part, uint64_t bytes);
/* Sorts v->resubmit[0..count) by counters[slot]. */
void vtd_vring_sort_resubmit(struct vtd_vring *v, const uint64_t *counters);

struct vtd_vring_ops {
	void (*open)(struct vtd_vring *v);
	int (*take)(struct vtd_vring *v, struct vtd_chain *ret);
	void (*complete)(struct vtd_vring *v, const struct vtd_token *token, uint32_t written);
	void (*publish)(struct vtd_vring *v);
	bool (*wants_call)(struct vtd_vring *v, uint16_t count);
	void (*ask_kicks)(struct vtd_vring *v);
	void (*suppress_kicks)(struct vtd_vring *v);
	bool (*has_work)(const struct vtd_vring *v);
	uint32_t (*base)(const struct vtd_vring *v);
};
extern const struct vtd_vring_ops vtd_vring_split_ops, vtd_vring_packed_ops;

#endif
