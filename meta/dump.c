/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dump: a walk over all databases in short transactions.
 *
 * A transaction copies up to 64 records, 130 KiB, into a buffer and ends; then
 * they are handed out. So whoever takes them (a command that writes JSON to a
 * pipe that nobody empties) can't keep LMDB from using its pages again. The next
 * transaction goes on behind the last key.
 *
 * Nothing is decoded here, so a record that is damaged, or of a later version, is
 * handed out like any other.
 *
 * Failure modes: a record with a wrong checksum is handed out as bad. A database
 * whose tree is damaged ends the walk: what comes behind can't be found.
 */
#include "meta/dump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/internal.h"

#define RECORDS_A_SLICE 64

struct dumped {
	struct db_key key;
	struct db_value value;
	bool bad;
};

struct dump {
	struct db_env *env;
	struct db_txn *slot;
	struct db_key key; /* of the last record */
	struct dumped records[RECORDS_A_SLICE];
	unsigned count;
};

/* Return: 0: the buffer is full; DB_NOT_FOUND: the database ends with what is in it; negative errno with err. */
static int read_slice(struct dump *dump, enum db_kind kind, struct base_error *err)
{
	int rc = db_read_begin(dump->env, &dump->slot);

	if (rc < 0)
		return base_error_set_errno(err, rc, "can't read the metadata");
	for (dump->count = 0; dump->count < RECORDS_A_SLICE; dump->count++) {
		struct dumped *record = &dump->records[dump->count];
		rc = db_next(dump->slot, kind, &dump->key, false, &record->value);
		if (rc != 0 && rc != -EBADMSG)
			break;
		record->key = dump->key;
		record->bad = rc == -EBADMSG;
		rc = 0;
	}
	db_read_end(dump->slot);
	return rc < 0 ? base_error_set_errno(err, rc, "database %s can't be read on", db_kind_to_text(kind)) : rc;
}

static int dump_kind(struct dump *dump, enum db_kind kind, meta_dump_fn *fn, void *ctx, struct base_error *err)
{
	int rc = 0, fn_rc = 0;

	dump->key.bytes = 0;
	while (rc == 0 && fn_rc == 0) {
		rc = read_slice(dump, kind, err);
		for (unsigned i = 0; rc >= 0 && i < dump->count && fn_rc == 0; i++) {
			const struct dumped *record = &dump->records[i];
			fn_rc = fn(ctx, kind, &record->key, record->bad ? NULL : &record->value, record->bad);
		}
	}
	if (fn_rc != 0)
		return fn_rc;
	return rc == DB_NOT_FOUND ? 0 : rc;
}

int meta_dump(struct meta_pool *pool, const char *dir, meta_dump_fn *fn, void *ctx, struct base_error *err)
{
	struct dump *dump = calloc(1, sizeof(*dump));
	int rc = 0;

	if (!dump)
		return base_error_set_errno(err, -ENOMEM, "dump");
	if (pool)
		dump->env = pool->env;
	else
		rc = db_open(dir, DB_OPEN_READ_ONLY, 0, &dump->env, err);
	for (int kind = 0; kind < DB_KINDS && rc == 0; kind++)
		rc = dump_kind(dump, (enum db_kind)kind, fn, ctx, err);
	db_read_free(dump->slot);
	if (!pool)
		db_close(dump->env);
	free(dump);
	return rc;
}
