/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a queue thread runs, for a client that waits for each of its requests.
 *
 * Such a client and its queue thread take turns: while one runs, the other
 * waits. On one processor a turn costs a context switch. On two it costs an
 * interrupt that wakes a processor from its sleep, and in a virtual machine that
 * is an exit to the hypervisor each way, ten times the request itself. A
 * scheduler that sees an idle processor wakes the waiting thread there, and
 * once they run apart they stay apart.
 *
 * So a queue that has found its requests one by one for a while looks where the
 * client last ran, and moves there: it allows itself that processor alone, is
 * moved by that, and allows itself all others again. It is a hint: where the
 * scheduler spreads them again, it was for nothing, and cost some microseconds
 * for hundreds of requests. With several requests in flight there is work for
 * several processors, and the scheduler knows better.
 *
 * Failure modes: a client of another namespace of processes, one that has gone,
 * a processor that we may not run on: nothing is moved.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/internal.h"

/* "processor", the 39th field of /proc/PID/stat, proc(5); the 3rd is the first after the name's parenthesis. */
#define FIELDS_BEFORE_PROCESSOR 36

/* The processor that a thread last ran on; negative: not known. */
static int processor_of(pid_t thread)
{
	char path[32], text[1024];
	const char *at;
	ssize_t n;
	int fd, processor;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)thread);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	at = strrchr(text, ')'); /* a name may have blanks and parentheses of its own */
	for (int i = 0; at && i <= FIELDS_BEFORE_PROCESSOR; i++)
		at = strchr(at + 1, ' ');
	return at && sscanf(at, "%d", &processor) == 1 ? processor : -1;
}

void fs_follow(pid_t client)
{
	int processor = client > 0 ? processor_of(client) : -1;
	cpu_set_t allowed, one;

	if (processor < 0 || processor >= CPU_SETSIZE || processor == sched_getcpu() ||
	    sched_getaffinity(0, sizeof(allowed), &allowed) < 0 || !CPU_ISSET(processor, &allowed))
		return;
	CPU_ZERO(&one);
	CPU_SET(processor, &one);
	if (sched_setaffinity(0, sizeof(one), &one) == 0)
		(void)sched_setaffinity(0, sizeof(allowed), &allowed);
}
