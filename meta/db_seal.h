/* SPDX-License-Identifier: Apache-2.0 */
/* The checksum that stands behind every stored value. Context: any thread, pure. Private to meta/db.c. */
#ifndef META_DB_SEAL_H
#define META_DB_SEAL_H

#include "meta/db.h"

#define DB_SEAL_BYTES 8

void db_seal(enum db_kind kind, const struct db_key *key, const void *payload, size_t bytes,
	     uint8_t ret_seal[DB_SEAL_BYTES]);

#endif
