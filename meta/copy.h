/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copy of its metadata that a pool keeps on its first pv, so that `bdfs import` can bring the pool back when its
 * directory is lost (docs/format.md, section 9; docs/adr/0008).
 *
 * The rule that makes it worth something: a chunk that was freed is discarded and handed out again only after a copy
 * that was taken after the free is durable, as long as there is a copy at all. So what a copy says of a chunk stays
 * true: it holds bytes of the disk that has it in the copy, and of no other. And a layer is folded with its child only
 * after a copy is durable that knows it as nobody's but that child's: what the child then writes into its chunks, or
 * copies there, is seen through that child alone, in the copy too.
 *
 * Context: BG, but for what says otherwise; at open and at close the thread that does it. Private to meta/, but for
 * import and the format.
 */
#ifndef META_COPY_H
#define META_COPY_H

#include <stdatomic.h>

#include "base/error.h"
#include "base/types.h"

struct meta_pool;
struct meta_pv_handle;
struct meta_pv_ops;
struct free_batch;

/* ---- where it lies -------------------------------------------------------------------------------- */

#define META_COPY_SLOTS 2
#define META_COPY_HEADER_BYTES 4096
/* Of one copy at most: metadata that is larger is not copied. */
#define META_COPY_BYTES_MAX (16 * MIB)

/* Where slot 0 or 1 has its header, and its stream; how large a stream may be. first_data_byte: the pv's. */
uint64_t meta_copy_header_at(unsigned slot);
uint64_t meta_copy_stream_at(unsigned slot, uint64_t first_data_byte);
uint64_t meta_copy_room_bytes(uint64_t first_data_byte);
/* The first data byte that a new pool's first pv gets, so that copies have room: pool_bytes is the size of all pvs. */
uint64_t meta_copy_first_data_byte(uint64_t pv_bytes, uint64_t pool_bytes);

enum meta_copy_state {
	META_COPY_NONE = 0, /* there is no copy (any more): it was given up, as the text of the log says */
	META_COPY_THERE = 1,
};

struct meta_copy_header {
	struct base_uuid pool;
	uint64_t sequence; /* counts up with each header written; the higher one counts */
	uint8_t state;     /* enum meta_copy_state */
	uint8_t closed;    /* the pool was closed in order, and this is all of it */
	uint64_t stream_bytes;
	uint64_t commit; /* of its pool record */
	uint64_t made_s; /* seconds since the epoch */
	uint64_t chain;  /* the stream's last checksum */
};
void meta_copy_header_encode(const struct meta_copy_header *header, uint8_t buf[META_COPY_HEADER_BYTES]);
enum { META_COPY_NO_HEADER = 1 };
/* Return: 0; META_COPY_NO_HEADER: no magic; -EBADMSG: damaged, or of an unknown version. */
MUST_CHECK int meta_copy_header_decode(const uint8_t buf[META_COPY_HEADER_BYTES], struct meta_copy_header *ret);

/* A new pv: no copy of anybody's. Not synced. */
MUST_CHECK int meta_copy_format(const struct meta_pv_ops *ops, void *ctx, struct meta_pv_handle *pv,
				struct base_uuid pool);

/* What the headers of a pv say. damaged: one of them can't be trusted, so it can't be told which copy is the last. */
struct meta_copy_found {
	struct meta_copy_header header[META_COPY_SLOTS];
	bool valid[META_COPY_SLOTS], damaged;
	int newest; /* slot; -1: none */
};
MUST_CHECK int meta_copy_find(const struct meta_pv_ops *ops, void *ctx, struct meta_pv_handle *pv,
			      struct base_uuid pool, struct meta_copy_found *ret);

/* ---- keeping it ------------------------------------------------------------------------------------ */

struct meta_copy {
	/* Const after open. */
	struct base_uuid pool;
	uint64_t first_data_byte;
	bool off; /* the open asked for none */

	/* BG. */
	bool exists;           /* the pv may have a copy that counts: the rule holds */
	unsigned slot;         /* the next one to write */
	uint64_t sequence;     /* of the last header that was written */
	uint64_t commit;       /* of the last copy; UINT64_MAX: none */
	uint64_t started;      /* counts copies begun, ... */
	uint64_t durable;      /* ... the last one of them that is durable */
	uint64_t next_at_ns;   /* not before, unless somebody waits for space */
	uint64_t ended_ns;     /* of the last attempt */
	bool said_why;         /* that there is none */

	/* Any thread. */
	_Atomic bool wanted; /* somebody waits for space, or asks */
	_Atomic uint64_t copies, bytes_last, bytes_total, ns_last, ns_max, commit_last, made_s;
	_Atomic uint64_t begun; /* copies, counted before one looks at the metadata */
	_Atomic bool is_there;
	_Atomic int failure; /* of the last attempt, negative errno; -EFBIG: the metadata is larger than the room */
};

/* At open for writing, after the first commit, before anything is handed out. metadata_commit: as it was found. */
MUST_CHECK int copy_open(struct meta_pool *pool, uint64_t metadata_commit, bool was_clean, struct base_error *err);
/* Takes a copy if one is due. Returns when to come again, 0: not before something changes. */
uint64_t copy_step(struct meta_pool *pool, uint64_t now_ns);
/* Takes a copy now. Return: 0; negative errno, which has been logged. */
int copy_take(struct meta_pool *pool, bool closed);
/* True when the batch may be discarded and handed out, as far as copies go. */
bool copy_covers(struct meta_pool *pool, struct free_batch *batch);
/* True when the copy that counts, if one does, knows of this commit and all before it. */
bool copy_knows(struct meta_pool *pool, uint64_t commit);
/* Number of the last commit; who has seen a change of the catalogue finds it in this one. Context: any thread. */
uint64_t copy_commit_now(struct meta_pool *pool);
/* Gives the copy up, so that nothing needs to wait for one. Return: 0; negative errno: it may still be there. */
int copy_give_up(struct meta_pool *pool);

#endif
