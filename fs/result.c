/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one table of error codes between the engine and the users of the mount.
 *
 * Most codes mean to a program that calls write(2) or unlink(2) what they mean
 * inside, and pass as they are. The table has the others: codes that are about
 * our own files and records, which a program would take for something about
 * its file, and codes that a program would answer by trying again for ever.
 *
 * Failure modes: anything that is no errno becomes EIO. FUSE carries -1 to
 * -511; a reply beyond that is refused by the kernel and its client would wait
 * for ever.
 */
#include <errno.h>

#include "base/types.h"
#include "fs/result.h"

#define FUSE_ERRNO_MAX 511

static const struct {
	int inside, outside;
} table[] = {
	{ -EBADMSG, -EIO },   /* a damaged record: reported by the metadata room, refused here */
	{ -ESTALE, -EIO },    /* a pv of another day; to the VFS this would mean "look the name up again" */
	{ -EAGAIN, -EIO },    /* these four would be tried again by the caller */
	{ -EINTR, -EIO },
	{ -ETIMEDOUT, -EIO },
	{ -ECANCELED, -EIO },
	{ -ENODEV, -EIO },    /* a pv that went away */
	{ -ESHUTDOWN, -EIO },
	{ -ENOSYS, -EOPNOTSUPP }, /* the kernel would never ask again, for any file */
};

int fs_result_to_errno(int result)
{
	if (result >= 0)
		return 0;
	if (result < -FUSE_ERRNO_MAX)
		return -EIO;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		if (table[i].inside == result)
			return table[i].outside;
	}
	return result;
}
