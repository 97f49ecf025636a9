/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running the hook, see hook.h.
 *
 * One thread follows the ring of events like any other follower and, for those
 * that are alarms, starts the program and waits for its end: one run at a time,
 * in order, none of them by a shell and none on a thread that serves anybody.
 *
 * The program is called as   HOOK EVENT POOL   and finds more in its environment:
 * BDFS_TEXT (a sentence), BDFS_SUBJECT, BDFS_VALUE, BDFS_LIMIT, BDFS_TIME, and
 * BDFS_LOST, how many events were missed since the last run. Its input is empty,
 * what it prints goes where the daemon's messages go. It leads a process group
 * of its own and is killed with that after RUN_PATIENCE_MS.
 *
 * Failure modes: a hook that can't be run, fails or is killed is a line in the
 * log. One that is slower than the alarms misses some: see BDFS_LOST.
 */
#include "cmd/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/park.h"
#include "cmd/event_text.h"

#define RUN_PATIENCE_MS 30000
#define STOP_PATIENCE_MS 2000
#define STEP_MS 10
#define LOOK_NS UINT64_C(1000000000)
#define VARIABLES 7

struct cmd_hook {
	char *path, *pool; /* const */
	struct meta_pool *meta;
	pthread_t thread;
	atomic_bool stop;
};

int cmd_hook_check(const char *path, struct base_error *err)
{
	struct stat st;

	if (path[0] != '/')
		return base_error_set(err, -EINVAL, "hook %s: must be an absolute path", path);
	if (stat(path, &st) < 0 || access(path, X_OK) < 0)
		return base_error_set_errno(err, -errno, "hook %s: can't be run", path);
	if (!S_ISREG(st.st_mode))
		return base_error_set(err, -EINVAL, "hook %s: is no program", path);
	return 0;
}

/* ---- one run ------------------------------------------------------------------------------ */

struct environment {
	char text[VARIABLES][CMD_EVENT_TEXT_BYTES + 16];
	char *list[VARIABLES + 1];
};

static void fill_environment(struct environment *env, const struct meta_event *event, uint64_t lost)
{
	char text[CMD_EVENT_TEXT_BYTES];
	size_t room = sizeof(env->text[0]);

	snprintf(env->text[0], room, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	snprintf(env->text[1], room, "BDFS_TEXT=%s", cmd_event_to_text(event, text));
	snprintf(env->text[2], room, "BDFS_SUBJECT=%s", event->subject);
	snprintf(env->text[3], room, "BDFS_VALUE=%" PRIu64, event->value);
	snprintf(env->text[4], room, "BDFS_LIMIT=%" PRIu64, event->limit);
	snprintf(env->text[5], room, "BDFS_TIME=%" PRIu64, event->when_s);
	snprintf(env->text[6], room, "BDFS_LOST=%" PRIu64, lost);
	for (unsigned i = 0; i < VARIABLES; i++)
		env->list[i] = env->text[i];
	env->list[VARIABLES] = NULL;
}

/* The daemon's threads have all signals blocked; the program begins as one from a shell would. */
static int spawn(struct cmd_hook *hook, const struct meta_event *event, uint64_t lost, pid_t *ret)
{
	char *argv[] = { hook->path, (char *)(uintptr_t)meta_event_kind_to_text(event->kind), hook->pool, NULL };
	posix_spawn_file_actions_t files;
	struct environment env;
	posix_spawnattr_t attr;
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	fill_environment(&env, event, lost);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	int rc = -posix_spawn(ret, hook->path, &files, &attr, argv, env.list);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return rc;
}

static void await(struct cmd_hook *hook, pid_t pid)
{
	unsigned waited_ms = 0, stopping_ms = 0;
	bool killed = false;
	int status = 0;

	while (waitpid(pid, &status, killed ? 0 : WNOHANG) == 0) {
		base_sleep_ms(STEP_MS);
		waited_ms += STEP_MS;
		stopping_ms += atomic_load(&hook->stop) ? STEP_MS : 0;
		killed = waited_ms >= RUN_PATIENCE_MS || stopping_ms >= STOP_PATIENCE_MS;
		if (killed)
			kill(-pid, SIGKILL);
	}
	if (killed)
		log_warning("hook %s: took too long and was killed", hook->path);
	else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		log_warning("hook %s: failed (status %d)", hook->path, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/* ---- the thread --------------------------------------------------------------------------- */

static void *hook_main(void *arg)
{
	struct cmd_hook *hook = arg;
	uint64_t cursor = 0, lost_here, lost = 0; /* from the first event on: the pool may have been opened alarmed */
	struct meta_event event;
	pid_t pid;

	while (!atomic_load(&hook->stop)) {
		int r = meta_event_next(hook->meta, &cursor, &event, &lost_here);

		lost += lost_here;
		if (r == META_EVENT_NONE) {
			meta_event_wait(hook->meta, cursor, LOOK_NS);
			continue;
		}
		if (!meta_event_is_alarm(event.kind))
			continue;
		r = spawn(hook, &event, lost, &pid);
		if (r < 0)
			log_warning("hook %s: can't be run: %s", hook->path, strerror(-r));
		else
			await(hook, pid);
		lost = 0;
	}
	return NULL;
}

static void hook_free(struct cmd_hook *hook)
{
	free(hook->path);
	free(hook->pool);
	free(hook);
}

int cmd_hook_start(const char *path, const char *pool, struct meta_pool *meta, struct cmd_hook **ret,
		   struct base_error *err)
{
	struct cmd_hook *hook = calloc(1, sizeof(*hook));
	int r = -ENOMEM;

	if (!hook)
		return base_error_set_errno(err, r, "hook %s", path);
	hook->path = strdup(path);
	hook->pool = strdup(pool);
	hook->meta = meta;
	if (hook->path && hook->pool)
		r = base_thread_start(&hook->thread, "bdfs-hook", hook_main, hook);
	if (r < 0) {
		hook_free(hook);
		return base_error_set_errno(err, r, "hook %s", path);
	}
	*ret = hook;
	return 0;
}

void cmd_hook_stop(struct cmd_hook *hook)
{
	if (!hook)
		return;
	atomic_store(&hook->stop, true);
	pthread_join(hook->thread, NULL);
	hook_free(hook);
}
