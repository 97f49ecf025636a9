/* SPDX-License-Identifier: Apache-2.0 */
/*
 * umount: unmounts a pool and waits until its daemon has closed it.
 *
 * umount(8) works too, but returns as soon as the mount is out of the tree,
 * while the daemon still commits. This verb returns when everything is on
 * stable storage and the pool can be opened again, or says why not.
 *
 * What is given may be the pool or the mount point. The daemon is asked over its
 * control socket; asked by mount point, it checks that it is its own (two users'
 * pools may have one name). Where no daemon answers, a mount of that name that
 * is dead is detached; one that is alive is somebody else's.
 *
 * Failure modes: not mounted (2); files are open (4): nothing is changed, and
 * --lazy takes the mount out of the tree at once and waits for the last close.
 */
#include <errno.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/control.h"
#include "cmd/daemon.h"
#include "cmd/paths.h"
#include "cmd/text.h"

static const struct cmd_option options[] = {
	{ "target", NULL, CMD_TEXT, CMD_POSITIONAL | CMD_REQUIRED, "POOL|MOUNTPOINT", "what to unmount" },
	{ "lazy", "l", CMD_FLAG, 0, NULL, "although files are open: out of the tree now, wait for the last close" },
	{ 0 },
};

struct target {
	struct cmd_pool_ref pool;
	bool have_pool;
	struct cmd_mount_entry mount;
	bool have_mount;
	bool by_mountpoint;
};

static bool find_by_mountpoint(const char *text, struct target *t)
{
	char absolute[PATH_MAX];

	if (cmd_path_absolute(text, absolute, NULL) < 0 || cmd_mount_find(absolute, NULL, &t->mount) < 0)
		return false;
	t->by_mountpoint = t->have_mount = true;
	t->have_pool = cmd_registry_find(t->mount.source, &t->pool, NULL) == 0;
	return true;
}

/* A name is a pool's if there is such a pool, else a path; a path is a mount point if it is one, else a pool's
 * directory. */
static int find_target(const char *text, struct target *t, struct base_error *err)
{
	if (strchr(text, '/') && find_by_mountpoint(text, t))
		return 0;

	int r = cmd_registry_find(text, &t->pool, err);

	if (r < 0)
		return find_by_mountpoint(text, t) ? 0 : base_error_wrap(err, "not a mount point of bdfs");
	t->have_pool = true;
	t->have_mount = cmd_mount_find(NULL, t->pool.registered ? t->pool.name : t->pool.directory, &t->mount) == 0;
	return 0;
}

/* Return: 0 with *ret; CMD_NO_DAEMON; negative errno. */
static int ask_daemon(const struct target *t, const json_t *args, struct cmd_outcome *ret, struct base_error *err)
{
	json_t *request = json_pack("{s:o}", "target", cmd_text_to_json(t->by_mountpoint ? t->mount.mountpoint : ""));

	if (!t->have_pool || !request) {
		json_decref(request);
		return CMD_NO_DAEMON;
	}
	if (cmd_arg_flag(args, "lazy"))
		json_object_set_new(request, "lazy", json_true());

	int r = cmd_control_call(t->pool.directory, "umount", request, NULL, ret, err);

	json_decref(request);
	/* Another pool's daemon, of the same name: not the one that is meant. */
	if (r == 0 && ret->code == -EXDEV)
		return CMD_NO_DAEMON;
	return r;
}

/*
 * A dead mount is detached. One that is alive is another's, who has a pool of the same name: by the pool's name it
 * was not meant, and by its mount point it is unmounted as umount(8) would do it.
 */
static int unmount_without_daemon(const struct target *t, const json_t *args, const char *text, json_t **ret_result,
				  struct base_error *err)
{
	bool dead = t->have_mount && cmd_mount_is_dead(t->mount.mountpoint);

	if (!dead && !t->by_mountpoint)
		return base_error_set(err, -ENOENT, "%s: not mounted", text);

	int r = cmd_mount_remove(t->mount.mountpoint, dead || cmd_arg_flag(args, "lazy"), err);

	if (r == 0)
		*ret_result = json_pack("{s:o}", "unmounted", cmd_text_to_json(t->mount.mountpoint));
	return r;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct cmd_outcome outcome = { 0 };
	struct target t = { 0 };
	char text[PATH_MAX];
	int r = cmd_arg_text(args, "target", text, sizeof(text), err);

	if (r == 0)
		r = find_target(text, &t, err);
	if (r < 0) {
		ctx->subject = CMD_SUBJECT_POOL;
		return r;
	}
	r = ask_daemon(&t, args, &outcome, err);
	if (r == CMD_NO_DAEMON)
		return unmount_without_daemon(&t, args, text, ret_result, err);
	if (r == 0 && outcome.code < 0) {
		*err = outcome.err;
		return outcome.code;
	}
	*ret_result = outcome.result;
	return r;
}

/* In the daemon. target: the mount point that is meant, or "". */
static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	char target[PATH_MAX];
	int r = cmd_arg_text(args, "target", target, sizeof(target), err);

	if (r < 0)
		return r;
	if (!ctx->service)
		return base_error_set(err, -ENOENT, "not mounted");
	if (target[0] && strcmp(target, ctx->service->mountpoint) != 0)
		return base_error_set(err, -EXDEV, "this pool is mounted on %s, not on %s", ctx->service->mountpoint,
				      target);
	r = ctx->service->unmount(ctx->service, cmd_arg_flag(args, "lazy"), err);
	return r < 0 ? r : CMD_ANSWER_AT_END;
}

const struct cmd_verb cmd_umount = {
	.name = "umount",
	.summary = "unmount a pool",
	.synopsis = "bdfs umount {POOL | MOUNTPOINT} [--lazy]",
	.about =
		"Unmounts the pool and returns when its daemon has committed everything and closed it. umount(8) "
		"works too, but does not wait for that. While files in the mount are open it is refused, as for any "
		"file system; --lazy takes the mount out of the tree at once and waits for the last of them to be "
		"closed.\n"
		"The VTDs of the pool are taken down first. One that is in use (a guest is connected, a loop device is "
		"mounted) is refused, and the error says by whom; --lazy takes it away.",
	.examples = "bdfs umount vms\n"
		    "bdfs umount /srv/vms",
	.options = options,
	.local = local,
	.run = run,
};
