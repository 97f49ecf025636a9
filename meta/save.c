/* SPDX-License-Identifier: Apache-2.0 */
/*
 * save: every record of a pool's metadata, of one moment, as a stream.
 *
 * Two callers want it. The copy that a pool keeps of its metadata (meta/copy.h) is
 * taken while commits go on, so all records are read in one transaction; such a
 * pool has little metadata. `bdfs dump -stream` takes a pool of any size, which
 * nobody has open: the locks of its pvs hold it still, and the transaction is a
 * new one every few hundred records, as everywhere.
 *
 * Failure modes: a damaged record ends it. The stream is to bring a pool back one
 * day; what is damaged is repaired, or given up, before it goes in.
 */
#include "meta/save.h"

#include <errno.h>
#include <string.h>

#include "meta/check_internal.h"

#define RECORDS_A_TRANSACTION 512

struct save {
	struct db_env *env;
	struct db_txn **slot;
	struct meta_stream_out *out;
	unsigned records_a_transaction; /* 0: all in one */
	unsigned records;               /* of the transaction */
};

static int read_pool(struct save *save, struct meta_pool_record *ret)
{
	struct db_key key = db_key_bytes("pool", 4);
	struct db_value value;
	int rc = db_get(*save->slot, DB_POOL, &key, &value);

	if (rc == 0)
		rc = meta_pool_decode(value.b, value.bytes, ret);
	return rc == DB_NOT_FOUND ? -EBADMSG : rc;
}

static int new_transaction(struct save *save)
{
	if (save->records_a_transaction == 0 || ++save->records < save->records_a_transaction)
		return 0;
	save->records = 0;
	db_read_end(*save->slot);
	return db_read_begin(save->env, save->slot);
}

static int save_kind(struct save *save, enum db_kind kind)
{
	struct db_key key = { 0 };
	struct db_value value;
	int rc = 0;

	while (rc == 0) {
		rc = db_next(*save->slot, kind, &key, false, &value);
		if (rc == 0)
			rc = meta_stream_put(save->out, kind, &key, &value);
		if (rc == 0)
			rc = new_transaction(save);
	}
	return rc == DB_NOT_FOUND ? 0 : rc;
}

static int save_all(struct save *save, struct meta_pool_record *ret_pool, struct meta_stream_header *ret_header)
{
	int rc = db_read_begin(save->env, save->slot);

	if (rc < 0)
		return rc;
	rc = read_pool(save, ret_pool);
	if (rc == 0) {
		*ret_header = (struct meta_stream_header){ .pool = ret_pool->uuid,
							   .commit = ret_pool->commit,
							   .generation = ret_pool->generation,
							   .made_s = base_clock_wall_s() };
		rc = meta_stream_begin(save->out, ret_header);
	}
	for (int kind = 0; kind < DB_KINDS && rc == 0; kind++)
		rc = save_kind(save, (enum db_kind)kind);
	if (rc == 0)
		rc = meta_stream_end(save->out);
	db_read_end(*save->slot);
	return rc;
}

bool meta_save_exceeds(struct db_env *env, struct db_txn **slot, uint64_t bytes)
{
	uint64_t least = META_STREAM_HEADER_BYTES + META_STREAM_END_BYTES, count;

	if (db_read_begin(env, slot) < 0)
		return false;
	for (int kind = 0; kind < DB_KINDS; kind++)
		if (db_count(*slot, (enum db_kind)kind, &count) == 0)
			least += count * (META_STREAM_HEAD_BYTES + sizeof(uint64_t)); /* and the checksum */
	db_read_end(*slot);
	return least > bytes;
}

int meta_save_env(struct db_env *env, struct db_txn **slot, struct meta_stream_out *out,
		  struct meta_pool_record *ret_pool)
{
	struct save save = { .env = env, .slot = slot, .out = out };
	struct meta_stream_header header;

	return save_all(&save, ret_pool, &header);
}

static int save_locked(struct check *check, const struct meta_save_args *args, struct meta_save_report *ret,
		       struct base_error *err)
{
	struct meta_stream_out out = { .write = args->write, .ctx = args->ctx };
	struct save save = {
		.env = check->env, .slot = &check->slot, .out = &out, .records_a_transaction = RECORDS_A_TRANSACTION
	};
	struct meta_pool_record pool;
	int rc = save_all(&save, &pool, &ret->header);

	if (rc == -EBADMSG)
		return base_error_set(
			err, rc,
			"a record of the metadata in %s is damaged: run `bdfs check -repair`, and dump it "
			"then",
			args->dir);
	if (rc < 0)
		return base_error_set_errno(err, rc, "the metadata in %s could not be dumped", args->dir);
	ret->records = out.records;
	ret->bytes = out.bytes;
	ret->clean = pool.clean;
	return 0;
}

int meta_save_dir(const struct meta_save_args *args, struct meta_save_report *ret, struct base_error *err)
{
	struct meta_check_args check_args = { .pv_ops = args->pv_ops ? args->pv_ops : &meta_pv_real,
					      .pv_ctx = args->pv_ctx };
	struct check *check = check_new(&check_args, err); /* it knows how to hold a pool still */

	if (!check)
		return base_error_set_errno(err, -ENOMEM, "dump");
	check->dir = args->dir;
	check->way_out = "unmount it first";
	int rc = db_open(args->dir, DB_OPEN_READ_ONLY, 0, &check->env, err);
	if (rc == 0)
		rc = check_lock_dir(check, args->dir);
	if (rc == 0)
		rc = save_locked(check, args, ret, err);
	struct db_env *env = check->env;
	check_free(check);
	db_close(env);
	return rc;
}
