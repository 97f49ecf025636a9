/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a pool, adding pvs to it, growing them.
 *
 * A pool is made in this order: the pvs are opened, which locks them; those that
 * carry a label are refused; the LMDB environment is made with the pool and pv
 * records; the labels are written and synced last. A crash in between leaves pvs
 * without a label, or a directory that mksp says is there.
 *
 * Chunk numbers: the first pv's first chunk is 1 (0 means none); each further
 * range begins one past the end of the one before, which leaves a gap of one, so
 * that neighbours in number are neighbours on the pv.
 *
 * Failure modes: everything that was made is taken back, in reverse.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/units.h"
#include "base/uuid.h"
#include "meta/internal.h"

#define PV_BYTES_MIN (4 * MIB)

static const struct meta_pv_ops *ops_or_real(const struct meta_pv_ops *ops)
{
	return ops ? ops : &meta_pv_real;
}

/* ---- one pv ------------------------------------------------------------------------------- */

static int refuse_label(const struct meta_pv_ops *ops, void *ctx, struct meta_pv_handle *pv,
			const struct meta_pv_spec *spec, struct base_error *err)
{
	char uuid[BASE_UUID_TEXT_BYTES];
	uint8_t buf[META_LABEL_BYTES];
	struct meta_label label;

	int rc = ops->read(ctx, pv, buf, sizeof(buf), 0);
	if (rc < 0)
		return base_error_set_errno(err, rc, "can't read the label of pv %s", spec->path);
	rc = meta_label_decode(buf, &label);
	if (rc == META_LABEL_NONE || spec->force)
		return 0;
	if (rc < 0)
		return base_error_set(err, -EEXIST,
				      "pv %s carries a damaged bdfs label; to take it over all the same, force it",
				      spec->path);
	return base_error_set(err, -EEXIST,
			      "pv %s belongs to pool %s already; to take it over all the same, force it", spec->path,
			      base_uuid_to_text(label.pool, uuid));
}

/* Opens and checks; *ret_made says whether the file is new, so that it can be taken back. */
static int open_new_pv(const struct meta_pv_ops *ops, void *ctx, const struct meta_pv_spec *spec,
		       struct meta_pv_handle *ret, bool *ret_made, struct base_error *err)
{
	char text[BASE_SIZE_TEXT_BYTES];
	struct stat st;

	*ret_made = ops->makes_files && stat(spec->path, &st) != 0;
	if (*ret_made && spec->size_bytes < PV_BYTES_MIN)
		return base_error_set(err, -EINVAL,
				      "pool file %s is not there: say how large to make it (at least 4M)",
				      spec->path);
	int rc = ops->open(ctx, spec->path, META_PV_CREATE, spec->size_bytes, ret, err);
	if (rc < 0) {
		*ret_made = false;
		return rc;
	}
	if (!*ret_made && spec->size_bytes > ret->size_bytes && ret->is_file)
		rc = ops->resize(ctx, ret, spec->size_bytes);
	if (rc < 0)
		rc = base_error_set_errno(err, rc, "can't extend pool file %s", spec->path);
	else if (ret->size_bytes < PV_BYTES_MIN)
		rc = base_error_set(err, -EINVAL, "pv %s has %s; a pv needs 4 MiB at least", spec->path,
				    base_size_to_text(ret->size_bytes, text));
	else
		rc = refuse_label(ops, ctx, ret, spec, err);
	if (rc < 0) {
		ops->close(ctx, ret);
		if (*ret_made)
			unlink(spec->path);
	}
	return rc;
}

/* Paths below the pool's directory are kept relative to it, so that the directory can be moved. */
int pool_store_path(const char *dir, const char *path, char *buf, struct base_error *err)
{
	char real_dir[4096], real_path[4096];

	if (!realpath(dir, real_dir) || !realpath(path, real_path))
		snprintf(real_path, sizeof(real_path), "%s", path); /* a simulated pv */
	else if (strncmp(real_path, real_dir, strlen(real_dir)) == 0 && real_path[strlen(real_dir)] == '/')
		memmove(real_path, real_path + strlen(real_dir) + 1, strlen(real_path) - strlen(real_dir));
	if (strlen(real_path) >= META_PV_PATH_BYTES_MAX)
		return base_error_set(err, -ENAMETOOLONG, "pv path %s is longer than %d bytes", path,
				      META_PV_PATH_BYTES_MAX - 1);
	strcpy(buf, real_path);
	return 0;
}

static int fill_pv_record(const char *dir, const struct meta_pv_spec *spec, const struct meta_pv_handle *pv,
			  uint64_t first_chunk, uint64_t first_byte, struct meta_pv_record *rec,
			  struct base_error *err)
{
	uint64_t chunks = (pv->size_bytes - first_byte) / CHUNK_BYTES;

	if (first_chunk + chunks > UINT32_MAX - 4096)
		return base_error_set(err, -EFBIG, "pv %s: a pool holds at most 256 TiB", spec->path);
	*rec = (struct meta_pv_record){
		.uuid = base_uuid_new(), .size_bytes = pv->size_bytes, .is_file = pv->is_file, .range_count = 1
	};
	rec->ranges[0] = (struct meta_pv_range){ .first_chunk = (uint32_t)first_chunk,
						 .chunks = (uint32_t)chunks,
						 .first_byte = first_byte };
	return pool_store_path(dir, spec->path, rec->path, err);
}

static int put_pv(struct db_txn *txn, uint64_t number, const struct meta_pv_record *rec)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct db_key key = db_key_u64(number);

	return db_put(txn, DB_PV, &key, buf, meta_pv_encode(rec, buf));
}

static int write_label(const struct meta_pv_ops *ops, void *ctx, struct meta_pv_handle *pv, struct base_uuid pool,
		       const struct meta_pv_record *rec, uint64_t number, uint64_t commit)
{
	struct meta_label label = { .pool = pool,
				    .pv = rec->uuid,
				    .pv_number = number,
				    .first_data_byte = rec->ranges[0].first_byte,
				    .commit = commit };
	uint8_t buf[META_LABEL_BYTES];

	meta_label_encode(&label, buf);
	int rc = ops->write(ctx, pv, buf, sizeof(buf), 0);
	return rc < 0 ? rc : ops->sync(ctx, pv);
}

/* ---- a pool ------------------------------------------------------------------------------- */

struct making {
	const struct meta_pool_create_args *args;
	const struct meta_pv_ops *ops;
	struct meta_pv_handle pvs[POOL_PVS_MAX];
	bool made[POOL_PVS_MAX];
	struct meta_pv_record records[POOL_PVS_MAX];
	struct meta_pool_record pool;
	unsigned open_count;
	bool dir_made, env_made;
};

static int make_dir(struct making *m, struct base_error *err)
{
	const char *dir = m->args->dir;
	char path[4096];

	if (mkdir(dir, 0700) == 0)
		m->dir_made = true;
	else if (errno != EEXIST)
		return base_error_set_errno(err, -errno, "can't make the pool's directory %s", dir);
	snprintf(path, sizeof(path), "%s/data.mdb", dir);
	if (access(path, F_OK) == 0)
		return base_error_set(err, -EEXIST, "there is a pool in %s already", dir);
	return 0;
}

/* What was made in it is stable by now. dir may end with a slash, so its parent is not told from its letters. */
static int sync_dir_name(struct making *m, struct base_error *err)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/../it", m->args->dir);
	int rc = meta_pv_sync_name(path);
	return rc < 0 ? base_error_set_errno(err, rc, "the name of the pool's directory %s can't be made stable",
					     m->args->dir)
		      : 0;
}

static int open_pvs(struct making *m, struct base_error *err)
{
	for (unsigned i = 0; i < m->args->pv_count; i++) {
		int rc = open_new_pv(m->ops, m->args->pv_ctx, &m->args->pvs[i], &m->pvs[i], &m->made[i], err);
		if (rc < 0)
			return rc;
		m->open_count++;
	}
	return 0;
}

/* The first one has room for copies of the metadata before its data. */
static int fill_records(struct making *m, struct base_error *err)
{
	uint64_t next_chunk = 1, pool_bytes = 0;

	for (unsigned i = 0; i < m->args->pv_count; i++)
		pool_bytes += m->pvs[i].size_bytes;
	for (unsigned i = 0; i < m->args->pv_count; i++) {
		uint64_t first_byte = i == 0 ? meta_copy_first_data_byte(m->pvs[0].size_bytes, pool_bytes)
					     : META_PV_FIRST_DATA_BYTE;
		int rc = fill_pv_record(m->args->dir, &m->args->pvs[i], &m->pvs[i], next_chunk, first_byte,
					&m->records[i], err);
		if (rc < 0)
			return rc;
		next_chunk = (uint64_t)m->records[i].ranges[0].first_chunk + m->records[i].ranges[0].chunks + 1;
	}
	return 0;
}

static void fill_pool_record(struct making *m)
{
	m->pool = (struct meta_pool_record){
		.uuid = base_uuid_new(),
		.created_s = base_clock_wall_s(),
		.commit = 1,
		.label_floor = 1,
		.generation = 1,
		.next_id = 1,
		.pv_count = m->args->pv_count,
		.clean = 1,
		.hold_limit_s = 60,
		.owner_uid = m->args->owner_uid,
	};
	strcpy(m->pool.name, m->args->name); /* meta_name_check has bounded it */
}

static int write_env(struct making *m, struct base_error *err)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct db_key key = db_key_bytes("pool", 4);
	struct db_env *env;
	struct db_txn *txn;

	int rc = db_open(m->args->dir, DB_OPEN_CREATE, 0, &env, err);
	if (rc < 0)
		return rc;
	m->env_made = true;
	rc = db_write_begin(env, &txn);
	if (rc == 0) {
		rc = db_put(txn, DB_POOL, &key, buf, meta_pool_encode(&m->pool, buf));
		for (unsigned i = 0; i < m->args->pv_count && rc == 0; i++)
			rc = put_pv(txn, i, &m->records[i]);
		if (rc == 0)
			rc = db_write_commit(txn);
		else
			db_write_abort(txn);
	}
	db_close(env);
	return rc < 0 ? base_error_set_errno(err, rc, "can't write the metadata in %s", m->args->dir) : 0;
}

static int write_labels(struct making *m, struct base_error *err)
{
	int format_rc = meta_copy_format(m->ops, m->args->pv_ctx, &m->pvs[0], m->pool.uuid);

	if (format_rc < 0)
		return base_error_set_errno(err, format_rc, "can't write to pv %s", m->args->pvs[0].path);
	for (unsigned i = 0; i < m->args->pv_count; i++) {
		int rc = write_label(m->ops, m->args->pv_ctx, &m->pvs[i], m->pool.uuid, &m->records[i], i,
				     m->pool.commit);
		if (rc < 0)
			return base_error_set_errno(err, rc, "can't write the label of pv %s", m->args->pvs[i].path);
	}
	return 0;
}

static void take_back(struct making *m, bool failed)
{
	char path[4096];

	for (unsigned i = 0; i < m->open_count; i++) {
		m->ops->close(m->args->pv_ctx, &m->pvs[i]);
		if (failed && m->made[i])
			unlink(m->args->pvs[i].path);
	}
	static const char *const files[] = { "data.mdb", "lock.mdb" };
	for (unsigned i = 0; failed && m->env_made && i < ARRAY_LEN(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", m->args->dir, files[i]);
		unlink(path);
	}
	if (failed && m->dir_made)
		rmdir(m->args->dir);
}

int meta_pool_create(const struct meta_pool_create_args *args, struct base_error *err)
{
	struct making *m = calloc(1, sizeof(*m));
	int rc = meta_name_check(args->name, err);

	if (!m)
		return base_error_set_errno(err, -ENOMEM, "pool %s", args->name);
	m->args = args;
	m->ops = ops_or_real(args->pv_ops);
	if (rc == 0 && (args->pv_count < 1 || args->pv_count > POOL_PVS_MAX))
		rc = base_error_set(err, -EINVAL, "a pool has 1 to %d pvs", POOL_PVS_MAX);
	if (rc == 0)
		rc = make_dir(m, err);
	if (rc == 0)
		rc = open_pvs(m, err);
	if (rc == 0)
		rc = fill_records(m, err);
	if (rc == 0) {
		fill_pool_record(m);
		rc = write_env(m, err);
	}
	if (rc == 0)
		rc = write_labels(m, err);
	if (rc == 0 && m->dir_made)
		rc = sync_dir_name(m, err);
	take_back(m, rc < 0);
	free(m);
	return rc;
}

/* ---- more space --------------------------------------------------------------------------- */

struct pv_change {
	struct meta_pool *pool;
	unsigned index;
	bool is_new;
	struct meta_pv_handle handle;
	struct meta_pv_record rec;
	struct meta_pv_range added; /* what becomes free */
	struct range_table *table;  /* the new table of ranges, made before the transaction */
	bool may_be_recorded;       /* it was put into a transaction whose end is perhaps not known */
};

static uint64_t end_of_numbers(struct meta_pool *pool)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < atomic_load(&pool->pv_count); i++)
		for (unsigned r = 0; r < pool->pvs[i].record.range_count; r++)
			end = MAX(end, (uint64_t)pool->pvs[i].record.ranges[r].first_chunk +
					       pool->pvs[i].record.ranges[r].chunks);
	return end;
}

/*
 * What the record will say of the pv is stable before the record is. A new pv gets its label here, on MW, and with
 * the number that the labels of the others have: the floor that the next commit records is the same for all, and a
 * commit between a label and its record would raise it above the new one. A grown file must not be found shorter than
 * its record after a power cut.
 */
static int settle_pv(struct pv_change *change, struct base_error *err)
{
	struct meta_pool *pool = change->pool;

	if (change->is_new) {
		int rc = write_label(pool->pv_ops, pool->pv_ctx, &change->handle, pool->record.uuid, &change->rec,
				     change->index, pool->label_written);
		return rc < 0 ? base_error_set_errno(err, rc, "can't write the label of pv %s", change->rec.path) : 0;
	}
	int rc = pool_sync_pv(pool, change->index);
	if (rc == 0)
		return 0;
	return base_error_set_errno(err, rc, "pv %s can't be synced", change->rec.path);
}

static int pv_change_fn(struct mw_call *call, struct db_txn *txn)
{
	struct pv_change *change = call->arg;

	int rc = settle_pv(change, call->err);
	if (rc < 0)
		return rc;
	/* All that takes memory comes before what can't be taken back. */
	change->table = pool_ranges_new(change->pool, 1);
	rc = change->table ? space_make_room(&change->pool->space, change->added.first_chunk, change->added.chunks)
			   : -ENOMEM;
	if (rc < 0)
		return base_error_set_errno(call->err, rc, "pv %s", change->rec.path);
	if (change->is_new)
		call->record->pv_count++;
	change->may_be_recorded = true;
	rc = put_pv(txn, change->index, &change->rec);
	return rc < 0 ? base_error_set_errno(call->err, rc, "pv %s", change->rec.path) : 0;
}

void pool_publish_ranges(struct meta_pool *pool, struct range_table *table)
{
	table->older = atomic_load(&pool->ranges);
	atomic_store_explicit(&pool->ranges, table, memory_order_release);
}

/* On MW, under catalog_lock. */
static void pv_change_applied(struct mw_call *call)
{
	struct pv_change *change = call->arg;
	struct meta_pool *pool = change->pool;
	struct pool_pv *pv = &pool->pvs[change->index];

	if (change->is_new) {
		pv->number = change->index;
		pv->handle = change->handle;
	}
	pv->record = change->rec;
	if (change->is_new)
		atomic_store(&pool->pv_count, change->index + 1);
	pool_ranges_fill(pool, change->table);
	pool_publish_ranges(pool, change->table);
	change->table = NULL; /* the pool's */
	if (space_add_range(&pool->space, change->added.first_chunk, change->added.chunks) < 0)
		log_warning("no memory for the new space of pv %s: it is used from the next open on",
			    change->rec.path);
	event_tell(pool, META_EVENT_POOL_GROWN, change->rec.path, pool->space.total * CHUNK_BYTES, 0);
}

int meta_pool_add_pv(struct meta_pool *pool, const struct meta_pv_spec *spec, struct base_error *err)
{
	struct pv_change change = { .pool = pool, .index = atomic_load(&pool->pv_count), .is_new = true };
	struct mw_call call = { .fn = pv_change_fn, .applied = pv_change_applied, .arg = &change, .err = err };
	bool made;

	if (change.index >= POOL_PVS_MAX)
		return base_error_set(err, -E2BIG, "a pool has at most %d pvs", POOL_PVS_MAX);
	int rc = open_new_pv(pool->pv_ops, pool->pv_ctx, spec, &change.handle, &made, err);
	if (rc < 0)
		return rc;
	rc = fill_pv_record(pool->dir, spec, &change.handle, end_of_numbers(pool) + 1,
			    META_PV_FIRST_DATA_BYTE, &change.rec, err);
	change.added = change.rec.ranges[0];
	if (rc == 0)
		rc = mw_call_wait(pool, &call);
	free(change.table);
	if (rc < 0) {
		pool->pv_ops->close(pool->pv_ctx, &change.handle);
		/* After a failed commit the pv may be the pool's: without it the pool would not open. */
		if (made && !(change.may_be_recorded && pool_failed_code(pool) < 0))
			unlink(spec->path);
	}
	return rc;
}

/* The last range of the pv gets longer where its numbers are the last of the pool, else a new range is begun. */
static int add_chunks(struct pv_change *change, uint64_t chunks, struct base_error *err)
{
	struct meta_pv_record *rec = &change->rec;
	struct meta_pv_range *last = &rec->ranges[rec->range_count - 1];
	uint64_t end = end_of_numbers(change->pool),
		 next_byte = last->first_byte + (uint64_t)last->chunks * CHUNK_BYTES;

	if (end + chunks > UINT32_MAX - 4096)
		return base_error_set(err, -EFBIG, "a pool holds at most 256 TiB");
	if ((uint64_t)last->first_chunk + last->chunks == end) {
		change->added = (struct meta_pv_range){ .first_chunk = (uint32_t)end, .chunks = (uint32_t)chunks };
		last->chunks += (uint32_t)chunks;
		return 0;
	}
	if (rec->range_count == META_PV_RANGES_MAX)
		return base_error_set(err, -E2BIG,
				      "pv %s has grown %d times with other pvs in between; add a new pv instead",
				      rec->path, META_PV_RANGES_MAX);
	change->added = (struct meta_pv_range){ .first_chunk = (uint32_t)end + 1,
						.chunks = (uint32_t)chunks,
						.first_byte = next_byte };
	rec->ranges[rec->range_count++] = change->added;
	return 0;
}

int meta_pool_grow_pv(struct meta_pool *pool, uint64_t pv_number, uint64_t new_size_bytes, struct base_error *err)
{
	struct pv_change change = { .pool = pool, .index = (unsigned)pv_number };
	struct mw_call call = { .fn = pv_change_fn, .applied = pv_change_applied, .arg = &change, .err = err };
	uint64_t have = 0;

	if (pv_number >= atomic_load(&pool->pv_count))
		return base_error_set(err, -ENOENT, "the pool has no pv %" PRIu64, pv_number);
	struct pool_pv *pv = &pool->pvs[pv_number];
	change.rec = pv->record;
	if (new_size_bytes != 0 && new_size_bytes < pv->handle.size_bytes)
		return base_error_set(err, -EINVAL, "pv %s can't shrink", pv->record.path);
	int rc = pool->pv_ops->resize(pool->pv_ctx, &pv->handle, new_size_bytes);
	if (rc < 0)
		return base_error_set_errno(err, rc, "can't make pv %s larger", pv->record.path);
	for (unsigned r = 0; r < change.rec.range_count; r++)
		have += change.rec.ranges[r].chunks;
	uint64_t now = (pv->handle.size_bytes - pv->record.ranges[0].first_byte) / CHUNK_BYTES;
	change.rec.size_bytes = pv->handle.size_bytes;
	if (now <= have)
		return base_error_set(err, -EINVAL, "pv %s has not become larger", pv->record.path);
	rc = add_chunks(&change, now - have, err);
	if (rc == 0)
		rc = mw_call_wait(pool, &call);
	free(change.table);
	return rc;
}
