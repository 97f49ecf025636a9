/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Choosing a device engine: by name, or by what works on this host.
 *
 * Without a name io_uring is tried first. Whether it works can only be found
 * out by doing it: a sysctl, a seccomp filter, an old kernel or a limit may
 * each forbid it, and a real ring that is armed and handed over once is the
 * probe. If it fails for such a reason the pool of threads serves and the
 * reason is kept for the log and `status`; a want that would stop any engine
 * (descriptors, say) is an error of the open instead. An engine asked for by
 * name is that engine or an error, never another.
 *
 * Wrappers stand over an engine and own it, and no engine knows about them:
 * "null" over the probed one, and over any of them the one that injects faults.
 *
 * Failure modes: what the engines report, with their text; -EINVAL for a name
 * that is none of ours or a depth of 0.
 */
#include <errno.h>
#include <string.h>

#include "iocore/engine_internal.h"

static int open_probed(const struct ioc_engine_args *args, struct ioc_engine **ret, const char **ret_why,
		       struct base_error *err)
{
	int rc = ioc_uring_open(args, ret, ret_why, err);

	/* Without a why it failed for something that threads would meet too. */
	if (rc == 0 || !*ret_why)
		return rc;
	return ioc_threads_open(args, ret, err);
}

static int open_null(const struct ioc_engine_args *args, struct ioc_engine **ret, const char **ret_why,
		     struct base_error *err)
{
	struct ioc_engine *below;
	int rc = open_probed(args, &below, ret_why, err);

	if (rc < 0)
		return rc;
	rc = ioc_null_open(args, below, ret, err);
	if (rc < 0)
		below->ops->close(below);
	return rc;
}

static int open_by_name(const char *name, const struct ioc_engine_args *args, struct ioc_engine **ret,
			const char **ret_why, struct base_error *err)
{
	const char *uring_why = NULL;

	if (!name)
		return open_probed(args, ret, ret_why, err);
	if (strcmp(name, "uring") == 0)
		return ioc_uring_open(args, ret, &uring_why, err);
	if (strcmp(name, "threads") == 0)
		return ioc_threads_open(args, ret, err);
	if (strcmp(name, "null") == 0)
		return open_null(args, ret, ret_why, err);
	return base_error_set(err, -EINVAL, "device engine %s: no such engine; there are %s", name, ioc_engine_names());
}

static int wrap_in_faults(struct base_fault *fault, struct ioc_engine **engine, struct base_error *err)
{
	struct ioc_engine *below = *engine;
	int rc = ioc_fault_open(fault, below, engine, err);

	if (rc < 0)
		below->ops->close(below);
	return rc;
}

int ioc_engine_open(const char *name, const struct ioc_engine_args *args, struct ioc_engine **ret, const char **ret_why,
		    struct base_error *err)
{
	const char *why = NULL;
	int rc;

	if (args->depth == 0)
		return base_error_set(err, -EINVAL, "device engine: a queue depth of 0 does no I/O; give 1 or more");
	rc = open_by_name(name, args, ret, &why, err);
	if (rc == 0 && args->fault)
		rc = wrap_in_faults(args->fault, ret, err);
	if (rc < 0)
		return rc;
	/* The refusal that the probe met is told by why; err is for failures. */
	if (err)
		*err = (struct base_error){ 0 };
	if (ret_why)
		*ret_why = why;
	return 0;
}

const char *ioc_engine_names(void)
{
	return "uring, threads, null";
}
