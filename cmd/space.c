/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `lssp -space`, `lu -list -space`: who takes how much of a pool.
 *
 * Each chunk in use is owned by one layer; a layer is what a disk has of its
 * own, or a snapshot has, or has no name any more because only clones and later
 * snapshots still need it. So the owned bytes of all three kinds are what the
 * pool has in use: that is the column to add up. The others overlap by nature:
 * what two disks share is in the referenced bytes of both.
 *
 * These figures are found by reading the maps of all layers that share anything.
 * So this is a form of its own, and plain lists, which have to be quick, have
 * only what counters tell.
 *
 * Failure modes: a map that can't be read fails the verb. The figures of a pool
 * in use are of slightly different moments, but for the owned ones.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/space.h"
#include "cmd/text.h"
#include "meta/snapshot.h"

static json_t *row_to_json(const struct meta_space_row *row)
{
	static const char *const kinds[] = { [META_SPACE_DISK] = "disk",
					     [META_SPACE_SNAPSHOT] = "snapshot",
					     [META_SPACE_UNNAMED] = "unnamed" };
	const struct meta_space_use *use = &row->use;
	char name[2 * NAME_BYTES_MAX + 2];

	if (row->kind == META_SPACE_UNNAMED)
		snprintf(name, sizeof(name), "(layer %llu)", (unsigned long long)row->layer);
	else
		snprintf(name, sizeof(name), "%s%s%s", row->disk_name, row->name[0] ? "@" : "", row->name);
	return json_pack("{s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name", cmd_text_to_json(name), "kind",
			 kinds[row->kind], "layer", (json_int_t)row->layer, "virtual_bytes",
			 (json_int_t)row->virtual_bytes, "owned_bytes", (json_int_t)use->owned_bytes,
			 "referenced_bytes", (json_int_t)use->referenced_bytes, "exclusive_bytes",
			 (json_int_t)use->exclusive_bytes, "shared_bytes", (json_int_t)use->shared_bytes,
			 "reclaimable_bytes", (json_int_t)use->reclaimable_bytes);
}

static bool is_asked(const struct meta_space_row *row, const char *disk)
{
	return !disk || (row->kind != META_SPACE_UNNAMED && strcmp(row->disk_name, disk) == 0);
}

int cmd_space_to_json(struct cmd_context *ctx, const char *disk, json_t **ret_result, struct base_error *err)
{
	struct meta_space_report report;
	struct meta_pool_info info;
	json_t *list = json_array();
	int r = list ? meta_space_report(ctx->meta, &report, err) : -ENOMEM, failed = 0;

	if (r < 0) {
		json_decref(list);
		return r == -ENOMEM ? base_error_set(err, r, "out of memory for the list") : r;
	}
	for (size_t i = 0; i < report.count; i++)
		if (is_asked(&report.rows[i], disk))
			failed |= json_array_append_new(list, row_to_json(&report.rows[i]));
	meta_pool_info(ctx->meta, &info);
	*ret_result = json_pack("{s:o, s:o, s:I}", "pool", cmd_text_to_json(info.name), "space", list,
				"allocated_bytes", (json_int_t)report.allocated_bytes);
	meta_space_report_done(&report);
	return failed || !*ret_result ? base_error_set(err, -ENOMEM, "out of memory for the list") : 0;
}
