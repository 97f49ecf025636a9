/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots, clones and rollbacks in the model.
 *
 * A snapshot is judged once by the oracle of its disk, when it is read for the
 * first time: every sector holds a version that the disk may have held at some
 * moment between the call and its end. What was read then is the shadow, and
 * from then on, whatever is written, folded, cut or killed, every read of the
 * snapshot has to show exactly that. A clone and a rolled-back disk begin with the
 * shadow as the only version there is.
 *
 * After an end in the middle of a call all snapshots of the group are there, or
 * none. One that had been answered is there.
 */
#include "tests/model/sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meta/snapshot.h"

#define STEP 2048

/* ---- reading ---------------------------------------------------------------------------------- */

void snaps_open(struct sim *sim, struct snap *snap)
{
	struct base_error err = { 0 };
	struct meta_snapshot_info info;

	snap->meta = meta_snapshot_get_by_name(sim->disks[snap->disk].meta, snap->name);
	if (!snap->meta)
		sim_fail(sim, "snapshot %s is gone", snap->name);
	must(sim, ioc_snapshot_open(sim->ioc, snap->meta, &snap->bd, &err), &err, "opening a snapshot");
	meta_snapshot_info(snap->meta, &info);
	if (snap->shadow && snap->sectors != info.size_bytes / SECTOR)
		sim_fail(sim, "snapshot %s has another size", snap->name);
	snap->sectors = info.size_bytes / SECTOR;
	snap->flying = 0;
}

static void close_snap(struct snap *snap)
{
	ioc_snapshot_close(snap->bd);
	meta_snapshot_put(snap->meta);
}

/* Not a version that was asked for after the snapshot was there. */
static bool is_from_the_future(const struct snap *snap, const struct oracle_sector *sector, uint32_t version)
{
	for (unsigned i = 0; version != 0 && i < sector->count; i++)
		if (sector->versions[i].version == version && sector->versions[i].submitted > snap->ended)
			return true;
	return false;
}

static uint32_t judge_first(struct sim *sim, struct snap *snap, uint64_t number, const char *buf)
{
	struct disk *disk = &sim->disks[snap->disk];
	const char *why = oracle_judge(&disk->oracle, number, buf, ORACLE_LIVE, snap->began);
	uint32_t version;

	memcpy(&version, buf, sizeof(version));
	if (!why && is_from_the_future(snap, &disk->oracle.all[number], version))
		why = "a version that was written later";
	if (!why)
		return version;
	oracle_print(&disk->oracle, number, buf);
	sim_fail(sim, "snapshot %s of %s, asked for at %" PRIu64 ", there at %" PRId64 ", sector %" PRIu64 ": %s",
		 snap->name, disk->name, snap->began, (int64_t)snap->ended, number, why);
}

static void judge_again(struct sim *sim, const struct snap *snap, uint64_t number, const char *buf)
{
	char expected[SECTOR];
	uint64_t words[2];

	oracle_fill(sim->disks[snap->disk].id, number, 1, snap->shadow[number], expected);
	memcpy(words, buf, sizeof(words));
	if (memcmp(expected, buf, SECTOR) != 0)
		snaps_print_layers(meta_io_snapshot_store(snap->meta), number);
	if (memcmp(expected, buf, SECTOR) != 0)
		sim_fail(sim, "snapshot %s of %s, sector %" PRIu64 ": version %x became %016" PRIx64 " %016" PRIx64,
			 snap->name, sim->disks[snap->disk].name, number, snap->shadow[number], words[0], words[1]);
}

/* All of it: for the first time, or once more. */
void snaps_read_all(struct sim *sim, struct snap *snap)
{
	uint32_t *shadow = snap->shadow ? NULL : calloc(sim->scale.disk_sectors, sizeof(*shadow));
	char *buf = malloc(STEP * SECTOR);

	for (uint64_t first = 0; first < snap->sectors; first += STEP) {
		uint64_t count = MIN(STEP, snap->sectors - first);
		read_now(sim, snap->bd, snap->name, first, count, buf);
		for (uint64_t i = 0; i < count; i++) {
			if (shadow)
				shadow[first + i] = judge_first(sim, snap, first + i, buf + i * SECTOR);
			else
				judge_again(sim, snap, first + i, buf + i * SECTOR);
		}
		sim->checked_sectors += count;
	}
	free(buf);
	if (!shadow)
		return;
	snap->shadow = shadow;
	lineage_snapshot(&sim->lineage, snap->number, sim->disks[snap->disk].id, shadow);
}

struct snap *snaps_pick(struct sim *sim)
{
	struct snap *snap = &sim->snaps[below(sim, sim->scale.snaps)];

	return snap->used && snap->shadow ? snap : NULL;
}

void snaps_read(struct sim *sim, struct slot *slot, struct snap *snap)
{
	uint64_t longest = MIN(IO_SECTORS_MAX, snap->sectors), count = 1 + below(sim, longest);

	slot->snap = snap;
	slot->disk = NULL;
	slot->busy = true;
	slot->submitted = sim->now;
	slot->count = count;
	slot->first = below(sim, snap->sectors - count + 1);
	slot->req.op = IOC_OP_READ;
	slot->req.flags = 0;
	slot->req.bd = snap->bd;
	slot->req.queue = &sim->ioc->queues[0];
	slot->req.ctx = slot;
	slot->req.offset = slot->first * SECTOR;
	slot->req.length = count * SECTOR;
	snap->flying++;
}

void snaps_judge_read(struct slot *slot)
{
	for (uint64_t i = 0; i < slot->count; i++)
		judge_again(slot->sim, slot->snap, slot->first + i, slot->buf + i * SECTOR);
	slot->sim->checked_sectors += slot->count;
	slot->snap->flying--;
}

uint64_t snaps_horizon(struct sim *sim, uint64_t horizon)
{
	for (unsigned i = 0; i < sim->scale.snaps; i++)
		if (sim->snaps[i].used && !sim->snaps[i].shadow)
			horizon = MIN(horizon, sim->snaps[i].began);
	return horizon;
}

void snaps_print_layers(struct meta_store *store, uint64_t sector)
{
	uint64_t chunk = sector * SECTOR / CHUNK_BYTES;

	for (; store; store = atomic_load(&store->parent)) {
		struct meta_leaf *leaf;
		int rc = meta_map_find(store, chunk / LEAF_CHUNKS, &leaf);
		printf("  layer %" PRIu64 " store %" PRIu64 " overlap %" PRIu64 ": %s entry %016" PRIx64 "%s\n",
		       store->layer_id, store->id, atomic_load(&store->overlap_bytes),
		       rc == META_HOLE ? "hole" : rc == META_MISS ? "not in memory" : "",
		       rc == 0 ? meta_leaf_entry(leaf, (unsigned)(chunk % LEAF_CHUNKS)) : 0,
		       store->head_of ? ", a head" : store->snapshot ? ", a snapshot" : "");
	}
}

/* ---- taking ----------------------------------------------------------------------------------- */

static void drop(struct snap *snap)
{
	*snap = (struct snap){ 0 };
}

static void taken(struct snapshot_take *take, int result)
{
	struct sim *sim = take->ctx;

	sim->taking = false;
	for (unsigned i = 0; i < sim->scale.disks; i++)
		sim->disks[i].taking = false;
	if (result < 0)
		sim_fail(sim, "taking a snapshot ended with %d", result);
	for (unsigned i = 0; i < sim->scale.snaps; i++) {
		struct snap *snap = &sim->snaps[i];
		if (!snap->used || snap->ended != ORACLE_NEVER)
			continue;
		snap->ended = ++sim->now;
		sim->snaps_taken++;
	}
	for (unsigned i = 0; i < sim->scale.snaps; i++) {
		struct snap *snap = &sim->snaps[i];
		if (!snap->used || snap->shadow)
			continue;
		snaps_open(sim, snap);
		snaps_read_all(sim, snap);
	}
}

struct snap *snaps_free_one(struct sim *sim)
{
	for (unsigned i = 0; i < sim->scale.snaps; i++)
		if (!sim->snaps[i].used)
			return &sim->snaps[i];
	return NULL;
}

void snaps_take(struct sim *sim)
{
	unsigned count = 0, want = 1 + (unsigned)below(sim, 1 + below(sim, sim->scale.disks));

	if (sim->scale.deep)
		want = 1;

	if (sim->taking)
		return;
	/* The first disks more than others: some chains are to be deep. */
	unsigned first = sim->scale.disks > 3 && below(sim, 2) ? (unsigned)below(sim, sim->scale.disks) : 0;
	for (unsigned d = first; d < sim->scale.disks && count < want; d++) {
		struct snap *snap = snaps_free_one(sim);
		if (!snap || (!sim->scale.deep && want < sim->scale.disks && below(sim, 2)))
			continue;
		*snap = (struct snap){
			.used = true, .disk = d, .began = sim->now, .ended = ORACLE_NEVER, .take = sim->next_take
		};
		snap->number = ++sim->next_snap;
		snprintf(snap->name, sizeof(snap->name), "snap%u", snap->number);
		sim->disks[d].taking = true;
		sim->take_specs[count++] =
			(struct ioc_snapshot_spec){ .disk = sim->disks[d].meta, .name = snap->name };
	}
	if (count == 0)
		return;
	sim->next_take++;
	sim->now++;
	sim->taking = true;
	sim->take = (struct snapshot_take){ .pool = sim->ioc,
					    .specs = sim->take_specs,
					    .count = count,
					    .box = &sim->ctl_box,
					    .done = taken,
					    .ctx = sim };
	snapshot_take_begin(&sim->take);
}

/* ---- removing, cloning, rolling back ------------------------------------------------------------ */

void snaps_remove(struct sim *sim, struct snap *snap)
{
	struct base_error err = { 0 };

	if (snap->flying > 0)
		return;
	ioc_snapshot_close(snap->bd);
	must(sim, meta_snapshot_remove(snap->meta, &err), &err, "removing a snapshot");
	meta_snapshot_put(snap->meta);
	drop(snap);
	sim->snaps_removed++;
}

void snaps_forget(struct sim *sim, unsigned disk)
{
	for (unsigned i = 0; i < sim->scale.snaps; i++) {
		if (!sim->snaps[i].used || sim->snaps[i].disk != disk)
			continue;
		close_snap(&sim->snaps[i]);
		drop(&sim->snaps[i]);
	}
}

/* The shadow is all there is. */
void snaps_begin_with(struct sim *sim, struct disk *disk, uint32_t id, const struct snap *snap)
{
	char buf[SECTOR];

	oracle_init(&disk->oracle, id, sim->scale.disk_sectors);
	disk->id = id;
	for (uint64_t s = 0; s < snap->sectors; s++) {
		oracle_fill(id, s, 1, snap->shadow[s], buf);
		oracle_settle(&disk->oracle, s, buf);
	}
	disk->size_count = 1;
	disk->sizes[0] = (struct size_version){ snap->sectors * SECTOR, 0, 0, 0, 0, true };
}

bool snaps_disk_is_idle(struct sim *sim, unsigned d)
{
	bool idle = sim->disks[d].flying == 0 && !sim->disks[d].taking && !clones_hold(sim, d);

	for (unsigned i = 0; i < sim->scale.snaps && idle; i++)
		idle = !sim->snaps[i].used || sim->snaps[i].disk != d || sim->snaps[i].flying == 0;
	return idle;
}

/* In the place of some other disk, which goes with its snapshots. */
static void make_clone(struct sim *sim, struct snap *snap)
{
	unsigned d = (snap->disk + 1 + (unsigned)below(sim, sim->scale.disks - 1)) % sim->scale.disks;
	struct disk *disk = &sim->disks[d];
	struct meta_disk_spec spec = { 0 };
	struct base_error err = { 0 };

	if (!snaps_disk_is_idle(sim, d))
		return;
	snaps_forget(sim, d);
	ioc_disk_close(disk->bd);
	must(sim, meta_disk_remove_with_snapshots(disk->meta, &err), &err, "removing a disk");
	meta_disk_put(disk->meta);
	oracle_free(&disk->oracle);
	snaps_begin_with(sim, disk, sim->disks[snap->disk].id, snap);
	disk->number = ++sim->next_disk_id;
	lineage_disk(&sim->lineage, disk->number, disk->id, snap->shadow);
	snprintf(disk->name, sizeof(disk->name), "disk%u", disk->number);
	snprintf(spec.name, sizeof(spec.name), "%s", disk->name);
	must(sim, meta_snapshot_clone(snap->meta, &spec, NULL, &err), &err, "cloning");
	open_disk(sim, disk);
	sim->clones++;
}

static void roll_back(struct sim *sim, struct snap *snap)
{
	struct disk *disk = &sim->disks[snap->disk];
	struct base_error err = { 0 };

	if (!snaps_disk_is_idle(sim, snap->disk) || meta_is_trimming(disk->meta))
		return;
	ioc_disk_close(disk->bd);
	must(sim, meta_disk_rollback(disk->meta, snap->meta, &err), &err, "rolling back");
	meta_disk_put(disk->meta);
	oracle_free(&disk->oracle);
	snaps_begin_with(sim, disk, disk->id, snap);
	open_disk(sim, disk);
	sim->rollbacks++;
}

void snaps_step(struct sim *sim)
{
	uint64_t dice = below(sim, 100);
	struct snap *snap = snaps_pick(sim);

	if (dice < 45)
		snaps_take(sim);
	else if (!snap)
		return;
	else if (sim->scale.receives && dice < 60)
		receive_step(sim, snap);
	else if (dice < (sim->scale.deep ? 96 : 75))
		snaps_remove(sim, snap);
	else if (dice < (sim->scale.deep ? 98 : 88))
		make_clone(sim, snap);
	else
		roll_back(sim, snap);
}

/* ---- the end, and after it ---------------------------------------------------------------------- */

static bool exists(struct sim *sim, const struct snap *snap)
{
	struct meta_snapshot *meta = meta_snapshot_get_by_name(sim->disks[snap->disk].meta, snap->name);

	if (meta)
		meta_snapshot_put(meta);
	return meta != NULL;
}

static void recover_unanswered(struct sim *sim, struct snap *snap)
{
	bool here = exists(sim, snap);

	for (unsigned i = 0; i < sim->scale.snaps; i++) {
		struct snap *other = &sim->snaps[i];
		bool same = other->used && other->ended == ORACLE_NEVER && other->take == snap->take;
		if (same && exists(sim, other) != here)
			sim_fail(sim, "of one group snapshot %s is there and %s is not, or the other way round",
				 snap->name, other->name);
	}
}

void snaps_recover(struct sim *sim)
{
	sim->taking = false;
	for (unsigned i = 0; i < sim->scale.snaps; i++)
		if (sim->snaps[i].used && sim->snaps[i].ended == ORACLE_NEVER)
			recover_unanswered(sim, &sim->snaps[i]);
	for (unsigned i = 0; i < sim->scale.snaps; i++) {
		struct snap *snap = &sim->snaps[i];
		if (!snap->used)
			continue;
		if (snap->ended == ORACLE_NEVER && !exists(sim, snap)) {
			drop(snap);
			continue;
		}
		if (snap->ended == ORACLE_NEVER)
			snap->ended = sim->now;
		snaps_open(sim, snap);
		snaps_read_all(sim, snap);
	}
}

void snaps_check_all(struct sim *sim)
{
	for (unsigned i = 0; i < sim->scale.snaps; i++)
		if (sim->snaps[i].used)
			snaps_read_all(sim, &sim->snaps[i]);
}

void snaps_close_all(struct sim *sim)
{
	for (unsigned i = 0; i < sim->scale.snaps; i++)
		if (sim->snaps[i].used)
			close_snap(&sim->snaps[i]);
}
