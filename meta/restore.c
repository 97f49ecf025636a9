/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore: from a stream to a pool's directory.
 *
 *   1  an environment in a directory of its own, DIR/restoring, takes every record
 *   2  the pvs: those that the caller has opened, or those at the records' paths;
 *      each is locked, and its label compared
 *   3  the pool record gets a commit above the labels', the pv records their paths
 *   4  all of it is checked, as `bdfs check` does
 *   5  data.mdb is renamed into its place
 *
 * Until 5 there is no pool in DIR, whatever happens; what an earlier run left in
 * DIR/restoring is thrown away.
 *
 * What the labels say. A label has the number of the commit after which it was
 * written. None is above the stream's: nothing that the stream does not know has
 * changed the map, so it is as good as the metadata that was lost. One is above:
 * commits were made since, and what they freed may have been given to other disks,
 * so that a disk of the stream would show another's bytes. That is refused unless
 * forced. Not so for the copy that the pool keeps itself (is_own_copy): its pool
 * gives nothing away before a newer copy is durable (docs/adr/0008). One is below
 * the floor: the pv is older than the stream, an old copy of it; its data may be
 * anything that it once was.
 *
 * A restart log that is left in DIR is removed, so the next open replays nothing.
 *
 * Failure modes: every one leaves the pvs and DIR as they were.
 */
#include "meta/restore.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/uuid.h"
#include "meta/check_internal.h"
#include "meta/db_files.h"

#define RECORDS_A_TRANSACTION 4096

struct restore {
	const struct meta_restore_args *args;
	struct meta_restore_report *report;
	struct base_error *err;
	char temporary[4200];
	struct db_env *env;
	struct meta_pool_record pool;
	bool pool_seen;
	struct meta_pv_record records[POOL_PVS_MAX];
	struct meta_restore_pv opened[POOL_PVS_MAX]; /* by this call */
	struct meta_restore_pv *pvs[POOL_PVS_MAX];   /* by number */
	uint64_t lowest_label;
};

static const struct meta_pv_ops *pv_ops(const struct restore *restore)
{
	return restore->args->pv_ops ? restore->args->pv_ops : &meta_pv_real;
}

/* ---- 1: the records -------------------------------------------------------------------------- */

/* Return: 0; -EBADMSG: no record of this kind. */
static int look_at(struct restore *restore, enum db_kind kind, const struct db_key *key, const struct db_value *value)
{
	union {
		struct meta_disk_record disk;
		struct meta_layer_record layer;
		struct meta_snapshot_record snapshot;
		struct meta_index_record index;
		struct meta_space_record space;
		meta_entry entries[LEAF_CHUNKS];
		struct meta_adapter_record adapter;
		struct meta_vtd_record vtd;
	} any;
	uint64_t n;
	int rc;

	switch (kind) {
	case DB_POOL:
		restore->pool_seen = true;
		return meta_pool_decode(value->b, value->bytes, &restore->pool);
	case DB_PV:
		if (!db_key_to_u64(key, &n) || n >= POOL_PVS_MAX)
			return -EBADMSG;
		return meta_pv_decode(value->b, value->bytes, &restore->records[n]);
	case DB_DISK:
		rc = meta_disk_decode(value->b, value->bytes, &any.disk);
		if (rc == 0 && restore->args->disk)
			restore->args->disk(&any.disk, restore->args->disk_ctx);
		return rc;
	case DB_LAYER:
		return meta_layer_decode(value->b, value->bytes, &any.layer);
	case DB_SNAPSHOT:
		return meta_snapshot_decode(value->b, value->bytes, &any.snapshot);
	case DB_INDEX:
		return meta_index_decode(value->b, value->bytes, &any.index);
	case DB_MAP:
		return meta_leaf_decode(value->b, value->bytes, any.entries);
	case DB_SPACE:
		return meta_space_decode(value->b, value->bytes, &any.space);
	case DB_ADAPTER:
		return meta_adapter_decode(value->b, value->bytes, &any.adapter);
	case DB_VTD:
		return meta_vtd_decode(value->b, value->bytes, &any.vtd);
	case DB_KINDS:
		break;
	}
	return -EBADMSG;
}

/* A transaction's worth. Return: 0; META_STREAM_END; negative errno, -EBADMSG for the stream's. */
static int take_some(struct restore *restore, struct meta_stream_in *in)
{
	struct db_value value;
	struct db_txn *txn;
	enum db_kind kind;
	struct db_key key;
	int rc = db_write_begin(restore->env, &txn);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < RECORDS_A_TRANSACTION && rc == 0; i++) {
		rc = meta_stream_next(in, &kind, &key, &value);
		if (rc == 0)
			rc = look_at(restore, kind, &key, &value);
		if (rc == 0)
			rc = db_put(txn, kind, &key, value.b, value.bytes);
	}
	if (rc < 0) {
		db_write_abort(txn);
		return rc;
	}
	int commit_rc = db_write_commit(txn);
	return commit_rc < 0 ? commit_rc : rc;
}

static int cut_off(struct restore *restore, const struct meta_stream_in *in, int rc)
{
	if (rc != -EBADMSG)
		return base_error_set_errno(restore->err, rc, "the metadata could not be written to %s",
					    restore->temporary);
	return base_error_set(restore->err, rc,
			      "the stream is damaged or cut off (after %" PRIu64 " records): nothing was restored",
			      in->records);
}

static int take_records(struct restore *restore)
{
	struct meta_stream_in in = { .read = restore->args->read, .ctx = restore->args->ctx };
	struct meta_stream_header *header = &restore->report->header;
	int rc = meta_stream_open(&in, header);

	if (rc == -EBADMSG)
		return base_error_set(restore->err, rc, "this is no stream of a pool's metadata, or a damaged one");
	while (rc == 0)
		rc = take_some(restore, &in);
	if (rc < 0)
		return cut_off(restore, &in, rc);
	restore->report->records = in.records;
	const struct meta_pool_record *pool = &restore->pool;
	if (!restore->pool_seen || !base_uuid_equal(pool->uuid, header->pool) || pool->commit != header->commit ||
	    pool->generation != header->generation || pool->pv_count < 1 || pool->pv_count > POOL_PVS_MAX)
		return base_error_set(restore->err, -EBADMSG, "the stream has no pool record that fits its header");
	for (unsigned i = 0; i < pool->pv_count; i++)
		if (restore->records[i].range_count == 0)
			return base_error_set(restore->err, -EBADMSG, "the stream lacks the record of pv %u", i);
	memcpy(restore->report->name, pool->name, sizeof(pool->name));
	restore->report->was_clean = pool->clean;
	restore->report->pvs = pool->pv_count;
	return 0;
}

/* ---- 2: the pvs ------------------------------------------------------------------------------ */

int meta_restore_open_pv(const struct meta_pv_ops *ops, void *ops_ctx, const char *path, struct meta_restore_pv *ret,
			 struct base_error *err)
{
	uint8_t buf[META_LABEL_BYTES];

	if (snprintf(ret->path, sizeof(ret->path), "%s", path) >= (int)sizeof(ret->path))
		return base_error_set(err, -ENAMETOOLONG, "pv path %.60s... is longer than %d bytes", path,
				      META_PV_PATH_BYTES_MAX - 1);
	int rc = ops->open(ops_ctx, path, 0, 0, &ret->handle, err);
	if (rc < 0)
		return rc;
	rc = ops->read(ops_ctx, &ret->handle, buf, sizeof(buf), 0);
	if (rc < 0)
		base_error_set_errno(err, rc, "can't read the label of pv %s", path);
	else if ((rc = meta_label_decode(buf, &ret->label)) == META_LABEL_NONE)
		rc = base_error_set(err, -ENOMEDIUM, "%s has no bdfs label: it is no pv", path);
	else if (rc < 0)
		base_error_set(err, rc, "pv %s has a damaged label", path);
	ret->open = rc == 0;
	if (rc < 0)
		ops->close(ops_ctx, &ret->handle);
	return rc;
}

static int open_by_record(struct restore *restore, unsigned number)
{
	const char *record_path = restore->records[number].path;
	struct meta_restore_pv *pv = &restore->opened[number];
	char path[8192];

	snprintf(path, sizeof(path), "%s%s%s", record_path[0] == '/' ? "" : restore->args->dir,
		 record_path[0] == '/' ? "" : "/", record_path);
	restore->pvs[number] = pv;
	return meta_restore_open_pv(pv_ops(restore), restore->args->pv_ctx, path, pv, restore->err);
}

static int find_given(struct restore *restore, unsigned number)
{
	for (unsigned i = 0; i < restore->args->pv_count; i++) {
		struct meta_restore_pv *pv = &restore->args->pvs[i];
		if (base_uuid_equal(pv->label.pv, restore->records[number].uuid))
			restore->pvs[number] = pv;
	}
	if (restore->pvs[number])
		return 0;
	return base_error_set(restore->err, -ENOENT, "pv %u of the pool (last at %s) is not among those given",
			      number, restore->records[number].path);
}

static int compare_label(struct restore *restore, unsigned number)
{
	const struct meta_restore_args *args = restore->args;
	const struct meta_pv_record *rec = &restore->records[number];
	const struct meta_restore_pv *pv = restore->pvs[number];
	uint64_t end = 0;

	if (!base_uuid_equal(pv->label.pool, restore->pool.uuid) || !base_uuid_equal(pv->label.pv, rec->uuid) ||
	    pv->label.pv_number != number)
		return base_error_set(restore->err, -ESTALE,
				      "pv %s belongs to another pool than the stream, or is another pv of it",
				      pv->path);
	for (unsigned r = 0; r < rec->range_count; r++)
		end = MAX(end, rec->ranges[r].first_byte + rec->ranges[r].chunks * CHUNK_BYTES);
	if (pv->handle.size_bytes < end)
		return base_error_set(restore->err, -ESTALE, "pv %s has %" PRIu64 " bytes, the pool uses %" PRIu64,
				      pv->path, pv->handle.size_bytes, end);
	if (pv->label.commit < restore->pool.label_floor && !args->force)
		return base_error_set(restore->err, -ESTALE,
				      "pv %s is older than the stream (its commit %" PRIu64 ", the pool had at least "
				      "%" PRIu64 "): it is an old copy, and what it has is not what the stream says; "
				      "bring back the right one, or force it and lose data",
				      pv->path, pv->label.commit, restore->pool.label_floor);
	if (pv->label.commit > restore->pool.commit && !args->is_own_copy && !args->force)
		return base_error_set(
			restore->err, -ESTALE,
			"pv %s has gone on since the stream was made (commit %" PRIu64 " against %" PRIu64
			"): what was freed since may have been given to other disks, so disks of the "
			"stream may show other disks' bytes; which ones can't be known. `bdfs import` brings "
			"back what the pvs know themselves; to restore all "
			"the same, force it",
			pv->path, pv->label.commit, restore->pool.commit);
	restore->report->label_commit = MAX(restore->report->label_commit, pv->label.commit);
	restore->lowest_label = MIN(restore->lowest_label, pv->label.commit);
	return 0;
}

static int fit_pvs(struct restore *restore)
{
	int rc = 0;

	restore->lowest_label = UINT64_MAX;
	for (unsigned i = 0; i < restore->pool.pv_count && rc == 0; i++) {
		rc = restore->args->pv_count > 0 ? find_given(restore, i) : open_by_record(restore, i);
		if (rc == 0)
			rc = compare_label(restore, i);
	}
	return rc;
}

/* ---- 3: what becomes different ---------------------------------------------------------------- */

static int put_pv(struct restore *restore, struct db_txn *txn, unsigned number)
{
	struct meta_pv_record *rec = &restore->records[number];
	struct db_key key = db_key_u64(number);
	uint8_t buf[DB_VALUE_BYTES_MAX];

	if (restore->args->pv_count == 0)
		return 0;
	int rc = pool_store_path(restore->args->dir, restore->pvs[number]->path, rec->path, restore->err);
	rec->is_file = restore->pvs[number]->handle.is_file;
	return rc < 0 ? rc : db_put(txn, DB_PV, &key, buf, meta_pv_encode(rec, buf));
}

static int put_pool(struct restore *restore, struct db_txn *txn)
{
	struct db_key key = db_key_bytes("pool", 4);
	struct meta_pool_record *pool = &restore->pool;
	uint8_t buf[DB_VALUE_BYTES_MAX];

	/* Free space is discarded again: what was freed before the stream was made may not have been. */
	pool->clean = pool->clean && !restore->args->is_own_copy && restore->report->label_commit <= pool->commit;
	pool->commit = MAX(pool->commit, restore->report->label_commit) + 1;
	pool->label_floor = MIN(pool->label_floor, restore->lowest_label);
	pool->generation++;
	return db_put(txn, DB_POOL, &key, buf, meta_pool_encode(pool, buf));
}

static int change_records(struct restore *restore)
{
	struct db_txn *txn;
	int rc = db_write_begin(restore->env, &txn);

	if (rc == 0) {
		for (unsigned i = 0; i < restore->pool.pv_count && rc == 0; i++)
			rc = put_pv(restore, txn, i);
		if (rc == 0)
			rc = put_pool(restore, txn);
		if (rc == 0)
			rc = db_write_commit(txn);
		else
			db_write_abort(txn);
	}
	return rc < 0 ? base_error_set_errno(restore->err, rc, "the metadata could not be written to %s",
					     restore->temporary)
		      : 0;
}

/* ---- 4: the check ------------------------------------------------------------------------------ */

static int run_check(struct restore *restore)
{
	struct meta_check_args args = { .pv_ops = pv_ops(restore), .pv_ctx = restore->args->pv_ctx };
	struct check *check = check_new(&args, restore->err);

	if (!check)
		return base_error_set_errno(restore->err, -ENOMEM, "check");
	check->dir = restore->args->dir;
	check->env = restore->env;
	for (unsigned i = 0; i < restore->pool.pv_count; i++) {
		check->handles[i] = restore->pvs[i]->handle;
		check->opened[i] = true;
	}
	int rc = check_run_passes(check);
	restore->report->problems = check->report->problems;
	if (rc == 0 && check->report->problems > 0 && !restore->args->force)
		rc = base_error_set(restore->err, -EUCLEAN, "the metadata in the stream is damaged: %.200s",
				    check->report->finding_count > 0 ? check->report->findings[0].text : "");
	memset(check->opened, 0, sizeof(check->opened)); /* they are not the check's to close */
	check_free(check);
	return rc;
}

/* ---- 5, and around it ---------------------------------------------------------------------------- */

static int make_temporary(struct restore *restore)
{
	char path[4300];

	snprintf(path, sizeof(path), "%s/data.mdb", restore->args->dir);
	if (access(path, F_OK) == 0)
		return base_error_set(restore->err, -EEXIST,
				      "there is a pool in %s already: take its data.mdb away first, if it is lost",
				      restore->args->dir);
	snprintf(restore->temporary, sizeof(restore->temporary), "%s/restoring", restore->args->dir);
	db_files_remove(restore->temporary);
	if (mkdir(restore->temporary, 0700) != 0 && errno != EEXIST)
		return base_error_set_errno(restore->err, -errno, "can't make %s", restore->temporary);
	return db_open(restore->temporary, DB_OPEN_CREATE, 0, &restore->env, restore->err);
}

static int move_in(struct restore *restore)
{
	char from[4300], to[4300], restart[4300];

	snprintf(from, sizeof(from), "%s/data.mdb", restore->temporary);
	snprintf(to, sizeof(to), "%s/data.mdb", restore->args->dir);
	db_close(restore->env);
	restore->env = NULL;
	/* A lock file has no meaning for other metadata, and a restart log would be taken for its own: the
	 * generations of what was lost and of what comes now may be the same. */
	db_files_remove(restore->args->dir);
	snprintf(restart, sizeof(restart), "%s/restart", restore->args->dir);
	unlink(restart);
	if (rename(from, to) != 0)
		return base_error_set_errno(restore->err, -errno, "can't move %s to its place", from);
	int rc = db_files_sync(restore->args->dir);
	return rc < 0 ? base_error_set_errno(restore->err, rc, "can't sync %s", restore->args->dir) : 0;
}

static void clean_up(struct restore *restore)
{
	for (unsigned i = 0; i < POOL_PVS_MAX; i++)
		if (restore->opened[i].open)
			pv_ops(restore)->close(restore->args->pv_ctx, &restore->opened[i].handle);
	db_close(restore->env);
	if (restore->temporary[0]) {
		db_files_remove(restore->temporary);
		rmdir(restore->temporary);
	}
	free(restore);
}

int meta_restore(const struct meta_restore_args *args, struct meta_restore_report *ret, struct base_error *err)
{
	static int (*const steps[])(struct restore * restore) = {
		make_temporary, take_records, fit_pvs, change_records, run_check, move_in,
	};
	struct restore *restore = calloc(1, sizeof(*restore));
	int rc = 0;

	if (!restore)
		return base_error_set_errno(err, -ENOMEM, "restore");
	*ret = (struct meta_restore_report){ 0 };
	restore->args = args;
	restore->report = ret;
	restore->err = err;
	for (unsigned i = 0; i < ARRAY_LEN(steps) && rc == 0; i++)
		rc = steps[i](restore);
	clean_up(restore);
	return rc;
}
