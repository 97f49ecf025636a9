/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mkvdev: maps a backing device, that is, makes a virtual target device (VTD); without
 * -vdev it makes an adapter.
 *
 * In VIOS an adapter comes from the hypervisor's console, and -f maps a device that is
 * mapped already, with nobody the wiser. Here a mapping makes its adapter if the name
 * says what it is (vhost0, loop), and sharing is said by both sides, by name.
 *
 * What is mapped: a word without '/' is a disk of the pool, or DISK@SNAPSHOT, which can only
 * be read, by any number of VTDs; with one it is a device or
 * file outside the pool, whole and raw. No format is ever guessed.
 *
 * Failure modes: mapped already or open as a file (4), no such disk, file or adapter (2),
 * the transport can't serve it (4): nothing is left behind.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/disks.h"
#include "cmd/paths.h"
#include "cmd/text.h"
#include "cmd/vtds.h"
#include "vtd/adapters.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "vdev", NULL, CMD_TEXT, 0, "BD",
	  "what to map: a disk of the pool, DISK@SNAPSHOT, or the path of a device or file" },
	{ "vadapter", NULL, CMD_TEXT, CMD_REQUIRED, "ADAPTER",
	  "to which adapter; vhostN and loop are made if they are not there" },
	{ "dev", NULL, CMD_TEXT, 0, "NAME", "how to call the VTD; without it the next free vtscsiN" },
	CMD_OPTIONS_MAPPING,
	{ "client", NULL, CMD_TEXT, 0, "LABEL", "without -vdev: whom the new adapter serves, for the lists" },
	{ "fbo", NULL, CMD_FLAG, CMD_LATER, NULL, "virtual optical drives are not in this release" },
	{ "f", NULL, CMD_FLAG, CMD_LATER, NULL,
	  "-f does not say what it forces: if two may use the disk, say -shared" },
	{ 0 },
};

/* A path is the user's, so it is made absolute where the user is; one that is absolute stays as it is typed, since
 * /dev/disk/by-id/... survives what /dev/sdb does not. */
static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	char text[PATH_MAX], absolute[PATH_MAX];
	int rc = cmd_arg_text(args, "vdev", text, sizeof(text), err);

	if (rc < 0)
		return rc;
	if (rc == CMD_ARG_ABSENT || !strchr(text, '/') || text[0] == '/')
		return CMD_ON_POOL;
	rc = cmd_path_absolute(text, absolute, err);
	if (rc < 0)
		return rc;
	json_object_set_new(args, "vdev", cmd_text_to_json(absolute));
	return CMD_ON_POOL;
}

static int make_adapter(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	char name[256], transport[160], client[512] = "";
	struct meta_adapter_record rec;
	struct meta_pool_info info;
	int rc = cmd_arg_text(args, "vadapter", name, sizeof(name), err);

	if (rc == 0)
		rc = cmd_arg_text(args, "transport", transport, sizeof(transport), err);
	if (rc < 0)
		return rc;
	meta_pool_info(ctx->meta, &info);
	rc = vtd_adapter_default(info.name, name, rc == 0 ? transport : NULL, &rec, err);
	if (rc == VTD_NO_DEFAULT)
		return base_error_set(err, -EINVAL, "%s: what adapter is that to be? Add -transport", name);
	if (rc == 0)
		rc = cmd_arg_text(args, "client", client, sizeof(client), err);
	if (rc >= 0 && strlen(client) > META_CLIENT_BYTES_MAX)
		return base_error_set(err, -EINVAL, "%s: -client has more than %d bytes", name, META_CLIENT_BYTES_MAX);
	if (rc >= 0)
		rc = meta_adapter_create(ctx->meta, name, &rec, err);
	if (rc == 0 && client[0])
		rc = meta_adapter_set_client(ctx->meta, name, client, err);
	if (rc < 0)
		return rc;

	json_t *rows = cmd_adapters_to_json(ctx, name);

	*ret_result = json_pack("{s:O}", "adapter", json_array_get(rows, 0));
	json_decref(rows);
	return 0;
}

static int map(struct cmd_context *ctx, const json_t *args, const char *vdev, json_t **ret_row, struct base_error *err)
{
	struct cmd_backing backing;
	int rc = cmd_backing_find(ctx, vdev, &backing, err);

	ctx->subject = CMD_SUBJECT_NONE;
	if (rc < 0)
		return rc;
	rc = cmd_vtd_map_by_args(ctx, args, "dev", &backing, ret_row, err);
	cmd_backing_put(&backing);
	return rc;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	char vdev[PATH_MAX];
	json_t *row = NULL;
	int rc = cmd_arg_text(args, "vdev", vdev, sizeof(vdev), err);

	if (rc < 0)
		return rc;
	if (rc == CMD_ARG_ABSENT)
		return make_adapter(ctx, args, ret_result, err);
	if (cmd_arg_is_set(args, "client"))
		return base_error_set(err, -EINVAL, "-client goes without -vdev, or with `bdfs chdev -dev ADAPTER`");
	rc = map(ctx, args, vdev, &row, err);
	if (rc == 0)
		*ret_result = json_pack("{s:o}", "mapping", row);
	return rc;
}

static unsigned needs(const json_t *args)
{
	return CMD_CHANGES;
}

const struct cmd_verb cmd_mkvdev = {
	.name = "mkvdev",
	.summary = "map a disk to an adapter",
	.synopsis = "bdfs mkvdev [-sp POOL] -vdev BD -vadapter ADAPTER [-dev NAME] [-shared] [-ro] [-transport T]\n"
		    "bdfs mkvdev [-sp POOL] -vadapter ADAPTER [-transport T] [-client LABEL]",
	.about =
		"Binds a disk to an adapter by a virtual target device (VTD). The mapping is durable: it is there "
		"until rmvdev, and served whenever the pool is mounted. Prints the name of the VTD, its state, and "
		"where it is to be found.\n"
		"The adapters loop and loopN make the disk /dev/loopN of this host, with direct I/O. vhostN serve "
		"guests, each VTD at a socket of its own.\n"
		"What has a '/' in it is a block device or file outside the pool, served whole and as it is, no format "
		"guessed; refused if anybody has it, and claimed while it is served. vhostN only.\n"
		"DISK@SNAPSHOT maps a snapshot, read-only and as often as you like, to loop or vhostN; it can't be "
		"removed as long as it is mapped.\n"
		"A disk that is mapped, or open as a file, is refused, unless both sides say -shared. Without -vdev an "
		"adapter is made, which a mapping does by itself where the name says what it is.",
	.examples = "bdfs mkvdev -sp vms -vdev web1 -vadapter loop\n"
		    "bdfs mkvdev -sp vms -vdev /dev/disk/by-id/wwn-0x5002538e40a1b2c3 -vadapter vhost0\n"
		    "bdfs mkvdev -sp vms -vdev web1 -vadapter vhost0 -dev web1_root",
	.options = options,
	.local = local,
	.run = run,
	.needs = needs,
};
