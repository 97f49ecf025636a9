/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes: what stat(2) has no field for, as text.
 *
 *	user.bdfs.uuid, .kind, .number, .pool         what the disk is
 *	user.bdfs.allocated, .valid                   bytes, now
 *	user.bdfs.logical-block-size                  bytes
 *	user.bdfs.labels                              free text of the owner, up to 255 bytes; may be set and removed
 *	user.bdfs.snapshots                           how many the disk has
 *	user.bdfs.virtual, .referenced, .exclusive, .shared, .reclaimable, .owned    bytes, see meta/snapshot.h
 *
 * A snapshot has uuid, kind ("snapshot"), number (its layer's), pool, disk (the
 * name), created (seconds since 1970) and the bytes.
 *
 * labels is listed when it is not empty; an empty one is none. referenced,
 * exclusive, shared and reclaimable are found by reading the maps of all layers
 * that share anything, which takes time: they are there for who asks for them by
 * name, and not listed, or every copy with attributes would pay for them.
 *
 * Failure modes: other names, and setting anything but labels: EOPNOTSUPP (which, unlike
 * ENOSYS, the kernel does not take for the whole mount), reading them: ENODATA.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/uuid.h"
#include "fs/internal.h"
#include "meta/snapshot.h"

#define LABELS_NAME "user.bdfs.labels"
#define VALUE_BYTES_MAX 256

/* Either a disk or a snapshot; the other is NULL. Both are referenced. */
struct subject {
	struct fs_mount *fs;
	struct meta_disk *disk;
	struct meta_snapshot *snapshot;
	struct meta_disk_info info;
	struct meta_snapshot_info snapshot_info;
};

/* Each writes at most VALUE_BYTES_MAX bytes, as snprintf does. */
static int show_uuid(const struct subject *of, char *buf)
{
	return (int)strlen(base_uuid_to_text(of->disk ? of->info.record.uuid : of->snapshot_info.uuid, buf));
}

static int show_kind(const struct subject *of, char *buf)
{
	return snprintf(buf, VALUE_BYTES_MAX, "%s",
			of->disk ? meta_disk_kind_to_text(of->info.record.kind) : "snapshot");
}

static int show_bytes(char *buf, uint64_t n)
{
	return snprintf(buf, VALUE_BYTES_MAX, "%" PRIu64, n);
}

static int show_number(const struct subject *of, char *buf)
{
	return show_bytes(buf, of->disk ? of->info.number : of->snapshot_info.layer);
}

static int show_pool(const struct subject *of, char *buf)
{
	return snprintf(buf, VALUE_BYTES_MAX, "%s", of->fs->pool_name);
}

static int show_allocated(const struct subject *of, char *buf)
{
	return snprintf(buf, VALUE_BYTES_MAX, "%" PRIu64, of->info.allocated_bytes);
}

static int show_valid(const struct subject *of, char *buf)
{
	return snprintf(buf, VALUE_BYTES_MAX, "%" PRIu64, of->info.valid_bytes);
}

static int show_block_size(const struct subject *of, char *buf)
{
	return snprintf(buf, VALUE_BYTES_MAX, "%" PRIu32, of->info.record.logical_block_bytes);
}

static int show_labels(const struct subject *of, char *buf)
{
	return snprintf(buf, VALUE_BYTES_MAX, "%s", of->info.record.labels);
}

static int show_snapshots(const struct subject *of, char *buf)
{
	return show_bytes(buf, meta_snapshot_count(of->disk));
}

static int show_disk(const struct subject *of, char *buf)
{
	return snprintf(buf, VALUE_BYTES_MAX, "%s", of->snapshot_info.disk_name);
}

static int show_created(const struct subject *of, char *buf)
{
	return show_bytes(buf, of->disk ? of->info.record.created_s : of->snapshot_info.created_s);
}

static int show_virtual(const struct subject *of, char *buf)
{
	return show_bytes(buf, of->disk ? of->info.size_bytes : of->snapshot_info.size_bytes);
}

static int show_owned(const struct subject *of, char *buf)
{
	return show_bytes(buf, of->disk ? of->info.allocated_bytes : meta_snapshot_owned_bytes(of->snapshot));
}

static int use_of(const struct subject *of, struct meta_space_use *ret)
{
	return of->disk ? meta_disk_space(of->disk, ret, NULL) : meta_snapshot_space(of->snapshot, ret, NULL);
}

static int show_referenced(const struct subject *of, char *buf)
{
	struct meta_space_use use;

	return use_of(of, &use) < 0 ? 0 : show_bytes(buf, use.referenced_bytes);
}

static int show_exclusive(const struct subject *of, char *buf)
{
	struct meta_space_use use;

	return use_of(of, &use) < 0 ? 0 : show_bytes(buf, use.exclusive_bytes);
}

static int show_shared(const struct subject *of, char *buf)
{
	struct meta_space_use use;

	return use_of(of, &use) < 0 ? 0 : show_bytes(buf, use.shared_bytes);
}

static int show_reclaimable(const struct subject *of, char *buf)
{
	struct meta_space_use use;

	return use_of(of, &use) < 0 ? 0 : show_bytes(buf, use.reclaimable_bytes);
}

enum { OF_DISK = 1 << 0, OF_SNAPSHOT = 1 << 1, OF_BOTH = OF_DISK | OF_SNAPSHOT, BY_NAME_ONLY = 1 << 2 };

static const struct {
	const char *name;
	unsigned flags;
	int (*show)(const struct subject *of, char *buf); /* 0: there is none */
} attributes[] = {
	{ "user.bdfs.uuid", OF_BOTH, show_uuid },
	{ "user.bdfs.kind", OF_BOTH, show_kind },
	{ "user.bdfs.number", OF_BOTH, show_number },
	{ "user.bdfs.pool", OF_BOTH, show_pool },
	{ "user.bdfs.disk", OF_SNAPSHOT, show_disk },
	{ "user.bdfs.created", OF_BOTH, show_created },
	{ "user.bdfs.allocated", OF_DISK, show_allocated },
	{ "user.bdfs.valid", OF_DISK, show_valid },
	{ "user.bdfs.logical-block-size", OF_DISK, show_block_size },
	{ "user.bdfs.snapshots", OF_DISK, show_snapshots },
	{ "user.bdfs.virtual", OF_BOTH, show_virtual },
	{ "user.bdfs.owned", OF_BOTH, show_owned },
	{ "user.bdfs.referenced", OF_BOTH | BY_NAME_ONLY, show_referenced },
	{ "user.bdfs.exclusive", OF_BOTH | BY_NAME_ONLY, show_exclusive },
	{ "user.bdfs.shared", OF_BOTH | BY_NAME_ONLY, show_shared },
	{ "user.bdfs.reclaimable", OF_BOTH | BY_NAME_ONLY, show_reclaimable },
	{ LABELS_NAME, OF_DISK, show_labels },
};

static_assert(sizeof(((struct meta_disk_record *)0)->labels) <= VALUE_BYTES_MAX, "labels fit");

/* Return: false, and nothing to put, when the node is neither. */
static bool subject_get(fuse_req_t req, fuse_ino_t node, struct subject *ret)
{
	struct fs_mount *fs = fs_of(req);

	*ret = (struct subject){ .fs = fs, .disk = fs_node_disk(fs, node) };
	if (ret->disk)
		meta_disk_info(ret->disk, &ret->info);
	else
		ret->snapshot = fs_node_snapshot(fs, node);
	if (ret->snapshot)
		meta_snapshot_info(ret->snapshot, &ret->snapshot_info);
	return ret->disk || ret->snapshot;
}

static void subject_put(struct subject *of)
{
	if (of->disk)
		meta_disk_put(of->disk);
	if (of->snapshot)
		meta_snapshot_put(of->snapshot);
}

static bool is_of(size_t i, const struct subject *of)
{
	return attributes[i].flags & (of->disk ? OF_DISK : OF_SNAPSHOT);
}

/* As getxattr(2) has it: with size 0 the question is how large the answer is. */
static void answer_value(fuse_req_t req, const char *value, size_t bytes, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, bytes);
	else if (bytes > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value, bytes);
}

void fs_op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
	char value[VALUE_BYTES_MAX];
	struct subject of;
	int bytes = 0;

	if (subject_get(req, node, &of)) {
		for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
			if (strcmp(attributes[i].name, name) == 0 && is_of(i, &of))
				bytes = attributes[i].show(&of, value);
		}
		subject_put(&of);
	}
	if (bytes == 0)
		fuse_reply_err(req, ENODATA);
	else
		answer_value(req, value, (size_t)bytes, size);
}

void fs_op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
	char names[ARRAY_LEN(attributes) * 64], value[VALUE_BYTES_MAX];
	struct subject of;
	size_t bytes = 0;

	if (subject_get(req, node, &of)) {
		for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
			if (!is_of(i, &of) || (attributes[i].flags & BY_NAME_ONLY) ||
			    attributes[i].show(&of, value) == 0)
				continue;
			strcpy(names + bytes, attributes[i].name);
			bytes += strlen(attributes[i].name) + 1;
		}
		subject_put(&of);
	}
	answer_value(req, names, bytes, size);
}

/* ---- labels ------------------------------------------------------------------------------- */

static int check_labels(const char *value, size_t size, int flags, bool has_labels)
{
	struct meta_disk_attr attr;

	if (size >= sizeof(attr.labels))
		return -ENOSPC;
	if (size > 0 && memchr(value, '\0', size))
		return -EINVAL;
	if ((flags & XATTR_CREATE) && has_labels && !fs_request_is_resent())
		return -EEXIST;
	return (flags & XATTR_REPLACE) && !has_labels && !fs_request_is_resent() ? -ENODATA : 0;
}

static int set_labels(fuse_req_t req, fuse_ino_t node, const char *value, size_t size, int flags)
{
	struct meta_disk_attr attr = { .modified_s = 0 };
	struct subject of;
	int rc = -EOPNOTSUPP;

	if (fs_of(req)->read_only)
		return -EROFS;
	if (!subject_get(req, node, &of))
		return fs_node_is_directory(node) ? -EOPNOTSUPP : -ENOENT;
	if (of.disk)
		rc = check_labels(value, size, flags, of.info.record.labels[0] != '\0');
	if (rc == 0 && size > 0)
		memcpy(attr.labels, value, size);
	if (rc == 0)
		rc = meta_disk_set_attr(of.disk, META_ATTR_LABELS, &attr, NULL);
	subject_put(&of);
	return rc;
}

void fs_op_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags)
{
	fs_answer(req, strcmp(name, LABELS_NAME) == 0 ? set_labels(req, node, value, size, flags) : -EOPNOTSUPP);
}

void fs_op_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
	fs_answer(req, strcmp(name, LABELS_NAME) == 0 ? set_labels(req, node, NULL, 0, XATTR_REPLACE) : -EOPNOTSUPP);
}
