/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport "lio": a disk as a LUN of the kernel's target, for SCSI initiators: this
 * host itself (loopback, tcm_loop), guests with vhost-scsi, or iSCSI.
 *
 * The target stands on a loop device, made by the transport "loop" as for any other VTD,
 * and on that a backstore of the kind block. The target could open the file itself, but
 * then it would take its size once and for all, and carry out one request at a time. So a
 * VTD here is a VTD of loop with something on top: what loop has to say on helpers, lists
 * and take-overs holds here too, and its figures are the ones that are shown.
 *
 * What is on top is made and removed by the helper (lio_helper.c), as the target reads the
 * disk while it is set up. The daemon touches nothing in configfs but what tells of logins.
 *
 * Devices that a dead daemon left behind: the helper of the next mount removes what stands
 * on a loop device before the device (loop_helper.c).
 *
 * Failure modes: no LIO in this kernel, or not the fabric: one line that says which module.
 * A LUN in use is not removed without force; with force its users get errors.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/uuid.h"
#include "meta/pool.h"
#include "vtd/lio.h"
#include "vtd/loop.h"
#include "vtd/run_helper.h"
#include "vtd/transport.h"

struct lio_unit {
	char vtd[META_DEVICE_NAME_BYTES_MAX + 1];
	char port[META_PHYSLOC_BYTES_MAX + 1], client[META_CLIENT_BYTES_MAX + 1];
	char lun[16];			 /* its number, decimal */
	char name[2 * NAME_BYTES_MAX];	 /* of the backstore: POOL.VTD */
	char serial[BASE_UUID_TEXT_BYTES]; /* the disk's UUID */
	bool read_only;
	void *loop; /* the unit of the transport loop */
	char loop_device[VTD_DEVICE_BYTES], sequence[24];
	char device[VTD_DEVICE_BYTES]; /* where it is found: /dev/sda, or WWN/lunN */
};

/* It becomes a directory, and words in targetcli. */
static void name_store(const struct vtd_env *env, struct lio_unit *unit)
{
	struct meta_pool_info info;

	meta_pool_info(env->meta, &info);
	snprintf(unit->name, sizeof(unit->name), "%s.%s", info.name, unit->vtd);
	for (char *c = unit->name; *c; c++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", *c))
			*c = '_';
}

static void fill_unit(const struct vtd_env *env, const struct vtd_target *target, struct lio_unit *unit)
{
	struct meta_disk_info info;

	meta_disk_info(target->disk, &info);
	snprintf(unit->vtd, sizeof(unit->vtd), "%s", target->name);
	snprintf(unit->port, sizeof(unit->port), "%s", target->adapter->physloc);
	snprintf(unit->client, sizeof(unit->client), "%s", target->adapter->client);
	/* A target without a LUN 0 is not looked at by many. */
	snprintf(unit->lun, sizeof(unit->lun), "%" PRIu32, meta_lun_to_index(target->vtd->lun) - 1);
	base_uuid_to_text(info.record.uuid, unit->serial);
	unit->read_only = target->read_only;
	name_store(env, unit);
}

static int check(const struct vtd_target *target, struct base_error *err)
{
	const struct meta_adapter_record *adapter = target->adapter;
	struct vtd_lio_port port;

	if (target->snapshot)
		return base_error_set(err, -EOPNOTSUPP,
				      "a snapshot can't be a LUN: map it to a loop or vhost adapter, or make a clone "
				      "of it and map that");
	if (!target->disk)
		return base_error_set(err, -EOPNOTSUPP,
				      "%s: a LUN is made on disks of the pool; for a device or file outside it use "
				      "targetcli",
				      target->vtd->path);
	int rc = vtd_lio_port_parse(adapter->physloc, &port, err);
	if (rc == 0 && port.fabric == VTD_LIO_ISCSI && !vtd_lio_is_initiator(adapter->client))
		return base_error_set(err, -EINVAL,
				      "adapter %s: who may log in is not said: `bdfs chdev -dev %s -attr client=IQN` "
				      "with the name of the initiator",
				      target->adapter_name, target->adapter_name);
	return rc;
}

/* ---- start -------------------------------------------------------------------------------- */

static int serve(struct lio_unit *unit, struct base_error *err)
{
	char answer[VTD_HELPER_ANSWER_BYTES];
	const char *words[] = { "lio-serve", unit->loop_device, unit->sequence, unit->name, unit->serial,
				unit->read_only ? "ro" : "rw", unit->port, unit->lun, unit->client, NULL };
	int rc = vtd_run_helper(words, NULL, NULL, answer, err);

	if (rc == 0)
		snprintf(unit->device, sizeof(unit->device), "%.120s", answer);
	return rc;
}

static int end(const struct lio_unit *unit, bool force, struct base_error *err)
{
	char answer[VTD_HELPER_ANSWER_BYTES];
	const char *words[] = { "lio-end", unit->loop_device, unit->sequence, unit->port, unit->client,
				force ? "force" : "gently", NULL };

	return vtd_run_helper(words, NULL, NULL, answer, err);
}

static void note_loop(struct lio_unit *unit)
{
	struct vtd_status status;

	vtd_transport_loop.status(unit->loop, &status);
	snprintf(unit->loop_device, sizeof(unit->loop_device), "%s", status.device);
	snprintf(unit->sequence, sizeof(unit->sequence), "%" PRIu64, vtd_loop_sequence(unit->loop_device));
}

static int lio_start(const struct vtd_env *env, const struct vtd_target *target, void **ret_unit,
		     struct base_error *err)
{
	struct lio_unit *unit = calloc(1, sizeof(*unit));
	int rc = unit ? check(target, err) : base_error_set_errno(err, -ENOMEM, "%s", target->name);

	if (rc == 0)
		rc = vtd_transport_loop.start(env, target, &unit->loop, err);
	if (rc < 0) {
		free(unit);
		return rc;
	}
	fill_unit(env, target, unit);
	note_loop(unit);
	rc = serve(unit, err);
	if (rc < 0) {
		/* A helper that did not answer may have come far. */
		if (end(unit, true, NULL) < 0)
			log_warning("VTD %s: what stands on %s stays behind", unit->vtd, unit->loop_device);
		(void)!vtd_transport_loop.stop(unit->loop, true, NULL);
		free(unit);
		return rc;
	}
	*ret_unit = unit;
	return 0;
}

/* ---- stop, resize, status ----------------------------------------------------------------- */

static int lio_stop(void *ctx, bool force, struct base_error *err)
{
	struct lio_unit *unit = ctx;
	struct base_error why = { 0 };
	int rc = end(unit, force, &why);

	if (rc < 0 && force)
		log_warning("VTD %s: the target does not let go of %s: %s", unit->vtd, unit->loop_device, why.text);
	if (rc == 0 || force)
		rc = vtd_transport_loop.stop(unit->loop, force, &why);
	else if (err)
		*err = why;
	if (rc == 0) {
		free(unit);
		return 0;
	}
	/* Somebody has the loop device itself open, or the target was half removed. */
	if (serve(unit, NULL) < 0)
		log_error("VTD %s is not served any more; map it anew when nobody uses it", unit->vtd);
	if (err)
		*err = why;
	return rc;
}

static void lio_resized(void *ctx, uint64_t size_bytes)
{
	struct lio_unit *unit = ctx;
	char answer[VTD_HELPER_ANSWER_BYTES];
	const char *words[] = { "lio-rescan", unit->port, unit->lun, NULL };
	struct base_error err;

	vtd_transport_loop.resized(unit->loop, size_bytes);
	if (vtd_run_helper(words, NULL, NULL, answer, &err) < 0)
		log_warning("VTD %s: %s has its old size still: %s", unit->vtd, unit->device, err.text);
}

static void lio_status(void *ctx, struct vtd_status *ret)
{
	struct lio_unit *unit = ctx;

	*ret = (struct vtd_status){ 0 };
	snprintf(ret->device, sizeof(ret->device), "%s", unit->device);
	ret->in_use = vtd_loop_find_mount(unit->device, ret->who, sizeof(ret->who));
}

static void lio_stats(void *ctx, struct vtd_io_stats *ret)
{
	vtd_transport_loop.stats(((struct lio_unit *)ctx)->loop, ret);
}

const struct vtd_transport_ops vtd_transport_lio = {
	.description = "SCSI Target Adapter (LIO)",
	.files = 1,
	.start = lio_start,
	.stop = lio_stop,
	.status = lio_status,
	.stats = lio_stats,
	.resized = lio_resized,
};
