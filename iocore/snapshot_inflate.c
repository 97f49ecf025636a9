/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inflating a disk: it gets all of its own, and lets go of what it stood on.
 *
 *   begin    what it stands on now
 *   own      leaf by leaf, everything that layers below show is copied
 *   cut      nothing shows through any more
 *   own      marks of zero blocks are cleared
 *   detach   the parent goes
 *
 * The disk is in use all the time; each leaf is one request among the others, so
 * there is one rule for copying a block up, that of a first write. If a snapshot
 * of the disk is taken meanwhile, or a range is attached to it, it begins anew:
 * what was copied into the old head is copied once more.
 *
 * Failure modes: a full pool, an I/O error, being cancelled: what was copied
 * stays the disk's own, and the next call goes on from there.
 */
#include <errno.h>

#include "iocore/internal.h"

struct inflating {
	struct ioc_pool *pool;
	struct ioc_bd *bd;
	struct meta_disk *disk;
	bool (*progress)(uint64_t done_bytes, uint64_t total_bytes, void *ctx);
	void *ctx;
	struct base_error *err;
};

static int explain(const struct inflating *in, int rc)
{
	if (rc == -ECANCELED)
		return base_error_set(in->err, rc, "cancelled; what was copied stays, and the next time goes on");
	if (rc == -ENOSPC)
		return base_error_set(in->err, rc,
				      "the pool is full: what was copied stays; free space or add some (chsp -add), "
				      "then begin again");
	return base_error_set_errno(in->err, rc, "copying what the disk stands on");
}

static int own_all(const struct inflating *in, bool tell)
{
	uint64_t leaf = 0, total = meta_disk_size(in->disk);
	int rc = 0;

	while (rc == 0 && (leaf = meta_inflate_next(in->disk, leaf)) != UINT64_MAX) {
		struct ioc_request req = {
			.op = IOC_OP_OWN, .bd = in->bd, .offset = leaf * LEAF_BYTES, .length = LEAF_BYTES
		};
		rc = ioc_bd_call(in->pool, &req);
		leaf++;
		total = MAX(total, meta_disk_size(in->disk));
		if (rc == 0 && tell && in->progress && !in->progress(MIN(leaf * LEAF_BYTES, total), total, in->ctx))
			rc = -ECANCELED;
	}
	return rc < 0 ? explain(in, rc) : 0;
}

/* Return: 0; META_INFLATED, META_INFLATE_AGAIN; negative errno. */
static int try_once(const struct inflating *in)
{
	struct meta_inflate seen;
	int rc = meta_inflate_begin(in->disk, &seen);

	if (rc != 0)
		return rc;
	rc = own_all(in, true);
	if (rc == 0)
		rc = meta_inflate_cut(in->disk, &seen, in->err);
	if (rc == 0)
		rc = own_all(in, false);
	return rc == 0 ? meta_inflate_detach(in->disk, &seen, in->err) : rc;
}

int ioc_disk_inflate(struct ioc_pool *pool, struct ioc_bd *bd,
		     bool (*progress)(uint64_t done_bytes, uint64_t total_bytes, void *ctx), void *ctx,
		     struct base_error *err)
{
	struct inflating in = { pool, bd, ioc_disk_meta(bd), progress, ctx, err };
	int rc = meta_io_writable(pool->meta);

	if (rc < 0)
		return base_error_set(err, rc, "the pool can't be changed: it is open read-only or has failed");
	do
		rc = try_once(&in);
	while (rc == META_INFLATE_AGAIN);
	return rc < 0 ? rc : 0;
}
