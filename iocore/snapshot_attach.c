/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching a range of a snapshot to a disk, under the disk's gate.
 *
 * Every stripe is entered, so no write, discard or resize of the disk is in flight
 * while meta/ looks whether the range may be attached and does it. Whoever waits
 * at the gate meanwhile looks again behind it and finds the new parent. Reads are
 * not held back: they see the hole or what is now there, as with any write.
 *
 * Happy path: open the snapshot, so that it stays; the gate; meta_disk_attach.
 * Failure modes: those of meta_disk_attach; nothing has changed then.
 */
#include "iocore/internal.h"

static void run_entered(struct base_msg *msg)
{
	struct gate_entry *entry = container_of(msg, struct gate_entry, msg);

	*(bool *)entry->ctx = true;
}

/* Waits on the calling thread. */
static void enter(struct gate *gate, struct gate_entry *ret)
{
	struct base_park park;
	struct base_mailbox box;
	bool entered = false;

	base_park_init(&park);
	base_mailbox_init(&box, base_park_wake_fn, &park);
	*ret = (struct gate_entry){
		.stripes = UINT64_MAX, .exclusive = true, .box = &box, .msg.run = run_entered, .ctx = &entered
	};
	if (!gate_enter(gate, ret)) {
		while (!entered)
			if (base_mailbox_run(&box) == 0)
				base_park_wait(&park, 0);
		base_mailbox_wait_for_producers(&box);
	}
	base_park_done(&park);
}

int ioc_snapshot_attach(struct ioc_pool *pool, struct meta_snapshot *snapshot, struct ioc_bd *target, uint64_t offset,
			uint64_t length, struct base_error *err)
{
	struct thin_disk *thin = container_of(target, struct thin_disk, bd);
	int rc = meta_io_writable(pool->meta);
	struct gate_entry entry;

	if (rc < 0)
		return base_error_set(err, rc, "the pool can't be changed: it is open read-only or has failed");
	rc = meta_snapshot_open(snapshot, err);
	if (rc < 0)
		return rc;
	enter(&thin->gate, &entry);
	rc = meta_disk_attach(thin->disk, snapshot, offset, offset + length, err);
	gate_leave(&entry);
	meta_snapshot_close(snapshot);
	return rc == META_NOT_ATTACHED ? IOC_NOT_ATTACHED : rc;
}
