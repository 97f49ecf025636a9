/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all parts of a check share: findings, progress, and the scan of a
 * database in short transactions.
 *
 * A finding is counted by its kind, always, and written down with a place and a
 * text as long as there is room: a pool whose metadata is in ruins gives a count
 * of millions and a hundred examples.
 *
 * A scan goes through a database in key order. Between two slices no transaction
 * is open, so a reader never keeps LMDB from using pages again for longer than a
 * slice takes. A record that is added behind the scan's back is missed, one that
 * is removed ahead of it too: who scans has to be able to live with that. What
 * it needs to know of the same moment, it looks up in the slice's transaction.
 *
 * Failure modes: a record with a wrong checksum is reported, and the scan goes
 * on behind it. A database whose tree is damaged ends the check: what comes
 * behind that point can't be found any more.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meta/check_internal.h"

#define TELL_INTERVAL_NS UINT64_C(100000000)

const char *meta_check_kind_to_text(enum meta_check_kind kind)
{
	static const char *const texts[META_CHECK_KINDS] = {
		[META_CHECK_PAGE] = "page",
		[META_CHECK_BAD_CHECKSUM] = "bad-checksum",
		[META_CHECK_BAD_CONTENT] = "bad-content",
		[META_CHECK_POOL_RECORD] = "pool-record",
		[META_CHECK_ID_UNISSUED] = "id-unissued",
		[META_CHECK_PV_RECORD] = "pv-record",
		[META_CHECK_PV_OVERLAP] = "pv-overlap",
		[META_CHECK_PV_FILE] = "pv-file",
		[META_CHECK_PV_LABEL] = "pv-label",
		[META_CHECK_NAME_TWICE] = "name-twice",
		[META_CHECK_UUID_TWICE] = "uuid-twice",
		[META_CHECK_STORE_TWICE] = "store-twice",
		[META_CHECK_DISK_WITHOUT_LAYER] = "disk-without-layer",
		[META_CHECK_DISK_LAYER] = "disk-layer",
		[META_CHECK_SNAPSHOT] = "snapshot",
		[META_CHECK_VTD_WITHOUT_ADAPTER] = "vtd-without-adapter",
		[META_CHECK_VTD_WITHOUT_BD] = "vtd-without-bd",
		[META_CHECK_VTD_TWICE] = "vtd-twice",
		[META_CHECK_LAYER_ORPHAN] = "layer-orphan",
		[META_CHECK_LAYER_PARENT] = "layer-parent",
		[META_CHECK_LAYER_CHILDREN] = "layer-children",
		[META_CHECK_LAYER_COUNTERS] = "layer-counters",
		[META_CHECK_STORE_ORPHAN] = "store-orphan",
		[META_CHECK_INDEX_WITHOUT_LEAF] = "index-without-leaf",
		[META_CHECK_LEAF_WITHOUT_INDEX] = "leaf-without-index",
		[META_CHECK_ENTRY_UNSOUND] = "entry-unsound",
		[META_CHECK_ENTRY_BEYOND_END] = "entry-beyond-end",
		[META_CHECK_CHUNK_OUT_OF_RANGE] = "chunk-out-of-range",
		[META_CHECK_CHUNK_TWICE] = "chunk-twice",
		[META_CHECK_CHUNK_NOT_IN_SPACE] = "chunk-not-in-space",
		[META_CHECK_SPACE_LEAKED] = "space-leaked",
		[META_CHECK_SPACE_OUT_OF_RANGE] = "space-out-of-range",
		[META_CHECK_PROMISE] = "promise",
	};

	return texts[kind];
}

/* ---- findings ----------------------------------------------------------------------------- */

void check_found(struct check *check, enum meta_check_kind kind, const struct meta_check_place *place,
		 const char *fmt, ...)
{
	struct meta_check_report *report = check->report;
	va_list args;

	report->found[kind]++;
	report->problems++;
	if (report->finding_count == META_CHECK_FINDINGS_MAX)
		return;
	struct meta_check_finding *finding = &report->findings[report->finding_count++];
	finding->kind = kind;
	finding->place = *place;
	va_start(args, fmt);
	vsnprintf(finding->text, sizeof(finding->text), fmt, args);
	va_end(args);
}

#define KEY_TEXT_BYTES 72

static const char *key_to_text(const struct db_key *key, char text[KEY_TEXT_BYTES])
{
	size_t shown = MIN(key->bytes, (size_t)24), at;
	uint64_t a, b;

	if (db_key_to_u64(key, &a)) {
		snprintf(text, KEY_TEXT_BYTES, "%" PRIu64, a);
	} else if (db_key_to_u64_u64(key, &a, &b)) {
		snprintf(text, KEY_TEXT_BYTES, "%" PRIu64 "/%" PRIu64, a, b);
	} else {
		at = (size_t)snprintf(text, KEY_TEXT_BYTES, "0x");
		for (size_t i = 0; i < shown; i++)
			at += (size_t)snprintf(text + at, KEY_TEXT_BYTES - at, "%02x", key->b[i]);
		if (shown < key->bytes)
			snprintf(text + at, KEY_TEXT_BYTES - at, "...");
	}
	return text;
}

/* The key's numbers, where the kind of record gives them a meaning. */
static struct meta_check_place place_of_key(enum db_kind kind, const struct db_key *key)
{
	struct meta_check_place place = *CHECK_PLACE(.database = kind);
	uint64_t a, b;

	if (db_key_to_u64_u64(key, &a, &b) && (kind == DB_MAP || kind == DB_INDEX)) {
		place.store = a;
		place.leaf = kind == DB_MAP ? b : META_CHECK_NONE;
	} else if (db_key_to_u64(key, &a)) {
		place.pv = kind == DB_PV ? a : META_CHECK_NONE;
		place.disk = kind == DB_DISK ? a : META_CHECK_NONE;
		place.layer = kind == DB_LAYER ? a : META_CHECK_NONE;
	}
	return place;
}

void check_found_bad(struct check *check, enum meta_check_kind why, enum db_kind kind, const struct db_key *key)
{
	struct meta_check_place place = place_of_key(kind, key);
	char text[KEY_TEXT_BYTES];

	(why == META_CHECK_BAD_CHECKSUM ? check->report->bad_checksum : check->report->bad_content)[kind]++;
	check_found(check, why, &place, "the record %s of database %s %s", key_to_text(key, text),
		    db_kind_to_text(kind),
		    why == META_CHECK_BAD_CHECKSUM ? "has a wrong checksum"
						   : "is under a wrong key or holds what it can't");
}

/* ---- errors, memory, progress -------------------------------------------------------------- */

int check_no_memory(struct check *check)
{
	return base_error_set(check->err, -ENOMEM, "not enough memory for the check");
}

int check_cant_read(struct check *check, enum db_kind kind, int rc)
{
	if (rc == -ENOMEM)
		return check_no_memory(check);
	return base_error_set(check->err, rc,
			      "database %s can't be read on (%s): what comes behind that point is lost; look at the "
			      "disk below the metadata, and restore it from a backup",
			      db_kind_to_text(kind), strerror(-rc));
}

int check_room(void **array, size_t *room, size_t count, size_t element_bytes)
{
	if (count < *room)
		return 0;
	size_t grown_room = MAX(*room * 2, (size_t)64);
	void *grown = realloc(*array, grown_room * element_bytes);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*room = grown_room;
	return 0;
}

bool check_is_cancelled(const struct check *check)
{
	return check->args->cancel && atomic_load_explicit(check->args->cancel, memory_order_relaxed);
}

void check_tell(struct check *check)
{
	uint64_t now = base_clock_ns(), done = atomic_load(&check->done);

	if (!check->args->progress || now < check->told_ns + TELL_INTERVAL_NS)
		return;
	check->told_ns = now;
	check->args->progress(done, MAX(done, atomic_load(&check->total)), check->args->ctx);
}

int check_tick(struct check *check)
{
	if (check_is_cancelled(check))
		return base_error_set(check->err, -ECANCELED, "the check was cancelled");
	check_tell(check);
	return 0;
}

int check_begin(struct check *check, struct db_txn **ret)
{
	int rc = db_read_begin(check->env, &check->slot);

	if (rc < 0)
		return base_error_set_errno(check->err, rc, "can't read the metadata");
	*ret = check->slot;
	return 0;
}

/* ---- scans --------------------------------------------------------------------------------- */

/* Return: 0: a slice was done; DB_NOT_FOUND: and it was the last; negative errno. */
static int scan_slice(struct check *check, enum db_kind kind, struct db_key *key, check_record_fn *fn, void *arg)
{
	struct db_value value;
	struct db_txn *txn;
	int rc = check_begin(check, &txn);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < check->slice_records && rc == 0; i++) {
		rc = db_next(txn, kind, key, false, &value);
		if (rc == DB_NOT_FOUND)
			break;
		if (rc < 0 && rc != -EBADMSG) {
			rc = check_cant_read(check, kind, rc);
			break;
		}
		check->report->records[kind]++;
		if (rc == -EBADMSG)
			check_found_bad(check, META_CHECK_BAD_CHECKSUM, kind, key);
		rc = fn(check, txn, key, rc == 0 ? &value : NULL, arg);
		atomic_fetch_add(&check->done, 1);
	}
	db_read_end(txn);
	return rc;
}

int check_each(struct check *check, enum db_kind kind, check_record_fn *fn, void *arg)
{
	struct db_key key = { 0 };
	int rc = 0;

	while (rc == 0) {
		rc = scan_slice(check, kind, &key, fn, arg);
		if (rc == 0)
			rc = check_tick(check);
	}
	return rc == DB_NOT_FOUND ? 0 : rc;
}
