/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of a pool, one function each; see operations.h. What data they
 * change is noted by the rig, which judges it; what they do to the catalogue is
 * judged here: it happened whole or not at all, and if they said that it did, it
 * did.
 */
#include "tests/sweep/operations.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "meta/check.h"
#include "meta/dump.h"

#define REQUEST(name, disk, op, flags, offset, length, version)                                                      \
	static int name(struct rig *rig)                                                                             \
	{                                                                                                            \
		return rig_request(rig, disk, op, flags, offset, length, version);                                   \
	}

/* ---- requests: one for each kind of plan -------------------------------------------------- */

REQUEST(write_fresh, 0, IOC_OP_WRITE, 0, 2 * MIB, 64 * KIB, 10)
REQUEST(write_fresh_part, 0, IOC_OP_WRITE, 0, 3 * MIB + 8192, 4096, 10)
REQUEST(write_over, 0, IOC_OP_WRITE, 0, 128 * KIB, 192 * KIB, 10)
REQUEST(write_rmw, 0, IOC_OP_WRITE, 0, 3584, 1024, 10)
REQUEST(write_rmw_fresh, 0, IOC_OP_WRITE, 0, 4 * MIB + 512, 512, 10)
REQUEST(write_leaves, 0, IOC_OP_WRITE, 0, 7 * MIB, 2 * MIB, 10)
REQUEST(write_cold, 0, IOC_OP_WRITE, 0, 17 * MIB + 4096, 4096, 10)
REQUEST(write_grow, 0, IOC_OP_WRITE, IOC_GROW, 21 * MIB, 128 * KIB, 10)
REQUEST(write_durable, 0, IOC_OP_WRITE, IOC_FUA, 5 * MIB, 64 * KIB, 10)
REQUEST(flush, 0, IOC_OP_FLUSH, 0, 0, 0, 0)
REQUEST(discard, 0, IOC_OP_DISCARD, 0, 256 * KIB, 256 * KIB, 0)
REQUEST(discard_edges, 0, IOC_OP_DISCARD, 0, 9 * MIB + 512, 200 * KIB, 0)
REQUEST(discard_leaves, 0, IOC_OP_DISCARD, 0, 0, 20 * MIB, 0)
REQUEST(zeroes, 0, IOC_OP_WRITE_ZEROES, 0, 64 * KIB + 1024, 300 * KIB, 0)
REQUEST(zeroes_keep, 0, IOC_OP_WRITE_ZEROES, IOC_KEEP_SPACE, 0, 512 * KIB, 0)
REQUEST(allocate, 0, IOC_OP_ALLOCATE, 0, 10 * MIB, 3 * MIB, 0)
REQUEST(read_cold, 0, IOC_OP_READ, 0, 8 * MIB + 512 * KIB, 2 * MIB, 0)
REQUEST(seek_data, 0, IOC_OP_SEEK_DATA, 0, 2 * MIB, 0, 0)
REQUEST(seek_hole, 0, IOC_OP_SEEK_HOLE, 0, 0, 0, 0)

static void write_some(struct rig *rig)
{
	int rc = rig_request(rig, 0, IOC_OP_WRITE, 0, 6 * MIB, 300 * KIB, 20);

	if (rc == 0)
		rc = rig_request(rig, 0, IOC_OP_WRITE, 0, 0, 64 * KIB, 21);
	if (rc == 0)
		rc = rig_request(rig, 0, IOC_OP_DISCARD, 0, 9 * MIB, 128 * KIB, 0);
	if (rc == 0)
		rc = rig_request(rig, 0, IOC_OP_WRITE, IOC_GROW, 22 * MIB, 4096, 22);
	if (rc != 0)
		rig_fail("preparing: %s", strerror(-rc));
}

static int flush_overwrite(struct rig *rig)
{
	int rc = rig_request(rig, 0, IOC_OP_WRITE, 0, 0, 64 * KIB, 11);

	return rc < 0 ? rc : rig_request(rig, 0, IOC_OP_FLUSH, 0, 0, 0, 0);
}

static int grow(struct rig *rig)
{
	return rig_request(rig, 0, IOC_OP_RESIZE, 0, 23 * MIB + 1536, 0, 0);
}

static int shrink(struct rig *rig)
{
	return rig_request(rig, 0, IOC_OP_RESIZE, 0, 200 * KIB + 512, 0, 0);
}

static int shrink_and_free(struct rig *rig)
{
	int rc = shrink(rig);

	rig_settle(rig);
	return rc;
}

/* What was cut off does not come back, however the freeing of it ended. */
static void judge_shrink(struct rig *rig, int rc)
{
	if (rig->disks[0].bd)
		(void)!rig_request(rig, 0, IOC_OP_RESIZE, 0, 22 * MIB, 0, 0);
}

static int commit(struct rig *rig)
{
	return meta_pool_commit(rig->pool);
}

static int timer(struct rig *rig)
{
	rig->later_ns += 2 * COMMIT_INTERVAL_NS;
	rig_settle(rig);
	return 0;
}

/* All the way of what was freed. */
static int discard_and_free(struct rig *rig)
{
	int rc = discard_leaves(rig);

	rig->later_ns += 2 * COMMIT_INTERVAL_NS;
	rig_settle(rig);
	return rc;
}

/* ---- the catalogue ------------------------------------------------------------------------ */

static bool is_there(struct rig *rig, const char *name)
{
	struct meta_disk *disk = meta_disk_get_by_name(rig->pool, name);

	if (disk)
		meta_disk_put(disk);
	return disk != NULL;
}

static int create_n(struct rig *rig, unsigned count)
{
	struct meta_disk_spec specs[10] = { 0 };

	for (unsigned i = 0; i < count; i++) {
		snprintf(specs[i].name, sizeof(specs[i].name), "new%u", i);
		specs[i].size_bytes = MIB;
	}
	return meta_disk_create(rig->pool, specs, count, NULL, &rig->err);
}

static int create(struct rig *rig)
{
	return create_n(rig, 1);
}

static int create_ten(struct rig *rig)
{
	return create_n(rig, 10);
}

static void judge_create(struct rig *rig, int rc)
{
	if (rc == 0 && !is_there(rig, "new0"))
		rig_fail("a created disk is not there");
}

static void judge_create_ten(struct rig *rig, int rc)
{
	unsigned there = 0;
	char name[16];

	for (unsigned i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "new%u", i);
		there += is_there(rig, name);
	}
	if (there != 10 && (rc == 0 || there != 0))
		rig_fail("of ten disks made together %u are there, the call said %d", there, rc);
}

static void close_b(struct rig *rig)
{
	rig_close_disk(rig, 1);
	rig->disks[1].name[0] = '\0';
}

static int remove_b(struct rig *rig)
{
	struct meta_disk *disk = meta_disk_get_by_name(rig->pool, "b");
	int rc = meta_disk_remove(disk, &rig->err);

	meta_disk_put(disk);
	return rc;
}

static int remove_and_free(struct rig *rig)
{
	int rc = remove_b(rig);

	rig->later_ns += 2 * COMMIT_INTERVAL_NS;
	rig_settle(rig);
	return rc;
}

/* The trim of a shrink has not ended when the disk goes, and neither has when the pool is closed. */
static int remove_trimming(struct rig *rig)
{
	int rc = rig_request(rig, 1, IOC_OP_RESIZE, 0, 4096, 0, 0);

	close_b(rig);
	return rc < 0 ? rc : remove_b(rig);
}

static void judge_remove(struct rig *rig, int rc)
{
	if (rc == 0 && is_there(rig, "b"))
		rig_fail("a removed disk is there");
}

static int rename_b(struct rig *rig)
{
	struct meta_disk *disk = meta_disk_get_by_name(rig->pool, "b");
	int rc = meta_disk_rename(disk, "c", &rig->err);

	meta_disk_put(disk);
	return rc;
}

static void judge_rename(struct rig *rig, int rc)
{
	if (is_there(rig, "b") == is_there(rig, "c") || (rc == 0 && is_there(rig, "b")))
		rig_fail("a renamed disk has both names or none, or the old one; the call said %d", rc);
}

static int set_attr(struct rig *rig)
{
	struct meta_disk_attr attr = { .mode = 0640, .uid = 5, .gid = 6 };
	struct meta_disk *disk = meta_disk_get_by_name(rig->pool, "a");
	int rc = meta_disk_set_attr(disk, META_ATTR_MODE | META_ATTR_OWNER, &attr, &rig->err);

	meta_disk_put(disk);
	return rc;
}

static void judge_attr(struct rig *rig, int rc)
{
	struct meta_disk *disk = meta_disk_get_by_name(rig->pool, "a");
	struct meta_disk_info info;

	meta_disk_info(disk, &info);
	meta_disk_put(disk);
	bool is_new = info.record.mode == 0640 && info.record.uid == 5 && info.record.gid == 6;
	if (!is_new && (rc == 0 || info.record.mode == 0640 || info.record.uid == 5))
		rig_fail("attributes were set by half; the call said %d", rc);
}

/* ---- pools -------------------------------------------------------------------------------- */

static int add_pv(struct rig *rig)
{
	char path[160];
	struct meta_pv_spec spec = { .path = path, .size_bytes = 16 * MIB };

	snprintf(path, sizeof(path), "%s/pv1", rig->dir);
	return meta_pool_add_pv(rig->pool, &spec, &rig->err);
}

static int grow_pv(struct rig *rig)
{
	return meta_pool_grow_pv(rig->pool, 0, 64 * MIB, &rig->err);
}

static void judge_more(struct rig *rig, int rc)
{
	struct meta_pool_info info;

	meta_pool_info(rig->pool, &info);
	if (rc == 0 && info.total_chunks < 60 * MIB / CHUNK_BYTES)
		rig_fail("the pool has %llu chunks after it grew", (unsigned long long)info.total_chunks);
}

static int make_pool(struct rig *rig)
{
	char path[2][160];
	struct meta_pv_spec pvs[2] = { { .path = path[0], .size_bytes = 8 * MIB },
				       { .path = path[1], .size_bytes = 8 * MIB } };
	struct meta_pool_create_args args = { .dir = rig->dir, .name = "made", .pvs = pvs, .pv_count = 2 };

	for (unsigned i = 0; i < 2; i++)
		snprintf(path[i], sizeof(path[i]), "%s/pv%u", rig->dir, i);
	return meta_pool_create(&args, &rig->err);
}

/* In a process of its own, which ends as if killed. */
static void write_and_die(struct rig *rig)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		if (rig_open(rig) != 0)
			rig_fail("preparing: %s", rig->err.text);
		write_some(rig);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status != 0)
		rig_fail("preparing: %d", status);
	/* What it wrote is known to nobody here. */
	memset(rig->disks[0].maybe, 0xff, sizeof(rig->disks[0].maybe));
	for (uint64_t s = 6 * MIB / RIG_SECTOR; s < (6 * MIB + 300 * KIB) / RIG_SECTOR; s++)
		rig->disks[0].latest[s] = 20;
	for (uint64_t s = 0; s < 64 * KIB / RIG_SECTOR; s++)
		rig->disks[0].latest[s] = rig->disks[0].durable[s] =
			21; /* an overwrite is in no log: it just is there */
	for (uint64_t s = 9 * MIB / RIG_SECTOR; s < (9 * MIB + 128 * KIB) / RIG_SECTOR; s++)
		rig->disks[0].latest[s] = 0;
	for (uint64_t s = 22 * MIB / RIG_SECTOR; s < (22 * MIB + 4096) / RIG_SECTOR; s++)
		rig->disks[0].latest[s] = 22;
}

static int open_with_threads(struct rig *rig)
{
	struct meta_pool_open_args args = { .dir = rig->dir };
	struct meta_pool *pool;
	int rc = meta_pool_open(&args, &pool, &rig->err);

	return rc < 0 ? rc : meta_pool_close(pool, &rig->err);
}

static int open_queues(struct rig *rig, const char *engine)
{
	struct ioc_pool_args args = { .engine = engine, .queues = 2, .depth = 8 };
	struct ioc_pool *ioc;
	int rc = ioc_pool_open(rig->pool, &args, &ioc, &rig->err);

	if (rc == 0)
		ioc_pool_close(ioc);
	return rc;
}

static int open_queues_uring(struct rig *rig)
{
	return open_queues(rig, "uring");
}

static int open_queues_threads(struct rig *rig)
{
	return open_queues(rig, "threads");
}

/* ---- looking ------------------------------------------------------------------------------ */

/* What can't be read is left open or an error; what is not damaged is not called damaged. */
static int judge_report(int rc, const struct meta_check_report *report)
{
	if (rc == 0 && report->problems > 0)
		printf("  check: %s\n", report->findings[0].text);
	return rc;
}

static int check(struct rig *rig)
{
	struct meta_check_args args = { .pool = rig->pool };
	struct meta_check_report report;

	return judge_report(meta_check(&args, &report, &rig->err), &report);
}

static int check_closed(struct rig *rig)
{
	struct meta_check_args args = { 0 };
	struct meta_check_report report;

	return judge_report(meta_check_dir(rig->dir, &args, &report, &rig->err), &report);
}

static int ignore_record(void *ctx, enum db_kind kind, const struct db_key *key, const struct db_value *value,
			 bool bad)
{
	return 0;
}

static int dump(struct rig *rig)
{
	return meta_dump(rig->pool, rig->dir, ignore_record, NULL, &rig->err);
}

const struct operation operations[] = {
	{ "write-fresh", 0, NULL, write_fresh, NULL },
	{ "write-fresh-part", 0, NULL, write_fresh_part, NULL },
	{ "write-over", 0, NULL, write_over, NULL },
	{ "write-rmw", 0, NULL, write_rmw, NULL },
	{ "write-rmw-fresh", 0, NULL, write_rmw_fresh, NULL },
	{ "write-leaves", 0, NULL, write_leaves, NULL },
	{ "write-cold", 0, NULL, write_cold, NULL },
	{ "write-grow", 0, NULL, write_grow, NULL },
	{ "write-durable", 0, NULL, write_durable, NULL },
	{ "flush", 0, write_some, flush, NULL },
	{ "flush-overwrite", 0, NULL, flush_overwrite, NULL },
	{ "discard", 0, NULL, discard, NULL },
	{ "discard-edges", 0, NULL, discard_edges, NULL },
	{ "discard-and-free", 0, NULL, discard_and_free, NULL },
	{ "zeroes", 0, NULL, zeroes, NULL },
	{ "zeroes-keep", 0, NULL, zeroes_keep, NULL },
	{ "allocate", 0, NULL, allocate, NULL },
	{ "read-cold", 0, NULL, read_cold, NULL },
	{ "seek-data", 0, NULL, seek_data, NULL },
	{ "seek-hole", 0, NULL, seek_hole, NULL },
	{ "resize-grow", 0, NULL, grow, NULL },
	{ "resize-shrink", 0, NULL, shrink, NULL },
	{ "shrink-and-free", 0, NULL, shrink_and_free, judge_shrink },
	{ "commit", 0, write_some, commit, NULL },
	{ "timer", 0, write_some, timer, NULL },
	{ "create", 0, NULL, create, judge_create },
	{ "create-ten", 0, NULL, create_ten, judge_create_ten },
	{ "remove", 0, close_b, remove_b, judge_remove },
	{ "remove-and-free", 0, close_b, remove_and_free, judge_remove },
	{ "remove-trimming", 0, NULL, remove_trimming, judge_remove },
	{ "rename", 0, close_b, rename_b, judge_rename },
	{ "set-attributes", 0, NULL, set_attr, judge_attr },
	{ "chsp-add", OPERATION_OWN_SYNC, write_some, add_pv, judge_more },
	{ "chsp-grow", 0, write_some, grow_pv, judge_more },
	{ "mksp", OPERATION_NO_POOL, NULL, make_pool, NULL },
	{ "open", OPERATION_CLOSED, NULL, rig_open, NULL },
	{ "open-threads", OPERATION_CLOSED, NULL, open_with_threads, NULL },
	{ "replay", OPERATION_CLOSED | OPERATION_UNFLUSHED, write_and_die, rig_open, NULL },
	{ "close", 0, write_some, rig_close, NULL },
	{ "queues-uring", 0, NULL, open_queues_uring, NULL },
	{ "queues-threads", 0, NULL, open_queues_threads, NULL },
	{ "check", 0, write_some, check, NULL },
	{ "check-closed", OPERATION_CLOSED, NULL, check_closed, NULL },
	{ "dump", 0, NULL, dump, NULL },
};
const unsigned operation_count = ARRAY_LEN(operations);
