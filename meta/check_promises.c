/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: what thick disks and logical volumes are promised.
 *
 * A thick disk is promised a chunk for each of its size, and what it does not own
 * yet is nobody else's. The promises are not written down anywhere: they follow
 * from the disks' records, and meta/space.h keeps them covered by free chunks. So
 * in every committed state
 *
 *   chunks owned + promised and not yet owned <= chunks of the pool.
 *
 * Above a snapshot nothing of a thick disk's size is its own yet, since all of it may be overwritten: what counts is
 * what its head layer owns. So a snapshot of a thick disk needs as much again, and a fold that moves chunks up into
 * the head pays back.
 *
 * It is a sum over everything, so it is only drawn of a pool that nobody changes,
 * and only if nothing else is wrong: each other finding may change a term of it.
 *
 * Failure modes: none of its own; the records were read before.
 */
#include <inttypes.h>

#include "meta/check_internal.h"

void check_note_promise(struct check *check, const struct meta_disk_record *disk,
			const struct meta_layer_record *layer)
{
	uint64_t goal = catalog_goal_chunks(disk->kind, disk->size_bytes);

	if (goal > layer->chunks_owned)
		check->promised_chunks += goal - layer->chunks_owned;
}

int check_promises(struct check *check)
{
	const struct known_pvs *pvs = check->pvs;
	uint64_t total = 0, owned = chunk_set_count(check->owned);

	if (check->live || check->report->problems > 0 || check->report->not_judged > 0)
		return 0;
	for (unsigned i = 0; i < pvs->range_count; i++)
		total += pvs->ranges[i].end - pvs->ranges[i].first;
	if (owned + check->promised_chunks > total)
		check_found(check, META_CHECK_PROMISE, CHECK_PLACE(.database = DB_DISK),
			    "thick disks and logical volumes are promised %" PRIu64 " chunks more, and %" PRIu64
			    " of the pool's are free: first writes to them may find no space",
			    check->promised_chunks, total - MIN(owned, total));
	return 0;
}
