/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool of the check tests, see check_rig.h.
 *
 * Maps are changed through meta/io.h, as iocore does when a device write has
 * completed; there is no data. Failures of the rig print what was wanted and
 * abort: they are not what the tests are about.
 */
#include "tests/unit/meta/check_rig.h"

#include <dirent.h>
#include <inttypes.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

char rig_dir[PATH_MAX - 64];
struct meta_check_report rig_report;
struct base_error rig_error;

void rig_require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "check rig: %s failed: %s\n", what, rig_error.text);
	abort();
}

/* ---- the pool ---------------------------------------------------------------------------------- */

void rig_make_dir(bool in_memory)
{
	const char *base = getenv("TMPDIR");
	struct statvfs room;

	if (!base && in_memory && access("/dev/shm", W_OK) == 0 && statvfs("/dev/shm", &room) == 0 &&
	    room.f_bavail * room.f_frsize >= 256 * MIB)
		base = "/dev/shm";
	snprintf(rig_dir, sizeof(rig_dir), "%s/bdfs-check-XXXXXX", base ? base : P_tmpdir);
	rig_require(mkdtemp(rig_dir) != NULL, "mkdtemp");
}

void rig_remove_dir(void)
{
	DIR *dir = opendir(rig_dir);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(rig_dir);
}

struct meta_pool *rig_open(bool threads)
{
	struct meta_pool_open_args args = { .dir = rig_dir, .no_threads = !threads };
	struct meta_pool *pool;

	rig_require(meta_pool_open(&args, &pool, &rig_error) == 0, "opening the pool");
	return pool;
}

void rig_close(struct meta_pool *pool)
{
	rig_require(meta_pool_close(pool, &rig_error) == 0, "closing the pool");
}

void rig_create(struct meta_pool *pool, const char *name, uint64_t size_bytes)
{
	struct meta_disk_spec spec = { .size_bytes = size_bytes };

	snprintf(spec.name, sizeof(spec.name), "%s", name);
	rig_require(meta_disk_create(pool, &spec, 1, NULL, &rig_error) == 0, "creating a disk");
}

/* The disk, open, with the leaf pinned and one log slot reserved. */
static struct meta_disk *begin_change(struct meta_pool *pool, const char *name, uint64_t chunk_of_disk,
				      struct meta_leaf **ret)
{
	struct meta_disk *disk = meta_disk_get_by_name(pool, name);
	struct db_txn *slot = NULL;

	rig_require(disk && meta_disk_open(disk, &rig_error) == 0, "opening a disk");
	rig_require(meta_change_reserve(pool, 1), "reserving a log slot");
	(void)!store_load_leaf_now(meta_io_store(disk), chunk_of_disk / LEAF_CHUNKS, &slot, ret);
	db_read_free(slot);
	rig_require(meta_map_pin(meta_io_store(disk), chunk_of_disk / LEAF_CHUNKS, ret) == 0, "pinning a leaf");
	return disk;
}

static void end_change(struct meta_disk *disk, struct meta_leaf *leaf)
{
	meta_leaf_unpin(leaf);
	meta_disk_close(disk);
	meta_disk_put(disk);
}

void rig_write(struct meta_pool *pool, const char *name, uint64_t chunk_of_disk, uint16_t valid)
{
	struct meta_leaf *leaf;
	struct meta_disk *disk = begin_change(pool, name, chunk_of_disk, &leaf);
	struct pchunk chunk;

	rig_require(meta_chunk_alloc(disk, 1, &chunk) == 1, "allocating a chunk");
	meta_change_add(disk, leaf, chunk_of_disk % LEAF_CHUNKS, chunk, valid);
	end_change(disk, leaf);
}

void rig_discard(struct meta_pool *pool, const char *name, uint64_t chunk_of_disk)
{
	struct meta_leaf *leaf;
	struct meta_disk *disk = begin_change(pool, name, chunk_of_disk, &leaf);

	meta_change_remove(disk, leaf, chunk_of_disk % LEAF_CHUNKS, RIG_ALL, true);
	end_change(disk, leaf);
}

static void note_result(struct base_msg *msg)
{
	struct meta_wait *wait = container_of(msg, struct meta_wait, msg);

	*(int *)wait->disk = wait->result;
}

static void wake_nobody(void *ctx)
{
}

void rig_snapshot(struct meta_pool *pool, const char *disk_name, const char *name)
{
	struct meta_switch_spec spec = { .disk = meta_disk_get_by_name(pool, disk_name), .name = name };
	struct base_mailbox box;
	struct meta_switch change = { .specs = &spec, .count = 1, .err = &rig_error };
	int results[2] = { 1, 1 };

	base_mailbox_init(&box, wake_nobody, NULL);
	change.switched = (struct meta_wait){ .box = &box, .msg.run = note_result, .disk = (void *)&results[0] };
	change.durable = (struct meta_wait){ .box = &box, .msg.run = note_result, .disk = (void *)&results[1] };
	meta_switch_submit(pool, &change);
	while (results[1] == 1 && results[0] >= 0) {
		mw_step(pool, base_clock_ns());
		base_mailbox_run(&box);
	}
	rig_require(results[0] == 0 && results[1] == 0, "taking a snapshot");
	meta_disk_put(spec.disk);
}

static void fill(struct meta_pool *pool)
{
	rig_create(pool, "a", 200 * GIB);
	rig_create(pool, "b", GIB);
	rig_create(pool, "c", GIB);
	for (unsigned i = 0; i < 10; i++)
		rig_write(pool, "a", i, RIG_ALL);
	rig_write(pool, "a", LEAF_CHUNKS + 2, 0x000f);
	rig_write(pool, "a", 8197 * LEAF_CHUNKS + 3, RIG_ALL);
	for (unsigned i = 0; i < 5; i++)
		rig_write(pool, "b", i, 0x00ff);
}

void rig_make_pool(uint64_t bytes)
{
	char path[PATH_MAX];
	struct meta_pv_spec pv = { .path = path, .size_bytes = bytes };
	struct meta_pool_create_args args = { .dir = rig_dir, .name = "rig", .pvs = &pv, .pv_count = 1 };

	snprintf(path, sizeof(path), "%s/pv0", rig_dir);
	rig_require(meta_pool_create(&args, &rig_error) == 0, "making the pool");
	struct meta_pool *pool = rig_open(false);
	fill(pool);
	rig_require(meta_pool_commit(pool) == 0, "the first commit");
	rig_close(pool);
	/* Once more: then the free space is known to be discarded, and the pool is clean. */
	pool = rig_open(false);
	while (pool->rediscard_at <= UINT32_MAX || !bg_is_idle(pool)) {
		atomic_store(&pool->copy.wanted, true); /* freed chunks wait for a copy of the metadata */
		bg_step(pool, base_clock_ns());
	}
	rig_close(pool);
}

/* ---- records ------------------------------------------------------------------------------------ */

static struct db_env *open_env(enum db_open_mode mode)
{
	struct db_env *env;

	rig_require(db_open(rig_dir, mode, 0, &env, &rig_error) == 0, "opening the metadata");
	return env;
}

void rig_get(enum db_kind kind, struct db_key key, struct db_value *ret)
{
	struct db_env *env = open_env(DB_OPEN_READ_ONLY);
	struct db_txn *txn = NULL;

	rig_require(db_read_begin(env, &txn) == 0, "a read transaction");
	rig_require(db_get(txn, kind, &key, ret) == 0, "reading a record");
	db_read_end(txn);
	db_read_free(txn);
	db_close(env);
}

static void change(enum db_kind kind, struct db_key key, const void *value, size_t bytes)
{
	struct db_env *env = open_env(DB_OPEN_WRITE);
	struct db_txn *txn;

	rig_require(db_write_begin(env, &txn) == 0, "a write transaction");
	rig_require((value ? db_put(txn, kind, &key, value, bytes) : db_del(txn, kind, &key)) == 0,
		    "changing a record");
	rig_require(db_write_commit(txn) == 0, "a commit");
	db_close(env);
}

void rig_put(enum db_kind kind, struct db_key key, const void *value, size_t bytes)
{
	change(kind, key, value, bytes);
}

void rig_del(enum db_kind kind, struct db_key key)
{
	change(kind, key, NULL, 0);
}

struct rig_disk rig_disk(const char *name)
{
	struct rig_disk disk;
	struct db_value value;

	for (uint64_t number = 1; number <= 10; number += 3) { /* each disk draws three ids; a fourth may be a test's */
		rig_get(DB_DISK, db_key_u64(number), &value);
		rig_require(meta_disk_decode(value.b, value.bytes, &disk.rec) == 0, "decoding a disk");
		disk.number = number;
		if (strcmp(disk.rec.name, name) == 0)
			break;
	}
	rig_get(DB_LAYER, db_key_u64(disk.rec.head_layer), &value);
	rig_require(meta_layer_decode(value.b, value.bytes, &disk.layer) == 0, "decoding a layer");
	return disk;
}

void rig_put_disk(const struct rig_disk *disk)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];

	rig_put(DB_DISK, db_key_u64(disk->number), buf, meta_disk_encode(&disk->rec, buf));
}

void rig_put_layer(uint64_t id, const struct meta_layer_record *rec)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];

	rig_put(DB_LAYER, db_key_u64(id), buf, meta_layer_encode(rec, buf));
}

struct meta_pool_record rig_pool(void)
{
	struct meta_pool_record rec;
	struct db_value value;

	rig_get(DB_POOL, db_key_bytes("pool", 4), &value);
	rig_require(meta_pool_decode(value.b, value.bytes, &rec) == 0, "decoding the pool record");
	return rec;
}

void rig_put_pool(const struct meta_pool_record *rec)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];

	rig_put(DB_POOL, db_key_bytes("pool", 4), buf, meta_pool_encode(rec, buf));
}

uint64_t rig_new_id(void)
{
	struct meta_pool_record rec = rig_pool();
	uint64_t id = rec.next_id++;

	rig_put_pool(&rec);
	return id;
}

void rig_leaf(uint64_t store, uint64_t leaf, meta_entry *ret_entries)
{
	struct db_value value;

	rig_get(DB_MAP, db_key_u64_u64(store, leaf), &value);
	rig_require(meta_leaf_decode(value.b, value.bytes, ret_entries) == 0, "decoding a leaf");
}

void rig_put_leaf(uint64_t store, uint64_t leaf, const meta_entry *entries)
{
	uint8_t buf[META_LEAF_ENCODED_BYTES_MAX];

	rig_put(DB_MAP, db_key_u64_u64(store, leaf), buf, meta_leaf_encode(entries, buf));
}

static void set_bit(uint8_t *bits, uint64_t n, bool set)
{
	if (set)
		bits[n / 8] |= (uint8_t)(1u << (n % 8));
	else
		bits[n / 8] &= (uint8_t) ~(1u << (n % 8));
}

void rig_set_index_bit(uint64_t store, uint64_t leaf, bool set)
{
	struct db_key key = db_key_u64_u64(store, leaf >> GROUP_SHIFT);
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct meta_index_record rec;
	struct db_value value;

	rig_get(DB_INDEX, key, &value);
	rig_require(meta_index_decode(value.b, value.bytes, &rec) == 0, "decoding an index record");
	set_bit(rec.present, leaf % GROUP_LEAVES, set);
	rig_put(DB_INDEX, key, buf, meta_index_encode(&rec, buf));
}

void rig_set_space_bit(uint32_t chunk, bool set)
{
	struct db_key key = db_key_u64(chunk / SPACE_GROUP_CHUNKS);
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct meta_space_record rec;
	struct db_value value;

	rig_get(DB_SPACE, key, &value);
	rig_require(meta_space_decode(value.b, value.bytes, &rec) == 0, "decoding a space record");
	set_bit(rec.owned, chunk % SPACE_GROUP_CHUNKS, set);
	rig_put(DB_SPACE, key, buf, meta_space_encode(&rec, buf));
}

/* Behind the back of the checksum, so not through db.h. */
bool rig_flip_bit(enum db_kind kind, unsigned nth, bool in_checksum)
{
	MDB_cursor *cursor = NULL;
	MDB_val key, value;
	uint8_t copy[2048];
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;

	rig_require(mdb_env_create(&env) == 0 && mdb_env_set_maxdbs(env, DB_KINDS) == 0 &&
			    mdb_env_open(env, rig_dir, 0, 0600) == 0 && mdb_txn_begin(env, NULL, 0, &txn) == 0 &&
			    mdb_dbi_open(txn, db_kind_to_text(kind), 0, &dbi) == 0 &&
			    mdb_cursor_open(txn, dbi, &cursor) == 0,
		    "opening LMDB");
	int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
	for (unsigned i = 0; i < nth && rc == 0; i++)
		rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
	if (rc == 0) {
		rig_require(value.mv_size <= sizeof(copy), "a value of that size");
		memcpy(copy, value.mv_data, value.mv_size);
		copy[in_checksum ? value.mv_size - 1 : value.mv_size / 2] ^= 0x10;
		value.mv_data = copy;
		rig_require(mdb_cursor_put(cursor, &key, &value, MDB_CURRENT) == 0, "flipping a bit");
	}
	mdb_cursor_close(cursor);
	rig_require(mdb_txn_commit(txn) == 0, "a commit");
	mdb_env_close(env);
	return rc == 0;
}

/* ---- check --------------------------------------------------------------------------------------- */

int rig_check_dir(void)
{
	struct meta_check_args args = { 0 };

	return meta_check_dir(rig_dir, &args, &rig_report, &rig_error);
}

int rig_check(struct meta_pool *pool)
{
	struct meta_check_args args = { .pool = pool };

	return meta_check(&args, &rig_report, &rig_error);
}

static void print_report(void)
{
	for (int kind = 0; kind < META_CHECK_KINDS; kind++)
		if (rig_report.found[kind] != 0)
			fprintf(stderr, "%s: %" PRIu64 "\n", meta_check_kind_to_text((enum meta_check_kind)kind),
				rig_report.found[kind]);
	for (unsigned i = 0; i < rig_report.finding_count; i++)
		fprintf(stderr, "  %s\n", rig_report.findings[i].text);
}

bool rig_found_only(enum meta_check_kind kind, uint64_t count)
{
	bool right = rig_report.problems == count && rig_report.found[kind] == count;

	if (!right)
		print_report();
	return right;
}

bool rig_found_nothing(void)
{
	if (rig_report.problems != 0)
		print_report();
	return rig_report.problems == 0;
}
