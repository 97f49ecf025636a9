/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes: what stat(2) has no field for, as text.
 *
 *	user.bdfs.uuid, .kind, .number, .pool         what the disk is
 *	user.bdfs.allocated, .valid                   bytes, now
 *	user.bdfs.logical-block-size                  bytes
 *	user.bdfs.labels                              free text of the owner, up to 255 bytes; may be set and removed
 *
 * labels is listed when it is not empty; an empty one is none.
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

#define LABELS_NAME "user.bdfs.labels"
#define VALUE_BYTES_MAX 256

struct subject {
	struct fs_mount *fs;
	struct meta_disk_info info;
};

/* Each writes at most VALUE_BYTES_MAX bytes, as snprintf does. */
static int show_uuid(const struct subject *of, char *buf)
{
	return (int)strlen(base_uuid_to_text(of->info.record.uuid, buf));
}

static int show_kind(const struct subject *of, char *buf)
{
	return snprintf(buf, VALUE_BYTES_MAX, "%s", meta_disk_kind_to_text(of->info.record.kind));
}

static int show_number(const struct subject *of, char *buf)
{
	return snprintf(buf, VALUE_BYTES_MAX, "%" PRIu64, of->info.number);
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

static const struct {
	const char *name;
	int (*show)(const struct subject *of, char *buf); /* 0: there is none */
} attributes[] = {
	{ "user.bdfs.uuid", show_uuid },
	{ "user.bdfs.kind", show_kind },
	{ "user.bdfs.number", show_number },
	{ "user.bdfs.pool", show_pool },
	{ "user.bdfs.allocated", show_allocated },
	{ "user.bdfs.valid", show_valid },
	{ "user.bdfs.logical-block-size", show_block_size },
	{ LABELS_NAME, show_labels },
};

static_assert(sizeof(((struct meta_disk_record *)0)->labels) <= VALUE_BYTES_MAX, "labels fit");

static bool subject_of(fuse_req_t req, fuse_ino_t node, struct subject *ret)
{
	struct meta_disk *disk = fs_node_disk(fs_of(req), node);

	if (!disk)
		return false;
	ret->fs = fs_of(req);
	meta_disk_info(disk, &ret->info);
	meta_disk_put(disk);
	return true;
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

	if (subject_of(req, node, &of)) {
		for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
			if (strcmp(attributes[i].name, name) == 0)
				bytes = attributes[i].show(&of, value);
		}
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

	if (subject_of(req, node, &of)) {
		for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
			if (attributes[i].show(&of, value) == 0)
				continue;
			strcpy(names + bytes, attributes[i].name);
			bytes += strlen(attributes[i].name) + 1;
		}
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
	if ((flags & XATTR_CREATE) && has_labels)
		return -EEXIST;
	return (flags & XATTR_REPLACE) && !has_labels ? -ENODATA : 0;
}

static int set_labels(fuse_req_t req, fuse_ino_t node, const char *value, size_t size, int flags)
{
	struct meta_disk_attr attr = { .modified_s = 0 };
	struct meta_disk *disk;
	struct subject of;
	int rc;

	if (fs_of(req)->read_only)
		return -EROFS;
	if (!subject_of(req, node, &of))
		return node <= FS_NODE_MEDIA ? -EOPNOTSUPP : -ENOENT;
	rc = check_labels(value, size, flags, of.info.record.labels[0] != '\0');
	if (rc < 0)
		return rc;
	if (size > 0)
		memcpy(attr.labels, value, size);
	disk = fs_node_disk(fs_of(req), node);
	if (!disk)
		return -ENOENT;
	rc = meta_disk_set_attr(disk, META_ATTR_LABELS, &attr, NULL);
	meta_disk_put(disk);
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
