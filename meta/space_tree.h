/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All layers of a pool as they stand on each other, copied at one moment, for whoever walks them afterwards.
 *
 * In preorder: a layer comes before those that stand on it, and a family (a lowest layer and all above it) is one run
 * of nodes.
 *
 * Context: CTL. Takes catalog_lock for one pass over the layers; blocks on LMDB only in space_tree_load_index().
 */
#ifndef META_SPACE_TREE_H
#define META_SPACE_TREE_H

#include "meta/internal.h"
#include "meta/snapshot.h"

#define SPACE_NO_NODE UINT32_MAX

struct space_node {
	struct meta_store *store; /* a reference */
	enum meta_space_kind kind;
	uint64_t virtual_bytes;
	uint64_t overlap_bytes;
	uint32_t parent, end; /* of nodes; end: behind its last descendant */
	uint32_t children;
	uint64_t owned_chunks; /* by the live counter */
	/* The walk's, see space_use.c. */
	uint64_t next_leaf;
	uint64_t seen, alone; /* chunks */
	uint64_t gains;       /* chunks that folds of it with its children would free, of all children together */
	uint64_t gain;        /* its own part in its parent's */
};

struct space_tree {
	struct meta_pool *pool;
	struct space_node *nodes;
	uint32_t count;
	uint64_t mapped_chunks; /* of the pool, at that moment */
};

/* Return: 0; -ENOMEM. */
MUST_CHECK int space_tree_make(struct meta_pool *pool, struct space_tree *ret);
void space_tree_free(struct space_tree *tree);
/* The node of a store; SPACE_NO_NODE: it is not there. */
uint32_t space_tree_find(const struct space_tree *tree, const struct meta_store *store);
/* The first node of its family. */
uint32_t space_tree_root(const struct space_tree *tree, uint32_t node);
/* Of all nodes of the family that begins at root. Return: 0; -EBADMSG, -EIO, -ENOMEM. */
MUST_CHECK int space_tree_load_index(struct space_tree *tree, uint32_t root, struct base_error *err);

#endif
