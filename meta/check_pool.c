/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: the pool record, the pv records, and the labels on the pvs.
 *
 * The pool record and all pv records (at most 64) are read in one transaction,
 * since the one counts the others. What they say is kept: which chunks there
 * are, and which ids the pool has given out. Both only ever grow, so on a pool
 * in use "not there" is asked again in the transaction of whoever asks, before
 * it is believed.
 *
 * A label is compared with its record and with the pool's counters, as at open:
 * floor <= label <= commit. On a pool in use the metadata thread does that: it
 * is the one that writes labels and counters, so it finds them at rest.
 *
 * A directory's pvs are opened and locked here, shared: as long as the check
 * holds them nobody can open the pool for writing. What the records say is read
 * once to find the pvs, and once more, and judged, when they are locked: so a
 * pool that is in use is refused and not misjudged.
 *
 * Failure modes: a pv that another process holds (-EBUSY, which names it). A pv
 * that is not there is a finding.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/uuid.h"
#include "meta/check_internal.h"

/* ---- records -------------------------------------------------------------------------------- */

/* Reads the next record of a database as check_each does. Return: 0, -EBADMSG (reported), DB_NOT_FOUND, negative
 * errno.
 */
static int next_record(struct check *check, struct db_txn *txn, enum db_kind kind, struct db_key *key,
		       struct db_value *value)
{
	int rc = db_next(txn, kind, key, false, value);

	if (rc == DB_NOT_FOUND)
		return rc;
	if (rc < 0 && rc != -EBADMSG)
		return check_cant_read(check, kind, rc);
	check->report->records[kind]++;
	atomic_fetch_add(&check->done, 1);
	if (rc == -EBADMSG)
		check_found_bad(check, META_CHECK_BAD_CHECKSUM, kind, key);
	return rc;
}

static int read_pool_record(struct check *check, struct db_txn *txn)
{
	struct db_key key = { 0 }, right = db_key_bytes("pool", 4);
	struct db_value value;
	bool met = false;
	int rc;

	while ((rc = next_record(check, txn, DB_POOL, &key, &value)) == 0 || rc == -EBADMSG) {
		bool is_it = key.bytes == right.bytes && memcmp(key.b, right.b, key.bytes) == 0;
		met |= is_it;
		if (rc == -EBADMSG)
			continue;
		if (is_it && meta_pool_decode(value.b, value.bytes, &check->pool_record) == 0)
			check->pool_known = true;
		else
			check_found_bad(check, META_CHECK_BAD_CONTENT, DB_POOL, &key);
	}
	if (rc == DB_NOT_FOUND && !met)
		check_found(check, META_CHECK_POOL_RECORD, CHECK_PLACE(.database = DB_POOL),
			    "the pool record is missing");
	return rc == DB_NOT_FOUND ? 0 : rc;
}

static int take_pv(struct check *check, const struct db_key *key, const struct db_value *value)
{
	struct known_pvs *pvs = check->pvs;
	uint64_t number;

	check->report->pvs++;
	if (!db_key_to_u64(key, &number) || number >= POOL_PVS_MAX) {
		check_found_bad(check, META_CHECK_BAD_CONTENT, DB_PV, key);
	} else if (meta_pv_decode(value->b, value->bytes, &pvs->records[number]) < 0) {
		check_found_bad(check, META_CHECK_BAD_CONTENT, DB_PV, key);
		pvs->unknown = true;
		return (int)number;
	} else {
		pvs->present[number] = true;
		return (int)number;
	}
	return -1;
}

static void compare_pv_count(struct check *check, const bool *met)
{
	for (uint64_t n = 0; check->pool_known && n < POOL_PVS_MAX; n++) {
		bool expected = n < check->pool_record.pv_count;
		if (met[n] == expected)
			continue;
		check_found(check, META_CHECK_PV_RECORD, CHECK_PLACE(.database = DB_PV, .pv = n),
			    expected ? "the record of pv %" PRIu64 " is missing: the pool has %u"
				     : "there is a record of pv %" PRIu64 ", and the pool has only %u",
			    n, check->pool_record.pv_count);
		check->pvs->unknown |= expected;
	}
}

static int read_pv_records(struct check *check, struct db_txn *txn)
{
	bool met[POOL_PVS_MAX] = { 0 };
	struct db_key key = { 0 };
	struct db_value value;
	uint64_t bad;
	int rc;

	while ((rc = next_record(check, txn, DB_PV, &key, &value)) == 0 || rc == -EBADMSG) {
		int number = rc == 0 ? take_pv(check, &key, &value) : -1;
		if (number >= 0)
			met[number] = true;
		if (rc != -EBADMSG)
			continue;
		check->pvs->unknown = true;
		if (db_key_to_u64(&key, &bad) && bad < POOL_PVS_MAX)
			met[bad] = true;
	}
	if (rc != DB_NOT_FOUND)
		return rc;
	compare_pv_count(check, met);
	return 0;
}

/* ---- which chunks there are -------------------------------------------------------------------- */

static int by_first(const void *pa, const void *pb)
{
	const struct known_range *a = pa, *b = pb;

	return a->first < b->first ? -1 : a->first > b->first;
}

static void gather_ranges(struct known_pvs *pvs)
{
	pvs->range_count = 0;
	for (unsigned i = 0; i < POOL_PVS_MAX; i++) {
		for (unsigned r = 0; pvs->present[i] && r < pvs->records[i].range_count; r++) {
			const struct meta_pv_range *range = &pvs->records[i].ranges[r];
			pvs->ranges[pvs->range_count++] =
				(struct known_range){ .first = range->first_chunk,
						      .end = (uint64_t)range->first_chunk + range->chunks,
						      .pv = i };
		}
	}
	qsort(pvs->ranges, pvs->range_count, sizeof(pvs->ranges[0]), by_first);
}

/* Neighbours in number are taken for neighbours on one pv, so between two ranges a number is left out. */
static void judge_ranges(struct check *check)
{
	const struct known_pvs *pvs = check->pvs;

	for (unsigned i = 1; i < pvs->range_count; i++) {
		const struct known_range *a = &pvs->ranges[i - 1], *b = &pvs->ranges[i];
		if (b->first <= a->end)
			check_found(check, META_CHECK_PV_OVERLAP, CHECK_PLACE(.pv = b->pv, .chunk = b->first),
				    "pv %" PRIu64 " has chunks from %" PRIu64 " on, pv %" PRIu64 " up to %" PRIu64
				    ": they overlap, or lack the gap between them",
				    b->pv, b->first, a->pv, a->end - 1);
	}
}

static void judge_uuids(struct check *check)
{
	const struct known_pvs *pvs = check->pvs;

	for (unsigned i = 0; i < POOL_PVS_MAX; i++)
		for (unsigned j = i + 1; j < POOL_PVS_MAX; j++)
			if (pvs->present[i] && pvs->present[j] &&
			    base_uuid_equal(pvs->records[i].uuid, pvs->records[j].uuid))
				check_found(check, META_CHECK_UUID_TWICE, CHECK_PLACE(.database = DB_PV, .pv = j),
					    "pv %u and pv %u have one UUID", i, j);
}

int check_pool_and_pvs(struct check *check)
{
	struct db_txn *txn;
	int rc = check_begin(check, &txn);

	if (rc < 0)
		return rc;
	rc = read_pool_record(check, txn);
	if (rc == 0)
		rc = read_pv_records(check, txn);
	db_read_end(txn);
	if (rc < 0)
		return rc;
	gather_ranges(check->pvs);
	judge_ranges(check);
	judge_uuids(check);
	return 0;
}

/* A pv may have come or grown since. */
static void read_ranges_again(struct check *check, struct db_txn *txn)
{
	for (uint64_t n = 0; n < POOL_PVS_MAX; n++) {
		struct db_key key = db_key_u64(n);
		struct meta_pv_record rec;
		struct db_value value;
		int rc = db_get(txn, DB_PV, &key, &value);
		if (rc == 0)
			rc = meta_pv_decode(value.b, value.bytes, &rec);
		if (rc == 0) {
			check->pvs->records[n] = rec;
			check->pvs->present[n] = true;
		} else if (rc < 0) {
			check->pvs->unknown = true;
		}
	}
	gather_ranges(check->pvs);
}

bool check_all_in_range(const struct check *check, uint64_t first, uint64_t count)
{
	const struct known_pvs *pvs = check->pvs;

	for (unsigned i = 0; i < pvs->range_count; i++)
		if (first >= pvs->ranges[i].first && first + count <= pvs->ranges[i].end)
			return true;
	return false;
}

bool check_in_range(struct check *check, struct db_txn *txn, uint32_t chunk)
{
	if (check_all_in_range(check, chunk, 1))
		return true;
	if (check->live)
		read_ranges_again(check, txn);
	if (check_all_in_range(check, chunk, 1))
		return true;
	check->report->not_judged += check->pvs->unknown;
	return check->pvs->unknown;
}

bool check_is_issued(struct check *check, struct db_txn *txn, uint64_t id)
{
	struct db_key key = db_key_bytes("pool", 4);
	struct meta_pool_record rec;
	struct db_value value;

	if (!check->pool_known || id < check->pool_record.next_id)
		return true;
	if (!check->live || db_get(txn, DB_POOL, &key, &value) != 0 ||
	    meta_pool_decode(value.b, value.bytes, &rec) < 0)
		return false;
	return id < rec.next_id;
}

/* ---- labels ------------------------------------------------------------------------------------ */

/* What a label is held against. */
struct label_view {
	struct meta_pv_handle *handle;
	const struct meta_pv_record *rec;
	const struct meta_pool_record *pool; /* NULL: not known */
	uint64_t number;
};

static void found_label(struct check *check, const struct label_view *view, const char *what)
{
	check_found(check, META_CHECK_PV_LABEL, CHECK_PLACE(.pv = view->number), "pv %" PRIu64 " (%.100s): %s",
		    view->number, view->rec->path, what);
}

static void judge_label(struct check *check, const struct label_view *view, const struct meta_label *label)
{
	if (!base_uuid_equal(label->pv, view->rec->uuid) || label->pv_number != view->number)
		found_label(check, view, "its label is another pv's");
	else if (view->pool && !base_uuid_equal(label->pool, view->pool->uuid))
		found_label(check, view, "its label is another pool's");
	else if (label->first_data_byte != view->rec->ranges[0].first_byte)
		found_label(check, view, "its label puts the data where its record doesn't");
	else if (view->pool && label->commit < view->pool->label_floor)
		found_label(check, view, "its label is of an earlier day: this is an old copy of the pv");
	else if (view->pool && label->commit > view->pool->commit)
		found_label(check, view, "its label is of a later day: this is old metadata");
}

/* On a pool in use a header may be on its way to the pv just now, so it is the pool that is asked. */
static void look_for_copy(struct check *check, const struct label_view *view)
{
	const struct meta_pv_ops *ops = check->pool ? check->pool->pv_ops : check->args->pv_ops;
	void *ctx = check->pool ? check->pool->pv_ctx : check->args->pv_ctx;
	struct meta_check_report *report = check->report;
	struct meta_copy_found found;
	bool there;

	report->copy_room_bytes = meta_copy_room_bytes(view->rec->ranges[0].first_byte);
	if (check->live) {
		there = atomic_load(&check->pool->copy.is_there);
	} else {
		if (!view->pool || meta_copy_find(ops, ctx, view->handle, view->pool->uuid, &found) < 0)
			return;
		there = !found.damaged && found.newest >= 0 && found.header[found.newest].state == META_COPY_THERE;
	}
	report->copy = there ? META_CHECK_COPY_THERE : META_CHECK_COPY_NONE;
}

static void look_at_pv(struct check *check, const struct label_view *view)
{
	const struct meta_pv_ops *ops = check->pool ? check->pool->pv_ops : check->args->pv_ops;
	void *ctx = check->pool ? check->pool->pv_ctx : check->args->pv_ctx;
	uint8_t buf[META_LABEL_BYTES];
	struct meta_label label;
	uint64_t end = 0;

	for (unsigned r = 0; r < view->rec->range_count; r++)
		end = MAX(end, view->rec->ranges[r].first_byte + view->rec->ranges[r].chunks * CHUNK_BYTES);
	if (view->handle->size_bytes < end)
		check_found(check, META_CHECK_PV_FILE, CHECK_PLACE(.pv = view->number),
			    "pv %" PRIu64 " (%.100s) has %" PRIu64 " bytes, the pool uses %" PRIu64, view->number,
			    view->rec->path, view->handle->size_bytes, end);
	int rc = ops->read(ctx, view->handle, buf, sizeof(buf), 0);
	if (rc < 0) {
		check_found(check, META_CHECK_PV_FILE, CHECK_PLACE(.pv = view->number), "pv %" PRIu64 " (%.100s): %s",
			    view->number, view->rec->path, strerror(-rc));
		return;
	}
	if (view->number == 0)
		look_for_copy(check, view);
	rc = meta_label_decode(buf, &label);
	if (rc != 0)
		found_label(check, view, rc < 0 ? "its label is damaged" : "it has no bdfs label");
	else
		judge_label(check, view, &label);
}

/* ---- a directory's pvs --------------------------------------------------------------------------- */

static int open_pv(struct check *check, const char *dir, uint64_t number, struct base_error *err)
{
	const struct meta_pv_record *rec = &check->pvs->records[number];
	char path[8192];

	snprintf(path, sizeof(path), "%s%s%s", rec->path[0] == '/' ? "" : dir, rec->path[0] == '/' ? "" : "/",
		 rec->path);
	int rc = check->args->pv_ops->open(check->args->pv_ctx, path, check->pv_flags, 0, &check->handles[number],
					   err);
	check->opened[number] = rc == 0;
	return rc;
}

int check_open_pvs(struct check *check, const char *dir)
{
	struct base_error why = { 0 };
	bool any = false;

	for (uint64_t i = 0; i < POOL_PVS_MAX; i++) {
		if (!check->pvs->present[i])
			continue;
		if (open_pv(check, dir, i, &why) == -EBUSY)
			return base_error_set(check->err, -EBUSY,
					      "%s: the pool is in use; %s", why.text, check->way_out);
		any |= check->opened[i];
	}
	/* With no pv to hold, at least whoever has the pool open now is found. */
	int pid = any ? 0 : meta_pool_holder_pid(dir);
	if (pid != 0)
		return base_error_set(check->err, -EBUSY,
				      "the pool in %s is in use by process %d; %s", dir, pid,
				      check->way_out);
	return 0;
}

/* Why it could not be opened is asked again, now that findings are taken down. */
static void found_closed(struct check *check, uint64_t number)
{
	struct base_error why = { 0 };

	if (open_pv(check, check->dir, number, &why) < 0)
		check_found(check, META_CHECK_PV_FILE, CHECK_PLACE(.pv = number), "%.*s", META_CHECK_TEXT_BYTES - 1,
			    why.text);
}

/* One pv a turn. */
static int label_step(struct check_turn *turn, void *arg)
{
	struct check *check = turn->check;
	struct meta_pool *pool = check->pool;
	uint64_t *number = arg;

	if (*number >= (pool ? atomic_load(&pool->pv_count) : POOL_PVS_MAX))
		return 0;
	struct label_view view = { .number = *number };
	if (pool) {
		view.handle = &pool->pvs[*number].handle;
		view.rec = &pool->pvs[*number].record;
		view.pool = &pool->record;
	} else if (check->pvs->present[*number]) {
		if (!check->opened[*number])
			found_closed(check, *number);
		view.handle = check->opened[*number] ? &check->handles[*number] : NULL;
		view.rec = &check->pvs->records[*number];
		view.pool = check->pool_known ? &check->pool_record : NULL;
	}
	if (view.handle)
		look_at_pv(check, &view);
	++*number;
	return CHECK_MORE;
}

int check_labels(struct check *check)
{
	uint64_t number = 0;

	return check_live_run(check, label_step, &number);
}

void check_close_pvs(struct check *check)
{
	for (unsigned i = 0; i < POOL_PVS_MAX; i++)
		if (check->opened[i])
			check->args->pv_ops->close(check->args->pv_ctx, &check->handles[i]);
}
