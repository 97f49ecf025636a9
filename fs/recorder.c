/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The recorder: writes the time of a disk's last change to its record.
 *
 * A write notes the time in the open table, where stat(2) finds it. Some time
 * after the last close the recorder takes it from there and stores it, one disk
 * after the other: each is a transaction of its own, and neither a queue thread
 * nor the operations that wait for an answer should wait behind a row of them.
 *
 * Failure modes: a disk that has been removed, or a pool that has failed, keeps
 * no time. A daemon that is killed loses the times of the last seconds, never
 * data. At the end of a mount what is noted is recorded before fs_free() returns.
 */
#include <errno.h>

#include "base/log.h"
#include "base/park.h"
#include "fs/internal.h"

void fs_keep_modified(struct meta_disk *disk, uint64_t modified_s, void *ctx)
{
	struct meta_disk_attr attr = { .modified_s = modified_s };
	struct base_error err;
	int rc = meta_disk_set_attr(disk, META_ATTR_MODIFIED, &attr, &err);

	if (rc < 0 && rc != -ENOENT && rc != -EROFS)
		log_warning("fuse: recording the time of a change: %s", err.text);
}

static void *record(void *arg)
{
	struct fs_mount *fs = arg;
	uint64_t number, modified_s;

	while (fs_open_next_to_record(&fs->opens, &number, &modified_s)) {
		struct meta_disk *disk = meta_disk_get_by_number(fs->meta, number);

		if (disk) {
			fs_keep_modified(disk, modified_s, NULL);
			meta_disk_put(disk);
		}
		fs_open_recorded(&fs->opens, modified_s);
	}
	return NULL;
}

int fs_recorder_start(struct fs_mount *fs)
{
	return base_thread_start(&fs->recorder, "bdfs-fs-time", record, fs);
}

void fs_recorder_stop(struct fs_mount *fs)
{
	fs_open_end_recording(&fs->opens);
	pthread_join(fs->recorder, NULL);
}
