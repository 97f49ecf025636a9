/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Look-ups: reading a leaf, or making a view, that is not in memory.
 *
 * LMDB can fault on a cold page, so a queue thread never looks itself. It hands
 * the leaf's number over and is told when the leaf is there; any number of
 * requests wait for one look-up of a leaf, or of a view (store.loads). What was
 * read for a request is kept for it (cache.c).
 *
 * Absence is data too: index record and leaf are read in one transaction, so a
 * presence bit without a leaf, or a leaf without its bit, is corruption and is
 * answered with -EBADMSG, never with a hole.
 *
 * Failure modes: a damaged record: the waiting requests fail, the leaf stays a
 * miss, and the next request tries again. A read error of LMDB's map fails the
 * pool: what is in memory is served, nothing else is.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "meta/internal.h"

static int index_has(struct db_txn *txn, struct meta_store *store, uint64_t leaf_number, bool *ret)
{
	struct db_key key = db_key_u64_u64(store->id, leaf_number >> GROUP_SHIFT);
	struct meta_index_record rec;
	struct db_value value;
	uint64_t i = leaf_number % GROUP_LEAVES;

	*ret = false;
	int rc = db_get(txn, DB_INDEX, &key, &value);
	if (rc != 0)
		return rc == DB_NOT_FOUND ? 0 : rc;
	rc = meta_index_decode(value.b, value.bytes, &rec);
	if (rc == 0)
		*ret = rec.present[i / 8] >> (i % 8) & 1;
	return rc;
}

static int read_in(struct db_txn *txn, struct meta_store *store, uint64_t leaf_number, meta_entry *entries)
{
	struct db_key key = db_key_u64_u64(store->id, leaf_number);
	struct db_value value;
	bool present;

	int rc = index_has(txn, store, leaf_number, &present);
	if (rc != 0)
		return rc;
	rc = db_get(txn, DB_MAP, &key, &value);
	if (rc < 0)
		return rc;
	if ((rc == 0) != present)
		return -EBADMSG;
	if (rc == DB_NOT_FOUND) {
		memset(entries, 0, LEAF_CHUNKS * sizeof(*entries));
		return 0;
	}
	return meta_leaf_decode(value.b, value.bytes, entries);
}

int leaf_read(struct meta_store *store, uint64_t leaf_number, struct db_txn **slot, meta_entry *entries)
{
	int rc = db_read_begin(store->pool->env, slot);

	if (rc < 0)
		return rc;
	atomic_fetch_add_explicit(&store->pool->lookups, 1, memory_order_relaxed);
	rc = read_in(*slot, store, leaf_number, entries);
	db_read_end(*slot);
	if (db_is_dead(store->pool->env)) {
		pool_fail(store->pool, -EIO, "the metadata can't be read");
		base_park_wake(&store->pool->mw_park); /* it has somebody to answer, perhaps */
	} else if (rc < 0)
		log_error("map record of leaf %" PRIu64 " of store %" PRIu64
			  " can't be used (%s); requests to it fail; run `bdfs check`",
			  leaf_number, store->id, rc == -EBADMSG ? "it is damaged" : strerror(-rc));
	return rc;
}

int leaf_copy_now(struct meta_store *store, uint64_t leaf_number, struct db_txn **slot, meta_entry *entries)
{
	struct meta_leaf *leaf;
	uint64_t epoch = pool_epoch_enter(store->pool);
	int rc = meta_map_find(store, leaf_number, &leaf);

	for (unsigned i = 0; i < LEAF_CHUNKS; i++)
		entries[i] = rc == 0 ? meta_leaf_entry(leaf, i) : 0;
	pool_epoch_leave(store->pool, epoch);
	return rc == META_MISS ? leaf_read(store, leaf_number, slot, entries) : 0;
}

int store_load_leaf_now(struct meta_store *store, uint64_t leaf_number, struct db_txn **slot, struct meta_leaf **ret)
{
	meta_entry entries[LEAF_CHUNKS];

	for (;;) {
		int rc = meta_map_find(store, leaf_number, ret);
		if (rc != META_MISS)
			return rc;
		uint64_t commits = atomic_load(&store->commits);
		rc = leaf_read(store, leaf_number, slot, entries);
		if (rc < 0)
			return rc;
		pthread_mutex_lock(&store->lock);
		/* A look-up thread may have been quicker; and somebody may have changed that leaf, MW have committed it
		 * and BG have evicted it since: then what was read is of before (see finish()). */
		rc = meta_map_find(store, leaf_number, ret);
		if (rc == META_MISS && atomic_load(&store->commits) == commits)
			rc = (*ret = store_install(store, leaf_number, entries)) ? 0 : -ENOMEM;
		pthread_mutex_unlock(&store->lock);
		if (rc != META_MISS)
			return rc;
	}
}

/* ---- requests that wait ------------------------------------------------------------------- */

static struct leaf_load *load_under_way(const struct meta_missing *missing)
{
	struct leaf_load *load = missing->store->loads;

	while (load && (load->number != missing->leaf_number || load->view != missing->view))
		load = load->next;
	return load;
}

static void enqueue(struct meta_pool *pool, struct leaf_load *load)
{
	pthread_mutex_lock(&pool->lookup_lock);
	load->queue_next = NULL;
	*pool->lookup_tail = load;
	pool->lookup_tail = &load->queue_next;
	pthread_cond_signal(&pool->lookup_cond);
	pthread_mutex_unlock(&pool->lookup_lock);
}

static struct leaf_load *load_new(const struct meta_missing *missing)
{
	struct leaf_load *load = calloc(1, sizeof(*load));

	if (!load)
		return NULL;
	*load = (struct leaf_load){ .store = missing->store,
				    .number = missing->leaf_number,
				    .view = missing->view,
				    .next = missing->store->loads };
	missing->store->loads = load;
	return load;
}

/* store.lock. False: it is still missing. *ret is NULL when there is nothing to be kept: a hole. */
static bool find_item(const struct meta_missing *missing, struct cache_item **ret)
{
	struct meta_store *store = missing->store;
	struct meta_leaf *leaf;

	*ret = NULL;
	if (missing->view) {
		uint64_t moves = atomic_load(&store->pool->move_counts[missing->leaf_number % MOVE_BUCKETS]);
		struct meta_view *view = view_find(store, missing->leaf_number, moves);
		if (view)
			*ret = &view->item;
		return view;
	}
	int rc = meta_map_find(store, missing->leaf_number, &leaf);
	if (rc == 0)
		*ret = &leaf->item;
	return rc != META_MISS;
}

/* store.lock, in an epoch. What was missing and has come in since is kept for who asks. */
static bool keep_item(const struct meta_missing *missing, struct cache_item **ret_kept)
{
	bool found = find_item(missing, ret_kept);

	if (*ret_kept && !cache_keep(missing->store, *ret_kept)) {
		*ret_kept = NULL;
		return false; /* it is just being evicted */
	}
	return found;
}

void meta_map_load(const struct meta_missing *missing, struct meta_wait *wait)
{
	struct meta_store *store = missing->store;
	struct leaf_load *load = NULL, *fresh = NULL;

	atomic_fetch_add_explicit(&store->pool->misses, 1, memory_order_relaxed);
	pthread_mutex_lock(&store->lock);
	/* It may have come in since the caller missed it: then planning anew finds it. */
	bool there = keep_item(missing, &wait->kept);
	if (!there) {
		load = load_under_way(missing);
		if (!load)
			load = fresh = load_new(missing);
		if (load) {
			wait->next = load->waiters;
			load->waiters = wait;
		}
	}
	pthread_mutex_unlock(&store->lock);
	if (there || !load)
		wait_post(wait, there ? 0 : -ENOMEM);
	else if (fresh)
		enqueue(store->pool, fresh);
}

/* store.lock. Each one that waits keeps what was read. */
static void keep_for_all(const struct meta_missing *missing, struct meta_wait *waiters)
{
	for (; waiters; waiters = waiters->next)
		(void)keep_item(missing, &waiters->kept);
}

/* A commit of the store since the leaf was read may have changed it: then it is not installed, and who waits asks
 * again. The same goes for a view and a fold, but there it is the finder who sees it. */
static int install(const struct leaf_load *load, const meta_entry *entries, struct meta_view *view, uint64_t commits)
{
	struct meta_store *store = load->store;
	struct meta_leaf *leaf;

	if (view)
		return view_install(view) ? 0 : -ENOMEM;
	if (atomic_load(&store->commits) != commits || meta_map_find(store, load->number, &leaf) != META_MISS)
		return 0;
	return store_install(store, load->number, entries) ? 0 : -ENOMEM;
}

static void finish(struct leaf_load *load, const meta_entry *entries, struct meta_view *view, uint64_t commits, int rc)
{
	struct meta_missing missing = { .store = load->store, .leaf_number = load->number, .view = load->view };
	struct leaf_load **at = &load->store->loads;

	pthread_mutex_lock(&missing.store->lock);
	if (rc == 0)
		rc = install(load, entries, view, commits);
	while (*at != load)
		at = &(*at)->next;
	*at = load->next;
	struct meta_wait *waiters = load->waiters;
	if (rc == 0)
		keep_for_all(&missing, waiters);
	pthread_mutex_unlock(&missing.store->lock);
	free(load);
	wait_post_all(&waiters, rc);
}

static struct leaf_load *take_first(struct meta_pool *pool)
{
	pthread_mutex_lock(&pool->lookup_lock);
	struct leaf_load *load = pool->lookup_head;
	if (load) {
		pool->lookup_head = load->queue_next;
		if (!pool->lookup_head)
			pool->lookup_tail = &pool->lookup_head;
	}
	pthread_mutex_unlock(&pool->lookup_lock);
	return load;
}

/* In an epoch of its own: a view is made of leaves in memory too, and layers come and go. */
static bool step(struct meta_pool *pool, struct db_txn **slot, unsigned participant)
{
	struct leaf_load *load = take_first(pool);
	meta_entry entries[LEAF_CHUNKS];
	struct meta_view *view = NULL;

	if (!load)
		return false;
	uint64_t epoch = meta_epoch_enter(&pool->epochs, participant);
	uint64_t commits = atomic_load(&load->store->commits);
	int rc = load->view ? view_make(load->store, load->number, slot, &view)
			    : leaf_read(load->store, load->number, slot, entries);
	finish(load, entries, view, commits, rc);
	meta_epoch_leave(&pool->epochs, participant, epoch);
	return true;
}

bool lookup_step(struct meta_pool *pool, struct db_txn **slot)
{
	return step(pool, slot, pool->lookup_participant);
}

/* ---- who can wait ------------------------------------------------------------------------- */

static int load_view_now(const struct meta_missing *missing, struct db_txn **slot, struct cache_item **ret_kept)
{
	struct meta_store *store = missing->store;
	struct meta_view *view;
	int rc = view_make(store, missing->leaf_number, slot, &view);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&store->lock);
	rc = view_install(view) ? 0 : -ENOMEM;
	if (rc == 0)
		(void)keep_item(missing, ret_kept);
	pthread_mutex_unlock(&store->lock);
	return rc;
}

int map_load_now(const struct meta_missing *missing, struct db_txn **slot, struct cache_item **ret_kept)
{
	struct meta_leaf *leaf;

	*ret_kept = NULL;
	if (missing->view)
		return load_view_now(missing, slot, ret_kept);
	int rc = store_load_leaf_now(missing->store, missing->leaf_number, slot, &leaf);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&missing->store->lock);
	(void)keep_item(missing, ret_kept);
	pthread_mutex_unlock(&missing->store->lock);
	return 0;
}

/* ---- threads ------------------------------------------------------------------------------ */

static void *lookup_main(void *arg)
{
	struct meta_pool *pool = arg;
	struct db_txn *slot = NULL;
	unsigned participant = meta_epoch_join(&pool->epochs);

	for (;;) {
		while (step(pool, &slot, participant))
			;
		pthread_mutex_lock(&pool->lookup_lock);
		while (!pool->lookup_head && !pool->lookup_stop)
			pthread_cond_wait(&pool->lookup_cond, &pool->lookup_lock);
		bool stop = !pool->lookup_head && pool->lookup_stop;
		pthread_mutex_unlock(&pool->lookup_lock);
		if (stop)
			break;
	}
	db_read_free(slot);
	return NULL;
}

int lookup_start(struct meta_pool *pool, unsigned threads)
{
	threads = MIN(threads ? threads : 2, (unsigned)ARRAY_LEN(pool->lookup_threads));
	for (unsigned i = 0; i < threads; i++) {
		int rc = base_thread_start(&pool->lookup_threads[i], "bdfs-lookup", lookup_main, pool);
		if (rc < 0)
			return rc;
		pool->lookup_count++;
	}
	return 0;
}

void lookup_stop(struct meta_pool *pool)
{
	pthread_mutex_lock(&pool->lookup_lock);
	pool->lookup_stop = true;
	pthread_cond_broadcast(&pool->lookup_cond);
	pthread_mutex_unlock(&pool->lookup_lock);
	for (unsigned i = 0; i < pool->lookup_count; i++)
		pthread_join(pool->lookup_threads[i], NULL);
	pool->lookup_count = 0;
}
