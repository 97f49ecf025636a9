/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: snapshots. Each has a disk, and a layer that nobody writes to: it is alive, and no disk's head. No two of a
 * disk have one name, and no two have one layer.
 *
 * A snapshot, its disk and its layer are read in one transaction, so what they say of each other is of one moment.
 * Names and layers are kept as 64-bit values with where the snapshot's record is, and sorted; two that are equal are a
 * suspicion, for which both records are read again in one transaction: names change, and a fold gives a snapshot
 * another store but never another layer.
 *
 * Failure modes: a snapshot record that can't be used may be the name of any layer (snapshots_unknown); a layer or
 * disk record that can't be used leaves what it would tell not judged.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "meta/check_internal.h"

struct snap_label {
	uint64_t hash; /* of what is to be there once */
	uint8_t uuid[UUID_BYTES];
};

struct snap_labels {
	struct snap_label *names, *layers;
	size_t count, name_room, layer_room;
};

static int take_labels(struct check *check, struct snap_labels *labels, const struct db_key *key,
		       const struct meta_snapshot_record *rec)
{
	if (check_room((void **)&labels->names, &labels->name_room, labels->count, sizeof(*labels->names)) < 0 ||
	    check_room((void **)&labels->layers, &labels->layer_room, labels->count, sizeof(*labels->layers)) < 0)
		return check_no_memory(check);
	struct snap_label *name = &labels->names[labels->count], *layer = &labels->layers[labels->count++];
	name->hash = base_checksum(rec->name, strlen(rec->name)) ^ rec->disk;
	layer->hash = rec->layer;
	memcpy(name->uuid, key->b, UUID_BYTES);
	memcpy(layer->uuid, key->b, UUID_BYTES);
	return 0;
}

/* ---- one snapshot ------------------------------------------------------------------------------ */

static void found(struct check *check, const struct meta_snapshot_record *rec, const char *what, uint64_t number)
{
	check_found(check, META_CHECK_SNAPSHOT,
		    CHECK_PLACE(.database = DB_SNAPSHOT, .disk = rec->disk, .layer = rec->layer),
		    "snapshot %.127s %s: %" PRIu64, rec->name, what, number);
}

static void judge_layer(struct check *check, struct db_txn *txn, const struct meta_snapshot_record *rec)
{
	struct meta_layer_record layer;
	int rc = check_get_layer(txn, rec->layer, &layer);

	if (rc == DB_NOT_FOUND)
		found(check, rec, "has a layer that is not there", rec->layer);
	else if (rc == 0 && layer.state != META_LAYER_LIVE)
		found(check, rec, "has a layer that is being freed", rec->layer);
	else if (rc == 0 && layer.owner_disk != 0)
		found(check, rec, "has a layer that a disk writes to", rec->layer);
}

static int take_snapshot(struct check *check, struct db_txn *txn, const struct db_key *key,
			 const struct db_value *value, void *arg)
{
	struct meta_snapshot_record rec;
	struct meta_disk_record disk;

	check->report->snapshots++;
	if (!value || key->bytes != UUID_BYTES || meta_snapshot_decode(value->b, value->bytes, &rec) < 0) {
		if (value)
			check_found_bad(check, META_CHECK_BAD_CONTENT, DB_SNAPSHOT, key);
		check->snapshots_unknown = true;
		return 0;
	}
	judge_layer(check, txn, &rec);
	if (check_get_disk(txn, rec.disk, &disk) == DB_NOT_FOUND)
		found(check, &rec, "is of a disk that is not there", rec.disk);
	struct known_layer *known = check_layer_by_id(check, rec.layer);
	if (known)
		known->snapshots++;
	return take_labels(check, arg, key, &rec);
}

/* ---- twice the same ---------------------------------------------------------------------------- */

static int by_hash(const void *pa, const void *pb)
{
	const struct snap_label *a = pa, *b = pb;

	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	return memcmp(a->uuid, b->uuid, UUID_BYTES);
}

static bool get_snapshot(struct db_txn *txn, const struct snap_label *label, struct meta_snapshot_record *ret)
{
	struct db_key key = db_key_bytes(label->uuid, UUID_BYTES);
	struct db_value value;

	return db_get(txn, DB_SNAPSHOT, &key, &value) == 0 && meta_snapshot_decode(value.b, value.bytes, ret) == 0;
}

static int judge_pair(struct check *check, const struct snap_label *one, const struct snap_label *other)
{
	struct meta_snapshot_record a, b;
	struct db_txn *txn;
	int rc = check_begin(check, &txn);

	if (rc < 0)
		return rc;
	bool both = get_snapshot(txn, one, &a) && get_snapshot(txn, other, &b);
	db_read_end(txn);
	if (both && a.layer == b.layer)
		found(check, &b, "has the layer of another snapshot", b.layer);
	else if (both && a.disk == b.disk && strcmp(a.name, b.name) == 0)
		found(check, &b, "is there twice, of one disk", b.disk);
	return 0;
}

static int find_pairs(struct check *check, struct snap_label *all, size_t count)
{
	int rc = 0;

	if (count > 1)
		qsort(all, count, sizeof(*all), by_hash);
	for (size_t i = 1; i < count && rc == 0; i++)
		if (all[i].hash == all[i - 1].hash)
			rc = judge_pair(check, &all[i - 1], &all[i]);
	return rc;
}

int check_snapshots(struct check *check)
{
	struct snap_labels labels = { 0 };
	int rc = check_each(check, DB_SNAPSHOT, take_snapshot, &labels);

	if (rc == 0)
		rc = find_pairs(check, labels.names, labels.count);
	if (rc == 0)
		rc = find_pairs(check, labels.layers, labels.count);
	free(labels.names);
	free(labels.layers);
	return rc;
}
