/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who takes how much of a pool: what disks and snapshots own, see, share, and would give back.
 *
 * A chunk is owned by one layer and may be seen by many disks and snapshots:
 * by each whose reader meets a block of it. So owned bytes come from counters,
 * and everything else from a walk over one family of layers (space_tree.h),
 * leaf by leaf, each time from the lowest layer up:
 *
 *   frame     what stands in a layer's place of the leaf: its own entries, and its
 *             view: for each block the frame of the layer that has it
 *   no frame  a layer that has nothing in this leaf and cuts nothing off has its
 *             parent's view; it is one more reader of that
 *
 * Only frames of the layers below the present one are kept, so the walk takes
 * memory by depth and not by the number of layers. When a frame goes, all that
 * stand on it have been met: then it is known of each of its chunks how many
 * see it.
 *
 * What a removal gives back follows from the tree: a layer that nothing stands
 * on is freed, and so is a nameless one below it that then has no child; where
 * one child is left the two are folded, and a fold frees a chunk where both have
 * one, or where the child sees nothing of the lower one's (fold_leaf.c).
 *
 * Nothing is held up: leaves are copied one at a time, each in an epoch of its
 * own, and those that are not in memory are read past the cache. In a pool that
 * changes meanwhile the figures are of slightly different moments; the counters
 * are of one.
 *
 * Failure modes: a leaf that can't be read ends it with its error; no memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/space_tree.h"

#define NO_LEAF UINT64_MAX

struct frame {
	uint32_t node;
	bool has_leaf;
	uint32_t names;     /* disks and snapshots with exactly this view ... */
	uint32_t last_name; /* ... and one of them */
	uint32_t chunks;    /* that the view shows */
	meta_entry entries[LEAF_CHUNKS];
	uint32_t view[LEAF_CHUNKS][CHUNK_BLOCKS]; /* number of the frame that has the block, from 1; 0: none */
	uint32_t readers[LEAF_CHUNKS];            /* of the own chunks */
	uint32_t reader[LEAF_CHUNKS];             /* if it is one: which */
};

struct walk {
	struct space_tree *tree;
	struct db_txn *slot;
	struct frame **frames;
	uint32_t depth, room;
};

static bool is_named(const struct space_node *node)
{
	return node->kind != META_SPACE_UNNAMED;
}

/* ---- one view ------------------------------------------------------------------------------- */

/* The different frames that the blocks of a chunk are in. */
static unsigned distinct(const uint32_t view[CHUNK_BLOCKS], uint32_t ret[CHUNK_BLOCKS])
{
	unsigned count = 0;

	for (unsigned b = 0; b < CHUNK_BLOCKS; b++) {
		unsigned k = 0;
		while (k < count && ret[k] != view[b])
			k++;
		if (view[b] != 0 && k == count)
			ret[count++] = view[b];
	}
	return count;
}

static void make_view(struct frame *frame, uint32_t number, const struct frame *below, const struct space_node *node,
		      uint64_t leaf)
{
	uint32_t found[CHUNK_BLOCKS];

	frame->chunks = 0;
	for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
		uint16_t valid = meta_entry_valid(frame->entries[i]);
		uint16_t through = store_mask_below(node->store, leaf * LEAF_CHUNKS + i) &
				   (uint16_t)~meta_entry_zero(frame->entries[i]);
		for (unsigned b = 0; b < CHUNK_BLOCKS; b++) {
			if (valid >> b & 1)
				frame->view[i][b] = number;
			else
				frame->view[i][b] = below && (through >> b & 1) ? below->view[i][b] : 0;
		}
		frame->chunks += distinct(frame->view[i], found);
	}
}

/* ---- frames --------------------------------------------------------------------------------- */

static struct frame *top_of(struct walk *walk)
{
	return walk->depth ? walk->frames[walk->depth - 1] : NULL;
}

static int push(struct walk *walk)
{
	if (walk->depth == walk->room) {
		uint32_t room = walk->room * 2 + 16;
		struct frame **frames = realloc(walk->frames, room * sizeof(struct frame *));
		if (!frames)
			return -ENOMEM;
		memset(frames + walk->room, 0, (room - walk->room) * sizeof(struct frame *));
		walk->frames = frames;
		walk->room = room;
	}
	if (!walk->frames[walk->depth])
		walk->frames[walk->depth] = malloc(sizeof(struct frame));
	if (!walk->frames[walk->depth])
		return -ENOMEM;
	walk->depth++;
	return 0;
}

/* Who has exactly this view sees each chunk that it shows. */
static void tell_owners(struct walk *walk, const struct frame *frame)
{
	uint32_t found[CHUNK_BLOCKS];

	for (unsigned i = 0; i < LEAF_CHUNKS && frame->names > 0; i++) {
		for (unsigned left = distinct(frame->view[i], found); left > 0; left--) {
			struct frame *owner = walk->frames[found[left - 1] - 1];
			owner->readers[i] += frame->names;
			owner->reader[i] = frame->last_name;
		}
	}
}

/* All who could see its chunks have been met. A nameless layer's own figures are those of its chunks. */
static void settle(struct walk *walk, const struct frame *frame)
{
	struct space_node *nodes = walk->tree->nodes, *owner = &nodes[frame->node];

	for (unsigned i = 0; i < LEAF_CHUNKS && frame->has_leaf; i++) {
		if (meta_entry_chunk(frame->entries[i]).n == 0 || frame->readers[i] == 0)
			continue;
		if (frame->readers[i] == 1)
			nodes[frame->reader[i]].alone++;
		if (is_named(owner))
			continue;
		owner->seen++;
		owner->alone += frame->readers[i] == 1;
	}
}

static void pop_ended(struct walk *walk, uint32_t node)
{
	struct frame *top;

	while ((top = top_of(walk)) && walk->tree->nodes[top->node].end <= node) {
		tell_owners(walk, top);
		settle(walk, top);
		walk->depth--;
	}
}

/* ---- one layer ------------------------------------------------------------------------------ */

/* Chunks that a fold of the lower one with `node` would free in this leaf. entries: of node; NULL: none. */
static uint32_t count_gain(const struct frame *lower, const struct space_node *node, const meta_entry *entries,
			   uint64_t leaf)
{
	uint32_t gain = 0;

	for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
		meta_entry entry = entries ? entries[i] : 0, below = lower->entries[i];
		uint16_t through = store_mask_below(node->store, leaf * LEAF_CHUNKS + i) &
				   (uint16_t) ~(meta_entry_valid(entry) | meta_entry_zero(entry));
		bool is_seen = meta_entry_valid(below) & through;
		gain += meta_entry_chunk(below).n != 0 && (!is_seen || meta_entry_chunk(entry).n != 0);
	}
	return gain;
}

/* A chunk without a valid block is seen by its own reader only, who will write there. */
static void note_reserved(struct frame *frame, struct space_node *node, uint32_t number)
{
	for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
		if (meta_entry_chunk(frame->entries[i]).n == 0 || meta_entry_valid(frame->entries[i]) != 0)
			continue;
		frame->readers[i] = 1;
		frame->reader[i] = number;
		node->seen++;
	}
}

static void note_name(struct frame *frame, struct space_node *node, uint32_t number)
{
	node->seen += frame->chunks;
	frame->names++;
	frame->last_name = number;
	if (frame->node == number && frame->has_leaf)
		note_reserved(frame, node, number);
}

static int make_frame(struct walk *walk, uint32_t number, uint64_t leaf, bool has_leaf)
{
	struct space_node *node = &walk->tree->nodes[number];
	const struct frame *below = top_of(walk);
	int rc = push(walk);

	if (rc < 0)
		return rc;
	struct frame *frame = top_of(walk);
	frame->node = number;
	frame->has_leaf = has_leaf;
	frame->names = 0;
	memset(frame->readers, 0, sizeof(frame->readers));
	memset(frame->entries, 0, sizeof(frame->entries));
	if (has_leaf)
		rc = leaf_copy_now(node->store, leaf, &walk->slot, frame->entries);
	if (rc == 0)
		make_view(frame, walk->depth, below, node, leaf);
	return rc;
}

static int visit(struct walk *walk, uint32_t number, uint64_t leaf)
{
	struct space_node *node = &walk->tree->nodes[number];
	struct frame *below = top_of(walk);
	bool has_leaf = node->next_leaf == leaf, own = has_leaf;
	int rc = 0;

	if (below && node->overlap_bytes < (leaf + 1) * LEAF_BYTES)
		own = true; /* it cuts something off */
	if (own)
		rc = make_frame(walk, number, leaf, has_leaf);
	if (rc < 0)
		return rc;
	if (has_leaf)
		node->next_leaf = meta_map_next_leaf(node->store, leaf + 1);
	if (below && below->node == node->parent && below->has_leaf) {
		uint32_t gain = count_gain(below, node, own ? top_of(walk)->entries : NULL, leaf);
		node->gain += gain;
		walk->tree->nodes[node->parent].gains += gain;
	}
	if (is_named(node) && top_of(walk))
		note_name(top_of(walk), node, number);
	return 0;
}

/* ---- a family ------------------------------------------------------------------------------- */

static int walk_family(struct walk *walk, uint32_t root)
{
	struct space_node *nodes = walk->tree->nodes;
	uint32_t end = nodes[root].end;
	int rc = 0;

	for (uint32_t i = root; i < end; i++)
		nodes[i].next_leaf = meta_map_next_leaf(nodes[i].store, 0);
	for (;;) {
		uint64_t leaf = NO_LEAF;
		for (uint32_t i = root; i < end; i++)
			leaf = MIN(leaf, nodes[i].next_leaf);
		if (leaf == NO_LEAF || rc < 0)
			break;
		for (uint32_t i = root; i < end && rc == 0; i++) {
			pop_ended(walk, i);
			rc = visit(walk, i, leaf);
		}
		if (rc == 0)
			pop_ended(walk, end);
	}
	return rc;
}

static int look_at_family(struct space_tree *tree, uint32_t root, struct base_error *err)
{
	struct walk walk = { .tree = tree };
	int rc;

	if (tree->nodes[root].end == root + 1) { /* nobody to share with; without a name nobody sees it */
		uint64_t chunks = is_named(&tree->nodes[root]) ? tree->nodes[root].owned_chunks : 0;
		tree->nodes[root].seen = tree->nodes[root].alone = chunks;
		return 0;
	}
	rc = space_tree_load_index(tree, root, err);
	if (rc == 0)
		rc = walk_family(&walk, root);
	for (uint32_t i = 0; i < walk.room; i++)
		free(walk.frames[i]);
	free(walk.frames);
	db_read_free(walk.slot);
	return rc < 0 ? base_error_set_errno(err, rc, "can't read the maps of the pool") : 0;
}

/* ---- what it comes to ----------------------------------------------------------------------- */

/* Nothing stands on it: it goes, with what only it kept, and where it leaves one child alone there is a fold. */
static uint64_t freed_with_top(const struct space_node *nodes, uint32_t number)
{
	uint64_t chunks = nodes[number].owned_chunks;
	uint32_t gone = number, up = nodes[number].parent;

	while (up != SPACE_NO_NODE && !is_named(&nodes[up]) && nodes[up].children == 1) {
		chunks += nodes[up].owned_chunks;
		gone = up;
		up = nodes[up].parent;
	}
	if (up != SPACE_NO_NODE && !is_named(&nodes[up]) && nodes[up].children == 2)
		chunks += nodes[up].gains - nodes[gone].gain;
	return chunks;
}

static uint64_t reclaimable_chunks(const struct space_node *nodes, uint32_t number)
{
	if (!is_named(&nodes[number]) || nodes[number].children > 1)
		return 0;
	return nodes[number].children == 1 ? nodes[number].gains : freed_with_top(nodes, number);
}

static struct meta_space_use use_of(const struct space_tree *tree, uint32_t number)
{
	const struct space_node *node = &tree->nodes[number];

	return (struct meta_space_use){
		.owned_bytes = node->owned_chunks * CHUNK_BYTES,
		.referenced_bytes = node->seen * CHUNK_BYTES,
		.exclusive_bytes = node->alone * CHUNK_BYTES,
		.shared_bytes = (node->seen - MIN(node->alone, node->seen)) * CHUNK_BYTES,
		.reclaimable_bytes = reclaimable_chunks(tree->nodes, number) * CHUNK_BYTES,
	};
}

static int space_of_store(struct meta_pool *pool, _Atomic(struct meta_store *) *slot, struct meta_space_use *ret,
			  struct base_error *err)
{
	struct space_tree tree;
	int rc = space_tree_make(pool, &tree);

	if (rc < 0)
		return base_error_set_errno(err, rc, "the layers of the pool");
	/* The tree's references keep its stores; one that is not in it is compared, and not looked at. */
	uint32_t number = space_tree_find(&tree, atomic_load(slot));
	rc = number == SPACE_NO_NODE ? base_error_set(err, -ENOENT, "it was removed meanwhile")
				     : look_at_family(&tree, space_tree_root(&tree, number), err);
	if (rc == 0)
		*ret = use_of(&tree, number);
	space_tree_free(&tree);
	return rc;
}

int meta_snapshot_space(struct meta_snapshot *snapshot, struct meta_space_use *ret, struct base_error *err)
{
	return space_of_store(snapshot->pool, &snapshot->store, ret, err);
}

int meta_disk_space(struct meta_disk *disk, struct meta_space_use *ret, struct base_error *err)
{
	return space_of_store(disk->pool, &disk->store, ret, err);
}

/* ---- all of a pool -------------------------------------------------------------------------- */

/* A layer that has got or lost its name meanwhile is shown with what it has now. */
static void fill_row(const struct space_tree *tree, uint32_t number, struct meta_space_row *ret)
{
	const struct space_node *node = &tree->nodes[number];
	const struct meta_store *store = node->store;

	ret->kind = node->kind;
	ret->layer = store->layer_id;
	ret->virtual_bytes = node->virtual_bytes;
	ret->use = use_of(tree, number);
	if (store->head_of) {
		strcpy(ret->disk_name, store->head_of->record.name);
	} else if (store->snapshot) {
		strcpy(ret->disk_name, store->snapshot->disk->record.name);
		strcpy(ret->name, store->snapshot->record.name);
	}
}

/* Disks by name, each with its snapshots behind it, then what has no name. */
static int by_name(const void *pa, const void *pb)
{
	const struct meta_space_row *a = pa, *b = pb;
	bool a_last = a->kind == META_SPACE_UNNAMED, b_last = b->kind == META_SPACE_UNNAMED;
	int order = a_last != b_last ? a_last - b_last : strcmp(a->disk_name, b->disk_name);

	if (order == 0)
		order = strcmp(a->name, b->name);
	return order ? order : (a->layer > b->layer) - (a->layer < b->layer);
}

int meta_space_report(struct meta_pool *pool, struct meta_space_report *ret, struct base_error *err)
{
	struct space_tree tree;
	int rc = space_tree_make(pool, &tree);

	if (rc < 0)
		return base_error_set_errno(err, rc, "the layers of the pool");
	for (uint32_t i = 0; i < tree.count && rc == 0; i = tree.nodes[i].end)
		rc = look_at_family(&tree, i, err);
	*ret = (struct meta_space_report){ .count = tree.count, .allocated_bytes = tree.mapped_chunks * CHUNK_BYTES };
	ret->rows = rc == 0 ? calloc(MAX(tree.count, 1), sizeof(*ret->rows)) : NULL;
	if (rc == 0 && !ret->rows)
		rc = base_error_set_errno(err, -ENOMEM, "a list of all layers");
	pthread_mutex_lock(&pool->catalog_lock);
	for (uint32_t i = 0; i < tree.count && rc == 0; i++)
		fill_row(&tree, i, &ret->rows[i]);
	pthread_mutex_unlock(&pool->catalog_lock);
	space_tree_free(&tree);
	if (rc == 0)
		qsort(ret->rows, ret->count, sizeof(*ret->rows), by_name);
	return rc;
}

void meta_space_report_done(struct meta_space_report *report)
{
	free(report->rows);
	report->rows = NULL;
}
