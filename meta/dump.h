/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dump: every record of a pool's metadata, one after the other.
 *
 * Context: CTL; blocks.
 */
#ifndef META_DUMP_H
#define META_DUMP_H

#include "base/error.h"
#include "base/types.h"
#include "meta/db.h"

struct meta_pool;

/*
 * Called for each record, database by database in the order of enum db_kind, and in key order within one. No
 * transaction is open meanwhile: it may take its time. value is the payload, as records.h and leaf.h encode it; bad:
 * its checksum is wrong, and value is NULL.
 * Return: 0; anything else ends the dump.
 */
typedef int meta_dump_fn(void *ctx, enum db_kind kind, const struct db_key *key, const struct db_value *value,
			 bool bad);

/*
 * Walks over all records: of an open pool, or, with pool NULL, of the one in dir, whether it can be opened or not.
 * A record that changes during the walk is seen before or after the change, and records of different moments may not
 * fit together.
 * Return: 0; what fn returned; -ENOENT, -EBADMSG: no metadata in dir; -EIO: the metadata can't be read on; -ENOMEM, all
 * with err.
 */
MUST_CHECK int meta_dump(struct meta_pool *pool, const char *dir, meta_dump_fn *fn, void *ctx, struct base_error *err);

#endif
