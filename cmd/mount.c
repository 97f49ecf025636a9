/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount: mounts a pool and leaves a daemon that serves it.
 *
 * `bdfs mount POOL MOUNTPOINT` returns when the mount answers. The options of
 * its own (-ro, -allow-other, -survive, -engine, -queues, -cache) and those in -o mean the same;
 * mount(8)'s helper comes here with -o only.
 *
 * The mount point must not hide the pool: a mount over its own directory would
 * lie on top of the control socket, and the next `bdfs umount` would not find
 * the daemon.
 *
 * Failure modes: those of options (1); the pool is mounted already, with where
 * and by whom (4); the mount point is not there (2); no FUSE in the kernel (2);
 * everything that opening a pool can say.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/daemon.h"
#include "cmd/hook.h"
#include "cmd/own_mount.h"
#include "cmd/paths.h"
#include "cmd/replace.h"
#include "cmd/text.h"

static const struct cmd_option options[] = {
	{ "pool", NULL, CMD_TEXT, CMD_POSITIONAL | CMD_REQUIRED, "POOL", "its name, or the path of its directory" },
	{ "mountpoint", NULL, CMD_TEXT, CMD_POSITIONAL | CMD_REQUIRED, "MOUNTPOINT", "a directory" },
	{ "o", NULL, CMD_TEXT, 0, "OPTIONS", "mount options, with commas between: see mount.bdfs(8)" },
	{ "ro", NULL, CMD_FLAG, 0, NULL, "read-only" },
	{ "allow-other", "allow_other", CMD_FLAG, 0, NULL, "for all users, by the files' permissions" },
	{ "survive", NULL, CMD_FLAG, 0, NULL,
	  "keep the mount when the daemon dies, and start another: open files wait instead of failing (Linux 6.9)" },
	{ "replace", NULL, CMD_FLAG, 0, NULL,
	  "take over from the daemon that serves MOUNTPOINT (mounted with -survive): for upgrades, files stay open" },
	{ "engine", NULL, CMD_TEXT, 0, "NAME",
	  "uring or threads, instead of what works best here; or fault:RULES, to rehearse" },
	{ "queues", NULL, CMD_NUMBER, 0, "N", "queue threads (one a core, at most 8)" },
	{ "cache", NULL, CMD_SIZE, 0, "SIZE",
	  "memory for the disks' maps, 1M to 1T (288M); a bare number counts megabytes" },
	{ "hook", NULL, CMD_TEXT, 0, "PROGRAM", "a program to run for each alarm, see `bdfs help alert`" },
	{ "foreground", "f", CMD_FLAG, 0, NULL, "serve in this process, with messages on standard error" },
	{ "sloppy", NULL, CMD_FLAG, 0, NULL, "pass over unknown mount options" },
	{ 0 },
};

static int read_options(const json_t *args, struct cmd_daemon_args *d, struct base_error *err)
{
	struct cmd_mount_options *o = &d->options;
	char text[sizeof(o->faults) + 64];
	int64_t queues = cmd_arg_number(args, "queues", 0);
	struct base_size cache;
	int r = cmd_arg_text(args, "o", d->given_options, sizeof(d->given_options), err);

	if (r == 0)
		r = cmd_mount_options_parse(d->given_options, cmd_arg_flag(args, "sloppy"), o, err);
	if (r < 0)
		return r;
	o->read_only |= cmd_arg_flag(args, "ro");
	o->allow_other |= cmd_arg_flag(args, "allow-other");
	o->survive |= cmd_arg_flag(args, "survive");
	if (queues > CMD_QUEUES_MAX || (queues == 0 && cmd_arg_is_set(args, "queues")))
		return base_error_set(err, -EINVAL, "-queues %lld: must be from 1 to %d", (long long)queues,
				      CMD_QUEUES_MAX);
	if (queues)
		o->queues = (unsigned)queues;
	if (cmd_arg_size(args, "cache", &cache) == 0)
		r = cmd_mount_cache_set("-cache", &cache, o, err);
	if (r < 0)
		return r;
	r = cmd_arg_text(args, "hook", text, sizeof(text), err);
	if (r == 0)
		r = cmd_mount_hook_parse(text, o, err);
	if (r >= 0 && o->hook[0])
		r = cmd_hook_check(o->hook, err);
	if (r < 0 || !cmd_arg_is_set(args, "engine"))
		return r < 0 ? r : 0;
	r = cmd_arg_text(args, "engine", text, sizeof(text), err);
	if (r == -ENAMETOOLONG)
		return base_error_set(err, -EINVAL, "-engine: too long");
	return r < 0 ? r : cmd_mount_engine_parse("-engine ", text, o, err);
}

static int find_places(struct cmd_context *ctx, const json_t *args, struct cmd_daemon_args *d, struct base_error *err)
{
	char text[PATH_MAX];
	int r = cmd_arg_text(args, "pool", text, sizeof(text), err);

	if (r == 0)
		r = cmd_registry_find(text, &d->pool, err);
	if (r < 0) {
		ctx->subject = CMD_SUBJECT_POOL;
		return r;
	}
	r = cmd_arg_text(args, "mountpoint", text, sizeof(text), err);
	if (r == 0)
		r = cmd_path_absolute(text, d->mountpoint, err);
	if (r < 0)
		return r;
	if (cmd_path_lies_in(d->pool.directory, d->mountpoint))
		return base_error_set(
			err, -EINVAL,
			"%s: mounting there would hide the pool's own directory %s: choose another mount point",
			d->mountpoint, d->pool.directory);
	return 0;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct cmd_daemon_args *d = calloc(1, sizeof(*d));

	if (!d)
		return base_error_set(err, -ENOMEM, "out of memory");

	int r = find_places(ctx, args, d, err);

	d->foreground = cmd_arg_flag(args, "foreground");
	d->replace = cmd_arg_flag(args, "replace");
	if (r == 0 && d->replace && d->foreground)
		r = base_error_set(err, -EINVAL, "-replace and -foreground: not together");
	if (r == 0)
		r = read_options(args, d, err);
	d->options.survive |= d->replace;
	if (r == 0 && cmd_path_lies_in(d->options.faults, d->mountpoint))
		r = base_error_set(err, -EINVAL, "%s: the file of rules must not lie in the mount itself",
				   d->options.faults);
	if (r == 0)
		r = cmd_daemon_start(d, ret_result, err);
	free(d);
	return r;
}

const struct cmd_verb cmd_mount = {
	.name = "mount",
	.summary = "mount a pool",
	.synopsis =
		"bdfs mount POOL MOUNTPOINT [-o OPTIONS] [-ro] [-allow-other] [-survive] [-replace] [-engine NAME] "
		"[-queues N] [-cache SIZE] [-hook PROGRAM] [-f]",
	.about =
		"Mounts the pool: its disks are the files in MOUNTPOINT/disks. A daemon is left in the background "
		"that serves the mount until it is unmounted; the command returns when the mount answers. The "
		"daemon's messages are in the file log in the pool's directory. A mount that a dead daemon left on "
		"MOUNTPOINT is cleaned up first. With -f the command itself serves, and returns when the mount is "
		"gone.\n"
		"With -hook PROGRAM, an absolute path, that program is run for each alarm of the pool, as PROGRAM "
		"EVENT POOL, one at a time and without a shell; see ALARMS in bdfs(8).\n"
		"With -survive a small process beside the daemon keeps the mount. If the daemon is killed or crashes, "
		"another one takes over: programs, mappings and loop devices on the files wait for a moment and see no "
		"error, and nothing that was completed is lost.\n"
		"With -replace, after an upgrade, this command's daemon takes over from the one that serves MOUNTPOINT "
		"now, in the same way. Give the other options again.\n"
		"SIGTERM to the daemon unmounts: what is under way is finished and everything is committed. `mount "
		"-t bdfs POOL MOUNTPOINT` and a line in /etc/fstab do the same.",
	.examples = "bdfs mount vms /srv/vms\n"
		    "bdfs mount vms /srv/vms -o ro,allow_other\n"
		    "bdfs mount vms /srv/vms -survive -replace",
	.options = options,
	.local = local,
	.run = cmd_replace_serve,
};
