/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What -o says to `bdfs mount` and to mount(8).
 *
 * Ours: ro, rw, allow_other, survive, engine=NAME, queues=N, cache=SIZE. For the kernel: noexec,
 * nodev, nosuid, noatime and their like. Of mount(8) and fstab, without a
 * meaning here: defaults, _netdev, nofail, auto, user, x-anything ... Anything
 * else is refused.
 *
 * Context: any thread, pure.
 */
#ifndef CMD_MOUNT_OPTIONS_H
#define CMD_MOUNT_OPTIONS_H

#include "base/error.h"
#include "base/types.h"
#include "base/units.h"
#include "iocore/pool.h"

#define CMD_QUEUES_MAX IOC_QUEUES_MAX
#define CMD_CACHE_BYTES_MIN MIB
#define CMD_CACHE_BYTES_MAX (UINT64_C(1) << 40)

struct cmd_mount_options {
	bool read_only;
	bool allow_other;
	bool survive;     /* a supervisor keeps the mount when the daemon dies */
	char engine[16];  /* "" = probe */
	char faults[512]; /* rules, or the absolute path of a file of rules (base/fault.h); "" = none */
	unsigned queues;  /* 0 = one a core */
	uint64_t cache_bytes; /* of memory for the map, 0 = the default */
	char hook[512];   /* absolute path of a program, "" = none */
	char kernel[256]; /* comma-separated, "" = none */
};

/*
 * An engine as it is asked for: NAME, or fault:RULES, or fault+NAME:RULES.
 * Return: 0; -EINVAL with err, which begins with `what`.
 */
MUST_CHECK int cmd_mount_engine_parse(const char *what, const char *text, struct cmd_mount_options *options,
				      struct base_error *err);

/* Adds what text says to *options. sloppy: unknown options are passed over. Return: 0; -EINVAL with err. */
MUST_CHECK int cmd_mount_options_parse(const char *text, bool sloppy, struct cmd_mount_options *options,
				       struct base_error *err);

/* What `-cache` and `-o cache=` say. Return: 0; -EINVAL with err, which begins with `what`. */
MUST_CHECK int cmd_mount_cache_set(const char *what, const struct base_size *size, struct cmd_mount_options *options,
				   struct base_error *err);

/* What `-hook` and `-o hook=` say. Return: 0; -EINVAL with err. */
MUST_CHECK int cmd_mount_hook_parse(const char *path, struct cmd_mount_options *options, struct base_error *err);

#endif
