/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: a walk over the leaves of one store, or of all, in key order, for those
 * who come after the map pass.
 *
 * The walk is a key; between two leaves any time may pass and any transaction
 * may end. Leaves that come in behind it are missed, and those ahead of it that
 * go are never met.
 *
 * Failure modes: a leaf that can't be used is handed out as such. Keys that no
 * leaf has are stepped over: the map pass has reported them.
 */
#include <errno.h>

#include "meta/check_internal.h"

int leaf_walk_next(struct leaf_walk *walk, struct db_txn *txn, struct walked_leaf *ret)
{
	bool begins = walk->key.bytes == 0;
	struct db_value value;
	int rc;

	if (begins && walk->store != 0)
		walk->key = db_key_u64_u64(walk->store, 0);
	do {
		rc = db_next(txn, DB_MAP, &walk->key, begins, &value);
		begins = false;
		if (rc != 0 && rc != -EBADMSG)
			return rc;
	} while (!db_key_to_u64_u64(&walk->key, &ret->store, &ret->number) ||
		 ret->number >= DISK_BYTES_MAX / LEAF_BYTES || ret->store == 0);
	if (walk->store != 0 && ret->store != walk->store)
		return DB_NOT_FOUND;
	ret->bad = rc != 0 || meta_leaf_decode(value.b, value.bytes, ret->entries) < 0;
	return 0;
}
