/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inflating, the part of the catalogue: a disk that has all it shows in its own
 * head lets go of what it stands on.
 *
 * The copying is requests (iocore/thin_own.c), among all others of the disk. Then
 * two steps, each behind a commit, so that what it relies on is durable:
 *
 *   cut      the overlap becomes 0: nothing shows through any more. Marks that
 *            hide something of the parent have no sense now, and requests clear
 *            them: a layer without a parent has none
 *   detach   the parent goes, and has lost a child: it may be freed or folded
 *
 * Between the two the disk is as after a shrink to nothing and growing again, so
 * a crash anywhere leaves a sound disk that can be inflated from there.
 *
 * Both steps count on what was seen at the beginning: the same head (a snapshot
 * gives the disk a new, empty one), and an overlap that was never raised since (a
 * range that was attached shows what nobody has copied). If that changed all is
 * to be done again.
 *
 * Failure modes: META_INFLATE_AGAIN; a commit that fails.
 */
#include <errno.h>

#include "meta/internal.h"
#include "meta/snapshot.h"

struct inflate_args {
	struct meta_disk *disk;
	const struct meta_inflate *seen;
	struct meta_store *parent;
	struct meta_layer_record head_next;
};

int meta_inflate_begin(struct meta_disk *disk, struct meta_inflate *ret)
{
	pthread_mutex_lock(&disk->pool->catalog_lock);
	struct meta_store *head = atomic_load(&disk->store);
	bool is_layered = atomic_load(&head->parent) != NULL;
	*ret = (struct meta_inflate){ .head_layer = head->layer_id, .overlap_rises = head->overlap_rises };
	pthread_mutex_unlock(&disk->pool->catalog_lock);
	return is_layered ? 0 : META_INFLATED;
}

uint64_t meta_inflate_next(struct meta_disk *disk, uint64_t from_leaf)
{
	uint64_t epoch = pool_epoch_enter(disk->pool);
	uint64_t found = meta_map_next_visible(meta_io_store(disk), from_leaf);

	pool_epoch_leave(disk->pool, epoch);
	return found;
}

/* MW. */
static bool is_as_seen(const struct inflate_args *args)
{
	const struct meta_store *head = atomic_load(&args->disk->store);

	return !args->disk->removed && head->layer_id == args->seen->head_layer &&
	       head->overlap_rises == args->seen->overlap_rises;
}

static int commit_first(struct meta_disk *disk, struct base_error *err)
{
	int rc = meta_pool_commit(disk->pool);

	return rc < 0 ? base_error_set_errno(err, rc, "what was copied can't be made durable") : 0;
}

/* ---- cut ------------------------------------------------------------------------------------ */

static int cut_fn(struct mw_call *call, struct db_txn *txn)
{
	struct inflate_args *args = call->arg;
	struct meta_store *head = atomic_load(&args->disk->store);

	if (!is_as_seen(args))
		return META_INFLATE_AGAIN;
	args->head_next = head->layer;
	args->head_next.overlap_bytes = 0;
	return catalog_put_layer(txn, head->layer_id, &args->head_next);
}

static void cut_applied(struct mw_call *call)
{
	struct inflate_args *args = call->arg;
	struct meta_store *head = atomic_load(&args->disk->store);

	head->layer = args->head_next;
	atomic_store(&head->overlap_bytes, 0);
}

int meta_inflate_cut(struct meta_disk *disk, const struct meta_inflate *seen, struct base_error *err)
{
	struct inflate_args args = { .disk = disk, .seen = seen };
	struct mw_call call = {
		.fn = cut_fn, .applied = cut_applied, .may_use_reserve = true, .arg = &args, .err = err
	};
	int rc = commit_first(disk, err);

	return rc < 0 ? rc : mw_call_wait(disk->pool, &call);
}

/* ---- detach --------------------------------------------------------------------------------- */

static int detach_fn(struct mw_call *call, struct db_txn *txn)
{
	struct inflate_args *args = call->arg;
	struct meta_store *head = atomic_load(&args->disk->store);

	args->parent = atomic_load(&head->parent);
	if (!is_as_seen(args))
		return META_INFLATE_AGAIN;
	if (!args->parent) /* folded up meanwhile */
		return META_INFLATED;
	if (head->layer.overlap_bytes != 0)
		return META_INFLATE_AGAIN;
	args->head_next = head->layer;
	args->head_next.parent = 0;
	int rc = catalog_put_layer(txn, head->layer_id, &args->head_next);
	layers_release_begin(call->pool);
	return rc == 0 ? layers_release_child(call->pool, txn, args->parent) : rc;
}

static void detach_applied(struct mw_call *call)
{
	struct inflate_args *args = call->arg;
	struct meta_store *head = atomic_load(&args->disk->store);

	head->layer = args->head_next;
	args->parent->refs++;
	store_set_parent(head, NULL, 0);
	(void)layers_release_child(call->pool, NULL, args->parent);
	store_put_locked(args->parent);
}

int meta_inflate_detach(struct meta_disk *disk, const struct meta_inflate *seen, struct base_error *err)
{
	struct inflate_args args = { .disk = disk, .seen = seen };
	struct mw_call call = {
		.fn = detach_fn, .applied = detach_applied, .may_use_reserve = true, .arg = &args, .err = err
	};
	int rc = commit_first(disk, err);

	if (rc == 0)
		rc = mw_call_wait(disk->pool, &call);
	return rc == META_INFLATED ? 0 : rc;
}
