/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the records of a pool hold, and their byte-exact codecs (docs/format.md).
 *
 * Every encoding starts with a version byte (1); integers are little-endian;
 * strings are a 16-bit length and bytes. Decoders are pure functions over a
 * byte span: they check every length and every rule a single record can be
 * checked for, and return -EBADMSG. The checksum is db.c's.
 *
 * Context: any thread, pure.
 */
#ifndef META_RECORDS_H
#define META_RECORDS_H

#include "base/error.h"
#include "base/types.h"
#include "meta/db.h"

#define META_FORMAT_VERSION 1

/* The one record of database `pool`; key "pool". */
struct meta_pool_record {
	struct base_uuid uuid;
	char name[NAME_BYTES_MAX + 1];
	uint64_t created_s;   /* seconds since the epoch */
	uint64_t commit;      /* number of write transactions so far; grows by one in each */
	uint64_t label_floor; /* no pv label of this pool may be older than this commit */
	uint64_t generation;  /* grows at every open for writing; ties the restart log to one opening */
	uint64_t next_id;     /* disk numbers, layer ids and store ids are drawn from here, never again */
	uint32_t pv_count;
	uint8_t clean;       /* 1: closed in order, everything committed, free space known to be discarded */
	uint8_t full_policy; /* enum meta_full_policy */
	uint32_t hold_limit_s;                 /* 0 = META_HOLD_LIMIT_DEFAULT_S */
	uint8_t free_threshold_percent;        /* alert below; 0 = none */
	uint16_t overcommit_threshold_percent; /* alert above; 0 = none */
	uint32_t owner_uid;                    /* may use the control socket beside root */
};

#define META_HOLD_LIMIT_DEFAULT_S 60
enum meta_full_policy { META_FULL_ERROR = 0, META_FULL_HOLD = 1 };

/* pv: key u64 pv number. A pv that has grown has more than one range. */
#define META_PV_RANGES_MAX 64
#define META_PV_PATH_BYTES_MAX 512
struct meta_pv_range {
	uint32_t first_chunk; /* pool-wide chunk number; at least 1 */
	uint32_t chunks;
	uint64_t first_byte; /* on the pv; a multiple of CHUNK_BYTES */
};
struct meta_pv_record {
	struct base_uuid uuid;
	char path[META_PV_PATH_BYTES_MAX]; /* absolute, or relative to the pool's directory; NUL-terminated */
	uint64_t size_bytes;
	uint8_t is_file;
	uint32_t range_count;
	struct meta_pv_range ranges[META_PV_RANGES_MAX]; /* ascending, disjoint */
};

enum meta_disk_kind { META_DISK_THIN = 0, META_DISK_THICK = 1, META_DISK_LV = 2 };
const char *meta_disk_kind_to_text(uint8_t kind); /* "thin", "thick", "lv" */

/* disk: key u64 disk number. */
struct meta_disk_record {
	struct base_uuid uuid;
	char name[NAME_BYTES_MAX + 1];
	uint64_t size_bytes;
	uint32_t logical_block_bytes; /* 512 or 4096; physical is always 4096 */
	uint8_t kind;                 /* enum meta_disk_kind */
	uint64_t head_layer;
	uint64_t created_s;
	uint64_t modified_s;
	uint64_t trim_above_bytes; /* UINT64_MAX = none; else entries at or above this offset are still to be freed */
	uint64_t resize_count; /* grows with each resize, so that an older size in the restart log is known as such */
	uint32_t mode, uid, gid; /* permission bits and owner of the file */
	char labels[256];        /* free text of the owner */
};

/* layer: key u64 layer id. */
enum meta_layer_state { META_LAYER_LIVE = 0, META_LAYER_DEAD = 1 /* being freed in slices */ };
struct meta_layer_record {
	uint64_t store_id;      /* the id used in map and index keys */
	uint64_t parent;        /* layer id, 0 = none */
	uint64_t overlap_bytes; /* of the parent that may show through; a multiple of BLOCK_BYTES */
	uint32_t children;
	uint64_t owner_disk;    /* disk number; 0 = unnamed */
	uint64_t fold_cursor;   /* leaf number; 0 when no fold is under way */
	uint8_t state;          /* enum meta_layer_state */
	uint64_t index_records; /* of the store: counted at open */
	uint64_t chunks_owned;
	uint64_t blocks_valid;
};

/* snapshot: key UUID. */
struct meta_snapshot_record {
	uint64_t disk;
	char name[NAME_BYTES_MAX + 1];
	uint64_t layer;
	uint64_t size_bytes;
	uint64_t created_s;
};

/* index: key (store id, group). One presence bit for each leaf of the group. */
struct meta_index_record {
	uint8_t present[GROUP_LEAVES / 8];
};
/* space: key u64 group. One bit for each chunk of the group: owned by an entry of a durable map. */
struct meta_space_record {
	uint8_t owned[SPACE_GROUP_CHUNKS / 8];
};

/* Encoders: fields beyond their bound are a caller's bug (assert). Return the payload length. */
size_t meta_pool_encode(const struct meta_pool_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX]);
size_t meta_pv_encode(const struct meta_pv_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX]);
size_t meta_disk_encode(const struct meta_disk_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX]);
size_t meta_layer_encode(const struct meta_layer_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX]);
size_t meta_snapshot_encode(const struct meta_snapshot_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX]);
size_t meta_index_encode(const struct meta_index_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX]);
size_t meta_space_encode(const struct meta_space_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX]);

/* Decoders: 0, or -EBADMSG (unknown version, wrong length, a field out of range, a name that is no name). */
MUST_CHECK int meta_pool_decode(const uint8_t *b, size_t n, struct meta_pool_record *ret);
MUST_CHECK int meta_pv_decode(const uint8_t *b, size_t n, struct meta_pv_record *ret);
MUST_CHECK int meta_disk_decode(const uint8_t *b, size_t n, struct meta_disk_record *ret);
MUST_CHECK int meta_layer_decode(const uint8_t *b, size_t n, struct meta_layer_record *ret);
MUST_CHECK int meta_snapshot_decode(const uint8_t *b, size_t n, struct meta_snapshot_record *ret);
MUST_CHECK int meta_index_decode(const uint8_t *b, size_t n, struct meta_index_record *ret);
MUST_CHECK int meta_space_decode(const uint8_t *b, size_t n, struct meta_space_record *ret);

/*
 * The label at byte 0 of a pv: 4,096 bytes, so that it is written as whole
 * sectors of any drive. Magic "BDFSPV1\0", version, pool UUID, pv UUID, pv
 * number, first data byte, commit counter, and a checksum over all of that, in
 * the first 512 bytes, so that no torn write can mix two labels; then zeros.
 */
#define META_LABEL_BYTES 4096
#define META_PV_FIRST_DATA_BYTE MIB
struct meta_label {
	struct base_uuid pool;
	struct base_uuid pv;
	uint64_t pv_number;
	uint64_t first_data_byte;
	uint64_t commit;
};
void meta_label_encode(const struct meta_label *label, uint8_t buf[META_LABEL_BYTES]);
enum { META_LABEL_NONE = 1 };
/* Return: 0; META_LABEL_NONE: no magic, so no pv of bdfs; -EBADMSG: a damaged label or one of an unknown version. */
MUST_CHECK int meta_label_decode(const uint8_t buf[META_LABEL_BYTES], struct meta_label *ret);

/* 1..127 bytes, no '/', no NUL, not "." or "..". Returns 0, or -EINVAL / -ENAMETOOLONG with err. */
MUST_CHECK int meta_name_check(const char *name, struct base_error *err);

#endif
