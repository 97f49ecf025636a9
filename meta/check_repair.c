/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repair: what follows from the findings of a check, and is certain.
 *
 * The leaves say what is where; index bits, the space bitmap and the counters of
 * the layers can be drawn from them. So a wrong one can be put right, provided
 * that no leaf is missing. Leaves, index, bitmap and counters change in one
 * transaction, so each of them is a witness for the others:
 *
 *   a chunk that is owned and not marked   mark it: the entry is there, whatever else is wrong
 *   a chunk that is marked and not owned   free it, if every leaf can be read, each index bit has its leaf, no chunk
 *                                          has two owners, and no layer counts more chunks than it has: a lost leaf
 * or entry would show in one of these a space record that can't be read      write it anew, under the same conditions
 *   a leaf without its bit                 set the bit, if the leaf can be read, its layer is there, and each of its
 *                                          chunks has no other owner
 *   a bit without its leaf                 clear the bit, if no chunk is missing an owner and the layer counts no
 * more chunks than it has: so the leaf had none; in a layer without a parent that means there was none counters write
 * them, if every leaf and index record of the store can be read, each bit has its leaf, and no chunk is missing an
 * owner number of children                     write it, if no layer is missing or unreadable
 *
 * So a lost leaf is never made a hole and its chunks never free: the marked chunk
 * without an owner and the counter that is too high speak for each other, and both
 * stay.
 *
 * The order is index, space, counters, children; each step looks at the records as
 * the steps before have left them.
 *
 * Of a pool that was not closed in order the last commit is repaired. The
 * generation stays, so the next open replays its restart log as it would have.
 *
 * Failure modes: a pv that can't be opened, so that nothing keeps others from the
 * pool: refused. A full file system: what was committed stays, and is right.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meta/check_internal.h"
#include "meta/repair.h"

/* Records looked at, or written, in one transaction. */
#define RECORDS_A_TRANSACTION 256

struct repair {
	const struct meta_repair_args *args;
	struct meta_repair_report *report;
	struct base_error *err;
	struct check *check;
	struct db_txn *txn;  /* NULL between two */
	struct db_txn *slot; /* a dry run's */
	unsigned records;    /* of the transaction */
	bool wrote;
	/* Of each layer of check->layers, as counted. */
	struct store_sums {
		uint64_t chunks, blocks, index_records;
	} * sums;
	bool counted_short; /* some layer counts more chunks than it has */
	uint64_t bits_cleared;
};

const char *meta_repair_kind_to_text(enum meta_repair_kind kind)
{
	static const char *const texts[META_REPAIR_KINDS] = {
		[META_REPAIR_INDEX] = "index",
		[META_REPAIR_SPACE] = "space",
		[META_REPAIR_COUNTERS] = "counters",
		[META_REPAIR_CHILDREN] = "children",
	};

	return texts[kind];
}

/* ---- transactions -------------------------------------------------------------------------------- */

static int cant_write(struct repair *repair, int rc)
{
	if (repair->txn && !repair->args->dry_run)
		db_write_abort(repair->txn);
	repair->txn = NULL;
	return base_error_set_errno(repair->err, rc, "the repair could not be written: what is done so far stays");
}

static int txn_begin(struct repair *repair)
{
	int rc = 0;

	if (repair->txn)
		return 0;
	if (repair->args->dry_run) {
		rc = db_read_begin(repair->check->env, &repair->slot);
		repair->txn = rc == 0 ? repair->slot : NULL;
	} else {
		rc = db_write_begin(repair->check->env, &repair->txn);
	}
	repair->records = 0;
	repair->wrote = false;
	return rc < 0 ? base_error_set_errno(repair->err, rc, "can't begin a transaction") : 0;
}

/* A transaction more, as the pool's record counts them: labels stay at or below it. */
static int count_commit(struct repair *repair)
{
	struct db_key key = db_key_bytes("pool", 4);
	struct meta_pool_record *rec = &repair->check->pool_record;
	uint8_t buf[DB_VALUE_BYTES_MAX];

	if (!repair->check->pool_known)
		return 0;
	rec->commit++;
	return db_put(repair->txn, DB_POOL, &key, buf, meta_pool_encode(rec, buf));
}

static int txn_end(struct repair *repair)
{
	struct db_txn *txn = repair->txn;
	int rc = 0;

	if (!txn)
		return 0;
	if (repair->args->dry_run) {
		db_read_end(txn);
	} else if (!repair->wrote) {
		db_write_abort(txn);
	} else {
		rc = count_commit(repair);
		if (rc < 0)
			return cant_write(repair, rc);
		rc = db_write_commit(txn);
	}
	repair->txn = NULL;
	return rc < 0 ? cant_write(repair, rc) : 0;
}

/* After each record: a transaction that is long enough ends. */
static int txn_tick(struct repair *repair)
{
	int rc = 0;

	if (++repair->records >= RECORDS_A_TRANSACTION)
		rc = txn_end(repair);
	return rc == 0 ? txn_begin(repair) : rc;
}

/* bytes 0: the record goes. */
static int put(struct repair *repair, enum db_kind kind, const struct db_key *key, const void *value, size_t bytes)
{
	int rc = 0;

	if (repair->args->dry_run)
		return 0;
	if (bytes > 0)
		rc = db_put(repair->txn, kind, key, value, bytes);
	else
		rc = db_del(repair->txn, kind, key);
	repair->wrote = true;
	return rc < 0 ? cant_write(repair, rc) : 0;
}

__attribute__((format(printf, 4, 5))) static void tell(struct repair *repair, enum meta_repair_kind kind,
						       uint64_t changes, const char *fmt, ...)
{
	char text[META_CHECK_TEXT_BYTES];
	va_list args;

	repair->report->changes[kind] += changes;
	repair->report->total += changes;
	if (!repair->args->change)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	repair->args->change(kind, text, repair->args->change_ctx);
}

static uint64_t found(const struct repair *repair, enum meta_check_kind kind)
{
	return repair->check->report->found[kind];
}

static uint64_t bad(const struct repair *repair, enum db_kind kind)
{
	return repair->check->report->bad_checksum[kind] + repair->check->report->bad_content[kind];
}

static bool bit_is_set(const uint8_t *bits, uint64_t n)
{
	return bits[n / 8] >> (n % 8) & 1;
}

static bool is_zero(const uint8_t *bits, size_t bytes)
{
	return bits[0] == 0 && memcmp(bits, bits + 1, bytes - 1) == 0;
}

/* ---- what the leaves add up to ------------------------------------------------------------------------ */

static void add_leaf(struct store_sums *sums, const struct walked_leaf *leaf)
{
	for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
		sums->chunks += meta_entry_chunk(leaf->entries[i]).n != 0;
		sums->blocks += (unsigned)__builtin_popcount(meta_entry_valid(leaf->entries[i]));
	}
}

static int sum_leaves(struct repair *repair)
{
	struct leaf_walk walk = { 0 };
	struct walked_leaf leaf;
	int rc = txn_begin(repair);

	while (rc == 0) {
		rc = leaf_walk_next(&walk, repair->txn, &leaf);
		if (rc < 0)
			return check_cant_read(repair->check, DB_MAP, rc);
		if (rc == DB_NOT_FOUND)
			return 0;
		struct known_layer *layer = check_layer_by_store(repair->check, leaf.store);
		if (layer && !leaf.bad)
			add_leaf(&repair->sums[layer - repair->check->layers], &leaf);
		rc = txn_tick(repair);
	}
	return rc;
}

static int sum_up(struct repair *repair)
{
	struct check *check = repair->check;

	repair->sums = calloc(check->layer_count + 1, sizeof(*repair->sums));
	if (!repair->sums)
		return check_no_memory(check);
	int rc = sum_leaves(repair);
	for (size_t i = 0; rc == 0 && i < check->layer_count; i++)
		repair->counted_short |=
			check->layers[i].bad || check->layers[i].rec.chunks_owned > repair->sums[i].chunks;
	return rc;
}

/* ---- the index ------------------------------------------------------------------------------------------ */

/* Return: 0, *ret_exists says whether there is one; -EBADMSG: it can't be used; other negative errno with err. */
static int get_index(struct repair *repair, const struct db_key *key, struct meta_index_record *ret, bool *ret_exists)
{
	struct db_value value;
	int rc = db_get(repair->txn, DB_INDEX, key, &value);

	memset(ret, 0, sizeof(*ret));
	*ret_exists = rc == 0;
	if (rc == 0)
		rc = meta_index_decode(value.b, value.bytes, ret);
	if (rc < 0 && rc != -EBADMSG)
		return check_cant_read(repair->check, DB_INDEX, rc);
	return rc == DB_NOT_FOUND ? 0 : rc;
}

static bool has_chunk_twice(const struct repair *repair, const struct walked_leaf *leaf)
{
	for (unsigned i = 0; i < LEAF_CHUNKS; i++)
		if (chunk_set_has(repair->check->twice, meta_entry_chunk(leaf->entries[i]).n))
			return true;
	return false;
}

static int set_bit_of_leaf(struct repair *repair, const struct walked_leaf *leaf)
{
	struct db_key key = db_key_u64_u64(leaf->store, leaf->number >> GROUP_SHIFT);
	uint64_t bit = leaf->number % GROUP_LEAVES;
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct meta_index_record rec;
	bool exists;
	int rc = get_index(repair, &key, &rec, &exists);

	if (rc < 0 || bit_is_set(rec.present, bit))
		return rc == -EBADMSG ? 0 : rc;
	if (!check_layer_by_store(repair->check, leaf->store) || has_chunk_twice(repair, leaf))
		return 0;
	tell(repair, META_REPAIR_INDEX, 1,
	     "index of store %" PRIu64 ": set the bit of leaf %" PRIu64 ", which is there", leaf->store,
	     leaf->number);
	rec.present[bit / 8] |= (uint8_t)(1u << (bit % 8));
	return put(repair, DB_INDEX, &key, buf, meta_index_encode(&rec, buf));
}

static int set_missing_bits(struct repair *repair)
{
	struct leaf_walk walk = { 0 };
	struct walked_leaf leaf;
	int rc = found(repair, META_CHECK_LEAF_WITHOUT_INDEX) ? txn_begin(repair) : DB_NOT_FOUND;

	while (rc == 0) {
		rc = leaf_walk_next(&walk, repair->txn, &leaf);
		if (rc < 0)
			return check_cant_read(repair->check, DB_MAP, rc);
		if (rc == 0 && !leaf.bad)
			rc = set_bit_of_leaf(repair, &leaf);
		if (rc == 0)
			rc = txn_tick(repair);
	}
	return rc == DB_NOT_FOUND ? 0 : rc;
}

/* Whether a leaf that is not there can't have been there. */
static bool leaf_never_was(const struct repair *repair, uint64_t store)
{
	const struct check *check = repair->check;
	const struct known_layer *layer = check_layer_by_store(check, store);

	return layer && !layer->bad && layer->rec.parent == 0 && !layer->map_unknown &&
	       layer->rec.chunks_owned <= repair->sums[layer - check->layers].chunks;
}

/* Takes bits without a leaf out of the record. Return: how many, or a negative errno. */
static int clear_bits(struct repair *repair, uint64_t store, uint64_t group, struct meta_index_record *rec)
{
	int cleared = 0;

	for (uint64_t i = 0; i < GROUP_LEAVES; i++) {
		struct db_key key = db_key_u64_u64(store, group * GROUP_LEAVES + i);
		struct db_value value;
		if (!bit_is_set(rec->present, i))
			continue;
		int rc = db_get(repair->txn, DB_MAP, &key, &value);
		if (rc == 0 || rc == -EBADMSG)
			continue;
		if (rc < 0)
			return check_cant_read(repair->check, DB_MAP, rc);
		tell(repair, META_REPAIR_INDEX, 1,
		     "index of store %" PRIu64 ": clear the bit of leaf %" PRIu64 ", which never was there", store,
		     group * GROUP_LEAVES + i);
		rec->present[i / 8] &= (uint8_t) ~(1u << (i % 8));
		repair->bits_cleared++;
		cleared++;
	}
	return cleared;
}

static int clear_bits_of_record(struct repair *repair, const struct db_key *key, const struct db_value *value)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct meta_index_record rec;
	uint64_t store, group;

	if (!db_key_to_u64_u64(key, &store, &group) || group >= DISK_BYTES_MAX / LEAF_BYTES / GROUP_LEAVES ||
	    meta_index_decode(value->b, value->bytes, &rec) < 0 || !leaf_never_was(repair, store))
		return 0;
	int cleared = clear_bits(repair, store, group, &rec);
	if (cleared <= 0)
		return cleared;
	size_t bytes = is_zero(rec.present, sizeof(rec.present)) ? 0 : meta_index_encode(&rec, buf);
	return put(repair, DB_INDEX, key, buf, bytes);
}

static int clear_false_bits(struct repair *repair)
{
	struct db_key key = { 0 };
	struct db_value value;
	bool certain = found(repair, META_CHECK_INDEX_WITHOUT_LEAF) > 0 && bad(repair, DB_MAP) == 0 &&
		       bad(repair, DB_SPACE) == 0 && chunk_set_count(repair->check->leaked) == 0 &&
		       found(repair, META_CHECK_CHUNK_TWICE) == 0;
	int rc = certain ? txn_begin(repair) : DB_NOT_FOUND;

	while (rc == 0) {
		rc = db_next(repair->txn, DB_INDEX, &key, false, &value);
		if (rc < 0 && rc != -EBADMSG)
			return check_cant_read(repair->check, DB_INDEX, rc);
		if (rc == 0)
			rc = clear_bits_of_record(repair, &key, &value);
		if (rc == 0 || rc == -EBADMSG)
			rc = txn_tick(repair);
	}
	return rc == DB_NOT_FOUND ? 0 : rc;
}

/* ---- space ------------------------------------------------------------------------------------------------ */

/* Every leaf that was written is there and was counted. */
static bool leaves_are_whole(const struct repair *repair)
{
	return !repair->check->maps_unknown && bad(repair, DB_MAP) == 0 && bad(repair, DB_INDEX) == 0 &&
	       found(repair, META_CHECK_INDEX_WITHOUT_LEAF) == repair->bits_cleared &&
	       found(repair, META_CHECK_CHUNK_TWICE) == 0;
}

static void tell_runs(struct repair *repair, uint64_t group, const uint8_t *from, const uint8_t *to)
{
	for (unsigned i = 0; i < SPACE_GROUP_CHUNKS;) {
		bool set = bit_is_set(to, i);
		unsigned first = i;
		while (i < SPACE_GROUP_CHUNKS && bit_is_set(from, i) != bit_is_set(to, i) && bit_is_set(to, i) == set)
			i++;
		if (i == first) {
			i++;
			continue;
		}
		uint64_t chunk = group * SPACE_GROUP_CHUNKS + first;
		tell(repair, META_REPAIR_SPACE, i - first, "space: chunks %" PRIu64 " to %" PRIu64 " become %s",
		     chunk, chunk + (i - first) - 1, set ? "owned: entries own them" : "free: no entry owns them");
	}
}

/* certain: what no entry owns is free. */
static int repair_group(struct repair *repair, uint64_t group, bool certain)
{
	static const uint8_t none[CHECK_GROUP_BYTES];
	const uint8_t *owned = repair->check->owned->groups[group] ? repair->check->owned->groups[group] : none;
	struct db_key key = db_key_u64(group);
	struct meta_space_record rec, right;
	uint8_t buf[DB_VALUE_BYTES_MAX];
	int rc = check_get_space(repair->txn, group, &rec);
	bool unreadable = rc == -EBADMSG;

	if (rc < 0 && !unreadable)
		return check_cant_read(repair->check, DB_SPACE, rc);
	if (unreadable && !certain)
		return 0;
	if (unreadable)
		memset(&rec, 0, sizeof(rec));
	for (unsigned i = 0; i < CHECK_GROUP_BYTES; i++)
		right.owned[i] = certain ? owned[i] : rec.owned[i] | owned[i];
	if (!unreadable && memcmp(&rec, &right, sizeof(rec)) == 0)
		return 0;
	if (unreadable)
		tell(repair, META_REPAIR_SPACE, 1, "space: record %" PRIu64 " is written anew from what entries own",
		     group);
	else
		tell_runs(repair, group, rec.owned, right.owned);
	size_t bytes = is_zero(right.owned, sizeof(right.owned)) ? 0 : meta_space_encode(&right, buf);
	return put(repair, DB_SPACE, &key, buf, bytes);
}

/* Groups of chunks that may have a record. */
static uint64_t space_groups(const struct repair *repair)
{
	const struct known_pvs *pvs = repair->check->pvs;
	uint64_t end = 0;

	for (unsigned i = 0; i < pvs->range_count; i++)
		end = MAX(end, pvs->ranges[i].end);
	return found(repair, META_CHECK_SPACE_OUT_OF_RANGE) ? CHECK_GROUPS : end / SPACE_GROUP_CHUNKS + 1;
}

static bool space_is_wrong(const struct repair *repair)
{
	return chunk_set_count(repair->check->leaked) > 0 || bad(repair, DB_SPACE) > 0 ||
	       found(repair, META_CHECK_CHUNK_NOT_IN_SPACE) > 0 || found(repair, META_CHECK_SPACE_OUT_OF_RANGE) > 0;
}

static bool leaks_are_certain(const struct repair *repair)
{
	return leaves_are_whole(repair) && !repair->counted_short && !repair->check->pvs->unknown &&
	       found(repair, META_CHECK_CHUNK_OUT_OF_RANGE) == 0;
}

static int repair_space(struct repair *repair)
{
	bool certain = leaks_are_certain(repair);
	uint64_t groups = space_groups(repair);
	int rc = space_is_wrong(repair) ? txn_begin(repair) : DB_NOT_FOUND;

	for (uint64_t group = 0; rc == 0 && group < groups; group++) {
		rc = repair_group(repair, group, certain);
		if (rc == 0)
			rc = txn_tick(repair);
	}
	return rc == DB_NOT_FOUND ? 0 : rc;
}

/* ---- layers ------------------------------------------------------------------------------------------------- */

static int count_index_records(struct repair *repair)
{
	struct db_key key = { 0 };
	struct db_value value;
	uint64_t store, group;
	int rc = txn_begin(repair);

	while (rc == 0) {
		rc = db_next(repair->txn, DB_INDEX, &key, false, &value);
		if (rc < 0 && rc != -EBADMSG)
			return check_cant_read(repair->check, DB_INDEX, rc);
		if (rc == DB_NOT_FOUND)
			return 0;
		struct known_layer *layer =
			db_key_to_u64_u64(&key, &store, &group) ? check_layer_by_store(repair->check, store) : NULL;
		if (layer)
			repair->sums[layer - repair->check->layers].index_records++;
		rc = txn_tick(repair);
	}
	return rc;
}

static int put_layer(struct repair *repair, uint64_t id, const struct meta_layer_record *rec)
{
	struct db_key key = db_key_u64(id);
	uint8_t buf[DB_VALUE_BYTES_MAX];
	int rc = txn_tick(repair);

	return rc == 0 ? put(repair, DB_LAYER, &key, buf, meta_layer_encode(rec, buf)) : rc;
}

/* The layer's own record may have changed in a step before: it is read again. */
static int repair_counters_of(struct repair *repair, const struct known_layer *layer)
{
	const struct store_sums *sums = &repair->sums[layer - repair->check->layers];
	struct meta_layer_record rec;
	bool has_store = check_layer_by_store(repair->check, layer->rec.store_id) == layer;

	if (layer->bad || !has_store || check_get_layer(repair->txn, layer->id, &rec) != 0)
		return 0;
	if (rec.chunks_owned == sums->chunks && rec.blocks_valid == sums->blocks &&
	    rec.index_records == sums->index_records)
		return 0;
	tell(repair, META_REPAIR_COUNTERS, 1,
	     "layer %" PRIu64 ": counts %" PRIu64 " chunks, %" PRIu64 " blocks, %" PRIu64
	     " index records; becomes %" PRIu64 ", %" PRIu64 ", %" PRIu64,
	     layer->id, rec.chunks_owned, rec.blocks_valid, rec.index_records, sums->chunks, sums->blocks,
	     sums->index_records);
	rec.chunks_owned = sums->chunks;
	rec.blocks_valid = sums->blocks;
	rec.index_records = sums->index_records;
	return put_layer(repair, layer->id, &rec);
}

static bool counters_are_certain(const struct repair *repair)
{
	bool marked_without_owner = chunk_set_count(repair->check->leaked) > 0 || bad(repair, DB_SPACE) > 0;

	return leaves_are_whole(repair) && (!marked_without_owner || leaks_are_certain(repair));
}

static int repair_counters(struct repair *repair)
{
	struct check *check = repair->check;

	/* Setting or clearing bits of the index changes how many records it has. */
	bool wrong = found(repair, META_CHECK_LAYER_COUNTERS) > 0 || repair->report->changes[META_REPAIR_INDEX] > 0;
	if (!wrong || !counters_are_certain(repair))
		return 0;
	int rc = count_index_records(repair);
	for (size_t i = 0; rc == 0 && i < check->layer_count; i++)
		rc = repair_counters_of(repair, &check->layers[i]);
	return rc;
}

static int repair_children(struct repair *repair)
{
	struct check *check = repair->check;
	struct meta_layer_record rec;
	bool certain = !check->layers_unknown && found(repair, META_CHECK_STORE_ORPHAN) == 0 &&
		       found(repair, META_CHECK_DISK_WITHOUT_LAYER) == 0 && found(repair, META_CHECK_SNAPSHOT) == 0 &&
		       found(repair, META_CHECK_LAYER_PARENT) == 0;
	int rc = certain && found(repair, META_CHECK_LAYER_CHILDREN) > 0 ? txn_begin(repair) : DB_NOT_FOUND;

	for (size_t i = 0; rc == 0 && i < check->layer_count; i++) {
		const struct known_layer *layer = &check->layers[i];
		if (check_get_layer(repair->txn, layer->id, &rec) != 0 || rec.children == layer->children)
			continue;
		tell(repair, META_REPAIR_CHILDREN, 1,
		     "layer %" PRIu64 ": counts %" PRIu32 " children; becomes %" PRIu32, layer->id, rec.children,
		     layer->children);
		rec.children = layer->children;
		rc = put_layer(repair, layer->id, &rec);
	}
	return rc == DB_NOT_FOUND ? 0 : rc;
}

/* ---- the whole ------------------------------------------------------------------------------------------------ */

static int run_steps(struct repair *repair)
{
	static int (*const steps[])(struct repair * repair) = {
		sum_up, set_missing_bits, clear_false_bits, repair_space, repair_counters, repair_children,
	};
	int rc = 0;

	for (unsigned i = 0; i < ARRAY_LEN(steps) && rc == 0; i++) {
		rc = steps[i](repair);
		int end_rc = rc == 0 ? txn_end(repair) : 0;
		rc = rc == 0 ? end_rc : rc;
	}
	if (rc < 0 && repair->txn) { /* met something that it can't read */
		if (repair->args->dry_run)
			db_read_end(repair->txn);
		else
			db_write_abort(repair->txn);
	}
	return rc;
}

static int need_all_pvs(const struct check *check, struct base_error *err)
{
	for (unsigned i = 0; i < POOL_PVS_MAX; i++)
		if (check->pvs->present[i] && !check->opened[i])
			return base_error_set(
				err, -ENXIO,
				"pv %u (%s) can't be opened: without the locks of all pvs nothing keeps "
				"others from the pool; bring it back first",
				i, check->pvs->records[i].path);
	return 0;
}

/* The same pool again, under the same locks. */
static int check_after(struct check *before, struct meta_repair_report *report, struct base_error *err)
{
	struct check *check = check_new(before->args, err);

	if (!check)
		return base_error_set_errno(err, -ENOMEM, "check");
	check->dir = before->dir;
	check->env = before->env;
	memcpy(check->handles, before->handles, sizeof(check->handles));
	memcpy(check->opened, before->opened, sizeof(check->opened));
	int rc = check_run_passes(check);
	if (rc == 0)
		report->after = *check->report;
	memset(check->opened, 0, sizeof(check->opened));
	check_free(check);
	return rc;
}

static int repair_checked(struct repair *repair)
{
	struct check *check = repair->check;
	struct meta_repair_report *report = repair->report;
	int rc = check_run_passes(check);

	if (rc == 0)
		rc = need_all_pvs(check, repair->err);
	if (rc == 0) {
		check->report->unclean = check->pool_known && !check->pool_record.clean;
		report->before = *check->report;
		rc = run_steps(repair);
	}
	if (rc == 0 && report->total > 0 && !repair->args->dry_run)
		rc = check_after(check, report, repair->err);
	else
		report->after = report->before;
	report->after.unclean = report->before.unclean;
	return rc;
}

int meta_repair_dir(const char *dir, const struct meta_repair_args *args, struct meta_repair_report *ret,
		    struct base_error *err)
{
	struct meta_check_args check_args = args->check;
	struct repair repair = { .args = args, .report = ret, .err = err };

	check_args.pool = NULL;
	if (!check_args.pv_ops)
		check_args.pv_ops = &meta_pv_real;
	*ret = (struct meta_repair_report){ 0 };
	repair.check = check_new(&check_args, err);
	if (!repair.check)
		return base_error_set_errno(err, -ENOMEM, "repair");
	repair.check->dir = dir;
	repair.check->way_out = "unmount it first";
	if (!args->dry_run)
		repair.check->pv_flags = 0;
	int rc = db_open(dir, args->dry_run ? DB_OPEN_READ_ONLY : DB_OPEN_WRITE, 0, &repair.check->env, err);
	if (rc == 0)
		rc = check_lock_dir(repair.check, dir);
	if (rc == 0)
		rc = repair_checked(&repair);
	struct db_env *env = repair.check->env;
	db_read_free(repair.slot);
	free(repair.sums);
	check_free(repair.check);
	db_close(env);
	return rc;
}
