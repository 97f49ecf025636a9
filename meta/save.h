/* SPDX-License-Identifier: Apache-2.0 */
/*
 * save: a pool's metadata into a stream (meta/stream.h).
 *
 * Context: CTL; blocks.
 */
#ifndef META_SAVE_H
#define META_SAVE_H

#include "meta/db.h"
#include "meta/stream.h"

struct meta_pv_ops; /* meta/pv.h */

/* meta_save_env would write more than that many bytes, for sure: a look at the number of records. On an error: false,
 * since the save itself will say so. */
bool meta_save_exceeds(struct db_env *env, struct db_txn **slot, uint64_t bytes);

struct meta_save_args {
	const char *dir;
	meta_stream_write_fn *write;
	void *ctx;
	const struct meta_pv_ops *pv_ops; /* NULL = real files and devices */
	void *pv_ctx;
};

struct meta_save_report {
	struct meta_stream_header header;
	uint64_t records, bytes;
	bool clean; /* the pool was closed in order; else what its restart log has is not in the stream */
};

/*
 * Writes the metadata of the pool in dir, which nobody has open; its pvs are locked, shared, meanwhile.
 * Return: 0; -EBUSY: somebody has it open (err names the pid); -ENOENT, -EBADMSG: no metadata there, or a record is
 * damaged (repair it first: a stream is never made of what can't be trusted); what write returned; -EIO ...
 */
MUST_CHECK int meta_save_dir(const struct meta_save_args *args, struct meta_save_report *ret, struct base_error *err);

/*
 * For the files of meta/: writes header, records and end of env as they are in one transaction. `out` has write and ctx
 * set; *slot is the thread's read transaction. *ret_pool: the pool record of that moment.
 * Return: 0; -EBADMSG: a damaged record; what write returned; -EIO ...
 */
struct meta_pool_record;
MUST_CHECK int meta_save_env(struct db_env *env, struct db_txn **slot, struct meta_stream_out *out,
			     struct meta_pool_record *ret_pool);

#endif
