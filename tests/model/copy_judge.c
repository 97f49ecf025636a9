/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See copy_judge.h. The copy is read with the codecs alone, none of the code that
 * keeps it. Disks are known by their names, disk7 for the oracle's disk 7; of a
 * dead layer, whose disk is gone, nothing is asked.
 */
#include "tests/model/copy_judge.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meta/copy.h"
#include "meta/leaf.h"
#include "meta/records.h"
#include "meta/stream.h"

#define MANY 4096
#define SECTOR 512

struct copy {
	struct sim_device *device;
	const char *at;
	uint64_t left, sectors;
	struct meta_pv_record pv;
	struct {
		uint64_t number;
		uint32_t id;
	} disks[MANY];
	struct {
		uint64_t store, owner;
	} layers[MANY];
	unsigned disk_count, layer_count;
	char wrong[200];
};

static int read_copy(void *ctx, void *bytes, size_t count)
{
	struct copy *copy = ctx;

	if (count > copy->left)
		return -ENODATA;
	memcpy(bytes, copy->at, count);
	copy->at += count;
	copy->left -= count;
	return 0;
}

/* The oracle's number of the disk whose store it is; 0: nobody's. */
static uint32_t owner_of(const struct copy *copy, uint64_t store)
{
	uint64_t owner = 0;

	for (unsigned i = 0; i < copy->layer_count; i++)
		if (copy->layers[i].store == store)
			owner = copy->layers[i].owner;
	for (unsigned i = 0; i < copy->disk_count; i++)
		if (copy->disks[i].number == owner)
			return copy->disks[i].id;
	return 0;
}

static void judge_sector(struct copy *copy, uint32_t disk, uint64_t sector, const char *buf)
{
	uint64_t words[2];

	copy->sectors++;
	memcpy(words, buf, sizeof(words));
	if (copy->wrong[0] || (words[0] == 0 && words[1] == 0))
		return;
	if (words[0] >> 32 != disk || words[1] != (sector ^ UINT64_C(0x5ec70a0000000000)))
		snprintf(copy->wrong, sizeof(copy->wrong),
			 "an import would show sector %" PRIu64 " of disk %u as %016" PRIx64 " %016" PRIx64, sector,
			 disk, words[0], words[1]);
}

static void judge_leaf(struct copy *copy, uint64_t store, uint64_t leaf, const meta_entry *entries)
{
	const struct meta_pv_range *range = &copy->pv.ranges[0];
	uint32_t disk = owner_of(copy, store);

	for (unsigned i = 0; disk != 0 && i < LEAF_CHUNKS; i++) {
		uint64_t at = range->first_byte + (meta_entry_chunk(entries[i]).n - range->first_chunk) * CHUNK_BYTES;
		for (unsigned s = 0; s < CHUNK_BYTES / SECTOR; s++)
			if (meta_entry_valid(entries[i]) >> (s / 8) & 1)
				judge_sector(copy, disk, (leaf * LEAF_CHUNKS + i) * (CHUNK_BYTES / SECTOR) + s,
					     copy->device->now + at + s * SECTOR);
	}
}

static int take(struct copy *copy, enum db_kind kind, const struct db_key *key, const struct db_value *value)
{
	struct meta_layer_record layer;
	struct meta_disk_record disk;
	meta_entry entries[LEAF_CHUNKS];
	uint64_t a = 0, b = 0;
	int rc = 0;

	(void)(db_key_to_u64(key, &a) || db_key_to_u64_u64(key, &a, &b));
	if (kind == DB_PV) {
		rc = meta_pv_decode(value->b, value->bytes, &copy->pv);
	} else if (kind == DB_DISK && copy->disk_count < MANY) {
		rc = meta_disk_decode(value->b, value->bytes, &disk);
		if (rc == 0 && sscanf(disk.name, "disk%u", &copy->disks[copy->disk_count].id) == 1)
			copy->disks[copy->disk_count++].number = a;
	} else if (kind == DB_LAYER && copy->layer_count < MANY) {
		rc = meta_layer_decode(value->b, value->bytes, &layer);
		copy->layers[copy->layer_count].store = layer.store_id;
		copy->layers[copy->layer_count++].owner = layer.owner_disk;
	} else if (kind == DB_MAP) {
		rc = meta_leaf_decode(value->b, value->bytes, entries);
		if (rc == 0)
			judge_leaf(copy, a, b, entries);
	}
	return rc;
}

static int read_all(struct copy *copy)
{
	struct meta_stream_in in = { .read = read_copy, .ctx = copy };
	struct meta_stream_header header;
	struct db_value value;
	enum db_kind kind;
	struct db_key key;
	int rc = meta_stream_open(&in, &header);

	while (rc == 0) {
		rc = meta_stream_next(&in, &kind, &key, &value);
		if (rc == 0)
			rc = take(copy, kind, &key, &value);
	}
	return rc == META_STREAM_END ? 0 : rc;
}

const char *copy_judge(struct sim_device *device, struct base_uuid pool, uint64_t *ret_sectors)
{
	static struct copy copy;
	struct meta_pv_handle pv = { .priv = device };
	struct meta_copy_found found;

	copy = (struct copy){ .device = device };
	*ret_sectors = 0;
	if (meta_copy_find(&sim_pv_ops, device, &pv, pool, &found) < 0 || found.damaged)
		return "a header of the copies is damaged";
	if (found.newest < 0 || found.header[found.newest].state != META_COPY_THERE)
		return NULL;
	/* The pool's one pv is small. */
	copy.at = device->now + meta_copy_stream_at((unsigned)found.newest, META_PV_FIRST_DATA_BYTE);
	copy.left = found.header[found.newest].stream_bytes;
	if (read_all(&copy) < 0)
		return "the copy that counts is not whole";
	*ret_sectors = copy.sectors;
	return copy.wrong[0] ? copy.wrong : NULL;
}
