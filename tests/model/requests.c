/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model's requests: which one comes next, with what on its sectors, and
 * what its answer may be.
 *
 * A write stamps its sectors with disk, sector and version, and tells the oracle
 * when it was submitted and when it was answered; a read is judged against what
 * the oracle allows at that moment; a flush makes what was answered before it
 * was submitted durable. Sizes have versions too.
 *
 * Failure modes: a wrong answer ends the case (sim_fail).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "iocore/internal.h"
#include "tests/model/sim.h"

static void add_size(struct sim *sim, struct disk *disk, uint64_t bytes, uint64_t op, bool resize)
{
	if (disk->size_count == ARRAY_LEN(disk->sizes)) {
		memmove(disk->sizes, disk->sizes + 32, 32 * sizeof(disk->sizes[0]));
		disk->size_count = 32;
	}
	disk->sizes[disk->size_count++] =
		(struct size_version){ bytes, sim->now, ORACLE_NEVER, ORACLE_NEVER, op, resize };
}

static void complete_size(struct sim *sim, struct disk *disk, uint64_t op, bool durable)
{
	for (unsigned i = 0; i < disk->size_count; i++) {
		if (disk->sizes[i].op != op)
			continue;
		disk->sizes[i].completed = sim->now;
		if (durable)
			disk->sizes[i].durable = sim->now;
	}
}

static void judge_read(struct slot *slot)
{
	for (uint64_t i = 0; i < slot->count; i++) {
		const char *why = oracle_judge(&slot->disk->oracle, slot->first + i, slot->buf + i * SECTOR,
					       ORACLE_LIVE, slot->submitted);
		if (why)
			oracle_print(&slot->disk->oracle, slot->first + i, slot->buf + i * SECTOR);
		if (why)
			snaps_print_layers(meta_io_store(slot->disk->meta), slot->first + i);
		if (why)
			sim_fail(slot->sim, "live read of %s, sector %" PRIu64 ": %s", slot->disk->name,
				 slot->first + i, why);
	}
	slot->sim->checked_sectors += slot->count;
}

static void flushed(struct sim *sim, struct disk *disk, uint64_t submitted)
{
	oracle_flushed(&disk->oracle, submitted, sim->now);
	for (unsigned i = 0; i < disk->size_count; i++)
		if (disk->sizes[i].completed < submitted && disk->sizes[i].durable == ORACLE_NEVER)
			disk->sizes[i].durable = sim->now;
}

static bool allowed(int result)
{
	return result == 0 || result == -ENOSPC || result == -EINVAL;
}

static void done(struct ioc_request *req, int result)
{
	struct slot *slot = req->ctx;
	struct sim *sim = slot->sim;
	struct disk *disk = slot->disk;
	bool durable = req->op == IOC_OP_RESIZE || (req->flags & IOC_FUA);

	sim->now++;
	slot->busy = false;
	if (slot->snap) {
		if (result < 0)
			sim_fail(sim, "a read of snapshot %s ended with %d", slot->snap->name, result);
		snaps_judge_read(slot);
		return;
	}
	disk->flying--;
	sim->done_ops++;
	sim->enospc += result == -ENOSPC;
	if (req->op == IOC_OP_RESIZE)
		disk->resizing = false;
	if (!allowed(result))
		sim_fail(sim, "op %d on %s ended with %d (%s)", req->op, disk->name, result, strerror(-result));
	if (result < 0)
		return; /* what it changed stays possible */
	if (req->op == IOC_OP_READ)
		judge_read(slot);
	else if (req->op == IOC_OP_FLUSH)
		flushed(sim, disk, slot->submitted);
	else if (req->op != IOC_OP_ALLOCATE) {
		oracle_complete(&disk->oracle, slot->first, slot->count, slot->op, sim->now, durable);
		complete_size(sim, disk, slot->op, durable);
	}
}

/* One to three segments, so that scattered data is tested too. */
static void cut_segments(struct sim *sim, struct slot *slot, uint64_t bytes)
{
	unsigned count = bytes >= 3 * SECTOR ? 1 + (unsigned)below(sim, 3) : 1;
	char *at = slot->buf;

	for (unsigned i = 0; i < count; i++) {
		uint64_t n = i + 1 == count ? bytes : (1 + below(sim, bytes / SECTOR - (count - i - 1))) * SECTOR;
		if (i + 1 < count && n > bytes - (count - i - 1) * SECTOR)
			n = bytes - (count - i - 1) * SECTOR;
		slot->iov[i] = (struct iovec){ at, n };
		at += n;
		bytes -= n;
	}
	slot->req.segments = slot->iov;
	slot->req.segment_count = count;
}

static void pick_range(struct sim *sim, struct slot *slot, uint64_t limit, uint64_t longest)
{
	static const uint64_t lengths[] = { 1, 3, 8, 8, 16, 64, 128, 300, IO_SECTORS_MAX };

	uint64_t length = lengths[below(sim, ARRAY_LEN(lengths))];
	uint64_t count = MIN(MIN(length, longest), limit);
	slot->first = below(sim, limit - count + 1);
	if (below(sim, 2))
		slot->first = round_down_to(slot->first, 8);
	/* Much of the work in a small part of the disk, or writes would seldom meet. */
	if (below(sim, 3))
		slot->first %= MIN(limit - count + 1, 4096);
	slot->count = count;
}

static void prepare_write(struct sim *sim, struct slot *slot, bool grows)
{
	struct disk *disk = slot->disk;

	pick_range(sim, slot, grows ? sim->scale.disk_sectors : size_sectors(disk), IO_SECTORS_MAX);
	slot->version = ++sim->next_version;
	lineage_write(&sim->lineage, slot->version, disk->number);
	slot->req.flags = (grows ? IOC_GROW : 0) | (below(sim, 8) == 0 ? IOC_FUA : 0);
	oracle_fill(disk->id, slot->first, slot->count, slot->version, slot->buf);
	oracle_submit(&disk->oracle, slot->first, slot->count, slot->version, slot->op, sim->now);
	if (grows)
		add_size(sim, disk, (slot->first + slot->count) * SECTOR, slot->op, false);
	cut_segments(sim, slot, slot->count * SECTOR);
}

static void prepare_zeroes(struct sim *sim, struct slot *slot)
{
	pick_range(sim, slot, size_sectors(slot->disk), below(sim, 4) ? 700 : sim->scale.disk_sectors);
	slot->req.flags = slot->req.op == IOC_OP_WRITE_ZEROES && below(sim, 2) ? IOC_KEEP_SPACE : 0;
	oracle_submit(&slot->disk->oracle, slot->first, slot->count, 0, slot->op, sim->now);
}

static void prepare_resize(struct sim *sim, struct slot *slot)
{
	struct disk *disk = slot->disk;
	uint64_t old = size_sectors(disk), new = below(sim, sim->scale.disk_sectors + 1);

	if (below(sim, 2))
		new = MIN(new, 3000);
	disk->resizing = true;
	slot->req.offset = new *SECTOR;
	slot->first = MIN(new, old);
	/* A write that grows the disk meanwhile may put data anywhere above: all of it is cut off. */
	slot->count = sim->scale.disk_sectors - slot->first;
	oracle_submit(&disk->oracle, slot->first, slot->count, 0, slot->op, sim->now);
	add_size(sim, disk, new *SECTOR, slot->op, true);
}

static struct slot *free_slot(struct sim *sim)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (!sim->slots[i].busy)
			return &sim->slots[i];
	return NULL;
}

static uint64_t oldest_submission(struct sim *sim)
{
	uint64_t oldest = sim->now;

	for (unsigned i = 0; i < SLOTS; i++)
		if (sim->slots[i].busy)
			oldest = MIN(oldest, sim->slots[i].submitted);
	return snaps_horizon(sim, oldest);
}

static enum ioc_op pick_op(struct sim *sim, struct disk *disk)
{
	uint64_t dice = below(sim, 100);

	if (dice < 52)
		return IOC_OP_WRITE;
	if (dice < 76)
		return IOC_OP_READ;
	if (dice < 84)
		return IOC_OP_FLUSH;
	if (dice < 90)
		return IOC_OP_DISCARD;
	if (dice < 95)
		return IOC_OP_WRITE_ZEROES;
	if (dice < 98)
		return IOC_OP_ALLOCATE;
	return disk->resizing ? IOC_OP_FLUSH : IOC_OP_RESIZE;
}

void requests_submit(struct sim *sim)
{
	struct slot *slot = free_slot(sim);
	struct disk *disk = &sim->disks[below(sim, sim->scale.disks)];

	if (!slot)
		return;
	slot->snap = NULL;
	struct snap *snap = below(sim, 12) == 0 ? snaps_pick(sim) : NULL;
	if (snap && snap->sectors > 0) {
		snaps_read(sim, slot, snap);
		slot->req.done = done;
		cut_segments(sim, slot, slot->count * SECTOR);
		ioc_bd_submit(&slot->req);
		return;
	}
	disk->oracle.horizon = oldest_submission(sim);
	enum ioc_op op = pick_op(sim, disk);
	bool grows = op == IOC_OP_WRITE && !disk->resizing && below(sim, 12) == 0;
	if (size_sectors(disk) == 0 && op != IOC_OP_RESIZE && op != IOC_OP_FLUSH && !grows)
		return;
	sim->now++;
	slot->disk = disk;
	slot->op = ++sim->ops;
	slot->submitted = sim->now;
	slot->busy = true;
	slot->first = slot->count = 0;
	slot->req.op = op;
	slot->req.flags = 0;
	slot->req.bd = disk->bd;
	slot->req.queue = &sim->ioc->queues[0];
	slot->req.done = done;
	slot->req.ctx = slot;
	slot->req.segments = NULL;
	slot->req.segment_count = 0;
	if (op == IOC_OP_WRITE)
		prepare_write(sim, slot, grows);
	else if (op == IOC_OP_DISCARD || op == IOC_OP_WRITE_ZEROES)
		prepare_zeroes(sim, slot);
	else if (op == IOC_OP_RESIZE)
		prepare_resize(sim, slot);
	else if (op != IOC_OP_FLUSH)
		pick_range(sim, slot, size_sectors(disk), IO_SECTORS_MAX);
	if (op == IOC_OP_READ)
		cut_segments(sim, slot, slot->count * SECTOR);
	if (op != IOC_OP_RESIZE)
		slot->req.offset = slot->first * SECTOR;
	slot->req.length = op == IOC_OP_RESIZE ? 0 : slot->count * SECTOR;
	disk->flying++;
	ioc_bd_submit(&slot->req);
}
