/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's life: open, serve, drain, close.
 *
 * Opened in this order: the metadata (which locks the pool), the queue threads,
 * the mount, the VTDs, the control socket. What the processes around it are, and
 * whom it reports to, is daemon_start.c's.
 *
 * The main thread then sleeps until one of three things happens: a signal, the
 * end of the mount (a small thread waits for that), or a line in the log.
 *
 *   SERVING -> (umount(8), bdfs umount: mount gone)              -> CLOSING
 *   SERVING -> (SIGTERM, SIGINT: unmount) -> ENDING -> mount gone -> CLOSING
 *   SERVING -> (CMD_REPLACE_SIGNAL: commit) -> exit, another daemon goes on
 *
 * ENDING: while files are open the unmount is tried again, for 10 s or until a
 * second signal; then the connection is ended under them. (Not lazily: a mount
 * that is out of the tree can't be ended any more.)
 * CLOSING: no more verbs, the mount's memory, the queues, the metadata (which
 * commits); then whoever waits for `bdfs umount` is answered, so that when that
 * command returns the pool can be opened again.
 *
 * Failure modes: each step's error undoes the steps before it and is reported. A
 * failed close is logged, answered and the exit status.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/park.h"
#include "cmd/background.h"
#include "cmd/control.h"
#include "cmd/daemon_internal.h"
#include "cmd/own_mount.h"
#include "cmd/replace.h"
#include "cmd/text.h"
#include "meta/io.h"

#define BUSY_PATIENCE_MS 5000 /* another command may hold the pool for a moment */
/* Of one that takes a mount over: whoever uses it waits for us anyway, and without us it is dead. */
#define TAKE_OVER_PATIENCE_MS 120000
#define BUSY_STEP_MS 50
#define END_PATIENCE_S 10
#define END_STEP_MS 200

/* ---- opening ------------------------------------------------------------------------------ */

void cmd_daemon_block_signals(void)
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

void cmd_daemon_begin(struct cmd_daemon *d, const struct cmd_daemon_args *args, const struct cmd_kept *kept)
{
	*d = (struct cmd_daemon){ .args = args, .kept = *kept, .gone_fd = -1, .signal_fd = -1, .log_fd = -1 };
	cmd_daemon_block_signals();
	cmd_env_prepare();
	umask(077);
}

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

static int open_meta(struct cmd_daemon *d, struct base_error *err)
{
	struct meta_pool_open_args args = {
		.dir = d->args->pool.directory,
		.leaf_cache_leaves = d->args->options.cache_bytes / META_LEAF_MEMORY_BYTES,
	};

	if (d->fault) {
		args.pv_ops = &meta_pv_fault;
		args.pv_ctx = &d->pv_fault;
	}
	/* By the clock: an attempt may itself wait for a dead daemon's last requests. */
	uint64_t patience_ms = d->kept.device_fd >= 0 ? TAKE_OVER_PATIENCE_MS : BUSY_PATIENCE_MS;
	uint64_t deadline_ns = base_clock_ns() + patience_ms * UINT64_C(1000000);

	for (;;) {
		int r = meta_pool_open(&args, &d->meta, err);

		if (r == 0)
			return cmd_own_mount_refuse_any(d->args->mountpoint, d->meta, err);
		if (r == -EBUSY && is_mounted(&d->args->pool, err))
			return r;
		if (r != -EBUSY || base_clock_ns() >= deadline_ns)
			return base_error_wrap(err, "%s", d->args->pool.name);
		base_sleep_ms(BUSY_STEP_MS);
	}
}

static int open_faults(struct cmd_daemon *d, struct base_error *err)
{
	const char *text = d->args->options.faults;
	int r = text[0] ? base_fault_open(text, &d->fault, err) : 0;

	d->pv_fault.fault = d->fault;
	return r;
}

static int open_ioc(struct cmd_daemon *d, struct base_error *err)
{
	const struct cmd_mount_options *o = &d->args->options;
	struct ioc_pool_args args = { .engine = o->engine[0] ? o->engine : NULL,
				      .queues = o->queues,
				      .fault = d->fault };

	return ioc_pool_open(d->meta, &args, &d->ioc, err);
}

static int open_fs(struct cmd_daemon *d, struct base_error *err)
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
static int open_vtds(struct cmd_daemon *d, struct base_error *err)
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

static int open_control(struct cmd_daemon *d, struct base_error *err)
{
	struct cmd_dispatch_args args = {
		.directory = d->args->pool.directory,
		.meta = d->meta,
		.ioc = d->ioc,
		.service = &d->service,
	};

	int r = cmd_background_start(d->meta, d->ioc, &d->background, err);

	cmd_daemon_fill_service(d);
	if (r == 0)
		r = cmd_dispatch_start(&args, &d->dispatch, err);
	if (r == 0 && d->args->options.hook[0])
		r = cmd_hook_start(d->args->options.hook, d->args->pool.name, d->meta, &d->hook, err);
	return r;
}

static void *wait_for_mount(void *arg)
{
	struct cmd_daemon *d = arg;

	fs_wait(d->fs);
	eventfd_write(d->gone_fd, 1);
	return NULL;
}

/* The main thread's own sources. */
static int open_events(struct cmd_daemon *d, struct base_error *err)
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

static int start_waiter(struct cmd_daemon *d, struct base_error *err)
{
	int r = -pthread_create(&d->waiter, NULL, wait_for_mount, d);

	return r < 0 ? base_error_set_errno(err, r, "can't start a thread") : 0;
}

/* ---- closing ------------------------------------------------------------------------------ */
static int close_meta(struct cmd_daemon *d, struct base_error *err)
{
	int r = d->meta ? meta_pool_close(d->meta, err) : 0;

	if (r < 0) {
		base_error_wrap(err, "%s: the pool could not be closed in order", d->args->pool.name);
		log_error("%s", err->text);
	}
	return r;
}

/* Everything behind the mount, which is gone or never came. Return: 0, negative errno with err. */
static int close_all(struct cmd_daemon *d, struct base_error *err)
{
	if (d->dispatch)
		cmd_dispatch_stop(d->dispatch);
	cmd_hook_stop(d->hook);
	vtd_table_free(d->vtds);
	d->vtds = NULL;
	cmd_background_stop(d->background);
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
void cmd_daemon_undo(struct cmd_daemon *d)
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
int cmd_daemon_open(struct cmd_daemon *d, struct base_error *err)
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
		cmd_daemon_undo(d);
	return r;
}

/* ---- serving ------------------------------------------------------------------------------ */
/*
 * Aborting the connection is root's right. Without it the process ends instead, which does the same to whoever
 * has files open; what they were told is committed first.
 */
static void force_end(struct cmd_daemon *d)
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
static void try_end(struct cmd_daemon *d)
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
static void make_way(struct cmd_daemon *d)
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

static void take_signal(struct cmd_daemon *d)
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

static void serve(struct cmd_daemon *d)
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

json_t *cmd_daemon_describe(const struct cmd_daemon *d)
{
	return json_pack("{s:o, s:o, s:i, s:s, s:o, s:o, s:i}", "pool", cmd_text_to_json(d->args->pool.name),
			 "mountpoint", cmd_text_to_json(d->args->mountpoint), "pid", (int)getpid(), "engine",
			 ioc_pool_engine_name(d->ioc), "engine_why", cmd_text_to_json(ioc_pool_engine_why(d->ioc)),
			 "faults", cmd_text_to_json(d->fault ? base_fault_text(d->fault) : NULL), "queues",
			 (int)ioc_pool_queue_count(d->ioc));
}

int cmd_daemon_serve(struct cmd_daemon *d, struct base_error *err)
{
	int r = start_waiter(d, err);

	if (r < 0) {
		cmd_daemon_undo(d);
		return r;
	}
	log_info("pool %s: mounted on %s, engine %s, %u queues", d->args->pool.name, d->args->mountpoint,
		 ioc_pool_engine_name(d->ioc), ioc_pool_queue_count(d->ioc));
	cmd_env_say_what_lacks();
	cmd_env_notify("READY=1");
	serve(d);
	pthread_join(d->waiter, NULL);
	return close_all(d, err);
}
