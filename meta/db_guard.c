/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard around LMDB's map.
 *
 * A page of a mapped file that can't be read (a bad sector, a file cut short)
 * is delivered as SIGBUS to the thread that touched it; a wild pointer of a
 * damaged page that lands in the map but can't be served is SIGSEGV. Both would
 * end the daemon, and with it all the disks that have nothing to do with it.
 *
 * Happy path: db_guard_run() remembers where it stands (sigsetjmp), publishes
 * its guard in a thread-local pointer, calls the function, takes the pointer
 * back. Two stores and a setjmp: no system call, since the handler runs without
 * blocking its own signal (SA_NODEFER) and there is no mask to restore.
 *
 * Fault: the handler finds the guard of its thread, sees that the kernel raised
 * the signal (si_code > 0) for an address in the guard's range, and jumps. What
 * the called function held, it still holds: db.c marks the environment dead.
 *
 * Everything else keeps its meaning. The handler is installed once, remembers
 * what was there and hands on: to a handler in its own style (sanitizers, crash
 * reporters); or back to the default action, by restoring it and returning, so
 * that the access is repeated and ends the process with the right signal,
 * address and core dump.
 *
 * Failure modes: a fault while the function holds a lock of the C library
 * would leave that lock held. LMDB copies out of its map into memory it has
 * already allocated and calls nothing of the kind with a pointer into the map.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "meta/db_guard.h"

struct guard {
	sigjmp_buf jump;
	const struct db_guard_range *range; /* NULL: any address, SIGBUS only */
};

static _Thread_local struct guard *volatile current;

/* Const after install ran. */
static struct sigaction previous_bus;
static struct sigaction previous_segv;
static pthread_once_t install_once = PTHREAD_ONCE_INIT;

static bool covers(const struct guard *guard, int sig, const siginfo_t *info)
{
	uintptr_t address = (uintptr_t)info->si_addr;

	if (info->si_code <= 0)
		return false; /* sent by kill() or the like: not an access of ours */
	if (!guard->range)
		return sig == SIGBUS;
	return address >= guard->range->start && address < guard->range->end;
}

/* Only async-signal-safe calls here. */
static void hand_on(const struct sigaction *previous, int sig, siginfo_t *info, void *context)
{
	struct sigaction fallback = { .sa_handler = SIG_DFL };

	if (previous->sa_flags & SA_SIGINFO) {
		previous->sa_sigaction(sig, info, context);
		return;
	}
	if (previous->sa_handler != SIG_DFL && previous->sa_handler != SIG_IGN) {
		previous->sa_handler(sig);
		return;
	}
	if (previous->sa_handler == SIG_IGN && info->si_code <= 0)
		return;
	sigaction(sig, &fallback, NULL);
	if (info->si_code <= 0)
		raise(sig); /* nothing will be repeated, so it has to be said again */
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	struct guard *guard = current;

	if (guard && covers(guard, sig, info)) {
		current = NULL;
		siglongjmp(guard->jump, 1);
	}
	hand_on(sig == SIGBUS ? &previous_bus : &previous_segv, sig, info, context);
}

static void install(void)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK };

	sigemptyset(&action.sa_mask);
	if (sigaction(SIGBUS, &action, &previous_bus) < 0 || sigaction(SIGSEGV, &action, &previous_segv) < 0) {
		log_error("no handler for read errors of the metadata could be installed: %m");
		abort(); /* sigaction fails only on arguments of ours that are wrong */
	}
}

int db_guard_run(const struct db_guard_range *range, int (*fn)(void *arg), void *arg)
{
	struct guard guard = { .range = range };

	pthread_once(&install_once, install);
	assert(!current);
	if (sigsetjmp(guard.jump, 0) != 0)
		return DB_GUARD_FAULT;
	current = &guard;

	int rc = fn(arg);

	current = NULL;
	return rc;
}

void db_guard_escape(void)
{
	struct guard *guard = current;

	if (!guard)
		return;
	current = NULL;
	siglongjmp(guard->jump, 1);
}

int db_guard_find_mapping(const void *address, uint64_t map_bytes, struct db_guard_range *ret)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char *line = NULL;
	size_t room = 0;
	int rc = -ENOENT;

	if (!maps)
		return -errno;
	while (rc == -ENOENT && getline(&line, &room, maps) > 0) {
		uintptr_t start, end;
		uint64_t file_offset;

		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*s %" SCNx64, &start, &end, &file_offset) != 3)
			continue;
		if ((uintptr_t)address < start || (uintptr_t)address >= end || file_offset != 0)
			continue;
		*ret = (struct db_guard_range){ .start = start, .end = start + map_bytes };
		rc = 0;
	}
	free(line);
	fclose(maps);
	return rc;
}
