/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one door to LMDB: opening, transactions, records, and what to make of
 * LMDB's failures. Beside it: the guard (db_guard.c), keys (db_key.c), the
 * checksum behind each value (db_seal.c), the files (db_files.c), the verifier
 * of their pages (db_pages.c, db_page.c).
 *
 * Every call into LMDB is a small function run by guarded(), which refuses on
 * a dead environment, runs it under the guard and turns LMDB's codes into ours.
 * Values are copied out under the guard and verified on the copy.
 *
 * Happy path: db_open; db_read_begin, db_get ..., db_read_end for look-ups;
 * db_write_begin, db_put ..., db_write_commit, which is one data sync and one
 * synchronous write of a meta page in LMDB.
 *
 * Failure modes:
 *   - a record that fails its checksum: -EBADMSG, counted, nothing else;
 *   - a damaged tree (LMDB says so): -EIO for that call; a write transaction
 *     that met it can't commit;
 *   - a fault under the map or an assertion of LMDB's: -EIO and dead;
 *   - a commit for which there is no room: -ENOSPC, and all is well. LMDB
 *     0.9.24 writes pages that nothing refers to yet, syncs them, then writes
 *     the meta page. A failure before the meta page leaves the committed state
 *     untouched, in the file and in the map. It comes as ENOSPC (or EDQUOT, or
 *     EFBIG at the process's limit) or as a short write, for which LMDB makes
 *     up EIO: the system call that was cut short set no errno, so EIO with
 *     errno still 0 is that case, and no device's EIO can look like it;
 *   - no memory for a commit: -ENOMEM, and all is well too. LMDB allocates for
 *     its list of free pages, and that before it writes anything;
 *   - a failed write of the meta page: LMDB writes the old one back and refuses
 *     all further transactions (MDB_PANIC). That is asked for after each failed
 *     commit, so an ENOSPC from there is never taken for the harmless one;
 *   - any other failed commit (a failed sync above all): sealed, as the kernel
 *     may have dropped what it could not write. What was committed before is
 *     read on: no page of it was touched.
 *
 * Sealed means that no write transaction begins any more, dead that nothing
 * does. A fault inside a write transaction (or inside open) also leaves LMDB's own structures in an unknown state, so
 * from then on no call touches that environment: it is leaked on purpose.
 */
#include <assert.h>
#include <errno.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"
#include "meta/db.h"
#include "meta/db_files.h"
#include "meta/db_guard.h"
#include "meta/db_pages.h"
#include "meta/db_seal.h"

#define MAP_BYTES_DEFAULT DB_FILE_BYTES_MAX
#define MAP_BYTES_LEAST (4 * GIB)
/* So many slots make LMDB's lock file, which is a shared mapping too, one page, touched when it is opened: a page of
 * it that is first touched later, on a full file system, would be a SIGBUS outside of the guard. */
#define READER_SLOTS 60
/* LMDB's own two databases: free pages, and the names of the others. */
#define FREE_DBI 0
#define MAIN_DBI 1
#define LMDB_META_PAGES 2
#define VERIFY_TRIES 1000

struct db_txn {
	struct db_env *env;
	MDB_txn *mdb;
	bool is_write;
	int failed; /* write: first failure of db_put or db_del; such a transaction is never committed */
	uint64_t began_ns;
};

struct db_env {
	/* Const after open. */
	MDB_env *mdb;
	MDB_dbi dbi[DB_KINDS];
	char *dir;
	struct db_guard_range map; /* end = 0 while opening */

	/* Atomic. untouchable implies dead, dead implies sealed. */
	_Atomic(bool) sealed; /* nothing is written any more */
	_Atomic(bool) dead;
	_Atomic(bool) untouchable;
	_Atomic(uint64_t) bad_records;

	struct db_txn write_txn; /* owner MW; mdb = NULL when there is none */
	MDB_txn *open_txn;       /* only while opening; here so that a fault then leaves it in sight */

	struct db_env *next_buried; /* lock buried_lock */
};

/* Environments that must not be touched, not even to free them. They are kept in sight of leak checkers. */
static struct db_env *buried;
static pthread_mutex_t buried_lock = PTHREAD_MUTEX_INITIALIZER;

/* The one table of LMDB's codes and the errnos that it passes on. */
static int to_errno(int rc)
{
	switch (rc) {
	case 0:
		return 0;
	case MDB_NOTFOUND:
		return DB_NOT_FOUND;
	case MDB_MAP_FULL:
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return -ENOSPC;
	case EIO:
		return errno == 0 ? -ENOSPC : -EIO; /* a short write: see the top */
	case MDB_READERS_FULL:
		return -EBUSY;
	case MDB_TXN_FULL:
		return -E2BIG;
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
		return -EBADMSG;
	}
	return rc > 0 ? -rc : -EIO;
}

/* untouchable: LMDB was interrupted in the middle of a change. */
static void mark_dead(struct db_env *env, bool untouchable, const char *why)
{
	if (untouchable)
		atomic_store(&env->untouchable, true);
	atomic_store(&env->sealed, true);
	if (!atomic_exchange(&env->dead, true))
		log_error("metadata in %s: %s; it can't be used until the pool is opened again", env->dir, why);
}

/* The committed state is whole and can be read; what comes after it is not known. */
static void seal(struct db_env *env, const char *why)
{
	if (!atomic_exchange(&env->sealed, true))
		log_error("metadata in %s: %s; it can only be read until the pool is opened again", env->dir, why);
}

/* changes: fn may change LMDB's own structures, so that a fault in it ends all contact. */
static int guarded(struct db_env *env, bool changes, int (*fn)(void *call), void *call)
{
	if (atomic_load_explicit(&env->dead, memory_order_relaxed))
		return -EIO;
	errno = 0; /* to_errno() tells a short write by it */

	int rc = db_guard_run(env->map.end != 0 ? &env->map : NULL, fn, call);

	if (rc != DB_GUARD_FAULT)
		return to_errno(rc);
	mark_dead(env, changes, "it can't be read (a device error, a file cut short, or a damaged page)");
	return -EIO;
}

/* Gives something back that a dead environment holds too. A second fault changes nothing. */
static void guarded_release(struct db_env *env, int (*fn)(void *call), void *call)
{
	if (atomic_load(&env->untouchable))
		return;
	if (db_guard_run(&env->map, fn, call) == DB_GUARD_FAULT)
		mark_dead(env, true, "it can't be read while a transaction ends");
}

static void on_lmdb_assert(MDB_env *mdb, const char *message)
{
	log_error("metadata: LMDB found its own data wrong: %s", message);
	db_guard_escape();
}

/* --- open and close --- */

struct open_call {
	struct db_env *env;
	const char *dir;
	enum db_open_mode mode;
	uint64_t map_bytes;
	const char *missing; /* ret: the database that is not there */
};

static int call_open_env(void *arg)
{
	struct open_call *call = arg;
	unsigned flags = MDB_NOTLS | (call->mode == DB_OPEN_READ_ONLY ? MDB_RDONLY : 0);
	int rc = mdb_env_create(&call->env->mdb);

	if (rc == 0)
		rc = mdb_env_set_assert(call->env->mdb, on_lmdb_assert);
	if (rc == 0)
		rc = mdb_env_set_maxdbs(call->env->mdb, DB_KINDS);
	if (rc == 0)
		rc = mdb_env_set_maxreaders(call->env->mdb, READER_SLOTS);
	if (rc == 0)
		rc = mdb_env_set_mapsize(call->env->mdb, call->map_bytes);
	if (rc == 0)
		rc = mdb_env_open(call->env->mdb, call->dir, flags, 0600);
	if (rc == 0)
		rc = mdb_reader_check(call->env->mdb, NULL);
	return rc;
}

static int open_databases(struct open_call *call)
{
	unsigned flags = call->mode == DB_OPEN_CREATE ? MDB_CREATE : 0;

	for (int kind = 0; kind < DB_KINDS; kind++) {
		const char *name = db_kind_to_text((enum db_kind)kind);
		int rc = mdb_dbi_open(call->env->open_txn, name, flags, &call->env->dbi[kind]);

		if (rc == MDB_NOTFOUND || rc == MDB_INCOMPATIBLE)
			call->missing = name;
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int call_open_databases(void *arg)
{
	struct open_call *call = arg;
	MDB_txn **txn = &call->env->open_txn;
	int rc = mdb_txn_begin(call->env->mdb, NULL, call->mode == DB_OPEN_CREATE ? 0 : MDB_RDONLY, txn);

	if (rc != 0)
		return rc;
	rc = open_databases(call);
	if (rc == 0)
		return mdb_txn_commit(*txn); /* of a read transaction: keeps the handles */
	mdb_txn_abort(*txn);
	return rc;
}

/*
 * LMDB doesn't say where its map is. A record read by a read transaction lies in
 * it, and the names of the databases are records, so the mapping that holds one
 * of those is the one.
 */
static int call_find_map(void *arg)
{
	struct open_call *call = arg;
	const char *name = db_kind_to_text((enum db_kind)0);
	MDB_val key = { .mv_size = strlen(name), .mv_data = (void *)name };
	MDB_val value;
	MDB_envinfo info;
	MDB_txn **txn = &call->env->open_txn;
	int rc = mdb_env_info(call->env->mdb, &info);

	if (rc == 0)
		rc = mdb_txn_begin(call->env->mdb, NULL, MDB_RDONLY, txn);
	if (rc != 0)
		return rc;
	rc = mdb_get(*txn, MAIN_DBI, &key, &value);
	if (rc == 0)
		rc = -db_guard_find_mapping(value.mv_data, info.me_mapsize, &call->env->map);
	mdb_txn_abort(*txn);
	return rc;
}

/* Frees env, or lays it where nobody touches it. */
static void bury_or_free(struct db_env *env)
{
	if (!atomic_load(&env->untouchable)) {
		if (env->mdb)
			mdb_env_close(env->mdb);
		free(env->dir);
		free(env);
		return;
	}
	pthread_mutex_lock(&buried_lock);
	env->next_buried = buried;
	buried = env;
	pthread_mutex_unlock(&buried_lock);
}

/* Address space may be short (RLIMIT_AS, a small machine): then half of it will do, down to a point. */
static int open_env(struct open_call *call, uint64_t map_bytes)
{
	int rc;

	call->map_bytes = map_bytes != 0 ? map_bytes : MAP_BYTES_DEFAULT;
	for (;;) {
		rc = guarded(call->env, true, call_open_env, call);
		if (rc != -ENOMEM || map_bytes != 0 || call->map_bytes / 2 < MAP_BYTES_LEAST)
			return rc;
		mdb_env_close(call->env->mdb);
		call->env->mdb = NULL;
		call->map_bytes /= 2;
	}
}

static struct db_env *new_env(const char *dir)
{
	struct db_env *env = calloc(1, sizeof(*env));

	if (env)
		env->dir = strdup(dir);
	if (env && !env->dir) {
		free(env);
		return NULL;
	}
	return env;
}

int db_open(const char *dir, enum db_open_mode mode, uint64_t map_bytes, struct db_env **ret, struct base_error *err)
{
	struct open_call call = { .dir = dir, .mode = mode };
	int rc = db_files_check(dir, mode, err);

	if (rc == 0 && mode != DB_OPEN_CREATE)
		rc = db_files_verify(dir, err);
	if (rc < 0)
		return rc;
	call.env = new_env(dir);
	if (!call.env)
		return base_error_set_errno(err, -ENOMEM, "the metadata in %s can't be opened", dir);
	rc = open_env(&call, map_bytes);
	if (rc == 0)
		rc = guarded(call.env, true, call_open_databases, &call);
	if (rc == 0)
		rc = guarded(call.env, true, call_find_map, &call);
	if (rc == 0 && mode == DB_OPEN_CREATE)
		rc = db_files_sync(dir);
	if (rc != 0) {
		rc = db_files_explain(dir, call.missing, call.map_bytes, rc, err);
		bury_or_free(call.env);
		if (mode == DB_OPEN_CREATE)
			db_files_remove(dir);
		return rc;
	}
	*ret = call.env;
	return 0;
}

void db_close(struct db_env *env)
{
	if (!env)
		return;
	assert(!env->write_txn.mdb);
	bury_or_free(env);
}

bool db_is_dead(const struct db_env *env)
{
	return atomic_load(&env->dead);
}

bool db_is_sealed(const struct db_env *env)
{
	return atomic_load(&env->sealed);
}

/* --- read transactions --- */

/* The thread's own time, not the clock's: a thread that the machine makes wait has broken no rule. */
static uint64_t thread_ns(void)
{
#ifdef __OPTIMIZE__
	return 0;
#else
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
#endif
}

static int call_read_begin(void *arg)
{
	struct db_txn *txn = arg;

	if (txn->mdb)
		return mdb_txn_renew(txn->mdb);
	return mdb_txn_begin(txn->env->mdb, NULL, MDB_RDONLY, &txn->mdb);
}

int db_read_begin(struct db_env *env, struct db_txn **slot)
{
	struct db_txn *txn = *slot;
	int rc;

	if (!txn) {
		txn = calloc(1, sizeof(*txn));
		if (!txn)
			return -ENOMEM;
		txn->env = env;
	}
	assert(txn->env == env && !txn->is_write);
	rc = guarded(env, false, call_read_begin, txn);
	if (rc != 0 && !*slot)
		free(txn);
	if (rc != 0)
		return rc;
	txn->began_ns = thread_ns();
	*slot = txn;
	return 0;
}

static int call_reset(void *arg)
{
	mdb_txn_reset(arg);
	return 0;
}

void db_read_end(struct db_txn *txn)
{
	assert(thread_ns() - txn->began_ns < UINT64_C(1000000000));
	guarded_release(txn->env, call_reset, txn->mdb);
}

static int call_abort(void *arg)
{
	mdb_txn_abort(arg);
	return 0;
}

void db_read_free(struct db_txn *txn)
{
	if (!txn)
		return;
	guarded_release(txn->env, call_abort, txn->mdb);
	free(txn);
}

/* --- write transactions --- */

static int call_write_begin(void *arg)
{
	struct db_txn *txn = arg;

	return mdb_txn_begin(txn->env->mdb, NULL, 0, &txn->mdb);
}

int db_write_begin(struct db_env *env, struct db_txn **ret)
{
	struct db_txn *txn = &env->write_txn;
	int rc;

	assert(!txn->mdb);
	if (atomic_load(&env->sealed))
		return -EIO;
	*txn = (struct db_txn){ .env = env, .is_write = true };
	rc = guarded(env, true, call_write_begin, txn);
	if (rc != 0) {
		txn->mdb = NULL;
		return rc;
	}
	*ret = txn;
	return 0;
}

void db_write_abort(struct db_txn *txn)
{
	guarded_release(txn->env, call_abort, txn->mdb);
	txn->mdb = NULL;
}

static int call_commit(void *arg)
{
	return mdb_txn_commit(arg);
}

struct probe_call {
	MDB_env *mdb;
	bool panic; /* ret: a write of the meta page has failed */
};

/* Whether LMDB would go on. */
static int call_probe(void *arg)
{
	struct probe_call *call = arg;
	MDB_txn *txn;
	int rc = mdb_txn_begin(call->mdb, NULL, 0, &txn);

	call->panic = rc == MDB_PANIC;
	if (rc == 0)
		mdb_txn_abort(txn);
	return rc;
}

/* Nothing was written that counts: see the top. */
static bool is_harmless(int rc)
{
	return rc == -ENOSPC || rc == -ENOMEM;
}

static int after_failed_commit(struct db_env *env, int rc)
{
	struct probe_call call = { .mdb = env->mdb };
	int probe_rc = guarded(env, true, call_probe, &call);

	if (call.panic)
		mark_dead(env, false, "the write that ends a commit failed");
	else if (!is_harmless(rc) || probe_rc != 0)
		seal(env, "a commit failed");
	return is_harmless(rc) && probe_rc != 0 ? -EIO : rc;
}

int db_write_commit(struct db_txn *txn)
{
	struct db_env *env = txn->env;
	int rc = txn->failed;

	if (rc != 0) {
		db_write_abort(txn);
		if (!is_harmless(rc))
			seal(env, "a change that was to be committed failed");
		return rc;
	}
	rc = guarded(env, true, call_commit, txn->mdb);
	txn->mdb = NULL;
	return rc == 0 ? 0 : after_failed_commit(env, rc);
}

/* --- records --- */

/* A value as it came out of the map: copied, not yet verified. */
struct found {
	struct db_value *value;
	uint8_t seal[DB_SEAL_BYTES];
	bool has_size; /* false: no record of ours has such a size; nothing was copied */
};

/* Under the guard. */
static void copy_out(const MDB_val *val, struct found *found)
{
	found->has_size = val->mv_size > DB_SEAL_BYTES && val->mv_size <= DB_VALUE_BYTES_MAX + DB_SEAL_BYTES;
	if (!found->has_size)
		return;
	found->value->bytes = val->mv_size - DB_SEAL_BYTES;
	memcpy(found->value->b, val->mv_data, found->value->bytes);
	memcpy(found->seal, (const uint8_t *)val->mv_data + found->value->bytes, DB_SEAL_BYTES);
}

static int verify(struct db_env *env, enum db_kind kind, const struct db_key *key, const struct found *found)
{
	uint8_t expected[DB_SEAL_BYTES];

	if (found->has_size) {
		db_seal(kind, key, found->value->b, found->value->bytes, expected);
		if (memcmp(expected, found->seal, DB_SEAL_BYTES) == 0)
			return 0;
	}
	atomic_fetch_add_explicit(&env->bad_records, 1, memory_order_relaxed);
	return -EBADMSG;
}

/* LMDB's type has no const, LMDB leaves keys alone. */
static MDB_val key_val(const struct db_key *key)
{
	assert(key->bytes > 0 && key->bytes <= DB_KEY_BYTES_MAX);
	return (MDB_val){ .mv_size = key->bytes, .mv_data = (void *)key->b };
}

struct get_call {
	MDB_txn *txn;
	MDB_dbi dbi;
	MDB_val key;
	struct found found;
};

static int call_get(void *arg)
{
	struct get_call *call = arg;
	MDB_val val;
	int rc = mdb_get(call->txn, call->dbi, &call->key, &val);

	if (rc == 0)
		copy_out(&val, &call->found);
	return rc;
}

int db_get(struct db_txn *txn, enum db_kind kind, const struct db_key *key, struct db_value *ret)
{
	struct get_call call = { txn->mdb, txn->env->dbi[kind], key_val(key), { .value = ret } };
	int rc = guarded(txn->env, txn->is_write, call_get, &call);

	return rc != 0 ? rc : verify(txn->env, kind, key, &call.found);
}

struct change_call {
	MDB_txn *txn;
	MDB_dbi dbi;
	MDB_val key;
	MDB_val value;
};

static int call_put(void *arg)
{
	struct change_call *call = arg;

	return mdb_put(call->txn, call->dbi, &call->key, &call->value, 0);
}

static int call_del(void *arg)
{
	struct change_call *call = arg;

	return mdb_del(call->txn, call->dbi, &call->key, NULL);
}

static int change(struct db_txn *txn, int (*fn)(void *call), struct change_call *call)
{
	assert(txn->is_write);
	if (txn->failed != 0)
		return txn->failed;

	int rc = guarded(txn->env, true, fn, call);

	if (rc < 0)
		txn->failed = rc;
	return rc;
}

int db_put(struct db_txn *txn, enum db_kind kind, const struct db_key *key, const void *value, size_t bytes)
{
	uint8_t sealed[DB_VALUE_BYTES_MAX + DB_SEAL_BYTES];
	struct change_call call = { txn->mdb, txn->env->dbi[kind], key_val(key), { bytes + DB_SEAL_BYTES, sealed } };

	assert(bytes > 0 && bytes <= DB_VALUE_BYTES_MAX);
	memcpy(sealed, value, bytes);
	db_seal(kind, key, value, bytes, sealed + bytes);
	return change(txn, call_put, &call);
}

int db_del(struct db_txn *txn, enum db_kind kind, const struct db_key *key)
{
	struct change_call call = { .txn = txn->mdb, .dbi = txn->env->dbi[kind], .key = key_val(key) };

	return change(txn, call_del, &call);
}

struct next_call {
	MDB_txn *txn;
	MDB_dbi dbi;
	MDB_cursor *cursor;
	struct db_key *key;
	bool inclusive;
	struct found found;
};

static bool same_key(const MDB_val *val, const struct db_key *key)
{
	return val->mv_size == key->bytes && memcmp(val->mv_data, key->b, key->bytes) == 0;
}

static int seek(struct next_call *call, MDB_val *key, MDB_val *val)
{
	int rc;

	if (call->key->bytes == 0)
		return mdb_cursor_get(call->cursor, key, val, MDB_FIRST);
	*key = key_val(call->key);
	rc = mdb_cursor_get(call->cursor, key, val, MDB_SET_RANGE);
	if (rc == 0 && !call->inclusive && same_key(key, call->key))
		rc = mdb_cursor_get(call->cursor, key, val, MDB_NEXT);
	return rc;
}

static int call_next(void *arg)
{
	struct next_call *call = arg;
	MDB_val key, val;
	MDB_stat stat;
	/* Makes LMDB read the database's root here: a fault while it opens the cursor would lose the cursor. */
	int rc = mdb_stat(call->txn, call->dbi, &stat);

	if (rc == 0)
		rc = mdb_cursor_open(call->txn, call->dbi, &call->cursor);
	if (rc == 0)
		rc = seek(call, &key, &val);
	if (rc == 0 && (key.mv_size == 0 || key.mv_size > DB_KEY_BYTES_MAX))
		rc = MDB_CORRUPTED;
	if (rc == 0) {
		*call->key = (struct db_key){ .bytes = key.mv_size };
		memcpy(call->key->b, key.mv_data, key.mv_size);
		copy_out(&val, &call->found);
	}
	return rc;
}

int db_next(struct db_txn *txn, enum db_kind kind, struct db_key *key, bool inclusive, struct db_value *ret)
{
	struct next_call call = { txn->mdb, txn->env->dbi[kind], NULL, key, inclusive, { .value = ret } };
	int rc = guarded(txn->env, txn->is_write, call_next, &call);

	/* Closing only frees memory, and in a write transaction unlinks the cursor from LMDB's list. */
	if (!atomic_load_explicit(&txn->env->untouchable, memory_order_relaxed))
		mdb_cursor_close(call.cursor);
	return rc != 0 ? rc : verify(txn->env, kind, key, &call.found);
}

struct stat_call {
	MDB_txn *txn;
	MDB_dbi dbi;
	MDB_stat stat;
};

static int call_stat(void *arg)
{
	struct stat_call *call = arg;

	return mdb_stat(call->txn, call->dbi, &call->stat);
}

int db_count(struct db_txn *txn, enum db_kind kind, uint64_t *ret)
{
	struct stat_call call = { .txn = txn->mdb, .dbi = txn->env->dbi[kind] };
	int rc = guarded(txn->env, txn->is_write, call_stat, &call);

	if (rc == 0)
		*ret = call.stat.ms_entries;
	return rc;
}

/* --- usage --- */

static int add_pages(struct db_txn *txn, MDB_dbi dbi, struct db_usage *usage)
{
	struct stat_call call = { .txn = txn->mdb, .dbi = dbi };
	int rc = guarded(txn->env, false, call_stat, &call);

	if (rc != 0)
		return rc;
	usage->used_bytes +=
	    call.stat.ms_psize * (call.stat.ms_branch_pages + call.stat.ms_leaf_pages + call.stat.ms_overflow_pages);
	if (dbi == FREE_DBI)
		usage->used_bytes += (uint64_t)LMDB_META_PAGES * call.stat.ms_psize;
	return 0;
}

static int sum_pages(struct db_txn *txn, struct db_usage *usage)
{
	int rc = add_pages(txn, FREE_DBI, usage);

	if (rc == 0)
		rc = add_pages(txn, MAIN_DBI, usage);
	for (int kind = 0; kind < DB_KINDS && rc == 0; kind++)
		rc = add_pages(txn, txn->env->dbi[kind], usage);
	return rc;
}

int db_usage(struct db_env *env, struct db_usage *ret)
{
	struct db_usage usage = { .map_bytes = env->map.end - env->map.start,
				  .bad_records = atomic_load(&env->bad_records) };
	struct db_txn *txn = NULL;
	struct stat st;
	int fd;
	int rc = db_read_begin(env, &txn);

	if (rc < 0)
		return rc;
	rc = sum_pages(txn, &usage);
	db_read_end(txn);
	db_read_free(txn);
	if (rc != 0)
		return rc;
	if (mdb_env_get_fd(env->mdb, &fd) != 0 || fstat(fd, &st) < 0)
		return -EIO;
	usage.file_bytes = (uint64_t)st.st_size;
	*ret = usage;
	return 0;
}

static int verify_now(struct db_env *env, struct db_pages_report *ret)
{
	struct db_txn *txn = NULL;
	int rc = db_read_begin(env, &txn);

	if (rc < 0)
		return rc;
	rc = db_pages_walk_dir(env->dir, mdb_txn_id(txn->mdb), ret);
	db_read_end(txn);
	db_read_free(txn);
	return rc;
}

int db_verify(struct db_env *env, struct db_pages_report *ret)
{
	int rc = -EBUSY;

	/* Two commits between the begin and the walk take the meta page away; the trees are kept from then on. */
	for (unsigned i = 0; i < VERIFY_TRIES && rc == -EBUSY; i++)
		rc = verify_now(env, ret);
	return rc;
}
