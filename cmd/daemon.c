/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's life: fork, open, serve, drain, close.
 *
 * The command forks before anything is opened. The child leads a session of its
 * own and opens, in this order: the metadata (which locks the pool), the queue
 * threads, the mount, the control socket. When all of it answers it reports
 * success, or the error's text, over a socket pair; the command prints that and
 * exits. Only then does standard error go to the log, so that what goes wrong on
 * the way is seen by whoever typed the command. In the foreground there is no
 * fork and no report, all else is the same.
 *
 * With the option "survive" there is a process in between, the supervisor
 * (supervisor.c), which starts another daemon when one dies; that one finds the
 * mount there and takes it over.
 *
 * The main thread then sleeps until one of three things happens: a signal, the
 * end of the mount (a small thread waits for that), or a line in the log.
 *
 *   SERVING -> (umount(8), bdfs umount: mount gone)              -> CLOSING
 *   SERVING -> (SIGTERM, SIGINT: unmount) -> ENDING -> mount gone -> CLOSING
 *
 * ENDING: while files are open the unmount is tried again, for 10 s or until a
 * second signal; then the connection is ended under them. (Not lazily: a mount
 * that is out of the tree can't be ended any more.)
 * CLOSING: no more verbs, the mount's memory, the queues, the metadata (which
 * commits); then whoever waits for `bdfs umount` is answered, so that when that
 * command returns the pool can be opened again.
 *
 * Failure modes: each step's error undoes the steps before it and is reported.
 * If the command is interrupted before the report, the child finds nobody to
 * report to and undoes all. A failed close is logged, answered and the exit
 * status.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/park.h"
#include "cmd/control.h"
#include "cmd/daemon.h"
#include "cmd/frame.h"
#include "cmd/hook.h"
#include "cmd/replace.h"
#include "cmd/supervisor.h"
#include "cmd/text.h"
#include "fs/fs.h"
#include "iocore/pool.h"
#include "meta/io.h"
#include "meta/pool.h"
#include "meta/pv_fault.h"
#include "vtd/table.h"

#define BUSY_PATIENCE_MS 5000 /* another command may hold the pool for a moment */
#define BUSY_STEP_MS 50
#define HOLD_END_STEPS 20
#define CLOSED_PATIENCE_MS 200
#define CLOSED_STEP_MS 10
#define END_PATIENCE_S 10
#define END_STEP_MS 200
#define REPORT_TIMEOUT_MS 10000

struct daemon {
	const struct cmd_daemon_args *args;
	struct cmd_kept kept; /* by a supervisor, if there is one */
	struct base_fault *fault; /* NULL, or what goes wrong on purpose */
	struct meta_pv_fault_ctx pv_fault;
	struct meta_pool *meta;
	struct ioc_pool *ioc;
	struct fs_mount *fs;
	struct vtd_table *vtds;
	struct cmd_service service;
	struct cmd_dispatch *dispatch;
	struct cmd_hook *hook;
	pthread_t waiter;
	int gone_fd; /* eventfd: the mount is gone */
	int signal_fd;
	int log_fd;  /* inotify, or -1 */
	bool ending; /* a signal asked for the end */
	bool told_busy;
	uint64_t end_deadline_ns; /* when it comes although files are open */
};

static void pause_ms(int ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

/* ---- what the verbs see ------------------------------------------------------------------- */

/* True: there were some, and now there are none. */
static bool end_holds(struct daemon *d)
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
		pause_ms(BUSY_STEP_MS);
	}
	return any;
}

static int service_unmount(const struct cmd_service *service, bool lazy, struct base_error *err)
{
	struct daemon *d = service->ctx;
	int r = vtd_table_stop_all(d->vtds, lazy, err);

	if (r < 0)
		return base_error_wrap(err, "%s", service->mountpoint);
	r = fs_unmount(d->fs, lazy ? FS_UNMOUNT_LAZY : FS_UNMOUNT);
	/* Writes that are held for space keep their files open: they fail now, and their callers may close. */
	if (r == -EBUSY && end_holds(d))
		r = fs_unmount(d->fs, lazy ? FS_UNMOUNT_LAZY : FS_UNMOUNT);
	/* The kernel lets go of a file that was closed just now, a loop device's say, a moment later. */
	for (int i = 0; r == -EBUSY && i < CLOSED_PATIENCE_MS / CLOSED_STEP_MS; i++) {
		pause_ms(CLOSED_STEP_MS);
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
	struct daemon *d = service->ctx;

	fs_notify_changed(d->fs, number);
	vtd_table_resized(d->vtds, number);
}

static void service_disk_renamed(const struct cmd_service *service, uint64_t number, const char *old_name)
{
	fs_notify_renamed(((struct daemon *)service->ctx)->fs, number, old_name);
}

static void service_disk_removed(const struct cmd_service *service, uint64_t number, const char *name)
{
	fs_notify_removed(((struct daemon *)service->ctx)->fs, number, name);
}

static void service_disk_replaced(const struct cmd_service *service, uint64_t number)
{
	fs_notify_replaced(((struct daemon *)service->ctx)->fs, number);
}

static void service_snapshot_removed(const struct cmd_service *service, uint64_t number, uint64_t layer,
				     const char *name)
{
	fs_notify_snapshot_removed(((struct daemon *)service->ctx)->fs, number, layer, name);
}

static void fill_service(struct daemon *d)
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
		.ctx = d,
	};
}

/* ---- opening ------------------------------------------------------------------------------ */

/*
 * Asks the daemon that has the pool, if there is one, where it is mounted. Return: true, with err, when it
 * answered and the mount is there; one whose mount is gone already is about to close the pool.
 */
static bool is_mounted(const struct cmd_pool_ref *pool, struct base_error *err)
{
	struct cmd_mount_entry *entry = malloc(sizeof(*entry));
	struct cmd_outcome outcome = { 0 };
	json_t *args = json_object();
	char mountpoint[PATH_MAX];
	bool mounted = entry && cmd_control_call(pool->directory, "lssp", args, NULL, &outcome, NULL) == 0;
	const json_t *it = json_array_get(json_object_get(outcome.result, "pools"), 0);

	mounted = mounted &&
		  cmd_text_from_json(json_object_get(it, "mountpoint"), mountpoint, sizeof(mountpoint)) == 0 &&
		  cmd_mount_find(mountpoint, NULL, entry) == 0;
	if (mounted)
		base_error_set(err, -EBUSY, "%s: mounted already, on %s (pid %d)", pool->name, mountpoint,
			       meta_pool_holder_pid(pool->directory));
	json_decref(args);
	cmd_outcome_done(&outcome);
	free(entry);
	return mounted;
}

static int open_meta(struct daemon *d, struct base_error *err)
{
	struct meta_pool_open_args args = { .dir = d->args->pool.directory };

	if (d->fault) {
		args.pv_ops = &meta_pv_fault;
		args.pv_ctx = &d->pv_fault;
	}
	/* By the clock: an attempt may itself wait for a dead daemon's last requests. */
	uint64_t deadline_ns = base_clock_ns() + BUSY_PATIENCE_MS * UINT64_C(1000000);

	for (;;) {
		int r = meta_pool_open(&args, &d->meta, err);

		if (r == 0 || (r == -EBUSY && is_mounted(&d->args->pool, err)))
			return r;
		if (r != -EBUSY || base_clock_ns() >= deadline_ns)
			return base_error_wrap(err, "%s", d->args->pool.name);
		pause_ms(BUSY_STEP_MS);
	}
}

static int open_faults(struct daemon *d, struct base_error *err)
{
	const char *text = d->args->options.faults;
	int r = text[0] ? base_fault_open(text, &d->fault, err) : 0;

	d->pv_fault.fault = d->fault;
	return r;
}

static int open_ioc(struct daemon *d, struct base_error *err)
{
	const struct cmd_mount_options *o = &d->args->options;
	struct ioc_pool_args args = { .engine = o->engine[0] ? o->engine : NULL,
				      .queues = o->queues,
				      .fault = d->fault };

	return ioc_pool_open(d->meta, &args, &d->ioc, err);
}

static int open_fs(struct daemon *d, struct base_error *err)
{
	const struct cmd_mount_options *o = &d->args->options;
	struct fs_mount_args args = {
		.meta = d->meta,
		.ioc = d->ioc,
		.mountpoint = d->args->mountpoint,
		.source = d->args->pool.registered ? d->args->pool.name : d->args->pool.directory,
		.read_only = o->read_only,
		.allow_other = o->allow_other,
		.options = o->kernel[0] ? o->kernel : NULL,
		.handles_fd = d->kept.handles_fd,
		.device_fd = d->kept.device_fd,
	};
	int r = fs_mount(&args, &d->fs, err);

	if (r < 0 || d->kept.keeper_fd < 0 || d->kept.device_fd >= 0)
		return r;
	r = cmd_supervisor_keep(d->kept.keeper_fd, fs_device_fd(d->fs));
	return r < 0 ? base_error_set_errno(err, r, "can't hand the mount to its supervisor") : 0;
}

/* After the mount: loop devices lie on its files. What can't be served stops nothing, and lsmap says why. */
static int open_vtds(struct daemon *d, struct base_error *err)
{
	struct vtd_table_args args = { .meta = d->meta,
				       .ioc = d->ioc,
				       .directory = d->args->pool.directory,
				       .mountpoint = d->args->mountpoint,
				       .taken_over = d->kept.device_fd >= 0,
				       .read_only = d->args->options.read_only };
	int r = vtd_table_open(&args, &d->vtds, err);

	if (r == 0)
		vtd_table_start_all(d->vtds);
	return r;
}

static int open_control(struct daemon *d, struct base_error *err)
{
	struct cmd_dispatch_args args = {
		.directory = d->args->pool.directory,
		.meta = d->meta,
		.ioc = d->ioc,
		.service = &d->service,
	};

	fill_service(d);

	int r = cmd_dispatch_start(&args, &d->dispatch, err);

	if (r == 0 && d->args->options.hook[0])
		r = cmd_hook_start(d->args->options.hook, d->args->pool.name, d->meta, &d->hook, err);
	return r;
}

static void *wait_for_mount(void *arg)
{
	struct daemon *d = arg;

	fs_wait(d->fs);
	eventfd_write(d->gone_fd, 1);
	return NULL;
}

static void block_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, CMD_REPLACE_SIGNAL);
	sigprocmask(SIG_BLOCK, &set, NULL); /* before any thread is made, so in all of them */
}

/* The main thread's own sources. */
static int open_events(struct daemon *d, struct base_error *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, CMD_REPLACE_SIGNAL);
	d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	d->gone_fd = eventfd(0, EFD_CLOEXEC);
	if (d->signal_fd < 0 || d->gone_fd < 0)
		return base_error_set_errno(err, -errno, "can't set up the daemon");
	return 0;
}

static int start_waiter(struct daemon *d, struct base_error *err)
{
	int r = -pthread_create(&d->waiter, NULL, wait_for_mount, d);

	return r < 0 ? base_error_set_errno(err, r, "can't start a thread") : 0;
}

/* ---- closing ------------------------------------------------------------------------------ */

static int close_meta(struct daemon *d, struct base_error *err)
{
	int r = d->meta ? meta_pool_close(d->meta, err) : 0;

	if (r < 0) {
		base_error_wrap(err, "%s: the pool could not be closed in order", d->args->pool.name);
		log_error("%s", err->text);
	}
	return r;
}

/* Everything behind the mount, which is gone or never came. Return: 0, negative errno with err. */
static int close_all(struct daemon *d, struct base_error *err)
{
	if (d->dispatch)
		cmd_dispatch_stop(d->dispatch);
	cmd_hook_stop(d->hook);
	vtd_table_free(d->vtds);
	d->vtds = NULL;
	if (d->fs)
		fs_free(d->fs);
	if (d->ioc)
		ioc_pool_close(d->ioc);

	int r = close_meta(d, err);

	if (r == 0 && d->fs)
		log_info("pool %s: unmounted from %s, everything committed", d->args->pool.name, d->args->mountpoint);
	if (d->dispatch)
		cmd_dispatch_free(d->dispatch, r, err);
	base_fault_close(d->fault);
	if (d->signal_fd >= 0)
		close(d->signal_fd);
	if (d->gone_fd >= 0)
		close(d->gone_fd);
	if (d->log_fd >= 0)
		close(d->log_fd);
	return r;
}

/* Undoes a mount that nobody has been told of. */
static void undo(struct daemon *d)
{
	struct base_error ignored; /* the first error is the one to tell */

	vtd_table_free(d->vtds);
	d->vtds = NULL;
	if (d->fs) {
		if (fs_unmount(d->fs, FS_UNMOUNT_FORCE) < 0)
			log_error("%s: can't be unmounted again", d->args->mountpoint);
		fs_wait(d->fs);
	}
	close_all(d, &ignored);
}

/* On failure nothing is left open. */
static int open_all(struct daemon *d, struct base_error *err)
{
	int r = open_events(d, err);

	if (r == 0)
		r = open_faults(d, err);
	if (r == 0)
		r = open_meta(d, err);
	if (r == 0)
		r = open_ioc(d, err);
	if (r == 0)
		r = open_fs(d, err);
	if (r == 0)
		r = open_vtds(d, err);
	if (r == 0)
		r = open_control(d, err);
	if (r < 0)
		undo(d);
	return r;
}

/* ---- serving ------------------------------------------------------------------------------ */

/*
 * Aborting the connection is root's right. Without it the process ends instead, which does the same to whoever
 * has files open; what they were told is committed first.
 */
static void force_end(struct daemon *d)
{
	log_warning("pool %s: files are still open: ending the mount under them", d->args->pool.name);
	if (fs_unmount(d->fs, FS_UNMOUNT_FORCE) == 0)
		return;
	if (fs_unmount(d->fs, FS_UNMOUNT_LAZY) < 0)
		log_warning("pool %s: %s stays behind as a dead mount", d->args->pool.name, d->args->mountpoint);

	int r = meta_pool_commit(d->meta);

	if (r < 0)
		log_error("pool %s: the last commit failed (error %d)", d->args->pool.name, -r);
	_exit(r < 0 ? CMD_EXIT_NOT_COMPLETED : CMD_EXIT_OK);
}

/* One attempt; the mount's end is seen by who waits for it. */
static void try_end(struct daemon *d)
{
	int r = fs_unmount(d->fs, FS_UNMOUNT);

	if (r == -EBUSY && !d->told_busy)
		log_info("pool %s: files are open: waiting up to %d s for them", d->args->pool.name,
			 END_PATIENCE_S);
	d->told_busy |= r == -EBUSY;
	if (r < 0 && base_clock_ns() >= d->end_deadline_ns)
		force_end(d);
}

/* For a daemon that takes over: verbs end, nothing is unmounted, what is not answered is sent to that one. */
static void make_way(struct daemon *d)
{
	int r = d->kept.handles_fd < 0 ? -EOPNOTSUPP : meta_pool_commit(d->meta);

	if (r < 0) {
		log_error("pool %s: another daemon wants to take over, but %s: this one stays", d->args->pool.name,
			  r == -EOPNOTSUPP ? "the mount has no supervisor" : "the last commit failed");
		return;
	}
	cmd_dispatch_stop(d->dispatch);
	log_info("pool %s: another daemon takes over the mount: this one ends", d->args->pool.name);
	_exit(CMD_EXIT_OK);
}

static void take_signal(struct daemon *d)
{
	struct signalfd_siginfo info;

	if (read(d->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == CMD_REPLACE_SIGNAL) {
		make_way(d);
		return;
	}
	log_info("pool %s: %s: unmounting", d->args->pool.name,
		 info.ssi_signo == SIGINT ? "interrupted" : "terminated");
	cmd_env_notify("STOPPING=1");
	meta_hold_stop(d->meta);
	d->end_deadline_ns = base_clock_ns() + (d->ending ? 0 : END_PATIENCE_S * UINT64_C(1000000000));
	d->ending = true;
	if (vtd_table_stop_all(d->vtds, true, NULL) < 0)
		log_warning("pool %s: not every VTD could be stopped", d->args->pool.name);
	try_end(d);
}

static void serve(struct daemon *d)
{
	struct pollfd pfds[] = {
		{ .fd = d->gone_fd, .events = POLLIN },
		{ .fd = d->signal_fd, .events = POLLIN },
		{ .fd = d->log_fd, .events = POLLIN }, /* poll passes over -1 */
	};

	for (;;) {
		int n = poll(pfds, ARRAY_LEN(pfds), d->ending ? END_STEP_MS : -1);

		if (n < 0) /* EINTR: a debugger */
			continue;
		if (pfds[0].revents)
			return;
		if (n == 0)
			try_end(d);
		if (pfds[1].revents)
			take_signal(d);
		if (pfds[2].revents)
			cmd_log_turn(d->args->pool.directory, d->log_fd);
	}
}

static json_t *describe(struct daemon *d)
{
	return json_pack("{s:o, s:o, s:i, s:s, s:o, s:o, s:i}", "pool", cmd_text_to_json(d->args->pool.name),
			 "mountpoint", cmd_text_to_json(d->args->mountpoint), "pid", (int)getpid(), "engine",
			 ioc_pool_engine_name(d->ioc), "engine_why", cmd_text_to_json(ioc_pool_engine_why(d->ioc)),
			 "faults", cmd_text_to_json(d->fault ? base_fault_text(d->fault) : NULL), "queues",
			 (int)ioc_pool_queue_count(d->ioc));
}

static int serve_to_the_end(struct daemon *d, struct base_error *err)
{
	int r = start_waiter(d, err);

	if (r < 0) {
		undo(d);
		return r;
	}
	log_info("pool %s: mounted on %s, engine %s, %u queues", d->args->pool.name, d->args->mountpoint,
		 ioc_pool_engine_name(d->ioc), ioc_pool_queue_count(d->ioc));
	cmd_env_notify("READY=1");
	serve(d);
	pthread_join(d->waiter, NULL);
	return close_all(d, err);
}

/* ---- in the foreground -------------------------------------------------------------------- */

static void begin(struct daemon *d, const struct cmd_daemon_args *args, const struct cmd_kept *kept)
{
	*d = (struct daemon){ .args = args, .kept = *kept, .gone_fd = -1, .signal_fd = -1, .log_fd = -1 };
	block_signals();
	cmd_env_prepare();
	umask(077);
}

static int run_in_foreground(const struct cmd_daemon_args *args, json_t **ret_result, struct base_error *err)
{
	static const struct cmd_kept nothing = CMD_KEPT_NOTHING;
	struct daemon d;

	begin(&d, args, &nothing);

	int r = open_all(&d, err);

	if (r < 0)
		return r;

	json_t *result = describe(&d);

	r = serve_to_the_end(&d, err);
	if (r < 0) {
		json_decref(result);
		return r;
	}
	json_object_set_new(result, "ended", json_true());
	*ret_result = result;
	return 0;
}

/* ---- in the background -------------------------------------------------------------------- */

static int send_report(int fd, int code, json_t *result, const struct base_error *err)
{
	struct cmd_outcome outcome = { .code = code, .result = result };

	if (code < 0)
		outcome.err = *err;

	json_t *report = cmd_outcome_to_json(&outcome);
	int r = cmd_frame_send(fd, report, REPORT_TIMEOUT_MS);

	json_decref(report);
	cmd_outcome_done(&outcome);
	close(fd);
	return r;
}

/* The supervisor reads them from a descriptor; a daemon takes them off again. */
static void block_child_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

struct background {
	const struct cmd_daemon_args *args;
	int report_fd; /* -1: the command has its answer */
};

/* The first one, which is waited for. Return: the exit status. */
static int run_first(const struct background *b, const struct cmd_kept *kept)
{
	const struct cmd_daemon_args *args = b->args;
	struct base_error err = { 0 };
	struct daemon d;

	begin(&d, args, kept);

	int r = open_all(&d, &err);

	if (r == 0 && !cmd_env_is_journal()) {
		r = cmd_log_begin(args->pool.directory, &d.log_fd, &err);
		if (r < 0)
			undo(&d);
	}
	if (r < 0)
		return send_report(b->report_fd, r, NULL, &err) < 0 ? CMD_EXIT_NOT_COMPLETED : CMD_EXIT_OK;
	if (send_report(b->report_fd, 0, describe(&d), NULL) < 0) {
		log_warning("pool %s: the mount command went away: unmounting again", args->pool.name);
		undo(&d);
		return CMD_EXIT_NOT_COMPLETED;
	}
	r = serve_to_the_end(&d, &err);
	return r < 0 ? CMD_EXIT_NOT_COMPLETED : CMD_EXIT_OK;
}

/* One that comes after a dead one. Return: the exit status. */
static int run_next(const struct cmd_daemon_args *args, const struct cmd_kept *kept)
{
	struct base_error err = { 0 };
	struct daemon d;

	begin(&d, args, kept);

	int r = args->foreground || cmd_env_is_journal() ? 0 : cmd_log_begin(args->pool.directory, &d.log_fd, &err);

	log_warning("pool %s: the daemon was ended by signal %d (%s): another one takes over the mount",
		    args->pool.name, kept->signal, strsignal(kept->signal));
	if (r == 0)
		r = open_all(&d, &err);
	if (r == 0)
		r = serve_to_the_end(&d, &err);
	if (r < 0)
		log_error("%s", err.text);
	return r < 0 ? CMD_EXIT_NOT_COMPLETED : CMD_EXIT_OK;
}

static int run_daemon(void *ctx, const struct cmd_kept *kept)
{
	const struct background *b = ctx;

	return b->report_fd >= 0 ? run_first(b, kept) : run_next(b->args, kept);
}

/* The supervisor: what it has of the command's must not keep a terminal or the command waiting. */
static void detach(void *ctx)
{
	struct background *b = ctx;
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	close(b->report_fd);
	b->report_fd = -1;
	for (int fd = 0; fd <= 2 && null_fd >= 0; fd++)
		dup2(null_fd, fd);
	if (null_fd > 2)
		close(null_fd);
}

static void tell_given_up(const struct cmd_daemon_args *args, int status)
{
	int watch_fd;

	if (!cmd_env_is_journal() && cmd_log_begin(args->pool.directory, &watch_fd, NULL) < 0)
		return;
	log_error("pool %s: the daemon was ended by signal %d, and no other one is started: %s is dead; mount again",
		  args->pool.name, status - 128, args->mountpoint);
}

/*
 * What the command has inherited must not stay open as long as the daemon lives: least of all a file in the mount
 * that it takes over.
 */
static void close_inherited(int report_fd, const struct cmd_kept *kept)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		int fd = atoi(entry->d_name);

		if (fd > STDERR_FILENO && fd != dirfd(dir) && fd != report_fd && fd != kept->device_fd &&
		    fd != kept->handles_fd)
			close(fd);
	}
	if (dir)
		closedir(dir);
}

/* The child. Does not return. */
static void run_in_background(const struct cmd_daemon_args *args, const struct cmd_kept *kept, int report_fd)
{
	struct background b = { .args = args, .report_fd = report_fd };
	struct base_error err = { 0 };

	setsid();
	close_inherited(report_fd, kept);
	if (chdir("/") < 0)
		log_debug("can't leave the working directory: %m");
	if (!args->options.survive)
		exit(run_daemon(&b, kept)); /* not _exit: a sanitizer reports leaks at exit */
	block_signals();
	block_child_signals();

	int r = cmd_supervise(run_daemon, detach, &b, kept, &err);

	if (r < 0 && b.report_fd >= 0)
		(void)send_report(b.report_fd, r, NULL, &err);
	if (r >= 128)
		tell_given_up(args, r);
	exit(r < 0 ? CMD_EXIT_NOT_COMPLETED : r);
}

static int await_report(int fd, pid_t child, json_t **ret_result, struct base_error *err)
{
	struct cmd_outcome outcome = { 0 };
	json_t *report;
	int status = 0;
	int r = cmd_frame_receive(fd, CMD_REQUEST_BYTES_MAX, -1, &report);

	if (r == 0) {
		r = cmd_outcome_from_json(report, &outcome);
		json_decref(report);
	}
	if (r == 0 && outcome.code == 0) {
		*ret_result = outcome.result;
		return 0;
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return base_error_set(err, -EIO, "the daemon ended (%s %d) before the mount was there",
				      WIFSIGNALED(status) ? "signal" : "status",
				      WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	if (err)
		*err = outcome.err;
	return outcome.code;
}

/* ---- in the foreground, with a supervisor ------------------------------------------------- */

static int run_child(void *ctx, const struct cmd_kept *kept)
{
	const struct cmd_daemon_args *args = ctx;
	struct base_error err = { 0 };
	struct daemon d;

	if (kept->device_fd >= 0)
		return run_next(args, kept);
	begin(&d, args, kept);

	int r = open_all(&d, &err);

	if (r == 0)
		r = serve_to_the_end(&d, &err);
	if (r < 0)
		log_error("%s", err.text);
	return r < 0 ? CMD_EXIT_NOT_COMPLETED : CMD_EXIT_OK;
}

static int supervise_in_foreground(const struct cmd_daemon_args *args, json_t **ret_result, struct base_error *err)
{
	fflush(NULL);
	block_signals();
	block_child_signals();

	struct cmd_kept kept = CMD_KEPT_NOTHING;
	int r = cmd_supervise(run_child, NULL, (void *)args, &kept, err);

	if (r < 0)
		return r;
	if (r > 0)
		return base_error_set(err, -EIO, "%s: the daemon ended with status %d, see the messages above",
				      args->pool.name, r);
	*ret_result = json_pack("{s:o, s:o, s:b}", "pool", cmd_text_to_json(args->pool.name), "mountpoint",
				cmd_text_to_json(args->mountpoint), "ended", 1);
	return 0;
}

int cmd_daemon_start(const struct cmd_daemon_args *args, json_t **ret_result, struct base_error *err)
{
	struct cmd_kept kept = CMD_KEPT_NOTHING;
	uint64_t began_ns = base_clock_ns();
	int fds[2];

	if (args->foreground)
		return args->options.survive ? supervise_in_foreground(args, ret_result, err) :
					       run_in_foreground(args, ret_result, err);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return base_error_set_errno(err, -errno, "can't start the daemon");
	fflush(NULL); /* nothing buffered is to come out twice */
	if (args->replace) {
		int rc = cmd_replace_begin(args, &kept, err);

		if (rc < 0)
			return rc;
	}

	pid_t child = fork();

	if (child == 0) {
		close(fds[0]);
		run_in_background(args, &kept, fds[1]);
	}
	close(fds[1]);

	int r = child < 0 ? base_error_set_errno(err, -errno, "can't start the daemon")
			  : await_report(fds[0], child, ret_result, err);

	close(fds[0]);
	if (r == 0 && args->replace)
		json_object_set_new(*ret_result, "replaced_ms",
				    json_integer((json_int_t)((base_clock_ns() - began_ns) / 1000000)));
	return r;
}
