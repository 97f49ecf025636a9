/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The short-lived process that does for the daemon what its own threads must not: it
 * opens paths of the daemon's mount, and devices that lie on them.
 *
 * It is this same program, executed anew with VTD_HELPER_WORD as its first word, so it
 * has none of the daemon's descriptors, threads or memory. It waits for a line on its
 * standard input, so that its pid can be announced before it opens anything, does one
 * thing, and answers with one line: "ok TEXT" or "error ERRNO TEXT".
 *
 * Context: CTL; blocks until the helper has answered, VTD_HELPER_TIMEOUT_MS at most.
 */
#ifndef VTD_RUN_HELPER_H
#define VTD_RUN_HELPER_H

#include <sys/types.h>

#include "base/error.h"
#include "base/types.h"

#define VTD_HELPER_WORD "@helper"
#define VTD_HELPER_TIMEOUT_MS 20000
#define VTD_HELPER_ANSWER_BYTES 512

/*
 * words: NULL-terminated, what follows VTD_HELPER_WORD. started (may be NULL) is called with the helper's pid before
 * it may go on. ret_answer: the text behind "ok".
 * Return: 0; the negative errno that the helper answered, with err; -ETIMEDOUT (it was killed), -EIO (it ended without
 * an answer), others.
 */
MUST_CHECK int vtd_run_helper(const char *const words[], void (*started)(pid_t pid, void *ctx), void *ctx,
			      char ret_answer[VTD_HELPER_ANSWER_BYTES], struct base_error *err);

/* The helper's main: returns its exit status. Context: a process of its own. */
int vtd_helper_main(int argc, char *argv[]);

#endif
