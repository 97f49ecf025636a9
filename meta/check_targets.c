/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: adapters and VTDs. Each VTD has an adapter and, unless it maps something
 * outside the pool, a disk; no two VTDs of an adapter have one LUN; a disk that is
 * mapped twice is shared by both.
 *
 * A VTD, its adapter and its disk are read in one transaction. What takes two VTDs to
 * see is a suspicion, for which both are read again in one transaction, as with the
 * names of disks.
 *
 * Failure modes: a record of a disk or adapter that can't be used leaves its VTDs not
 * judged; that record is a finding of its own.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/uuid.h"
#include "meta/check_internal.h"

struct seen_vtd {
	char name[META_DEVICE_NAME_BYTES_MAX + 1];
	struct meta_vtd_record rec;
};

struct seen_vtds {
	struct seen_vtd *all;
	size_t count, room;
};

static bool is_name(const struct db_key *key)
{
	char name[DB_KEY_BYTES_MAX + 1] = { 0 };

	memcpy(name, key->b, key->bytes);
	return strlen(name) == key->bytes && meta_device_name_check(name, NULL) == 0;
}

static int take_adapter(struct check *check, struct db_txn *txn, const struct db_key *key,
			const struct db_value *value, void *arg)
{
	struct meta_adapter_record rec;

	if (value && (!is_name(key) || meta_adapter_decode(value->b, value->bytes, &rec) < 0))
		check_found_bad(check, META_CHECK_BAD_CONTENT, DB_ADAPTER, key);
	return 0;
}

/* Return: 0, DB_NOT_FOUND; a record that is damaged is there. */
static int look_for(struct check *check, struct db_txn *txn, enum db_kind kind, const struct db_key *key)
{
	struct db_value value;
	int rc = db_get(txn, kind, key, &value);

	check->report->not_judged += rc == -EBADMSG;
	if (rc < 0 && rc != -EBADMSG)
		return check_cant_read(check, kind, rc);
	return rc == DB_NOT_FOUND ? rc : 0;
}

static int judge_snapshot(struct check *check, struct db_txn *txn, const struct seen_vtd *vtd)
{
	struct base_uuid uuid = { 0 };
	int rc = base_uuid_parse(vtd->rec.identity, &uuid); /* the codec has looked at it */
	struct db_key key = db_key_bytes(uuid.b, UUID_BYTES);

	if (rc == 0)
		rc = look_for(check, txn, DB_SNAPSHOT, &key);
	if (rc == DB_NOT_FOUND)
		check_found(check, META_CHECK_VTD_WITHOUT_BD, CHECK_PLACE(.database = DB_VTD),
			    "VTD %s maps the snapshot with the UUID %s, which is not there", vtd->name,
			    vtd->rec.identity);
	return MIN(rc, 0);
}

static int judge_vtd(struct check *check, struct db_txn *txn, const struct seen_vtd *vtd)
{
	struct db_key adapter = db_key_bytes(vtd->rec.adapter, strlen(vtd->rec.adapter));
	struct db_key disk = db_key_u64(vtd->rec.disk);
	int rc = look_for(check, txn, DB_ADAPTER, &adapter);

	if (rc == DB_NOT_FOUND)
		check_found(check, META_CHECK_VTD_WITHOUT_ADAPTER, CHECK_PLACE(.database = DB_VTD),
			    "VTD %s is on adapter %s, which is not there", vtd->name, vtd->rec.adapter);
	if (rc >= 0 && vtd->rec.backing == META_BACKING_SNAPSHOT)
		return judge_snapshot(check, txn, vtd);
	if (rc < 0 || vtd->rec.backing != META_BACKING_DISK)
		return MIN(rc, 0);
	rc = look_for(check, txn, DB_DISK, &disk);
	if (rc == DB_NOT_FOUND)
		check_found(check, META_CHECK_VTD_WITHOUT_BD, CHECK_PLACE(.database = DB_VTD, .disk = vtd->rec.disk),
			    "VTD %s maps disk %" PRIu64 ", which is not there", vtd->name, vtd->rec.disk);
	return MIN(rc, 0);
}

static int take_vtd(struct check *check, struct db_txn *txn, const struct db_key *key, const struct db_value *value,
		    void *arg)
{
	struct seen_vtds *seen = arg;
	struct seen_vtd vtd = { 0 };

	if (!value)
		return 0;
	if (!is_name(key) || meta_vtd_decode(value->b, value->bytes, &vtd.rec) < 0) {
		check_found_bad(check, META_CHECK_BAD_CONTENT, DB_VTD, key);
		return 0;
	}
	memcpy(vtd.name, key->b, key->bytes);
	if (check_room((void **)&seen->all, &seen->room, seen->count, sizeof(*seen->all)) < 0)
		return check_no_memory(check);
	seen->all[seen->count++] = vtd;
	return judge_vtd(check, txn, &vtd);
}

/* ---- two of them -------------------------------------------------------------------------- */

static int by_lun(const void *pa, const void *pb)
{
	const struct seen_vtd *a = pa, *b = pb;
	int order = strcmp(a->rec.adapter, b->rec.adapter);

	if (order != 0)
		return order;
	return a->rec.lun < b->rec.lun ? -1 : a->rec.lun > b->rec.lun;
}

static bool same_lun(const struct meta_vtd_record *a, const struct meta_vtd_record *b)
{
	return a->lun == b->lun && strcmp(a->adapter, b->adapter) == 0;
}

/* Disks by number; the others, whose number is 0, by identity. */
static int by_backing(const void *pa, const void *pb)
{
	const struct seen_vtd *a = pa, *b = pb;
	int order = strcmp(a->rec.identity, b->rec.identity);

	if (a->rec.disk != b->rec.disk)
		return a->rec.disk < b->rec.disk ? -1 : 1;
	if (order != 0)
		return order;
	return (int)a->rec.shared - (int)b->rec.shared; /* so one that is not shared has a neighbour if anybody has */
}

static bool one_backing_not_shared(const struct meta_vtd_record *a, const struct meta_vtd_record *b)
{
	return a->disk == b->disk && strcmp(a->identity, b->identity) == 0 && !(a->shared && b->shared);
}

static bool read_again(struct db_txn *txn, struct seen_vtd *vtd)
{
	struct db_key key = db_key_bytes(vtd->name, strlen(vtd->name));
	struct db_value value;

	return db_get(txn, DB_VTD, &key, &value) == 0 && meta_vtd_decode(value.b, value.bytes, &vtd->rec) == 0;
}

static int judge_pairs(struct check *check, const struct seen_vtds *seen,
		       bool (*clash)(const struct meta_vtd_record *a, const struct meta_vtd_record *b),
		       const char *what)
{
	for (size_t i = 1; i < seen->count; i++) {
		struct seen_vtd a = seen->all[i - 1], b = seen->all[i];
		struct db_txn *txn;
		if (!clash(&a.rec, &b.rec))
			continue;
		int rc = check_begin(check, &txn);
		if (rc < 0)
			return rc;
		bool both = read_again(txn, &a) && read_again(txn, &b);
		db_read_end(txn);
		if (both && clash(&a.rec, &b.rec))
			check_found(check, META_CHECK_VTD_TWICE, CHECK_PLACE(.database = DB_VTD), "VTDs %s and %s %s",
				    a.name, b.name, what);
	}
	return 0;
}

int check_targets(struct check *check)
{
	struct seen_vtds seen = { 0 };
	int rc = check_each(check, DB_ADAPTER, take_adapter, NULL);

	if (rc == 0)
		rc = check_each(check, DB_VTD, take_vtd, &seen);
	if (seen.count > 1)
		qsort(seen.all, seen.count, sizeof(*seen.all), by_lun);
	if (rc == 0)
		rc = judge_pairs(check, &seen, same_lun, "have one LUN of one adapter");
	if (seen.count > 1)
		qsort(seen.all, seen.count, sizeof(*seen.all), by_backing);
	if (rc == 0)
		rc = judge_pairs(check, &seen, one_backing_not_shared,
				 "map one disk, device or file, and are not both shared");
	free(seen.all);
	return rc;
}
