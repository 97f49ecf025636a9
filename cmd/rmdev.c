/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rmdev: removes a device by its name: an adapter, or a VTD as rmvdev does.
 *
 * An adapter goes only when nothing is mapped to it. Its location may be another's then.
 *
 * Failure modes: no such device (2); the adapter has VTDs, the VTD is in use (4).
 */
#include <errno.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/vtds.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "dev", NULL, CMD_TEXT, CMD_REQUIRED, "DEVICE", "the adapter or VTD" },
	{ "force", NULL, CMD_FLAG, 0, NULL, "a VTD: although somebody uses it" },
	{ "ucfg", NULL, CMD_FLAG, CMD_LATER, NULL, "a VTD can't be kept without being served" },
	{ "recursive", NULL, CMD_FLAG, CMD_LATER, NULL, "remove the VTDs of an adapter one by one first" },
	{ 0 },
};

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct meta_adapter_info adapter;
	char name[256];
	int rc = cmd_arg_text(args, "dev", name, sizeof(name), err);

	if (rc < 0)
		return rc;
	if (meta_adapter_get(ctx->meta, name, &adapter, NULL) == 0)
		rc = meta_adapter_remove(ctx->meta, name, err);
	else
		rc = cmd_vtd_unmap(ctx, name, cmd_arg_flag(args, "force"), err);
	if (rc == 0)
		*ret_result = json_pack("{s:[s]}", "unmapped", name);
	return rc;
}

static unsigned needs(const json_t *args)
{
	return CMD_CHANGES;
}

const struct cmd_verb cmd_rmdev = {
	.name = "rmdev",
	.summary = "remove an adapter or a VTD",
	.synopsis = "bdfs rmdev [-sp POOL] -dev DEVICE [-force]",
	.about = "Removes an adapter that nothing is mapped to, or a VTD as rmvdev does. No data is ever deleted.",
	.examples = "bdfs rmdev -sp vms -dev vhost0",
	.options = options,
	.run = run,
	.needs = needs,
};
