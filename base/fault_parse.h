/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of base/fault.h, between text and what is asked of them. Context: any thread, pure. */
#ifndef BASE_FAULT_PARSE_H
#define BASE_FAULT_PARSE_H

#include <limits.h>

#include "base/fault.h"

#define FAULT_RULES_MAX 32
#define FAULT_RATE_ONE UINT64_C(1000000000) /* rate is in parts of a thousand million */

struct fault_rule {
	enum base_fault_kind kind; /* NONE: only a delay */
	int error;                 /* negative errno */
	uint64_t delay_ns;
	/* What it is about; all of it must hold. */
	unsigned ops;              /* bit 1 << base_fault_op */
	unsigned device;           /* UINT_MAX = any */
	uint64_t from, to;         /* bytes of the pv: [from, to) */
	uint64_t skip;             /* "after=N": so many of those that match pass first */
	uint64_t every;            /* each so manieth; 0 = all */
	uint64_t count;            /* then no more; UINT64_MAX = no end */
	uint64_t begin_ns, end_ns; /* since the rules were read */
	uint64_t rate;             /* FAULT_RATE_ONE = always */
	/* Owner base/fault.c: how many it was about, how many it has hit. */
	uint64_t matched, ordered;
};

struct fault_rules {
	unsigned count;
	uint64_t seed; /* 0 = none given */
	struct fault_rule rules[FAULT_RULES_MAX];
};

/* Return: 0; -EINVAL, -E2BIG with err. *ret is undefined unless 0 is returned. */
MUST_CHECK int fault_parse(const char *text, struct fault_rules *ret, struct base_error *err);

#endif
