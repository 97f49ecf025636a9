/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of an environment.
 *
 * LMDB creates what is missing and initializes what is empty, without a word: a
 * pool whose data.mdb was lost would open as a new, empty one. So each mode of
 * opening is checked against what is there before LMDB sees it. The pool's own
 * lock keeps others out between this look and LMDB's.
 *
 * LMDB also leaves its files behind when a creation fails, and never syncs the
 * directory that holds their names; both are done here.
 *
 * Failure modes: every refusal names the directory, what is wrong with it and,
 * where there is something to do, what.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meta/db_files.h"
#include "meta/db_pages.h"

static void file_path(char path[PATH_MAX], const char *dir, const char *file)
{
	snprintf(path, PATH_MAX, "%s/%s", dir, file);
}

static int check_create(const char *dir, int rc, struct base_error *err)
{
	if (rc == -ENOENT)
		return 0;
	if (rc == 0)
		return base_error_set(err, -EEXIST, "%s already holds the metadata of a pool: choose another directory",
				      dir);
	return base_error_set_errno(err, rc, "metadata can't be created in %s", dir);
}

int db_files_check(const char *dir, enum db_open_mode mode, struct base_error *err)
{
	char path[PATH_MAX];
	struct stat st;

	file_path(path, dir, "data.mdb");

	int rc = stat(path, &st) == 0 ? 0 : -errno;

	if (mode == DB_OPEN_CREATE)
		return check_create(dir, rc, err);
	if (rc == -ENOENT)
		return base_error_set(err, rc, "%s holds no metadata of a pool (no data.mdb)", dir);
	if (rc < 0)
		return base_error_set_errno(err, rc, "the metadata in %s can't be opened", dir);
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return base_error_set(err, -EBADMSG, "%s is empty or no file: restore it from a backup", path);
	return 0;
}

int db_files_verify(const char *dir, struct base_error *err)
{
	struct db_pages_report report;
	int rc = db_pages_walk_dir(dir, DB_PAGES_NEWEST, &report);

	if (rc == -EBUSY)
		return base_error_set(err, rc,
				      "the metadata in %s are being changed by another process all the time: use the "
				      "pool where it is mounted",
				      dir);
	if (rc < 0)
		return base_error_set_errno(err, rc, "the metadata in %s can't be read", dir);
	if (report.damaged == 0)
		return 0;
	return base_error_set(err, -EBADMSG,
			      "%s/data.mdb is damaged, or not an LMDB file (page %llu, %s; %llu findings, `bdfs check` "
			      "lists them): bring the pool back with `bdfs import` from its pvs or `bdfs restore` from "
			      "a dump",
			      dir, (unsigned long long)report.damage[0].page, report.damage[0].text,
			      (unsigned long long)report.damaged);
}

int db_files_sync(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd >= 0 && fsync(fd) == 0 ? 0 : -errno;

	if (fd >= 0)
		close(fd);
	return rc;
}

void db_files_remove(const char *dir)
{
	char path[PATH_MAX];

	file_path(path, dir, "data.mdb");
	unlink(path);
	file_path(path, dir, "lock.mdb");
	unlink(path);
}

int db_files_explain(const char *dir, const char *missing, uint64_t map_bytes, int rc, struct base_error *err)
{
	if (missing)
		return base_error_set(err, -EBADMSG,
				      "the metadata in %s lacks the database '%s': it is not a pool's, or its creation "
				      "was cut short",
				      dir, missing);
	switch (rc) {
	case -EBADMSG:
		return base_error_set(err, rc,
				      "%s/data.mdb is not an LMDB file, or its first pages are damaged: restore it "
				      "from a backup",
				      dir);
	case -ENOMEM:
		return base_error_set(err, rc,
				      "the metadata in %s needs %llu bytes of address space, more than this process "
				      "may have (ulimit -v)",
				      dir, (unsigned long long)map_bytes);
	case -EIO:
		return base_error_set(
		    err, rc, "the metadata in %s can't be read: look for device errors in the kernel's log", dir);
	}
	return base_error_set_errno(err, rc > 0 ? -EIO : rc, "the metadata in %s can't be opened", dir);
}
