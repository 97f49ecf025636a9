/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a mount.
 *
 *	prepare   the mount point is a free directory
 *	session   libfuse parses the options
 *	mount     the kernel has the mount; the descriptor of the device is ours
 *	init      INIT is answered; the descriptor becomes non-blocking
 *	serve     control workers, notifier, recorder, queue sources
 *	probe     a statfs from outside has been answered: fs_mount returns
 *	          ... until the kernel says that the mount is gone: fs_wait returns
 *	free      workers run out, disks that are still open are closed, memory goes
 *
 * A mount whose daemon died is taken over instead of mounted, if somebody kept
 * its descriptor: INIT is repeated to libfuse only, what was open is opened, and
 * the kernel sends its requests again (take_over.c).
 *
 * Each step undoes what was done before it when it fails; a mount that exists
 * by then is taken out of the tree and aborted.
 *
 * libfuse's messages go to our log; the last one also goes into the error of a
 * mount that fails, since libfuse itself says no more than "no". Mounting
 * without privileges is done by fusermount3, which libfuse calls.
 *
 * Failure modes: see fs.h. Opens that are left when the mount is gone (the
 * kernel drops the RELEASEs then) are closed in fs_free.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/internal.h"
#include "iocore/snapshot.h"

#define LIBFUSE_MESSAGE_BYTES 256

/* ---- what libfuse says -------------------------------------------------------------------- */

/* Of the thread that mounts, whose error has the text: libfuse says one line in several calls. Others only log. */
static _Thread_local struct {
	bool is_mounting;
	size_t bytes;
	char line[LIBFUSE_MESSAGE_BYTES];
} libfuse_said;

static void append_to_line(const char *fmt, va_list args)
{
	size_t room = sizeof(libfuse_said.line) - libfuse_said.bytes;
	int wrote = vsnprintf(libfuse_said.line + libfuse_said.bytes, room, fmt, args);

	if (wrote > 0)
		libfuse_said.bytes += MIN((size_t)wrote, room - 1);
}

static void take_libfuse_message(enum fuse_log_level level, const char *fmt, va_list args)
{
	int errno_before = errno;
	bool is_warning = level <= FUSE_LOG_WARNING && !libfuse_said.is_mounting;
	char *end;

	append_to_line(fmt, args);
	end = strchr(libfuse_said.line, '\n');
	if (end || libfuse_said.bytes + 1 == sizeof(libfuse_said.line)) {
		if (end)
			*end = '\0';
		base_log(is_warning ? BASE_LOG_WARNING : BASE_LOG_DEBUG, "libfuse: %s", libfuse_said.line);
		libfuse_said.bytes = 0;
	}
	errno = errno_before;
}

/* From here on what libfuse says is kept for an error. */
static void listen_to_libfuse(void)
{
	fuse_set_log_func(take_libfuse_message);
	libfuse_said.is_mounting = true;
	libfuse_said.bytes = 0;
	libfuse_said.line[0] = '\0';
	errno = 0;
}

const char *fs_libfuse_said(void)
{
	return libfuse_said.line;
}

/* ---- options ------------------------------------------------------------------------------ */

/* The text of -o. Return: 0 or -ENOMEM; the caller frees *ret. */
static int options_text(const struct fs_mount_args *args, char **ret)
{
	char fsname[NAME_BYTES_MAX + 16];
	int rc;

	*ret = NULL;
	snprintf(fsname, sizeof(fsname), "fsname=%s", args->source);
	rc = fuse_opt_add_opt_escaped(ret, fsname);
	/* default_permissions: the kernel checks modes and owners, as for any filesystem. */
	if (rc == 0)
		rc = fuse_opt_add_opt(ret, "subtype=bdfs,default_permissions");
	if (rc == 0 && args->allow_other)
		rc = fuse_opt_add_opt(ret, "allow_other");
	if (rc == 0 && args->options && args->options[0])
		rc = fuse_opt_add_opt(ret, args->options);
	/* Last, so that no option undoes it. */
	if (rc == 0 && args->read_only)
		rc = fuse_opt_add_opt(ret, "ro");
	return rc == 0 ? 0 : -ENOMEM;
}

static int new_session(struct fs_mount *fs, const struct fs_mount_args *args, struct base_error *err)
{
	struct fuse_args argv = FUSE_ARGS_INIT(0, NULL);
	char *options;
	int rc = options_text(args, &options);

	if (rc == 0 && (fuse_opt_add_arg(&argv, "bdfs") < 0 || fuse_opt_add_arg(&argv, "-o") < 0 ||
			fuse_opt_add_arg(&argv, options) < 0))
		rc = -ENOMEM;
	if (rc == 0) {
		listen_to_libfuse();
		fs->session = fuse_session_new(&argv, &fs_ops, sizeof(fs_ops), fs);
		if (!fs->session)
			rc = base_error_set(err, -EINVAL, "mount options \"%s\": %s", options, fs_libfuse_said());
	} else {
		base_error_set(err, rc, "no memory for mount options");
	}
	fuse_opt_free_args(&argv);
	free(options);
	return rc;
}

/* ---- mounting ----------------------------------------------------------------------------- */

static int check_device(struct base_error *err)
{
	if (access("/dev/fuse", F_OK) < 0)
		return base_error_set(err, -ENODEV,
				      "/dev/fuse is not there: this kernel has no FUSE (try \"modprobe fuse\")");
	return 0;
}

/* device_fd: of a mount that is there, or -1. */
static int mount_session(struct fs_mount *fs, int device_fd, struct base_error *err)
{
	char device[32];
	int rc = check_device(err);

	if (rc < 0)
		return rc;
	listen_to_libfuse();
	/* A place of this form is libfuse's sign that all but the serving has been done. */
	snprintf(device, sizeof(device), "/dev/fd/%d", device_fd);
	if (fuse_session_mount(fs->session, device_fd < 0 ? fs->mountpoint : device) != 0) {
		rc = errno ? -errno : -EPERM;
		return base_error_set(err, rc, "mounting on %s: %s", fs->mountpoint,
				      fs_libfuse_said()[0] ? fs_libfuse_said() : "fusermount3 refused, and said why");
	}
	fs->fd = fuse_session_fd(fs->session);
	return 0;
}

static int make_nonblocking(struct fs_mount *fs, struct base_error *err)
{
	int flags = fcntl(fs->fd, F_GETFL);

	/* A read that finds nothing is then waited for by the engine, without a thread of its own. */
	if (flags < 0 || fcntl(fs->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return base_error_set_errno(err, -errno, "the FUSE device");
	return 0;
}

/* Takes the mount away, whatever is open in it. */
static void tear_down(struct fs_mount *fs)
{
	int rc = fs_mount_point_unmount(fs->mountpoint, MNT_FORCE);

	if (rc < 0)
		rc = fs_mount_point_unmount(fs->mountpoint, MNT_FORCE | MNT_DETACH);
	if (rc < 0)
		log_warning("%s: unmounting: %s", fs->mountpoint, strerror(-rc));
}

/* ---- serving ------------------------------------------------------------------------------ */

static int start_threads(struct fs_mount *fs)
{
	int rc = fs_workers_start(&fs->ctl, "bdfs-fs-ctl", FS_CTL_WORKERS);

	if (rc < 0)
		return rc;
	rc = fs_workers_start(&fs->notifier, "bdfs-fs-note", 1);
	if (rc < 0)
		goto stop_ctl;
	rc = fs_recorder_start(fs);
	if (rc < 0)
		goto stop_notifier;
	return 0;

stop_notifier:
	fs_workers_stop(&fs->notifier);
stop_ctl:
	fs_workers_stop(&fs->ctl);
	return rc;
}

static void stop_threads(struct fs_mount *fs)
{
	fs_workers_stop(&fs->ctl);
	fs_workers_stop(&fs->notifier);
	fs_recorder_stop(fs);
}

static int probe(struct fs_mount *fs, struct base_error *err)
{
	int rc = fs_mount_point_probe(fs->mountpoint, FS_START_DEADLINE_MS);

	/* A mounter who may not look into a mount of another user's is told so by the kernel, not by us. */
	if (rc < 0 && rc != -EACCES)
		return base_error_set_errno(err, rc, "%s is mounted, but does not answer", fs->mountpoint);
	return 0;
}

static int serve(struct fs_mount *fs, struct base_error *err)
{
	int rc = start_threads(fs);

	if (rc < 0)
		return base_error_set_errno(err, rc, "starting threads for the mount");
	fs_transport_start(fs);
	rc = probe(fs, err);
	if (rc < 0) {
		tear_down(fs);
		fs_transport_wait(fs);
		stop_threads(fs);
	}
	return rc;
}

static int begin(struct fs_mount *fs, bool takes_over, struct base_error *err)
{
	int rc = takes_over ? fs_init_repeat(fs, err) : fs_init_answer(fs, err);

	if (rc == 0)
		rc = make_nonblocking(fs, err);
	if (rc < 0 || !takes_over)
		return rc;
	fs_take_over_opens(fs);
	rc = fs_take_over_requests(fs);
	return rc < 0 ? base_error_set_errno(err, rc, "%s: taking over the requests", fs->mountpoint) : 0;
}

static int mount_and_serve(struct fs_mount *fs, int device_fd, struct base_error *err)
{
	int rc = mount_session(fs, device_fd, err);

	if (rc < 0)
		return rc;
	rc = begin(fs, device_fd >= 0, err);
	if (rc == 0)
		rc = serve(fs, err);
	/* With nobody left to serve, closing the device aborts the connection. */
	if (rc < 0)
		fuse_session_unmount(fs->session);
	return rc;
}

/* ---- life --------------------------------------------------------------------------------- */

static struct fs_mount *new_mount(const struct fs_mount_args *args)
{
	struct fs_mount *fs = calloc(1, sizeof(*fs));
	struct meta_pool_info info;

	if (!fs)
		return NULL;
	if (fs_open_table_init(&fs->opens, ioc_pool_queue_count(args->ioc), fs_disk_close) < 0) {
		free(fs);
		return NULL;
	}
	fs->opens.close_snapshot = ioc_snapshot_close;
	meta_pool_info(args->meta, &info);
	snprintf(fs->pool_name, sizeof(fs->pool_name), "%s", info.name);
	fs->meta = args->meta;
	fs->ioc = args->ioc;
	fs->fd = -1;
	fs->read_only = args->read_only;
	fs->uid = geteuid();
	fs->gid = getegid();
	fs->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	fs_catalogue_touch(fs);
	atomic_init(&fs->next_directory, 1);
	pthread_mutex_init(&fs->directories_lock, NULL);
	pthread_mutex_init(&fs->lock, NULL);
	pthread_cond_init(&fs->ended, NULL);
	return fs;
}

/* Nothing of it runs any more. */
static void free_mount(struct fs_mount *fs)
{
	if (fs->session)
		fuse_session_destroy(fs->session);
	fs_directories_done(fs);
	fs_open_table_done(&fs->opens, fs_keep_modified, NULL);
	fs_handles_unmap(fs->handles);
	fs_transport_done(fs);
	pthread_cond_destroy(&fs->ended);
	pthread_mutex_destroy(&fs->lock);
	pthread_mutex_destroy(&fs->directories_lock);
	free(fs->mountpoint);
	free(fs);
}

static int prepare(struct fs_mount *fs, const struct fs_mount_args *args, struct base_error *err)
{
	int rc = args->handles_fd < 0 ? 0 : fs_handles_map(args->handles_fd, &fs->handles);

	if (rc < 0)
		return base_error_set_errno(err, rc, "the table of open files of %s", args->mountpoint);
	if (args->device_fd < 0)
		return fs_mount_point_prepare(args->mountpoint, &fs->mountpoint, err);
	fs->mountpoint = strdup(args->mountpoint);
	return fs->mountpoint ? 0 : base_error_set(err, -ENOMEM, "no memory for a mount");
}

int fs_mount(const struct fs_mount_args *args, struct fs_mount **ret, struct base_error *err)
{
	struct fs_mount *fs = new_mount(args);
	int rc;

	if (!fs)
		return base_error_set(err, -ENOMEM, "no memory for a mount");
	rc = prepare(fs, args, err);
	if (rc == 0 && (rc = fs_transport_init(fs)) < 0)
		base_error_set(err, rc, "no memory for the requests of a mount");
	if (rc == 0)
		rc = new_session(fs, args, err);
	if (rc == 0)
		rc = mount_and_serve(fs, args->device_fd, err);
	libfuse_said.is_mounting = false;
	if (rc < 0)
		free_mount(fs);
	else
		*ret = fs;
	return rc;
}

void fs_wait(struct fs_mount *fs)
{
	fs_transport_wait(fs);
}

static bool has_ended(struct fs_mount *fs)
{
	bool ended;

	pthread_mutex_lock(&fs->lock);
	ended = fs->queues_running == 0;
	pthread_mutex_unlock(&fs->lock);
	return ended;
}

int fs_unmount(struct fs_mount *fs, enum fs_unmount_how how)
{
	static const int flags[] = {
		[FS_UNMOUNT] = 0, [FS_UNMOUNT_LAZY] = MNT_DETACH, [FS_UNMOUNT_FORCE] = MNT_FORCE | MNT_DETACH
	};

	/* Once it is gone the path may be somebody else's mount. */
	if (has_ended(fs))
		return 0;
	return fs_mount_point_unmount(fs->mountpoint, flags[how]);
}

void fs_free(struct fs_mount *fs)
{
	fs_transport_wait(fs);
	/* What comes from here on is answered to nobody; libfuse need not complain. */
	fuse_session_exit(fs->session);
	stop_threads(fs);
	fuse_session_unmount(fs->session);
	/* The connection may have been aborted with the mount still in the tree. */
	fs_mount_point_clear(fs->mountpoint);
	free_mount(fs);
}

int fs_device_fd(const struct fs_mount *fs)
{
	return fs->fd;
}

const char *fs_mountpoint(const struct fs_mount *fs)
{
	return fs->mountpoint;
}

bool fs_has_shared_mmap(const struct fs_mount *fs)
{
	return fs->has_shared_mmap;
}
