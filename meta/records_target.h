/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of the target side: adapters and virtual target devices (VTDs),
 * and their codecs (docs/format.md 4.8 and 4.9), as records.h has them for the rest.
 *
 * The key of both is the name. Names of devices are narrower than names of disks:
 * they become parts of socket paths and of configfs directories, and stand in
 * lists whose columns are split at blanks and colons.
 *
 * Context: any thread, pure.
 */
#ifndef META_RECORDS_TARGET_H
#define META_RECORDS_TARGET_H

#include "base/error.h"
#include "base/types.h"
#include "meta/db.h"

#define META_DEVICE_NAME_BYTES_MAX 63
#define META_PHYSLOC_BYTES_MAX 107 /* what fits into the address of a Unix socket */
#define META_CLIENT_BYTES_MAX 127
#define META_BACKING_PATH_BYTES_MAX 511
#define META_IDENTITY_BYTES_MAX 127

enum meta_transport { META_TRANSPORT_VHOST_USER = 0, META_TRANSPORT_LOOP = 1, META_TRANSPORT_LIO = 2 };
const char *meta_transport_to_text(uint8_t transport); /* "vhost-user", "loop", "lio" */
/* Return: 0; -EINVAL with err naming those there are. */
MUST_CHECK int meta_transport_parse(const char *text, uint8_t *ret, struct base_error *err);

struct meta_adapter_record {
	uint8_t transport; /* enum meta_transport */
	/* What tells this port from all others for as long as it exists, whatever is mapped to it: of a vhost-user
	 * adapter the directory of its sockets, of a LIO adapter FABRIC/WWN, else "". */
	char physloc[META_PHYSLOC_BYTES_MAX + 1];
	char client[META_CLIENT_BYTES_MAX + 1]; /* free text: who is served here; may be empty */
	uint64_t created_s;
};

enum meta_backing {
	META_BACKING_DISK = 0,
	META_BACKING_DEVICE = 1,
	META_BACKING_FILE = 2,
	META_BACKING_SNAPSHOT = 3, /* always read_only and shared: nobody can be in anybody's way */
};

struct meta_vtd_record {
	char adapter[META_DEVICE_NAME_BYTES_MAX + 1];
	uint64_t lun;    /* as VIOS writes it: 0x8100000000000000 */
	uint8_t backing; /* enum meta_backing */
	uint64_t disk;   /* disk number; 0 unless META_BACKING_DISK */
	char path[META_BACKING_PATH_BYTES_MAX + 1]; /* absolute; "" for META_BACKING_DISK and _SNAPSHOT */
	/* Which thing was at the path when it was mapped (iocore/raw.h): whatever else is found there later is not
	 * served. Of a snapshot its UUID as base_uuid_to_text() writes it: that survives renames of the snapshot and of
	 * its disk, folds of its layer and a take-over by another disk. "" for META_BACKING_DISK. */
	char identity[META_IDENTITY_BYTES_MAX + 1];
	uint8_t read_only;
	uint8_t shared; /* may be mapped a second time, or be open as a file, if the other side says so too */
	uint64_t created_s;
};

/* Encoders: fields beyond their bound are a caller's bug (assert). Return the payload length. */
size_t meta_adapter_encode(const struct meta_adapter_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX]);
size_t meta_vtd_encode(const struct meta_vtd_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX]);
/* Decoders: 0, or -EBADMSG. */
MUST_CHECK int meta_adapter_decode(const uint8_t *b, size_t n, struct meta_adapter_record *ret);
MUST_CHECK int meta_vtd_decode(const uint8_t *b, size_t n, struct meta_vtd_record *ret);

/* 1..63 of letters, digits, '.', '_' and '-', the first a letter or digit. Return: 0; -EINVAL or -ENAMETOOLONG, with
 * err. */
MUST_CHECK int meta_device_name_check(const char *name, struct base_error *err);

/*
 * LUNs have VIOS's shape: the top 16 bits are 10b, 6 bits of target, 3 of bus, 5 of unit; the rest is zero. The nth
 * (from 1) device of an adapter gets target n first, so that LUNs count 0x81.., 0x82..; bus and unit come when the
 * targets are used up.
 */
#define META_LUN_COUNT 16384u
uint64_t meta_lun_of_index(uint32_t index); /* index 1..META_LUN_COUNT - 1 */
uint32_t meta_lun_to_index(uint64_t lun);   /* 0: no LUN of ours */

#endif
