/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool's metadata as a stream of bytes (docs/format.md, section 8): a header, every record in order, an end.
 *
 * Each record carries a checksum that also covers the one before it, so that a record that is changed, missing, twice
 * or in another place is seen, and so is a stream without its end. The codec neither knows nor asks what the records
 * mean: meta/restore.h does.
 *
 * Context: any thread, but for what the caller's read and write do. No memory is allocated.
 */
#ifndef META_STREAM_H
#define META_STREAM_H

#include "base/error.h"
#include "base/types.h"
#include "meta/db.h"

#define META_STREAM_HEADER_BYTES 64
#define META_STREAM_END_BYTES 20
/* Of a record: kind, length of the key, length of the value; behind key and value the checksum. */
#define META_STREAM_HEAD_BYTES 4
#define META_STREAM_RECORD_BYTES_MAX (META_STREAM_HEAD_BYTES + DB_KEY_BYTES_MAX + DB_VALUE_BYTES_MAX + 8)

struct meta_stream_header {
	struct base_uuid pool;
	uint64_t commit;     /* of the pool record that follows */
	uint64_t generation; /* likewise */
	uint64_t made_s;     /* seconds since the epoch */
};

/* ---- writing --------------------------------------------------------------------------------- */

/* Takes all of the bytes. Return: 0; a negative errno, which the call that wrote returns. */
typedef int meta_stream_write_fn(void *ctx, const void *bytes, size_t count);

struct meta_stream_out {
	meta_stream_write_fn *write;
	void *ctx;
	uint64_t chain, records, bytes;
};

MUST_CHECK int meta_stream_begin(struct meta_stream_out *out, const struct meta_stream_header *header);
/* Records come by kind, and by key within one. */
MUST_CHECK int meta_stream_put(struct meta_stream_out *out, enum db_kind kind, const struct db_key *key,
			       const struct db_value *value);
MUST_CHECK int meta_stream_end(struct meta_stream_out *out);

/* ---- reading --------------------------------------------------------------------------------- */

/* Fills all of the buffer. Return: 0; -ENODATA: there is less; other negative errno. */
typedef int meta_stream_read_fn(void *ctx, void *bytes, size_t count);

struct meta_stream_in {
	meta_stream_read_fn *read;
	void *ctx;
	uint64_t chain, records, bytes;
	enum db_kind kind; /* of the last record */
	struct db_key key;
};

/* Return: 0; -EBADMSG: no such stream, or its header is damaged; what read returned. */
MUST_CHECK int meta_stream_open(struct meta_stream_in *in, struct meta_stream_header *ret);

enum { META_STREAM_END = 1 };
/* The next record. Return: 0; META_STREAM_END: all were there; -EBADMSG: damaged, out of order or cut off; what read
 * returned. */
MUST_CHECK int meta_stream_next(struct meta_stream_in *in, enum db_kind *ret_kind, struct db_key *ret_key,
				struct db_value *ret_value);

#endif
