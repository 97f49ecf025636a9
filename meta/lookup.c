/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Look-ups: reading a leaf that is not in memory.
 *
 * LMDB can fault on a cold page, so a queue thread never looks itself. It hands
 * the leaf's number over and is told when the leaf is there; any number of
 * requests wait for one look-up of a leaf (store.loads).
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

static struct leaf_load *load_under_way(struct meta_store *store, uint64_t leaf_number)
{
	struct leaf_load *load = store->loads;

	while (load && load->number != leaf_number)
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

void meta_map_load(struct meta_store *store, uint64_t leaf_number, struct meta_wait *wait)
{
	struct meta_leaf *leaf;
	struct leaf_load *fresh = NULL;

	atomic_fetch_add_explicit(&store->pool->misses, 1, memory_order_relaxed);
	pthread_mutex_lock(&store->lock);
	/* It may have come in since the caller missed it: then planning anew finds it. */
	int rc = meta_map_find(store, leaf_number, &leaf);
	if (rc == META_MISS) {
		struct leaf_load *load = load_under_way(store, leaf_number);
		if (!load && (fresh = calloc(1, sizeof(*fresh)))) {
			*fresh = (struct leaf_load){ .store = store, .number = leaf_number, .next = store->loads };
			store->loads = load = fresh;
		}
		if (load) {
			wait->next = load->waiters;
			load->waiters = wait;
		}
		rc = load ? META_MISS : -ENOMEM;
	}
	pthread_mutex_unlock(&store->lock);
	if (rc != META_MISS)
		wait_post(wait, rc < 0 ? rc : 0);
	else if (fresh)
		enqueue(store->pool, fresh);
}

/* A commit of the store since the leaf was read may have changed it: then it is not installed, and who waits asks
 * again. */
static void finish(struct leaf_load *load, const meta_entry *entries, uint64_t commits, int rc)
{
	struct meta_store *store = load->store;
	struct meta_leaf *leaf;
	struct leaf_load **at = &store->loads;

	pthread_mutex_lock(&store->lock);
	if (rc == 0 && atomic_load(&store->commits) == commits &&
	    meta_map_find(store, load->number, &leaf) == META_MISS && !store_install(store, load->number, entries))
		rc = -ENOMEM;
	while (*at != load)
		at = &(*at)->next;
	*at = load->next;
	struct meta_wait *waiters = load->waiters;
	pthread_mutex_unlock(&store->lock);
	free(load);
	wait_post_all(&waiters, rc);
}

bool lookup_step(struct meta_pool *pool, struct db_txn **slot)
{
	meta_entry entries[LEAF_CHUNKS];

	pthread_mutex_lock(&pool->lookup_lock);
	struct leaf_load *load = pool->lookup_head;
	if (load) {
		pool->lookup_head = load->queue_next;
		if (!pool->lookup_head)
			pool->lookup_tail = &pool->lookup_head;
	}
	pthread_mutex_unlock(&pool->lookup_lock);
	if (!load)
		return false;
	uint64_t commits = atomic_load(&load->store->commits);
	atomic_fetch_add_explicit(&pool->lookups, 1, memory_order_relaxed);
	int rc = leaf_read(load->store, load->number, slot, entries);
	finish(load, entries, commits, rc);
	return true;
}

/* ---- threads ------------------------------------------------------------------------------ */

static void *lookup_main(void *arg)
{
	struct meta_pool *pool = arg;
	struct db_txn *slot = NULL;

	for (;;) {
		while (lookup_step(pool, &slot))
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
