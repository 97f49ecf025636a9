/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one door to LMDB.
 *
 * What this room adds to LMDB 0.9 (docs/adr/0002):
 *   - every value ends with an XXH3-64 over (database, key, value), written by
 *     db_put and checked on every read; a mismatch is -EBADMSG and is counted;
 *   - every value starts with the format version byte of its record kind
 *     (records.h does that; the checksum is this file's);
 *   - values are copied out: no pointer into the map leaves this file;
 *   - a read error under LMDB's map is a signal (SIGBUS), not an errno: every
 *     call into LMDB runs under a guard limited to that map's address range.
 *     A fault ends as -EIO, the environment is marked dead, and one that fires
 *     inside a write transaction never touches that environment again. A SIGBUS
 *     anywhere else keeps its usual, fatal, meaning;
 *   - a fault beside the map can't be caught, so no file is opened whose pages could
 *     lead LMDB out of it: db_open() verifies all of them first (db_pages.h);
 *   - LMDB's own asserts (mdb_env_set_assert) end the same way, not in abort();
 *   - LMDB's codes stop here: functions return 0, DB_NOT_FOUND or a negative errno.
 *
 * The map size is set once, huge (address space, not memory), and its use is
 * watched through db_usage(). No read transaction may outlive a look-up: the
 * API has the scope (db_read_begin .. db_read_end) and unoptimized builds assert
 * that a scope takes less than a second of its thread's processor time.
 *
 * Context: db_open/db_close: CTL, after the fork. Read transactions: any
 * thread, one at a time each (MDB_NOTLS). Write transactions: MW only.
 */
#ifndef META_DB_H
#define META_DB_H

#include "base/error.h"
#include "base/types.h"

/* One named database per record kind. The numbers go into the checksums: they are part of the format. */
enum db_kind {
	DB_POOL,
	DB_PV,
	DB_DISK,
	DB_LAYER,
	DB_SNAPSHOT,
	DB_INDEX,
	DB_MAP,
	DB_SPACE,
	DB_ADAPTER,
	DB_VTD,
	DB_KINDS
};

const char *db_kind_to_text(enum db_kind kind); /* the name of the database in the environment */

#define DB_KEY_BYTES_MAX 128
/* Payload, at least 1 byte. With key and checksum a record stays below what LMDB keeps in its tree's pages (2,030). */
#define DB_VALUE_BYTES_MAX 1800

struct db_key {
	size_t bytes;
	uint8_t b[DB_KEY_BYTES_MAX];
};

/* Keys are big-endian so that ranges scan in order. */
struct db_key db_key_u64(uint64_t a);
struct db_key db_key_u64_u64(uint64_t a, uint64_t b);
struct db_key db_key_bytes(const void *bytes, size_t length); /* names, UUIDs */
/* Big-endian reads for scans. Return false when the key has another length. */
bool db_key_to_u64(const struct db_key *key, uint64_t *ret_a);
bool db_key_to_u64_u64(const struct db_key *key, uint64_t *ret_a, uint64_t *ret_b);

struct db_value {
	size_t bytes;
	uint8_t b[DB_VALUE_BYTES_MAX];
};

struct db_env;
struct db_txn;

enum { DB_NOT_FOUND = 1 };

enum db_open_mode {
	DB_OPEN_CREATE,   /* directory exists, data.mdb must not */
	DB_OPEN_WRITE,
	DB_OPEN_READ_ONLY, /* still takes LMDB's reader lock file */
};

/*
 * dir: the pool's directory. Stale reader slots are cleared.
 * map_bytes: 0 = the default (1 TiB; shrunk by halves, never under 4 GiB, where address space is short).
 * Durability: an environment that was created is on stable storage, its name in dir included.
 * Return: 0; negative errno with err (-ENOENT no environment there, -EEXIST, -EBADMSG not an LMDB file, one
 * that lacks a database, or whose pages are damaged, -EBUSY another process writes it all the time, -EIO ...).
 */
MUST_CHECK int db_open(const char *dir, enum db_open_mode mode, uint64_t map_bytes, struct db_env **ret,
		       struct base_error *err);
/*
 * No transaction may be open and every slot must have been given back (db_read_free). NULL is fine.
 * An environment that died inside a write transaction is let go of without touching it: its memory, descriptors
 * and LMDB's writer lock stay this process's until it ends, and it can't be opened again before that.
 */
void db_close(struct db_env *env);

/* True once a fault or a failed meta page write made the environment unusable. Any thread. */
bool db_is_dead(const struct db_env *env);
/* True once a commit failed, other than for want of room, or the environment is dead: nothing is written any more,
 * what was committed can be read as long as it is not dead. Any thread. */
bool db_is_sealed(const struct db_env *env);

/*
 * The structure of LMDB's pages. db_open() verifies it before LMDB sees the file (meta/db_pages.c), and refuses what
 * is damaged; these find out what it was, and look again while the environment is in use.
 */
#define DB_PAGES_DAMAGE_MAX 32

struct db_page_damage {
	uint64_t page;  /* its number in data.mdb */
	char text[160]; /* what is wrong, for people */
};

struct db_pages_report {
	uint64_t transaction; /* whose state was looked at */
	uint32_t page_bytes;
	uint64_t pages;       /* that the state claims to have, meta pages included */
	uint64_t tree_pages;  /* reached: branches, leaves, overflow runs */
	uint64_t free_pages;  /* listed as free */
	uint64_t entries;     /* records, of all databases */
	uint64_t damaged;     /* findings */
	struct db_page_damage damage[DB_PAGES_DAMAGE_MAX]; /* the first ones */
	unsigned damage_count;
};

/*
 * Of a directory that nobody has open, or of an environment in use: the state that a read transaction sees, which it
 * keeps until the walk has ended (some 10 ms for each 10 MiB). Any thread; blocks.
 * Return: 0: the walk ended, *ret says what it found; -EBUSY: the file is being written by another process;
 * -ENOMEM; -EIO ... a read failed.
 */
MUST_CHECK int db_verify_dir(const char *dir, struct db_pages_report *ret);
MUST_CHECK int db_verify(struct db_env *env, struct db_pages_report *ret);

struct db_usage {
	uint64_t used_bytes;     /* pages in use x page size */
	uint64_t map_bytes;
	uint64_t file_bytes;
	uint64_t bad_records;    /* checksum mismatches seen since open */
};
MUST_CHECK int db_usage(struct db_env *env, struct db_usage *ret);

/*
 * Read scope. The transaction object is reused through `slot` (reset/renew), one per thread: start with NULL.
 * The environment has 60 slots, counted over all processes.
 * Return: 0; -EBUSY all slots taken; -ENOMEM; -EIO, also for a dead environment.
 */
MUST_CHECK int db_read_begin(struct db_env *env, struct db_txn **slot);
void db_read_end(struct db_txn *txn);
void db_read_free(struct db_txn *txn); /* at thread end; NULL is fine */

/*
 * One write transaction at a time; begun, used and ended by the same thread.
 * Return: 0; -EACCES opened read-only; -ENOMEM; -EIO, also for a sealed environment.
 */
MUST_CHECK int db_write_begin(struct db_env *env, struct db_txn **ret);
/*
 * Durability: when 0 is returned the transaction is on stable storage.
 * Return: 0; -ENOSPC, -ENOMEM: nothing happened, the environment is sound, try again when
 * there is room (a transaction in which db_put or db_del failed with one of them ends
 * like this too); anything else: the environment is sealed and what is on disk is
 * the state before or after. txn is gone in every case.
 */
MUST_CHECK int db_write_commit(struct db_txn *txn);
void db_write_abort(struct db_txn *txn);

/* Return: 0, DB_NOT_FOUND, -EBADMSG (checksum or size), -EIO. *ret is undefined unless 0 is returned. */
MUST_CHECK int db_get(struct db_txn *txn, enum db_kind kind, const struct db_key *key, struct db_value *ret);
/*
 * Return: 0, -ENOSPC (map or file system full), -ENOMEM, -EIO. After a failure the transaction can only be
 * ended: abort leaves the environment as it was.
 */
MUST_CHECK int db_put(struct db_txn *txn, enum db_kind kind, const struct db_key *key, const void *value,
		      size_t bytes);
/* Return: 0, DB_NOT_FOUND, negative errno. */
MUST_CHECK int db_del(struct db_txn *txn, enum db_kind kind, const struct db_key *key);

/*
 * Scan: the first record whose key is >= *key (inclusive = true) or > *key; an
 * empty key (bytes = 0) is before all others. On success *key is that record's
 * key. No cursor stays open, so a scan may go on in a later transaction from
 * where it stood.
 * Return: 0, DB_NOT_FOUND at the end, -EBADMSG (then *key is still the bad
 * record's key, so that a check can step over it), -EIO (also for a key that none
 * of ours can be).
 */
MUST_CHECK int db_next(struct db_txn *txn, enum db_kind kind, struct db_key *key, bool inclusive,
		       struct db_value *ret);

/* Number of records. */
MUST_CHECK int db_count(struct db_txn *txn, enum db_kind kind, uint64_t *ret);

#endif
