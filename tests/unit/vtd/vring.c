/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rings, both layouts, against a driver of a few lines: what is offered is taken
 * once and in order; and with an inflight region, whenever the device side dies
 * and another takes over, each chain is answered exactly once.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/random.h"
#include "vtd/vring.h"

#define NUM 16u
#define BASE UINT64_C(0x40000000)

/* The guest: one slot of memory with ring and table in it; buffers are addresses that nobody follows. */
struct guest {
	bool packed;
	struct vtd_memory memory;
	_Alignas(64) uint8_t ram[8192];
	_Alignas(64) uint8_t region[4096];
	struct vtd_vring_args args;
	struct vtd_vring *v;
	/* the driver */
	uint16_t avail, used;
	bool avail_wrap, used_wrap;
	bool out[NUM];
	unsigned descs[NUM], free;
};

static struct guest *guest_new(bool packed, bool inflight)
{
	struct guest *g = aligned_alloc(64, round_up_to(sizeof(*g), 64));

	memset(g, 0, sizeof(*g));
	g->packed = packed;
	g->free = NUM;
	g->avail_wrap = g->used_wrap = true;
	g->memory.count = 1;
	g->memory.slots[0] = (struct vtd_slot){
		.guest_addr = BASE, .user_addr = BASE, .size = sizeof(g->ram), .mapping.host = g->ram
	};
	g->args = (struct vtd_vring_args){ .packed = packed,
					   .indirect = true,
					   .event_idx = true,
					   .num = NUM,
					   .base = packed ? 0x80008000u : 0,
					   .descriptor = g->ram,
					   .available = g->ram + 2048,
					   .used = g->ram + 3072,
					   .inflight = inflight ? g->region : NULL,
					   .memory = &g->memory };
	g->v = calloc(1, sizeof(*g->v));
	vtd_vring_open(g->v, &g->args);
	return g;
}

static void guest_free(struct guest *g)
{
	free(g->v);
	free(g);
}

/* Offers id as a chain of n descriptors (split: a chain in its own place, so ids are multiples of 4). */
static void offer(struct guest *g, uint16_t id, unsigned n)
{
	g->out[id] = true;
	g->descs[id] = g->packed ? n : 1;
	if (!g->packed) {
		struct vring_desc *d = (struct vring_desc *)(void *)g->ram;
		struct vring_avail *avail = (struct vring_avail *)(void *)(g->ram + 2048);
		for (unsigned i = 0; i < n; i++)
			d[(id + i) % NUM] = (struct vring_desc){ BASE, 16u + id, i + 1 < n ? VRING_DESC_F_NEXT : 0,
								 (uint16_t)((id + i + 1) % NUM) };
		avail->ring[g->avail++ % NUM] = id;
		avail->idx = g->avail;
		return;
	}
	struct vring_packed_desc *d = (struct vring_packed_desc *)(void *)g->ram;
	g->free -= n;
	for (unsigned i = 0; i < n; i++) {
		d[g->avail] = (struct vring_packed_desc){ BASE, 16u + id, id,
							  (uint16_t)((g->avail_wrap ? 1u << 7 : 1u << 15) |
								     (i + 1 < n ? VRING_DESC_F_NEXT : 0)) };
		if (++g->avail == NUM) {
			g->avail = 0;
			g->avail_wrap = !g->avail_wrap;
		}
	}
}

/* The ids that were answered since the last time; each must be out. */
static unsigned reap(struct guest *g)
{
	unsigned count = 0;

	for (;;) {
		uint32_t id;
		if (g->packed) {
			struct vring_packed_desc *d = (struct vring_packed_desc *)(void *)g->ram + g->used;
			if (!!(d->flags & 1u << 7) != g->used_wrap || !!(d->flags & 1u << 15) != g->used_wrap)
				return count;
			id = d->id;
		} else {
			struct vring_used *used = (struct vring_used *)(void *)(g->ram + 3072);
			if (used->idx == g->used)
				return count;
			id = used->ring[g->used++ % NUM].id;
		}
		cr_assert_lt(id, NUM);
		cr_assert(g->out[id], "%u was answered twice, or never asked", id);
		g->out[id] = false;
		count++;
		for (unsigned i = 0; i < g->descs[id] && g->packed; i++, g->free++) {
			if (++g->used == NUM) {
				g->used = 0;
				g->used_wrap = !g->used_wrap;
			}
		}
	}
}

static unsigned count_out(const struct guest *g)
{
	unsigned count = 0;

	for (unsigned i = 0; i < NUM; i++)
		count += g->out[i];
	return count;
}

/* Another device side, on the memory as it is; what the front end says about the base is long out of date. */
static void die_and_reopen(struct guest *g)
{
	memset(g->v, 0xee, sizeof(*g->v));
	vtd_vring_open(g->v, &g->args);
}

static bool may_offer(const struct guest *g, uint16_t id, unsigned n)
{
	return !g->out[id] && (!g->packed || g->free >= n);
}

static void exactly_once(bool packed)
{
	uint64_t seed = test_seed(), state = seed;
	struct vtd_chain *chain = malloc(sizeof(*chain));
	struct guest *g = guest_new(packed, true);
	struct vtd_token held[NUM];
	unsigned held_count = 0, answered = 0, deaths = 0;

	for (unsigned i = 0; i < 200000; i++) {
		uint64_t r = test_random(&state);
		uint16_t id = (uint16_t)(r >> 8 & 3) * 4;
		unsigned n = 1 + (r >> 12) % 4;

		switch (r % 16) {
		case 0 ... 5:
			if (may_offer(g, id, n))
				offer(g, id, n);
			break;
		case 6 ... 9: {
			int rc = vtd_vring_take(g->v, chain);
			cr_assert_geq(rc, 0, "seed %llu: %s", (unsigned long long)seed, g->v->why);
			if (rc == 1) {
				cr_assert(g->out[chain->token.id], "seed %llu: taken and not offered",
					  (unsigned long long)seed);
				cr_assert_eq(chain->desc[0].len, 16u + chain->token.id, "seed %llu",
					     (unsigned long long)seed);
				held[held_count++] = chain->token;
			}
			break;
		}
		case 10 ... 12:
			if (held_count > 0) {
				unsigned which = (unsigned)(r >> 20) % held_count;
				vtd_vring_complete(g->v, &held[which], 1);
				held[which] = held[--held_count];
			}
			break;
		case 13:
			vtd_vring_publish(g->v);
			break;
		case 14:
			answered += reap(g);
			break;
		case 15:
			if (r >> 40 & 3)
				break;
			die_and_reopen(g);
			held_count = 0;
			deaths++;
		}
	}
	/* Nothing is forgotten: all that is out comes, and is answered. */
	die_and_reopen(g);
	while (vtd_vring_take(g->v, chain) == 1)
		vtd_vring_complete(g->v, &chain->token, 1);
	vtd_vring_publish(g->v);
	answered += reap(g);
	cr_assert_eq(count_out(g), 0, "seed %llu: %u chains were never answered", (unsigned long long)seed,
		     count_out(g));
	cr_assert_gt(answered, 1000u);
	cr_assert_gt(deaths, 100u);
	guest_free(g);
	free(chain);
}

Test(vtd_vring, split_answers_once_over_any_number_of_deaths, .timeout = 60)
{
	exactly_once(false);
}

Test(vtd_vring, packed_answers_once_over_any_number_of_deaths, .timeout = 60)
{
	exactly_once(true);
}

/* A region that a front end has filled with chance: any outcome but a bad access, and the ring goes on. */
Test(vtd_vring, hostile_region_is_survived, .timeout = 60)
{
	uint64_t seed = test_seed(), state = seed;
	struct vtd_chain *chain = malloc(sizeof(*chain));

	for (unsigned i = 0; i < 20000; i++) {
		struct guest *g = guest_new(i % 2, true);
		for (unsigned k = 0; k < 3; k++)
			offer(g, (uint16_t)(k * 4), 1 + k);
		(void)!vtd_vring_take(g->v, chain);
		for (uint64_t n = test_random(&state) % 40; n > 0; n--) {
			uint64_t r = test_random(&state);
			g->region[r % 600] = (uint8_t)(r >> 32 & (r & 1 << 20 ? 0x1f : 0xff));
		}
		die_and_reopen(g);
		for (unsigned k = 0; k < 2 * NUM && vtd_vring_take(g->v, chain) == 1; k++) {
			for (unsigned n = test_random(&state) % 30; n > 0; n--)
				g->region[test_random(&state) % 600] = (uint8_t)test_random(&state);
			vtd_vring_complete(g->v, &chain->token, 1);
			vtd_vring_publish(g->v);
		}
		guest_free(g);
	}
	free(chain);
}

Test(vtd_vring, new_packed_ring_of_a_front_end_that_says_0_begins_in_round_1)
{
	struct vtd_chain *chain = malloc(sizeof(*chain));
	struct guest *g = guest_new(true, false);

	g->args.base = 0;
	offer(g, 4, 2);
	vtd_vring_open(g->v, &g->args);
	cr_assert_eq(vtd_vring_take(g->v, chain), 1);
	cr_assert_eq(chain->token.id, 4);
	guest_free(g);
	free(chain);
}

Test(vtd_vring, kicks_are_asked_for_only_when_nothing_is_there)
{
	for (int packed = 0; packed < 2; packed++) {
		struct vtd_chain *chain = malloc(sizeof(*chain));
		struct guest *g = guest_new(packed, false);

		cr_assert(vtd_vring_expect_kicks(g->v));
		offer(g, 0, 1);
		cr_assert_not(vtd_vring_expect_kicks(g->v), "would sleep over a request");
		cr_assert_eq(vtd_vring_take(g->v, chain), 1);
		cr_assert_eq(vtd_vring_take(g->v, chain), 0);
		cr_assert(vtd_vring_expect_kicks(g->v));
		guest_free(g);
		free(chain);
	}
}
