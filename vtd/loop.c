/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport "loop": a disk or snapshot as /dev/loopN of this host, over its file in the mount,
 * with direct I/O and the disk's logical block size.
 *
 * The daemon never opens that file, nor the device: both could wait for the daemon. A
 * helper does (loop_helper.c): attach, detach, take up a new size. Its open of the file
 * is announced, so it is let through although the disk is mapped.
 *
 * A device is known by its name and the kernel's sequence number of what is attached to
 * it, so a name that was given to somebody else meanwhile is never touched. Both are
 * noted in a file in the pool's directory, so devices that a dead daemon left behind are
 * found and detached before new ones are made (once, with the first start after the
 * mount). Asking the device itself would not do: one whose file is dead answers nothing.
 *
 * What the device does is read from sysfs, which asks nobody.
 *
 * A mount that outlives its daemon keeps its files open, so the devices go on too: the
 * next daemon finds them in that file and only takes them up again.
 *
 * Failure modes: no right to make loop devices, none in this kernel, no device node
 * (a container): the helper's words. A device that is mounted or open is not detached
 * without force; with force the kernel detaches it when the last user has gone.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "meta/pool.h"
#include "vtd/loop.h"
#include "vtd/run_helper.h"
#include "vtd/transport.h"

/* The device lets go of its file a moment after it is detached. */
#define RELEASE_PATIENCE_NS UINT64_C(1000000000)

struct loop_unit {
	char name[META_DEVICE_NAME_BYTES_MAX + 1];
	char device[VTD_DEVICE_BYTES]; /* /dev/loopN */
	const char *mountpoint;        /* the environment's */
	struct meta_disk *disk;        /* the table's, or ... */
	struct meta_snapshot *snapshot; /* ... the table's too */
	char sequence[24];             /* decimal; see vtd_loop_sequence() */
	struct vtd_io_stats before; /* what the device had counted when it became ours */
};

static void list_of(const struct vtd_env *env, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.4000s/%s", env->directory, VTD_LOOP_LIST_NAME);
}

/* A snapshot has nobody to be let through by. */
static void announce(pid_t pid, void *ctx)
{
	if (ctx)
		meta_disk_announce(ctx, pid);
}

/* ---- sysfs -------------------------------------------------------------------------------- */

/* The file's first line in buf. False: there is no such file. */
static bool read_attribute(const char *device, const char *attribute, char *buf, size_t room)
{
	char path[VTD_DEVICE_BYTES + 64];

	snprintf(path, sizeof(path), "/sys/block/%s/%s", strrchr(device, '/') + 1, attribute);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	bool got = fgets(buf, (int)room, file) != NULL;
	fclose(file);
	if (got)
		buf[strcspn(buf, "\n")] = '\0';
	return got;
}

bool vtd_loop_find_mount(const char *device, char *ret, size_t room)
{
	char dev[32], line[4096], seen[32], where[1024];
	FILE *file = read_attribute(device, "dev", dev, sizeof(dev)) ? fopen("/proc/self/mountinfo", "re") : NULL;
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file))
		if (sscanf(line, "%*u %*u %31s %*s %1023s", seen, where) == 2 && strcmp(seen, dev) == 0)
			found = true;
	if (found)
		snprintf(ret, room, "%.60s is mounted on %.100s", device, where);
	if (file)
		fclose(file);
	return found;
}

static void loop_status(void *ctx, struct vtd_status *ret)
{
	struct loop_unit *unit = ctx;

	*ret = (struct vtd_status){ 0 };
	snprintf(ret->device, sizeof(ret->device), "%s", unit->device);
	ret->in_use = vtd_loop_find_mount(unit->device, ret->who, sizeof(ret->who));
}

static void read_stats(const struct loop_unit *unit, struct vtd_io_stats *ret)
{
	uint64_t v[17] = { 0 };
	char line[512];

	*ret = (struct vtd_io_stats){ 0 };
	if (!read_attribute(unit->device, "stat", line, sizeof(line)))
		return;
	/* Documentation/block/stat.rst: sectors of 512 bytes. */
	char *at = line;
	for (size_t i = 0; i < ARRAY_LEN(v); i++)
		v[i] = strtoull(at, &at, 10);
	ret->reads = v[0];
	ret->read_bytes = v[2] * 512;
	ret->writes = v[4];
	ret->write_bytes = v[6] * 512;
	ret->inflight = v[8];
	ret->discards = v[11];
	ret->discard_bytes = v[13] * 512;
	ret->flushes = v[15];
}

static void loop_stats(void *ctx, struct vtd_io_stats *ret)
{
	struct loop_unit *unit = ctx;
	const struct vtd_io_stats *before = &unit->before;

	read_stats(unit, ret);
	ret->reads -= MIN(before->reads, ret->reads);
	ret->read_bytes -= MIN(before->read_bytes, ret->read_bytes);
	ret->writes -= MIN(before->writes, ret->writes);
	ret->write_bytes -= MIN(before->write_bytes, ret->write_bytes);
	ret->discards -= MIN(before->discards, ret->discards);
	ret->discard_bytes -= MIN(before->discard_bytes, ret->discard_bytes);
	ret->flushes -= MIN(before->flushes, ret->flushes);
}

/* ---- start -------------------------------------------------------------------------------- */

/* After a take-over its file is open as before, and so is the device. False: it is not there any more. */
static bool adopt(const struct vtd_env *env, struct loop_unit *unit)
{
	char path[PATH_MAX], line[256], boot[40], device[32], sequence[24], name[META_DEVICE_NAME_BYTES_MAX + 1];
	bool found = false;
	list_of(env, path);

	FILE *list = fopen(path, "re");
	bool ours = list && vtd_loop_boot_id(boot) && fgets(line, sizeof(line), list) &&
		    strncmp(line, boot, strlen(boot)) == 0;
	while (ours && fgets(line, sizeof(line), list)) {
		if (sscanf(line, "%31s %23s %63s", device, sequence, name) != 3 || strcmp(name, unit->name) != 0)
			continue;
		snprintf(unit->device, sizeof(unit->device), "/dev/%s", device);
		snprintf(unit->sequence, sizeof(unit->sequence), "%s", sequence);
		uint64_t now = vtd_loop_sequence(unit->device);
		found = now != 0 && now == strtoull(sequence, NULL, 10);
	}
	if (list)
		fclose(list);
	return found;
}

/* Disks and snapshots may be renamed, so the path is that of now. */
static int file_of(const struct loop_unit *unit, char path[PATH_MAX], struct base_error *err)
{
	struct meta_snapshot_info snapshot;
	struct meta_disk_info info;
	int length;

	if (unit->snapshot) {
		meta_snapshot_info(unit->snapshot, &snapshot);
		length = snprintf(path, PATH_MAX, "%s/snapshots/%s/%s", unit->mountpoint, snapshot.disk_name,
				  snapshot.name);
	} else {
		meta_disk_info(unit->disk, &info);
		length = snprintf(path, PATH_MAX, "%s/disks/%s", unit->mountpoint, info.record.name);
	}
	if (length >= PATH_MAX)
		return base_error_set(err, -ENAMETOOLONG, "%s: the path is too long", unit->mountpoint);
	return 0;
}

static int attach(const struct vtd_env *env, const struct vtd_target *target, struct loop_unit *unit,
		  struct base_error *err)
{
	char file[PATH_MAX], list[PATH_MAX], answer[VTD_HELPER_ANSWER_BYTES], block[16];
	const char *words[] = { "loop-attach", file, block, target->read_only || target->snapshot ? "ro" : "rw",
				list, unit->name, NULL };
	int rc = file_of(unit, file, err);

	if (rc < 0)
		return rc;
	list_of(env, list);
	snprintf(block, sizeof(block), "%u", target->logical_block_bytes);
	rc = vtd_run_helper(words, announce, target->disk, answer, err);
	announce(0, target->disk); /* if it was not used */
	if (rc < 0)
		return rc;
	snprintf(unit->device, sizeof(unit->device), "%.100s", answer);
	snprintf(unit->sequence, sizeof(unit->sequence), "%" PRIu64, vtd_loop_sequence(unit->device));
	read_stats(unit, &unit->before);
	return 0;
}

static int loop_start(const struct vtd_env *env, const struct vtd_target *target, void **ret_unit,
		      struct base_error *err)
{
	if (!target->disk && !target->snapshot)
		return base_error_set(err, -EOPNOTSUPP,
				      "%s: a loop device is made on disks of the pool; for a device or file outside it "
				      "use losetup, or a vhost adapter",
				      target->vtd->path);
	struct loop_unit *unit = calloc(1, sizeof(*unit));
	if (!unit)
		return base_error_set_errno(err, -ENOMEM, "%s", target->name);
	snprintf(unit->name, sizeof(unit->name), "%s", target->name);
	unit->mountpoint = env->mountpoint;
	unit->disk = target->disk;
	unit->snapshot = target->snapshot;
	if (env->taken_over && adopt(env, unit)) {
		read_stats(unit, &unit->before);
		*ret_unit = unit;
		return 0;
	}
	int rc = attach(env, target, unit, err);
	if (rc < 0) {
		free(unit);
		return rc;
	}
	*ret_unit = unit;
	return 0;
}

void vtd_loop_sweep(const struct vtd_env *env)
{
	char answer[VTD_HELPER_ANSWER_BYTES], path[PATH_MAX];
	const char *words[] = { "loop-sweep", path, NULL };
	struct base_error err;

	list_of(env, path);
	if (access(path, F_OK) < 0)
		return;
	if (vtd_run_helper(words, NULL, NULL, answer, &err) < 0)
		log_warning("loop devices of an earlier mount can't be looked for: %s", err.text);
	else if (strcmp(answer, "0") != 0)
		log_info("loop devices that an earlier mount left behind were detached: %s", answer);
}

/* ---- stop, resize ------------------------------------------------------------------------- */

static int loop_stop(void *ctx, bool force, struct base_error *err)
{
	struct loop_unit *unit = ctx;
	char answer[VTD_HELPER_ANSWER_BYTES];
	const char *words[] = { "loop-detach", unit->device, unit->sequence, force ? "force" : "gently", NULL };
	struct base_error why = { 0 };
	unsigned files = unit->disk ? meta_disk_files(unit->disk) : 0;
	int rc = vtd_run_helper(words, NULL, NULL, answer, &why);

	if (rc < 0 && !force) {
		if (err)
			*err = why;
		return rc;
	}
	if (rc < 0)
		log_warning("VTD %s: %s stays behind: %s", unit->name, unit->device, why.text);
	else if (strcmp(answer, "later") == 0)
		log_info("VTD %s: %s is in use, and goes with its last user", unit->name, unit->device);
	else if (files > 0 && meta_disk_wait_files(unit->disk, files - 1, RELEASE_PATIENCE_NS) < 0)
		log_debug("VTD %s: its file is not closed yet", unit->name);
	free(unit);
	return 0;
}

static void loop_resized(void *ctx, uint64_t size_bytes)
{
	struct loop_unit *unit = ctx;
	char file[PATH_MAX], answer[VTD_HELPER_ANSWER_BYTES];
	const char *words[] = { "loop-resize", unit->device, unit->sequence, file, NULL };
	struct base_error err;

	if (file_of(unit, file, &err) < 0 || vtd_run_helper(words, NULL, NULL, answer, &err) < 0)
		log_warning("VTD %s: %s has its old size still: %s", unit->name, unit->device, err.text);
}

const struct vtd_transport_ops vtd_transport_loop = {
	.description = "Loop Device Adapter",
	.files = 1,
	.start = loop_start,
	.stop = loop_stop,
	.status = loop_status,
	.stats = loop_stats,
	.resized = loop_resized,
};
