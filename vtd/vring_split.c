/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The split virtqueue (virtio 1.2, 2.7): a descriptor table, a ring of heads
 * that the guest offers, a ring of those that we have used.
 *
 * Happy path: take: index, head, chain -> noted in the inflight region -> ... ->
 * complete: an entry of the used ring -> publish: the used index, then the
 * region.
 *
 * The inflight region (vhost-user.rst, "Inflight I/O tracking"): between the
 * used index and the clearing of `inflight` we may die. The batch is linked from
 * last_batch_head first, so that who comes next can tell: if the region's
 * used_idx is behind the ring's, that many entries of the list were answered.
 * Its fields are ordered by release stores: a process that dies loses no store
 * that it has made.
 *
 * Failure modes, all the guest's, all end the session: an index that runs ahead
 * by more than the ring, a head or `next` outside it, a head that is out
 * already, a chain that does not end, indirect where it may not be. A region
 * that does not fit the ring is started anew: it is of another time.
 */
#include <stdlib.h>
#include <string.h>

#include "vtd/vring.h"

static struct vring_avail *avail_of(const struct vtd_vring *v)
{
	return v->a.available;
}

static struct vring_used *used_of(const struct vtd_vring *v)
{
	return v->a.used;
}

static struct vtd_inflight_split *region_of(const struct vtd_vring *v)
{
	return v->a.inflight;
}

static uint16_t mask(const struct vtd_vring *v, uint16_t pos)
{
	return pos & (v->a.num - 1);
}

static uint16_t load(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store(uint16_t *p, uint16_t value)
{
	__atomic_store_n(p, value, __ATOMIC_RELEASE);
}

/* ---- the inflight region ------------------------------------------------------------------ */

static void region_new(struct vtd_vring *v)
{
	struct vtd_inflight_split *region = region_of(v);

	memset(region, 0, sizeof(*region) + v->a.num * sizeof(region->desc[0]));
	region->desc_num = v->a.num;
	region->used_idx = v->used_pos;
	store(&region->version, VTD_INFLIGHT_VERSION);
}

/* The last batch, which was answered but not taken off. False: the list is broken. */
static bool region_end_batch(struct vtd_vring *v, uint16_t answered)
{
	struct vtd_inflight_split *region = region_of(v);
	uint16_t slot = load(&region->last_batch_head);

	for (; answered > 0; answered--) {
		if (slot >= v->a.num)
			return false;
		__atomic_store_n(&region->desc[slot].inflight, 0, __ATOMIC_RELEASE);
		slot = load(&region->desc[slot].next);
	}
	return true;
}

static void region_resubmit(struct vtd_vring *v, uint64_t *counters)
{
	struct vtd_inflight_split *region = region_of(v);

	for (uint16_t slot = 0; slot < v->a.num; slot++) {
		if (__atomic_load_n(&region->desc[slot].inflight, __ATOMIC_ACQUIRE) != 1)
			continue;
		counters[slot] = __atomic_load_n(&region->desc[slot].counter, __ATOMIC_RELAXED);
		if (counters[slot] >= v->counter && counters[slot] < UINT64_MAX)
			v->counter = counters[slot] + 1;
		v->resubmit[v->resubmit_count++] = slot;
	}
	vtd_vring_sort_resubmit(v, counters);
}

static void region_open(struct vtd_vring *v)
{
	struct vtd_inflight_split *region = region_of(v);
	uint64_t counters[VTD_VRING_SIZE_MAX];
	uint16_t used = load(&used_of(v)->idx), answered = used - load(&region->used_idx);

	if (load(&region->version) != VTD_INFLIGHT_VERSION || region->desc_num != v->a.num || answered > v->a.num ||
	    !region_end_batch(v, answered)) {
		region_new(v);
		return;
	}
	store(&region->used_idx, used);
	v->used_pos = used;
	region_resubmit(v, counters);
	/* What was noted was taken, so reading goes on behind it, whatever the front end believes. */
	v->avail_pos = (uint16_t)(used + v->resubmit_count);
}

/* ---- chains ------------------------------------------------------------------------------- */

static int walk_table(struct vtd_vring *v, const struct vring_desc *d, struct vtd_chain *ret)
{
	int entries = vtd_vring_table(v, d->addr, d->len), steps = 0;
	unsigned at = 0;

	if (entries < 0)
		return entries;
	for (;;) {
		const struct vring_desc *t = &v->table[at];

		if (t->flags & VRING_DESC_F_INDIRECT)
			return vtd_vring_bad(v, "an indirect descriptor inside an indirect table");
		int rc = vtd_vring_push(v, ret, t->addr, t->len, t->flags & VRING_DESC_F_WRITE);
		if (rc < 0)
			return rc;
		if (!(t->flags & VRING_DESC_F_NEXT))
			return 0;
		at = t->next;
		if (at >= (unsigned)entries || ++steps >= entries)
			return vtd_vring_bad(v, "an indirect table whose chain leaves it or does not end");
	}
}

static int walk(struct vtd_vring *v, uint16_t head, struct vtd_chain *ret)
{
	const struct vring_desc *table = v->a.descriptor;
	uint16_t at = head;

	for (unsigned steps = 0; steps < v->a.num; steps++) {
		struct vring_desc d;

		vtd_copy_once(&d, &table[at], sizeof(d));
		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (d.flags & VRING_DESC_F_NEXT)
				return vtd_vring_bad(v, "an indirect descriptor that says it has a next one");
			return walk_table(v, &d, ret);
		}
		int rc = vtd_vring_push(v, ret, d.addr, d.len, d.flags & VRING_DESC_F_WRITE);
		if (rc < 0)
			return rc;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 0;
		at = d.next;
		if (at >= v->a.num)
			return vtd_vring_bad(v, "a descriptor whose next one is outside the ring");
	}
	return vtd_vring_bad(v, "a chain of descriptors that does not end");
}

static int take_head(struct vtd_vring *v, uint16_t head, struct vtd_chain *ret)
{
	uint64_t bit = UINT64_C(1) << head % 64;

	if (v->is_out[head / 64] & bit)
		return vtd_vring_bad(v, "a head that is in flight already");
	int rc = walk(v, head, ret);
	if (rc < 0)
		return rc;
	v->is_out[head / 64] |= bit;
	ret->token = (struct vtd_token){ .id = head, .slot = head };
	return 1;
}

static void note(struct vtd_vring *v, uint16_t slot)
{
	struct vtd_inflight_split *region = region_of(v);

	if (!region)
		return;
	__atomic_store_n(&region->desc[slot].counter, v->counter++, __ATOMIC_RELAXED);
	__atomic_store_n(&region->desc[slot].inflight, 1, __ATOMIC_RELEASE);
}

static int split_take(struct vtd_vring *v, struct vtd_chain *ret)
{
	if (v->resubmit_next < v->resubmit_count) {
		ret->is_resubmitted = true;
		return take_head(v, v->resubmit[v->resubmit_next++], ret);
	}
	uint16_t ahead = load(&avail_of(v)->idx) - v->avail_pos;
	if (ahead == 0)
		return 0;
	if (ahead > v->a.num)
		return vtd_vring_bad(v, "an available index that runs ahead by more than the ring");
	uint16_t head = load(&avail_of(v)->ring[mask(v, v->avail_pos)]);
	if (head >= v->a.num)
		return vtd_vring_bad(v, "a head outside the ring");
	int rc = take_head(v, head, ret);
	if (rc == 1) {
		v->avail_pos++;
		note(v, head);
	}
	return rc;
}

/* ---- completion --------------------------------------------------------------------------- */

static void split_complete(struct vtd_vring *v, const struct vtd_token *token, uint32_t written)
{
	uint16_t at = mask(v, (uint16_t)(v->used_pos + v->batch));
	struct vring_used_elem *elem = &used_of(v)->ring[at];
	struct vtd_inflight_split *region = region_of(v);

	elem->id = token->id;
	elem->len = written;
	vtd_vring_mark(v, elem, sizeof(*elem));
	v->is_out[token->id / 64] &= ~(UINT64_C(1) << token->id % 64);
	if (region) {
		store(&region->desc[token->slot].next, region->last_batch_head);
		store(&region->last_batch_head, token->slot);
	}
	v->batch_slots[v->batch++] = token->slot;
}

static void split_publish(struct vtd_vring *v)
{
	struct vtd_inflight_split *region = region_of(v);

	v->used_pos = (uint16_t)(v->used_pos + v->batch);
	v->unsignalled = (uint16_t)(v->unsignalled + v->batch);
	store(&used_of(v)->idx, v->used_pos);
	vtd_vring_mark(v, &used_of(v)->idx, sizeof(uint16_t));
	if (!region)
		return;
	for (unsigned i = 0; i < v->batch; i++)
		__atomic_store_n(&region->desc[v->batch_slots[i]].inflight, 0, __ATOMIC_RELEASE);
	store(&region->used_idx, v->used_pos);
}

/* ---- notifications ------------------------------------------------------------------------ */

static bool split_wants_call(struct vtd_vring *v, uint16_t count)
{
	struct vring_avail *avail = avail_of(v);

	if (!v->a.event_idx)
		return !(load(&avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	return vring_need_event(load(&avail->ring[v->a.num]), v->used_pos, (uint16_t)(v->used_pos - count));
}

static void split_ask_kicks(struct vtd_vring *v)
{
	struct vring_used *used = used_of(v);

	if (v->a.event_idx)
		store((uint16_t *)(void *)&used->ring[v->a.num], v->avail_pos);
	else
		store(&used->flags, 0);
	vtd_vring_mark(v, v->a.event_idx ? (void *)&used->ring[v->a.num] : &used->flags, sizeof(uint16_t));
}

/* With EVENT_IDX there is nothing to do: the index that was asked for is behind us. */
static void split_suppress_kicks(struct vtd_vring *v)
{
	if (v->a.event_idx)
		return;
	store(&used_of(v)->flags, VRING_USED_F_NO_NOTIFY);
	vtd_vring_mark(v, &used_of(v)->flags, sizeof(uint16_t));
}

static bool split_has_work(const struct vtd_vring *v)
{
	return load(&avail_of(v)->idx) != v->avail_pos;
}

/* ---- life --------------------------------------------------------------------------------- */

static void split_open(struct vtd_vring *v)
{
	v->avail_pos = (uint16_t)v->a.base;
	v->used_pos = load(&used_of(v)->idx);
	if (v->a.inflight)
		region_open(v);
}

static uint32_t split_base(const struct vtd_vring *v)
{
	return v->avail_pos;
}

const struct vtd_vring_ops vtd_vring_split_ops = {
	.open = split_open,
	.take = split_take,
	.complete = split_complete,
	.publish = split_publish,
	.wants_call = split_wants_call,
	.ask_kicks = split_ask_kicks,
	.suppress_kicks = split_suppress_kicks,
	.has_work = split_has_work,
	.base = split_base,
};
