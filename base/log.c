/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: one line a message, on standard error.
 *
 * Where standard error leads is not this file's business: a terminal, a file
 * that the daemon opened before it went to the background, or the journal. For
 * the journal (systemd sets JOURNAL_STREAM) each line starts with syslog's
 * "<N>" so that its level survives; for people it starts with the level's name
 * where it is not plain information.
 *
 * A message is formatted into one buffer and leaves in one write, so that
 * lines of several threads don't mix and a line is never torn by a crash
 * between its parts. Newlines inside a message would make two records of it
 * and let a name that a user chose forge a line: control characters become
 * '?'.
 *
 * Failure modes: a message that is too long is cut and ends in "..."; a log
 * that can't be written to loses the message, since there is nobody to tell.
 */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/types.h"

#define LINE_BYTES 2048

static _Atomic(int) log_level = BASE_LOG_INFO;
static bool to_journal; /* const after find_journal ran */
static pthread_once_t find_journal_once = PTHREAD_ONCE_INIT;

static void find_journal(void)
{
	to_journal = getenv("JOURNAL_STREAM") != NULL;
}

static const char *level_words(enum base_log_level level)
{
	switch (level) {
	case BASE_LOG_ERROR:
		return "error: ";
	case BASE_LOG_WARNING:
		return "warning: ";
	case BASE_LOG_INFO:
		return "";
	case BASE_LOG_DEBUG:
		return "debug: ";
	}
	return "";
}

static void write_all(const char *bytes, size_t count)
{
	while (count > 0) {
		ssize_t n = write(STDERR_FILENO, bytes, count);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		bytes += n;
		count -= (size_t)n;
	}
}

static size_t append_message(char *line, size_t used, const char *fmt, va_list args)
{
	size_t room = LINE_BYTES - 1 - used; /* one byte stays for the newline */
	int n = vsnprintf(line + used, room, fmt, args);

	if (n < 0)
		return used;
	if ((size_t)n >= room) {
		n = (int)room - 1;
		memcpy(line + used + n - 3, "...", 3);
	}
	for (size_t i = used; i < used + (size_t)n; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	return used + (size_t)n;
}

void base_log_set_level(enum base_log_level level)
{
	atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

void base_log(enum base_log_level level, const char *fmt, ...)
{
	char line[LINE_BYTES];
	size_t used;
	va_list args;
	int saved_errno = errno; /* a log line between a call and the look at its errno changes nothing */

	if ((int)level > atomic_load_explicit(&log_level, memory_order_relaxed))
		return;
	pthread_once(&find_journal_once, find_journal);
	if (to_journal)
		used = (size_t)snprintf(line, sizeof(line), "<%d>", (int)level);
	else
		used = (size_t)snprintf(line, sizeof(line), "bdfs: %s", level_words(level));
	errno = saved_errno; /* for %m */
	va_start(args, fmt);
	used = append_message(line, used, fmt, args);
	va_end(args);
	line[used++] = '\n';
	write_all(line, used);
	errno = saved_errno;
}
