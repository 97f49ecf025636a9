/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import: reads the copy of the metadata off the first pv, and restores from it.
 *
 * The copy with the higher sequence is the one, and no other: what was freed since
 * the one before may have been given to other disks. So when a header is damaged,
 * or the stream of the higher one is, nothing is imported. (While a copy is being
 * written its slot has the header of an older one, whose stream is gone; it is not
 * looked at.)
 *
 * The pool may have gone on after the copy; its rule (meta/copy.h) makes that
 * harmless. What it did after it is lost: data in chunks that were taken since,
 * disks and snapshots that were made since; and disks that were removed since are
 * back. How many commits that were, the labels say: a commit that freed anything
 * has its label stable before a chunk of it is used again.
 *
 * Failure modes: see import.h; the pvs are never written to.
 */
#include "meta/import.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/uuid.h"
#include "meta/copy.h"
#include "meta/internal.h"

struct import {
	bool changed_known;
	struct meta_changed changed;
	char (*names)[NAME_BYTES_MAX + 1]; /* of changed.entries */
	uint8_t *bytes;
	uint64_t count, at;
	struct meta_copy_header header;
	struct meta_restore_pv *first;
};

static int read_copy(void *ctx, void *bytes, size_t count)
{
	struct import *import = ctx;

	if (count > import->count - import->at)
		return -ENODATA;
	memcpy(bytes, import->bytes + import->at, count);
	import->at += count;
	return 0;
}

static int find_first(struct import *import, struct meta_restore_pv *pvs, unsigned pv_count, struct base_error *err)
{
	for (unsigned i = 0; i < pv_count; i++)
		if (pvs[i].label.pv_number == 0)
			import->first = &pvs[i];
	if (!import->first)
		return base_error_set(
			err, -ENOENT,
			"none of these is the first pv of its pool, which has the copy of the metadata: "
			"give all pvs of the pool");
	for (unsigned i = 0; i < pv_count; i++)
		if (!base_uuid_equal(pvs[i].label.pool, import->first->label.pool))
			return base_error_set(err, -EINVAL, "pv %s belongs to another pool than pv %s", pvs[i].path,
					      import->first->path);
	return 0;
}

static int find_copy(struct import *import, const struct meta_pv_ops *ops, void *ctx, unsigned *ret_slot,
		     struct base_error *err)
{
	struct meta_restore_pv *pv = import->first;
	struct meta_copy_found found;
	int rc = meta_copy_find(ops, ctx, &pv->handle, pv->label.pool, &found);

	if (rc < 0)
		return base_error_set_errno(err, rc, "can't read the copies on pv %s", pv->path);
	if (found.damaged)
		return base_error_set(
			err, -EBADMSG,
			"a header of the copies on pv %s is damaged: which one is the last can't be known, "
			"and with an older one disks would show other disks' bytes",
			pv->path);
	if (found.newest < 0 || found.header[found.newest].state != META_COPY_THERE)
		return base_error_set(
			err, -ENODATA,
			"pv %s has no copy of the metadata: the pool was never opened, its metadata was "
			"too large for one, or it was made by a version that kept none",
			pv->path);
	import->header = found.header[found.newest];
	*ret_slot = (unsigned)found.newest;
	return 0;
}

static int read_stream(struct import *import, const struct meta_pv_ops *ops, void *ctx, unsigned slot,
		       struct base_error *err)
{
	uint64_t first_data_byte = import->first->label.first_data_byte, count = import->header.stream_bytes;
	uint64_t padded = round_up_to(count, BLOCK_BYTES), at = meta_copy_stream_at(slot, first_data_byte);
	struct meta_restore_pv *pv = import->first;

	if (count == 0 || padded > meta_copy_room_bytes(first_data_byte) || at + padded > pv->handle.size_bytes)
		return base_error_set(err, -EBADMSG, "the copy on pv %s does not lie where one can", pv->path);
	import->bytes = malloc(padded);
	if (!import->bytes)
		return base_error_set_errno(err, -ENOMEM, "import");
	import->count = count;
	int rc = ops->read(ctx, &pv->handle, import->bytes, padded, at);
	return rc < 0 ? base_error_set_errno(err, rc, "can't read the copy on pv %s", pv->path) : 0;
}

/* Which disks have changed since the copy; not knowing is no reason to stop. */
static void read_changed(struct import *import, const struct meta_pv_ops *ops, void *ctx)
{
	struct meta_changed *changed = &import->changed;
	uint8_t buf[META_CHANGED_BYTES];
	unsigned kept = 0;

	if (ops->read(ctx, &import->first->handle, buf, sizeof(buf), META_CHANGED_AT) < 0 ||
	    meta_changed_decode(buf, import->first->label.pool, changed) < 0)
		return;
	for (unsigned i = 0; i < changed->count; i++)
		if (changed->entries[i].commit > import->header.commit)
			changed->entries[kept++] = changed->entries[i];
	changed->count = kept;
	import->names = calloc(kept + 1, sizeof(*import->names));
	import->changed_known = import->names && changed->unlisted_commit <= import->header.commit;
}

static void note_name(struct import *import, const struct db_key *key, const struct db_value *value)
{
	struct meta_disk_record rec;
	uint64_t number;

	if (!import->names || !db_key_to_u64(key, &number) || meta_disk_decode(value->b, value->bytes, &rec) < 0)
		return;
	for (unsigned i = 0; i < import->changed.count; i++)
		if (import->changed.entries[i].disk == number)
			memcpy(import->names[i], rec.name, sizeof(rec.name));
}

/* The whole stream is right, and it is the one that the header was written for. */
static int verify(struct import *import, char ret_name[NAME_BYTES_MAX + 1], struct base_error *err)
{
	struct meta_stream_in in = { .read = read_copy, .ctx = import };
	struct meta_stream_header header;
	struct meta_pool_record pool;
	struct db_value value;
	enum db_kind kind;
	struct db_key key;
	int rc = meta_stream_open(&in, &header);

	ret_name[0] = '\0';
	while (rc == 0) {
		rc = meta_stream_next(&in, &kind, &key, &value);
		if (rc == 0 && kind == DB_POOL && meta_pool_decode(value.b, value.bytes, &pool) == 0)
			memcpy(ret_name, pool.name, sizeof(pool.name));
		if (rc == 0 && kind == DB_DISK)
			note_name(import, &key, &value);
	}
	import->at = 0;
	if (rc == META_STREAM_END && in.chain == import->header.chain && ret_name[0])
		return 0;
	return base_error_set(err, rc < 0 && rc != -EBADMSG ? rc : -EBADMSG,
			      "the last copy of the metadata on pv %s is damaged; with the one before it disks would "
			      "show other disks' bytes, so it is not taken",
			      import->first->path);
}

static int load(struct import *import, struct meta_restore_pv *pvs, unsigned pv_count, const struct meta_pv_ops *ops,
		void *ctx, char ret_name[NAME_BYTES_MAX + 1], struct base_error *err)
{
	unsigned slot = 0;
	int rc = find_first(import, pvs, pv_count, err);

	if (rc == 0)
		rc = find_copy(import, ops, ctx, &slot, err);
	if (rc == 0)
		rc = read_stream(import, ops, ctx, slot, err);
	if (rc < 0)
		return rc;
	read_changed(import, ops, ctx);
	return verify(import, ret_name, err);
}

int meta_import_name(struct meta_restore_pv *pvs, unsigned pv_count, const struct meta_pv_ops *ops, void *ops_ctx,
		     char ret[NAME_BYTES_MAX + 1], struct base_error *err)
{
	struct import import = { 0 };
	int rc = load(&import, pvs, pv_count, ops ? ops : &meta_pv_real, ops_ctx, ret, err);

	free(import.bytes);
	free(import.names);
	return rc;
}

int meta_import(const struct meta_restore_args *args, struct meta_import_report *ret, struct base_error *err)
{
	const struct meta_pv_ops *ops = args->pv_ops ? args->pv_ops : &meta_pv_real;
	struct meta_restore_args mine = *args;
	char name[NAME_BYTES_MAX + 1];
	struct import import = { 0 };

	mine.read = read_copy;
	mine.ctx = &import;
	mine.is_own_copy = true;
	mine.force = false;
	*ret = (struct meta_import_report){ 0 };
	int rc = load(&import, args->pvs, args->pv_count, ops, args->pv_ctx, name, err);
	if (rc == 0)
		rc = meta_restore(&mine, &ret->restore, err);
	ret->copy_commit = import.header.commit;
	ret->copy_made_s = import.header.made_s;
	ret->closed = import.header.closed && ret->restore.label_commit <= import.header.commit;
	ret->changed_known = import.changed_known;
	ret->changed = import.changed;
	ret->names = import.names;
	free(import.bytes);
	return rc;
}
