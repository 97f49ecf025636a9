/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking a snapshot of a group of disks.
 *
 *   open the disks     so that none is removed or rolled back meanwhile
 *   commit             without stopping anybody, if there is so much to commit that the one at the end would
 *                      take long, or no room in the log; else that one does it all, in half the time
 *   gates              every stripe of every disk, exclusively, in order of disk number;
 *                      who is in flight ends, who comes waits before it is planned
 *   tails              what lies behind an end that is in the middle of a block is zeroed
 *   switch             MW gives each disk a new head; then the gates are left: end of the pause
 *   durable            MW commits; the answer
 *
 * It is a machine of messages in one mailbox, so that the simulator can run it
 * among everything else; ioc_snapshot_create() runs it to its end. Several may run:
 * their gates are taken in one order.
 *
 * A request that waited at a gate finds another head behind it and is planned anew.
 *
 * Failure modes: a disk that is just being trimmed, or a full restart log, sends
 * it back before the gates (-EAGAIN from MW) after waiting for that; any refusal
 * leaves the gates and changes nothing.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/planted.h"
#include "iocore/internal.h"

static void finish(struct snapshot_take *take, int result)
{
	while (take->opened > 0)
		ioc_disk_close(take->bds[--take->opened]);
	free(take->bds);
	free(take->gates);
	free(take->names);
	take->done(take, result);
}

static void leave_gates(struct snapshot_take *take)
{
	while (take->entered > 0)
		gate_leave(&take->gates[--take->entered]);
	take->pause_ns = base_clock_ns() - take->gated_ns;
}

/* ---- waiting ---------------------------------------------------------------------------------- */

static void run_waited(struct base_msg *msg)
{
	struct snapshot_take *take = container_of(msg, struct snapshot_take, wait.msg);

	take->next(take, take->wait.result);
}

static struct meta_wait *wait_for(struct snapshot_take *take, void (*next)(struct snapshot_take *take, int result))
{
	take->next = next;
	take->wait = (struct meta_wait){ .box = take->box, .msg.run = run_waited };
	return &take->wait;
}

static void commit_first(struct snapshot_take *take, int result);

/* One disk after the other. */
static void wait_trims(struct snapshot_take *take, int result)
{
	if (result < 0 && meta_is_trimming(take->specs[take->trims - 1].disk)) { /* it was given up */
		finish(take, base_error_set_errno(take->err, result, "snapshot"));
		return;
	}
	if (take->trims == take->count)
		commit_first(take, 0);
	else
		meta_wait_trimmed(take->specs[take->trims++].disk, wait_for(take, wait_trims));
}

/* ---- the switch ------------------------------------------------------------------------------- */

static void run_durable(struct base_msg *msg)
{
	struct snapshot_take *take = container_of(msg, struct snapshot_take, change.durable.msg);

	finish(take, take->change.durable.result);
}

static void run_switched(struct base_msg *msg)
{
	struct snapshot_take *take = container_of(msg, struct snapshot_take, change.switched.msg);
	int result = take->change.switched.result;

	leave_gates(take);
	if (result == -EAGAIN) {
		take->needs_commit = true; /* it may have been the log that had no room */
		take->trims = 0;
		wait_trims(take, 0);
	} else if (result < 0) {
		finish(take, result);
	}
}

static void switch_heads(struct snapshot_take *take)
{
	int rc = 0;

	for (size_t i = 0; i < take->count && rc == 0; i++)
		rc = meta_disk_zero_tail(take->specs[i].disk);
	if (rc < 0) {
		leave_gates(take);
		finish(take, base_error_set_errno(take->err, rc, "zeroing the last block of a disk"));
		return;
	}
	take->change = (struct meta_switch){ .specs = take->names,
					     .count = take->count,
					     .err = take->err,
					     .switched = { .box = take->box, .msg.run = run_switched },
					     .durable = { .box = take->box, .msg.run = run_durable } };
	meta_switch_submit(take->pool->meta, &take->change);
}

/* ---- the gates -------------------------------------------------------------------------------- */

static void enter_gates(struct snapshot_take *take);

static void run_entered(struct base_msg *msg)
{
	struct gate_entry *entry = container_of(msg, struct gate_entry, msg);
	struct snapshot_take *take = entry->ctx;

	take->entered++;
	enter_gates(take);
}

static void enter_gates(struct snapshot_take *take)
{
	while (take->entered < take->count && !planted(BUG_SNAPSHOT_NO_GATE)) {
		struct thin_disk *thin = container_of(take->bds[take->entered], struct thin_disk, bd);
		struct gate_entry *entry = &take->gates[take->entered];
		*entry = (struct gate_entry){ .stripes = UINT64_MAX,
					      .exclusive = true,
					      .box = take->box,
					      .msg.run = run_entered,
					      .ctx = take };
		if (!gate_enter(&thin->gate, entry))
			return;
		take->entered++;
	}
	switch_heads(take);
}

static void gates(struct snapshot_take *take, int result)
{
	if (result < 0) {
		finish(take, base_error_set_errno(take->err, result, "the commit before a snapshot failed"));
		return;
	}
	take->gated_ns = base_clock_ns();
	enter_gates(take);
}

static void commit_first(struct snapshot_take *take, int result)
{
	struct meta_pool *meta = take->pool->meta;
	int rc = meta_io_writable(meta);

	if (rc < 0)
		finish(take, base_error_set(take->err, rc,
					    "the pool can't be changed: it is open read-only or has "
					    "failed"));
	else if (!take->needs_commit && !meta_io_is_very_dirty(meta))
		gates(take, 0);
	else
		meta_wait_commit(meta, wait_for(take, gates));
}

/* ---- the beginning ---------------------------------------------------------------------------- */

static int by_number(const void *pa, const void *pb)
{
	const struct meta_switch_spec *a = pa, *b = pb;
	uint64_t na = meta_disk_number(a->disk), nb = meta_disk_number(b->disk);

	return na < nb ? -1 : na > nb;
}

static int prepare(struct snapshot_take *take)
{
	take->bds = calloc(take->count, sizeof(struct ioc_bd *));
	take->gates = calloc(take->count, sizeof(*take->gates));
	take->names = calloc(take->count, sizeof(*take->names));
	if (!take->bds || !take->gates || !take->names)
		return base_error_set_errno(take->err, -ENOMEM, "snapshot");
	for (size_t i = 0; i < take->count; i++)
		take->names[i] =
			(struct meta_switch_spec){ take->specs[i].disk, take->specs[i].name, take->specs[i].uuid };
	qsort(take->names, take->count, sizeof(*take->names), by_number);
	for (size_t i = 1; i < take->count; i++) /* it would wait for itself at the gate */
		if (take->names[i].disk == take->names[i - 1].disk)
			return base_error_set(take->err, -EINVAL, "a disk is in the group twice");
	for (; take->opened < take->count; take->opened++) {
		int rc = ioc_disk_open(take->pool, take->names[take->opened].disk, &take->bds[take->opened],
				       take->err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

void snapshot_take_begin(struct snapshot_take *take)
{
	take->opened = take->entered = 0;
	take->needs_commit = false;
	take->began_ns = base_clock_ns();
	int rc = take->count == 0 || take->count > IOC_SNAPSHOT_GROUP_MAX
			 ? base_error_set(take->err, -EINVAL, "a group has 1 to %d disks", IOC_SNAPSHOT_GROUP_MAX)
			 : 0;
	if (rc == 0)
		rc = prepare(take);
	if (rc < 0)
		finish(take, rc);
	else
		commit_first(take, 0);
}

struct waiting {
	bool over;
	int result;
};

static void taken(struct snapshot_take *take, int result)
{
	struct waiting *waiting = take->ctx;

	waiting->result = result;
	waiting->over = true;
}

int ioc_snapshot_create(struct ioc_pool *pool, const struct ioc_snapshot_spec *specs, size_t count,
			struct ioc_snapshot_timing *ret_timing, struct base_error *err)
{
	struct base_park park;
	struct base_mailbox box;
	struct waiting waiting = { false, 0 };
	struct snapshot_take take = {
		.pool = pool, .specs = specs, .count = count, .box = &box, .done = taken, .err = err, .ctx = &waiting
	};

	base_park_init(&park);
	base_mailbox_init(&box, base_park_wake_fn, &park);
	snapshot_take_begin(&take);
	while (!waiting.over)
		if (base_mailbox_run(&box) == 0)
			base_park_wait(&park, 0);
	/* Whoever posted last may still be on its way back from our park. */
	base_mailbox_wait_for_producers(&box);
	base_park_done(&park);
	if (ret_timing)
		*ret_timing = (struct ioc_snapshot_timing){ take.pause_ns, base_clock_ns() - take.began_ns };
	return waiting.result;
}
