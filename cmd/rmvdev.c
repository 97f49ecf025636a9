/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rmvdev: unmaps. The disk and its data stay, whatever is said; VIOS's -rmlv, which
 * deletes as well, is refused: deleting is rmbdsp's.
 *
 * In VIOS it succeeds while a client uses the disk, and the client finds out by errors.
 * Here a VTD in use is refused, and who uses it is said; -force takes it away.
 *
 * Failure modes: no such VTD (2); in use (4); a disk that is mapped more than once needs
 * -vtd or -all (4). With -all, those removed before one fails stay removed, and are told.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/disks.h"
#include "cmd/vtds.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "vtd", NULL, CMD_TEXT, 0, "VTD", "the virtual target device" },
	{ "vdev", NULL, CMD_TEXT, 0, "BD", "the disk, or the path of the device or file, that is mapped" },
	{ "all", NULL, CMD_FLAG, 0, NULL, "-vdev: every VTD of it, if there are several" },
	{ "force", NULL, CMD_FLAG, 0, NULL, "although somebody uses it: the guest sees its disk fail" },
	{ "f", NULL, CMD_FLAG, CMD_LATER, NULL, "-f means two things in VIOS: say -all, or -force" },
	{ "rmlv", NULL, CMD_FLAG, CMD_LATER, NULL, "unmapping never deletes: use rmbdsp for that" },
	{ 0 },
};

static int unmap(struct cmd_context *ctx, const char *name, const json_t *args, json_t *removed,
		 struct base_error *err)
{
	int rc = cmd_vtd_unmap(ctx, name, cmd_arg_flag(args, "force"), err);

	if (rc == 0)
		json_array_append_new(removed, json_string(name));
	return rc;
}

static int unmap_bd(struct cmd_context *ctx, const char *vdev, const json_t *args, json_t *removed,
		    struct base_error *err)
{
	struct cmd_backing backing;
	struct meta_vtd_info vtd;
	bool all = cmd_arg_flag(args, "all");
	int rc = cmd_backing_find(ctx, vdev, &backing, err);

	ctx->subject = CMD_SUBJECT_NONE;
	if (rc < 0)
		return rc;
	rc = cmd_vtd_of(ctx, &backing, &vtd, err);
	/* The first of several is in vtd too. */
	while (rc == 0 || (all && rc == -EBUSY)) {
		rc = unmap(ctx, vtd.name, args, removed, err);
		if (rc < 0 || !all)
			break;
		rc = cmd_vtd_of(ctx, &backing, &vtd, err);
	}
	cmd_backing_put(&backing);
	return all && rc == -ENOENT && json_array_size(removed) > 0 ? 0 : rc;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	static const char *const either[] = { "vtd", "vdev", NULL };
	char text[PATH_MAX];
	int which = cmd_arg_one_of(args, either, err);
	int rc = which < 0 ? which : cmd_arg_text(args, either[which], text, sizeof(text), err);

	if (rc < 0)
		return rc;

	json_t *removed = json_array();

	rc = which == 0 ? unmap(ctx, text, args, removed, err) : unmap_bd(ctx, text, args, removed, err);
	if (rc < 0 && json_array_size(removed) == 0)
		json_decref(removed);
	else
		*ret_result = json_pack("{s:o}", "unmapped", removed);
	return rc;
}

static unsigned needs(const json_t *args)
{
	return CMD_CHANGES;
}

const struct cmd_verb cmd_rmvdev = {
	.name = "rmvdev",
	.summary = "unmap a disk; it keeps its data",
	.synopsis = "bdfs rmvdev [-sp POOL] {-vtd VTD | -vdev BD [-all]} [-force]",
	.about = "Removes a mapping. The disk and its data stay. A VTD that is in use (a guest is connected, the loop "
		 "device is mounted) is refused, and the error says by whom; -force removes it all the same.",
	.examples = "bdfs rmvdev -sp vms -vtd vtscsi0\n"
		    "bdfs rmvdev -sp vms -vdev web1",
	.options = options,
	.run = run,
	.needs = needs,
};
