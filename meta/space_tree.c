/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layers of a pool, copied at one moment.
 *
 * Layers know their parents only, and are in no order. So: copy all of them in
 * one pass under the lock, with a reference each; then, without it, find each
 * one's parent by its address, hang it below that parent, and write the nodes
 * down in preorder.
 *
 * The references keep the stores; what they hold goes on changing. Who walks
 * the nodes sees each leaf as it is when he comes to it.
 *
 * Failure modes: no memory.
 */
#include <errno.h>
#include <stdlib.h>

#include "meta/space_tree.h"

struct raw {
	struct space_node node;
	struct meta_store *parent;
	uint32_t up, child, sibling; /* of raws, in order of address */
};

/* ---- copying; catalog_lock ------------------------------------------------------------------ */

static void copy_one(struct meta_store *store, struct raw *ret)
{
	*ret = (struct raw){ .parent = atomic_load(&store->parent),
			     .up = SPACE_NO_NODE,
			     .child = SPACE_NO_NODE,
			     .sibling = SPACE_NO_NODE };
	ret->node.store = store;
	ret->node.kind = META_SPACE_UNNAMED;
	ret->node.overlap_bytes = atomic_load(&store->overlap_bytes);
	ret->node.owned_chunks = atomic_load(&store->chunks_owned);
	if (store->head_of) {
		ret->node.kind = META_SPACE_DISK;
		ret->node.virtual_bytes = atomic_load(&store->head_of->size_bytes);
	} else if (store->snapshot) {
		ret->node.kind = META_SPACE_SNAPSHOT;
		ret->node.virtual_bytes = store->snapshot->record.size_bytes;
	}
	store->refs++;
}

static uint32_t count_stores(const struct meta_pool *pool)
{
	uint32_t count = 0;

	for (const struct meta_store *store = pool->stores; store; store = store->next)
		count++;
	return count;
}

static int copy_all(struct meta_pool *pool, struct raw **ret, uint32_t *ret_count, uint64_t *ret_mapped)
{
	uint32_t room = 0, count;
	struct raw *raws = NULL;

	for (;;) {
		pthread_mutex_lock(&pool->catalog_lock);
		count = count_stores(pool);
		if (raws && count <= room)
			break;
		pthread_mutex_unlock(&pool->catalog_lock);
		free(raws);
		room = count + 64;
		raws = calloc(room, sizeof(*raws));
		if (!raws)
			return -ENOMEM;
	}
	count = 0;
	for (struct meta_store *store = pool->stores; store; store = store->next)
		copy_one(store, &raws[count++]);
	*ret_mapped = atomic_load(&pool->space.mapped);
	pthread_mutex_unlock(&pool->catalog_lock);
	*ret = raws;
	*ret_count = count;
	return 0;
}

/* ---- arranging ------------------------------------------------------------------------------ */

static int by_address(const void *pa, const void *pb)
{
	uintptr_t a = (uintptr_t)((const struct raw *)pa)->node.store;
	uintptr_t b = (uintptr_t)((const struct raw *)pb)->node.store;

	return a < b ? -1 : a > b;
}

static uint32_t find_raw(const struct raw *raws, uint32_t count, struct meta_store *store)
{
	struct raw key = { .node.store = store };
	const struct raw *found = store ? bsearch(&key, raws, count, sizeof(*raws), by_address) : NULL;

	return found ? (uint32_t)(found - raws) : SPACE_NO_NODE;
}

static void hang(struct raw *raws, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t up = raws[i].up = find_raw(raws, count, raws[i].parent);
		if (up == SPACE_NO_NODE)
			continue;
		raws[i].sibling = raws[up].child;
		raws[up].child = i;
		raws[up].node.children++;
	}
}

/* Writes down the family of a root, with the way back by `up`: chains may be thousands long. */
static uint32_t write_family(struct raw *raws, uint32_t root, struct space_node *nodes, uint32_t at)
{
	uint32_t raw = root, above = SPACE_NO_NODE; /* above: the node of raw's parent */

	while (raw != SPACE_NO_NODE) {
		nodes[at] = raws[raw].node;
		nodes[at].parent = above;
		above = at++;
		if (raws[raw].child != SPACE_NO_NODE) {
			raw = raws[raw].child;
			continue;
		}
		for (;;) {
			nodes[above].end = at;
			above = nodes[above].parent;
			uint32_t next = raw == root ? SPACE_NO_NODE : raws[raw].sibling;
			if (raw == root || next != SPACE_NO_NODE) {
				raw = next;
				break;
			}
			raw = raws[raw].up;
		}
	}
	return at;
}

int space_tree_make(struct meta_pool *pool, struct space_tree *ret)
{
	struct raw *raws;
	uint32_t count, at = 0;
	int rc = copy_all(pool, &raws, &count, &ret->mapped_chunks);

	if (rc < 0)
		return rc;
	ret->pool = pool;
	ret->count = count;
	ret->nodes = calloc(MAX(count, 1), sizeof(*ret->nodes));
	if (!ret->nodes) {
		for (uint32_t i = 0; i < count; i++)
			store_put(raws[i].node.store);
		free(raws);
		return -ENOMEM;
	}
	qsort(raws, count, sizeof(*raws), by_address);
	hang(raws, count);
	for (uint32_t i = 0; i < count; i++)
		if (raws[i].up == SPACE_NO_NODE)
			at = write_family(raws, i, ret->nodes, at);
	free(raws);
	return 0;
}

void space_tree_free(struct space_tree *tree)
{
	pthread_mutex_lock(&tree->pool->catalog_lock);
	for (uint32_t i = 0; i < tree->count; i++)
		store_put_locked(tree->nodes[i].store);
	pthread_mutex_unlock(&tree->pool->catalog_lock);
	base_park_wake(&tree->pool->bg_park);
	free(tree->nodes);
}

/* ---- finding -------------------------------------------------------------------------------- */

uint32_t space_tree_find(const struct space_tree *tree, const struct meta_store *store)
{
	for (uint32_t i = 0; i < tree->count; i++)
		if (tree->nodes[i].store == store)
			return i;
	return SPACE_NO_NODE;
}

uint32_t space_tree_root(const struct space_tree *tree, uint32_t node)
{
	while (tree->nodes[node].parent != SPACE_NO_NODE)
		node = tree->nodes[node].parent;
	return node;
}

int space_tree_load_index(struct space_tree *tree, uint32_t root, struct base_error *err)
{
	int rc = 0;

	for (uint32_t i = root; i < tree->nodes[root].end && rc == 0; i++)
		rc = store_load_index(tree->nodes[i].store, err);
	return rc;
}
