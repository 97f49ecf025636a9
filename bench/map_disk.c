/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps a disk without writing to it: the metadata of a large pool in minutes instead of months.
 *
 *     map_disk POOL-DIRECTORY DISK [--from BYTES] [--to BYTES] [--layout runs|scattered]
 *
 * For measurements and tests only, never installed. The pool is not mounted. Chunks are taken from its free space as
 * a writer takes them, entries are stored in the leaves of the disk's map and the leaves go through the real commit, so
 * what is on disk afterwards is what writes would have left there, and `bdfs check` finds it clean. Only what no commit
 * sees is left out: the device writes and their restart records. What the disk reads as is what the pvs hold at these
 * chunks, zeros where they are sparse files.
 *
 * runs: each leaf's chunks lie in a row, as a disk written in order has them: 12 bytes a record. scattered: no two
 * neighbours of a disk are neighbours in the pool, as after random writes: 1,025 bytes a record, the worst there is.
 * BYTES are whole numbers, rounded out to leaves (8 MiB).
 *
 * The happy path: open the pool, its index, then leaf by leaf; a commit every LEAVES_A_COMMIT; close.
 *
 * Failure modes: no space, a leaf with something in it, a pool that is mounted: said on stderr, exit status 1; what was
 * committed until then is sound and stays.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meta/internal.h"

/* As many as start a commit by themselves. */
#define LEAVES_A_COMMIT COMMIT_LEAVES
/* scattered: so many leaves share a block of chunks, each has every so manyth of it. */
#define SCATTER LEAF_CHUNKS

struct mapper {
	struct meta_pool *pool;
	struct meta_disk *disk;
	uint64_t from_byte, to_byte; /* to_byte: UINT64_MAX = the disk's end */
	bool scattered;
	uint64_t mapped, uncommitted; /* leaves */
	uint32_t *chunks;             /* SCATTER leaves' worth */
	uint32_t hint;
};

/* ---- one leaf ----------------------------------------------------------------------------- */

static int take_chunks(struct mapper *mapper, uint64_t count)
{
	struct meta_store *store = meta_io_store(mapper->disk);

	for (uint64_t have = 0; have < count;) {
		struct pchunk first;
		unsigned got = space_take(&mapper->pool->space, &store->claim, (unsigned)(count - have), mapper->hint,
					  &first);
		if (got == 0)
			return -ENOSPC;
		for (unsigned i = 0; i < got; i++)
			mapper->chunks[have++] = first.n + i;
		mapper->hint = first.n + got;
	}
	return 0;
}

/* Entries as a write of all their blocks leaves them; the sums that leaf_account() would make one by one. */
static int fill_leaf(struct mapper *mapper, struct meta_leaf *leaf, const uint32_t *chunk, unsigned step)
{
	struct meta_store *store = leaf->store;
	int rc = 0;

	pthread_mutex_lock(&leaf->lock);
	for (unsigned i = 0; i < LEAF_CHUNKS && rc == 0; i++)
		rc = atomic_load(&leaf->entries[i]) ? -EEXIST : 0;
	for (unsigned i = 0; i < LEAF_CHUNKS && rc == 0; i++)
		atomic_store_explicit(&leaf->entries[i],
				      meta_entry_make((struct pchunk){ chunk[i * step] }, UINT16_MAX, 0),
				      memory_order_relaxed);
	if (rc == 0) {
		leaf_mark_dirty(leaf);
		atomic_fetch_add(&store->chunks_owned, LEAF_CHUNKS);
		atomic_fetch_add(&store->pool->space.mapped, LEAF_CHUNKS);
		atomic_fetch_add(&store->blocks_valid, LEAF_CHUNKS * CHUNK_BLOCKS);
	}
	pthread_mutex_unlock(&leaf->lock);
	return rc;
}

static int map_leaf(struct mapper *mapper, uint64_t number, const uint32_t *chunk, unsigned step)
{
	struct meta_store *store = meta_io_store(mapper->disk);
	struct db_txn *slot = NULL;
	struct meta_leaf *leaf;
	int rc = meta_map_pin(store, number, &leaf);

	if (rc == META_MISS) {
		rc = store_load_leaf_now(store, number, &slot, &leaf);
		db_read_free(slot);
		if (rc == 0)
			rc = meta_map_pin(store, number, &leaf);
	}
	if (rc != 0)
		return rc < 0 ? rc : -EIO;
	rc = fill_leaf(mapper, leaf, chunk, step);
	meta_leaf_unpin(leaf);
	if (rc < 0)
		return rc;
	mapper->mapped++;
	if (++mapper->uncommitted < LEAVES_A_COMMIT)
		return 0;
	mapper->uncommitted = 0;
	return meta_pool_commit(mapper->pool);
}

/* ---- the disk ----------------------------------------------------------------------------- */

static int map_block(struct mapper *mapper, uint64_t first, uint64_t leaves)
{
	int rc = take_chunks(mapper, leaves * LEAF_CHUNKS);

	for (uint64_t i = 0; i < leaves && rc == 0; i++)
		rc = mapper->scattered ? map_leaf(mapper, first + i, mapper->chunks + i, (unsigned)leaves)
				       : map_leaf(mapper, first + i, mapper->chunks + i * LEAF_CHUNKS, 1);
	return rc;
}

static int map_all(struct mapper *mapper)
{
	uint64_t to = MIN(mapper->to_byte, meta_disk_size(mapper->disk));
	uint64_t first = mapper->from_byte / LEAF_BYTES, end = (to + LEAF_BYTES - 1) / LEAF_BYTES;
	int rc = 0;

	for (uint64_t n = first; n < end && rc == 0; n += SCATTER)
		rc = map_block(mapper, n, MIN(SCATTER, end - n));
	return rc == 0 ? meta_pool_commit(mapper->pool) : rc;
}

static int map_open_disk(struct mapper *mapper, const char *name, struct base_error *err)
{
	int rc;

	mapper->disk = meta_disk_get_by_name(mapper->pool, name);
	if (!mapper->disk)
		return base_error_set(err, -ENOENT, "the pool has no disk %s", name);
	rc = meta_disk_open(mapper->disk, err);
	if (rc == 0) {
		rc = store_load_index(meta_io_store(mapper->disk), err);
		if (rc == 0)
			rc = map_all(mapper);
		if (rc < 0)
			base_error_set_errno(err, rc, "mapping %s, after %" PRIu64 " leaves", name, mapper->mapped);
		meta_disk_close(mapper->disk);
	}
	meta_disk_put(mapper->disk);
	return rc;
}

static int run(struct mapper *mapper, const char *dir, const char *name, struct base_error *err)
{
	struct meta_pool_open_args args = { .dir = dir, .leaf_cache_leaves = 4 * LEAVES_A_COMMIT };
	struct base_error close_err;

	mapper->chunks = malloc(SCATTER * LEAF_CHUNKS * sizeof(*mapper->chunks));
	if (!mapper->chunks)
		return base_error_set_errno(err, -ENOMEM, "%s", name);
	int rc = meta_pool_open(&args, &mapper->pool, err);
	if (rc == 0) {
		rc = map_open_disk(mapper, name, err);
		int closed = meta_pool_close(mapper->pool, &close_err);
		if (rc == 0 && closed < 0)
			rc = base_error_set(err, closed, "%s", close_err.text);
	}
	free(mapper->chunks);
	return rc;
}

/* ---- the command -------------------------------------------------------------------------- */

static int usage(void)
{
	fprintf(stderr, "usage: map_disk POOL-DIRECTORY DISK [--from BYTES] [--to BYTES] [--layout runs|scattered]\n");
	return 2;
}

static bool take_option(struct mapper *mapper, int option)
{
	char *end = NULL;
	uint64_t value = strtoull(optarg, &end, 10);

	if (option == 'l') {
		mapper->scattered = strcmp(optarg, "scattered") == 0;
		return mapper->scattered || strcmp(optarg, "runs") == 0;
	}
	*(option == 'f' ? &mapper->from_byte : &mapper->to_byte) = value;
	return (option == 'f' || option == 't') && end != optarg && *end == '\0';
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "from", required_argument, NULL, 'f' },
		{ "to", required_argument, NULL, 't' },
		{ "layout", required_argument, NULL, 'l' },
		{ 0 },
	};
	struct mapper mapper = { .to_byte = UINT64_MAX };
	struct base_error err = { 0 };
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (option == '?' || !take_option(&mapper, option))
			return usage();
	if (argc - optind != 2)
		return usage();
	uint64_t began = base_clock_ns();
	int rc = run(&mapper, argv[optind], argv[optind + 1], &err);
	if (rc < 0) {
		fprintf(stderr, "map_disk: %s\n", err.text);
		return 1;
	}
	printf("mapped %" PRIu64 " MiB of %s in %.1f s\n", mapper.mapped * LEAF_BYTES / MIB, argv[optind + 1],
	       (double)(base_clock_ns() - began) / 1e9);
	return 0;
}
