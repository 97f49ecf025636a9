/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport "vhost-user": a disk or snapshot of the pool, or a raw device or file, at a socket of its own, for
 * one guest (vtd/vhost.h is the server).
 *
 * The sockets of an adapter lie in its directory, PHYSLOC, named by LUN: L1, L2 ... So
 * what a guest's configuration says stays right when a disk is unmapped and another one
 * takes its place. Directories that are missing are made, as far as they lie below one
 * that is there; /run is empty after a restart of the machine.
 *
 * A unit opens the disk (ioc_disk_open, ioc_snapshot_open, ioc_raw_open) from start to stop. Rings are spread over the
 * queue threads from another one on for each unit.
 *
 * Failure modes: a directory that can't be made, a socket somebody else listens on, a raw device that is gone or
 * that somebody holds: the VTD is Defined with that as the reason.
 */
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checksum.h"
#include "iocore/pool.h"
#include "iocore/raw.h"
#include "iocore/snapshot.h"
#include "vtd/adapters.h"
#include "vtd/transport.h"

struct vhost_unit {
	char socket[META_PHYSLOC_BYTES_MAX + 1];
	struct ioc_bd *bd;
	bool is_raw, is_snapshot;
	struct vtd_vhost *vhost;
};

/* Guests may run as other users, who have to get to their sockets; who may connect, the socket's mode says. */
#define DIRECTORY_MODE 0755

static int make_directories(const char *path, struct base_error *err)
{
	char part[META_PHYSLOC_BYTES_MAX + 1];
	size_t length = strlen(path);

	for (size_t i = 1; i <= length; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		snprintf(part, sizeof(part), "%.*s", (int)i, path);
		if (mkdir(part, DIRECTORY_MODE) < 0) {
			if (errno != EEXIST)
				return base_error_set_errno(err, -errno, "%s: can't make the directory", part);
		} else if (chmod(part, DIRECTORY_MODE) < 0) { /* the daemon's umask */
			return base_error_set_errno(err, -errno, "%s", part);
		}
	}
	return 0;
}

/* ---- the backing device ------------------------------------------------------------------- */

/* Something to tell it by inside the guest: of a disk of the pool its UUID does that. */
static void raw_id(const char *identity, char ret_id[VTD_VHOST_ID_BYTES])
{
	char text[VTD_VHOST_ID_BYTES + 1];

	snprintf(text, sizeof(text), "raw-%016" PRIx64, base_checksum(identity, strlen(identity)));
	memcpy(ret_id, text, VTD_VHOST_ID_BYTES);
}

static void describe_disk(const struct vtd_target *target, struct vtd_vhost_args *args)
{
	struct meta_disk_info info;

	meta_disk_info(target->disk, &info);
	args->disk = target->disk;
	args->size_bytes = info.size_bytes;
	args->logical_block_bytes = info.record.logical_block_bytes;
	vtd_vhost_id(info.record.uuid, args->id);
}

/* What the id tells apart inside a guest: a snapshot is not its disk. */
static void describe_snapshot(const struct vtd_target *target, struct vtd_vhost_args *args)
{
	struct meta_snapshot_info info;

	meta_snapshot_info(target->snapshot, &info);
	args->size_bytes = info.size_bytes;
	args->logical_block_bytes = target->logical_block_bytes;
	args->read_only = true;
	vtd_vhost_id(info.uuid, args->id);
}

static void describe_raw(const struct vtd_target *target, const struct ioc_bd *bd, struct vtd_vhost_args *args)
{
	struct ioc_raw_info info;

	ioc_raw_info(bd, &info);
	args->size_bytes = info.size_bytes;
	args->logical_block_bytes = info.logical_block_bytes;
	args->read_only |= info.is_read_only;
	raw_id(target->vtd->identity, args->id);
}

/*
 * A raw device is opened with the daemon's rights, by a path out of the pool's metadata. Whoever can write to those
 * must not get more by that than he has: root mounts other people's pools too.
 */
static int check_trusted(const struct vtd_env *env, const char *path, struct base_error *err)
{
	struct stat st;

	if (stat(env->directory, &st) < 0)
		return base_error_set_errno(err, -errno, "%s", env->directory);
	if (st.st_uid != geteuid() || (st.st_mode & 022) != 0)
		return base_error_set(err, -EPERM,
				      "%s is outside the pool, and the pool's directory %s can be written by others "
				      "than the daemon's user (%u), who could name any device there",
				      path, env->directory, (unsigned)geteuid());
	return 0;
}

static int open_raw(const struct vtd_env *env, const struct vtd_target *target, struct ioc_bd **ret,
		    struct base_error *err)
{
	const struct meta_vtd_record *vtd = target->vtd;
	int rc = check_trusted(env, vtd->path, err);

	return rc < 0 ? rc : ioc_raw_open(env->ioc, vtd->path, vtd->identity, env->mountpoint, ret, err);
}

static int open_bd(const struct vtd_env *env, const struct vtd_target *target, struct vhost_unit *unit,
		   struct base_error *err)
{
	unit->is_snapshot = target->snapshot;
	unit->is_raw = !target->disk && !target->snapshot;
	if (unit->is_raw)
		return open_raw(env, target, &unit->bd, err);
	if (unit->is_snapshot)
		return ioc_snapshot_open(env->ioc, target->snapshot, &unit->bd, err);
	return ioc_disk_open(env->ioc, target->disk, &unit->bd, err);
}

static void close_bd(struct vhost_unit *unit)
{
	if (unit->is_raw)
		ioc_raw_close(unit->bd);
	else if (unit->is_snapshot)
		ioc_snapshot_close(unit->bd);
	else
		ioc_disk_close(unit->bd);
}

/* ---- who may connect ---------------------------------------------------------------------- */

#define GROUP_BYTES_MAX 16384

/* Return: 0; -ENOENT: there is none of this name. */
static int find_group(const char *name, gid_t *ret)
{
	struct group group, *found = NULL;
	char *buf = malloc(GROUP_BYTES_MAX);

	if (!buf)
		return -ENOMEM;
	int rc = getgrnam_r(name, &group, buf, GROUP_BYTES_MAX, &found);
	if (found)
		*ret = group.gr_gid;
	free(buf);
	return found ? 0 : rc ? -rc : -ENOENT;
}

/* Guests of a virtual machine monitor that is not root's are, where there is a group for that, members of kvm. */
static int choose_group(struct vtd_vhost_args *args, struct base_error *err)
{
	const char *name = getenv("BDFS_SOCKET_GROUP");

	if (!name) {
		if (geteuid() == 0)
			(void)find_group("kvm", &args->socket_group);
		return 0;
	}
	if (name[0] && find_group(name, &args->socket_group) < 0)
		return base_error_set(err, -EINVAL, "BDFS_SOCKET_GROUP=%.64s: there is no group of that name", name);
	return 0;
}

static int choose_access(struct vtd_vhost_args *args, struct base_error *err)
{
	const char *text = getenv("BDFS_SOCKET_MODE");
	int rc = choose_group(args, err);
	char *end;

	if (rc < 0)
		return rc;
	args->socket_mode = args->socket_group ? 0660 : 0600;
	if (!text || !text[0])
		return 0;
	unsigned long mode = strtoul(text, &end, 8);
	if (*end || mode == 0 || mode > 0777)
		return base_error_set(err, -EINVAL, "BDFS_SOCKET_MODE=%.64s: not a mode such as 0660", text);
	args->socket_mode = (mode_t)mode;
	return 0;
}

/* ---- units -------------------------------------------------------------------------------- */

static int listen_on(const struct vtd_env *env, const struct vtd_target *target, struct vhost_unit *unit,
		     struct base_error *err)
{
	static _Atomic unsigned next_queue;
	struct vtd_vhost_args args = {
		.pool = env->ioc,
		.bd = unit->bd,
		.name = target->name,
		.socket_path = unit->socket,
		.read_only = target->read_only,
		.first_queue = atomic_fetch_add(&next_queue, 1) % ioc_pool_queue_count(env->ioc),
	};

	if (unit->is_raw)
		describe_raw(target, unit->bd, &args);
	else if (unit->is_snapshot)
		describe_snapshot(target, &args);
	else
		describe_disk(target, &args);
	int rc = choose_access(&args, err);
	return rc < 0 ? rc : vtd_vhost_start(&args, &unit->vhost, err);
}

static int vhost_start(const struct vtd_env *env, const struct vtd_target *target, void **ret_unit,
		       struct base_error *err)
{
	struct vhost_unit *unit = calloc(1, sizeof(*unit));
	if (!unit)
		return base_error_set_errno(err, -ENOMEM, "%s", target->name);
	vtd_adapter_socket(target->adapter, target->vtd->lun, unit->socket);
	int rc = make_directories(target->adapter->physloc, err);
	if (rc == 0)
		rc = open_bd(env, target, unit, err);
	if (rc == 0) {
		rc = listen_on(env, target, unit, err);
		if (rc < 0)
			close_bd(unit);
	}
	if (rc < 0)
		free(unit);
	else
		*ret_unit = unit;
	return rc;
}

static void vhost_status(void *ctx, struct vtd_status *ret)
{
	struct vhost_unit *unit = ctx;
	struct vtd_vhost_info info;

	*ret = (struct vtd_status){ 0 };
	vtd_vhost_info(unit->vhost, &info);
	snprintf(ret->device, sizeof(ret->device), "%s", unit->socket);
	ret->in_use = info.is_connected;
	if (info.is_connected)
		snprintf(ret->who, sizeof(ret->who), "a guest is connected (process %d of uid %u, %u rings)",
			 (int)info.peer_pid, (unsigned)info.peer_uid, info.queues_running);
	if (unit->is_raw && ioc_raw_has_failed(unit->bd))
		ret->trouble = "a flush failed, so writes are refused: look after the device, then unmap and map it "
			       "again";
}

static int vhost_stop(void *ctx, bool force, struct base_error *err)
{
	struct vhost_unit *unit = ctx;
	struct vtd_status status;

	vhost_status(unit, &status);
	if (status.in_use && !force)
		return base_error_set(err, -EBUSY, "%s", status.who);
	vtd_vhost_stop(unit->vhost);
	close_bd(unit);
	free(unit);
	return 0;
}

static void vhost_stats(void *ctx, struct vtd_io_stats *ret)
{
	vtd_vhost_stats(((struct vhost_unit *)ctx)->vhost, ret);
}

static void vhost_resized(void *ctx, uint64_t size_bytes)
{
	vtd_vhost_resized(((struct vhost_unit *)ctx)->vhost, size_bytes);
}

const struct vtd_transport_ops vtd_transport_vhost = {
	.description = "Virtual Block Server Adapter (vhost-user)",
	.start = vhost_start,
	.stop = vhost_stop,
	.status = vhost_status,
	.stats = vhost_stats,
	.resized = vhost_resized,
};
