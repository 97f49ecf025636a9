/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGBUS in memory of front ends.
 *
 * The list of guards is read by a signal handler, on any thread, so an entry is
 * never freed: a removed one is marked empty and used again. Writers have a
 * lock; the handler has none and reads an entry's end first, which is stored
 * last and cleared first.
 *
 * The handler passes on what is not ours to whoever was there before (LMDB's
 * guard, a sanitizer), as that one does.
 *
 * Failure modes: no memory for the anonymous mapping: the signal is passed on,
 * and ends the process. A mapping of huge pages is replaced as a whole, which is
 * why the range is kept as it was mapped.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "vtd/guard.h"

struct vtd_guard {
	struct vtd_guard *next; /* const once it is in the list */
	_Atomic uintptr_t start, end;
	_Atomic(_Atomic bool *) broken;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct vtd_guard *) list; /* writers: lock */
static pthread_once_t install_once = PTHREAD_ONCE_INIT;
static struct sigaction previous; /* const after install */

static bool mend(uintptr_t address)
{
	for (struct vtd_guard *g = atomic_load(&list); g; g = g->next) {
		uintptr_t end = atomic_load(&g->end), start = atomic_load(&g->start);

		if (address < start || address >= end)
			continue;
		/* A system call and nothing else, so safe in a handler, though POSIX does not list it. */
		if (mmap((void *)start, end - start, PROT_READ | PROT_WRITE,
			 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED)
			return false;
		_Atomic bool *broken = atomic_load(&g->broken);
		if (broken)
			atomic_store(broken, true);
		return true;
	}
	return false;
}

static void hand_on(int sig, siginfo_t *info, void *context)
{
	struct sigaction fallback = { .sa_handler = SIG_DFL };

	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(sig, info, context);
	} else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
		previous.sa_handler(sig);
	} else {
		sigaction(sig, &fallback,
			  NULL); /* the access is repeated, and ends the process with the right core */
		if (info->si_code <= 0)
			raise(sig);
	}
}

static void on_bus_error(int sig, siginfo_t *info, void *context)
{
	int saved = errno;

	if (info->si_code <= 0 || !mend((uintptr_t)info->si_addr))
		hand_on(sig, info, context);
	errno = saved;
}

static void install(void)
{
	struct sigaction action = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK };

	sigemptyset(&action.sa_mask);
	if (sigaction(SIGBUS, &action, &previous) < 0)
		abort(); /* fails only on arguments of ours that are wrong */
}

static struct vtd_guard *find_empty(void)
{
	struct vtd_guard *g = atomic_load(&list);

	while (g && atomic_load(&g->end))
		g = g->next;
	return g;
}

int vtd_guard_add(void *start, size_t bytes, _Atomic bool *broken, struct vtd_guard **ret)
{
	int rc = 0;

	pthread_once(&install_once, install);
	pthread_mutex_lock(&lock);
	struct vtd_guard *g = find_empty();
	bool is_new = !g;
	if (is_new)
		g = calloc(1, sizeof(*g));
	if (g) {
		atomic_store(&g->broken, broken);
		atomic_store(&g->start, (uintptr_t)start);
		atomic_store(&g->end, (uintptr_t)start + bytes);
		if (is_new) {
			g->next = atomic_load(&list);
			atomic_store(&list, g);
		}
		*ret = g;
	} else {
		rc = -ENOMEM;
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

void vtd_guard_remove(struct vtd_guard *guard)
{
	pthread_mutex_lock(&lock);
	atomic_store(&guard->end, 0);
	atomic_store(&guard->start, 0);
	atomic_store(&guard->broken, NULL);
	pthread_mutex_unlock(&lock);
}
