/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of a request that is the thin disk's own while it has it. Here, and
 * not behind a pointer, so that a front end's preallocated request holds all
 * the memory that its way through iocore needs.
 *
 * Owner: the request's queue thread, from submit until done.
 */
#ifndef IOCORE_THIN_REQUEST_H
#define IOCORE_THIN_REQUEST_H

#include "base/mailbox.h"
#include "base/types.h"
#include "iocore/engine.h"
#include "iocore/gate.h"
#include "iocore/plan.h"
#include "meta/io.h"

struct ioc_request;
struct bounce;

/* Two leaves, the views below them, the leaf of the end; and one of them anew when a fold has changed it. */
#define THIN_KEPT_MAX 8

/* Segments of one request at most (a 128-entry virtqueue, less header and status). */
#define IOC_SEGMENTS_MAX 126

struct thin_io {
	struct ioc_io io;
	struct ioc_request *req;
	unsigned pv;
	uint64_t bytes;
};

/* A part of one block that is to read as zero: the ragged ends of a discard, the tail of a disk that grows. */
struct thin_edge {
	uint64_t offset;
	uint32_t bytes; /* 0: none */
	/* Found by thin_find_edges(): */
	struct pchunk from; /* where the block is now; 0: it reads as zero, nothing is to do */
	struct pchunk to;   /* where it goes; another chunk: it was in a layer below, and is the head's then */
};

struct thin_request {
	/* Where to go on when what is waited for has come. */
	void (*next)(struct ioc_request *req);
	struct base_msg msg;            /* yield, bounce buffer */
	struct ioc_request *list_next;  /* in the queue's lists */
	union {
		struct meta_wait wait;
		struct meta_flush flush;
		struct meta_resize resize;
	};
	struct gate_entry gate;
	uint64_t epoch; /* 0 = not pinned */

	/* The slice in hand. */
	uint64_t cursor;       /* bytes of the request that are done */
	uint64_t length;       /* of the request, clipped to the disk where the operation wants that */
	uint64_t slice_offset; /* bytes from the start of the disk */
	uint64_t slice_bytes;
	unsigned chunks;
	unsigned slices;       /* done, of a long range */
	void (*range_next)(struct ioc_request *req); /* a range within another operation: what to do at its end */
	uint64_t resize_bytes; /* of that operation */
	meta_entry entries[PLAN_CHUNKS_MAX + 1];
	struct cache_item *kept[THIN_KEPT_MAX]; /* what was read for this slice; see meta_map_load */
	unsigned kept_count;
	struct meta_leaf *leaves[2]; /* pinned for a writer */
	unsigned leaf_count;
	struct meta_leaf *end_leaf;  /* of the disk's end, pinned too; may be NULL */
	struct meta_store *store;    /* the head, since the epoch was pinned */
	uint32_t sources[PLAN_CHUNKS_MAX + 1][CHUNK_BLOCKS]; /* of a read through layers */
	bool layered;                /* sources, not entries, say where to read */
	bool force_exclusive;
	bool grows;
	uint64_t held_since_ns; /* when the request was first held for space; 0 = never */
	bool claimed;           /* a thick disk was promised more than its size: to be fitted again */
	struct plan_needs needs;
	struct pchunk ragged[2];     /* where the blocks of its two ends are now, 0 = they read as zero */
	uint64_t allocated; /* bit i: entries[i] has a chunk that this request allocated and that is in no map yet */
	uint64_t changes;   /* bit i: entry i changes on completion; a log slot is reserved for each */
	unsigned reserved;  /* log slots in hand */
	struct thin_edge edges[2];
	void (*edge_next)(struct ioc_request *req);

	/* Device I/O under way. */
	struct plan plan;
	void (*io_done)(struct ioc_request *req);
	unsigned pending;
	int error;
	struct thin_io ios[PLAN_STEPS_MAX];
	struct iovec iovs[PLAN_STEPS_MAX + IOC_SEGMENTS_MAX];
	unsigned iovs_used;
	struct bounce *bounce;
	uint64_t bounce_offset; /* byte of the disk that the bounce buffer starts with */
	size_t bounce_wanted;
};

#endif
