/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: disks. Each has a head layer that is alive and its own; no two have one
 * name or one UUID.
 *
 * A disk and its head layer are read in one transaction, so the answer is of one
 * moment. Names and UUIDs are kept as 64-bit checksums with the disk's number, 16
 * bytes a disk each, and sorted; two that are equal are a suspicion, for which
 * both records are read again in one transaction: a disk may have been renamed
 * between the first look at the one and at the other.
 *
 * Failure modes: a layer record that can't be used leaves its disk not judged.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/uuid.h"
#include "meta/check_internal.h"

struct label {
	uint64_t hash, disk;
};

struct disk_labels {
	struct label *names, *uuids;
	size_t count, name_room, uuid_room;
};

static int take_labels(struct check *check, struct disk_labels *labels, uint64_t number,
		       const struct meta_disk_record *rec)
{
	if (check_room((void **)&labels->names, &labels->name_room, labels->count, sizeof(*labels->names)) < 0 ||
	    check_room((void **)&labels->uuids, &labels->uuid_room, labels->count, sizeof(*labels->uuids)) < 0)
		return check_no_memory(check);
	labels->names[labels->count] = (struct label){ base_checksum(rec->name, strlen(rec->name)), number };
	labels->uuids[labels->count++] = (struct label){ base_checksum(&rec->uuid, sizeof(rec->uuid)), number };
	return 0;
}

static int judge_head(struct check *check, struct db_txn *txn, uint64_t number, const struct meta_disk_record *rec)
{
	struct known_layer *known = check_layer_by_id(check, rec->head_layer);
	struct meta_layer_record layer;
	int rc = check_get_layer(txn, rec->head_layer, &layer);

	if (known)
		known->has_disk = true;
	if (rc < 0 && rc != -EBADMSG)
		return check_cant_read(check, DB_LAYER, rc);
	if (rc == -EBADMSG)
		check->report->not_judged++;
	else if (rc == DB_NOT_FOUND)
		check_found(check, META_CHECK_DISK_WITHOUT_LAYER,
			    CHECK_PLACE(.disk = number, .layer = rec->head_layer),
			    "disk %.127s has layer %" PRIu64 ", which is not there", rec->name, rec->head_layer);
	else if (layer.state == META_LAYER_LIVE && layer.owner_disk == number)
		check_note_promise(check, rec, &layer);
	else
		check_found(check, META_CHECK_DISK_LAYER, CHECK_PLACE(.disk = number, .layer = rec->head_layer),
			    layer.state != META_LAYER_LIVE ? "disk %.127s has layer %" PRIu64 ", which is being freed"
							   : "disk %.127s has layer %" PRIu64
							     ", which says it is another's",
			    rec->name, rec->head_layer);
	return 0;
}

static int take_disk(struct check *check, struct db_txn *txn, const struct db_key *key, const struct db_value *value,
		     void *arg)
{
	struct meta_disk_record rec;
	uint64_t number;

	check->report->disks++;
	if (!value)
		return 0;
	if (!db_key_to_u64(key, &number) || number == 0 || meta_disk_decode(value->b, value->bytes, &rec) < 0) {
		check_found_bad(check, META_CHECK_BAD_CONTENT, DB_DISK, key);
		return 0;
	}
	if (!check_is_issued(check, txn, number))
		check_found(check, META_CHECK_ID_UNISSUED, CHECK_PLACE(.database = DB_DISK, .disk = number),
			    "disk %.127s has number %" PRIu64 ", which the pool has yet to give out", rec.name,
			    number);
	int rc = judge_head(check, txn, number, &rec);
	return rc < 0 ? rc : take_labels(check, arg, number, &rec);
}

/* ---- twice the same --------------------------------------------------------------------------------- */

static int by_hash(const void *pa, const void *pb)
{
	const struct label *a = pa, *b = pb;

	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	return a->disk < b->disk ? -1 : a->disk > b->disk;
}

static int judge_pair(struct check *check, uint64_t one, uint64_t other, bool names)
{
	struct meta_disk_record a, b;
	struct db_txn *txn;
	int rc = check_begin(check, &txn);

	if (rc < 0)
		return rc;
	bool both = check_get_disk(txn, one, &a) == 0 && check_get_disk(txn, other, &b) == 0;
	db_read_end(txn);
	if (both && names && strcmp(a.name, b.name) == 0)
		check_found(check, META_CHECK_NAME_TWICE, CHECK_PLACE(.database = DB_DISK, .disk = other),
			    "disks %" PRIu64 " and %" PRIu64 " have one name, %.127s", one, other, a.name);
	else if (both && !names && base_uuid_equal(a.uuid, b.uuid))
		check_found(check, META_CHECK_UUID_TWICE, CHECK_PLACE(.database = DB_DISK, .disk = other),
			    "disks %.100s and %.100s have one UUID", a.name, b.name);
	return 0;
}

static int find_pairs(struct check *check, struct label *all, size_t count, bool names)
{
	int rc = 0;

	if (count > 1)
		qsort(all, count, sizeof(*all), by_hash);
	for (size_t i = 1; i < count && rc == 0; i++)
		if (all[i].hash == all[i - 1].hash)
			rc = judge_pair(check, all[i - 1].disk, all[i].disk, names);
	return rc;
}

int check_disks(struct check *check)
{
	struct disk_labels labels = { 0 };
	int rc = check_each(check, DB_DISK, take_disk, &labels);

	if (rc == 0)
		rc = find_pairs(check, labels.names, labels.count, true);
	if (rc == 0)
		rc = find_pairs(check, labels.uuids, labels.count, false);
	free(labels.names);
	free(labels.uuids);
	return rc;
}
