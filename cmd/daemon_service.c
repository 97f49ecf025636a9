/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the verbs may ask of a running daemon: unmount, and tell the front ends
 * that a disk has changed.
 *
 * Everything here is called by the threads of the control socket and may block.
 * An unmount stops the VTDs first (loop devices lie on files of the mount), ends
 * the writes that are held for space if they are what keeps files open, and
 * waits a moment for the kernel to let go of what was closed just now. What it
 * could not unmount goes on as before.
 */
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "base/park.h"
#include "cmd/daemon_internal.h"

#define BUSY_STEP_MS 50
#define HOLD_END_STEPS 20
#define CLOSED_PATIENCE_MS 200
#define CLOSED_STEP_MS 10


/* True: there were some, and now there are none. */
static bool end_holds(struct cmd_daemon *d)
{
	struct meta_pool_info info;
	bool any = false;

	for (unsigned i = 0; i < HOLD_END_STEPS; i++) {
		meta_pool_info(d->meta, &info);
		if (info.held_writes == 0 && i > 0)
			break;
		any |= info.held_writes > 0;
		if (!any)
			return false;
		meta_hold_end(d->meta, NULL);
		base_sleep_ms(BUSY_STEP_MS);
	}
	return any;
}

static int service_unmount(const struct cmd_service *service, bool lazy, struct base_error *err)
{
	struct cmd_daemon *d = service->ctx;
	int r = vtd_table_stop_all(d->vtds, lazy, err);

	if (r < 0)
		return base_error_wrap(err, "%s", service->mountpoint);
	r = fs_unmount(d->fs, lazy ? FS_UNMOUNT_LAZY : FS_UNMOUNT);
	/* Writes that are held for space keep their files open: they fail now, and their callers may close. */
	if (r == -EBUSY && end_holds(d))
		r = fs_unmount(d->fs, lazy ? FS_UNMOUNT_LAZY : FS_UNMOUNT);
	/* The kernel lets go of a file that was closed just now, a loop device's say, a moment later. */
	for (int i = 0; r == -EBUSY && i < CLOSED_PATIENCE_MS / CLOSED_STEP_MS; i++) {
		base_sleep_ms(CLOSED_STEP_MS);
		r = fs_unmount(d->fs, FS_UNMOUNT);
	}
	if (r < 0)
		vtd_table_start_all(d->vtds);
	if (r == -EBUSY)
		return base_error_set(err, r, "%s: files in it are open: close them, or add --lazy",
				      service->mountpoint);
	if (r < 0)
		return base_error_set_errno(err, r, "%s: can't be unmounted", service->mountpoint);
	return 0;
}

static void service_disk_changed(const struct cmd_service *service, uint64_t number)
{
	struct cmd_daemon *d = service->ctx;

	fs_notify_changed(d->fs, number);
	vtd_table_resized(d->vtds, number);
}

static void service_disk_renamed(const struct cmd_service *service, uint64_t number, const char *old_name)
{
	fs_notify_renamed(((struct cmd_daemon *)service->ctx)->fs, number, old_name);
}

static void service_disk_removed(const struct cmd_service *service, uint64_t number, const char *name)
{
	fs_notify_removed(((struct cmd_daemon *)service->ctx)->fs, number, name);
}

static void service_disk_replaced(const struct cmd_service *service, uint64_t number)
{
	fs_notify_replaced(((struct cmd_daemon *)service->ctx)->fs, number);
}

static void service_snapshot_removed(const struct cmd_service *service, uint64_t number, uint64_t layer,
				     const char *name)
{
	fs_notify_snapshot_removed(((struct cmd_daemon *)service->ctx)->fs, number, layer, name);
}

void cmd_daemon_fill_service(struct cmd_daemon *d)
{
	d->service = (struct cmd_service){
		.mountpoint = d->args->mountpoint,
		.options = d->args->given_options[0] ? d->args->given_options : NULL,
		.pid = getpid(),
		.started_s = (uint64_t)time(NULL),
		.read_only = d->args->options.read_only,
		.device_fd = d->kept.handles_fd >= 0 ? fs_device_fd(d->fs) : -1,
		.handles_fd = d->kept.handles_fd,
		.fault = d->fault,
		.unmount = service_unmount,
		.disk_changed = service_disk_changed,
		.disk_renamed = service_disk_renamed,
		.disk_removed = service_disk_removed,
		.disk_replaced = service_disk_replaced,
		.snapshot_removed = service_snapshot_removed,
		.vtds = d->vtds,
		.background = d->background,
		.ctx = d,
	};
}
