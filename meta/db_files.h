/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of an environment, data.mdb and lock.mdb in the pool's directory:
 * what has to be known before LMDB looks at them, and done after it made them.
 *
 * Context: CTL; blocks. Private to meta/db.c.
 */
#ifndef META_DB_FILES_H
#define META_DB_FILES_H

#include "meta/db.h"

/* Whether what is in dir fits the mode. Return: 0; -ENOENT, -EEXIST, -EBADMSG (empty or no file) ... with err. */
MUST_CHECK int db_files_check(const char *dir, enum db_open_mode mode, struct base_error *err);

/*
 * Whether the pages of dir's data.mdb are such that LMDB may be let near them.
 * Return: 0; -EBADMSG they are damaged, -EBUSY, -EIO, -ENOMEM ... with err.
 */
MUST_CHECK int db_files_verify(const char *dir, struct base_error *err);

/* Durability: the names in dir are on stable storage when 0 is returned. Return: 0; negative errno. */
MUST_CHECK int db_files_sync(const char *dir);

/* Removes both files. A failed creation must not stand in the way of the next. */
void db_files_remove(const char *dir);

/*
 * Puts into words why dir can't be opened. rc: what opening came to, not 0; missing: the database that is not there, or
 * NULL; map_bytes: what was tried last. Return: err's code, always negative.
 */
int db_files_explain(const char *dir, const char *missing, uint64_t map_bytes, int rc, struct base_error *err);

#endif
