/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See copy_judge.h. The copy is read with the codecs alone, none of the code that
 * keeps it, nor of the code that looks through layers: a layer's entry says of a
 * block that it is here, or that it is zero; else it is in the parent, below the
 * overlap; at the bottom it is zero.
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
#define BLOCK_SECTORS (BLOCK_BYTES / SECTOR)

struct layer {
	uint64_t id;
	struct meta_layer_record rec;
};

struct leaf {
	uint64_t store, number;
	meta_entry entries[LEAF_CHUNKS];
};

struct thing { /* a disk or a snapshot */
	char name[NAME_BYTES_MAX + 1];
	uint64_t layer, size_bytes;
	bool is_snapshot;
};

struct copy {
	struct sim_device *device;
	const struct copy_truth *truth;
	const char *at;
	uint64_t left, sectors;
	struct meta_pv_record pv;
	struct layer layers[MANY];
	struct leaf *leaves[MANY];
	struct thing things[MANY];
	unsigned layer_count, leaf_count, thing_count;
	char wrong[200];
};

/* ---- reading ---------------------------------------------------------------------------------- */

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

static int take_disk(struct thing *thing, const struct db_value *value)
{
	struct meta_disk_record disk;
	int rc = meta_disk_decode(value->b, value->bytes, &disk);

	if (rc < 0)
		return rc;
	memcpy(thing->name, disk.name, sizeof(thing->name));
	thing->layer = disk.head_layer;
	/* What lies above is on its way out, and nobody can look there. */
	thing->size_bytes = MIN(disk.size_bytes, disk.trim_above_bytes);
	return 0;
}

static int take_snapshot(struct thing *thing, const struct db_value *value)
{
	struct meta_snapshot_record snapshot;
	int rc = meta_snapshot_decode(value->b, value->bytes, &snapshot);

	if (rc < 0)
		return rc;
	memcpy(thing->name, snapshot.name, sizeof(thing->name));
	thing->layer = snapshot.layer;
	thing->size_bytes = snapshot.size_bytes;
	thing->is_snapshot = true;
	return 0;
}

static int take_leaf(struct copy *copy, uint64_t store, uint64_t number, const struct db_value *value)
{
	struct leaf *leaf = malloc(sizeof(*leaf));

	if (!leaf)
		abort();
	leaf->store = store;
	leaf->number = number;
	copy->leaves[copy->leaf_count++] = leaf;
	return meta_leaf_decode(value->b, value->bytes, leaf->entries);
}

static int take(struct copy *copy, enum db_kind kind, const struct db_key *key, const struct db_value *value)
{
	uint64_t a = 0, b = 0;

	if (MAX(copy->thing_count, MAX(copy->layer_count, copy->leaf_count)) == MANY)
		return -E2BIG;
	(void)(db_key_to_u64(key, &a) || db_key_to_u64_u64(key, &a, &b));
	if (kind == DB_PV)
		return meta_pv_decode(value->b, value->bytes, &copy->pv);
	if (kind == DB_DISK)
		return take_disk(&copy->things[copy->thing_count++], value);
	if (kind == DB_SNAPSHOT)
		return take_snapshot(&copy->things[copy->thing_count++], value);
	if (kind == DB_MAP)
		return take_leaf(copy, a, b, value);
	if (kind != DB_LAYER)
		return 0;
	copy->layers[copy->layer_count].id = a;
	return meta_layer_decode(value->b, value->bytes, &copy->layers[copy->layer_count++].rec);
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

/* ---- looking through, judging ------------------------------------------------------------------- */

/* Records come in the order of their keys. */
static int by_id(const void *key, const void *element)
{
	const uint64_t *id = key;
	const struct layer *layer = element;

	return *id < layer->id ? -1 : *id > layer->id;
}

static const struct meta_layer_record *layer_by_id(const struct copy *copy, uint64_t id)
{
	const struct layer *found = bsearch(&id, copy->layers, copy->layer_count, sizeof(*copy->layers), by_id);

	return found ? &found->rec : NULL;
}

static int by_store_and_number(const void *key, const void *element)
{
	const struct leaf *leaf = *(struct leaf *const *)element;
	const uint64_t *want = key;

	if (want[0] != leaf->store)
		return want[0] < leaf->store ? -1 : 1;
	return want[1] < leaf->number ? -1 : want[1] > leaf->number;
}

static meta_entry entry_of(const struct copy *copy, uint64_t store, uint64_t chunk)
{
	const uint64_t want[] = { store, chunk / LEAF_CHUNKS };
	struct leaf *const *found =
		bsearch(want, copy->leaves, copy->leaf_count, sizeof(*copy->leaves), by_store_and_number);

	return found ? (*found)->entries[chunk % LEAF_CHUNKS] : 0;
}

/* Where the block lies on the device; 0: it reads as zero. */
static uint64_t find_block(const struct copy *copy, uint64_t top, uint64_t block)
{
	const struct meta_layer_record *layer = layer_by_id(copy, top);
	const struct meta_pv_range *range = &copy->pv.ranges[0];
	unsigned bit = (unsigned)(block % CHUNK_BLOCKS);

	while (layer) {
		meta_entry entry = entry_of(copy, layer->store_id, block / CHUNK_BLOCKS);
		if (meta_entry_valid(entry) >> bit & 1)
			return range->first_byte +
			       (meta_entry_chunk(entry).n - range->first_chunk) * CHUNK_BYTES + bit * BLOCK_BYTES;
		if ((meta_entry_zero(entry) >> bit & 1) || block * BLOCK_BYTES >= layer->overlap_bytes)
			return 0;
		layer = layer_by_id(copy, layer->parent);
	}
	return 0;
}

static void judge_sector(struct copy *copy, const struct thing *thing, uint64_t number, const char *bytes)
{
	const struct copy_truth *truth = copy->truth;
	const char *why = thing->is_snapshot ? truth->of_snapshot(truth->ctx, thing->name, number, bytes)
					     : truth->of_disk(truth->ctx, thing->name, number, bytes);
	uint64_t words[2];

	copy->sectors++;
	if (!why || copy->wrong[0])
		return;
	memcpy(words, bytes, sizeof(words));
	snprintf(copy->wrong, sizeof(copy->wrong),
		 "an import would show sector %" PRIu64 " of %s as %016" PRIx64 " %016" PRIx64 ": %s", number,
		 thing->name, words[0], words[1], why);
}

static void judge_thing(struct copy *copy, const struct thing *thing)
{
	static const char zeros[BLOCK_BYTES];
	uint64_t sectors = thing->size_bytes / SECTOR;

	for (uint64_t block = 0; block * BLOCK_SECTORS < sectors; block++) {
		uint64_t at = find_block(copy, thing->layer, block);
		const char *bytes = at ? copy->device->now + at : zeros;
		for (uint64_t s = 0; s < BLOCK_SECTORS && block * BLOCK_SECTORS + s < sectors; s++)
			judge_sector(copy, thing, block * BLOCK_SECTORS + s, bytes + s * SECTOR);
	}
}

const char *copy_judge(struct sim_device *device, struct base_uuid pool, const struct copy_truth *truth,
		       uint64_t *ret_sectors)
{
	static struct copy copy;
	struct meta_pv_handle pv = { .priv = device };
	struct meta_copy_found found;

	copy = (struct copy){ .device = device, .truth = truth };
	*ret_sectors = 0;
	if (meta_copy_find(&sim_pv_ops, device, &pv, pool, &found) < 0 || found.damaged)
		return "a header of the copies is damaged";
	if (found.newest < 0 || found.header[found.newest].state != META_COPY_THERE)
		return NULL;
	copy.at = device->now + meta_copy_stream_at((unsigned)found.newest,
						    meta_copy_first_data_byte(device->bytes, device->bytes));
	copy.left = found.header[found.newest].stream_bytes;
	bool whole = read_all(&copy) == 0;
	for (unsigned i = 0; whole && i < copy.thing_count; i++)
		judge_thing(&copy, &copy.things[i]);
	for (unsigned i = 0; i < copy.leaf_count; i++)
		free(copy.leaves[i]);
	*ret_sectors = copy.sectors;
	if (!whole)
		return "the copy that counts is not whole";
	return copy.wrong[0] ? copy.wrong : NULL;
}
