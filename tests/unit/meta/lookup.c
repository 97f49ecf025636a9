/* SPDX-License-Identifier: Apache-2.0 */
/* What is read of the map must not be older than what is in it when it comes in. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/park.h"
#include "tests/unit/meta/check_rig.h"

static void setup(void)
{
	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
}

TestSuite(meta_lookup, .init = setup, .fini = rig_remove_dir, .timeout = 60);

struct reader {
	pthread_t thread;
	struct meta_store *store;
	_Atomic pid_t tid;
	meta_entry found;
};

/* As a CTL thread that makes a difference: it holds nothing that keeps a leaf in memory. */
static void *read_leaf(void *arg)
{
	struct reader *reader = arg;
	struct db_txn *slot = NULL;
	struct meta_leaf *leaf;

	atomic_store(&reader->tid, gettid());
	int rc = store_load_leaf_now(reader->store, 0, &slot, &leaf);
	db_read_free(slot);
	rig_require(rc == 0, "loading a leaf");
	reader->found = meta_leaf_entry(leaf, 3);
	return NULL;
}

static bool sleeps(pid_t tid)
{
	char path[64], state = '?';

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
	FILE *file = fopen(path, "re");
	if (file && fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
		state = '?';
	if (file)
		fclose(file);
	return state == 'S';
}

static void evict_all(struct meta_pool *pool)
{
	uint64_t limit_bytes = pool->cache_limit_bytes;

	pool->cache_limit_bytes = 0;
	(void)cache_evict(pool, base_clock_ns());
	pool->cache_limit_bytes = limit_bytes;
}

/* What others do while the reader, who has read the record, waits for the lock: the leaf comes in, is changed,
 * committed and evicted. The lock is ours all the time. */
static meta_entry change_meanwhile(struct meta_pool *pool, struct meta_disk *disk)
{
	struct meta_store *store = meta_io_store(disk);
	meta_entry entries[LEAF_CHUNKS];
	struct db_txn *slot = NULL;
	struct meta_leaf *leaf;

	rig_require(leaf_read(store, 0, &slot, entries) == 0, "reading a leaf");
	db_read_free(slot);
	leaf = store_install(store, 0, entries);
	rig_require(leaf && meta_change_reserve(pool, 1), "a leaf and a log slot");
	meta_change_remove(disk, leaf, 3, 0x00ff, true);
	meta_entry changed = meta_leaf_entry(leaf, 3);
	rig_require(meta_pool_commit(pool) == 0, "a commit");
	evict_all(pool);
	rig_require(meta_map_find(store, 0, &leaf) == META_MISS, "evicting the leaf");
	return changed;
}

Test(meta_lookup, a_leaf_that_was_changed_committed_and_evicted_while_it_was_read_is_read_again)
{
	struct meta_pool *pool = rig_open(false);
	struct meta_disk *disk = meta_disk_get_by_name(pool, "a");
	uint64_t deadline = base_clock_ns() + UINT64_C(10000000000);
	struct reader reader = { .tid = 0 };

	cr_assert_eq(meta_disk_open(disk, &rig_error), 0);
	reader.store = meta_io_store(disk);
	pthread_mutex_lock(&reader.store->lock);
	cr_assert_eq(pthread_create(&reader.thread, NULL, read_leaf, &reader), 0);
	while (atomic_load(&reader.tid) == 0 || !sleeps(atomic_load(&reader.tid)))
		cr_assert_lt(base_clock_ns(), deadline, "the reader does not come to the lock");
	meta_entry changed = change_meanwhile(pool, disk);
	pthread_mutex_unlock(&reader.store->lock);
	cr_assert_eq(pthread_join(reader.thread, NULL), 0);
	cr_expect_eq(reader.found, changed, "%016lx instead of %016lx", (unsigned long)reader.found,
		     (unsigned long)changed);
	meta_disk_close(disk);
	meta_disk_put(disk);
	rig_close(pool);
}
