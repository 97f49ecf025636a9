/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache of maps: what of the leaves and views stays in memory.
 *
 * One clock of items for the whole pool. An item comes in when a look-up has read
 * it (or a writer made it), and goes when the memory of all is over the limit, the
 * hand comes by, and nobody has used it since the hand was there last. Dirty leaves,
 * those in a commit or a fold, pinned ones and kept ones stay; so the limit is
 * passed by what is under way, and by that only.
 *
 * An item that was evicted is out of its slot; it is freed when the epoch has passed,
 * since a reader may still be in it. A view that a newer one took the place of goes
 * the same way, at the next step.
 *
 * Keeping is the promise that a request ends. It gives back all it holds while it
 * waits for a look-up (docs/threads.md), so without more, what it had read for it
 * before could be gone each time it comes back, for ever, when more requests are in
 * flight than items fit. So what was read for a request is kept for it: counted
 * before it is told, and let go of at the end of its slice. A slice needs two leaves
 * and the two views below them, and the leaf of the end, whatever the number of
 * layers: that times the requests in flight is how far the limit can be passed.
 * Nobody waits for the end of a keep but the eviction and the freeing of a store.
 *
 * kept and CACHE_GONE are one word, so that an item is kept or evicted, not both.
 *
 * Happy path: insert; find (map.c, view.c) sets `referenced`; the hand clears it; out.
 * Failure modes: none. Memory that can't be had is who inserts's.
 */
#include <assert.h>
#include <stdlib.h>

#include "base/planted.h"
#include "meta/internal.h"

#define POLL_NS UINT64_C(1000000)

static struct meta_leaf *leaf_of(struct cache_item *item)
{
	return container_of(item, struct meta_leaf, item);
}

static struct meta_view *view_of(struct cache_item *item)
{
	return container_of(item, struct meta_view, item);
}

static struct meta_store *store_of(struct cache_item *item)
{
	return item->is_view ? view_of(item)->store : leaf_of(item)->store;
}

void cache_init(struct meta_pool *pool, uint64_t limit_bytes)
{
	pool->cache_limit_bytes = limit_bytes;
	pool->cache_clock.prev = pool->cache_clock.next = &pool->cache_clock;
	pool->cache_replaced.prev = pool->cache_replaced.next = &pool->cache_replaced;
	pthread_mutex_init(&pool->cache_lock, NULL);
}

/* What leads to the items counts too, and stays as long as the store; but a quarter is always for items. */
static bool is_over(struct meta_pool *pool)
{
	uint64_t limit = pool->cache_limit_bytes, tables = atomic_load(&pool->cache_tables);

	return atomic_load(&pool->cached_bytes) > MAX(limit - MIN(tables, limit), limit / 4);
}

/* ---- in and out; cache_lock ------------------------------------------------------------------ */

/* Behind all others: the hand comes to it last. */
static void ring_add(struct cache_item *ring, struct cache_item *item)
{
	item->next = ring;
	item->prev = ring->prev;
	item->prev->next = item;
	ring->prev = item;
}

static void ring_remove(struct cache_item *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
}

static void count(struct meta_pool *pool, const struct cache_item *item, int sign)
{
	/* Unsigned wrap-around makes adding a negative number right. */
	atomic_fetch_add(&pool->cached_bytes, (uint64_t)(sign * (int64_t)item->bytes));
	atomic_fetch_add(item->is_view ? &pool->cached_views : &pool->cached_leaves, (uint64_t)(int64_t)sign);
}

void cache_insert(struct meta_pool *pool, struct cache_item *item)
{
	pthread_mutex_lock(&pool->cache_lock);
	ring_add(&pool->cache_clock, item);
	count(pool, item, 1);
	pthread_mutex_unlock(&pool->cache_lock);
	if (is_over(pool) && !atomic_exchange(&pool->evicting, true))
		base_park_wake(&pool->bg_park); /* a load that only reads makes no commit that would wake it */
}

static void item_free(struct cache_item *item)
{
	if (item->is_view) {
		free(view_of(item));
		return;
	}
	pthread_mutex_destroy(&leaf_of(item)->lock);
	free(leaf_of(item));
}

void cache_discard(struct meta_pool *pool, struct cache_item *item)
{
	pthread_mutex_lock(&pool->cache_lock);
	ring_remove(item);
	count(pool, item, -1);
	pthread_mutex_unlock(&pool->cache_lock);
	item_free(item);
}

void cache_replace(struct meta_pool *pool, struct cache_item *item)
{
	pthread_mutex_lock(&pool->cache_lock);
	if (atomic_load(&item->kept) != CACHE_GONE) { /* the hand was quicker */
		ring_remove(item);
		ring_add(&pool->cache_replaced, item);
	}
	pthread_mutex_unlock(&pool->cache_lock);
	base_park_wake(&pool->bg_park);
}

void cache_discard_replaced(struct meta_store *store)
{
	struct meta_pool *pool = store->pool;
	struct cache_item *next, *found = NULL;

	pthread_mutex_lock(&pool->cache_lock);
	for (struct cache_item *item = pool->cache_replaced.next; item != &pool->cache_replaced; item = next) {
		next = item->next;
		if (store_of(item) != store)
			continue;
		ring_remove(item);
		count(pool, item, -1);
		item->next = found;
		found = item;
	}
	pthread_mutex_unlock(&pool->cache_lock);
	for (; found; found = next) {
		next = found->next;
		item_free(found);
	}
}

/* ---- keeping --------------------------------------------------------------------------------- */

bool cache_keep(struct meta_store *store, struct cache_item *item)
{
	int kept = atomic_load(&item->kept);

	do {
		if (kept == CACHE_GONE || planted(BUG_NO_KEEP))
			return false;
	} while (!atomic_compare_exchange_weak(&item->kept, &kept, kept + 1));
	atomic_fetch_add(&store->kept, 1);
	return true;
}

void meta_keep_end(struct cache_item *kept)
{
	struct meta_store *store = store_of(kept);

	/* Each is the last touch: the item may be evicted after the one, the store freed after the other. */
	int before = atomic_fetch_sub(&kept->kept, 1);
	assert(before > 0);
	atomic_fetch_sub(&store->kept, 1);
}

/* ---- eviction; BG ---------------------------------------------------------------------------- */

/* Takes the leaf out of its slot when it is clean and unpinned. cache_lock is held; the order store.lock > leaf.lock
 * forbids taking store.lock here, so insertion looks at the slot again under store.lock. */
static bool unlink_leaf(struct meta_leaf *leaf)
{
	struct leaf_row *row = store_row(store_group(leaf->store, leaf->number >> GROUP_SHIFT), leaf->number);
	int none = 0;

	pthread_mutex_lock(&leaf->lock);
	bool ok = !leaf->dirty && !leaf->committing && !leaf->folding && leaf->pins == 0 &&
		  atomic_compare_exchange_strong(&leaf->item.kept, &none, CACHE_GONE);
	if (ok) {
		leaf->evicted = true;
		atomic_store_explicit(&row->leaf[leaf->number % ROW_LEAVES], NULL, memory_order_release);
	}
	pthread_mutex_unlock(&leaf->lock);
	return ok;
}

/* One sweep of the clock's hand over at most this many items, so that nobody waits long for cache_lock. */
#define EVICT_SWEEP 1024

static void retire(struct meta_pool *pool, struct cache_item *item)
{
	count(pool, item, -1);
	item->next = pool->retired;
	pool->retired = item;
}

/* True when some must stay yet: they are kept. */
static bool retire_replaced(struct meta_pool *pool)
{
	struct cache_item *next;

	pthread_mutex_lock(&pool->cache_lock);
	for (struct cache_item *item = pool->cache_replaced.next; item != &pool->cache_replaced; item = next) {
		int none = 0;
		next = item->next;
		if (!atomic_compare_exchange_strong(&item->kept, &none, CACHE_GONE))
			continue;
		ring_remove(item);
		retire(pool, item);
	}
	bool any = pool->cache_replaced.next != &pool->cache_replaced;
	pthread_mutex_unlock(&pool->cache_lock);
	return any;
}

static void sweep(struct meta_pool *pool)
{
	pthread_mutex_lock(&pool->cache_lock);
	for (unsigned i = 0; i < EVICT_SWEEP && is_over(pool); i++) {
		struct cache_item *item = pool->cache_clock.next;
		if (item == &pool->cache_clock)
			break;
		ring_remove(item);
		if (atomic_exchange(&item->referenced, false) ||
		    !(item->is_view ? view_unlink(view_of(item)) : unlink_leaf(leaf_of(item)))) {
			ring_add(&pool->cache_clock, item);
			continue;
		}
		atomic_fetch_add_explicit(&pool->evictions, 1, memory_order_relaxed);
		retire(pool, item);
	}
	pthread_mutex_unlock(&pool->cache_lock);
}

static void free_retired(struct meta_pool *pool)
{
	while (pool->retired) {
		struct cache_item *item = pool->retired;
		pool->retired = item->next;
		item_free(item);
	}
}

/* Whether there is work, now that the last was done; who inserts an item wakes us only when we said that there is none.
 */
static bool has_to_sweep(struct meta_pool *pool)
{
	if (is_over(pool))
		return true;
	atomic_store(&pool->evicting, false);
	/* Who inserted one since the look above, and saw it true, has not woken us. */
	return is_over(pool) && !atomic_exchange(&pool->evicting, true);
}

uint64_t cache_evict(struct meta_pool *pool, uint64_t now_ns)
{
	if (pool->retired && !meta_epoch_drained(&pool->epochs, pool->retired_epoch))
		return now_ns + POLL_NS;
	free_retired(pool);
	bool again = retire_replaced(pool);
	if (has_to_sweep(pool)) {
		sweep(pool);
		again = true;
	}
	pool->retired_epoch = meta_epoch_now(&pool->epochs);
	return again || pool->retired ? now_ns + POLL_NS : 0;
}

void cache_done(struct meta_pool *pool)
{
	free_retired(pool);
	pthread_mutex_destroy(&pool->cache_lock);
}
