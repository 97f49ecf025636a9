/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check on a pool under random load: it never finds anything in a sound one, and
 * in one with a leaked chunk, a twofold chunk and a wrong counter it finds these
 * three and nothing else, however much goes on around them.
 *
 * The load: threads that write, discard, flush, grow and shrink at random places,
 * spread so that nearly each chunk has a leaf of its own and a check takes longer
 * than many commits; one that creates, renames and removes disks. The pool is
 * small for them, so chunks change hands all the time.
 *
 * A program of its own, without criterion, which does not start under the thread
 * sanitizer. Arguments: rounds, load threads. BDFS_TEST_SEED repeats the load as
 * far as threads can be repeated.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/park.h"
#include "iocore/pool.h"
#include "tests/unit/meta/check_rig.h"
#include "tests/unit/random.h"

#define LOAD_THREADS_MAX 16
#define LOAD_DISKS 3
#define PLACES 4000 /* of each disk, for 3 x 4,000 x 1.1 chunks wanted of 8,176 */
#define PLACE_BYTES (9 * MIB)
#define POOL_BYTES (512 * MIB)
#define WRITE_BYTES_MAX (192 * KIB)

static struct meta_pool *meta;
static struct ioc_pool *ioc;
static struct ioc_bd *disks[LOAD_DISKS], *growing;
static uint64_t seed;
static atomic_bool stop;
static atomic_uint_fast64_t written, discarded, full;

struct loader {
	pthread_t thread;
	uint64_t random;
	unsigned number;
};

/* ---- load -------------------------------------------------------------------------------------- */

static int call(struct ioc_bd *bd, enum ioc_op op, unsigned flags, uint64_t offset, uint64_t length)
{
	static _Alignas(4096) char data[WRITE_BYTES_MAX];
	struct iovec segment = { data, length };
	struct ioc_request *req = calloc(1, sizeof(*req));

	rig_require(req != NULL, "memory for a request");
	req->op = op;
	req->flags = flags;
	req->bd = bd;
	req->offset = offset;
	req->length = length;
	req->segments = op == IOC_OP_WRITE ? &segment : NULL;
	req->segment_count = op == IOC_OP_WRITE;
	int rc = ioc_bd_call(ioc, req);
	free(req);
	if (rc == -ENOSPC)
		atomic_fetch_add(&full, 1);
	else if (rc < 0)
		fprintf(stderr, "check_live: operation %d at %" PRIu64 ": %s\n", (int)op, offset, strerror(-rc));
	rig_require(rc == 0 || rc == -ENOSPC, "an operation");
	return rc;
}

static void load_place(struct loader *loader)
{
	struct ioc_bd *bd = disks[test_random_below(&loader->random, LOAD_DISKS)];
	uint64_t at = test_random_below(&loader->random, PLACES) * PLACE_BYTES;

	switch (test_random_below(&loader->random, 16)) {
	case 0:
		call(bd, IOC_OP_FLUSH, 0, 0, 0);
		break;
	case 1 ... 8:
		call(bd, IOC_OP_WRITE, 0, at,
		     BLOCK_BYTES * (1 + test_random_below(&loader->random, WRITE_BYTES_MAX / BLOCK_BYTES)));
		atomic_fetch_add(&written, 1);
		break;
	case 9 ... 14:
		call(bd, IOC_OP_DISCARD, 0, at, PLACE_BYTES);
		atomic_fetch_add(&discarded, 1);
		break;
	case 15:
		call(bd, IOC_OP_DISCARD, 0, at, PLACE_BYTES * (1 + test_random_below(&loader->random, 8)));
		break;
	}
}

static void load_end(struct loader *loader)
{
	uint64_t size = meta_disk_size(ioc_disk_meta(growing));

	if (test_random_below(&loader->random, 8) == 0)
		call(growing, IOC_OP_RESIZE, 0, test_random_below(&loader->random, size + 1), 0);
	else if (size < GIB)
		call(growing, IOC_OP_WRITE, IOC_GROW, size + test_random_below(&loader->random, MIB),
		     1 + test_random_below(&loader->random, WRITE_BYTES_MAX));
	else
		call(growing, IOC_OP_RESIZE, 0, 0, 0);
}

static void load_catalogue(struct loader *loader)
{
	char name[32], other[32];

	snprintf(name, sizeof(name), "made-%" PRIu64, test_random_below(&loader->random, 8));
	snprintf(other, sizeof(other), "made-%" PRIu64, test_random_below(&loader->random, 8));
	struct meta_disk *disk = meta_disk_get_by_name(meta, name);
	if (!disk) {
		rig_create(meta, name, GIB);
		for (uint64_t i = 0; i < 3; i++)
			rig_write(meta, name, i * LEAF_CHUNKS, RIG_ALL);
		return;
	}
	int rc = test_random_below(&loader->random, 2) ? meta_disk_rename(disk, other, NULL)
						       : meta_disk_remove(disk, NULL);
	rig_require(rc == 0 || rc == -EEXIST, "renaming or removing a disk");
	meta_disk_put(disk);
}

static void *load_main(void *arg)
{
	struct loader *loader = arg;

	while (!atomic_load(&stop)) {
		uint64_t n = test_random_below(&loader->random, 100);
		if (loader->number == 0 && n < 30)
			load_end(loader);
		else
			load_place(loader);
	}
	return NULL;
}

/* The catalogue's own thread: rig_write() takes chunks without waiting for space, so it stays away from a full pool.
 */
static void *catalogue_main(void *arg)
{
	struct loader *loader = arg;
	struct meta_pool_info info;

	while (!atomic_load(&stop)) {
		meta_pool_info(meta, &info);
		if (info.free_chunks - info.pending_chunks > 1000)
			load_catalogue(loader);
		else
			call(disks[0], IOC_OP_DISCARD, 0, test_random_below(&loader->random, PLACES) * PLACE_BYTES,
			     100 * PLACE_BYTES);
	}
	return NULL;
}

/* ---- the pool ------------------------------------------------------------------------------------ */

static struct ioc_bd *open_disk(const char *name, uint64_t size_bytes)
{
	struct ioc_bd *bd = NULL;

	rig_create(meta, name, size_bytes);
	struct meta_disk *disk = meta_disk_get_by_name(meta, name);
	rig_require(disk && ioc_disk_open(ioc, disk, &bd, &rig_error) == 0, "opening a disk");
	meta_disk_put(disk);
	return bd;
}

static void open_pool(void)
{
	struct ioc_pool_args args = { .engine = "threads", .queues = 2 };
	char path[PATH_MAX];
	struct meta_pv_spec pv = { .path = path, .size_bytes = POOL_BYTES };
	struct meta_pool_create_args create = { .dir = rig_dir, .name = "load", .pvs = &pv, .pv_count = 1 };

	snprintf(path, sizeof(path), "%s/pv0", rig_dir);
	rig_require(meta_pool_create(&create, &rig_error) == 0, "making the pool");
	meta = rig_open(true);
	rig_require(ioc_pool_open(meta, &args, &ioc, &rig_error) == 0, "starting the queues");
	for (unsigned i = 0; i < LOAD_DISKS; i++) {
		char name[2] = { (char)('x' + i), '\0' };
		disks[i] = open_disk(name, (PLACES + 4) * PLACE_BYTES);
	}
	for (uint64_t i = 0; i < LOAD_DISKS * PLACES / 2; i++) { /* three quarters full */
		char name[2] = { (char)('x' + i % LOAD_DISKS), '\0' };
		rig_write(meta, name, i / LOAD_DISKS * 2 * (PLACE_BYTES / CHUNK_BYTES), RIG_ALL);
	}
	growing = open_disk("growing", 0);
	rig_create(meta, "quiet", GIB);
	for (unsigned i = 0; i < 4; i++)
		rig_write(meta, "quiet", i, RIG_ALL);
	rig_require(meta_pool_commit(meta) == 0, "a commit");
}

static void close_pool(void)
{
	for (unsigned i = 0; i < LOAD_DISKS; i++)
		ioc_disk_close(disks[i]);
	ioc_disk_close(growing);
	ioc_pool_close(ioc);
	rig_close(meta);
}

/* ---- planting -------------------------------------------------------------------------------------- */

/* The quiet disk's entries 2 and 3 get one chunk; the other one has no owner then; and its layer counts wrong. */
static int plant_fn(struct mw_call *mw_call, struct db_txn *txn)
{
	struct meta_disk *disk = mw_call->arg;
	struct db_key key = db_key_u64_u64(disk->store->id, 0);
	uint8_t buf[META_LEAF_ENCODED_BYTES_MAX];
	meta_entry entries[LEAF_CHUNKS];
	struct db_value value;

	int rc = db_get(txn, DB_MAP, &key, &value);
	if (rc == 0)
		rc = meta_leaf_decode(value.b, value.bytes, entries);
	if (rc != 0)
		return -EIO;
	entries[2] = entries[3];
	disk->store->layer.blocks_valid++;
	rc = db_put(txn, DB_MAP, &key, buf, meta_leaf_encode(entries, buf));
	return rc == 0 ? catalog_put_layer(txn, disk->store->layer_id, &disk->store->layer) : rc;
}

static void plant(void)
{
	struct meta_disk *disk = meta_disk_get_by_name(meta, "quiet");
	struct mw_call mw_call = { .fn = plant_fn, .arg = disk, .err = &rig_error };

	rig_require(mw_call_wait(meta, &mw_call) == 0, "planting");
	meta_disk_put(disk);
}

/* ---- the test ------------------------------------------------------------------------------------------ */

static void check_rounds(unsigned rounds, bool planted)
{
	uint64_t expected = planted ? 1 : 0;

	for (unsigned i = 0; i < rounds; i++) {
		struct meta_pool_info before, after;
		uint64_t began = base_clock_ns();
		meta_pool_info(meta, &before);
		rig_require(rig_check(meta) == 0, "check");
		meta_pool_info(meta, &after);
		printf("%s %2u: %" PRIu64 " leaves, %" PRIu64 " chunks, %" PRIu64 " commits, %" PRIu64 " ms, %" PRIu64
		       " not judged\n",
		       planted ? "planted" : "sound", i, rig_report.leaves, rig_report.chunks_owned,
		       after.commits - before.commits, (base_clock_ns() - began) / 1000000, rig_report.not_judged);
		for (int kind = 0; kind < META_CHECK_KINDS; kind++) {
			bool is_planted = kind == META_CHECK_SPACE_LEAKED || kind == META_CHECK_CHUNK_TWICE ||
					  kind == META_CHECK_LAYER_COUNTERS;
			if (rig_report.found[kind] == (is_planted ? expected : 0))
				continue;
			rig_found_nothing(); /* prints */
			fprintf(stderr, "check_live: %" PRIu64 " of %s; seed %" PRIu64 "\n",
				rig_report.found[kind], meta_check_kind_to_text((enum meta_check_kind)kind), seed);
			exit(1);
		}
	}
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 20, threads = argc > 2 ? (unsigned)atoi(argv[2]) : 4;
	static struct loader loaders[LOAD_THREADS_MAX + 1];

	seed = test_seed();
	printf("seed %" PRIu64 "\n", seed);
	threads = MIN(threads, LOAD_THREADS_MAX);
	rig_make_dir(false);
	open_pool();
	for (unsigned i = 0; i <= threads; i++) {
		loaders[i] = (struct loader){ .number = i, .random = seed + i * UINT64_C(0x123456789) };
		rig_require(pthread_create(&loaders[i].thread, NULL, i < threads ? load_main : catalogue_main,
					   &loaders[i]) == 0,
			    "starting a thread");
	}
	check_rounds(rounds, false);
	plant();
	check_rounds(5, true);
	atomic_store(&stop, true);
	for (unsigned i = 0; i <= threads; i++)
		pthread_join(loaders[i].thread, NULL);
	close_pool();
	rig_require(rig_check_dir() == 0, "check of the closed pool");
	rig_require(rig_report.problems == 3, "3 findings in the closed pool");
	printf("%" PRIu64 " writes, %" PRIu64 " discards, %" PRIu64 " times full\n", (uint64_t)written,
	       (uint64_t)discarded, (uint64_t)full);
	rig_require(written > 100 && discarded > 100, "a load worth the name");
	rig_remove_dir();
	return 0;
}
