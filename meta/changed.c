/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See changed.h. One block of 4 KiB, written in place: it is torn only by a power cut, and then its checksum says that
 * there is no list, and an import names every disk.
 *
 * Is an entry still of use? A disk may have changed before a copy and after it. So what counts is whether a copy was
 * begun since the entry was made: then the disk, when it changes again, gets the new commit's number. The number of
 * copies begun goes up before a copy looks at the metadata, and is looked at once more behind the commit, so that a
 * copy that comes in between does not make the list forget.
 *
 * Failure modes: no room, see unlisted_commit; a device that can't write the list will say so at the next sync.
 */
#include "meta/changed.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/checksum.h"
#include "base/log.h"
#include "base/uuid.h"
#include "meta/internal.h"
#include "meta/wire.h"

#define CHANGED_VERSION 1
#define CHECKSUM_AT (META_CHANGED_BYTES - 8)
#define NUMBER_BITS 56

static const uint8_t magic[8] = "BDFSCHG";

/* ---- the block ---------------------------------------------------------------------------------- */

void meta_changed_encode(const struct meta_changed *changed, struct base_uuid pool, uint8_t buf[META_CHANGED_BYTES])
{
	struct wire_out out = wire_out_init(buf, META_CHANGED_BYTES);

	memset(buf, 0, META_CHANGED_BYTES);
	wire_put_bytes(&out, magic, sizeof(magic));
	wire_put_u32(&out, CHANGED_VERSION);
	wire_put_u32(&out, changed->count);
	wire_put_bytes(&out, pool.b, UUID_BYTES);
	wire_put_u64(&out, changed->unlisted_commit);
	for (unsigned i = 0; i < changed->count; i++) {
		assert(changed->entries[i].disk >> NUMBER_BITS == 0);
		wire_put_u64(&out, (uint64_t)changed->entries[i].what << NUMBER_BITS | changed->entries[i].disk);
		wire_put_u64(&out, changed->entries[i].commit);
	}
	out.at = buf + CHECKSUM_AT;
	wire_put_u64(&out, base_checksum(buf, CHECKSUM_AT));
}

int meta_changed_decode(const uint8_t buf[META_CHANGED_BYTES], struct base_uuid pool, struct meta_changed *ret)
{
	struct wire_in in = wire_in_init(buf, META_CHANGED_BYTES);
	uint8_t got[sizeof(magic)], again[META_CHANGED_BYTES];
	struct meta_changed changed = { 0 };
	struct base_uuid of;

	wire_get_bytes(&in, got, sizeof(got));
	if (memcmp(got, magic, sizeof(magic)) != 0)
		return -ENODATA;
	uint32_t version = wire_get_u32(&in);
	changed.count = wire_get_u32(&in);
	wire_get_bytes(&in, of.b, UUID_BYTES);
	changed.unlisted_commit = wire_get_u64(&in);
	if (version != CHANGED_VERSION || changed.count > META_CHANGED_MAX)
		return -EBADMSG;
	for (unsigned i = 0; i < changed.count; i++) {
		uint64_t word = wire_get_u64(&in);
		changed.entries[i] = (struct meta_changed_entry){
			.disk = word & ((UINT64_C(1) << NUMBER_BITS) - 1),
			.what = (uint8_t)(word >> NUMBER_BITS),
			.commit = wire_get_u64(&in),
		};
		if (changed.entries[i].what > META_CHANGED_GONE)
			return -EBADMSG;
	}
	/* One encoding: zeros and checksum are looked at in one go. */
	meta_changed_encode(&changed, of, again);
	if (memcmp(buf, again, sizeof(again)) != 0)
		return -EBADMSG;
	if (!base_uuid_equal(of, pool))
		return -ENODATA;
	*ret = changed;
	return 0;
}

/* ---- the list ----------------------------------------------------------------------------------- */

static unsigned find(const struct meta_changed *changed, uint64_t disk)
{
	unsigned i = 0;

	while (i < changed->count && changed->entries[i].disk != disk)
		i++;
	return i;
}

/* A place for one more: that of an entry that a copy knows, else of the oldest, which is unlisted then. */
static unsigned make_room(struct meta_changed *changed, uint64_t known)
{
	unsigned oldest = 0;

	if (changed->count < META_CHANGED_MAX)
		return changed->count++;
	for (unsigned i = 1; i < changed->count; i++)
		if (changed->entries[i].commit < changed->entries[oldest].commit)
			oldest = i;
	if (changed->entries[oldest].commit > known)
		changed->unlisted_commit = MAX(changed->unlisted_commit, changed->entries[oldest].commit);
	return oldest;
}

bool meta_changed_add(struct meta_changed *changed, const struct meta_changed_entry *entry, uint64_t known)
{
	unsigned i = find(changed, entry->disk);
	struct meta_changed_entry wanted = *entry;

	if (i == changed->count)
		i = make_room(changed, known);
	else if (wanted.what == META_CHANGED_DATA && changed->entries[i].commit > known)
		wanted.what = changed->entries[i].what; /* made since, it is lost whole; and what is gone is gone */
	struct meta_changed_entry before = changed->entries[i];
	changed->entries[i] = wanted;
	return before.disk != wanted.disk || before.what != wanted.what || before.commit != wanted.commit;
}

/* ---- in a pool ---------------------------------------------------------------------------------- */

void changed_open(struct meta_pool *pool)
{
	uint8_t buf[META_CHANGED_BYTES];
	struct meta_pv_handle *pv = &pool->pvs[0].handle;

	if (pool->pv_ops->read(pool->pv_ctx, pv, buf, sizeof(buf), META_CHANGED_AT) < 0 ||
	    meta_changed_decode(buf, pool->record.uuid, &pool->changed.changed) < 0)
		memset(&pool->changed.changed, 0, sizeof(pool->changed.changed));
}

void changed_note(struct meta_pool *pool, uint64_t disk, enum meta_changed_what what, uint64_t commit)
{
	struct meta_changed_entry entry = { .disk = disk, .what = (uint8_t)what, .commit = commit };
	struct changed_list *list = &pool->changed;
	uint64_t copies = atomic_load(&pool->copy.begun) + 1; /* 0: an entry that the open has found */
	unsigned i = find(&list->changed, disk);

	if (i < list->changed.count && list->copies[i] == copies && list->changed.entries[i].what >= what)
		return;
	list->dirty |= meta_changed_add(&list->changed, &entry, atomic_load(&pool->copy.commit_last));
	list->copies[find(&list->changed, disk)] = copies;
}

void changed_write(struct meta_pool *pool)
{
	uint8_t buf[META_CHANGED_BYTES];
	struct changed_list *list = &pool->changed;

	if (!list->dirty || pool->copy.off)
		return;
	meta_changed_encode(&list->changed, pool->record.uuid, buf);
	int rc = pool->pv_ops->write(pool->pv_ctx, &pool->pvs[0].handle, buf, sizeof(buf), META_CHANGED_AT);
	meta_io_note_write(pool, 0);
	list->dirty = rc < 0;
	if (rc < 0)
		log_warning("pool %s: can't write which disks have changed: %s", pool->record.name, strerror(-rc));
}
