/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pvs that lie on the pool's own disks.
 *
 * A write to such a pool needs a write to its pv, which is a write to the mount,
 * which needs a write to the pool. Nothing ends it but a kill. So it is refused
 * where a pv is added (chsp) and where the pool is mounted, which also finds a pv
 * that was moved or a loop device that was made anew since.
 *
 * A file is told by its path. A device is asked where its data come from: sysfs has
 * the file behind a loop device, the devices below a stacked one, and a partition's
 * whole. The chain may have several links: LVM on a partition of a loop device.
 *
 * Failure modes: what sysfs doesn't tell (network block devices, a file system on a
 * disk of the pool with the pv on that) is not seen; docs/limits.md says so.
 */
#include "cmd/own_mount.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define STACK_MAX 8

bool cmd_path_lies_in(const char *path, const char *directory)
{
	size_t length = strlen(directory);

	return strncmp(path, directory, length) == 0 &&
	       (path[length] == '\0' || path[length] == '/' || strcmp(directory, "/") == 0);
}

static bool file_behind(const char *sysfs, const char *name, char ret[PATH_MAX])
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", sysfs, name);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	bool found = fgets(ret, PATH_MAX, file) != NULL;
	fclose(file);
	if (found)
		ret[strcspn(ret, "\n")] = '\0';
	return found;
}

static bool device_lies_in(const char *sysfs, const char *mountpoint, unsigned depth);

static bool slaves_lie_in(const char *sysfs, const char *mountpoint, unsigned depth)
{
	char path[PATH_MAX];
	struct dirent *entry;
	bool found = false;

	snprintf(path, sizeof(path), "%s/slaves", sysfs);
	DIR *dir = depth < STACK_MAX ? opendir(path) : NULL;
	while (dir && !found && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' ||
		    snprintf(path, sizeof(path), "%s/slaves/%s", sysfs, entry->d_name) >= (int)sizeof(path))
			continue;
		found = device_lies_in(path, mountpoint, depth + 1);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* sysfs: the device's directory. A partition's lies in that of its whole. */
static bool device_lies_in(const char *sysfs, const char *mountpoint, unsigned depth)
{
	char file[PATH_MAX];

	if ((file_behind(sysfs, "loop/backing_file", file) || file_behind(sysfs, "../loop/backing_file", file)) &&
	    cmd_path_lies_in(file, mountpoint))
		return true;
	return slaves_lie_in(sysfs, mountpoint, depth);
}

int cmd_own_mount_refuse(const char *mountpoint, const char *path, struct base_error *err)
{
	char real[PATH_MAX], sysfs[64];
	struct stat st;
	bool lies_in = cmd_path_lies_in(path, mountpoint);

	/* Only now, so that a path in the mount is not looked at through the mount. */
	if (!lies_in && stat(path, &st) == 0) {
		lies_in = realpath(path, real) && cmd_path_lies_in(real, mountpoint);
		if (!lies_in && S_ISBLK(st.st_mode)) {
			snprintf(sysfs, sizeof(sysfs), "/sys/dev/block/%u:%u", major(st.st_rdev), minor(st.st_rdev));
			lies_in = device_lies_in(sysfs, mountpoint, 0);
		}
	}
	if (!lies_in)
		return 0;
	return base_error_set(err, -EINVAL,
			      "pv %s lies in the pool's own mount %s, so the pool would wait for itself: put it on "
			      "storage of its own",
			      path, mountpoint);
}

struct refuse_any {
	const char *mountpoint;
	struct base_error *err;
	int rc;
};

static void refuse_one(const struct meta_pv_info *pv, void *ctx)
{
	struct refuse_any *any = ctx;

	if (any->rc == 0)
		any->rc = cmd_own_mount_refuse(any->mountpoint, pv->path, any->err);
}

int cmd_own_mount_refuse_any(const char *mountpoint, struct meta_pool *pool, struct base_error *err)
{
	struct refuse_any any = { mountpoint, err, 0 };

	meta_pool_each_pv(pool, refuse_one, &any);
	return any.rc;
}
