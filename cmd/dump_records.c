/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of a pool as JSON, for eyes and scripts.
 *
 * meta/dump.h hands out one record after the other; each becomes one object on
 * one line of the array "records", and is forgotten. So a pool of ten million
 * leaves takes no more memory than an empty one, and `grep` works on the output.
 * The object has "database", the key in the words of the kind ("disk", "store",
 * "leaf" ...) and the fields by the names of docs/format.md.
 *
 * What would be long comes in runs: an index or space record as [first, count]
 * of what is set, a leaf as [first entry, count, first chunk, valid mask, zero
 * mask], chunks going up by one where there are any.
 *
 * Failure modes: a wrong checksum: the record is there with its key and "bad". A
 * payload that no decoder takes (damaged content under a right checksum, a later
 * version, a kind without a decoder here): its bytes in hexadecimal, "raw". An
 * output that can't be written ends the dump.
 */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/uuid.h"
#include "cmd/dump_records.h"
#include "cmd/text.h"
#include "meta/dump.h"
#include "meta/leaf.h"
#include "meta/records.h"

struct out {
	FILE *file;
	uint64_t records;
	struct base_error *err;
};

static void set_number(json_t *object, const char *key, uint64_t n)
{
	json_object_set_new(object, key, json_integer((json_int_t)n));
}

static void set_uuid(json_t *object, const char *key, struct base_uuid uuid)
{
	char text[BASE_UUID_TEXT_BYTES];

	json_object_set_new(object, key, json_string(base_uuid_to_text(uuid, text)));
}

static void set_text(json_t *object, const char *key, const char *text)
{
	json_object_set_new(object, key, cmd_text_to_json(text));
}

static void set_hex(json_t *object, const char *key, const uint8_t *bytes, size_t count)
{
	char text[2 * DB_VALUE_BYTES_MAX + 1] = "";

	for (size_t i = 0; i < count; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	json_object_set_new(object, key, json_string(text));
}

/* ---- the payloads: each returns 0 or -EBADMSG, and adds to the object only in the first case ------ */

static int pool_to_json(const struct db_value *value, uint64_t a, uint64_t b, json_t *object)
{
	struct meta_pool_record rec;

	if (meta_pool_decode(value->b, value->bytes, &rec) < 0)
		return -EBADMSG;
	set_uuid(object, "uuid", rec.uuid);
	set_text(object, "name", rec.name);
	set_number(object, "created_s", rec.created_s);
	set_number(object, "commit", rec.commit);
	set_number(object, "label_floor", rec.label_floor);
	set_number(object, "generation", rec.generation);
	set_number(object, "next_id", rec.next_id);
	set_number(object, "pv_count", rec.pv_count);
	json_object_set_new(object, "clean", json_boolean(rec.clean));
	set_number(object, "full_policy", rec.full_policy);
	set_number(object, "hold_limit_s", rec.hold_limit_s);
	set_number(object, "free_threshold_percent", rec.free_threshold_percent);
	set_number(object, "overcommit_threshold_percent", rec.overcommit_threshold_percent);
	set_number(object, "owner_uid", rec.owner_uid);
	return 0;
}

static int pv_to_json(const struct db_value *value, uint64_t a, uint64_t b, json_t *object)
{
	struct meta_pv_record rec;
	json_t *ranges = json_array();

	if (meta_pv_decode(value->b, value->bytes, &rec) < 0) {
		json_decref(ranges);
		return -EBADMSG;
	}
	for (uint32_t i = 0; i < rec.range_count; i++)
		json_array_append_new(ranges, json_pack("{s:I, s:I, s:I}", "first_chunk",
							(json_int_t)rec.ranges[i].first_chunk, "chunks",
							(json_int_t)rec.ranges[i].chunks, "first_byte",
							(json_int_t)rec.ranges[i].first_byte));
	set_uuid(object, "uuid", rec.uuid);
	set_text(object, "path", rec.path);
	set_number(object, "size_bytes", rec.size_bytes);
	json_object_set_new(object, "is_file", json_boolean(rec.is_file));
	json_object_set_new(object, "ranges", ranges);
	return 0;
}

static int disk_to_json(const struct db_value *value, uint64_t a, uint64_t b, json_t *object)
{
	struct meta_disk_record rec;

	if (meta_disk_decode(value->b, value->bytes, &rec) < 0)
		return -EBADMSG;
	set_uuid(object, "uuid", rec.uuid);
	set_text(object, "name", rec.name);
	set_number(object, "size_bytes", rec.size_bytes);
	set_number(object, "logical_block_bytes", rec.logical_block_bytes);
	json_object_set_new(object, "kind", json_string(meta_disk_kind_to_text(rec.kind)));
	set_number(object, "head_layer", rec.head_layer);
	set_number(object, "created_s", rec.created_s);
	set_number(object, "modified_s", rec.modified_s);
	/* Null where there is no mark: 2^64 - 1 is no integer of JSON's. */
	json_object_set_new(object, "trim_above_bytes",
			    rec.trim_above_bytes == UINT64_MAX ? json_null()
							       : json_integer((json_int_t)rec.trim_above_bytes));
	set_number(object, "resize_count", rec.resize_count);
	set_number(object, "mode", rec.mode);
	set_number(object, "uid", rec.uid);
	set_number(object, "gid", rec.gid);
	set_text(object, "labels", rec.labels);
	return 0;
}

static int layer_to_json(const struct db_value *value, uint64_t a, uint64_t b, json_t *object)
{
	struct meta_layer_record rec;

	if (meta_layer_decode(value->b, value->bytes, &rec) < 0)
		return -EBADMSG;
	set_number(object, "store", rec.store_id);
	set_number(object, "parent", rec.parent);
	set_number(object, "overlap_bytes", rec.overlap_bytes);
	set_number(object, "children", rec.children);
	set_number(object, "owner_disk", rec.owner_disk);
	set_number(object, "fold_cursor", rec.fold_cursor);
	json_object_set_new(object, "dead", json_boolean(rec.state == META_LAYER_DEAD));
	set_number(object, "index_records", rec.index_records);
	set_number(object, "chunks_owned", rec.chunks_owned);
	set_number(object, "blocks_valid", rec.blocks_valid);
	return 0;
}

static int snapshot_to_json(const struct db_value *value, uint64_t a, uint64_t b, json_t *object)
{
	struct meta_snapshot_record rec;

	if (meta_snapshot_decode(value->b, value->bytes, &rec) < 0)
		return -EBADMSG;
	set_number(object, "disk", rec.disk);
	set_text(object, "name", rec.name);
	set_number(object, "layer", rec.layer);
	set_number(object, "size_bytes", rec.size_bytes);
	set_number(object, "created_s", rec.created_s);
	return 0;
}

/* Runs of set bits, as [first, count], the numbers counted from `base`. */
static json_t *bits_to_json(const uint8_t *bits, unsigned count, uint64_t base)
{
	json_t *runs = json_array();

	for (unsigned i = 0; i < count;) {
		unsigned first = i;
		while (i < count && bits[i / 8] >> (i % 8) & 1)
			i++;
		if (i > first)
			json_array_append_new(
				runs, json_pack("[I, I]", (json_int_t)(base + first), (json_int_t)(i - first)));
		else
			i++;
	}
	return runs;
}

static int index_to_json(const struct db_value *value, uint64_t store, uint64_t group, json_t *object)
{
	struct meta_index_record rec;

	if (meta_index_decode(value->b, value->bytes, &rec) < 0)
		return -EBADMSG;
	json_object_set_new(object, "leaves", bits_to_json(rec.present, GROUP_LEAVES, group * GROUP_LEAVES));
	return 0;
}

static int space_to_json(const struct db_value *value, uint64_t group, uint64_t b, json_t *object)
{
	struct meta_space_record rec;

	if (meta_space_decode(value->b, value->bytes, &rec) < 0)
		return -EBADMSG;
	json_object_set_new(object, "owned", bits_to_json(rec.owned, SPACE_GROUP_CHUNKS, group * SPACE_GROUP_CHUNKS));
	return 0;
}

/* The entry that goes on a run: the same masks, and the next chunk or again none. */
static meta_entry next_of_run(meta_entry entry)
{
	struct pchunk chunk = meta_entry_chunk(entry);

	chunk.n += chunk.n != 0;
	return meta_entry_make(chunk, meta_entry_valid(entry), meta_entry_zero(entry));
}

static int leaf_to_json(const struct db_value *value, uint64_t store, uint64_t leaf, json_t *object)
{
	meta_entry entries[LEAF_CHUNKS];

	if (meta_leaf_decode(value->b, value->bytes, entries) < 0)
		return -EBADMSG;
	json_t *runs = json_array();
	for (unsigned i = 0; i < LEAF_CHUNKS;) {
		unsigned first = i++;
		if (entries[first] == 0)
			continue;
		while (i < LEAF_CHUNKS && entries[i] == next_of_run(entries[i - 1]))
			i++;
		json_array_append_new(runs, json_pack("[i, i, I, i, i]", (int)first, (int)(i - first),
						      (json_int_t)meta_entry_chunk(entries[first]).n,
						      (int)meta_entry_valid(entries[first]),
						      (int)meta_entry_zero(entries[first])));
	}
	json_object_set_new(object, "entries", runs);
	return 0;
}

/* ---- kinds --------------------------------------------------------------------------------------- */

/* What the key is called, and who knows the payload. a and b are the numbers of the key. */
static const struct {
	const char *key[2];
	int (*payload)(const struct db_value *value, uint64_t a, uint64_t b, json_t *object);
} kinds[DB_KINDS] = {
	[DB_POOL] = { { NULL }, pool_to_json },           [DB_PV] = { { "pv" }, pv_to_json },
	[DB_DISK] = { { "disk" }, disk_to_json },         [DB_LAYER] = { { "layer" }, layer_to_json },
	[DB_SNAPSHOT] = { { NULL }, snapshot_to_json },   [DB_INDEX] = { { "store", "group" }, index_to_json },
	[DB_MAP] = { { "store", "leaf" }, leaf_to_json }, [DB_SPACE] = { { "group" }, space_to_json },
};

static void key_to_json(enum db_kind kind, const struct db_key *key, uint64_t *a, uint64_t *b, json_t *object)
{
	const char *const *names = kinds[kind].key;
	bool one = names[0] && !names[1] && db_key_to_u64(key, a);
	bool two = names[1] && db_key_to_u64_u64(key, a, b);

	if (one || two)
		set_number(object, names[0], *a);
	if (two)
		set_number(object, names[1], *b);
	if (!one && !two)
		set_hex(object, "key", key->b, key->bytes);
}

static int write_record(void *ctx, enum db_kind kind, const struct db_key *key, const struct db_value *value,
			bool bad)
{
	json_t *object = json_pack("{s:s}", "database", db_kind_to_text(kind));
	struct out *out = ctx;
	uint64_t a = 0, b = 0;

	if (!object)
		return base_error_set(out->err, -ENOMEM, "out of memory for a record");
	key_to_json(kind, key, &a, &b, object);
	if (bad)
		json_object_set_new(object, "bad", json_true());
	else if (!kinds[kind].payload || kinds[kind].payload(value, a, b, object) < 0)
		set_hex(object, "raw", value->b, value->bytes);
	fputs(out->records++ ? ",\n" : "\n", out->file);
	int rc = json_dumpf(object, out->file, JSON_COMPACT) < 0 || ferror(out->file) ? -EIO : 0;
	json_decref(object);
	return rc < 0 ? base_error_set(out->err, rc, "the output could not be written") : 0;
}

int cmd_dump_records(const char *directory, FILE *file, struct base_error *err)
{
	struct out out = { .file = file, .err = err };

	fputs("{\"format\": 1, \"records\": [", file);
	int rc = meta_dump(NULL, directory, write_record, &out, err);
	if (rc < 0)
		return rc;
	fputs("\n]}\n", file);
	if (fflush(file) != 0)
		return base_error_set_errno(err, -errno, "the output could not be written");
	return 0;
}
