/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locking memory, see memory.h.
 *
 * MLOCK_ONFAULT (Linux 4.4) locks a page when it is first touched, so a pool of
 * buffers that is large for the worst case costs what the load has needed so
 * far. What must be there from the start, for the case that there is no memory
 * left at the first touch, is locked in full.
 *
 * A limit counts a locked range whole, touched or not. An ordinary user's is a
 * few MiB, so for him the refusal is the rule; PR_SET_IO_FLUSHER is what keeps
 * a page fault of ours from waiting for our own write-back all the same.
 *
 * Failure modes: refused: logged once a process, nothing else.
 */
#include "base/memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "base/types.h"

#define STACK_NOW_BYTES (64 * KIB)

void base_memory_lock(void *start, size_t bytes, size_t now_bytes)
{
	static atomic_bool said;
	int rc = mlock2(start, bytes, MLOCK_ONFAULT);

	if (rc == 0 && now_bytes > 0)
		rc = mlock(start, MIN(now_bytes, bytes));
	if (rc != 0 && !atomic_exchange(&said, true))
		log_info("the memory of requests can't be locked (%s): under memory pressure the daemon may be slow; "
			 "RLIMIT_MEMLOCK is what allows it",
			 strerror(errno));
}

void base_memory_lock_stack(void)
{
	pthread_attr_t attr;
	void *low;
	size_t bytes;

	if (pthread_getattr_np(pthread_self(), &attr) != 0)
		return;
	if (pthread_attr_getstack(&attr, &low, &bytes) == 0 && bytes > STACK_NOW_BYTES) {
		/* Stacks grow down: what is used first is at the upper end. */
		char *top = (char *)low + bytes - STACK_NOW_BYTES;

		base_memory_lock(low, bytes - STACK_NOW_BYTES, 0);
		base_memory_lock(top - (uintptr_t)top % (uintptr_t)sysconf(_SC_PAGESIZE), STACK_NOW_BYTES,
				 STACK_NOW_BYTES);
	}
	pthread_attr_destroy(&attr);
}
