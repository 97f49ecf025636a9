/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packed virtqueue (virtio 1.2, 2.8): one ring of descriptors, which the
 * guest marks available and we overwrite as used, each mark relative to a wrap
 * counter that turns over with every round.
 *
 * Happy path: take: the flags of the entry at avail_pos say available -> its
 * chain is copied, entry by entry -> noted in the inflight region -> ... ->
 * complete: an entry at used_pos, its flags last.
 *
 * The inflight region keeps a copy of the descriptors, as a used entry
 * overwrites them, in slots linked into a free list. For each completion
 * free_head and used_idx go ahead of old_free_head and old_used_idx; after our
 * death they are believed only if the entry at old_used_idx has become visible.
 *
 * The specification allows a batch, whose first entry becomes visible last. But
 * the flags of the others stay in the ring when we die before that; the next
 * daemon, which completes in another order, may then bring the guest to one of
 * them, and so to an answer that is given a second time later. So there are no
 * batches here: each completion is visible, and settled, by itself. Only the
 * interrupt is shared.
 *
 * The free list is kept here and only written there: an index that is read back
 * from shared memory could be any.
 *
 * Failure modes, all the guest's, all end the session: a chain longer than the
 * ring, an indirect descriptor where it may not be. A buffer id means nothing to
 * us, so it may be any. A region that does not fit the ring is started anew.
 */
#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "vtd/vring.h"

#define FLAG_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define FLAG_USED (1u << VRING_PACKED_DESC_F_USED)
#define WRAP_BIT (1u << VRING_PACKED_EVENT_F_WRAP_CTR)

static struct vring_packed_desc *ring_of(const struct vtd_vring *v)
{
	return v->a.descriptor;
}

static struct vring_packed_desc_event *guest_event(const struct vtd_vring *v)
{
	return v->a.available;
}

static struct vring_packed_desc_event *our_event(const struct vtd_vring *v)
{
	return v->a.used;
}

static struct vtd_inflight_packed *region_of(const struct vtd_vring *v)
{
	return v->a.inflight;
}

static uint16_t load(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store(uint16_t *p, uint16_t value)
{
	__atomic_store_n(p, value, __ATOMIC_RELEASE);
}

static void advance(const struct vtd_vring *v, uint16_t *pos, bool *wrap, unsigned by)
{
	unsigned next = *pos + by;

	if (next >= v->a.num) {
		next -= v->a.num;
		*wrap = !*wrap;
	}
	*pos = (uint16_t)next;
}

static bool is_available(uint16_t flags, bool wrap)
{
	return !!(flags & FLAG_AVAIL) == wrap && !!(flags & FLAG_USED) != wrap;
}

static bool is_used(uint16_t flags, bool wrap)
{
	return !!(flags & FLAG_AVAIL) == wrap && !!(flags & FLAG_USED) == wrap;
}

/* ---- the inflight region: positions and free slots ---------------------------------------- */

/* The four that belong together are one aligned word of the region, so that no death comes between them. */
struct positions {
	uint16_t used, old_used;
	uint8_t used_wrap, old_used_wrap, padding[2];
};
static_assert(sizeof(struct positions) == sizeof(uint64_t), "one word");
static_assert(offsetof(struct vtd_inflight_packed, used_idx) % sizeof(uint64_t) == 0, "aligned");
static_assert(offsetof(struct vtd_inflight_packed, old_used_wrap_counter) ==
		      offsetof(struct vtd_inflight_packed, used_idx) + offsetof(struct positions, old_used_wrap),
	      "in the order of the region");

static struct positions positions_load(const struct vtd_vring *v)
{
	uint64_t word = __atomic_load_n((uint64_t *)(void *)&region_of(v)->used_idx, __ATOMIC_ACQUIRE);
	struct positions p;

	memcpy(&p, &word, sizeof(p));
	return p;
}

static void positions_store(const struct vtd_vring *v, struct positions p)
{
	uint64_t word;

	memcpy(&word, &p, sizeof(word));
	__atomic_store_n((uint64_t *)(void *)&region_of(v)->used_idx, word, __ATOMIC_RELEASE);
}

static void positions_settle(const struct vtd_vring *v)
{
	positions_store(v, (struct positions){ v->used_pos, v->used_pos, v->used_wrap, v->used_wrap, { 0 } });
}

static void region_new(struct vtd_vring *v)
{
	struct vtd_inflight_packed *region = region_of(v);

	memset(region, 0, sizeof(*region) + v->a.num * sizeof(region->desc[0]));
	region->desc_num = v->a.num;
	positions_settle(v);
	v->free_head = 0;
	for (unsigned i = 0; i < v->a.num; i++)
		region->desc[i].next = v->free_next[i] = (uint16_t)(i + 1);
	store(&region->version, VTD_INFLIGHT_VERSION);
}

/* The entries of a chain go into slots from the free list; there is one for each entry of the ring. */
static void note(struct vtd_vring *v, const struct vring_packed_desc *d, unsigned count, uint16_t *ret_slot)
{
	struct vtd_inflight_packed *region = region_of(v);
	uint16_t head = v->free_head, slot = head, last = head;

	*ret_slot = head;
	if (!region)
		return;
	for (unsigned i = 0; i < count; i++) {
		struct vtd_inflight_packed_desc *e = &region->desc[slot];

		e->addr = d[i].addr;
		e->len = d[i].len;
		e->id = d[i].id;
		e->flags = d[i].flags;
		last = slot;
		slot = v->free_next[slot];
	}
	region->desc[head].last = last;
	region->desc[head].num = (uint16_t)count;
	region->desc[head].counter = v->counter++;
	v->free_head = slot;
	store(&region->free_head, slot);
	__atomic_store_n(&region->desc[head].inflight, 1, __ATOMIC_RELEASE);
	store(&region->old_free_head, slot);
}

static void give_back(struct vtd_vring *v, const struct vtd_token *token)
{
	struct vtd_inflight_packed *region = region_of(v);
	uint16_t last = token->slot;

	for (unsigned i = 1; i < token->descs; i++)
		last = v->free_next[last];
	v->free_next[last] = v->free_head;
	v->free_head = token->slot;
	store(&region->desc[last].next, v->free_next[last]);
	store(&region->free_head, v->free_head);
}

/* ---- the inflight region of another daemon ------------------------------------------------ */

/* Which of the two states in the region holds; positions from it. False: nonsense. */
static bool region_settle(struct vtd_vring *v)
{
	struct vtd_inflight_packed *region = region_of(v);
	struct positions p = positions_load(v);
	bool is_under_way = p.used != p.old_used || p.used_wrap != p.old_used_wrap;

	if (p.used >= v->a.num || p.old_used >= v->a.num || p.used_wrap > 1 || p.old_used_wrap > 1)
		return false;
	if (is_under_way && is_used(load(&ring_of(v)[p.old_used].flags), p.old_used_wrap)) {
		v->free_head = load(&region->free_head);
		store(&region->old_free_head, v->free_head);
		v->used_pos = p.used;
		v->used_wrap = p.used_wrap;
	} else {
		v->free_head = load(&region->old_free_head);
		store(&region->free_head, v->free_head);
		v->used_pos = p.old_used;
		v->used_wrap = p.old_used_wrap;
	}
	positions_settle(v);
	return true;
}

/* Copies the links, marks what is free; a slot that is met twice means nonsense. */
static bool region_walk_free(struct vtd_vring *v, uint64_t *is_seen, unsigned *ret_count)
{
	struct vtd_inflight_packed *region = region_of(v);
	unsigned count = 0;

	for (unsigned i = 0; i < v->a.num; i++)
		v->free_next[i] = load(&region->desc[i].next);
	for (uint16_t slot = v->free_head; slot < v->a.num; slot = v->free_next[slot]) {
		if (is_seen[slot / 64] >> slot % 64 & 1)
			return false;
		is_seen[slot / 64] |= UINT64_C(1) << slot % 64;
		__atomic_store_n(&region->desc[slot].inflight, 0, __ATOMIC_RELEASE);
		count++;
	}
	*ret_count = count;
	return true;
}

/* The slots of one chain must be in use by it alone. Return: how many, 0 = nonsense. */
static unsigned region_walk_chain(struct vtd_vring *v, uint16_t head, uint64_t *is_seen)
{
	unsigned num = load(&region_of(v)->desc[head].num);
	uint16_t slot = head;

	for (unsigned i = 0; i < num; i++) {
		if (slot >= v->a.num || is_seen[slot / 64] >> slot % 64 & 1)
			return 0;
		is_seen[slot / 64] |= UINT64_C(1) << slot % 64;
		slot = v->free_next[slot];
	}
	return num <= v->a.num ? num : 0;
}

static bool region_resubmit(struct vtd_vring *v)
{
	struct vtd_inflight_packed *region = region_of(v);
	uint64_t counters[VTD_VRING_SIZE_MAX], is_seen[VTD_VRING_SIZE_MAX / 64] = { 0 };
	unsigned total, chain;

	if (!region_walk_free(v, is_seen, &total))
		return false;
	v->avail_pos = v->used_pos;
	v->avail_wrap = v->used_wrap;
	for (uint16_t slot = 0; slot < v->a.num; slot++) {
		if (__atomic_load_n(&region->desc[slot].inflight, __ATOMIC_ACQUIRE) != 1)
			continue;
		chain = region_walk_chain(v, slot, is_seen);
		if (chain == 0)
			return false;
		total += chain;
		v->slot_descs[slot] = (uint16_t)chain;
		counters[slot] = region->desc[slot].counter;
		if (counters[slot] >= v->counter && counters[slot] < UINT64_MAX)
			v->counter = counters[slot] + 1;
		v->resubmit[v->resubmit_count++] = slot;
		advance(v, &v->avail_pos, &v->avail_wrap, chain);
	}
	vtd_vring_sort_resubmit(v, counters);
	return total == v->a.num;
}

static void region_open(struct vtd_vring *v)
{
	struct vtd_inflight_packed *region = region_of(v);
	struct vtd_vring before = { .avail_pos = v->avail_pos,
				    .avail_wrap = v->avail_wrap,
				    .used_pos = v->used_pos,
				    .used_wrap = v->used_wrap };

	if (load(&region->version) == VTD_INFLIGHT_VERSION && region->desc_num == v->a.num && region_settle(v) &&
	    region_resubmit(v))
		return;
	v->avail_pos = before.avail_pos;
	v->avail_wrap = before.avail_wrap;
	v->used_pos = before.used_pos;
	v->used_wrap = before.used_wrap;
	v->resubmit_count = 0;
	v->counter = 0;
	region_new(v);
}

/* ---- chains ------------------------------------------------------------------------------- */

static int push_table(struct vtd_vring *v, const struct vring_packed_desc *d, struct vtd_chain *ret)
{
	int entries = vtd_vring_table(v, d->addr, d->len);

	for (int i = 0; i < entries; i++) {
		struct vring_packed_desc t;

		memcpy(&t, &v->table[i], sizeof(t));
		if (t.flags & VRING_DESC_F_INDIRECT)
			return vtd_vring_bad(v, "an indirect descriptor inside an indirect table");
		int rc = vtd_vring_push(v, ret, t.addr, t.len, t.flags & VRING_DESC_F_WRITE);
		if (rc < 0)
			return rc;
	}
	return entries < 0 ? entries : 0;
}

static int push(struct vtd_vring *v, const struct vring_packed_desc *d, unsigned place, struct vtd_chain *ret)
{
	if (!(d->flags & VRING_DESC_F_INDIRECT))
		return vtd_vring_push(v, ret, d->addr, d->len, d->flags & VRING_DESC_F_WRITE);
	if (place > 0 || d->flags & VRING_DESC_F_NEXT)
		return vtd_vring_bad(v, "an indirect descriptor that is not alone");
	return push_table(v, d, ret);
}

static int take_again(struct vtd_vring *v, struct vtd_chain *ret)
{
	struct vtd_inflight_packed *region = region_of(v);
	uint16_t head = v->resubmit[v->resubmit_next++], slot = head;
	unsigned count = v->slot_descs[head];

	ret->is_resubmitted = true;
	for (unsigned i = 0; i < count; i++) {
		struct vtd_inflight_packed_desc e;

		vtd_copy_once(&e, &region->desc[slot], sizeof(e));
		struct vring_packed_desc d = { .addr = e.addr, .len = e.len, .id = e.id, .flags = e.flags };
		int rc = push(v, &d, i, ret);
		if (rc < 0)
			return rc;
		ret->token = (struct vtd_token){ .id = e.id, .descs = (uint16_t)count, .slot = head };
		slot = v->free_next[slot];
	}
	return 1;
}

static int packed_take(struct vtd_vring *v, struct vtd_chain *ret)
{
	struct vring_packed_desc *copies = v->copies;
	uint16_t pos = v->avail_pos;
	bool wrap = v->avail_wrap;
	unsigned count = 0;

	if (v->resubmit_next < v->resubmit_count)
		return take_again(v, ret);
	/* The head's flags last in the guest, so first here; the rest of the chain was written before it. */
	if (!is_available(load(&ring_of(v)[pos].flags), wrap))
		return 0;
	do {
		if (count == v->a.num)
			return vtd_vring_bad(v, "a chain of descriptors that does not end");
		vtd_copy_once(&copies[count], &ring_of(v)[pos], sizeof(copies[0]));
		int rc = push(v, &copies[count], count, ret);
		if (rc < 0)
			return rc;
		advance(v, &pos, &wrap, 1);
	} while (copies[count++].flags & VRING_DESC_F_NEXT);
	if (v->out_descs + count > v->a.num)
		return vtd_vring_bad(v, "more descriptors in flight than the ring has");
	v->out_descs += count;
	v->avail_pos = pos;
	v->avail_wrap = wrap;
	/* The id of a chain is in its last descriptor. */
	ret->token = (struct vtd_token){ .id = copies[count - 1].id, .descs = (uint16_t)count };
	note(v, copies, count, &ret->token.slot);
	return 1;
}

/* ---- completion --------------------------------------------------------------------------- */

static void packed_complete(struct vtd_vring *v, const struct vtd_token *token, uint32_t written)
{
	struct vring_packed_desc *d = &ring_of(v)[v->used_pos];
	struct vtd_inflight_packed *region = region_of(v);
	uint16_t flags = (uint16_t)((v->used_wrap ? FLAG_AVAIL | FLAG_USED : 0) | (written ? VRING_DESC_F_WRITE : 0));
	struct positions old = { .old_used = v->used_pos, .old_used_wrap = v->used_wrap };

	d->id = token->id;
	d->len = written;
	v->unsignalled = (uint16_t)(v->unsignalled + token->descs);
	v->out_descs -= token->descs;
	advance(v, &v->used_pos, &v->used_wrap, token->descs);
	if (region) {
		give_back(v, token);
		/* Ahead of what counts until the entry is visible. */
		old.used = v->used_pos;
		old.used_wrap = v->used_wrap;
		positions_store(v, old);
	}
	store(&d->flags, flags);
	vtd_vring_mark(v, d, sizeof(*d));
	if (!region)
		return;
	__atomic_store_n(&region->desc[token->slot].inflight, 0, __ATOMIC_RELEASE);
	store(&region->old_free_head, v->free_head);
	positions_settle(v);
}

/* Nothing is held back: see the top. */
static void packed_publish(struct vtd_vring *v)
{
}

/* ---- notifications ------------------------------------------------------------------------ */

static bool packed_wants_call(struct vtd_vring *v, uint16_t count)
{
	uint16_t flags = load(&guest_event(v)->flags), off_wrap, event;

	if (flags == VRING_PACKED_EVENT_FLAG_DISABLE)
		return false;
	if (flags != VRING_PACKED_EVENT_FLAG_DESC || !v->a.event_idx)
		return true;
	off_wrap = load(&guest_event(v)->off_wrap);
	event = off_wrap & (uint16_t)~WRAP_BIT;
	if (!!(off_wrap & WRAP_BIT) != v->used_wrap)
		event = (uint16_t)(event - v->a.num);
	return vring_need_event(event, v->used_pos, (uint16_t)(v->used_pos - count));
}

static void packed_ask_kicks(struct vtd_vring *v)
{
	if (v->a.event_idx) {
		store(&our_event(v)->off_wrap, (uint16_t)(v->avail_pos | (v->avail_wrap ? WRAP_BIT : 0)));
		store(&our_event(v)->flags, VRING_PACKED_EVENT_FLAG_DESC);
	} else {
		store(&our_event(v)->flags, VRING_PACKED_EVENT_FLAG_ENABLE);
	}
	vtd_vring_mark(v, our_event(v), sizeof(*our_event(v)));
}

static void packed_suppress_kicks(struct vtd_vring *v)
{
	store(&our_event(v)->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
	vtd_vring_mark(v, our_event(v), sizeof(*our_event(v)));
}

static bool packed_has_work(const struct vtd_vring *v)
{
	return is_available(load(&ring_of(v)[v->avail_pos].flags), v->avail_wrap);
}

/* ---- life --------------------------------------------------------------------------------- */

/*
 * A front end that does not think of packed rings (User-mode Linux) says 0 for a new one, which would be a wrap
 * counter of 0. After a whole round that is a true answer too; but then the first entry has been used, and a new one
 * has not.
 */
static bool is_new(const struct vtd_vring *v)
{
	return v->a.base == 0 && !(load(&ring_of(v)[0].flags) & FLAG_USED);
}

/* SET_VRING_BASE: bits 0 to 14 the next available entry, 15 its wrap counter, 16 to 30 and 31 the same of used. */
static void packed_open(struct vtd_vring *v)
{
	if (is_new(v))
		v->a.base = UINT32_C(1) << 15 | UINT32_C(1) << 31;
	v->avail_pos = (uint16_t)((v->a.base & 0x7fff) % v->a.num);
	v->avail_wrap = v->a.base >> 15 & 1;
	v->used_pos = (uint16_t)((v->a.base >> 16 & 0x7fff) % v->a.num);
	v->used_wrap = v->a.base >> 31;
	v->out_descs = 0;
	if (v->a.inflight)
		region_open(v);
	for (unsigned i = 0; i < v->resubmit_count; i++)
		v->out_descs += v->slot_descs[v->resubmit[i]];
}

static uint32_t packed_base(const struct vtd_vring *v)
{
	return (uint32_t)v->avail_pos | (uint32_t)v->avail_wrap << 15 | (uint32_t)v->used_pos << 16 |
	       (uint32_t)v->used_wrap << 31;
}

const struct vtd_vring_ops vtd_vring_packed_ops = {
	.open = packed_open,
	.take = packed_take,
	.complete = packed_complete,
	.publish = packed_publish,
	.wants_call = packed_wants_call,
	.ask_kicks = packed_ask_kicks,
	.suppress_kicks = packed_suppress_kicks,
	.has_work = packed_has_work,
	.base = packed_base,
};
