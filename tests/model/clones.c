/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges of snapshots attached to disks, disks that are inflated, and whether the figures of space are true.
 *
 * Attaching is judged as a write of what the snapshot shows: answered, it is
 * durable; refused, nothing has happened. It goes to a disk that is new, or that
 * was written and discarded, in ranges as a copying program asks for them.
 *
 * Inflating changes no content: so nothing is told to the oracles, and every read
 * among its steps, and after an end in the middle of them, is judged as always.
 *
 * Space: when all is at rest each figure is compared with one counted in the
 * slowest way, by who sees which chunk; and what a removal is said to give back
 * with what it gives back.
 */
#include "tests/model/sim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meta/snapshot.h"

#define CHUNK_NUMBERS 65536

static uint64_t disk_chunks(const struct sim *sim)
{
	return (sim->scale.disk_sectors * SECTOR + CHUNK_BYTES - 1) / CHUNK_BYTES;
}

/* ---- requests that are waited for ------------------------------------------------------------- */

static void call_done(struct ioc_request *req, int result)
{
	*(int *)req->ctx = result;
}

static int call_now(struct sim *sim, struct disk *disk, enum ioc_op op, uint64_t first, uint64_t count, char *buf)
{
	static struct ioc_request req;
	struct iovec iov = { buf, count * SECTOR };
	int result = 1;

	req = (struct ioc_request){ .op = op,
				    .bd = disk->bd,
				    .queue = &sim->ioc->queues[0],
				    .offset = first * SECTOR,
				    .length = count * SECTOR,
				    .segments = &iov,
				    .segment_count = buf ? 1 : 0,
				    .done = call_done,
				    .ctx = &result };
	ioc_bd_submit(&req);
	while (result == 1)
		do_step(sim);
	if (result != 0 && result != -ENOSPC)
		sim_fail(sim, "op %d on %s ended with %d", op, disk->name, result);
	return result;
}

/* What is under way on the disk comes to its end. */
static void await_idle(struct sim *sim, unsigned d)
{
	for (unsigned i = 0; i < 20000 && !snaps_disk_is_idle(sim, d); i++)
		do_step(sim);
}

/* ---- attaching -------------------------------------------------------------------------------- */

static void make_target(struct sim *sim, struct disk *disk, const struct snap *snap)
{
	struct meta_disk_spec spec = { .size_bytes = snap->sectors * SECTOR };
	struct base_error err = { 0 };

	snaps_forget(sim, (unsigned)(disk - sim->disks));
	ioc_disk_close(disk->bd);
	must(sim, meta_disk_remove_with_snapshots(disk->meta, &err), &err, "removing a disk");
	meta_disk_put(disk->meta);
	oracle_free(&disk->oracle);
	disk->id = sim->disks[snap->disk].id;
	disk->number = ++sim->next_disk_id;
	oracle_init(&disk->oracle, disk->id, sim->scale.disk_sectors);
	disk->size_count = 1;
	disk->sizes[0] = (struct size_version){ spec.size_bytes, 0, 0, 0, 0, true };
	lineage_disk(&sim->lineage, disk->number, disk->id, snap->shadow);
	snprintf(disk->name, sizeof(disk->name), "disk%u", disk->number);
	snprintf(spec.name, sizeof(spec.name), "%s", disk->name);
	must(sim, meta_disk_create(sim->pool, &spec, 1, NULL, &err), &err, "making a disk to attach to");
	open_disk(sim, disk);
}

/* So that what is not durable yet has entries, and what will be has none. */
static void soil(struct sim *sim, struct disk *disk, uint64_t sectors)
{
	uint64_t count = 1 + below(sim, MIN(sectors, IO_SECTORS_MAX)), first = below(sim, sectors - count + 1);
	char *buf = malloc(count * SECTOR);
	uint32_t version = ++sim->next_version;

	lineage_write(&sim->lineage, version, disk->number);
	oracle_fill(disk->id, first, count, version, buf);
	oracle_submit(&disk->oracle, first, count, version, ++sim->ops, ++sim->now);
	int rc = call_now(sim, disk, IOC_OP_WRITE, first, count, buf);
	free(buf);
	if (rc == 0)
		oracle_complete(&disk->oracle, first, count, sim->ops, ++sim->now, false);
	if (below(sim, 8) == 0)
		return; /* it stays in the way */
	oracle_submit(&disk->oracle, 0, sectors, 0, ++sim->ops, ++sim->now);
	if (call_now(sim, disk, IOC_OP_DISCARD, 0, sectors, NULL) == 0)
		oracle_complete(&disk->oracle, 0, sectors, sim->ops, ++sim->now, false);
}

static int attach_range(struct sim *sim, struct disk *disk, const struct snap *snap, uint64_t first, uint64_t count)
{
	struct base_error err = { 0 };

	++sim->ops;
	++sim->now;
	for (uint64_t s = first; s < first + count; s++)
		oracle_submit(&disk->oracle, s, 1, snap->shadow[s], sim->ops, sim->now);
	int rc = ioc_snapshot_attach(sim->ioc, snap->meta, disk->bd, first * SECTOR, count * SECTOR, &err);
	if (rc < 0)
		sim_fail(sim, "attaching %s to %s: %d %s", snap->name, disk->name, rc, err.text);
	if (rc == 0)
		oracle_complete(&disk->oracle, first, count, sim->ops, ++sim->now, true);
	sim->attached += rc == 0;
	return rc;
}

static void attach(struct sim *sim, struct snap *snap)
{
	unsigned d = (snap->disk + 1 + (unsigned)below(sim, sim->scale.disks - 1)) % sim->scale.disks;
	struct disk *disk = &sim->disks[d];
	uint64_t at = 0, sectors = snap->sectors;

	if (sectors == 0 || clones_hold(sim, d))
		return;
	await_idle(sim, d);
	if (!snaps_disk_is_idle(sim, d) || !snap->used || snap->sectors != sectors)
		return;
	make_target(sim, disk, snap);
	if (below(sim, 2))
		soil(sim, disk, sectors);
	while (at < sectors) {
		uint64_t count = below(sim, 2) ? sectors - at : round_up_to(1 + below(sim, sectors - at), 8);
		if (below(sim, 4) == 0) /* a hole that is left out, or data: that is refused */
			at = MIN(at + 8 * below(sim, 64), round_down_to(sectors - 1, 8));
		count = MIN(count, sectors - at);
		if (attach_range(sim, disk, snap, at, count) != 0)
			break;
		if (below(sim, 4) == 0 && attach_range(sim, disk, snap, at, count) != 0)
			sim_fail(sim, "%s shows through already, and is refused", snap->name);
		at += count;
	}
}

/* ---- inflating -------------------------------------------------------------------------------- */

enum { INFLATE_NOT, INFLATE_COPIES, INFLATE_COPIED, INFLATE_CLEARS, INFLATE_CLEARED };

static void owned(struct ioc_request *req, int result)
{
	struct sim *sim = req->ctx;

	sim->disks[sim->inflating.disk].flying--;
	if (result == 0)
		sim->inflating.stage++;
	else if (result == -ENOSPC)
		sim->inflating.stage = INFLATE_NOT;
	else
		sim_fail(sim, "copying what a disk stands on ended with %d", result);
}

static void own_all(struct sim *sim, int stage)
{
	struct disk *disk = &sim->disks[sim->inflating.disk];

	sim->inflating.stage = stage;
	sim->inflating.req = (struct ioc_request){ .op = IOC_OP_OWN,
						   .bd = disk->bd,
						   .queue = &sim->ioc->queues[0],
						   .length = sim->scale.disk_sectors * SECTOR,
						   .done = owned,
						   .ctx = sim };
	disk->flying++;
	ioc_bd_submit(&sim->inflating.req);
}

static void inflate_go_on(struct sim *sim)
{
	struct disk *disk = &sim->disks[sim->inflating.disk];
	struct base_error err = { 0 };
	int rc;

	if (sim->inflating.stage == INFLATE_COPIED) {
		rc = meta_inflate_cut(disk->meta, &sim->inflating.seen, &err);
		if (rc == 0)
			own_all(sim, INFLATE_CLEARS);
	} else {
		rc = meta_inflate_detach(disk->meta, &sim->inflating.seen, &err);
		if (rc == 0)
			sim->inflating.stage = INFLATE_NOT;
		sim->inflated += rc == 0;
	}
	if (rc < 0)
		sim_fail(sim, "inflating %s: %d %s", disk->name, rc, err.text);
	if (rc != META_INFLATE_AGAIN)
		return;
	sim->inflating.stage = INFLATE_NOT;
	if (meta_inflate_begin(disk->meta, &sim->inflating.seen) == 0)
		own_all(sim, INFLATE_COPIES);
}

static void inflate_begin(struct sim *sim)
{
	unsigned d = (unsigned)below(sim, sim->scale.disks);

	if (sim->inflating.stage != INFLATE_NOT || meta_inflate_begin(sim->disks[d].meta, &sim->inflating.seen) != 0)
		return;
	sim->inflating.disk = d;
	own_all(sim, INFLATE_COPIES);
}

bool clones_turn(struct sim *sim)
{
	if (sim->inflating.stage == INFLATE_COPIED || sim->inflating.stage == INFLATE_CLEARED)
		inflate_go_on(sim);
	return sim->inflating.stage != INFLATE_NOT;
}

bool clones_hold(const struct sim *sim, unsigned disk)
{
	return sim->inflating.stage != INFLATE_NOT && sim->inflating.disk == disk;
}

void clones_forget(struct sim *sim)
{
	sim->inflating.stage = INFLATE_NOT;
}

void clones_step(struct sim *sim)
{
	struct snap *snap = snaps_pick(sim);

	if (below(sim, 2))
		inflate_begin(sim);
	else if (snap)
		attach(sim, snap);
}

/* ---- space ------------------------------------------------------------------------------------ */

/* Until nothing is on its way and nothing is to be folded. */
static void rest(struct sim *sim)
{
	struct db_txn *slot = NULL;

	for (unsigned i = 0; !bg_is_idle(sim->pool) || pool_is_dirty(sim->pool); i++) {
		if (i > 200000)
			sim_fail(sim, "the background does not come to rest");
		sim->pool->copy.next_at_ns = 0;
		mw_step(sim->pool, base_clock_ns() + 2 * COMMIT_INTERVAL_NS);
		bg_step(sim->pool, base_clock_ns());
		lookup_step(sim->pool, &slot);
		queue_turn(&sim->ioc->queues[0], 0);
		sim_device_complete_one(&sim->device);
	}
	db_read_free(slot);
}

static meta_entry entry_of(struct sim *sim, struct meta_store *store, uint64_t chunk)
{
	struct db_txn *slot = NULL;
	struct meta_leaf *leaf;
	int rc = store_load_leaf_now(store, chunk / LEAF_CHUNKS, &slot, &leaf);

	db_read_free(slot);
	if (rc < 0)
		sim_fail(sim, "a leaf can't be read: %d", rc);
	return rc == 0 ? meta_leaf_entry(leaf, (unsigned)(chunk % LEAF_CHUNKS)) : 0;
}

static void resolve(struct sim *sim, struct meta_store *store, uint64_t chunk, uint32_t *ret_sources)
{
	uint64_t epoch = pool_epoch_enter(sim->pool);
	struct meta_missing missing;
	struct cache_item *kept = NULL;
	struct db_txn *slot = NULL;

	/* Nothing is evicted meanwhile: that is a step of the background. */
	while (meta_map_resolve(store, chunk, UINT16_MAX, ret_sources, &missing) != 0) {
		if (map_load_now(&missing, &slot, &kept) < 0)
			sim_fail(sim, "a leaf can't be read");
		if (kept)
			meta_keep_end(kept);
	}
	db_read_free(slot);
	pool_epoch_leave(sim->pool, epoch);
}

struct count {
	uint32_t readers[CHUNK_NUMBERS];     /* of each chunk of the pool: names that see it */
	const void *last[CHUNK_NUMBERS];     /* the last one that was counted */
	uint64_t referenced, exclusive, owned, useless;
};

static void count_reader(struct sim *sim, struct count *count, struct meta_store *store)
{
	uint32_t sources[CHUNK_BLOCKS + 1];

	for (uint64_t c = 0; c < disk_chunks(sim); c++) {
		resolve(sim, store, c, sources);
		meta_entry own = entry_of(sim, store, c);
		sources[CHUNK_BLOCKS] = meta_entry_valid(own) ? 0 : meta_entry_chunk(own).n;
		for (unsigned b = 0; b <= CHUNK_BLOCKS; b++) {
			if (sources[b] == 0 || count->last[sources[b]] == store)
				continue;
			count->last[sources[b]] = store;
			count->readers[sources[b]]++;
		}
	}
}

static bool is_named(const struct meta_store *store)
{
	return store->head_of || store->snapshot;
}

static uint16_t seen_by_children(struct meta_store *store, uint64_t c)
{
	uint16_t seen = 0;

	for (struct meta_store *child = store->pool->stores; child; child = child->next)
		if (atomic_load(&child->parent) == store)
			seen |= store_mask_below(child, c);
	return seen;
}

/* A layer's own figures, once all readers have been counted. */
static void count_layer(struct sim *sim, struct count *count, struct meta_store *store)
{
	uint32_t sources[CHUNK_BLOCKS + 1];

	count->referenced = count->exclusive = count->owned = 0;
	for (uint64_t c = 0; c < disk_chunks(sim); c++) {
		meta_entry own = entry_of(sim, store, c);
		uint32_t mine = meta_entry_chunk(own).n;
		count->owned += mine != 0;
		count->useless += mine != 0 && !store->head_of && !(meta_entry_valid(own) & seen_by_children(store, c));
		if (!is_named(store)) {
			count->referenced += mine != 0 && count->readers[mine] > 0;
			count->exclusive += mine != 0 && count->readers[mine] == 1;
			continue;
		}
		resolve(sim, store, c, sources);
		sources[CHUNK_BLOCKS] = meta_entry_valid(own) ? 0 : mine;
		for (unsigned b = 0; b <= CHUNK_BLOCKS; b++) {
			bool again = sources[b] == 0;
			for (unsigned k = 0; k < b; k++)
				again |= sources[k] == sources[b];
			count->referenced += !again;
			count->exclusive += !again && count->readers[sources[b]] == 1;
		}
	}
}

static void compare(struct sim *sim, const struct count *count, const struct meta_space_row *row)
{
	const struct meta_space_use *use = &row->use;

	if (use->owned_bytes == count->owned * CHUNK_BYTES &&
	    use->referenced_bytes == count->referenced * CHUNK_BYTES &&
	    use->exclusive_bytes == count->exclusive * CHUNK_BYTES &&
	    use->shared_bytes == (count->referenced - count->exclusive) * CHUNK_BYTES)
		return;
	sim_fail(sim,
		 "space of %s@%s (layer %" PRIu64 ", kind %d) is said to be owned %" PRIu64 " referenced %" PRIu64
		 " exclusive %" PRIu64 " shared %" PRIu64 " chunks; it is owned %" PRIu64 " referenced %" PRIu64
		 " exclusive %" PRIu64,
		 row->disk_name, row->name, row->layer, row->kind, use->owned_bytes / CHUNK_BYTES,
		 use->referenced_bytes / CHUNK_BYTES, use->exclusive_bytes / CHUNK_BYTES,
		 use->shared_bytes / CHUNK_BYTES, count->owned, count->referenced, count->exclusive);
}

/* Returns how many chunks of frozen layers nobody above sees: a fold may leave them. */
static uint64_t check_report(struct sim *sim)
{
	struct count *count = calloc(1, sizeof(*count));
	struct meta_space_report report;
	struct base_error err = { 0 };
	uint64_t sum = 0, useless;

	must(sim, meta_space_report(sim->pool, &report, &err), &err, "the report of space");
	for (struct meta_store *store = sim->pool->stores; store; store = store->next)
		if (is_named(store))
			count_reader(sim, count, store);
	for (size_t i = 0; i < report.count; i++) {
		struct meta_store *store = sim->pool->stores;
		while (store && store->layer_id != report.rows[i].layer)
			store = store->next;
		if (!store)
			sim_fail(sim, "layer %" PRIu64 " of the report is not there", report.rows[i].layer);
		count_layer(sim, count, store);
		compare(sim, count, &report.rows[i]);
		sum += report.rows[i].use.owned_bytes;
	}
	if (sum != report.allocated_bytes || sum != atomic_load(&sim->pool->space.mapped) * CHUNK_BYTES)
		sim_fail(sim, "%" PRIu64 " chunks are owned, and the pool has %" PRIu64, sum / CHUNK_BYTES,
			 report.allocated_bytes / CHUNK_BYTES);
	useless = count->useless;
	sim->space_rows += report.count;
	meta_space_report_done(&report);
	free(count);
	return useless;
}

static void check_gain(struct sim *sim, const char *name, uint64_t said_bytes, uint64_t before, uint64_t useless)
{
	uint64_t said = said_bytes / CHUNK_BYTES, got = before - atomic_load(&sim->pool->space.mapped);

	if (got > said || got + useless < said)
		sim_fail(sim, "the removal of %s gave %" PRIu64 " chunks and was to give %" PRIu64 " (at most %" PRIu64
			 " may not come)", name, got, said, useless);
	sim->space_gains += got;
}

static void remove_snapshot(struct sim *sim, struct snap *snap, uint64_t useless)
{
	uint64_t before = atomic_load(&sim->pool->space.mapped);
	struct meta_space_use use;
	struct base_error err = { 0 };
	char name[sizeof(snap->name)];

	memcpy(name, snap->name, sizeof(name));
	must(sim, meta_snapshot_space(snap->meta, &use, &err), &err, "the space of a snapshot");
	snaps_remove(sim, snap);
	rest(sim);
	check_gain(sim, name, use.reclaimable_bytes, before, useless);
}

static void remove_disk(struct sim *sim, struct disk *disk, uint64_t useless)
{
	uint64_t before = atomic_load(&sim->pool->space.mapped);
	struct meta_space_use use;
	struct base_error err = { 0 };
	char name[sizeof(disk->name)];

	if (meta_snapshot_count(disk->meta) > 0)
		return;
	memcpy(name, disk->name, sizeof(name));
	must(sim, meta_disk_space(disk->meta, &use, &err), &err, "the space of a disk");
	replace_disk(sim, disk);
	rest(sim);
	check_gain(sim, name, use.reclaimable_bytes, before, useless);
}

void clones_check_space(struct sim *sim)
{
	if (sim->scale.disks > 8) /* counting is slow */
		return;
	rest(sim);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t useless = check_report(sim);
		struct snap *snap = snaps_pick(sim);
		if (snap)
			remove_snapshot(sim, snap, useless);
		else if (below(sim, 2))
			remove_disk(sim, &sim->disks[below(sim, sim->scale.disks)], useless);
	}
	(void)check_report(sim);
}
