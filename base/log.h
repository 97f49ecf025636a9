/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line a message, to standard error or, once the daemon is in the
 * background, to the log file or journal that standard error points to, with
 * syslog's <N> level prefix when under systemd (JOURNAL_STREAM is set).
 *
 * Context: any thread; may block on the log's file, so never on a hot path.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum base_log_level { BASE_LOG_ERROR = 3, BASE_LOG_WARNING = 4, BASE_LOG_INFO = 6, BASE_LOG_DEBUG = 7 };

/* Messages above this level are dropped. Default: BASE_LOG_INFO. */
void base_log_set_level(enum base_log_level level);
void base_log(enum base_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) base_log(BASE_LOG_ERROR, __VA_ARGS__)
#define log_warning(...) base_log(BASE_LOG_WARNING, __VA_ARGS__)
#define log_info(...) base_log(BASE_LOG_INFO, __VA_ARGS__)
#define log_debug(...) base_log(BASE_LOG_DEBUG, __VA_ARGS__)

#endif
