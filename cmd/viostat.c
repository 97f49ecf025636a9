/* SPDX-License-Identifier: Apache-2.0 */
/*
 * viostat: what goes through each VTD.
 *
 * One call gives the sums since each VTD is served; with an interval the command asks
 * again and again and prints the differences (cli/viostat.c), as iostat does. VIOS's
 * viostat knows the physical disks only; who does the I/O is what one wants to know.
 *
 * Failure modes: no such VTD is not asked for here; a pool that is not mounted serves
 * nothing, so every figure is missing.
 */
#include <errno.h>

#include "cmd/args.h"
#include "cmd/text.h"
#include "cmd/vtds.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "interval", NULL, CMD_NUMBER, CMD_POSITIONAL, "INTERVAL", "seconds between reports" },
	{ "count", NULL, CMD_NUMBER, CMD_POSITIONAL, "COUNT", "how many reports; without it until interrupted" },
	{ 0 },
};

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	if (cmd_arg_number(args, "interval", 1) < 1 || cmd_arg_number(args, "interval", 1) > 86400)
		return base_error_set(err, -EINVAL, "INTERVAL: must be from 1 to 86400 seconds");
	if (cmd_arg_number(args, "count", 1) < 1)
		return base_error_set(err, -EINVAL, "COUNT: must be at least 1");

	json_t *rows = cmd_mappings_to_json(ctx, &(struct cmd_mapping_filter){ .with_stats = true });

	*ret_result = json_pack("{s:o}", "stats", rows);
	return *ret_result ? 0 : base_error_set(err, -ENOMEM, "out of memory for the figures");
}

const struct cmd_verb cmd_viostat = {
	.name = "viostat",
	.summary = "show what goes through each VTD",
	.synopsis = "bdfs viostat [-sp POOL] [INTERVAL [COUNT]]",
	.about =
		"Without INTERVAL: the sums of each virtual target device since it is served. With INTERVAL: a report "
		"every so many seconds, the first of the sums' averages, the others of what came in between: kilobytes "
		"and requests a second, kilobytes read and written, requests under way.\n"
		"Fields without INTERVAL: those of lsmap -stat.",
	.examples = "bdfs viostat -sp vms 5\n"
		    "bdfs viostat -sp vms 1 10",
	.options = options,
	.run = run,
};
