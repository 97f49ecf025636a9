/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: layers, and the tree that they make with disks and snapshots.
 *
 * Every layer is kept in a table, some 150 bytes each: the disks, the maps and
 * the counters are held against it. Layers that are made after the check began
 * have ids that its pool record had not given out then, so a store that is not
 * in the table and has a younger id is no concern of this check; one with an
 * older id has no layer, for a layer's record goes only after its last leaf.
 *
 * On a pool in use a layer and the disk that it belongs to are read in one
 * transaction, so what they say of each other is of one moment. What takes more
 * than two records (the number of children, a ring of parents, a layer that
 * nobody refers to, two layers with one store) is first a suspicion, drawn from
 * the table; then all that it is about is read again, in one transaction, and
 * only what still holds there is reported.
 *
 * Failure modes: a layer or disk record that can't be used leaves the questions
 * about it open: not judged.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "meta/check_internal.h"

/* A transaction that counts children reads all layers. Past this many it would last too long. */
#define LAYERS_AT_ONCE 20000

int check_get_layer(struct db_txn *txn, uint64_t id, struct meta_layer_record *ret)
{
	struct db_key key = db_key_u64(id);
	struct db_value value;
	int rc = db_get(txn, DB_LAYER, &key, &value);

	return rc == 0 ? meta_layer_decode(value.b, value.bytes, ret) : rc;
}

int check_get_disk(struct db_txn *txn, uint64_t number, struct meta_disk_record *ret)
{
	struct db_key key = db_key_u64(number);
	struct db_value value;
	int rc = db_get(txn, DB_DISK, &key, &value);

	return rc == 0 ? meta_disk_decode(value.b, value.bytes, ret) : rc;
}

/* ---- the table ---------------------------------------------------------------------------------- */

struct known_layer *check_layer_by_id(const struct check *check, uint64_t id)
{
	size_t low = 0, high = check->layer_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (check->layers[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < check->layer_count && check->layers[low].id == id ? &check->layers[low] : NULL;
}

struct known_layer *check_layer_by_store(const struct check *check, uint64_t store)
{
	size_t low = 0, high = check->layer_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (check->by_store[middle]->rec.store_id < store)
			low = middle + 1;
		else
			high = middle;
	}
	return low < check->layer_count && check->by_store[low]->rec.store_id == store ? check->by_store[low] : NULL;
}

static int by_store_id(const void *pa, const void *pb)
{
	const struct known_layer *const *a = pa, *const *b = pb;

	if ((*a)->rec.store_id != (*b)->rec.store_id)
		return (*a)->rec.store_id < (*b)->rec.store_id ? -1 : 1;
	return (*a)->id < (*b)->id ? -1 : 1;
}

static int sort_by_store(struct check *check)
{
	check->by_store = calloc(check->layer_count + 1, sizeof(struct known_layer *));
	if (!check->by_store)
		return check_no_memory(check);
	for (size_t i = 0; i < check->layer_count; i++)
		check->by_store[i] = &check->layers[i];
	qsort(check->by_store, check->layer_count, sizeof(check->by_store[0]), by_store_id);
	return 0;
}

/* ---- layers -------------------------------------------------------------------------------------- */

/* The layer's disk, of the same moment. */
static int look_at_owner(struct check *check, struct db_txn *txn, struct known_layer *layer)
{
	struct meta_disk_record disk;

	if (layer->rec.owner_disk == 0)
		return 0;
	int rc = check_get_disk(txn, layer->rec.owner_disk, &disk);
	if (rc < 0 && rc != -EBADMSG)
		return check_cant_read(check, DB_DISK, rc);
	layer->is_head = rc == 0 && disk.head_layer == layer->id;
	layer->size_bytes = rc == 0 ? disk.size_bytes : 0;
	layer->trim_above_bytes = rc == 0 ? disk.trim_above_bytes : 0;
	return 0;
}

static void judge_ids(struct check *check, struct db_txn *txn, const struct known_layer *layer)
{
	if (!check_is_issued(check, txn, layer->id))
		check_found(check, META_CHECK_ID_UNISSUED, CHECK_PLACE(.database = DB_LAYER, .layer = layer->id),
			    "layer %" PRIu64 " has an id that the pool has yet to give out", layer->id);
	if (!check_is_issued(check, txn, layer->rec.store_id))
		check_found(check, META_CHECK_ID_UNISSUED,
			    CHECK_PLACE(.database = DB_LAYER, .layer = layer->id, .store = layer->rec.store_id),
			    "layer %" PRIu64 " has store %" PRIu64 ", an id that the pool has yet to give out",
			    layer->id, layer->rec.store_id);
}

static int take_layer(struct check *check, struct db_txn *txn, const struct db_key *key, const struct db_value *value,
		      void *arg)
{
	uint64_t id;

	check->report->layers++;
	if (!db_key_to_u64(key, &id) || id == 0) {
		if (value)
			check_found_bad(check, META_CHECK_BAD_CONTENT, DB_LAYER, key);
		return 0;
	}
	if (check_room((void **)&check->layers, &check->layer_room, check->layer_count, sizeof(*check->layers)) < 0)
		return check_no_memory(check);
	struct known_layer *layer = &check->layers[check->layer_count++];
	*layer = (struct known_layer){ .id = id };
	layer->bad = !value || meta_layer_decode(value->b, value->bytes, &layer->rec) < 0;
	if (layer->bad) {
		if (value)
			check_found_bad(check, META_CHECK_BAD_CONTENT, DB_LAYER, key);
		check->layers_unknown = true;
		return 0;
	}
	judge_ids(check, txn, layer);
	return look_at_owner(check, txn, layer);
}

int check_layers(struct check *check)
{
	int rc = check_each(check, DB_LAYER, take_layer, NULL);

	return rc == 0 ? sort_by_store(check) : rc;
}

/* ---- layers that nobody refers to ----------------------------------------------------------------- */

/* Whether a snapshot has the layer, in the transaction. Only asked about suspects. */
static bool has_snapshot(struct db_txn *txn, uint64_t layer)
{
	struct meta_snapshot_record rec;
	struct db_key key = { 0 };
	struct db_value value;

	while (db_next(txn, DB_SNAPSHOT, &key, false, &value) == 0)
		if (meta_snapshot_decode(value.b, value.bytes, &rec) == 0 && rec.layer == layer)
			return true;
	return false;
}

static int judge_orphan(struct check *check, uint64_t id)
{
	struct meta_layer_record layer;
	struct meta_disk_record disk;
	struct db_txn *txn;
	int rc = check_begin(check, &txn);

	if (rc < 0)
		return rc;
	rc = check_get_layer(txn, id, &layer);
	bool suspect = rc == 0 && layer.state == META_LAYER_LIVE && layer.children == 0 && !has_snapshot(txn, id);
	rc = suspect && layer.owner_disk != 0 ? check_get_disk(txn, layer.owner_disk, &disk) : DB_NOT_FOUND;
	db_read_end(txn);
	if (suspect && rc == -EBADMSG)
		check->report->not_judged++;
	else if (suspect && (rc == DB_NOT_FOUND || (rc == 0 && disk.head_layer != id)))
		check_found(check, META_CHECK_LAYER_ORPHAN, CHECK_PLACE(.layer = id, .store = layer.store_id),
			    "layer %" PRIu64
			    " is live, and no disk, snapshot or layer refers to it: its space is lost",
			    id);
	return 0;
}

static int find_orphans(struct check *check)
{
	int rc = 0;

	for (size_t i = 0; i < check->layer_count && rc == 0; i++) {
		const struct known_layer *layer = &check->layers[i];
		bool suspect = !layer->bad && layer->rec.state == META_LAYER_LIVE && !layer->is_head &&
			       !layer->has_disk && layer->rec.children == 0 && layer->snapshots == 0;
		if (suspect && check->snapshots_unknown)
			check->report->not_judged++;
		else if (suspect)
			rc = judge_orphan(check, layer->id);
	}
	return rc;
}

/* ---- two layers with one store ---------------------------------------------------------------------- */

static int judge_twins(struct check *check, uint64_t one, uint64_t other)
{
	struct meta_layer_record a, b;
	struct db_txn *txn;
	int rc = check_begin(check, &txn);

	if (rc < 0)
		return rc;
	bool both = check_get_layer(txn, one, &a) == 0 && check_get_layer(txn, other, &b) == 0;
	db_read_end(txn);
	if (both && a.store_id == b.store_id)
		check_found(check, META_CHECK_STORE_TWICE, CHECK_PLACE(.layer = other, .store = a.store_id),
			    "layers %" PRIu64 " and %" PRIu64 " have one store, %" PRIu64, one, other, a.store_id);
	return 0;
}

static int find_twins(struct check *check)
{
	int rc = 0;

	for (size_t i = 1; i < check->layer_count && rc == 0; i++) {
		const struct known_layer *a = check->by_store[i - 1], *b = check->by_store[i];
		if (!a->bad && !b->bad && a->rec.store_id == b->rec.store_id)
			rc = judge_twins(check, a->id, b->id);
	}
	return rc;
}

/* ---- parents and children ----------------------------------------------------------------------------- */

/* Children that the layer has in the transaction. Return: 0; -EBADMSG: a layer can't be used; other negative errno.
 */
static int count_children(struct db_txn *txn, uint64_t id, uint32_t *ret)
{
	struct meta_layer_record rec;
	struct db_key key = { 0 };
	struct db_value value;
	int rc;

	*ret = 0;
	while ((rc = db_next(txn, DB_LAYER, &key, false, &value)) == 0) {
		rc = meta_layer_decode(value.b, value.bytes, &rec);
		if (rc < 0)
			return rc;
		*ret += rec.parent == id;
	}
	return rc == DB_NOT_FOUND ? 0 : rc;
}

static int judge_children(struct check *check, const struct known_layer *layer)
{
	uint32_t found = layer->children;
	struct meta_layer_record rec;
	uint64_t id = layer->id;
	struct db_txn *txn;

	if (check->layers_unknown || (check->live && check->layer_count > LAYERS_AT_ONCE)) {
		check->report->not_judged++;
		return 0;
	}
	int rc = check_begin(check, &txn);
	if (rc < 0)
		return rc;
	rc = check_get_layer(txn, id, &rec);
	if (rc == 0 && check->live)
		rc = count_children(txn, id, &found);
	db_read_end(txn);
	if (rc == 0 && rec.children != found)
		check_found(check, META_CHECK_LAYER_CHILDREN, CHECK_PLACE(.layer = id),
			    "layer %" PRIu64 " has %" PRIu32 " children and counts %" PRIu32, id, found,
			    rec.children);
	return 0;
}

/* What is being freed has let go of its parent, and nobody looks through it. */
static int judge_dead_parent(struct check *check, uint64_t id)
{
	struct meta_layer_record rec, parent = { .state = META_LAYER_LIVE };
	struct db_txn *txn;
	int rc = check_begin(check, &txn);

	if (rc < 0)
		return rc;
	if (check_get_layer(txn, id, &rec) == 0 && rec.parent != 0)
		rc = check_get_layer(txn, rec.parent, &parent);
	db_read_end(txn);
	if (rc == 0 && parent.state != META_LAYER_LIVE)
		check_found(check, META_CHECK_LAYER_PARENT, CHECK_PLACE(.layer = id),
			    "the parent of layer %" PRIu64 ", %" PRIu64 ", is being freed", id, rec.parent);
	return 0;
}

/* Follows the parents in one transaction: a chain that is longer than there are layers comes round. */
static int judge_chain(struct check *check, uint64_t id)
{
	uint64_t at = id, missing = 0;
	struct meta_layer_record rec;
	struct db_txn *txn;
	int rc = check_begin(check, &txn);

	if (rc < 0)
		return rc;
	bool ring = true;
	for (size_t steps = 0; steps <= MIN(check->layer_count, (size_t)LAYERS_AT_ONCE) && ring; steps++) {
		rc = check_get_layer(txn, at, &rec);
		if (rc == DB_NOT_FOUND && steps == 1)
			missing = at; /* a gap further up is that layer's own finding */
		ring = rc == 0 && rec.parent != 0;
		at = ring ? rec.parent : 0;
	}
	db_read_end(txn);
	if (missing)
		check_found(check, META_CHECK_LAYER_PARENT, CHECK_PLACE(.layer = id),
			    "the parent of layer %" PRIu64 ", %" PRIu64 ", is not there", id, missing);
	else if (ring && check->layer_count > LAYERS_AT_ONCE)
		check->report->not_judged++; /* it may just be long */
	else if (ring)
		check_found(check, META_CHECK_LAYER_PARENT, CHECK_PLACE(.layer = id),
			    "the parents of layer %" PRIu64 " come round in a ring", id);
	return 0;
}

enum { WHITE, GREY, BLACK };

/* True when the chain from here up ends at a layer without a parent. Each layer is passed once over all calls. */
static bool chain_ends(struct check *check, struct known_layer *from)
{
	struct known_layer *at = from;

	while (at && at->colour == WHITE) {
		at->colour = GREY;
		at = at->rec.parent != 0 ? check_layer_by_id(check, at->rec.parent) : NULL;
	}
	bool ends = !at || at->colour == BLACK;
	for (at = from; at && at->colour == GREY;) {
		at->colour = BLACK;
		at = at->rec.parent != 0 ? check_layer_by_id(check, at->rec.parent) : NULL;
	}
	return ends;
}

static int judge_tree(struct check *check)
{
	int rc = 0;

	for (size_t i = 0; i < check->layer_count; i++) {
		struct known_layer *parent = check_layer_by_id(check, check->layers[i].rec.parent);
		if (parent)
			parent->children++;
	}
	for (size_t i = 0; i < check->layer_count && rc == 0; i++) {
		struct known_layer *layer = &check->layers[i];
		const struct known_layer *parent = check_layer_by_id(check, layer->rec.parent);
		bool lost = layer->rec.parent != 0 && !parent;
		if (!layer->bad && (lost || !chain_ends(check, layer)))
			rc = judge_chain(check, layer->id);
		if (rc == 0 && !layer->bad && parent && !parent->bad && parent->rec.state != META_LAYER_LIVE)
			rc = judge_dead_parent(check, layer->id);
		if (rc == 0 && !layer->bad && layer->children != layer->rec.children)
			rc = judge_children(check, layer);
	}
	return rc;
}

int check_layer_tree(struct check *check)
{
	int rc = find_orphans(check);

	if (rc == 0)
		rc = find_twins(check);
	if (rc == 0)
		rc = judge_tree(check);
	return rc;
}
