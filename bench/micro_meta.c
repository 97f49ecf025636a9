/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Micro-benchmarks of meta/'s pure parts: the leaf codec, and the epoch that
 * every request enters and leaves.
 *
 * The model: two leaves. An ordered one is what a disk written from its
 * beginning has: all chunks in a row, all blocks valid, a single run. A
 * scattered one is what random allocation leaves: chunk numbers and masks
 * without order, so that it is kept raw. Real leaves lie between the two.
 *
 * Failure modes: a leaf that does not come back from its encoding, or an
 * encoding of another length than the first, is a wrong result.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/micro.h"
#include "meta/epoch.h"
#include "meta/leaf.h"

struct codec {
	meta_entry entries[LEAF_CHUNKS];
	meta_entry decoded[LEAF_CHUNKS];
	uint8_t bytes[META_LEAF_ENCODED_BYTES_MAX];
	size_t length;
};

static int finish_codec(struct codec *codec, void **ret_ctx)
{
	codec->length = meta_leaf_encode(codec->entries, codec->bytes);
	*ret_ctx = codec;
	return 0;
}

static int setup_ordered(void **ret_ctx)
{
	struct codec *codec = calloc(1, sizeof(*codec));

	if (!codec)
		return -ENOMEM;
	for (uint32_t i = 0; i < LEAF_CHUNKS; i++)
		codec->entries[i] = meta_entry_make((struct pchunk){ 1000 + i }, 0xffff, 0);
	return finish_codec(codec, ret_ctx);
}

static int setup_scattered(void **ret_ctx)
{
	struct codec *codec = calloc(1, sizeof(*codec));

	if (!codec)
		return -ENOMEM;
	/* An odd factor: the numbers differ, and no two neighbours are in a row. */
	for (uint32_t i = 0; i < LEAF_CHUNKS; i++)
		codec->entries[i] = meta_entry_make((struct pchunk){ 1 + i * 2654435761u % 1000003u },
						    (uint16_t)(1u << (i % CHUNK_BLOCKS)), 0);
	return finish_codec(codec, ret_ctx);
}

static bool run_encode(void *ctx, uint64_t calls)
{
	struct codec *codec = ctx;
	bool right = true;

	for (uint64_t i = 0; i < calls; i++) {
		micro_touch(codec);
		right &= meta_leaf_encode(codec->entries, codec->bytes) == codec->length;
	}
	return right;
}

static bool run_decode(void *ctx, uint64_t calls)
{
	struct codec *codec = ctx;
	bool right = true;

	memset(codec->decoded, 0, sizeof(codec->decoded));
	for (uint64_t i = 0; i < calls; i++) {
		micro_touch(codec);
		right &= meta_leaf_decode(codec->bytes, codec->length, codec->decoded) == 0;
	}
	return right && memcmp(codec->decoded, codec->entries, sizeof(codec->entries)) == 0;
}

static int setup_epochs(void **ret_ctx)
{
	struct meta_epochs *epochs = aligned_alloc(_Alignof(struct meta_epochs), sizeof(*epochs));

	if (!epochs)
		return -ENOMEM;
	meta_epochs_init(epochs);
	meta_epoch_join(epochs); /* as participant 0 */
	*ret_ctx = epochs;
	return 0;
}

static bool run_epoch(void *ctx, uint64_t calls)
{
	struct meta_epochs *epochs = ctx;

	for (uint64_t i = 0; i < calls; i++)
		meta_epoch_leave(epochs, 0, meta_epoch_enter(epochs, 0));
	return meta_epoch_drained(epochs, meta_epoch_now(epochs));
}

const struct micro_case micro_meta_cases[] = {
	{ "leaf-encode-ordered", "128 entries to one run", setup_ordered, run_encode, free, false },
	{ "leaf-encode-scattered", "128 entries, kept raw", setup_scattered, run_encode, free, false },
	{ "leaf-decode-ordered", "one run to 128 entries", setup_ordered, run_decode, free, false },
	{ "leaf-decode-scattered", "128 raw entries", setup_scattered, run_decode, free, false },
	{ "epoch", "enter and leave, one participant", setup_epochs, run_epoch, free, false },
};
const size_t micro_meta_case_count = ARRAY_LEN(micro_meta_cases);
