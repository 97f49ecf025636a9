/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random allocations and discards, and what becomes of the metadata's file meanwhile.
 *
 *     churn DIRECTORY [--ops N] [--every N] [--commit-every N] [--disk-gib N] [--max-growth PERCENT]
 *
 * A copy-on-write tree that is changed at random for long is where naive uses of LMDB end: the file grows, the list of
 * free pages grows with it, and each commit has more of both to handle. This program shows whether ours do. It makes a
 * pool in DIRECTORY, which must not exist, with one thin disk, and then, N times, picks a chunk of the disk at random
 * and maps it, or frees it when it is mapped: half of the disk is mapped in the long run. It is the map and the commit
 * of the product, with restart log, batches of freed chunks and copies of the metadata; only no data is written. A
 * commit is asked for, and waited for, after each --commit-every operations, as a guest's flush would.
 *
 * Before the count begins, as many operations as the disk has chunks bring the pool near its long run; they are
 * committed in large steps.
 *
 * Each --every operations a line: the file's size, what of it is in use, what is free; the processor time of the whole
 * process an operation; the median and the longest of the commits. With --max-growth it fails (3) when the file is
 * larger at the end than at the first line by more than so many percent, or an operation costs more processor time by
 * more than twice that, in the second half of the lines than in the first.
 *
 * Failure modes: what the pool says, on stderr, status 1. DIRECTORY is left to the caller.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "meta/internal.h"

#define LINES_MAX 1000

struct line {
	uint64_t file_bytes, cpu_ns;
};

struct churn {
	const char *dir;
	uint64_t ops, every, commit_every, disk_gib, max_growth_percent;
	struct meta_pool *pool;
	struct meta_disk *disk;
	unsigned participant;
	uint64_t random;
	uint64_t *commit_ns; /* of the line under way */
	size_t commits;
	uint64_t cpu_began_ns;
	struct line lines[LINES_MAX];
	size_t line_count;
};

/* Knuth's MMIX generator; its high bits are the good ones. */
static uint64_t random_below(struct churn *churn, uint64_t limit)
{
	churn->random = churn->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (churn->random >> 24) % limit;
}

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* ---- one operation ------------------------------------------------------------------------ */

static int pin(struct churn *churn, uint64_t number, struct meta_leaf **ret)
{
	struct meta_store *store = meta_io_store(churn->disk);
	struct db_txn *slot = NULL;
	struct meta_leaf *leaf;
	int rc = meta_map_pin(store, number, ret);

	if (rc != META_MISS)
		return rc;
	rc = store_load_leaf_now(store, number, &slot, &leaf);
	db_read_free(slot);
	return rc == 0 ? meta_map_pin(store, number, ret) : rc;
}

/* Return: 0; 1: there must be a commit first. */
static int change(struct churn *churn, struct meta_leaf *leaf, unsigned index)
{
	struct pchunk chunk;

	if (!meta_change_reserve(churn->pool, 1))
		return 1;
	if (meta_entry_chunk(meta_leaf_entry(leaf, index)).n != 0) {
		meta_change_remove(churn->disk, leaf, index, UINT16_MAX, true);
	} else if (meta_chunk_alloc(churn->disk, 1, &chunk) == 1) {
		meta_change_add(churn->disk, leaf, index, chunk, UINT16_MAX);
	} else {
		meta_change_unreserve(churn->pool, 1);
		return 1;
	}
	return 0;
}

static int one(struct churn *churn, uint64_t chunk)
{
	struct meta_epochs *epochs = meta_io_epochs(churn->pool);
	struct meta_leaf *leaf;

	for (;;) {
		uint64_t epoch = meta_epoch_enter(epochs, churn->participant);
		int rc = pin(churn, chunk / LEAF_CHUNKS, &leaf);
		if (rc == 0) {
			rc = change(churn, leaf, chunk % LEAF_CHUNKS);
			meta_leaf_unpin(leaf);
		}
		meta_epoch_leave(epochs, churn->participant, epoch);
		if (rc == 1 || (rc == 0 && meta_change_is_throttled(churn->pool)))
			rc = meta_pool_commit(churn->pool) < 0 ? -EIO : rc;
		if (rc <= 0)
			return rc;
	}
}

static int some(struct churn *churn, uint64_t ops)
{
	uint64_t chunks = churn->disk_gib * (GIB / CHUNK_BYTES);
	int rc = 0;

	for (uint64_t i = 0; i < ops && rc == 0; i++)
		rc = one(churn, random_below(churn, chunks));
	return rc;
}

/* ---- a line ------------------------------------------------------------------------------- */

static int timed_commit(struct churn *churn)
{
	uint64_t began = base_clock_ns();
	int rc = meta_pool_commit(churn->pool);

	churn->commit_ns[churn->commits++] = base_clock_ns() - began;
	return rc;
}

static int by_size(const void *pa, const void *pb)
{
	const uint64_t *a = pa, *b = pb;

	return *a < *b ? -1 : *a > *b;
}

static int print_line(struct churn *churn, uint64_t done, struct base_error *err)
{
	struct line *line = &churn->lines[churn->line_count++];
	struct db_usage usage;
	int rc = db_usage(churn->pool->env, &usage);

	if (rc < 0)
		return base_error_set_errno(err, rc, "the use of the metadata");
	*line = (struct line){ .file_bytes = usage.file_bytes, .cpu_ns = cpu_ns() - churn->cpu_began_ns };
	qsort(churn->commit_ns, churn->commits, sizeof(*churn->commit_ns), by_size);
	printf("%10" PRIu64 " %9.1f %9.1f %9.1f %10.2f %11.2f %11.2f\n", done, (double)usage.file_bytes / MIB,
	       (double)usage.used_bytes / MIB,
	       (double)(usage.file_bytes - MIN(usage.used_bytes, usage.file_bytes)) / MIB,
	       (double)line->cpu_ns / 1e3 / (double)churn->every,
	       (double)churn->commit_ns[churn->commits / 2] / 1e6,
	       (double)churn->commit_ns[churn->commits - 1] / 1e6);
	fflush(stdout);
	churn->commits = 0;
	return 0;
}

static int run_line(struct churn *churn)
{
	int rc = 0;

	churn->cpu_began_ns = cpu_ns();
	for (uint64_t done = 0; done < churn->every && rc == 0; done += churn->commit_every) {
		rc = some(churn, MIN(churn->commit_every, churn->every - done));
		if (rc == 0)
			rc = timed_commit(churn);
	}
	return rc;
}

static int run_lines(struct churn *churn, struct base_error *err)
{
	int rc = some(churn, churn->disk_gib * (GIB / CHUNK_BYTES));

	if (rc == 0)
		rc = meta_pool_commit(churn->pool);
	printf("%10s %9s %9s %9s %10s %11s %11s\n", "operations", "file MiB", "used MiB", "free MiB", "CPU us/op",
	       "commit ms", "longest ms");
	for (uint64_t done = 0; done < churn->ops && rc == 0; done += churn->every) {
		rc = run_line(churn);
		if (rc == 0)
			rc = print_line(churn, done + churn->every, err);
	}
	return rc < 0 ? base_error_set_errno(err, rc, "a random allocation or discard") : 0;
}

/* ---- verdict ------------------------------------------------------------------------------ */

static uint64_t cpu_of(const struct line *lines, size_t count)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += lines[i].cpu_ns;
	return sum / count;
}

static int judge(const struct churn *churn)
{
	size_t count = churn->line_count, half = count / 2;

	if (count < 2 || churn->max_growth_percent == 0)
		return 0;
	uint64_t file = churn->lines[count - 1].file_bytes * 100 / churn->lines[0].file_bytes;
	uint64_t cpu = cpu_of(churn->lines + half, count - half) * 100 / cpu_of(churn->lines, half);
	printf("the file at the end: %" PRIu64 " %% of that at the first line; "
	       "an operation of the second half: %" PRIu64 " %% of one of the first\n",
	       file, cpu);
	return file > 100 + churn->max_growth_percent || cpu > 100 + 2 * churn->max_growth_percent ? 3 : 0;
}

/* ---- the pool ----------------------------------------------------------------------------- */

static int make(struct churn *churn, struct base_error *err)
{
	char path[4096];
	/* Sparse, and twice the disk: what was freed and is on its way back is never missed. */
	struct meta_pv_spec pv = { .path = path, .size_bytes = churn->disk_gib * 2 * GIB };
	struct meta_pool_create_args create = { .dir = churn->dir, .name = "churn", .pvs = &pv, .pv_count = 1 };
	struct meta_pool_open_args open = { .dir = churn->dir };
	struct meta_disk_spec spec = { .name = "disk", .size_bytes = churn->disk_gib * GIB };

	snprintf(path, sizeof(path), "%s/pv0", churn->dir);
	int rc = meta_pool_create(&create, err);
	if (rc == 0)
		rc = meta_pool_open(&open, &churn->pool, err);
	if (rc == 0)
		rc = meta_disk_create(churn->pool, &spec, 1, NULL, err);
	return rc;
}

static int on_disk(struct churn *churn, struct base_error *err)
{
	churn->disk = meta_disk_get_by_name(churn->pool, "disk");
	churn->participant = meta_epoch_join(meta_io_epochs(churn->pool));
	int rc = meta_disk_open(churn->disk, err);

	if (rc == 0) {
		rc = store_load_index(meta_io_store(churn->disk), err);
		if (rc == 0)
			rc = run_lines(churn, err);
		meta_disk_close(churn->disk);
	}
	meta_disk_put(churn->disk);
	return rc;
}

static int run(struct churn *churn, struct base_error *err)
{
	struct base_error close_err;
	int rc;

	churn->commit_ns = calloc(churn->every / churn->commit_every + 2, sizeof(*churn->commit_ns));
	rc = churn->commit_ns ? make(churn, err) : base_error_set_errno(err, -ENOMEM, "%s", churn->dir);
	if (rc == 0)
		rc = on_disk(churn, err);
	if (churn->pool) {
		int closed = meta_pool_close(churn->pool, &close_err);
		if (rc == 0 && closed < 0)
			rc = base_error_set(err, closed, "%s", close_err.text);
	}
	free(churn->commit_ns);
	return rc;
}

/* ---- the command -------------------------------------------------------------------------- */

static int usage(void)
{
	fprintf(stderr, "usage: churn DIRECTORY [--ops N] [--every N] [--commit-every N] [--disk-gib N] "
			"[--max-growth PERCENT]\n");
	return 2;
}

static bool take_options(struct churn *churn, int argc, char **argv)
{
	static const struct option options[] = {
		{ "ops", required_argument, NULL, 0 },          { "every", required_argument, NULL, 1 },
		{ "commit-every", required_argument, NULL, 2 }, { "disk-gib", required_argument, NULL, 3 },
		{ "max-growth", required_argument, NULL, 4 },   { 0 },
	};
	uint64_t *values[] = { &churn->ops, &churn->every, &churn->commit_every, &churn->disk_gib,
			       &churn->max_growth_percent };
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		char *end = NULL;
		if (option < 0 || option >= (int)ARRAY_LEN(values))
			return false;
		*values[option] = strtoull(optarg, &end, 10);
		if (*end || *values[option] == 0)
			return false;
	}
	return argc - optind == 1 && churn->ops / churn->every <= LINES_MAX && churn->disk_gib <= 65536;
}

int main(int argc, char **argv)
{
	static struct churn churn = {
		.ops = 1000000, .every = 100000, .commit_every = 1000, .disk_gib = 64, .random = 4711
	};
	struct base_error err = { 0 };

	if (!take_options(&churn, argc, argv))
		return usage();
	churn.dir = argv[optind];
	int rc = run(&churn, &err);
	if (rc < 0) {
		fprintf(stderr, "churn: %s\n", err.text);
		return 1;
	}
	return judge(&churn);
}
