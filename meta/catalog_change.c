/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes to the catalogue: create, remove, rename, attributes, size. Each is one
 * mw_call, see catalog.c for the rules.
 *
 * Create writes, for each disk, a layer and a disk record and draws three
 * identities from the pool's counter. Remove deletes the disk's record and marks
 * its layer dead in the same transaction; the background frees the space. A
 * shrink sets the size and the trim-above mark in one transaction; the background
 * frees what is above.
 *
 * Failure modes: as in pool.h; on failure neither LMDB nor memory has changed.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/planted.h"
#include "base/units.h"
#include "base/uuid.h"
#include "meta/internal.h"
#include "meta/snapshot.h"

/* ---- create ------------------------------------------------------------------------------- */

struct create_args {
	struct meta_pool *pool;
	const struct meta_disk_spec *specs;
	size_t count;
	struct meta_snapshot *from; /* NULL: empty disks */
	struct meta_disk **disks; /* count structs, made before the transaction */
};

int catalog_check_spec(const struct meta_disk_spec *spec, struct base_error *err)
{
	char text[BASE_SIZE_TEXT_BYTES];
	int rc = meta_name_check(spec->name, err);

	if (rc < 0)
		return rc;
	if (spec->size_bytes > DISK_BYTES_MAX)
		return base_error_set(err, -EFBIG, "%s: the largest disk is %s", spec->name,
				      base_size_to_text(DISK_BYTES_MAX, text));
	if (spec->logical_block_bytes != 0 && spec->logical_block_bytes != 512 && spec->logical_block_bytes != 4096)
		return base_error_set(err, -EINVAL, "%s: a logical block is 512 or 4096 bytes", spec->name);
	return 0;
}

void catalog_fill_record(const struct meta_disk_spec *spec, struct meta_disk_record *rec)
{
	*rec = (struct meta_disk_record){
		.uuid = base_uuid_new(),
		.size_bytes = spec->size_bytes,
		.logical_block_bytes = spec->logical_block_bytes ? spec->logical_block_bytes : 512,
		.kind = spec->kind,
		.created_s = base_clock_wall_s(),
		.modified_s = base_clock_wall_s(),
		.trim_above_bytes = UINT64_MAX,
		.mode = spec->mode ? spec->mode : 0600,
		.uid = spec->uid,
		.gid = spec->gid,
	};
	memcpy(rec->name, spec->name, sizeof(rec->name));
	memcpy(rec->labels, spec->labels, sizeof(rec->labels));
}

static int claim(struct meta_pool *pool, struct meta_store *store, const struct meta_disk_spec *spec,
		 struct base_error *err)
{
	char size[BASE_SIZE_TEXT_BYTES], lacking[BASE_SIZE_TEXT_BYTES];
	uint64_t lack = 0;
	int rc = space_claim_set(&pool->space, &store->claim, catalog_goal_chunks(spec->kind, spec->size_bytes),
				 &lack);

	if (rc < 0)
		return base_error_set(
			err, rc,
			"%s: no space for a thick disk of %s: the pool lacks %s that is neither used nor "
			"reserved; make it thin, free space, or add some with chsp -add",
			spec->name, base_size_to_text(spec->size_bytes, size),
			base_size_to_text(lack * CHUNK_BYTES, lacking));
	return 0;
}

static int create_one(struct mw_call *call, struct db_txn *txn, struct meta_disk **ret,
		      const struct meta_disk_spec *spec)
{
	struct create_args *args = call->arg;
	struct meta_disk_record rec;
	uint64_t number = call->record->next_id++, layer_id = call->record->next_id++;
	struct meta_layer_record layer = { .store_id = call->record->next_id++, .owner_disk = number };

	struct meta_disk *taken = meta_disk_get_by_name(args->pool, spec->name);
	if (taken) {
		meta_disk_put(taken);
		return base_error_set(call->err, -EEXIST, "there is a disk named %s already", spec->name);
	}
	catalog_fill_record(spec, &rec);
	rec.head_layer = layer_id;
	if (args->from) {
		layer.parent = atomic_load(&args->from->store)->layer_id;
		layer.overlap_bytes = round_up_to(rec.size_bytes, BLOCK_BYTES);
	}
	struct meta_store *store = store_new(args->pool, layer_id, &layer);
	if (!store)
		return base_error_set_errno(call->err, -ENOMEM, "%s", spec->name);
	store->index_loaded = true; /* there is none */
	int rc = claim(args->pool, store, spec, call->err);
	if (rc < 0) {
		store_free(store);
		return rc;
	}
	*ret = catalog_disk_new(args->pool, number, &rec, store);
	rc = *ret ? catalog_put_layer(txn, layer_id, &layer) : -ENOMEM;
	if (rc == 0)
		rc = catalog_put_disk(txn, number, &rec);
	if (!*ret)
		store_free(store);
	return rc < 0 ? base_error_set_errno(call->err, rc, "%s", spec->name) : 0;
}

static int by_spec_name(const void *pa, const void *pb)
{
	const struct meta_disk_spec *const *a = pa, *const *b = pb;

	return strcmp((*a)->name, (*b)->name);
}

static int check_twins(const struct meta_disk_spec *specs, size_t count, struct base_error *err)
{
	const struct meta_disk_spec **sorted = calloc(count, sizeof(*sorted));
	int rc = 0;

	if (!sorted)
		return base_error_set_errno(err, -ENOMEM, "create");
	for (size_t i = 0; i < count; i++)
		sorted[i] = &specs[i];
	qsort(sorted, count, sizeof(*sorted), by_spec_name);
	for (size_t i = 1; i < count && rc == 0; i++)
		if (strcmp(sorted[i]->name, sorted[i - 1]->name) == 0)
			rc = base_error_set(err, -EEXIST, "%s is asked for twice", sorted[i]->name);
	free(sorted);
	return rc;
}

/* The snapshot's layer gets a child. */
static int put_parent(struct mw_call *call, struct db_txn *txn, struct meta_snapshot *from)
{
	struct meta_store *store = atomic_load(&from->store);
	struct meta_layer_record layer = store->layer;

	if (from->removed)
		return base_error_set(call->err, -ENOENT, "snapshot %s is gone", from->record.name);
	layer.children++;
	return catalog_put_layer(txn, store->layer_id, &layer);
}

static int create_fn(struct mw_call *call, struct db_txn *txn)
{
	struct create_args *args = call->arg;
	int rc = args->from ? put_parent(call, txn, args->from) : 0;

	for (size_t i = 0; i < args->count && rc == 0; i++)
		rc = create_one(call, txn, &args->disks[i], &args->specs[i]);
	return rc;
}

static void create_applied(struct mw_call *call)
{
	struct create_args *args = call->arg;

	for (size_t i = 0; i < args->count; i++) {
		catalog_insert(args->disks[i]);
		changed_note(call->pool, args->disks[i]->number, META_CHANGED_MADE, call->record->commit);
		event_tell(call->pool, META_EVENT_DISK_CREATED, args->disks[i]->record.name,
			   args->disks[i]->record.size_bytes, 0);
	}
	if (!args->from)
		return;
	struct meta_store *parent = atomic_load(&args->from->store), *store = atomic_load(&args->disks[0]->store);
	parent->layer.children++;
	store_set_parent(store, parent, store->layer.overlap_bytes);
}

static int make_ready_to_promise(struct meta_pool *pool, const struct meta_disk_spec *specs, size_t count,
				 struct base_error *err)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < count; i++)
		bytes += catalog_goal_chunks(specs[i].kind, specs[i].size_bytes) * CHUNK_BYTES;
	return bytes == 0 || pool->read_only ? 0 : meta_pool_await_space(pool, bytes, err);
}

int meta_disk_create(struct meta_pool *pool, const struct meta_disk_spec *specs, size_t count, uint64_t *ret_numbers,
		     struct base_error *err)
{
	return catalog_create(pool, specs, count, ret_numbers, NULL, err);
}

int catalog_create(struct meta_pool *pool, const struct meta_disk_spec *specs, size_t count, uint64_t *ret_numbers,
		   struct meta_snapshot *from, struct base_error *err)
{
	struct create_args args = { .pool = pool, .specs = specs, .count = count, .from = from };
	struct mw_call call = { .fn = create_fn, .applied = create_applied, .arg = &args, .err = err };
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i++)
		rc = catalog_check_spec(&specs[i], err);
	if (rc == 0)
		rc = check_twins(specs, count, err);
	if (rc == 0 && reserve_is_short(pool))
		rc = base_error_set(
			err, -ENOSPC,
			"the file system that holds the metadata (%s) is nearly full: no new disks until it has room",
			pool->dir);
	if (rc == 0)
		rc = make_ready_to_promise(pool, specs, count, err);
	if (rc < 0)
		return rc;
	args.disks = calloc(count, sizeof(*args.disks));
	if (!args.disks)
		return base_error_set_errno(err, -ENOMEM, "create");
	rc = mw_call_wait(pool, &call);
	for (size_t i = 0; i < count; i++) {
		if (rc == 0 && ret_numbers)
			ret_numbers[i] = args.disks[i]->number;
		else if (rc < 0 && args.disks[i])
			catalog_disk_unmake(args.disks[i]);
	}
	free(args.disks);
	return rc;
}

/* ---- remove ------------------------------------------------------------------------------- */

struct remove_args {
	struct meta_disk *disk;
	bool with_snapshots;
};

static int refuse_removal(struct mw_call *call, struct meta_disk *disk, bool with_snapshots, const char *holder)
{
	for (struct meta_snapshot *snapshot = disk->snapshots; snapshot; snapshot = snapshot->next) {
		if (!with_snapshots)
			return base_error_set(call->err, -EBUSY,
					      "disk %s has %u snapshots (%s ...): remove them first, or with the disk",
					      disk->record.name, disk->snapshot_count, snapshot->record.name);
		int rc = targets_refuse_mapped(snapshot, call->err);
		if (rc < 0)
			return rc;
		if (snapshot->opens > 0)
			return base_error_set(call->err, -EBUSY, "snapshot %s of disk %s is open: close it first",
					      snapshot->record.name, disk->record.name);
	}
	if (holder)
		return base_error_set(call->err, -EBUSY, "disk %s is mapped, as %s: unmap it first (`bdfs rmvdev`)",
				      disk->record.name, holder);
	if (disk->opens > 0)
		return base_error_set(
			call->err, -EBUSY,
			"disk %s is open (%u times, as a file of the mount or by a device on it): close it first",
			disk->record.name, disk->opens);
	return 0;
}

static void unmark_removed(struct meta_disk *disk)
{
	pthread_mutex_lock(&disk->pool->catalog_lock);
	for (struct meta_snapshot *snapshot = disk->snapshots; snapshot; snapshot = snapshot->next)
		snapshot->removed = false;
	disk->removed = false;
	pthread_mutex_unlock(&disk->pool->catalog_lock);
}

static int remove_fn(struct mw_call *call, struct db_txn *txn)
{
	struct remove_args *args = call->arg;
	struct meta_disk *disk = args->disk;
	struct db_key key = db_key_u64(disk->number);
	char holder[2 * META_DEVICE_NAME_BYTES_MAX + 32] = "a VTD";

	pthread_mutex_lock(&call->pool->catalog_lock);
	bool gone = disk->removed, mapped = disk->vtds > 0;
	if (mapped)
		targets_describe_holder(call->pool, disk->number, holder, sizeof(holder));
	int rc = gone ? 0 : refuse_removal(call, disk, args->with_snapshots, mapped ? holder : NULL);
	if (rc == 0 && !gone)
		disk->removed = true;
	for (struct meta_snapshot *snapshot = disk->snapshots; snapshot && rc == 0 && !gone; snapshot = snapshot->next)
		snapshot->removed = true; /* not to be opened from now on */
	pthread_mutex_unlock(&call->pool->catalog_lock);
	if (gone)
		return base_error_set(call->err, -ENOENT, "disk %s is gone already", disk->record.name);
	if (rc < 0)
		return rc;
	rc = disk_release_layers(disk, txn);
	if (rc == 0)
		rc = db_del(txn, DB_DISK, &key);
	if (rc != 0) {
		unmark_removed(disk);
		return base_error_set_errno(call->err, rc == DB_NOT_FOUND ? -EBADMSG : rc, "%s", disk->record.name);
	}
	return 0;
}

/* A size that was not committed yet is nobody's any more. */
void disk_forget_size(struct meta_disk *disk)
{
	struct meta_disk **at = &disk->pool->dirty_sizes;

	pthread_mutex_lock(&disk->pool->dirty_lock);
	while (disk->size_dirty && *at != disk)
		at = &(*at)->size_dirty_next;
	if (disk->size_dirty)
		*at = disk->size_dirty_next;
	disk->size_dirty = false;
	pthread_mutex_unlock(&disk->pool->dirty_lock);
}

static void remove_applied(struct mw_call *call)
{
	struct remove_args *args = call->arg;

	(void)disk_release_layers(args->disk, NULL);
	disk_forget_size(args->disk);
	space_claim_drop(&call->pool->space, &atomic_load(&args->disk->store)->claim);
	catalog_unlink(args->disk);
	changed_note(call->pool, args->disk->number, META_CHANGED_GONE, call->record->commit);
	event_tell(call->pool, META_EVENT_DISK_REMOVED, args->disk->record.name, 0, 0);
}

static void remove_undone(struct mw_call *call)
{
	struct remove_args *args = call->arg;

	unmark_removed(args->disk);
}

static int remove_disk(struct meta_disk *disk, bool with_snapshots, struct base_error *err)
{
	struct remove_args args = { disk, with_snapshots };
	struct mw_call call = { .fn = remove_fn,
				.applied = remove_applied,
				.undone = remove_undone,
				.may_use_reserve = true,
				.arg = &args,
				.err = err };

	/* The clear job walks the leaves, so it needs the index. */
	int rc = layers_load_index(disk->pool, &disk->store, err);
	if (rc == 0)
		rc = mw_call_wait(disk->pool, &call);
	if (rc == 0)
		disk_window_return(disk);
	return rc;
}

int meta_disk_remove(struct meta_disk *disk, struct base_error *err)
{
	return remove_disk(disk, false, err);
}

int meta_disk_remove_with_snapshots(struct meta_disk *disk, struct base_error *err)
{
	return remove_disk(disk, true, err);
}

/* ---- rename, attributes ------------------------------------------------------------------- */

struct change_args {
	struct meta_disk *disk;
	struct meta_disk_record rec;
};

static int put_changed(struct mw_call *call, struct db_txn *txn)
{
	struct change_args *args = call->arg;

	if (args->disk->removed)
		return base_error_set(call->err, -ENOENT, "disk %s is gone", args->disk->record.name);
	int rc = catalog_put_disk(txn, args->disk->number, &args->rec);
	return rc < 0 ? base_error_set_errno(call->err, rc, "%s", args->disk->record.name) : 0;
}

struct rename_args {
	struct change_args change; /* first: put_changed sees this */
	const char *new_name;
};

static int rename_fn(struct mw_call *call, struct db_txn *txn)
{
	struct rename_args *args = call->arg;
	struct meta_disk *taken = meta_disk_get_by_name(call->pool, args->new_name);

	if (taken) {
		meta_disk_put(taken);
		return base_error_set(call->err, -EEXIST, "there is a disk named %s already", args->new_name);
	}
	args->change.rec = args->change.disk->record;
	strcpy(args->change.rec.name, args->new_name); /* its length was checked */
	return put_changed(call, txn);
}

static void rename_applied(struct mw_call *call)
{
	struct rename_args *args = call->arg;

	catalog_rename(args->change.disk, args->new_name);
	changed_note(call->pool, args->change.disk->number, META_CHANGED_DATA, call->record->commit);
	event_tell(call->pool, META_EVENT_DISK_RENAMED, args->new_name, 0, 0);
}

int meta_disk_rename(struct meta_disk *disk, const char *new_name, struct base_error *err)
{
	struct rename_args args = { .change.disk = disk, .new_name = new_name };
	struct mw_call call = {
		.fn = rename_fn, .applied = rename_applied, .may_use_reserve = true, .arg = &args, .err = err
	};
	int rc = meta_name_check(new_name, err);

	return rc < 0 ? rc : mw_call_wait(disk->pool, &call);
}

struct attr_args {
	struct change_args change; /* first */
	unsigned which;
	const struct meta_disk_attr *attr;
};

static int attr_fn(struct mw_call *call, struct db_txn *txn)
{
	struct attr_args *args = call->arg;
	struct meta_disk_record *rec = &args->change.rec;

	*rec = args->change.disk->record;
	if (args->which & META_ATTR_MODE)
		rec->mode = args->attr->mode & 07777;
	if ((args->which & META_ATTR_OWNER) && args->attr->uid != UINT32_MAX)
		rec->uid = args->attr->uid;
	if ((args->which & META_ATTR_OWNER) && args->attr->gid != UINT32_MAX)
		rec->gid = args->attr->gid;
	if (args->which & META_ATTR_MODIFIED)
		rec->modified_s = args->attr->modified_s;
	if (args->which & META_ATTR_LABELS)
		memcpy(rec->labels, args->attr->labels, sizeof(rec->labels));
	return put_changed(call, txn);
}

static void attr_applied(struct mw_call *call)
{
	struct attr_args *args = call->arg;

	args->change.disk->record = args->change.rec;
}

int meta_disk_set_attr(struct meta_disk *disk, unsigned which, const struct meta_disk_attr *attr,
		       struct base_error *err)
{
	struct attr_args args = { .change.disk = disk, .which = which, .attr = attr };
	struct mw_call call = {
		.fn = attr_fn, .applied = attr_applied, .may_use_reserve = true, .arg = &args, .err = err
	};

	return mw_call_wait(disk->pool, &call);
}

/* ---- claims ------------------------------------------------------------------------------- */

bool meta_claim_for(struct meta_disk *disk, uint64_t size_bytes)
{
	uint64_t goal = catalog_goal_chunks(atomic_load(&disk->kind), size_bytes);

	return goal == 0 || space_claim_set(&disk->pool->space, &meta_io_store(disk)->claim, goal, NULL) == 0;
}

void meta_claim_fit(struct meta_disk *disk)
{
	uint64_t goal = catalog_goal_chunks(atomic_load(&disk->kind), atomic_load(&disk->size_bytes));

	/* Never refused: it is what was granted before, or less. */
	if (space_claim_set(&disk->pool->space, &meta_io_store(disk)->claim, goal, NULL) < 0)
		log_warning("the space reserved for disk %s is no longer there", disk->record.name);
}

/* ---- size --------------------------------------------------------------------------------- */

struct resize_call {
	struct mw_call call;
	struct change_args change;
	struct meta_resize *resize;
};

/* What the disk is promised before it may be larger or thick. It gets less only when the change is durable. */
static int raise_claim(struct meta_pool *pool, struct meta_resize *resize)
{
	struct meta_disk *disk = resize->disk;
	uint8_t kind = resize->kind >= 0 ? (uint8_t)resize->kind : atomic_load(&disk->kind);
	uint64_t goal = catalog_goal_chunks(kind, resize->size_bytes);

	if (goal <= catalog_goal_chunks(atomic_load(&disk->kind), atomic_load(&disk->size_bytes)))
		return 0;
	catalog_recall_windows(pool);
	return space_claim_set(&pool->space, &meta_io_store(disk)->claim, goal, NULL);
}

/* What a shrink cuts off never shows again. The block that the new end lies in is the head's own by now, or zero (see
 * iocore/thin_size.c), so it is cut off too. */
static uint64_t lowered(struct meta_store *store, uint64_t size_bytes)
{
	return MIN(store->layer.overlap_bytes, round_down_to(size_bytes, BLOCK_BYTES));
}

static int lower_overlap(struct db_txn *txn, const struct meta_resize *resize)
{
	struct meta_store *store = atomic_load(&resize->disk->store);
	struct meta_layer_record layer = store->layer;

	layer.overlap_bytes = lowered(store, resize->size_bytes);
	if (layer.overlap_bytes == store->layer.overlap_bytes)
		return 0;
	return catalog_put_layer(txn, store->layer_id, &layer);
}

/*
 * The block that the durable size ends in may hold bytes past that end, after a shrink. Whoever made the disk longer
 * has zeroed them: this request, or a write whose growth no commit knows yet, also when this request makes the disk
 * shorter again. A larger size must not become durable before those zeros.
 */
static bool needs_sync(const struct meta_resize *resize)
{
	uint64_t durable_bytes = resize->disk->record.size_bytes;

	return resize->size_bytes > durable_bytes && durable_bytes % BLOCK_BYTES != 0 &&
	       !planted(BUG_RESIZE_NO_SYNC);
}

static int sync_before_growth(struct meta_pool *pool)
{
	return pool_sync_pvs(pool) < 0 ? -EIO : 0;
}

static int resize_fn(struct mw_call *call, struct db_txn *txn)
{
	struct resize_call *rc_call = container_of(call, struct resize_call, call);
	struct meta_resize *resize = rc_call->resize;
	struct meta_disk_record *rec = &rc_call->change.rec;
	uint64_t old_bytes = atomic_load(&resize->disk->size_bytes);

	if (resize->kind >= 0)
		resize->size_bytes = old_bytes;
	int rc = raise_claim(call->pool, resize);
	if (rc == 0 && needs_sync(resize))
		rc = sync_before_growth(call->pool);
	if (rc < 0)
		return rc;
	*rec = resize->disk->record;
	rec->size_bytes = resize->size_bytes;
	if (resize->kind >= 0)
		rec->kind = (uint8_t)resize->kind;
	rec->modified_s = base_clock_wall_s();
	rec->resize_count++;
	if (resize->size_bytes < old_bytes)
		rec->trim_above_bytes = MIN(rec->trim_above_bytes, round_up_to(resize->size_bytes, BLOCK_BYTES));
	call->arg = &rc_call->change;
	rc = put_changed(call, txn);
	return rc == 0 && resize->size_bytes < old_bytes ? lower_overlap(txn, resize) : rc;
}

static void resize_applied(struct mw_call *call)
{
	struct resize_call *rc_call = container_of(call, struct resize_call, call);
	struct meta_disk *disk = rc_call->resize->disk;
	struct meta_store *store = atomic_load(&disk->store);
	bool shrinks = rc_call->resize->size_bytes < atomic_load(&disk->size_bytes);

	disk->record = rc_call->change.rec;
	atomic_store(&disk->size_bytes, rc_call->resize->size_bytes);
	atomic_store(&disk->kind, disk->record.kind);
	disk_forget_size(disk);
	changed_note(call->pool, disk->number, META_CHANGED_DATA, call->record->commit);
	event_tell(call->pool, META_EVENT_DISK_RESIZED, disk->record.name, disk->record.size_bytes, 0);
	if (!shrinks)
		return;
	store->layer.overlap_bytes = lowered(store, rc_call->resize->size_bytes);
	/* It never rises: the fold of the lowest layer may have brought it to 0, and not told the record yet. */
	atomic_store(&store->overlap_bytes, MIN(atomic_load(&store->overlap_bytes), store->layer.overlap_bytes));
	pthread_mutex_lock(&call->pool->jobs_lock);
	atomic_store(&disk->trimming, true);
	pthread_mutex_unlock(&call->pool->jobs_lock);
	int rc = bg_add_clear(call->pool, store, disk, disk->record.trim_above_bytes);
	if (rc == 0)
		return;
	pthread_mutex_lock(&call->pool->jobs_lock);
	disk->trim_error = rc;
	pthread_mutex_unlock(&call->pool->jobs_lock);
	log_warning(
			"no memory to free the space above the end of disk %s now: it comes back at the next open, "
			"and until then the disk can't grow",
			disk->record.name);
}

static void resize_finished(struct mw_call *call)
{
	struct resize_call *rc_call = container_of(call, struct resize_call, call);

	meta_claim_fit(rc_call->resize->disk);
	wait_post(&rc_call->resize->wait, call->result);
	free(rc_call);
}

void meta_resize_submit(struct meta_resize *resize)
{
	struct resize_call *rc_call = calloc(1, sizeof(*rc_call));

	if (!rc_call) {
		wait_post(&resize->wait, -ENOMEM);
		return;
	}
	rc_call->resize = resize;
	rc_call->change.disk = resize->disk;
	rc_call->call = (struct mw_call){
		.fn = resize_fn, .applied = resize_applied, .finished = resize_finished, .may_use_reserve = true
	};
	mw_call_post(resize->disk->pool, &rc_call->call);
}
