/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verifier of LMDB's file: whether anything in it could lead LMDB outside of
 * the file or of its own memory. It looks at the structure only; what the records
 * say is sealed by checksums, see db_seal.h.
 *
 * Context: CTL or any thread that may block. Private to meta/db*.c, its tests and fuzzer.
 */
#ifndef META_DB_PAGES_H
#define META_DB_PAGES_H

#include "base/error.h"
#include "meta/db.h"

/* The most that a file may claim to have; as large as LMDB's map is by default. */
#define DB_FILE_BYTES_MAX TIB

/* A transaction: the newest. */
#define DB_PAGES_NEWEST UINT64_MAX

/*
 * Walks all that can be reached from a meta page of the file `fd`, one pread a page. transaction: whose state to
 * walk, kept by a read transaction; DB_PAGES_NEWEST: the last one, and if the file is written meanwhile, a later one.
 * Return: 0: the walk ended, *ret says what it found, also if that is damage; -EBUSY: the file is written faster than
 * it can be walked, or the transaction is no more; -ENOMEM; -EIO ... a read failed. Else *ret is undefined.
 */
MUST_CHECK int db_pages_walk(int fd, uint64_t transaction, struct db_pages_report *ret);

/* The same of the file data.mdb in dir. Return: as db_pages_walk, and what open(2) says. */
MUST_CHECK int db_pages_walk_dir(const char *dir, uint64_t transaction, struct db_pages_report *ret);

#endif
