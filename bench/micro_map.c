/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Micro-benchmarks of a map look-up: what a request pays to learn where its
 * bytes are when the leaf is in memory.
 *
 * The model: a real pool in a directory of its own under /tmp, with a disk of
 * 64 GiB whose 8,192 leaves are made and kept in memory (9 MiB). One call
 * enters the epoch, finds a leaf, takes an entry of it and leaves, as a queue
 * thread does. "Near" asks for the leaves of 1 GiB, which stay in the
 * processor's nearer caches; "far" for all of them in random order.
 *
 * Failure modes: a pool that can't be made or opened here is told on stderr
 * with meta's own words. A look-up that does not find its leaf, or finds
 * something in an empty one, is a wrong result.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/micro.h"
#include "bench/rig.h"

#define DISK_BYTES (64 * GIB)
#define LEAVES (DISK_BYTES / LEAF_BYTES)
#define NEAR_LEAVES (GIB / LEAF_BYTES)

struct lookup {
	struct rig *rig;
	struct meta_epochs *epochs;
	unsigned participant;
	uint64_t leaves; /* those asked for; a power of two */
};

static void lookup_done(void *ctx)
{
	struct lookup *lookup = ctx;

	rig_close(lookup->rig);
	free(lookup);
}

static int make_leaves(struct lookup *lookup)
{
	uint64_t epoch = meta_epoch_enter(lookup->epochs, lookup->participant);
	struct meta_leaf *leaf;
	int rc = 0;

	for (uint64_t i = 0; i < LEAVES && rc == 0; i++) {
		rc = meta_map_pin(lookup->rig->store, i, &leaf);
		if (rc == 0)
			meta_leaf_unpin(leaf);
	}
	meta_epoch_leave(lookup->epochs, lookup->participant, epoch);
	if (rc)
		fprintf(stderr, "micro: a leaf of a new disk can't be made (%d)\n", rc);
	return rc ? -EIO : 0;
}

static int setup_lookup(uint64_t leaves, void **ret_ctx)
{
	struct lookup *lookup = calloc(1, sizeof(*lookup));

	if (!lookup)
		return -ENOMEM;
	lookup->leaves = leaves;
	int rc = rig_open(64 * MIB, DISK_BYTES, &lookup->rig);
	if (rc < 0) {
		free(lookup);
		return rc;
	}
	lookup->epochs = meta_io_epochs(lookup->rig->meta);
	lookup->participant = meta_epoch_join(lookup->epochs);
	rc = make_leaves(lookup);
	if (rc < 0) {
		lookup_done(lookup);
		return rc;
	}
	*ret_ctx = lookup;
	return 0;
}

static int setup_near(void **ret_ctx)
{
	return setup_lookup(NEAR_LEAVES, ret_ctx);
}

static int setup_far(void **ret_ctx)
{
	return setup_lookup(LEAVES, ret_ctx);
}

static bool look_up(const struct lookup *lookup, uint64_t chunk)
{
	uint64_t epoch = meta_epoch_enter(lookup->epochs, lookup->participant);
	struct meta_leaf *leaf;
	bool right = meta_map_find(lookup->rig->store, chunk / LEAF_CHUNKS, &leaf) == 0 &&
		     meta_leaf_entry(leaf, (unsigned)(chunk % LEAF_CHUNKS)) == 0;

	meta_epoch_leave(lookup->epochs, lookup->participant, epoch);
	return right;
}

static bool run_lookup(void *ctx, uint64_t calls)
{
	const struct lookup *lookup = ctx;
	uint64_t random = 1;
	bool right = true;

	for (uint64_t i = 0; i < calls; i++) {
		/* Knuth's MMIX generator; its high bits are the good ones. */
		random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		right &= look_up(lookup, (random >> 32) & (lookup->leaves * LEAF_CHUNKS - 1));
	}
	return right;
}

const struct micro_case micro_map_cases[] = {
	{ "map-near", "random look-up in 1 GiB, with its epoch", setup_near, run_lookup, lookup_done, false },
	{ "map-far", "random look-up in 64 GiB, with its epoch", setup_far, run_lookup, lookup_done, false },
};
const size_t micro_map_case_count = ARRAY_LEN(micro_map_cases);
