/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making logical volumes, see volume.h.
 *
 * A volume of 1 TiB is 16 million chunks and 131,072 leaves: too much for the
 * memory of leaves and for one transaction that all flushes would wait behind.
 * So it is built under a layer that is *dead* from its first transaction on:
 *
 *   1  promise the whole size; take the chunks, the best run first
 *   2  in slices of SLICE_LEAVES: leaves, index, the bits of their chunks, the
 *      layer's counters, each slice a transaction
 *   3  in the last transaction the layer comes alive, and the disk is there
 *
 * A crash before that leaves a dead layer, which the next open frees like that
 * of a removed disk. So does a failure, in the background. Nobody else knows the
 * layer, so its leaves need not be in memory, and no restart record is made.
 *
 * The best run is the shortest that is long enough, or, when there is none, the
 * longest: so few runs as can be. After BEST_RUNS of them the pool is in small
 * pieces, and the rest is taken as it comes.
 *
 * Failure modes: -ENOSPC when not all of it can be promised, or from the
 * metadata's file system; -ENOMEM. Nothing of it stays, at the latest when the
 * background has been there.
 */
#include "meta/volume.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/units.h"
#include "base/uuid.h"
#include "meta/internal.h"

#define SLICE_LEAVES 256
#define BEST_RUNS 64

struct cursor {
	size_t run;
	uint32_t in_run;
};

struct build {
	struct meta_pool *pool;
	const struct meta_disk_spec *spec;
	struct space_run *runs;
	size_t run_count, run_room;
	uint64_t want, done; /* chunks; done: in durable slices */
	struct cursor at;    /* of `done` */
	uint64_t slice_chunks;
	uint64_t number, layer_id;
	struct meta_layer_record layer, layer_next;
	struct meta_store *store; /* has the claim */
	struct meta_disk *disk;
};

/* ---- 1: space ----------------------------------------------------------------------------- */

static int push_run(struct build *b, struct space_run run)
{
	if (b->run_count == b->run_room) {
		size_t room = MAX(b->run_room * 2, (size_t)64);
		struct space_run *grown = realloc(b->runs, room * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		b->runs = grown;
		b->run_room = room;
	}
	b->runs[b->run_count++] = run;
	return 0;
}

static void give_back(struct build *b, const struct space_run *run)
{
	space_untake(&b->pool->space, &b->store->claim, run->first, run->count);
}

static int take_space(struct build *b)
{
	struct space *space = &b->pool->space;
	struct space_run run;
	int rc = 0;

	for (uint64_t left = b->want; left > 0 && rc == 0; left -= run.count) {
		run.count = space_take_run(space, &b->store->claim, (uint32_t)MIN(left, UINT32_MAX),
					   b->run_count < BEST_RUNS, &run.first);
		if (run.count == 0)
			return -EAGAIN; /* promised, and on its way back to free */
		rc = push_run(b, run);
		if (rc < 0)
			give_back(b, &run);
	}
	return rc;
}

static int by_first(const void *pa, const void *pb)
{
	const struct space_run *a = pa, *b = pb;

	return a->first < b->first ? -1 : a->first > b->first;
}

/* What was promised may still be on its way: then a commit, and the background, bring it. */
#define SPACE_TRIES 200
#define SPACE_PAUSE_NS UINT64_C(10000000)

static int have_space(struct build *b, struct base_error *err)
{
	char size[BASE_SIZE_TEXT_BYTES], lack_text[BASE_SIZE_TEXT_BYTES];
	uint64_t lack = 0;
	int rc = space_claim_set(&b->pool->space, &b->store->claim, b->want, &lack);

	if (rc < 0)
		return base_error_set(
			err, rc,
			"%s: no space for a logical volume of %s: the pool lacks %s that is neither used nor "
			"reserved; free space, or add some with chsp -add",
			b->spec->name, base_size_to_text(b->spec->size_bytes, size),
			base_size_to_text(lack * CHUNK_BYTES, lack_text));
	for (unsigned i = 0; i < SPACE_TRIES; i++) {
		rc = take_space(b);
		if (rc != -EAGAIN)
			break;
		while (b->run_count > 0)
			give_back(b, &b->runs[--b->run_count]);
		catalog_recall_windows(b->pool);
		rc = meta_pool_commit(b->pool);
		if (rc < 0)
			break;
		space_hasten(b->pool);
		meta_event_wait(b->pool, UINT64_MAX, SPACE_PAUSE_NS); /* never comes: a pause */
		rc = -EAGAIN;
	}
	if (rc == -EAGAIN)
		return base_error_set(err, -ENOSPC,
				      "%s: the space that is being freed did not come in time: try again",
				      b->spec->name);
	if (rc == 0)
		qsort(b->runs, b->run_count, sizeof(*b->runs), by_first);
	return rc < 0 ? base_error_set_errno(err, rc, "%s", b->spec->name) : 0;
}

/* ---- 2: a slice --------------------------------------------------------------------------- */

/* The part of one run at the cursor, at most `most` chunks. */
static struct space_run next_part(const struct build *b, struct cursor *at, uint64_t most)
{
	const struct space_run *run = &b->runs[at->run];
	struct space_run part = { .first = run->first + at->in_run,
				  .count = (uint32_t)MIN(run->count - at->in_run, most) };

	at->in_run += part.count;
	if (at->in_run == run->count)
		*at = (struct cursor){ .run = at->run + 1 };
	return part;
}

static int put_leaf(struct build *b, struct db_txn *txn, uint64_t number, uint64_t chunks, struct cursor *at)
{
	struct db_key key = db_key_u64_u64(b->layer.store_id, number);
	uint8_t encoded[META_LEAF_ENCODED_BYTES_MAX];
	meta_entry entries[LEAF_CHUNKS] = { 0 };
	unsigned filled = 0;

	while (filled < chunks) {
		struct space_run part = next_part(b, at, chunks - filled);
		for (uint32_t i = 0; i < part.count; i++)
			entries[filled++] = meta_entry_make((struct pchunk){ part.first + i }, 0, 0);
	}
	return db_put(txn, DB_MAP, &key, encoded, meta_leaf_encode(entries, encoded));
}

/* Leaves [first, end) of one group are there from now on. */
static int put_index(struct build *b, struct db_txn *txn, uint64_t first, uint64_t end)
{
	struct db_key key = db_key_u64_u64(b->layer.store_id, first >> GROUP_SHIFT);
	struct meta_index_record rec = { 0 };
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct db_value value;
	int rc = db_get(txn, DB_INDEX, &key, &value);

	if (rc == 0)
		rc = meta_index_decode(value.b, value.bytes, &rec);
	else if (rc == DB_NOT_FOUND)
		b->layer_next.index_records++;
	rc = rc == DB_NOT_FOUND ? 0 : rc;
	if (rc < 0)
		return rc;
	for (uint64_t n = first; n < end; n++)
		rec.present[n % GROUP_LEAVES / 8] |= (uint8_t)(1u << (n % 8));
	return db_put(txn, DB_INDEX, &key, buf, meta_index_encode(&rec, buf));
}

static int put_leaves(struct build *b, struct db_txn *txn)
{
	uint64_t first = b->done / LEAF_CHUNKS, end_chunk = b->done + b->slice_chunks;
	uint64_t end = (end_chunk + LEAF_CHUNKS - 1) / LEAF_CHUNKS;
	struct cursor at = b->at;
	int rc = 0;

	for (uint64_t n = first; n < end && rc == 0; n++)
		rc = put_leaf(b, txn, n, MIN(end_chunk - n * LEAF_CHUNKS, (uint64_t)LEAF_CHUNKS), &at);
	for (uint64_t n = first; n < end && rc == 0;) {
		uint64_t stop = MIN(end, ((n >> GROUP_SHIFT) + 1) << GROUP_SHIFT);
		rc = put_index(b, txn, n, stop);
		n = stop;
	}
	return rc;
}

/* The first `chunks` of the slice. */
static void clear_owned(struct build *b, uint64_t chunks)
{
	struct cursor at = b->at;

	while (chunks > 0) {
		struct space_run part = next_part(b, &at, chunks);
		for (uint32_t i = 0; i < part.count; i++)
			(void)space_owned_clear(&b->pool->space, part.first + i);
		chunks -= part.count;
	}
}

static int set_owned(struct build *b)
{
	struct cursor at = b->at;
	uint64_t done = 0;

	while (done < b->slice_chunks) {
		struct space_run part = next_part(b, &at, b->slice_chunks - done);
		for (uint32_t i = 0; i < part.count; i++, done++) {
			if (space_owned_set(&b->pool->space, part.first + i))
				continue;
			clear_owned(b, done);
			return -EBADMSG;
		}
	}
	return 0;
}

static int put_space(struct build *b, struct db_txn *txn)
{
	struct cursor at = b->at;
	uint64_t last = UINT64_MAX;
	int rc = 0;

	for (uint64_t left = b->slice_chunks; left > 0 && rc == 0;) {
		struct space_run part = next_part(b, &at, left);
		uint64_t end = (part.first + (uint64_t)part.count - 1) / SPACE_GROUP_CHUNKS;
		for (uint64_t group = part.first / SPACE_GROUP_CHUNKS; group <= end && rc == 0; group++)
			if (group != last)
				rc = commit_put_space_group(b->pool, txn, last = group);
		left -= part.count;
	}
	return rc;
}

static void slice_undone(struct mw_call *call)
{
	struct build *b = call->arg;

	clear_owned(b, b->slice_chunks);
}

static int slice_fn(struct mw_call *call, struct db_txn *txn)
{
	struct build *b = call->arg;

	if (b->layer_id == 0) {
		b->number = call->record->next_id++;
		b->layer_id = call->record->next_id++;
		b->layer =
			(struct meta_layer_record){ .store_id = call->record->next_id++, .state = META_LAYER_DEAD };
	}
	b->layer_next = b->layer;
	b->layer_next.chunks_owned += b->slice_chunks;
	int rc = put_leaves(b, txn);
	if (rc == 0)
		rc = catalog_put_layer(txn, b->layer_id, &b->layer_next);
	if (rc == 0)
		rc = set_owned(b);
	if (rc < 0)
		return base_error_set_errno(call->err, rc, "%s", b->spec->name);
	rc = put_space(b, txn);
	if (rc < 0)
		clear_owned(b, b->slice_chunks);
	return rc < 0 ? base_error_set_errno(call->err, rc, "%s", b->spec->name) : 0;
}

static void slice_applied(struct mw_call *call)
{
	struct build *b = call->arg;
	uint64_t left = b->slice_chunks;

	b->layer = b->layer_next;
	atomic_fetch_add(&b->pool->space.mapped, b->slice_chunks);
	b->done += b->slice_chunks;
	while (left > 0)
		left -= next_part(b, &b->at, left).count;
}

static int build_slices(struct build *b, struct base_error *err)
{
	int rc = 0;

	while (b->done < b->want && rc == 0) {
		struct mw_call call = {
			.fn = slice_fn, .applied = slice_applied, .undone = slice_undone, .arg = b, .err = err
		};
		b->slice_chunks = MIN(b->want - b->done, (uint64_t)SLICE_LEAVES * LEAF_CHUNKS);
		rc = mw_call_wait(b->pool, &call);
	}
	return rc;
}

/* ---- 3: alive ----------------------------------------------------------------------------- */

static int finish_fn(struct mw_call *call, struct db_txn *txn)
{
	struct build *b = call->arg;
	struct meta_disk_record rec;
	struct meta_disk *taken = meta_disk_get_by_name(b->pool, b->spec->name);

	if (taken) {
		meta_disk_put(taken);
		return base_error_set(call->err, -EEXIST, "there is a disk named %s already", b->spec->name);
	}
	catalog_fill_record(b->spec, &rec);
	rec.kind = META_DISK_LV;
	rec.head_layer = b->layer_id;
	b->layer_next = b->layer;
	b->layer_next.state = META_LAYER_LIVE;
	b->layer_next.owner_disk = b->number;
	b->disk = catalog_disk_new(b->pool, b->number, &rec, b->store);
	int rc = b->disk ? catalog_put_layer(txn, b->layer_id, &b->layer_next) : -ENOMEM;
	if (rc == 0)
		rc = catalog_put_disk(txn, b->number, &rec);
	return rc < 0 ? base_error_set_errno(call->err, rc, "%s", b->spec->name) : 0;
}

static void finish_applied(struct mw_call *call)
{
	struct build *b = call->arg;

	b->store->layer = b->layer_next;
	catalog_insert(b->disk);
	event_tell(b->pool, META_EVENT_DISK_CREATED, b->spec->name, b->spec->size_bytes, 0);
}

/* ---- failure ------------------------------------------------------------------------------ */

/* What is not in a slice goes back at once, the rest by way of a clear job for the dead layer. */
static void abandon(struct build *b)
{
	struct meta_pool *pool = b->pool;
	struct cursor at = b->at;

	while (at.run < b->run_count) {
		struct space_run part = next_part(b, &at, UINT32_MAX);
		give_back(b, &part);
	}
	space_claim_drop(&pool->space, &b->store->claim);
	if (b->disk)
		catalog_disk_drop(b->disk);
	if (b->done == 0 || b->store->layer_id == 0) { /* no memory for a store of its own: the next open frees it */
		store_free(b->store);
		return;
	}
	if (store_load_index(b->store, NULL) < 0) {
		store_free(b->store);
		return; /* the next open frees it */
	}
	pthread_mutex_lock(&pool->catalog_lock);
	store_link(b->store);
	if (bg_add_clear(pool, b->store, NULL, 0) < 0)
		log_warning("no memory to free what was made of %s: it comes back at the next open", b->spec->name);
	else
		b->store->refs--; /* the job's is the only reference */
	pthread_mutex_unlock(&pool->catalog_lock);
}

/* The store that the disk, or the clear job, works with knows its layer now. */
static int make_store(struct build *b, struct base_error *err)
{
	struct meta_store *store = store_new(b->pool, b->layer_id, &b->layer);

	if (!store)
		return base_error_set_errno(err, -ENOMEM, "%s", b->spec->name);
	space_claim_move(&b->pool->space, &b->store->claim, &store->claim);
	store_free(b->store);
	b->store = store;
	return 0;
}

static int build_volume(struct build *b, struct base_error *err)
{
	struct mw_call call = { .fn = finish_fn, .applied = finish_applied, .arg = b, .err = err };
	int rc = have_space(b, err), store_rc;

	if (rc == 0)
		rc = build_slices(b, err);
	store_rc = b->done > 0 ? make_store(b, rc == 0 ? err : NULL) : 0;
	if (rc == 0)
		rc = store_rc;
	if (rc == 0)
		rc = mw_call_wait(b->pool, &call);
	if (rc < 0)
		abandon(b);
	return rc;
}

static int check(struct meta_pool *pool, const struct meta_disk_spec *spec, struct base_error *err)
{
	struct meta_disk *taken;
	int rc = catalog_check_spec(spec, err);

	if (rc < 0)
		return rc;
	assert(spec->size_bytes > 0 && spec->size_bytes % META_PP_BYTES == 0);
	if (pool->read_only)
		return base_error_set(err, -EROFS, "the pool is open read-only");
	if (reserve_is_short(pool))
		return base_error_set(err, -ENOSPC, "the file system that holds the metadata (%s) is nearly full",
				      pool->dir);
	taken = meta_disk_get_by_name(pool, spec->name);
	if (!taken)
		return 0;
	meta_disk_put(taken);
	return base_error_set(err, -EEXIST, "there is a disk named %s already", spec->name);
}

int meta_volume_create(struct meta_pool *pool, const struct meta_disk_spec *spec, uint64_t *ret_number,
		       struct base_error *err)
{
	static const struct meta_layer_record none = { .store_id = UINT64_MAX };
	struct build b = { .pool = pool, .spec = spec, .want = spec->size_bytes / CHUNK_BYTES };
	int rc = check(pool, spec, err);

	if (rc < 0)
		return rc;
	b.store = store_new(pool, 0, &none);
	if (!b.store)
		return base_error_set_errno(err, -ENOMEM, "%s", spec->name);
	rc = meta_pool_await_space(pool, spec->size_bytes, err);
	if (rc < 0) {
		store_free(b.store);
		return rc;
	}
	rc = build_volume(&b, err);
	free(b.runs);
	if (rc == 0)
		*ret_number = b.number;
	return rc;
}

/* ---- extents ------------------------------------------------------------------------------ */

struct walk {
	struct meta_pool *pool;
	int (*fn)(const struct meta_extent *extent, void *ctx);
	void *ctx;
	struct meta_extent extent; /* bytes 0: none */
};

static int walk_chunk(struct walk *walk, uint64_t number, struct pchunk chunk)
{
	struct meta_extent *extent = &walk->extent;
	uint64_t pv_byte;
	unsigned pv;
	int rc = 0;

	if (chunk.n == 0)
		return 0;
	if (!meta_io_locate(walk->pool, chunk, &pv, &pv_byte))
		return -EBADMSG;
	if (extent->bytes && extent->offset_bytes + extent->bytes == number * CHUNK_BYTES && extent->pv == pv &&
	    extent->pv_byte + extent->bytes == pv_byte) {
		extent->bytes += CHUNK_BYTES;
		return 0;
	}
	if (extent->bytes)
		rc = walk->fn(extent, walk->ctx);
	*extent = (struct meta_extent){ number * CHUNK_BYTES, CHUNK_BYTES, pv, pv_byte };
	return rc;
}

static int walk_store(struct walk *walk, struct meta_store *store)
{
	meta_entry entries[LEAF_CHUNKS];
	struct db_txn *slot = NULL;
	int rc = 0;

	for (uint64_t number = 0; rc == 0; number++) {
		number = meta_map_next_leaf(store, number);
		if (number == UINT64_MAX)
			break;
		/* In memory and not on disk: it has nothing that is committed. */
		if (!store_leaf_is_present(store, number))
			continue;
		rc = leaf_read(store, number, &slot, entries);
		for (unsigned i = 0; i < LEAF_CHUNKS && rc == 0; i++)
			rc = walk_chunk(walk, number * LEAF_CHUNKS + i, meta_entry_chunk(entries[i]));
	}
	db_read_free(slot);
	return rc;
}

int meta_disk_extents(struct meta_disk *disk, int (*fn)(const struct meta_extent *extent, void *ctx), void *ctx,
		      struct base_error *err)
{
	struct walk walk = { .pool = disk->pool, .fn = fn, .ctx = ctx };
	int rc = meta_disk_open(disk, err); /* loads the index, and keeps the disk */

	if (rc < 0)
		return rc;
	rc = walk_store(&walk, meta_io_store(disk));
	if (rc == 0 && walk.extent.bytes)
		rc = fn(&walk.extent, ctx);
	meta_disk_close(disk);
	return rc < 0 ? base_error_set_errno(err, rc, "%s: its map can't be read", disk->record.name) : rc;
}
