/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What several verbs do with adapters and VTDs (mkvdev, mkbdsp and lu -map; rmvdev,
 * rmbdsp and lu -unmap; lsmap and lsdev), each once.
 *
 * With a daemon around, a mapping is recorded and served; without one it is recorded,
 * and served from the next mount on.
 *
 * Context: CTL, on the open pool in ctx.
 */
#ifndef CMD_VTDS_H
#define CMD_VTDS_H

#include "cmd/verb.h"
#include "meta/targets.h"

/* What is or is to be mapped: one of the three, the others are NULL. */
struct cmd_backing {
	struct meta_disk *disk;
	struct meta_snapshot *snapshot;
	const char *path; /* of a device or file outside the pool, absolute */
};
/* What text names: a path if it has a '/', a disk, or else DISK@SNAPSHOT. text stays the caller's, and as long as
 * *ret. Return: 0, and cmd_backing_put is due; -ENOENT. */
MUST_CHECK int cmd_backing_find(struct cmd_context *ctx, const char *text, struct cmd_backing *ret,
				struct base_error *err);
void cmd_backing_put(struct cmd_backing *backing);

struct cmd_mapping {
	struct cmd_backing backing;
	const char *adapter;
	const char *name;      /* of the VTD; NULL = the next vtscsiN */
	const char *transport; /* NULL = what the adapter's name says */
	bool read_only, shared;
};

/* Gives the VTD's row, as cmd_mappings_to_json has it. Return: 0; -EBUSY (err names the holder), -EEXIST, -ENOENT,
 * -EINVAL, -ENAMETOOLONG; what the transport says. */
MUST_CHECK int cmd_vtd_map(struct cmd_context *ctx, const struct cmd_mapping *mapping, json_t **ret_row,
			   struct base_error *err);
/* The mapping that the options -vadapter, name_option, -shared, -ro and -transport of args ask for. */
MUST_CHECK int cmd_vtd_map_by_args(struct cmd_context *ctx, const json_t *args, const char *name_option,
				   const struct cmd_backing *backing, json_t **ret_row, struct base_error *err);
/* Whether args ask for a mapping beside something else. Return: 1, 0; -EINVAL: options of a mapping without -vadapter,
 * or with -count. */
MUST_CHECK int cmd_vtd_is_asked(const json_t *args, const char *name_option, struct base_error *err);
/* Maps the disk `name` by args. made: it was made just now, and is removed again if that fails. Adds the row to
 * *ret_result, which is made if it is NULL and given up on failure. */
MUST_CHECK int cmd_vtd_map_named(struct cmd_context *ctx, const json_t *args, const char *name_option,
				 const char *name, bool made, json_t **ret_result, struct base_error *err);
/* Return: 0; -ENOENT; -EBUSY: in use, err says by whom. */
MUST_CHECK int cmd_vtd_unmap(struct cmd_context *ctx, const char *name, bool force, struct base_error *err);
/* The only VTD of it. Return: 0; -ENOENT: it is not mapped; -EBUSY: more than one, err names two. */
MUST_CHECK int cmd_vtd_of(struct cmd_context *ctx, const struct cmd_backing *backing, struct meta_vtd_info *ret,
			  struct base_error *err);

/* What lsmap and lsdev know as -type, for messages and helps. */
#define CMD_MAPPING_TYPES "cl_disk (a disk of the pool), lv (a logical volume), snapshot, disk (a device), file"
/* types: an array of strings, or NULL. another: a type that is known beside those of mappings, or NULL. Return: 0;
 * -EINVAL. */
MUST_CHECK int cmd_mapping_types_check(const json_t *types, const char *another, struct base_error *err);
/* NULL has all. */
bool cmd_mapping_type_is_in(const json_t *types, const char *type);

struct cmd_mapping_filter {
	const char *adapter; /* NULL = all */
	const char *vtd;     /* NULL = all */
	const json_t *types; /* array of strings, or NULL = all */
	bool with_stats;
};
/* One row for each VTD, by adapter and LUN. New reference, NULL when memory is short. */
json_t *cmd_mappings_to_json(struct cmd_context *ctx, const struct cmd_mapping_filter *filter);
/* One row for each adapter; adapter: only this, NULL = all. */
json_t *cmd_adapters_to_json(struct cmd_context *ctx, const char *adapter);

#define CMD_OPTIONS_MAPPING                                                                                            \
	{ "shared", NULL, CMD_FLAG, 0, NULL,                                                                           \
	  "may be mapped a second time or be open as a file, if the other side is shared too" },                       \
		{ "ro", NULL, CMD_FLAG, 0, NULL, "read-only for whoever it is mapped to" },                            \
	{                                                                                                              \
		"transport", NULL, CMD_TEXT, 0, "T",                                                                   \
			"of an adapter that is made by this: vhost-user, loop, lio, lio/iscsi, lio/vhost. "            \
			"Without it, what its name says"                                                               \
	}

#endif
