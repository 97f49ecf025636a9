/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many layers in a cache of maps that has room for two leaves, with all threads at work: readers and writers through
 * iocore, look-ups, commits, eviction after each look-up, folds of snapshots that are removed at random.
 *
 * Held: a thread that owns a block reads what it wrote last, each time; a snapshot shows to its end what it showed when
 * it was read first; every request ends; check finds nothing in the end.
 *
 * A program of its own, without criterion, which does not start under the thread sanitizer. Arguments: rounds, load
 * threads. BDFS_TEST_SEED repeats the load as far as threads can be repeated.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "iocore/pool.h"
#include "iocore/snapshot.h"
#include "tests/unit/meta/check_rig.h"
#include "tests/unit/random.h"

#define LEAVES 40
#define PLACES (LEAVES * 8) /* blocks that are written: 8 in the first chunk of each leaf */
#define SNAPS 24
#define THREADS_MAX 16
#define CACHE_LEAVES 8 /* a quarter of it, since the tables count too */

struct place {
	uint64_t version; /* its thread's */
	uint64_t behind;  /* of its second half */
};
#define WORDS (BLOCK_BYTES / sizeof(uint64_t))

struct snap {
	struct meta_snapshot *meta;
	struct ioc_bd *bd;
	char name[16];
	struct place shows[PLACES];
};
struct loader {
	pthread_t thread;
	uint64_t random;
	unsigned number, step; /* has the places number, number + step ... */
};

static struct meta_pool *meta;
static struct ioc_pool *ioc;
static struct ioc_bd *bd;
static struct meta_disk *disk;
static struct place places[PLACES];
static struct snap snaps[SNAPS];
static uint64_t seed;
static unsigned taken, removed;
static atomic_bool stop;
static atomic_uint_fast64_t reads, writes;

static uint64_t offset_of(unsigned place)
{
	return place / 8 * LEAF_BYTES + place % 8 * 2 * BLOCK_BYTES;
}

static void call(struct ioc_bd *on, enum ioc_op op, uint64_t offset, uint64_t *block)
{
	struct iovec segment = { block, BLOCK_BYTES };
	struct ioc_request *req = calloc(1, sizeof(*req));

	rig_require(req != NULL, "memory for a request");
	*req = (struct ioc_request){
		.op = op, .bd = on, .offset = offset, .length = BLOCK_BYTES, .segments = &segment, .segment_count = 1
	};
	int rc = ioc_bd_call(ioc, req);
	if (rc < 0)
		fprintf(stderr, "views: operation %d at %" PRIu64 ": %s\n", (int)op, offset, strerror(-rc));
	rig_require(rc == 0, "an operation");
	free(req);
}

static struct place read_place(struct ioc_bd *on, unsigned place)
{
	uint64_t block[WORDS];

	call(on, IOC_OP_READ, offset_of(place), block);
	rig_require(block[0] == 0 || block[1] == place, "a block of the right place");
	atomic_fetch_add(&reads, 1);
	return (struct place){ .version = block[0], .behind = block[WORDS / 2] };
}

static void must_show(const struct place *expected, struct ioc_bd *on, unsigned place, const char *what)
{
	struct place shown = read_place(on, place);

	if (memcmp(&shown, expected, sizeof(shown)) != 0)
		fprintf(stderr, "views: %s: place %u shows %" PRIu64 ", %" PRIu64 " instead of %" PRIu64 ", %" PRIu64
			" (seed %" PRIu64 ")\n", what, place, shown.version, shown.behind, expected->version,
			expected->behind, seed);
	rig_require(memcmp(&shown, expected, sizeof(shown)) == 0, "reading what is there");
}

/* Half of a block now and then: the other half comes from a layer below. */
static void write_place(unsigned place, bool half)
{
	uint64_t version = places[place].version + 1;
	uint64_t block[WORDS] = { version, place, [WORDS / 2] = version };
	struct iovec segment = { block, half ? BLOCK_BYTES / 2 : BLOCK_BYTES };
	struct ioc_request *req = calloc(1, sizeof(*req));

	rig_require(req != NULL, "memory for a request");
	*req = (struct ioc_request){ .op = IOC_OP_WRITE,
				     .bd = bd,
				     .offset = offset_of(place),
				     .length = segment.iov_len,
				     .segments = &segment,
				     .segment_count = 1 };
	rig_require(ioc_bd_call(ioc, req) == 0, "a write");
	free(req);
	places[place].version = version;
	if (!half)
		places[place].behind = version;
	atomic_fetch_add(&writes, 1);
}

static void *load_main(void *arg)
{
	struct loader *loader = arg;

	while (!atomic_load(&stop)) {
		unsigned own = PLACES / loader->step, nth = (unsigned)test_random_below(&loader->random, own);
		unsigned place = nth * loader->step + loader->number;
		uint64_t dice = test_random_below(&loader->random, 10);
		if (dice < 2)
			write_place(place, dice == 0);
		must_show(&places[place], bd, place, "the disk");
	}
	return NULL;
}

/* ---- snapshots --------------------------------------------------------------------------------- */

static void take(struct snap *snap)
{
	struct ioc_snapshot_spec spec = { .disk = disk, .name = snap->name };

	snprintf(snap->name, sizeof(snap->name), "s%u", taken++);
	rig_require(ioc_snapshot_create(ioc, &spec, 1, NULL, &rig_error) == 0, "taking a snapshot");
	snap->meta = meta_snapshot_get_by_name(disk, snap->name);
	rig_require(snap->meta != NULL, "finding a snapshot");
	rig_require(ioc_snapshot_open(ioc, snap->meta, &snap->bd, &rig_error) == 0, "opening a snapshot");
	for (unsigned i = 0; i < PLACES; i++)
		snap->shows[i] = read_place(snap->bd, i);
}

static void judge(struct snap *snap)
{
	for (unsigned i = 0; i < PLACES; i++)
		must_show(&snap->shows[i], snap->bd, i, snap->name);
}

static void drop(struct snap *snap, bool remove)
{
	judge(snap);
	ioc_snapshot_close(snap->bd);
	if (remove)
		rig_require(meta_snapshot_remove(snap->meta, &rig_error) == 0, "removing a snapshot");
	meta_snapshot_put(snap->meta);
	snap->meta = NULL;
	removed += remove;
}

static void snapshot_rounds(unsigned rounds)
{
	uint64_t random = seed;

	for (unsigned i = 0; i < rounds; i++) {
		struct snap *snap = &snaps[test_random_below(&random, SNAPS)];
		if (snap->meta)
			drop(snap, true);
		else
			take(snap);
	}
	for (unsigned i = 0; i < SNAPS; i++)
		if (snaps[i].meta)
			drop(&snaps[i], false);
}

/* ---- the pool ---------------------------------------------------------------------------------- */

static void open_all(void)
{
	char path[PATH_MAX];
	struct meta_pv_spec pv = { .path = path, .size_bytes = 512 * MIB };
	struct meta_pool_create_args make = { .dir = rig_dir, .name = "views", .pvs = &pv, .pv_count = 1 };
	/* Without copies folds begin at once. */
	struct meta_pool_open_args args = { .dir = rig_dir, .leaf_cache_leaves = CACHE_LEAVES, .no_copy = true };
	struct ioc_pool_args io = { .engine = "threads", .queues = 2 };

	snprintf(path, sizeof(path), "%s/pv0", rig_dir);
	rig_require(meta_pool_create(&make, &rig_error) == 0, "making the pool");
	rig_require(meta_pool_open(&args, &meta, &rig_error) == 0, "opening the pool");
	rig_require(ioc_pool_open(meta, &io, &ioc, &rig_error) == 0, "starting the queues");
	rig_create(meta, "d", LEAVES * LEAF_BYTES);
	disk = meta_disk_get_by_name(meta, "d");
	rig_require(ioc_disk_open(ioc, disk, &bd, &rig_error) == 0, "opening the disk");
}

static void close_all(void)
{
	struct meta_pool_info info;

	meta_pool_info(meta, &info);
	printf("%" PRIu64 " reads, %" PRIu64 " writes, %u snapshots taken, %u removed, %" PRIu64 " folds; %" PRIu64
	       " look-ups, %" PRIu64 " dropped\n",
	       (uint64_t)reads, (uint64_t)writes, taken, removed, info.folded.folds, info.cache_lookups,
	       info.cache_evictions);
	rig_require(info.folded.chunks_moved > 0 && info.cache_evictions > 100, "a load worth the name");
	ioc_disk_close(bd);
	meta_disk_put(disk);
	ioc_pool_close(ioc);
	rig_close(meta);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 40, threads = argc > 2 ? (unsigned)atoi(argv[2]) : 4;
	static struct loader loaders[THREADS_MAX];

	seed = test_seed();
	printf("seed %" PRIu64 "\n", seed);
	threads = MIN(threads, THREADS_MAX);
	rig_make_dir(true);
	open_all();
	for (unsigned i = 0; i < threads; i++) {
		loaders[i] = (struct loader){
			.number = i, .step = threads, .random = seed + i * UINT64_C(0x123456789)
		};
		rig_require(pthread_create(&loaders[i].thread, NULL, load_main, &loaders[i]) == 0, "starting a thread");
	}
	snapshot_rounds(rounds);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(loaders[i].thread, NULL);
	close_all();
	rig_require(rig_check_dir() == 0 && rig_report.problems == 0, "a sound pool in the end");
	rig_remove_dir();
	return 0;
}
