/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An incremental receive in the model: a hidden clone of a snapshot is resized,
 * written and snapshotted, and then the snapshot's disk takes its head and its
 * snapshot over (meta_disk_take_over).
 *
 * The steps are made one after the other, while whatever else is under way goes
 * on. What the hidden disk has to show is known sector by sector, as nobody else
 * writes to it. An end may come anywhere:
 *
 *   the hidden disk is there     nothing has happened: it is dropped, as `receive -discard` does
 *   it is not, and taking over
 *   had begun                    the disk is what was received, and has the snapshot
 *   it is not, else              the clone was not durable
 *
 * Failure modes: a wrong sector, or a state beside these, ends the case (sim_fail).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meta/snapshot.h"
#include "tests/model/sim.h"

/* ---- requests to the hidden disk ---------------------------------------------------------------- */

static void call_done(struct ioc_request *req, int result)
{
	*(int *)req->ctx = result;
}

/* Until the result is not 1 any more. */
static void step_until(struct sim *sim, const int *result, const char *what)
{
	for (unsigned i = 0; *result == 1; i++) {
		if (i > 2000000)
			sim_fail(sim, "%s %s hangs", what, sim->receiving.hidden.name);
		do_step(sim);
	}
}

/* Return: 0 or -ENOSPC. */
static int call(struct sim *sim, struct ioc_request *req)
{
	int result = 1;

	req->bd = sim->receiving.hidden.bd;
	req->queue = &sim->ioc->queues[0];
	req->done = call_done;
	req->ctx = &result;
	ioc_bd_submit(req);
	step_until(sim, &result, "a request to");
	if (result < 0 && result != -ENOSPC)
		sim_fail(sim, "op %d on %s ended with %d", req->op, sim->receiving.hidden.name, result);
	return result;
}

static uint64_t sectors_of(const struct receiving *receiving)
{
	return meta_disk_size(receiving->hidden.meta) / SECTOR;
}

static int resize(struct sim *sim)
{
	uint64_t before = sectors_of(&sim->receiving), after = below(sim, sim->scale.disk_sectors + 1);
	struct ioc_request req = { .op = IOC_OP_RESIZE, .offset = after * SECTOR };
	int rc = call(sim, &req);

	for (uint64_t s = after; rc == 0 && s < before; s++)
		sim->receiving.expected[s] = 0;
	return rc;
}

/* A write, a discard or zeros, somewhere. */
static int change(struct sim *sim)
{
	struct receiving *receiving = &sim->receiving;
	uint64_t sectors = sectors_of(receiving), count = 1 + below(sim, MIN(sectors, IO_SECTORS_MAX));
	uint64_t first = below(sim, sectors - count + 1);
	uint32_t version = below(sim, 4) ? ++sim->next_version : 0;
	struct ioc_request req = { .op = version          ? IOC_OP_WRITE
					 : below(sim, 2) ? IOC_OP_DISCARD
							 : IOC_OP_WRITE_ZEROES,
				   .offset = first * SECTOR,
				   .length = count * SECTOR };
	char *buf = malloc(count * SECTOR);
	struct iovec segment = { buf, count * SECTOR };

	if (version) {
		lineage_write(&sim->lineage, version, receiving->hidden.number);
		oracle_fill(receiving->hidden.id, first, count, version, buf);
		req.segments = &segment;
		req.segment_count = 1;
	}
	int rc = call(sim, &req);
	free(buf);
	for (uint64_t s = first; rc == 0 && s < first + count; s++)
		receiving->expected[s] = version;
	return rc;
}

/* ---- its snapshot --------------------------------------------------------------------------------- */

static void taken(struct snapshot_take *take, int result)
{
	*(int *)take->ctx = result;
}

static void take_snapshot(struct sim *sim)
{
	struct receiving *receiving = &sim->receiving;
	struct ioc_snapshot_spec spec = { .disk = receiving->hidden.meta, .name = receiving->snap->name };
	int result = 1;
	struct snapshot_take take = {
		.pool = sim->ioc, .specs = &spec, .count = 1, .box = &sim->ctl_box, .done = taken, .ctx = &result
	};

	snapshot_take_begin(&take);
	step_until(sim, &result, "a snapshot of");
	if (result < 0)
		sim_fail(sim, "a snapshot of %s ended with %d", receiving->hidden.name, result);
	receiving->snap->ended = ++sim->now;
	receiving->snap->sectors = sectors_of(receiving);
	receiving->snap->shadow = receiving->expected;
	lineage_snapshot(&sim->lineage, receiving->snap->number, receiving->hidden.id, receiving->expected);
}

/* ---- from the beginning to the end ---------------------------------------------------------------- */

static void begin(struct sim *sim, struct snap *base, struct snap *fresh)
{
	struct receiving *receiving = &sim->receiving;
	struct disk *hidden = &receiving->hidden;
	struct meta_disk_spec spec = { 0 };
	struct base_error err = { 0 };

	*receiving = (struct receiving){ .state = RECEIVE_WRITING, .disk = base->disk, .snap = fresh };
	hidden->id = sim->disks[base->disk].id;
	hidden->number = ++sim->next_disk_id;
	snprintf(hidden->name, sizeof(hidden->name), "disk%u", hidden->number);
	snprintf(spec.name, sizeof(spec.name), "%s", hidden->name);
	lineage_disk(&sim->lineage, hidden->number, hidden->id, base->shadow);
	lineage_heir(&sim->lineage, hidden->number, sim->disks[base->disk].number);
	receiving->expected = malloc(sim->scale.disk_sectors * sizeof(*receiving->expected));
	memcpy(receiving->expected, base->shadow, sim->scale.disk_sectors * sizeof(*receiving->expected));
	*fresh = (struct snap){ .used = true, .disk = base->disk, .began = sim->now, .ended = ORACLE_NEVER };
	fresh->number = ++sim->next_snap;
	snprintf(fresh->name, sizeof(fresh->name), "snap%u", fresh->number);
	must(sim, meta_snapshot_clone(base->meta, &spec, NULL, &err), &err, "cloning for a receive");
	open_disk(sim, hidden);
}

static void close_hidden(struct sim *sim)
{
	ioc_disk_close(sim->receiving.hidden.bd);
	while (meta_is_trimming(sim->receiving.hidden.meta))
		do_step(sim);
}

/* What the disk was is no more; what its snapshot shows is what it is. */
static void adopt(struct sim *sim)
{
	struct receiving *receiving = &sim->receiving;
	struct disk *disk = &sim->disks[receiving->disk];

	oracle_free(&disk->oracle);
	snaps_begin_with(sim, disk, disk->id, receiving->snap);
	receiving->state = RECEIVE_NONE;
	sim->received++;
}

static void give_up(struct sim *sim)
{
	struct receiving *receiving = &sim->receiving;
	struct base_error err = { 0 };

	must(sim, meta_disk_remove_with_snapshots(receiving->hidden.meta, &err), &err, "discarding a receive");
	meta_disk_put(receiving->hidden.meta);
	*receiving->snap = (struct snap){ 0 };
	receiving->state = RECEIVE_NONE;
}

static void take_over(struct sim *sim)
{
	struct receiving *receiving = &sim->receiving;
	struct disk *disk = &sim->disks[receiving->disk];
	struct base_error err = { 0 };

	receiving->state = RECEIVE_TAKING_OVER;
	ioc_disk_close(disk->bd);
	must(sim, meta_disk_take_over(disk->meta, receiving->hidden.meta, &err), &err, "taking over");
	meta_disk_put(receiving->hidden.meta);
	meta_disk_put(disk->meta);
	adopt(sim);
	open_disk(sim, disk);
	snaps_open(sim, receiving->snap);
	snaps_read_all(sim, receiving->snap);
	sim->snaps_taken++;
}

/* Nobody begins anything meanwhile. */
static void wait_for_disk(struct sim *sim, unsigned disk)
{
	for (unsigned i = 0; sim->taking || !snaps_disk_is_idle(sim, disk) || meta_is_trimming(sim->disks[disk].meta);
	     i++) {
		if (i > 2000000)
			sim_fail(sim, "%s never comes to rest", sim->disks[disk].name);
		do_step(sim);
	}
}

void receive_step(struct sim *sim, struct snap *base)
{
	struct snap *fresh;
	int rc = 0;

	if (base->sectors == 0)
		return;
	wait_for_disk(sim, base->disk);
	fresh = snaps_free_one(sim);
	if (!fresh)
		return;
	begin(sim, base, fresh);
	if (below(sim, 3) == 0)
		rc = resize(sim);
	for (uint64_t left = 1 + below(sim, 12); rc == 0 && left > 0 && sectors_of(&sim->receiving) > 0; left--)
		rc = change(sim);
	if (rc == 0)
		take_snapshot(sim);
	close_hidden(sim);
	/* One that met a full pool, or that nobody wants any more. */
	if (rc < 0 || below(sim, 8) == 0)
		give_up(sim);
	else
		take_over(sim);
}

void receive_recover(struct sim *sim)
{
	struct receiving *receiving = &sim->receiving;

	if (receiving->state == RECEIVE_NONE)
		return;
	receiving->hidden.meta = meta_disk_get_by_name(sim->pool, receiving->hidden.name);
	if (receiving->hidden.meta) {
		give_up(sim);
	} else if (receiving->state == RECEIVE_TAKING_OVER) {
		adopt(sim);
	} else { /* not yet, or no longer: it was given up */
		*receiving->snap = (struct snap){ 0 };
		receiving->state = RECEIVE_NONE;
	}
}
