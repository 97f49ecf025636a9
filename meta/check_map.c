/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: index and leaves, in one pass over both databases in key order.
 *
 * The pass goes group by group (8,192 leaves of a store, one index record). The
 * next group is the lower of what the index and what the map say comes next, so
 * that neither leaves without an index record nor an index record without leaves
 * is passed over. Within a group each slice reads the index record anew, and in
 * the same transaction up to 512 leaves: every bit and every leaf of the stretch
 * that the slice covers is of one moment, so what they say of each other needs
 * no second look.
 *
 * Of each entry: is its chunk in range; is it owned for the first time (the set
 * `owned`); does the space bitmap know. The last is looked up in the set that
 * was read when the check began; where that says no, which on a pool in use is
 * so for all that was allocated since, in the space record, in the transaction
 * that the leaf came from.
 *
 * At the end of a store the sums are compared with the layer's counters. On a
 * pool in use the sums are of many moments, so a difference is only a suspicion,
 * for check_recount.c; and so it is with an entry beyond the end of its disk,
 * for check_end.c.
 *
 * Failure modes: a leaf that can't be used is there, but what it owns is not
 * known: the counters of its layer, and what the space bitmap has too much, are
 * then not judged. An index record that can't be used: its group's bits are not.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "meta/check_internal.h"

#define INDEX_GROUPS (DISK_BYTES_MAX / LEAF_BYTES / GROUP_LEAVES)
#define STORE_LEAVES (DISK_BYTES_MAX / LEAF_BYTES)

/* A cursor on one of the two databases. What lies ahead is kept within a slice, and read again in the next. */
struct ahead {
	enum db_kind kind;
	struct db_key from; /* it goes on here, ... */
	bool inclusive;     /* ... or right behind */
	struct db_key key;
	struct db_value value;
	enum { AHEAD_UNREAD, AHEAD_GOOD, AHEAD_BAD, AHEAD_END } state;
	uint64_t store, number;
};

struct map_pass {
	struct check *check;
	struct db_txn *txn;
	unsigned records; /* of the slice */
	struct ahead index, map;
	/* The store. */
	uint64_t store;            /* 0: none yet */
	struct known_layer *layer; /* NULL: not known */
	uint64_t chunks, blocks, index_records;
	/* The group. */
	bool in_group;
	uint64_t group, next_leaf;
	enum { INDEX_NONE, INDEX_GOOD, INDEX_BAD } index_state;
	struct meta_index_record index_rec;
	/* The space record that was looked at last, in this slice. */
	uint64_t space_group;
	int space_rc;
	struct meta_space_record space_rec;
};

/* ---- what comes next -------------------------------------------------------------------------- */

static bool key_is_right(struct ahead *ahead)
{
	return db_key_to_u64_u64(&ahead->key, &ahead->store, &ahead->number) && ahead->store != 0 &&
	       ahead->number < (ahead->kind == DB_MAP ? STORE_LEAVES : INDEX_GROUPS);
}

static void pass_by(struct map_pass *pass, struct ahead *ahead)
{
	ahead->from = ahead->key;
	ahead->inclusive = false;
	ahead->state = AHEAD_UNREAD;
	pass->check->report->records[ahead->kind]++;
	atomic_fetch_add(&pass->check->done, 1);
}

/* Nothing before this place is looked at any more: what comes in there meanwhile has missed the pass. */
static void move_to(struct ahead *ahead, uint64_t store, uint64_t number, bool inclusive)
{
	ahead->from = db_key_u64_u64(store, number);
	ahead->inclusive = inclusive;
}

/* Fills in what lies ahead; steps over records under keys that none of this database can have. */
static int look_ahead(struct map_pass *pass, struct ahead *ahead)
{
	struct check *check = pass->check;

	while (ahead->state == AHEAD_UNREAD) {
		ahead->key = ahead->from;
		int rc = db_next(pass->txn, ahead->kind, &ahead->key, ahead->inclusive, &ahead->value);
		pass->records++;
		if (rc < 0 && rc != -EBADMSG)
			return check_cant_read(check, ahead->kind, rc);
		ahead->state = rc == 0 ? AHEAD_GOOD : rc == DB_NOT_FOUND ? AHEAD_END : AHEAD_BAD;
		if (ahead->state == AHEAD_END || key_is_right(ahead))
			return 0;
		check_found_bad(check, rc == 0 ? META_CHECK_BAD_CONTENT : META_CHECK_BAD_CHECKSUM, ahead->kind,
				&ahead->key);
		pass_by(pass, ahead);
	}
	return 0;
}

/* ---- stores ------------------------------------------------------------------------------------ */

static void found_orphan(struct map_pass *pass)
{
	struct check *check = pass->check;

	/* Younger than the check: its layer was made since. */
	if (check->live && check->pool_known && pass->store >= check->pool_record.next_id)
		return;
	if (check->layers_unknown) {
		check->report->not_judged++;
		return;
	}
	check_found(check, META_CHECK_STORE_ORPHAN, CHECK_PLACE(.store = pass->store),
		    "there are map or index records of store %" PRIu64 ", which no layer has", pass->store);
}

static void enter_store(struct map_pass *pass, uint64_t store)
{
	pass->store = store;
	pass->chunks = pass->blocks = pass->index_records = 0;
	pass->layer = check_layer_by_store(pass->check, store);
	if (pass->layer)
		pass->layer->walked = true;
	else
		found_orphan(pass);
}

static int suspect_counters(struct check *check, uint64_t layer_id)
{
	if (check_room((void **)&check->recounts, &check->recount_room, check->recount_count,
		       sizeof(*check->recounts)) < 0)
		return check_no_memory(check);
	check->recounts[check->recount_count++] = layer_id;
	return 0;
}

static int judge_counters(struct check *check, const struct known_layer *layer, const struct meta_layer_record *rec,
			  uint64_t chunks, uint64_t blocks, uint64_t index_records)
{
	if (rec->chunks_owned == chunks && rec->blocks_valid == blocks && rec->index_records == index_records)
		return 0;
	if (check->live)
		return suspect_counters(check, layer->id);
	check_found_counters(check, layer->id, rec, chunks, blocks, index_records);
	return 0;
}

static int leave_store(struct map_pass *pass)
{
	struct known_layer *layer = pass->layer;
	struct meta_layer_record rec;

	if (!layer)
		return 0;
	if (layer->map_unknown) {
		pass->check->report->not_judged++;
		return 0;
	}
	int rc = check_get_layer(pass->txn, layer->id, &rec);
	if (rc != 0) /* it went, with its leaves; or its record has become bad: the next check will say so */
		return rc < 0 && rc != -EBADMSG ? check_cant_read(pass->check, DB_LAYER, rc) : 0;
	return judge_counters(pass->check, layer, &rec, pass->chunks, pass->blocks, pass->index_records);
}

/* Layers whose stores the pass has not met have nothing, and should say so. */
static int judge_unmet(struct check *check)
{
	int rc = 0;

	for (size_t i = 0; i < check->layer_count && rc == 0; i++) {
		const struct known_layer *layer = &check->layers[i];
		bool has_store =
			check_layer_by_store(check, layer->rec.store_id) == layer; /* and not another layer */
		if (!layer->walked && !layer->bad && has_store)
			rc = judge_counters(check, layer, &layer->rec, 0, 0, 0);
	}
	return rc;
}

/* ---- entries ------------------------------------------------------------------------------------ */

uint16_t check_beyond_end(meta_entry entry, uint64_t chunk_of_disk, uint64_t size_bytes, uint64_t trim_above_bytes)
{
	uint64_t byte = chunk_of_disk * CHUNK_BYTES, end = round_up_to(size_bytes, BLOCK_BYTES);
	uint64_t stop = trim_above_bytes == UINT64_MAX ? UINT64_MAX : round_up_to(trim_above_bytes, BLOCK_BYTES);
	unsigned first = end <= byte ? 0 : (unsigned)MIN((end - byte) / BLOCK_BYTES, CHUNK_BLOCKS);
	unsigned last = stop <= byte ? 0 : (unsigned)MIN((stop - byte) / BLOCK_BYTES, CHUNK_BLOCKS);

	return first < last ? meta_entry_valid(entry) & meta_block_mask(first, last - first) : 0;
}

void check_found_beyond_end(struct check *check, uint64_t disk, uint64_t store, uint64_t chunk_of_disk,
			    uint64_t size_bytes)
{
	check_found(check, META_CHECK_ENTRY_BEYOND_END,
		    CHECK_PLACE(.disk = disk, .store = store, .leaf = chunk_of_disk / LEAF_CHUNKS,
				.entry = chunk_of_disk),
		    "disk %" PRIu64 " ends at byte %" PRIu64 " and has data in its chunk %" PRIu64 ", beyond that",
		    disk, size_bytes, chunk_of_disk);
}

/* The end of the disk may have moved since the layers were read: looked at again at the leaf's own moment. */
static int judge_beyond_end(struct map_pass *pass, uint64_t leaf, const meta_entry *entries)
{
	struct check *check = pass->check;
	struct meta_layer_record layer;
	struct meta_disk_record disk;
	bool any = false;

	if (check_get_layer(pass->txn, pass->layer->id, &layer) != 0 ||
	    check_get_disk(pass->txn, layer.owner_disk, &disk) != 0 || disk.head_layer != pass->layer->id)
		return 0;
	for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
		uint64_t at = leaf * LEAF_CHUNKS + i;
		if (!check_beyond_end(entries[i], at, disk.size_bytes, disk.trim_above_bytes))
			continue;
		any = true;
		if (!check->live)
			check_found_beyond_end(check, layer.owner_disk, pass->store, at, disk.size_bytes);
	}
	if (!any || !check->live)
		return 0;
	if (check_room((void **)&check->ends, &check->end_room, check->end_count, sizeof(*check->ends)) < 0)
		return check_no_memory(check);
	check->ends[check->end_count++] = (struct end_suspect){ layer.owner_disk, leaf };
	return 0;
}

/* The bit of the chunk at the leaf's moment: 1, 0; -EBADMSG: it can't be told; other negative errno. */
static int space_bit(struct map_pass *pass, uint32_t chunk)
{
	uint64_t group = chunk / SPACE_GROUP_CHUNKS;
	unsigned n = chunk % SPACE_GROUP_CHUNKS;

	if (pass->space_group != group) {
		pass->space_group = group;
		pass->space_rc = check_get_space(pass->txn, group, &pass->space_rec);
	}
	return pass->space_rc < 0 ? pass->space_rc : pass->space_rec.owned[n / 8] >> (n % 8) & 1;
}

static int judge_space_bit(struct map_pass *pass, uint32_t chunk, uint64_t at)
{
	if (chunk_set_has(pass->check->space, chunk))
		return 0;
	int rc = space_bit(pass, chunk);
	if (rc == -EBADMSG)
		pass->check->report->not_judged++;
	else if (rc < 0)
		return check_cant_read(pass->check, DB_SPACE, rc);
	else if (rc == 0)
		check_found(pass->check, META_CHECK_CHUNK_NOT_IN_SPACE,
			    CHECK_PLACE(.store = pass->store, .leaf = at / LEAF_CHUNKS, .entry = at, .chunk = chunk),
			    "chunk %" PRIu32 " is owned by entry %" PRIu64 " of store %" PRIu64
			    ", and the space bitmap calls it free",
			    chunk, at, pass->store);
	return 0;
}

static int judge_chunk(struct map_pass *pass, uint32_t chunk, uint64_t at)
{
	struct check *check = pass->check;

	pass->chunks++;
	check->report->chunks_owned++;
	if (!check_in_range(check, pass->txn, chunk)) {
		check_found(check, META_CHECK_CHUNK_OUT_OF_RANGE,
			    CHECK_PLACE(.store = pass->store, .leaf = at / LEAF_CHUNKS, .entry = at, .chunk = chunk),
			    "entry %" PRIu64 " of store %" PRIu64 " owns chunk %" PRIu32 ", which no pv has", at,
			    pass->store, chunk);
		return 0;
	}
	int rc = chunk_set_add(check->owned, chunk);
	if (rc == 1)
		rc = chunk_set_add(check->twice, chunk);
	return rc < 0 ? check_no_memory(check) : judge_space_bit(pass, chunk, at);
}

static bool is_unsound(const struct map_pass *pass, meta_entry entry)
{
	/* A dead layer has let go of its parent and is being freed: nobody reads it. */
	return meta_entry_zero(entry) != 0 && pass->layer && !pass->layer->bad && pass->layer->rec.parent == 0 &&
	       pass->layer->rec.state == META_LAYER_LIVE;
}

static int judge_entries(struct map_pass *pass, uint64_t leaf, const meta_entry *entries)
{
	const struct known_layer *layer = pass->layer;
	bool beyond = false;
	int rc = 0;

	for (unsigned i = 0; i < LEAF_CHUNKS && rc == 0; i++) {
		uint64_t at = leaf * LEAF_CHUNKS + i;
		uint32_t chunk = meta_entry_chunk(entries[i]).n;
		if (entries[i] == 0)
			continue;
		pass->blocks += (uint64_t)__builtin_popcount(meta_entry_valid(entries[i]));
		if (is_unsound(pass, entries[i]))
			check_found(pass->check, META_CHECK_ENTRY_UNSOUND,
				    CHECK_PLACE(.store = pass->store, .leaf = leaf, .entry = at),
				    "entry %" PRIu64 " of store %" PRIu64
				    " has zero bits, and its layer has no parent to hide",
				    at, pass->store);
		beyond |= layer && layer->is_head &&
			  check_beyond_end(entries[i], at, layer->size_bytes, layer->trim_above_bytes) != 0;
		if (chunk != 0)
			rc = judge_chunk(pass, chunk, at);
	}
	return rc == 0 && beyond ? judge_beyond_end(pass, leaf, entries) : rc;
}

/* ---- leaves and their bits ------------------------------------------------------------------------ */

/* No leaf in [from, to) of the group, says the map; what does the index say? */
static void judge_no_leaves(struct map_pass *pass, uint64_t from, uint64_t to)
{
	for (uint64_t n = from; pass->index_state == INDEX_GOOD && n < to; n++) {
		uint64_t i = n % GROUP_LEAVES;
		if (i % 8 == 0 && n + 8 <= to && pass->index_rec.present[i / 8] == 0)
			n += 7;
		else if (pass->index_rec.present[i / 8] >> (i % 8) & 1)
			check_found(pass->check, META_CHECK_INDEX_WITHOUT_LEAF,
				    CHECK_PLACE(.store = pass->store, .leaf = n),
				    "the index of store %" PRIu64 " has leaf %" PRIu64 ", and the map doesn't",
				    pass->store, n);
	}
}

static void judge_presence(struct map_pass *pass, uint64_t leaf)
{
	uint64_t i = leaf % GROUP_LEAVES;

	if (pass->index_state == INDEX_BAD ||
	    (pass->index_state == INDEX_GOOD && (pass->index_rec.present[i / 8] >> (i % 8) & 1)))
		return;
	check_found(pass->check, META_CHECK_LEAF_WITHOUT_INDEX, CHECK_PLACE(.store = pass->store, .leaf = leaf),
		    "the map of store %" PRIu64 " has leaf %" PRIu64
		    ", and the index doesn't: it would read as a hole",
		    pass->store, leaf);
}

static int judge_leaf(struct map_pass *pass)
{
	struct check *check = pass->check;
	struct ahead *map = &pass->map;
	meta_entry entries[LEAF_CHUNKS];

	check->report->leaves++;
	judge_presence(pass, map->number);
	if (map->state == AHEAD_GOOD && meta_leaf_decode(map->value.b, map->value.bytes, entries) == 0)
		return judge_entries(pass, map->number, entries);
	check_found_bad(check, map->state == AHEAD_GOOD ? META_CHECK_BAD_CONTENT : META_CHECK_BAD_CHECKSUM, DB_MAP,
			&map->key);
	check->maps_unknown = true;
	if (pass->layer)
		pass->layer->map_unknown = true;
	return 0;
}

/* ---- groups ---------------------------------------------------------------------------------------- */

static int read_index(struct map_pass *pass)
{
	struct db_key key = db_key_u64_u64(pass->store, pass->group);
	struct db_value value;
	int rc = db_get(pass->txn, DB_INDEX, &key, &value);

	pass->records++;
	if (rc == 0)
		rc = meta_index_decode(value.b, value.bytes, &pass->index_rec);
	if (rc < 0 && rc != -EBADMSG)
		return check_cant_read(pass->check, DB_INDEX, rc);
	pass->index_state = rc == 0 ? INDEX_GOOD : rc == -EBADMSG ? INDEX_BAD : INDEX_NONE;
	return 0;
}

static void take_index_record(struct map_pass *pass)
{
	struct ahead *index = &pass->index;
	struct meta_index_record rec;

	pass->index_records++;
	if (index->state == AHEAD_BAD)
		check_found_bad(pass->check, META_CHECK_BAD_CHECKSUM, DB_INDEX, &index->key);
	else if (meta_index_decode(index->value.b, index->value.bytes, &rec) < 0)
		check_found_bad(pass->check, META_CHECK_BAD_CONTENT, DB_INDEX, &index->key);
	pass_by(pass, index);
}

static void enter_group(struct map_pass *pass, uint64_t group, bool by_index)
{
	pass->group = group;
	pass->next_leaf = group << GROUP_SHIFT;
	pass->in_group = true;
	if (by_index)
		take_index_record(pass);
	/* What lies ahead of either cursor is behind these places already, so it stays. */
	move_to(&pass->index, pass->store, group, false);
	move_to(&pass->map, pass->store, pass->next_leaf, true);
}

/* Whether the index knows the next group, or only the map does. */
static bool index_is_first(const struct ahead *index, const struct ahead *map)
{
	if (index->state == AHEAD_END || map->state == AHEAD_END)
		return map->state == AHEAD_END;
	return index->store != map->store ? index->store < map->store : index->number <= map->number >> GROUP_SHIFT;
}

/* Enters the next group. Return: 0; DB_NOT_FOUND: there is none; negative errno. */
static int next_group(struct map_pass *pass)
{
	struct ahead *index = &pass->index, *map = &pass->map;
	int rc = look_ahead(pass, index);

	if (rc == 0)
		rc = look_ahead(pass, map);
	if (rc < 0)
		return rc;
	bool by_index = index_is_first(index, map), end = index->state == AHEAD_END && map->state == AHEAD_END;
	uint64_t store = end ? 0 : by_index ? index->store : map->store;
	if (store != pass->store && pass->store != 0)
		rc = leave_store(pass);
	if (rc < 0 || end)
		return rc < 0 ? rc : DB_NOT_FOUND;
	if (store != pass->store)
		enter_store(pass, store);
	enter_group(pass, by_index ? index->number : map->number >> GROUP_SHIFT, by_index);
	return read_index(pass);
}

/* The next leaf of the group, or its end. */
static int step_in_group(struct map_pass *pass)
{
	uint64_t end = (pass->group + 1) << GROUP_SHIFT;
	struct ahead *map = &pass->map;
	int rc = look_ahead(pass, map);

	if (rc < 0)
		return rc;
	if (map->state == AHEAD_END || map->store != pass->store || map->number >= end) {
		judge_no_leaves(pass, pass->next_leaf, end);
		pass->in_group = false;
		move_to(map, pass->store, end, true);
		return 0;
	}
	judge_no_leaves(pass, pass->next_leaf, map->number);
	rc = judge_leaf(pass);
	pass->next_leaf = map->number + 1;
	pass_by(pass, map);
	return rc;
}

static int slice(struct map_pass *pass)
{
	int rc = check_begin(pass->check, &pass->txn);

	if (rc < 0)
		return rc;
	pass->records = 0;
	pass->space_group = UINT64_MAX;
	/* Nothing that was seen in an earlier transaction is used in this one. */
	pass->index.state = pass->map.state = AHEAD_UNREAD;
	if (pass->in_group)
		rc = read_index(pass);
	while (rc == 0) {
		rc = pass->in_group ? step_in_group(pass) : next_group(pass);
		if (pass->records >= pass->check->slice_records)
			break;
	}
	db_read_end(pass->txn);
	return rc;
}

int check_map(struct check *check)
{
	struct map_pass pass = { .check = check, .index.kind = DB_INDEX, .map.kind = DB_MAP };
	int rc = 0;

	while (rc == 0) {
		rc = slice(&pass);
		if (rc == 0)
			rc = check_tick(check);
	}
	return rc == DB_NOT_FOUND ? judge_unmet(check) : rc;
}
