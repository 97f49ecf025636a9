/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pools there are on this host, by name.
 *
 * The registry is a directory of symbolic links, readable with ls and mended
 * with ln:
 *
 *   STATE/pools/NAME -> the pool's directory
 *   STATE/default    -> pools/NAME
 *   STATE/NAME/      where mksp puts a pool's metadata when its pvs are elsewhere
 *
 * STATE is $BDFS_STATE_DIR, else /var/lib/bdfs for root, else bdfs below
 * $XDG_STATE_HOME or ~/.local/state.
 *
 * Context: any thread; looks at the file system each time, keeps nothing.
 */
#ifndef CMD_REGISTRY_H
#define CMD_REGISTRY_H

#include <limits.h>

#include "base/error.h"
#include "base/types.h"

struct cmd_pool_ref {
	char name[NAME_BYTES_MAX + 1]; /* as registered; else the last component of the directory */
	char directory[PATH_MAX];      /* absolute */
	bool registered;
};

/* Return: 0; -ENOENT with err ($HOME is not set). The directory need not exist. */
MUST_CHECK int cmd_registry_state_dir(char buf[PATH_MAX], struct base_error *err);

/* STATE/NAME. Return: 0; -EINVAL (not a name for a pool), -ENAMETOOLONG. */
MUST_CHECK int cmd_registry_home_of(const char *name, char buf[PATH_MAX], struct base_error *err);

/*
 * Finds a pool. sp: a name, a path (it holds a '/'), or NULL for the default pool: the one that chsp
 * -default set, else the only one.
 * Return: 0; -ENOENT (no such pool, none at all); -EINVAL (several, and none is the default: err lists them).
 */
MUST_CHECK int cmd_registry_find(const char *sp, struct cmd_pool_ref *ret, struct base_error *err);

/* All pools in order of name; *ret is freed by the caller. */
MUST_CHECK int cmd_registry_list(struct cmd_pool_ref **ret, size_t *ret_count, struct base_error *err);

/* Return: 0; -EEXIST (err names the directory that has the name). */
MUST_CHECK int cmd_registry_add(const char *name, const char *directory, struct base_error *err);
/* Also ends its being the default. */
MUST_CHECK int cmd_registry_remove(const char *name, struct base_error *err);

/* Return: 0; -ENOENT. */
MUST_CHECK int cmd_registry_set_default(const char *name, struct base_error *err);

/* mkdir -p. Return: 0; negative errno with err. */
MUST_CHECK int cmd_make_directories(const char *path, mode_t mode, struct base_error *err);

#endif
