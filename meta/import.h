/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import: a pool from its pvs alone, by the copy of the metadata that it keeps on the first of them (meta/copy.h).
 *
 * Context: CTL; blocks.
 */
#ifndef META_IMPORT_H
#define META_IMPORT_H

#include "meta/changed.h"
#include "meta/restore.h"

struct meta_import_report {
	struct meta_restore_report restore;
	uint64_t copy_commit, copy_made_s;
	bool closed; /* the copy was taken when the pool was closed in order, and the pool was not opened since */
	/*
	 * What is not as it was: disks that changed, were made or removed after the copy, and how each is called in
	 * the copy ("": it is not there). changed_known false: the pv does not say, so it may be any. The caller frees
	 * names.
	 */
	bool changed_known;
	struct meta_changed changed;
	char (*names)[NAME_BYTES_MAX + 1];
};

/*
 * The name of the pool that the pvs belong to, by the copy. One of pvs (open, see meta_restore_open_pv) must be the
 * first pv of its pool.
 * Return: 0; -ENOENT: the first pv is not among them; -ENODATA: it has no copy; -EBADMSG: the copy is damaged, so it
 * can't be told what is whose, all with err.
 */
MUST_CHECK int meta_import_name(struct meta_restore_pv *pvs, unsigned pv_count, const struct meta_pv_ops *ops,
				void *ops_ctx, char ret[NAME_BYTES_MAX + 1], struct base_error *err);

/*
 * As meta_restore with the copy as the stream: args->read, ctx, is_own_copy and force are ignored; pvs are all of the
 * pool's.
 * Return: as meta_import_name and meta_restore.
 */
MUST_CHECK int meta_import(const struct meta_restore_args *args, struct meta_import_report *ret,
			   struct base_error *err);

#endif
