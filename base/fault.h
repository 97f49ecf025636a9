/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults on purpose: rules that say which operation of a pv goes wrong, and how.
 *
 * The engine's wrapper (iocore/engine_fault.c: data) and that of the pvs
 * (meta/pv_fault.c: syncs, discards, labels) ask before each operation. Both do
 * what the verdict says; nothing here does I/O on a pv.
 *
 * A rule is words with blanks or colons between; rules stand one a line, or with
 * semicolons between. docs/rehearse.md is the manual, base/fault_parse.c has the
 * table of words.
 *
 *   error=EIO op=write nth=100; delay=20ms op=sync; drop op=write rate=0.1%
 *
 * Rules may come from a file, which is read anew when it changes: so faults are
 * begun and ended while the pool is in use.
 *
 * Context: any thread; base_fault_judge takes a lock and may read the file of
 * rules, so it is not for a product's hot path without faults.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include "base/error.h"
#include "base/types.h"

struct base_fault;

enum base_fault_op { BASE_FAULT_READ, BASE_FAULT_WRITE, BASE_FAULT_SYNC, BASE_FAULT_DISCARD, BASE_FAULT_OPS };

enum base_fault_kind {
	BASE_FAULT_NONE,
	BASE_FAULT_ERROR, /* nothing is done; the answer is `error` */
	BASE_FAULT_TORN,  /* the first half is done; the answer is `error` */
	BASE_FAULT_SHORT, /* a read ends early, as at the end of a file cut off; a write goes in two pieces */
	BASE_FAULT_DROP,  /* nothing is done, and success is answered */
};

struct base_fault_verdict {
	enum base_fault_kind kind;
	int error;         /* negative errno */
	uint64_t delay_ns; /* before anything else */
};

/*
 * text: rules, or the absolute path of a file with rules (it must be there).
 * Return: 0; -EINVAL with err naming the word that is wrong; errors of the file; -ENOMEM.
 */
MUST_CHECK int base_fault_open(const char *text, struct base_fault **ret, struct base_error *err);
void base_fault_close(struct base_fault *fault); /* NULL is fine */

/* Which pv a descriptor is: for pv=N and the log. fd may be any that is open until it is named again; number below
 * 4096. */
void base_fault_name_device(struct base_fault *fault, int fd, unsigned number);

/* fd: of the pv. Counts and logs what it orders; the log is bounded to some lines a second. */
struct base_fault_verdict base_fault_judge(struct base_fault *fault, enum base_fault_op op, int fd, uint64_t offset,
					   uint64_t bytes);

const char *base_fault_text(const struct base_fault *fault); /* as given to the open */
uint64_t base_fault_count(struct base_fault *fault);         /* faults ordered so far; any thread */

#endif
