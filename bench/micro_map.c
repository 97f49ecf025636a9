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
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/micro.h"
#include "meta/io.h"

#define DISK_BYTES (64 * GIB)
#define LEAVES (DISK_BYTES / LEAF_BYTES)
#define NEAR_LEAVES (GIB / LEAF_BYTES)

struct lookup {
	char dir[64];
	struct meta_pool *pool;
	struct meta_disk *disk;
	bool disk_is_open;
	struct meta_store *store;
	struct meta_epochs *epochs;
	unsigned participant;
	uint64_t leaves; /* those asked for; a power of two */
};

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	return remove(path);
}

static void lookup_done(void *ctx)
{
	struct lookup *lookup = ctx;
	struct base_error err;

	if (lookup->disk_is_open)
		meta_disk_close(lookup->disk);
	if (lookup->disk)
		meta_disk_put(lookup->disk);
	if (lookup->pool && meta_pool_close(lookup->pool, &err) < 0)
		fprintf(stderr, "micro: %s\n", err.text);
	nftw(lookup->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(lookup);
}

static int make_pool(struct lookup *lookup, struct base_error *err)
{
	char pv_path[sizeof(lookup->dir) + sizeof("/pv0")];
	struct meta_pv_spec pv = { .path = pv_path, .size_bytes = 64 * MIB };
	struct meta_pool_create_args create = { .dir = lookup->dir, .name = "micro", .pvs = &pv, .pv_count = 1 };
	struct meta_pool_open_args open = { .dir = lookup->dir };
	int rc;

	snprintf(pv_path, sizeof(pv_path), "%s/pv0", lookup->dir);
	rc = meta_pool_create(&create, err);
	return rc < 0 ? rc : meta_pool_open(&open, &lookup->pool, err);
}

static int make_disk(struct lookup *lookup, struct base_error *err)
{
	struct meta_disk_spec spec = { .name = "disk", .size_bytes = DISK_BYTES };
	int rc = meta_disk_create(lookup->pool, &spec, 1, NULL, err);

	if (rc < 0)
		return rc;
	lookup->disk = meta_disk_get_by_name(lookup->pool, spec.name);
	rc = meta_disk_open(lookup->disk, err);
	if (rc < 0)
		return rc;
	lookup->disk_is_open = true;
	lookup->store = meta_io_store(lookup->disk);
	return 0;
}

static int make_leaves(struct lookup *lookup, struct base_error *err)
{
	uint64_t epoch = meta_epoch_enter(lookup->epochs, lookup->participant);
	struct meta_leaf *leaf;
	int rc = 0;

	for (uint64_t i = 0; i < LEAVES && rc == 0; i++) {
		rc = meta_map_pin(lookup->store, i, &leaf);
		if (rc == 0)
			meta_leaf_unpin(leaf);
	}
	meta_epoch_leave(lookup->epochs, lookup->participant, epoch);
	return rc ? base_error_set(err, -EIO, "a leaf of a new disk can't be made (%d)", rc) : 0;
}

static int fill_lookup(struct lookup *lookup, struct base_error *err)
{
	int rc = make_pool(lookup, err);

	if (rc < 0)
		return rc;
	lookup->epochs = meta_io_epochs(lookup->pool);
	lookup->participant = meta_epoch_join(lookup->epochs);
	rc = make_disk(lookup, err);
	return rc < 0 ? rc : make_leaves(lookup, err);
}

static int setup_lookup(uint64_t leaves, void **ret_ctx)
{
	struct lookup *lookup = calloc(1, sizeof(*lookup));
	struct base_error err;

	if (!lookup)
		return -ENOMEM;
	lookup->leaves = leaves;
	strcpy(lookup->dir, "/tmp/bdfs-micro-XXXXXX");
	if (!mkdtemp(lookup->dir)) {
		int code = -errno;

		free(lookup);
		return code;
	}
	int rc = fill_lookup(lookup, &err);

	if (rc < 0) {
		fprintf(stderr, "micro: %s\n", err.text);
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
	bool right = meta_map_find(lookup->store, chunk / LEAF_CHUNKS, &leaf) == 0 &&
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
	{ "map-near", "random look-up in 1 GiB, with its epoch", setup_near, run_lookup, lookup_done },
	{ "map-far", "random look-up in 64 GiB, with its epoch", setup_far, run_lookup, lookup_done },
};
const size_t micro_map_case_count = ARRAY_LEN(micro_map_cases);
