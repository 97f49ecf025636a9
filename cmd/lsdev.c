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
	{ "type", NULL, CMD_LIST, 0, "TYPE...",
	  "only devices of these types: adapter, or VTDs as lsmap has them: " CMD_MAPPING_TYPES },
	{ "state", NULL, CMD_TEXT, 0, "STATE", "only devices in this state: Available or Defined" },
	{ 0 },
};

static const char *describe_vtd(const char *type)
{
	if (strcmp(type, "cl_disk") == 0)
		return "Virtual Target Device - Logical Unit";
	if (strcmp(type, "lv") == 0)
		return "Virtual Target Device - Logical Volume";
	if (strcmp(type, "snapshot") == 0)
		return "Virtual Target Device - Snapshot";
	return strcmp(type, "disk") == 0 ? "Virtual Target Device - Disk" : "Virtual Target Device - File-backed Disk";
}

static const char *describe_adapter(const char *transport)
{
	uint8_t number;
	const struct vtd_transport_ops *ops =
		meta_transport_parse(transport, &number, NULL) == 0 ? vtd_transport_find(number) : NULL;

	return ops ? ops->description : "Adapter of an unknown transport";
}

struct wanted {
	char name[256], state[64]; /* "" = any */
	const json_t *types;       /* NULL = any */
};

static bool is_wanted(const struct wanted *wanted, const char *name, const char *state)
{
	return (!wanted->name[0] || strcmp(wanted->name, name) == 0) &&
	       (!wanted->state[0] || strcmp(wanted->state, state) == 0);
}

static void add_device(json_t *devices, const struct wanted *wanted, const char *name, const char *state,
		       const char *description)
{
	if (is_wanted(wanted, name, state))
		json_array_append_new(devices, json_pack("{s:s, s:s, s:s}", "name", name, "status", state,
							 "description", description));
}

static const char *text_of(const json_t *row, const char *key)
{
	return json_string_value(json_object_get(row, key));
}

static json_t *devices_to_json(const struct wanted *wanted, const json_t *adapters, const json_t *mappings)
{
	json_t *devices = json_array();
	const json_t *it;
	size_t i;

	json_array_foreach(adapters, i, it)
		if (cmd_mapping_type_is_in(wanted->types, "adapter"))
			add_device(devices, wanted, text_of(it, "svsa"), "Available",
				   describe_adapter(text_of(it, "transport")));
	json_array_foreach(mappings, i, it)
		add_device(devices, wanted, text_of(it, "vtd"), text_of(it, "status"),
			   describe_vtd(text_of(it, "type")));
	return devices;
}

static int parse(const json_t *args, struct wanted *wanted, struct base_error *err)
{
	int rc = cmd_arg_text(args, "dev", wanted->name, sizeof(wanted->name), err);

	if (rc >= 0)
		rc = cmd_arg_text(args, "state", wanted->state, sizeof(wanted->state), err);
	if (rc < 0)
		return rc;
	if (wanted->state[0] && strcmp(wanted->state, "Available") != 0 && strcmp(wanted->state, "Defined") != 0)
		return base_error_set(err, -EINVAL, "-state %.40s: a device is Available or Defined", wanted->state);
	wanted->types = json_object_get(args, "type");
	return cmd_mapping_types_check(wanted->types, "adapter", err);
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct wanted wanted = { 0 };
	int rc = parse(args, &wanted, err);

	if (rc < 0)
		return rc;

	json_t *adapters = cmd_adapters_to_json(ctx, NULL);
	json_t *mappings = cmd_mappings_to_json(ctx, &(struct cmd_mapping_filter){ .types = wanted.types });
	json_t *devices = devices_to_json(&wanted, adapters, mappings);

	json_decref(adapters);
	json_decref(mappings);
	if (wanted.name[0] && json_array_size(devices) == 0) {
		json_decref(devices);
		return base_error_set(err, -ENOENT, "%s: no such device; `bdfs lsdev` lists them", wanted.name);
	}
	*ret_result = json_pack("{s:o}", "devices", devices);
	return 0;
}

const struct cmd_verb cmd_lsdev = {
	.name = "lsdev",
	.summary = "list adapters and VTDs",
	.synopsis = "bdfs lsdev [-sp POOL] [-virtual] [-dev DEVICE] [-type TYPE...] [-state STATE]",
	.about = "One line for each adapter and each virtual target device, with its state.\n"
		 "Fields: name status description.",
	.examples = "bdfs lsdev -virtual",
	.options = options,
	.run = run,
};
