/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lsmap: who has what. An adapter is a stanza, as VIOS prints it; -fmt, -field and JSON
 * have one row for each VTD, since rows whose length varies are what VIOS's admins
 * complain about.
 *
 * -stat adds what each VTD has done since it is served.
 *
 * A VTD that is recorded and not served is Defined, and says why. Fields that VIOS
 * knows and nothing here has (mirrored) are there all the same: scripts cut by column.
 *
 * Failure modes: no such adapter (2).
 */
#include <errno.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/text.h"
#include "cmd/vtds.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "all", NULL, CMD_FLAG, 0, NULL, "every adapter" },
	{ "vadapter", NULL, CMD_TEXT, 0, "ADAPTER", "this adapter" },
	{ "vtd", NULL, CMD_TEXT, 0, "VTD", "this virtual target device" },
	{ "type", NULL, CMD_LIST, 0, "TYPE...",
	  "only VTDs of these types: " CMD_MAPPING_TYPES },
	{ "stat", NULL, CMD_FLAG, 0, NULL, "what each VTD has done: requests, bytes, errors" },
	{ "net", NULL, CMD_FLAG, CMD_LATER, NULL, "there are no network adapters here" },
	{ "npiv", NULL, CMD_FLAG, CMD_LATER, NULL, "there is no NPIV here" },
	{ "plc", NULL, CMD_TEXT, CMD_LATER, "PHYSLOC", "name the adapter: -vadapter" },
	{ "clustername", NULL, CMD_TEXT, CMD_LATER, "CLUSTER", "clusters are not in this release; leave it out" },
	{ 0 },
};

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	static const char *const which[] = { "all", "vadapter", "vtd", NULL };
	struct cmd_mapping_filter filter = { .types = json_object_get(args, "type"),
					     .with_stats = cmd_arg_flag(args, "stat") };
	struct meta_adapter_info adapter;
	struct meta_pool_info info;
	struct meta_vtd_info vtd;
	char text[256] = "";
	int form = cmd_arg_one_of(args, which, err);
	int rc = form < 0 ? form : cmd_mapping_types_check(filter.types, NULL, err);

	if (rc == 0 && form > 0)
		rc = cmd_arg_text(args, which[form], text, sizeof(text), err);
	if (rc == 0 && form == 1)
		rc = meta_adapter_get(ctx->meta, filter.adapter = text, &adapter, err);
	if (rc == 0 && form == 2)
		rc = meta_vtd_get(ctx->meta, filter.vtd = text, &vtd, err);
	if (rc < 0)
		return rc;
	meta_pool_info(ctx->meta, &info);
	*ret_result = json_pack("{s:o, s:o, s:o}", "pool", cmd_text_to_json(info.name), "adapters",
				cmd_adapters_to_json(ctx, form == 2 ? vtd.record.adapter : filter.adapter),
				filter.with_stats ? "stats" : "mappings", cmd_mappings_to_json(ctx, &filter));
	return *ret_result ? 0 : base_error_set(err, -ENOMEM, "out of memory for the list");
}

const struct cmd_verb cmd_lsmap = {
	.name = "lsmap",
	.summary = "list what is mapped to whom",
	.synopsis = "bdfs lsmap [-sp POOL] {-all | -vadapter ADAPTER | -vtd VTD} [-type TYPE...] [-stat]",
	.about =
		"Lists adapters with their VTDs, as VIOS does: Available is served, Defined is recorded but "
		"not served, "
		"and the reason is told. With -fmt, -field or --json a row is a VTD.\n"
		"Fields: svsa physloc clientid vtd status lun backing bdphysloc mirrored, as in VIOS; device reason "
		"bd type transport shared ro use who. With -stat: vtd svsa reads writes flushes discards rmb wmb "
		"errors inflight p50us p99us.",
	.examples = "bdfs lsmap -all\n"
		    "bdfs lsmap -all -fmt : -field svsa vtd backing device\n"
		    "bdfs lsmap -all -stat",
	.options = options,
	.run = run,
};
