/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chdev: changes an attribute of an adapter or a VTD: NAME=VALUE, as in VIOS.
 *
 *	client=TEXT      of an adapter: whom it serves, for people
 *	shared=yes|no    of a VTD: whether a second holder is allowed
 *
 * `shared=yes` is how a disk that is mapped gets a second mapping: its first one has to
 * say so too. `shared=no` is refused while there is a second holder.
 *
 * Failure modes: no such device (2), no such attribute or value (1).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/vtds.h"
#include "vtd/table.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "dev", NULL, CMD_TEXT, CMD_REQUIRED, "DEVICE", "the adapter or VTD" },
	{ "attr", NULL, CMD_TEXT, CMD_REQUIRED, "NAME=VALUE",
	  "client=TEXT of an adapter; shared=yes or shared=no of a VTD" },
	{ 0 },
};

static int set_shared(struct cmd_context *ctx, const char *name, const char *value, struct base_error *err)
{
	bool yes = strcmp(value, "yes") == 0;

	if (!yes && strcmp(value, "no") != 0)
		return base_error_set(err, -EINVAL, "shared=%s: yes or no", value);
	if (ctx->service)
		return vtd_table_set_shared(ctx->service->vtds, name, yes, err);
	return meta_vtd_set_shared(ctx->meta, name, yes, 0, err);
}

static int change(struct cmd_context *ctx, const char *name, char *attr, struct base_error *err)
{
	struct meta_adapter_info adapter;
	bool is_adapter = meta_adapter_get(ctx->meta, name, &adapter, NULL) == 0;
	char *value = strchr(attr, '=');

	if (!value)
		return base_error_set(err, -EINVAL, "-attr %s: write NAME=VALUE", attr);
	*value++ = '\0';
	if (is_adapter && strcmp(attr, "client") == 0)
		return meta_adapter_set_client(ctx->meta, name, value, err);
	if (!is_adapter && strcmp(attr, "shared") == 0)
		return set_shared(ctx, name, value, err);
	return base_error_set(err, -EINVAL, "%s: %s has no such attribute; it has %s", attr, name,
			      is_adapter ? "client" : "shared");
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	char name[256], attr[1024];
	int rc = cmd_arg_text(args, "dev", name, sizeof(name), err);

	if (rc == 0)
		rc = cmd_arg_text(args, "attr", attr, sizeof(attr), err);
	if (rc == 0)
		rc = change(ctx, name, attr, err);
	if (rc == 0)
		*ret_result = json_pack("{s:s}", "changed", name);
	return rc;
}

static unsigned needs(const json_t *args)
{
	return CMD_CHANGES;
}

const struct cmd_verb cmd_chdev = {
	.name = "chdev",
	.summary = "change an adapter or a VTD",
	.synopsis = "bdfs chdev [-sp POOL] -dev DEVICE -attr NAME=VALUE",
	.about =
		"Attributes: client=TEXT of an adapter, a label for the lists; shared=yes|no of a VTD, "
		"whether its disk "
		"may have a second holder.",
	.examples = "bdfs chdev -sp vms -dev vhost0 -attr client=web1\n"
		    "bdfs chdev -sp vms -dev vtscsi0 -attr shared=yes",
	.options = options,
	.run = run,
	.needs = needs,
};
