/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See judge.h. What a sector may hold is the model test's oracle (tests/model/oracle.h); here are disks, their sizes
 * and the marks.
 *
 * The writer lets one operation at a time change whether a disk is there and how long it is. An operation that
 * failed, or that had not completed, may have happened or not. Snapshots are in judge_snaps.c.
 */
#include "tests/powercut/judge.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "iocore/internal.h"
#include "iocore/snapshot.h"
#include "meta/internal.h"

#define SECTOR 512

bool judge_wrong(struct judge *judge, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(judge->why, sizeof(judge->why), fmt, args);
	va_end(args);
	return false;
}

/* ---- operations under way ----------------------------------------------------------------- */

static void op_begins(struct judge *judge, uint64_t op, uint64_t now)
{
	for (unsigned i = 0; i < JUDGE_OPS_MAX; i++) {
		if (judge->ops[i].op == 0) {
			judge->ops[i] = (struct judge_op){ op, now };
			return;
		}
	}
	abort();
}

static uint64_t op_ends(struct judge *judge, uint64_t op)
{
	for (unsigned i = 0; i < JUDGE_OPS_MAX; i++) {
		if (judge->ops[i].op == op) {
			judge->ops[i].op = 0;
			return judge->ops[i].submitted;
		}
	}
	abort();
}

static uint64_t oldest_op(const struct judge *judge, uint64_t now)
{
	for (unsigned i = 0; i < JUDGE_OPS_MAX; i++)
		if (judge->ops[i].op != 0)
			now = MIN(now, judge->ops[i].submitted);
	return now;
}

/* ---- disks and sizes ---------------------------------------------------------------------- */

struct judge_disk *judge_disk_find(struct judge *judge, uint32_t id)
{
	for (unsigned i = 0; i < JUDGE_DISKS_MAX; i++)
		if (judge->disks[i].used && judge->disks[i].id == id)
			return &judge->disks[i];
	return NULL;
}

static struct judge_size *add_size(struct judge_disk *disk, uint64_t bytes, uint64_t op, bool resize, uint64_t now)
{
	if (disk->size_count == disk->size_room) {
		disk->size_room = disk->size_room ? disk->size_room * 2 : 16;
		disk->sizes = realloc(disk->sizes, disk->size_room * sizeof(*disk->sizes));
		if (!disk->sizes)
			abort();
	}
	disk->sizes[disk->size_count] = (struct judge_size){ bytes, now, ORACLE_NEVER, ORACLE_NEVER, op, resize };
	return &disk->sizes[disk->size_count++];
}

static struct judge_disk *add_disk(struct judge *judge, uint32_t id, uint64_t op, uint64_t now)
{
	unsigned i = 0;

	while (i < JUDGE_DISKS_MAX && judge->disks[i].used)
		i++;
	if (i == JUDGE_DISKS_MAX)
		abort();
	struct judge_disk *disk = &judge->disks[i];
	*disk = (struct judge_disk){ .used = true, .id = id };
	oracle_init(&disk->oracle, id, JUDGE_SECTORS_MAX);
	add_size(disk, 0, op, true, now);
	return disk;
}

void judge_disk_drop(struct judge_disk *disk)
{
	free(disk->next.versions);
	oracle_free(&disk->oracle);
	free(disk->sizes);
	*disk = (struct judge_disk){ 0 };
}

static void put_version(struct oracle *oracle, uint64_t sector, uint32_t version)
{
	char buf[SECTOR];

	oracle_fill(oracle->disk, sector, 1, version, buf);
	oracle_settle(oracle, sector, buf);
}

void judge_disk_become(struct judge_disk *disk, const uint32_t *versions, uint64_t bytes, uint64_t now)
{
	for (uint64_t s = 0; s < JUDGE_SECTORS_MAX; s++)
		put_version(&disk->oracle, s, s < bytes / SECTOR ? versions[s] : 0);
	disk->size_count = 0;
	*add_size(disk, bytes, 0, true, now) = (struct judge_size){ bytes, now, now, now, 0, true };
}

struct judge_disk *judge_disk_add_as(struct judge *judge, uint32_t id, const uint32_t *versions, uint64_t bytes,
				     uint64_t now)
{
	struct judge_disk *disk = add_disk(judge, id, 0, now);

	judge_disk_become(disk, versions, bytes, now);
	return disk;
}

/* May the disk have had a size of f when b is known to be durable? A growth replaces no larger size. */
static bool size_outlives(const struct judge_size *f, const struct judge_size *b)
{
	bool replaced = b->durable != ORACLE_NEVER && f->completed < b->submitted;

	return !(replaced && (b->bytes > f->bytes || b->resize));
}

static bool size_possible(const struct judge_disk *disk, const struct judge_size *f)
{
	for (unsigned i = 0; i < disk->size_count; i++)
		if (!size_outlives(f, &disk->sizes[i]))
			return false;
	return true;
}

static void prune_sizes(struct judge_disk *disk)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < disk->size_count; i++)
		if (size_possible(disk, &disk->sizes[i]))
			disk->sizes[kept++] = disk->sizes[i];
	disk->size_count = kept;
}

static void complete_size(struct judge_disk *disk, uint64_t op, bool durable, uint64_t now)
{
	for (unsigned i = 0; i < disk->size_count; i++) {
		if (disk->sizes[i].op != op)
			continue;
		disk->sizes[i].completed = now;
		if (durable)
			disk->sizes[i].durable = now;
	}
	if (durable)
		prune_sizes(disk);
}

/* ---- marks -------------------------------------------------------------------------------- */

static bool submitted(struct judge *judge, const struct mark *mark, uint64_t now)
{
	struct judge_disk *disk = judge_disk_find(judge, mark->disk);

	op_begins(judge, mark->op, now);
	if (mark->kind == MARK_CREATE)
		add_disk(judge, mark->disk, mark->op, now);
	if (mark->kind == MARK_CREATE || mark->kind == MARK_GROW)
		return true;
	if (mark->kind >= MARK_SNAP)
		return snaps_submitted(judge, mark, now);
	if (!disk)
		return judge_wrong(judge, "a mark of disk %u, which is not there", mark->disk);
	disk->oracle.horizon = oldest_op(judge, now);
	if (mark->kind == MARK_WRITE || mark->kind == MARK_ZERO)
		oracle_submit(&disk->oracle, mark->first, mark->count, mark->kind == MARK_ZERO ? 0 : mark->version,
			      mark->op, now);
	if (mark->kind == MARK_WRITE)
		add_size(disk, (mark->first + mark->count) * SECTOR, mark->op, false, now);
	if (mark->kind == MARK_RESIZE) {
		oracle_submit(&disk->oracle, mark->value / SECTOR, JUDGE_SECTORS_MAX - mark->value / SECTOR, 0,
			      mark->op, now);
		add_size(disk, mark->value, mark->op, true, now);
	}
	if (mark->kind == MARK_DELETE)
		disk->deleting = now;
	return true;
}

static bool judge_live(struct judge *judge, struct judge_disk *disk, const struct mark *mark, uint64_t began)
{
	const uint32_t *versions = (const uint32_t *)(mark + 1);
	char buf[SECTOR];

	for (uint64_t i = 0; i < mark->count; i++) {
		const char *why = "bytes of another disk or another sector, or torn";
		oracle_fill(disk->id, mark->first + i, 1, versions[i], buf);
		if (versions[i] != MARK_BAD_SECTOR)
			why = oracle_judge(&disk->oracle, mark->first + i, buf, ORACLE_LIVE, began);
		/* Below is a file, not a drive: a page is read while it is written, and the two halves of a sector
		 * may be of two writes in flight. */
		else if (oracle_was_in_flight(&disk->oracle, mark->first + i, began))
			why = NULL;
		if (!why)
			continue;
		oracle_print(&disk->oracle, mark->first + i, buf);
		return judge_wrong(judge, "a live read of disk %u, sector %" PRIu64 ", submitted at %" PRIu64 ": %s",
			     disk->id, mark->first + i, began, why);
	}
	judge->reads++;
	judge->read_sectors += mark->count;
	return true;
}

static void flushed(struct judge_disk *disk, uint64_t began, uint64_t now)
{
	oracle_flushed(&disk->oracle, began, now);
	for (unsigned i = 0; i < disk->size_count; i++)
		if (disk->sizes[i].completed < began && disk->sizes[i].durable == ORACLE_NEVER)
			disk->sizes[i].durable = now;
	prune_sizes(disk);
}

static bool completed(struct judge *judge, const struct mark *mark, uint64_t now)
{
	struct judge_disk *disk = judge_disk_find(judge, mark->disk);
	uint64_t began = op_ends(judge, mark->op);

	if (mark->kind == MARK_GROW)
		judge->chunks += mark->value / CHUNK_BYTES;
	if (mark->kind == MARK_GROW)
		return true;
	if (mark->kind >= MARK_SNAP)
		return snaps_completed(judge, mark, began, now);
	if (!disk)
		return judge_wrong(judge, "a mark of disk %u, which is not there", mark->disk);
	switch (mark->kind) {
	case MARK_WRITE:
	case MARK_ZERO:
		oracle_complete(&disk->oracle, mark->first, mark->count, mark->op, now, mark->durable);
		complete_size(disk, mark->op, mark->durable, now);
		break;
	case MARK_RESIZE:
		oracle_complete(&disk->oracle, mark->value / SECTOR, JUDGE_SECTORS_MAX - mark->value / SECTOR,
				mark->op, now, true);
		complete_size(disk, mark->op, true, now);
		break;
	case MARK_CREATE:
		disk->created = now;
		complete_size(disk, mark->op, true, now);
		break;
	case MARK_DELETE:
		snaps_of_disk_gone(judge, disk->id);
		judge_disk_drop(disk);
		break;
	case MARK_FLUSH:
		flushed(disk, began, now);
		break;
	case MARK_READ:
		return judge_live(judge, disk, mark, began);
	}
	return true;
}

bool judge_mark(struct judge *judge, const struct mark *mark, size_t bytes, uint64_t now)
{
	size_t want = sizeof(*mark);

	if (bytes >= want && MARK_HAS_VERSIONS(mark->kind, mark->phase))
		want += mark->count * sizeof(uint32_t);
	if (bytes != want)
		return judge_wrong(judge, "a mark of %zu bytes", bytes);
	if (mark->kind == MARK_READY)
		return true;
	if (mark->phase == MARK_SUBMITTED)
		return submitted(judge, mark, now);
	if (mark->phase == MARK_COMPLETED)
		return completed(judge, mark, now);
	(void)op_ends(judge, mark->op);
	if (mark->kind >= MARK_SNAP)
		snaps_failed(judge, mark);
	return true;
}

/* ---- after the cut ------------------------------------------------------------------------ */

uint32_t judge_id_of(const char *name, char letter)
{
	return name[0] == letter ? (uint32_t)strtoul(name + 1, NULL, 10) : 0;
}

static uint32_t id_of(const struct meta_disk *meta)
{
	return judge_id_of(meta->record.name, 'd');
}

/* What a receive that a cut ended has left, to be gone on with. Nobody sees it. */
static bool is_hidden(const struct meta_disk *meta)
{
	return meta->record.name[0] == '.';
}

/* The next disk that can be seen. */
static struct meta_disk *next_disk(struct cutpool *pool, const struct meta_disk *after)
{
	struct meta_disk *meta = meta_disk_next(cutpool_meta(pool), after ? after->record.name : "");

	while (meta && is_hidden(meta))
		meta = meta_disk_next(cutpool_meta(pool), meta->record.name);
	return meta;
}

static bool clean(struct judge *judge, const struct meta_check_report *report, const char *when)
{
	if (report->problems == 0 && report->not_judged == 0)
		return true;
	return judge_wrong(judge, "check %s found %" PRIu64 " problems, %" PRIu64 " not judged; the first: %s", when,
		     report->problems, report->not_judged, report->finding_count ? report->findings[0].text : "none");
}

static bool judge_presence(struct judge *judge, struct cutpool *pool)
{
	struct meta_disk *meta = next_disk(pool, NULL);
	char name[32];

	for (; meta; meta = next_disk(pool, meta))
		if (!judge_disk_find(judge, id_of(meta)))
			return judge_wrong(judge, "disk %s is there, and was deleted or never made",
					   meta->record.name);
	for (unsigned i = 0; i < JUDGE_DISKS_MAX; i++) {
		const struct judge_disk *disk = &judge->disks[i];
		if (!disk->used || disk->created == 0 || disk->deleting != 0)
			continue;
		snprintf(name, sizeof(name), "d%u", disk->id);
		meta = meta_disk_get_by_name(cutpool_meta(pool), name);
		if (!meta)
			return judge_wrong(judge, "disk %s was made, and is not there", name);
		meta_disk_put(meta);
	}
	return true;
}

static bool judge_size(struct judge *judge, const struct judge_disk *disk, uint64_t size, bool quiet)
{
	for (unsigned i = 0; i < disk->size_count; i++)
		if (disk->sizes[i].bytes == size && size_possible(disk, &disk->sizes[i]))
			return true;
	for (unsigned i = 0; i < disk->size_count && !quiet; i++)
		printf("  size %" PRIu64 " submitted %" PRIu64 " completed %" PRId64 " durable %" PRId64 "\n",
		       disk->sizes[i].bytes, disk->sizes[i].submitted, (int64_t)disk->sizes[i].completed,
		       (int64_t)disk->sizes[i].durable);
	return judge_wrong(judge, "disk %u has an impossible size: %" PRIu64, disk->id, size);
}

bool judge_each_sector(struct judge *judge, struct cutpool *pool, struct ioc_bd *bd, const char *name, uint32_t disk,
		       uint64_t size, judge_sector_fn fn, void *ctx)
{
	static char buf[IOC_DATA_BYTES_MAX];

	if (size % SECTOR != 0 || size > JUDGE_SECTORS_MAX * SECTOR)
		return judge_wrong(judge, "%s of disk %u has a size of %" PRIu64, name, disk, size);
	for (uint64_t at = 0; at < size; at += sizeof(buf)) {
		uint64_t bytes = MIN(sizeof(buf), size - at);
		int rc = cutpool_read(pool, bd, at, bytes, buf);
		if (rc < 0)
			return judge_wrong(judge, "%s of disk %u can't be read at %" PRIu64 ": %s", name, disk, at,
					   strerror(-rc));
		for (uint64_t i = 0; i < bytes; i += SECTOR)
			if (!fn(judge, disk, (at + i) / SECTOR, buf + i, ctx))
				return false;
	}
	return true;
}

static bool each_sector(struct judge *judge, struct cutpool *pool, struct meta_disk *meta, judge_sector_fn fn,
			void *ctx)
{
	struct base_error err = { 0 };
	struct ioc_bd *bd;

	if (cutpool_disk_open(pool, meta, &bd, &err) < 0)
		return judge_wrong(judge, "disk %s can't be opened: %s", meta->record.name, err.text);
	bool ok = judge_each_sector(judge, pool, bd, "the data", id_of(meta), meta_disk_size(meta), fn, ctx);
	ioc_disk_close(bd);
	return ok;
}

/* What a disk has from another, whose clone it is, carries that one's stamp; it is judged as if it were its own, since
 * a version is only ever written to one. */
static const char *as_its_own(uint32_t disk, uint64_t sector, const char *buf, char own[SECTOR])
{
	uint64_t words[2];

	memcpy(words, buf, sizeof(words));
	oracle_fill((uint32_t)(words[0] >> 32), sector, 1, (uint32_t)words[0], own);
	if (words[0] >> 32 == disk || memcmp(own, buf, SECTOR) != 0)
		return buf;
	oracle_fill(disk, sector, 1, (uint32_t)words[0], own);
	return own;
}

struct looking {
	uint64_t sectors;
	bool quiet; /* what is wrong is not told: there may be another reading */
};

static bool judge_sector(struct judge *judge, uint32_t id, uint64_t sector, const char *buf, void *ctx)
{
	struct judge_disk *disk = judge_disk_find(judge, id);
	struct looking *looking = ctx;
	char own[SECTOR];
	const char *why = oracle_judge(&disk->oracle, sector, as_its_own(id, sector, buf, own), ORACLE_CUT, 0);

	looking->sectors++;
	if (!why)
		return true;
	if (!looking->quiet)
		oracle_print(&disk->oracle, sector, buf);
	return judge_wrong(judge, "disk %u, sector %" PRIu64 ": %s", id, sector, why);
}

static bool judge_one(struct judge *judge, struct cutpool *pool, struct meta_disk *meta, struct looking *looking)
{
	struct judge_disk *disk = judge_disk_find(judge, id_of(meta));

	return judge_size(judge, disk, meta_disk_size(meta), looking->quiet) &&
	       each_sector(judge, pool, meta, judge_sector, looking);
}

static bool judge_disk(struct judge *judge, struct cutpool *pool, struct meta_disk *meta, struct looking *looking)
{
	struct judge_disk *disk = judge_disk_find(judge, id_of(meta));
	struct judge_next *next = &disk->next;
	/* As it was, or all of it as it was to become; of a stream the snapshot tells which. */
	bool may_be_old = !next->versions || next->snap == 0 || !snap_is_there(pool, disk->id, next->snap);
	bool may_be_new = next->versions && (next->snap == 0 || !may_be_old);

	looking->quiet = may_be_new;
	if (may_be_old && judge_one(judge, pool, meta, looking))
		return true;
	looking->quiet = false;
	if (!may_be_new)
		return false;
	judge_disk_become(disk, next->versions, next->bytes, 1);
	return judge_one(judge, pool, meta, looking);
}

static bool judge_disks(struct judge *judge, struct cutpool *pool, uint64_t *ret_sectors)
{
	struct looking looking = { 0 };

	for (struct meta_disk *meta = next_disk(pool, NULL); meta; meta = next_disk(pool, meta))
		if (!judge_disk(judge, pool, meta, &looking))
			return false;
	*ret_sectors += looking.sectors;
	return true;
}

static bool opens_clean(struct judge *judge, struct cutpool *pool, bool closed_first)
{
	struct meta_check_report report;
	struct base_error err = { 0 };

	if (closed_first && cutpool_check_closed(pool, &report, &err) < 0)
		return judge_wrong(judge, "check of the closed pool: %s", err.text);
	if (closed_first && !clean(judge, &report, "before the pool was opened"))
		return false;
	if (cutpool_open(pool, &err) < 0)
		return judge_wrong(judge, "the pool does not open: %s", err.text);
	if (cutpool_check(pool, &report, &err) < 0)
		return judge_wrong(judge, "check of the open pool: %s", err.text);
	return clean(judge, &report, "after the pool was opened");
}

static bool judge_all(struct judge *judge, struct cutpool *pool, uint64_t *ret_sectors)
{
	struct meta_pool_info info;

	meta_pool_info(cutpool_meta(pool), &info);
	if (info.total_chunks < judge->chunks)
		return judge_wrong(judge, "the pool has %" PRIu64 " chunks, and had grown to %" PRIu64,
				   info.total_chunks, judge->chunks);
	return judge_presence(judge, pool) && judge_disks(judge, pool, ret_sectors) &&
	       snaps_judge(judge, pool, ret_sectors);
}

/* The work that a cut interrupted goes on, and nobody's content changes by it. */
static bool judge_jobs(struct judge *judge, struct cutpool *pool, uint64_t *ret_sectors)
{
	struct meta_check_report report;
	struct base_error err = { 0 };

	if (!cutpool_finish_jobs(pool))
		return judge_wrong(judge, "the work of the background does not end");
	if (cutpool_check(pool, &report, &err) < 0)
		return judge_wrong(judge, "check after the background's work: %s", err.text);
	return clean(judge, &report, "after the background's work") && judge_all(judge, pool, ret_sectors);
}

bool judge_cut(struct judge *judge, struct cutpool *pool, bool closed_first, bool jobs_too, uint64_t *ret_sectors)
{
	*ret_sectors = 0;
	return opens_clean(judge, pool, closed_first) && judge_all(judge, pool, ret_sectors) &&
	       (!jobs_too || judge_jobs(judge, pool, ret_sectors));
}

/* ---- the start of a recording ------------------------------------------------------------- */

static void put(int fd, const void *data, size_t bytes)
{
	if (write(fd, data, bytes) != (ssize_t)bytes)
		abort();
}

/* What is there: a disk, or, with a number, a snapshot of it. Its sectors follow. */
struct settled {
	uint64_t disk, snap, bytes;
};

static bool settle_sector(struct judge *judge, uint32_t id, uint64_t sector, const char *buf, void *ctx)
{
	int fd = *(int *)ctx;
	uint64_t words[2];

	memcpy(words, buf, sizeof(words));
	put(fd, words, sizeof(uint32_t)); /* the version */
	return true;
}

static bool settle_snapshots(struct judge *judge, struct cutpool *pool, struct meta_disk *meta, int fd)
{
	struct meta_snapshot *snapshot = meta_snapshot_next(meta, "");
	struct meta_snapshot_info info = { .name = "" };
	struct base_error err = { 0 };
	struct ioc_bd *bd;
	bool ok = true;

	for (; snapshot && ok; snapshot = meta_snapshot_next(meta, info.name)) {
		meta_snapshot_info(snapshot, &info);
		struct settled head = { id_of(meta), judge_id_of(info.name, 's'), info.size_bytes };
		put(fd, &head, sizeof(head));
		if (cutpool_snapshot_open(pool, snapshot, &bd, &err) < 0)
			return judge_wrong(judge, "snapshot %s@%s can't be opened: %s", meta->record.name, info.name,
					   err.text);
		ok = judge_each_sector(judge, pool, bd, info.name, id_of(meta), info.size_bytes, settle_sector, &fd);
		ioc_snapshot_close(bd);
		meta_snapshot_put(snapshot);
	}
	return ok;
}

bool judge_settle(struct judge *judge, struct cutpool *pool, int result_fd)
{
	struct meta_pool_info info;

	if (!opens_clean(judge, pool, true))
		return false;
	meta_pool_info(cutpool_meta(pool), &info);
	put(result_fd, &info.total_chunks, sizeof(info.total_chunks));
	for (struct meta_disk *meta = next_disk(pool, NULL); meta; meta = next_disk(pool, meta)) {
		struct settled head = { id_of(meta), 0, meta_disk_size(meta) };
		put(result_fd, &head, sizeof(head));
		if (!each_sector(judge, pool, meta, settle_sector, &result_fd) ||
		    !settle_snapshots(judge, pool, meta, result_fd))
			return false;
	}
	return true;
}

static bool get(int fd, void *data, size_t bytes)
{
	return read(fd, data, bytes) == (ssize_t)bytes;
}

void judge_load(struct judge *judge, int result_fd)
{
	struct settled head;

	if (!get(result_fd, &judge->chunks, sizeof(judge->chunks)))
		abort();
	while (get(result_fd, &head, sizeof(head))) {
		size_t bytes = head.bytes / SECTOR * sizeof(uint32_t);
		uint32_t *versions = malloc(bytes + 1);
		if (!versions || !get(result_fd, versions, bytes))
			abort();
		if (head.snap) {
			snap_settled(judge, (uint32_t)head.disk, (uint32_t)head.snap, head.bytes, versions);
			continue;
		}
		judge_disk_add_as(judge, (uint32_t)head.disk, versions, head.bytes, 1)->created = 1;
		free(versions);
	}
}
