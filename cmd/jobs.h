/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for background jobs. Context: a command's own process. */
#ifndef CMD_JOBS_H
#define CMD_JOBS_H

#include "cmd/execute.h"

/*
 * Waits until the job, or with id NULL every job, has ended, and reports how far it is. A job that was cancelled is
 * not waited for.
 * Return: 0; -ECANCELED (the user wants no more); the error of a job that failed; others with err.
 */
MUST_CHECK int cmd_jobs_wait(const struct cmd_pool_ref *pool, const char *id, struct cmd_progress *progress,
			     struct base_error *err);

#endif
