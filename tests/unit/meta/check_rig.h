/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of check share: a small pool with something in it, and hands on
 * its records.
 *
 * The pool lies in a directory of its own and has one sparse file, mostly of 64 MiB
 * (1,008 chunks, numbers from 1 on). Its disks:
 *
 *   a  200 GiB: leaf 0 (entries 0 to 9, all blocks), leaf 1 (entry 2: 4 blocks), leaf 8,197 (entry 3, all blocks)
 *   b  1 GiB: leaf 0 (entries 0 to 4, 8 blocks each)
 *   c  1 GiB, empty
 *
 * A test plants what check is to find by writing records through db.h. A failure
 * of the rig itself ends the program.
 */
#ifndef TESTS_UNIT_META_CHECK_RIG_H
#define TESTS_UNIT_META_CHECK_RIG_H

#include <limits.h>

#include "meta/check.h"
#include "meta/internal.h"

#define RIG_BYTES (64 * MIB)
#define RIG_CHUNKS 1008
#define RIG_ALL 0xffff

extern char rig_dir[PATH_MAX - 64]; /* the pool's */
extern struct meta_check_report rig_report;
extern struct base_error rig_error;

void rig_require(bool holds, const char *what);

/* Below TMPDIR. Where that isn't set: in memory, if there is room and the test wants many commits and little data. */
void rig_make_dir(bool in_memory);
void rig_remove_dir(void);

/* Makes a pool of so many bytes, opens it with no threads, fills the disks, commits, and closes it in order. */
void rig_make_pool(uint64_t bytes);
struct meta_pool *rig_open(bool threads);
void rig_close(struct meta_pool *pool);
/* Gives the entry a fresh chunk with these valid blocks, as a completed write does. */
void rig_write(struct meta_pool *pool, const char *disk, uint64_t chunk_of_disk, uint16_t valid);
void rig_discard(struct meta_pool *pool, const char *disk, uint64_t chunk_of_disk);
void rig_create(struct meta_pool *pool, const char *disk, uint64_t size_bytes);
/* As the command does, but for the gates: nothing is in flight. */
void rig_snapshot(struct meta_pool *pool, const char *disk, const char *name);

/* ---- records, of a pool that is closed --------------------------------------------------------- */

void rig_get(enum db_kind kind, struct db_key key, struct db_value *ret);
void rig_put(enum db_kind kind, struct db_key key, const void *value, size_t bytes);
void rig_del(enum db_kind kind, struct db_key key);

struct rig_disk {
	uint64_t number;
	struct meta_disk_record rec;
	struct meta_layer_record layer;
};
/* By name. */
struct rig_disk rig_disk(const char *name);
void rig_put_disk(const struct rig_disk *disk); /* its disk record */
void rig_put_layer(uint64_t id, const struct meta_layer_record *rec);
struct meta_pool_record rig_pool(void);
void rig_put_pool(const struct meta_pool_record *rec);
/* An id that the pool has now given out and nobody has. */
uint64_t rig_new_id(void);
void rig_leaf(uint64_t store, uint64_t leaf, meta_entry *ret_entries);
void rig_put_leaf(uint64_t store, uint64_t leaf, const meta_entry *entries);
void rig_set_index_bit(uint64_t store, uint64_t leaf, bool set);
void rig_set_space_bit(uint32_t chunk, bool set);
/* Flips a bit of the nth value of a database, or of its checksum. False: there is no such record. */
bool rig_flip_bit(enum db_kind kind, unsigned nth, bool in_checksum);

/* ---- check --------------------------------------------------------------------------------------- */

/* Into rig_report and rig_error. */
int rig_check_dir(void);
int rig_check(struct meta_pool *pool);
/* True when the report has so many findings of this kind and no other; else prints what it has. */
bool rig_found_only(enum meta_check_kind kind, uint64_t count);
bool rig_found_nothing(void);

#endif
