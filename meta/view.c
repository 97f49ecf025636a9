/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views: what a layer and all that is below it show in one leaf, folded into one.
 *
 * A reader of a store needs the store's own leaf, which may change under it, and
 * the view of its parent, which is frozen (layer.c). So depth costs a reader
 * nothing once the view is there, and it never needs more than these two in memory,
 * however many layers there are. All children of a layer share its views.
 *
 * A view lists, chunk by chunk, which blocks are in which chunk of the pool; a block
 * that no piece has reads as zero. It does not change. It is made by walking the
 * layers from the top down, one leaf record at a time: from memory where it is in
 * memory (it may not be in LMDB yet), else straight from LMDB, past the cache.
 * Layers whose index has no bit for the leaf cost a look at that bit.
 *
 * What moves or frees a frozen layer's chunk is a fold (fold.c), and it raises the
 * bucket's count of moves. A view carries the count from before it was begun and
 * is of no use when that is not the present one: it is not found, and made again.
 * What a fold cuts off a layer was hidden from its one child by the child's overlap,
 * and its views may go on showing it, as long as only that child asks. A fold down ends
 * with the lower store in the child's place, asked by the child's children: then all of
 * its views are void, which its count of joins says.
 *
 * Nothing else changes what a frozen layer shows through: heads switch when
 * nothing is in flight; an overlap is lowered only on a head, or at the end of a
 * fold to what could be seen anyhow; what a fold sweeps out of a layer had nothing
 * below it to hide.
 *
 * A leaf of a layer is read like this: note the layer's count of commits; look in
 * memory; if it is not there read LMDB; look in memory again. If it is still not
 * there and no commit of the layer came between, LMDB's is the present one.
 *
 * Happy path: view_find. Or: make, install, and the next resolve finds it.
 * Failure modes: a layer's leaf that can't be read: no view, those who wait get the
 * error, and the next one tries again. No memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/planted.h"
#include "meta/internal.h"

/* ---- looking --------------------------------------------------------------------------------- */

static struct view_row *row_of(struct meta_store *store, uint64_t leaf_number)
{
	struct leaf_group *group = store_group(store, leaf_number >> GROUP_SHIFT);

	return group ? atomic_load_explicit(&group->view_rows[leaf_number % GROUP_LEAVES / ROW_LEAVES],
					    memory_order_acquire)
		     : NULL;
}

struct meta_view *view_find(struct meta_store *store, uint64_t leaf_number, uint64_t moves)
{
	struct view_row *row = row_of(store, leaf_number);
	struct meta_view *view =
		row ? atomic_load_explicit(&row->view[leaf_number % ROW_LEAVES], memory_order_acquire) : NULL;

	if (!view || ((view->moves != moves || view->joins != atomic_load(&store->joins)) && !planted(BUG_VIEW_STALE)))
		return NULL;
	if (!atomic_load_explicit(&view->item.referenced, memory_order_relaxed))
		atomic_store_explicit(&view->item.referenced, true, memory_order_relaxed);
	return view;
}

void view_take(const struct meta_view *view, unsigned index, uint16_t left, uint32_t sources[CHUNK_BLOCKS])
{
	for (unsigned i = view->first[index]; i < view->first[index + 1]; i++)
		for (unsigned found = view->pieces[i].blocks & left; found; found &= found - 1)
			sources[__builtin_ctz(found)] = view->pieces[i].chunk;
}

/* ---- making ---------------------------------------------------------------------------------- */

struct draft {
	uint64_t number;
	unsigned total;
	uint16_t left[LEAF_CHUNKS]; /* blocks that no layer has said anything of */
	uint8_t count[LEAF_CHUNKS];
	struct view_piece pieces[LEAF_CHUNKS][CHUNK_BLOCKS];
};

/* Return: 0, META_HOLE, negative errno. */
static int read_layer(struct meta_store *store, uint64_t leaf_number, struct db_txn **slot, meta_entry *entries)
{
	struct meta_leaf *leaf;

	for (;;) {
		uint64_t commits = atomic_load(&store->commits);
		int rc = meta_map_find(store, leaf_number, &leaf);
		if (rc == META_HOLE)
			return rc;
		if (rc == 0) {
			for (unsigned i = 0; i < LEAF_CHUNKS; i++)
				entries[i] = meta_leaf_entry(leaf, i);
			return 0;
		}
		rc = leaf_read(store, leaf_number, slot, entries);
		if (meta_map_find(store, leaf_number, &leaf) == META_MISS && atomic_load(&store->commits) == commits)
			return rc;
	}
}

/* What the layer says. Return: whether anything is left to be looked for below. */
static bool take_layer(struct draft *draft, const meta_entry *entries)
{
	uint16_t any = 0;

	for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
		uint16_t found = meta_entry_valid(entries[i]) & draft->left[i];
		if (found) {
			draft->pieces[i][draft->count[i]++] =
				(struct view_piece){ .chunk = meta_entry_chunk(entries[i]).n, .blocks = found };
			draft->total++;
		}
		draft->left[i] &= (uint16_t) ~(meta_entry_valid(entries[i]) | meta_entry_zero(entries[i]));
		any |= draft->left[i];
	}
	return any;
}

/* Of what lies above the overlap the layers below show nothing. */
static bool cut(struct draft *draft, uint64_t overlap_bytes)
{
	uint16_t any = 0;

	if (overlap_bytes >= (draft->number + 1) * LEAF_BYTES)
		return true;
	for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
		draft->left[i] &= layer_blocks_below(draft->number * LEAF_CHUNKS + i, overlap_bytes);
		any |= draft->left[i];
	}
	return any;
}

static int walk(struct meta_store *store, struct db_txn **slot, struct draft *draft)
{
	meta_entry entries[LEAF_CHUNKS];
	bool more = true;

	draft->total = 0;
	memset(draft->left, 0xff, sizeof(draft->left));
	memset(draft->count, 0, sizeof(draft->count));
	while (store && more) {
		int rc = read_layer(store, draft->number, slot, entries);
		if (rc < 0)
			return rc;
		if (rc == 0)
			more = take_layer(draft, entries);
		struct meta_store *parent = atomic_load_explicit(&store->parent, memory_order_acquire);
		if (parent && more)
			more = cut(draft, atomic_load(&store->overlap_bytes));
		store = parent;
	}
	return 0;
}

static struct meta_view *view_of_draft(struct meta_store *store, const struct draft *draft, uint64_t moves,
				       uint64_t joins)
{
	size_t bytes = sizeof(struct meta_view) + draft->total * sizeof(struct view_piece);
	struct meta_view *view = malloc(bytes);
	unsigned n = 0;

	if (!view)
		return NULL;
	*view = (struct meta_view){
		/* and what malloc adds */
		.item = { .bytes = (uint32_t)bytes + 16, .is_view = true, .referenced = true },
		.store = store,
		.number = draft->number,
		.moves = moves,
		.joins = joins,
	};
	for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
		view->first[i] = (uint16_t)n;
		memcpy(&view->pieces[n], draft->pieces[i], draft->count[i] * sizeof(struct view_piece));
		n += draft->count[i];
	}
	view->first[LEAF_CHUNKS] = (uint16_t)n;
	return view;
}

/* Begun anew when a fold was at work in that leaf meanwhile, which it is for a moment only. */
int view_make(struct meta_store *store, uint64_t leaf_number, struct db_txn **slot, struct meta_view **ret)
{
	_Atomic uint64_t *count = &store->pool->move_counts[leaf_number % MOVE_BUCKETS];
	struct draft draft = { .number = leaf_number };
	uint64_t moves, joins;
	int rc;

	do {
		joins = atomic_load(&store->joins);
		moves = atomic_load(count);
		rc = walk(store, slot, &draft);
		atomic_thread_fence(memory_order_seq_cst);
	} while (atomic_load(count) != moves && pool_failed_code(store->pool) == 0);
	if (rc < 0)
		return rc;
	*ret = view_of_draft(store, &draft, moves, joins);
	return *ret ? 0 : -ENOMEM;
}

/* ---- in its place ---------------------------------------------------------------------------- */

static struct view_row *row_make(struct meta_store *store, uint64_t leaf_number)
{
	struct leaf_group *group = store_group_make(store, leaf_number >> GROUP_SHIFT);
	_Atomic(struct view_row *) *slot =
		group ? &group->view_rows[leaf_number % GROUP_LEAVES / ROW_LEAVES] : NULL;
	struct view_row *row = slot ? atomic_load(slot) : NULL;

	if (!slot || row)
		return row;
	row = calloc(1, sizeof(*row));
	if (row) {
		atomic_fetch_add(&store->pool->cache_tables, sizeof(*row));
		atomic_store_explicit(slot, row, memory_order_release);
	}
	return row;
}

bool view_install(struct meta_view *view)
{
	struct meta_store *store = view->store;
	struct view_row *row = row_make(store, view->number);

	if (!row) {
		free(view);
		return false;
	}
	/* First into its place: what eviction meets on the ring is in its place, or was. */
	struct meta_view *old = atomic_exchange(&row->view[view->number % ROW_LEAVES], view);
	cache_insert(store->pool, &view->item);
	if (old)
		cache_replace(store->pool, &old->item);
	return true;
}

bool view_unlink(struct meta_view *view)
{
	struct view_row *row = row_of(view->store, view->number);
	struct meta_view *expected = view;
	int none = 0;

	if (!atomic_compare_exchange_strong(&view->item.kept, &none, CACHE_GONE))
		return false;
	/* Another one may have taken its place. */
	(void)atomic_compare_exchange_strong(&row->view[view->number % ROW_LEAVES], &expected, NULL);
	return true;
}

void view_row_free(struct meta_pool *pool, struct view_row *row)
{
	if (!row)
		return;
	for (unsigned i = 0; i < ROW_LEAVES; i++) {
		struct meta_view *view = atomic_load(&row->view[i]);
		if (view)
			cache_discard(pool, &view->item);
	}
	atomic_fetch_sub(&pool->cache_tables, sizeof(*row));
	free(row);
}
