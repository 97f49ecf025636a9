/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lsdev: the virtual devices, one a line: adapters, then VTDs.
 *
 * VIOS's lsdev lists every device of the machine; here there are the virtual ones only,
 * so -virtual is the default.
 *
 * Failure modes: no such device (2).
 */
#include <errno.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/vtds.h"
#include "vtd/transport.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "virtual", NULL, CMD_FLAG, 0, NULL, "the virtual devices: there are no others" },
	{ "dev", NULL, CMD_TEXT, 0, "DEVICE", "only this one" },
	{ 0 },
};

static const char *describe_vtd(const char *type)
{
	if (strcmp(type, "cl_disk") == 0)
		return "Virtual Target Device - Logical Unit";
	return strcmp(type, "disk") == 0 ? "Virtual Target Device - Disk" : "Virtual Target Device - File-backed Disk";
}

static const char *describe_adapter(const char *transport)
{
	uint8_t number;
	const struct vtd_transport_ops *ops =
		meta_transport_parse(transport, &number, NULL) == 0 ? vtd_transport_find(number) : NULL;

	return ops ? ops->description : "Adapter of an unknown transport";
}

static bool is_wanted(const char *wanted, const char *name)
{
	return !wanted[0] || strcmp(wanted, name) == 0;
}

static json_t *devices_to_json(const char *wanted, const json_t *adapters, const json_t *mappings)
{
	json_t *devices = json_array();
	const json_t *it;
	size_t i;

	json_array_foreach(adapters, i, it) {
		const char *name = json_string_value(json_object_get(it, "svsa"));

		if (is_wanted(wanted, name))
			json_array_append_new(
				devices,
				json_pack("{s:s, s:s, s:s}", "name", name, "status", "Available", "description",
					  describe_adapter(json_string_value(json_object_get(it, "transport")))));
	}
	json_array_foreach(mappings, i, it) {
		const char *name = json_string_value(json_object_get(it, "vtd"));

		if (is_wanted(wanted, name))
			json_array_append_new(devices,
					      json_pack("{s:s, s:O, s:s}", "name", name, "status",
							json_object_get(it, "status"), "description",
							describe_vtd(json_string_value(json_object_get(it, "type")))));
	}
	return devices;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	char wanted[256] = "";
	int rc = cmd_arg_text(args, "dev", wanted, sizeof(wanted), err);

	if (rc < 0)
		return rc;

	json_t *adapters = cmd_adapters_to_json(ctx, NULL);
	json_t *mappings = cmd_mappings_to_json(ctx, &(struct cmd_mapping_filter){ 0 });
	json_t *devices = devices_to_json(wanted, adapters, mappings);

	json_decref(adapters);
	json_decref(mappings);
	if (wanted[0] && json_array_size(devices) == 0) {
		json_decref(devices);
		return base_error_set(err, -ENOENT, "%s: no such device; `bdfs lsdev` lists them", wanted);
	}
	*ret_result = json_pack("{s:o}", "devices", devices);
	return 0;
}

const struct cmd_verb cmd_lsdev = {
	.name = "lsdev",
	.summary = "list adapters and VTDs",
	.synopsis = "bdfs lsdev [-sp POOL] [-virtual] [-dev DEVICE]",
	.about = "One line for each adapter and each virtual target device, with its state.\n"
		 "Fields: name status description.",
	.examples = "bdfs lsdev -virtual",
	.options = options,
	.run = run,
};
