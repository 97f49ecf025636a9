/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore: a pool's metadata from a stream, for the pvs that it belongs to.
 *
 * The pvs are not written to. Their labels say whether they are those of the stream, and how far they have gone since
 * it was made; whoever has the pool next begins at a commit above all of them.
 *
 * Context: CTL; blocks.
 * Durability: the metadata is put in its place by one rename, when it is whole, checked and on stable storage.
 */
#ifndef META_RESTORE_H
#define META_RESTORE_H

#include "meta/pv.h"
#include "meta/records.h"
#include "meta/stream.h"

struct meta_restore_pv {
	char path[META_PV_PATH_BYTES_MAX]; /* absolute */
	struct meta_pv_handle handle;
	struct meta_label label;
	bool open;
};

/*
 * Opens and locks a pv, and reads its label.
 * Return: 0; -EBUSY, -ENOENT ...; -ENOMEDIUM: it has no bdfs label; -EBADMSG: a damaged one, all with err.
 */
MUST_CHECK int meta_restore_open_pv(const struct meta_pv_ops *ops, void *ops_ctx, const char *path,
				    struct meta_restore_pv *ret, struct base_error *err);

struct meta_restore_args {
	const char *dir; /* is there, and holds no pool */
	meta_stream_read_fn *read;
	void *ctx;
	/* Open, in any order, one for each pv of the pool; the caller closes them. count 0: those at the paths that the
	 * stream has. */
	struct meta_restore_pv *pvs;
	unsigned pv_count;
	/*
	 * The stream is the copy that the pool keeps on its own pvs: nothing that was freed since has been given to
	 * anybody else, so it may be older than the pvs.
	 */
	bool is_own_copy;
	bool force; /* take a stream that is older than its pvs, pvs that are older than the stream, damaged metadata */
	void (*disk)(const struct meta_disk_record *rec, void *ctx); /* NULL, or: each disk that there is */
	void *disk_ctx;
	const struct meta_pv_ops *pv_ops; /* NULL = real files and devices */
	void *pv_ctx;
};

struct meta_restore_report {
	struct meta_stream_header header;
	char name[NAME_BYTES_MAX + 1]; /* of the pool */
	uint64_t records, pvs;
	uint64_t label_commit; /* the highest of the labels: above header.commit = commits were made since */
	bool was_clean;        /* the stream is of a pool that had been closed in order */
	uint64_t problems;     /* that a check found, with force */
};

/*
 * Return: 0; -EEXIST: there is a pool in dir; -EBADMSG: the stream is damaged or cut off; -ESTALE: the pvs are not
 * those of the stream, or of another day, and not forced; -EUCLEAN: the metadata in the stream is damaged, and not
 * forced; -EBUSY, -ENOENT: of the pvs; -ENOSPC ..., all with err. dir is then as it was.
 */
MUST_CHECK int meta_restore(const struct meta_restore_args *args, struct meta_restore_report *ret,
			    struct base_error *err);

#endif
