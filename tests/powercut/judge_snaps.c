/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of a recording, see judge.h.
 *
 * When a snapshot is answered, what is known of its disk is kept with it. Whoever reads it for the first time, the
 * writer or the judge of a cut, finds in each sector a version that the disk may have shown at some moment between the
 * call and the answer; and the sectors are of *one* moment: if one has a write, no other has what a write had replaced
 * that was completed before that one was submitted. Over all disks of a group, too. What was found is the shadow:
 * from then on every read, after every cut, has to find just that.
 *
 * A rollback, a clone and a receive begin with a shadow, so what they make is known to the sector.
 */
#include "tests/powercut/judge.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "iocore/internal.h"
#include "iocore/snapshot.h"
#include "meta/internal.h"

#define SECTOR 512

/* ---- the table ---------------------------------------------------------------------------- */

static struct judge_snap *find(struct judge *judge, uint32_t disk, uint64_t number)
{
	for (unsigned i = 0; i < JUDGE_SNAPS_MAX; i++)
		if (judge->snaps[i].number == number && judge->snaps[i].disk == disk)
			return &judge->snaps[i];
	return NULL;
}

static struct judge_snap *add(struct judge *judge, uint32_t disk, uint64_t number, uint64_t bytes, uint64_t now)
{
	for (unsigned i = 0; i < JUDGE_SNAPS_MAX; i++) {
		struct judge_snap *snap = &judge->snaps[i];
		if (snap->number != 0)
			continue;
		*snap = (struct judge_snap){
			.number = (uint32_t)number, .disk = disk, .bytes = bytes, .began = now
		};
		return snap;
	}
	abort();
}

static void drop(struct judge_snap *snap)
{
	if (snap->oracle.all)
		oracle_free(&snap->oracle);
	free(snap->shadow);
	*snap = (struct judge_snap){ 0 };
}

void snaps_of_disk_gone(struct judge *judge, uint32_t disk)
{
	for (unsigned i = 0; i < JUDGE_SNAPS_MAX; i++)
		if (judge->snaps[i].number != 0 && judge->snaps[i].disk == disk)
			drop(&judge->snaps[i]);
}

static uint32_t *copy_of(const uint32_t *versions, uint64_t bytes)
{
	size_t size = bytes / SECTOR * sizeof(*versions);
	uint32_t *copy = malloc(size + 1);

	if (!copy)
		abort();
	memcpy(copy, versions, size);
	return copy;
}

void snap_settled(struct judge *judge, uint32_t disk, uint32_t number, uint64_t bytes, uint32_t *owned_versions)
{
	struct judge_snap *snap = add(judge, disk, number, bytes, 1);

	snap->ended = 1;
	snap->shadow = owned_versions;
}

static void keep_oracle(struct judge_snap *snap, const struct oracle *from)
{
	oracle_init(&snap->oracle, from->disk, snap->bytes / SECTOR);
	for (uint64_t s = 0; s < snap->oracle.sectors; s++) {
		struct oracle_sector *to = &snap->oracle.all[s];
		size_t size = from->all[s].count * sizeof(*to->versions);
		to->versions = malloc(size + 1);
		if (!to->versions)
			abort();
		memcpy(to->versions, from->all[s].versions, size);
		to->count = to->room = from->all[s].count;
	}
}

/* ---- what one may hold -------------------------------------------------------------------- */

static const struct oracle *oracle_of(struct judge *judge, const struct judge_snap *snap)
{
	const struct judge_disk *disk = snap->ended == 0 ? judge_disk_find(judge, snap->disk) : NULL;

	return disk ? &disk->oracle : snap->oracle.all ? &snap->oracle : NULL;
}

static uint64_t submitted_at(const struct oracle_sector *sector, uint32_t version)
{
	/* Zeros say nothing: any of several requests, or none, may have made them. */
	for (unsigned i = 0; version != 0 && i < sector->count; i++)
		if (sector->versions[i].version == version)
			return sector->versions[i].submitted;
	return 0;
}

/* Is the shadow what the disk showed at one moment, not before `since`? */
static bool is_of_one_moment(struct judge *judge, const struct judge_snap *snap, uint64_t since)
{
	const struct oracle *oracle = oracle_of(judge, snap);
	char buf[SECTOR];

	for (uint64_t s = 0; oracle && s < snap->bytes / SECTOR; s++) {
		const char *why = "bytes of another sector, or torn";
		oracle_fill(oracle->disk, s, 1, snap->shadow[s], buf);
		if (snap->shadow[s] != MARK_BAD_SECTOR)
			why = oracle_judge(oracle, s, buf, ORACLE_LIVE, since);
		if (!why)
			continue;
		oracle_print(oracle, s, buf);
		return judge_wrong(judge,
				   "snapshot s%u of disk %u, asked for at %" PRIu64 ", answered at %" PRIu64
				   ", with a write submitted at %" PRIu64 ", sector %" PRIu64 ": %s",
				   snap->number, snap->disk, snap->began, snap->ended, since, s, why);
	}
	return true;
}

/* Those of one command are of one moment. */
static bool judge_group(struct judge *judge, uint32_t number)
{
	uint64_t newest = 0;

	for (unsigned i = 0; i < JUDGE_SNAPS_MAX; i++) {
		const struct judge_snap *snap = &judge->snaps[i];
		if (snap->number == number && snap->kind == SNAP_TAKEN && snap->shadow)
			newest = MAX(newest, MAX(snap->began, snap->newest));
	}
	for (unsigned i = 0; i < JUDGE_SNAPS_MAX; i++) {
		const struct judge_snap *snap = &judge->snaps[i];
		if (snap->number == number && snap->kind == SNAP_TAKEN && snap->shadow &&
		    !is_of_one_moment(judge, snap, newest))
			return false;
	}
	return true;
}

static bool first_read(struct judge *judge, struct judge_snap *snap, const uint32_t *versions)
{
	const struct oracle *oracle = oracle_of(judge, snap);

	snap->shadow = copy_of(versions, snap->bytes);
	for (uint64_t s = 0; oracle && s < snap->bytes / SECTOR; s++)
		snap->newest = MAX(snap->newest, submitted_at(&oracle->all[s], versions[s]));
	return judge_group(judge, snap->number);
}

static bool judge_content(struct judge *judge, struct judge_snap *snap, const uint32_t *versions)
{
	if (!snap->shadow)
		return first_read(judge, snap, versions);
	for (uint64_t s = 0; s < snap->bytes / SECTOR; s++)
		if (versions[s] != snap->shadow[s])
			return judge_wrong(judge,
					   "snapshot s%u of disk %u, sector %" PRIu64 ": version %x became %x",
					   snap->number, snap->disk, s, snap->shadow[s], versions[s]);
	return true;
}

/* ---- marks -------------------------------------------------------------------------------- */

static const uint32_t *versions_of(const struct mark *mark)
{
	return (const uint32_t *)(mark + 1);
}

static bool receive_submitted(struct judge *judge, const struct mark *mark, uint64_t now)
{
	struct judge_disk *disk = judge_disk_find(judge, mark->disk);
	uint64_t bytes = (uint64_t)mark->count * SECTOR;
	struct judge_snap *snap = add(judge, mark->disk, mark->value, bytes, now);

	snap->kind = SNAP_RECEIVED;
	snap->shadow = copy_of(versions_of(mark), bytes);
	if (disk)
		disk->next = (struct judge_next){ copy_of(versions_of(mark), bytes), bytes, snap->number };
	else
		judge_disk_add_as(judge, mark->disk, versions_of(mark), bytes, now);
	return true;
}

/* Those that need a snapshot that is there and was read. */
static bool submitted_of(struct judge *judge, struct judge_snap *snap, const struct mark *mark, uint64_t now)
{
	struct judge_disk *disk = judge_disk_find(judge, mark->disk);

	if (mark->kind == MARK_UNSNAP)
		snap->removing = true;
	if (mark->kind == MARK_UNSNAP || mark->kind == MARK_READ_SNAP)
		return true;
	if (!snap->shadow)
		return judge_wrong(judge, "snapshot s%u is used, and was never read", snap->number);
	if (mark->kind == MARK_CLONE)
		judge_disk_add_as(judge, mark->disk, snap->shadow, snap->bytes, now);
	else if (disk)
		disk->next = (struct judge_next){ copy_of(snap->shadow, snap->bytes), snap->bytes, 0 };
	return true;
}

bool snaps_submitted(struct judge *judge, const struct mark *mark, uint64_t now)
{
	struct judge_snap *snap = find(judge, mark->kind == MARK_CLONE ? (uint32_t)mark->first : mark->disk,
				       mark->value);

	if (mark->kind == MARK_RECEIVE)
		return receive_submitted(judge, mark, now);
	if (mark->kind == MARK_SNAP) {
		add(judge, mark->disk, mark->value, mark->first * SECTOR, now);
		return true;
	}
	if (!snap)
		return judge_wrong(judge, "a mark of snapshot s%" PRIu64 " of disk %u, which is not there", mark->value,
				   mark->disk);
	return submitted_of(judge, snap, mark, now);
}

static void become_next(struct judge_disk *disk, uint64_t now)
{
	judge_disk_become(disk, disk->next.versions, disk->next.bytes, now);
	free(disk->next.versions);
	disk->next = (struct judge_next){ 0 };
}

bool snaps_completed(struct judge *judge, const struct mark *mark, uint64_t began, uint64_t now)
{
	struct judge_disk *disk = judge_disk_find(judge, mark->disk);
	struct judge_snap *snap = find(judge, mark->disk, mark->value);

	if (!disk || (!snap && mark->kind != MARK_CLONE))
		return judge_wrong(judge, "a mark of snapshot s%" PRIu64 " of disk %u, which is not there", mark->value,
				   mark->disk);
	switch (mark->kind) {
	case MARK_SNAP:
		snap->ended = now;
		keep_oracle(snap, &disk->oracle);
		break;
	case MARK_UNSNAP:
		drop(snap);
		break;
	case MARK_READ_SNAP:
		judge->reads++;
		judge->read_sectors += mark->count;
		return mark->count * (uint64_t)SECTOR == snap->bytes
			       ? judge_content(judge, snap, versions_of(mark))
			       : judge_wrong(judge, "snapshot s%u of disk %u has another size", snap->number,
					     snap->disk);
	case MARK_CLONE:
		disk->created = now;
		break;
	case MARK_RECEIVE:
		snap->ended = now;
		if (disk->created == 0)
			disk->created = now;
		else
			become_next(disk, now);
		break;
	case MARK_ROLLBACK:
		become_next(disk, now);
		break;
	}
	return true;
}

/* The writer ends, but for a receive into a full pool: nothing of that is there. */
void snaps_failed(struct judge *judge, const struct mark *mark)
{
	struct judge_disk *disk = judge_disk_find(judge, mark->disk);
	struct judge_snap *snap = find(judge, mark->disk, mark->value);

	if (mark->kind != MARK_RECEIVE || !disk || !snap)
		return;
	drop(snap);
	if (disk->created == 0) {
		judge_disk_drop(disk);
		return;
	}
	free(disk->next.versions);
	disk->next = (struct judge_next){ 0 };
}

/* ---- after a cut -------------------------------------------------------------------------- */

static struct meta_snapshot *get(struct cutpool *pool, uint32_t disk, uint32_t number, bool *ret_disk)
{
	struct meta_snapshot *snapshot;
	struct meta_disk *meta;
	char name[32];

	snprintf(name, sizeof(name), "d%u", disk);
	meta = meta_disk_get_by_name(cutpool_meta(pool), name);
	*ret_disk = meta != NULL;
	if (!meta)
		return NULL;
	snprintf(name, sizeof(name), "s%u", number);
	snapshot = meta_snapshot_get_by_name(meta, name);
	meta_disk_put(meta);
	return snapshot;
}

bool snap_is_there(struct cutpool *pool, uint32_t disk, uint32_t number)
{
	bool with_disk;
	struct meta_snapshot *snapshot = get(pool, disk, number, &with_disk);

	if (snapshot)
		meta_snapshot_put(snapshot);
	return snapshot != NULL;
}

static bool keep_version(struct judge *judge, uint32_t disk, uint64_t sector, const char *buf, void *ctx)
{
	uint32_t *versions = ctx;
	char expected[SECTOR];
	uint64_t words[2];

	memcpy(words, buf, sizeof(words));
	oracle_fill((uint32_t)(words[0] >> 32), sector, 1, (uint32_t)words[0], expected);
	versions[sector] = memcmp(buf, expected, SECTOR) == 0 ? (uint32_t)words[0] : MARK_BAD_SECTOR;
	return true;
}

static bool judge_snapshot(struct judge *judge, struct cutpool *pool, struct judge_snap *snap,
			   struct meta_snapshot *snapshot, uint64_t *ret_sectors)
{
	struct base_error err = { 0 };
	struct meta_snapshot_info info;
	struct ioc_bd *bd;

	meta_snapshot_info(snapshot, &info);
	if (info.size_bytes != snap->bytes)
		return judge_wrong(judge, "snapshot s%u of disk %u has %" PRIu64 " bytes, not %" PRIu64, snap->number,
				   snap->disk, info.size_bytes, snap->bytes);
	uint32_t *versions = malloc(snap->bytes / SECTOR * sizeof(*versions) + 1);
	if (!versions)
		abort();
	if (cutpool_snapshot_open(pool, snapshot, &bd, &err) < 0)
		return judge_wrong(judge, "snapshot s%u of disk %u can't be opened: %s", snap->number, snap->disk,
				   err.text);
	bool ok = judge_each_sector(judge, pool, bd, info.name, snap->disk, snap->bytes, keep_version, versions);
	ioc_snapshot_close(bd);
	ok = ok && judge_content(judge, snap, versions);
	free(versions);
	*ret_sectors += snap->bytes / SECTOR;
	return ok;
}

/* Every one that is there is one of ours. */
static bool judge_unknown(struct judge *judge, struct cutpool *pool, const struct judge_disk *disk)
{
	struct meta_snapshot_info info = { .name = "" };
	struct meta_snapshot *snapshot;
	char name[32];

	snprintf(name, sizeof(name), "d%u", disk->id);
	struct meta_disk *meta = meta_disk_get_by_name(cutpool_meta(pool), name);
	while (meta && (snapshot = meta_snapshot_next(meta, info.name))) {
		meta_snapshot_info(snapshot, &info);
		meta_snapshot_put(snapshot);
		if (!find(judge, disk->id, judge_id_of(info.name, 's')))
			return judge_wrong(judge, "snapshot %s of disk %u is there, and was removed or never taken",
					   info.name, disk->id);
	}
	if (meta)
		meta_disk_put(meta);
	return true;
}

/* Of one that nobody was told of: the others of its command are there, or it is not. */
static bool judge_whole_group(struct judge *judge, struct cutpool *pool, const struct judge_snap *snap, bool there)
{
	for (unsigned i = 0; i < JUDGE_SNAPS_MAX; i++) {
		const struct judge_snap *other = &judge->snaps[i];
		if (other->number == snap->number && other->kind == SNAP_TAKEN && !other->removing &&
		    snap_is_there(pool, other->disk, other->number) != there)
			return judge_wrong(judge, "half of the snapshots s%u of one command are there", snap->number);
	}
	return true;
}

static bool judge_one(struct judge *judge, struct cutpool *pool, struct judge_snap *snap, uint64_t *ret_sectors)
{
	bool with_disk, ok = true;
	struct meta_snapshot *snapshot = get(pool, snap->disk, snap->number, &with_disk);

	if (!with_disk) /* whether that may be is judged with the disks */
		return true;
	if (snap->ended == 0 && snap->kind == SNAP_TAKEN)
		ok = judge_whole_group(judge, pool, snap, snapshot != NULL);
	/* What is received has its snapshot as soon as it can be seen. */
	bool must_be = (snap->ended != 0 && !snap->removing) ||
		       (snap->kind == SNAP_RECEIVED && judge_disk_find(judge, snap->disk)->created == 0);
	if (!snapshot)
		return ok && (!must_be || judge_wrong(judge, "snapshot s%u of disk %u was taken, and is not there",
						      snap->number, snap->disk));
	ok = ok && judge_snapshot(judge, pool, snap, snapshot, ret_sectors);
	meta_snapshot_put(snapshot);
	return ok;
}

bool snaps_judge(struct judge *judge, struct cutpool *pool, uint64_t *ret_sectors)
{
	for (unsigned i = 0; i < JUDGE_DISKS_MAX; i++)
		if (judge->disks[i].used && !judge_unknown(judge, pool, &judge->disks[i]))
			return false;
	for (unsigned i = 0; i < JUDGE_SNAPS_MAX; i++)
		if (judge->snaps[i].number != 0 && !judge_one(judge, pool, &judge->snaps[i], ret_sectors))
			return false;
	return true;
}
