/* SPDX-License-Identifier: Apache-2.0 */
/* The place of a mount: what is refused, and with which words; the probe from outside. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/internal.h"

static int prepare_error(const char *path, struct base_error *err)
{
	char *absolute = NULL;
	int rc = fs_mount_point_prepare(path, &absolute, err);

	free(absolute);
	return rc;
}

Test(fs_mount_point, a_directory_becomes_an_absolute_path)
{
	char dir[] = "/tmp/bdfs-test-XXXXXX", *absolute = NULL;
	struct base_error err;

	cr_assert_not_null(mkdtemp(dir));
	cr_assert_eq(chdir(dir), 0);
	cr_assert_eq(fs_mount_point_prepare(".", &absolute, &err), 0);
	cr_expect_str_eq(absolute, dir);
	free(absolute);
	rmdir(dir);
}

Test(fs_mount_point, what_is_no_directory_is_refused_by_name)
{
	char file[] = "/tmp/bdfs-test-XXXXXX";
	struct base_error err;
	int fd = mkstemp(file);

	cr_assert_geq(fd, 0);
	cr_expect_eq(prepare_error(file, &err), -ENOTDIR);
	cr_expect_not_null(strstr(err.text, file));
	close(fd);
	unlink(file);
	cr_expect_eq(prepare_error(file, &err), -ENOENT);
	cr_expect_not_null(strstr(err.text, file));
}

Test(fs_mount_point, what_is_mounted_is_left_alone_and_named)
{
	struct base_error err;

	cr_expect_eq(prepare_error("/proc", &err), -EBUSY);
	cr_expect_not_null(strstr(err.text, "proc"));
	fs_mount_point_clear("/proc");
	cr_expect_eq(access("/proc/self", F_OK), 0);
}

Test(fs_mount_point, probe_says_what_statfs_says)
{
	cr_expect_eq(fs_mount_point_probe("/", 10000), 0);
	cr_expect_eq(fs_mount_point_probe("/no/such/place", 10000), -ENOENT);
}
