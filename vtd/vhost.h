/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backing device as a vhost-user-blk device: one socket, one bd, one front end at a time.
 *
 * vtd_vhost_start() makes the socket and a control thread that accepts a front
 * end (QEMU, cloud-hypervisor, User-mode Linux, libblkio ...) and talks the
 * vhost-user protocol with it. The virtqueues are served by the pool's queue
 * threads: ring i by queue (first_queue + i) modulo their number. When the front
 * end goes, all its requests are waited for, its memory is unmapped, its
 * descriptors are closed, and the socket listens for the next one. A front end
 * that sends anything malformed loses its connection, with a line in the log;
 * nothing else is touched by that.
 *
 * What the caller keeps: the bd (opened before start, closed after stop), the
 * mapping rules, the record of the VTD, the directory of the socket.
 *
 * A daemon that dies leaves the socket's file behind; the next start replaces
 * it. Front ends that share an inflight region (QEMU with reconnect=, our test
 * client) then reconnect and their open requests are carried out again, each
 * answered exactly once.
 *
 * Context: CTL, unless a function says otherwise. All functions of one device
 * may be called from several threads, except that start comes first and stop last.
 */
#ifndef VTD_VHOST_H
#define VTD_VHOST_H

#include <sys/types.h>

#include "base/error.h"
#include "base/types.h"

struct ioc_bd;
struct ioc_pool;
struct meta_disk;
struct vtd_vhost;

#define VTD_VHOST_QUEUES_MAX 64
/* What GET_ID answers: at most 20 bytes, padded with NUL, not necessarily terminated (virtio 1.2, 5.2.6). */
#define VTD_VHOST_ID_BYTES 20
/* sun_path of a Unix socket, without the NUL. */
#define VTD_VHOST_PATH_BYTES_MAX 107

struct vtd_vhost_args {
	struct ioc_pool *pool;   /* whose queue threads serve; outlives the device */
	struct ioc_bd *bd;       /* open until vtd_vhost_stop() has returned */
	struct meta_disk *disk;  /* whose held writes end when a ring has to stop; NULL: not a disk of the pool */
	const char *name;        /* of the VTD, for messages; copied */
	const char *socket_path; /* at most VTD_VHOST_PATH_BYTES_MAX bytes; copied */
	mode_t socket_mode;      /* 0 = 0600: who may connect is who may write to the socket's file */
	gid_t socket_group;      /* of that file; 0 = the daemon's own */
	uint64_t size_bytes;     /* of the bd now; what is left over a multiple of 512 is not shown to the guest */
	uint32_t logical_block_bytes; /* 512 or 4096; 0 = 512 */
	char id[VTD_VHOST_ID_BYTES];  /* see vtd_vhost_id() */
	bool read_only;               /* VIRTIO_BLK_F_RO; writes are refused whatever the guest does */
	unsigned queues;              /* virtqueues offered; 0 = one for each queue thread */
	unsigned first_queue; /* the queue thread of ring 0: a counter spreads many devices over the threads */
};

/* The rule for the id of a disk: the first 20 of the 32 hexadecimal digits of its UUID, no dashes. Any thread. */
void vtd_vhost_id(struct base_uuid uuid, char ret_id[VTD_VHOST_ID_BYTES]);

/*
 * Listens on the socket and returns; a front end may connect from now on.
 * A file at socket_path is replaced only if it is a socket on which nobody listens.
 * Return: 0; with err: -EINVAL (path too long, block size, queues), -EADDRINUSE (somebody listens there), -EEXIST
 * (something else than a socket is there), -ENOENT / -EACCES (the directory), -EMFILE, -ENOMEM, -EAGAIN.
 */
MUST_CHECK int vtd_vhost_start(const struct vtd_vhost_args *args, struct vtd_vhost **ret, struct base_error *err);

/*
 * Stops listening, removes the socket's file, ends the connection of a front end that is there (whether that is
 * allowed is the caller's to decide, see vtd_vhost_info), waits for requests in flight, frees all. Blocks as long as
 * the slowest request takes.
 */
void vtd_vhost_stop(struct vtd_vhost *vhost);

struct vtd_vhost_info {
	bool is_connected;
	pid_t peer_pid; /* who connected, at that time, by SO_PEERCRED; 0 = nobody */
	uid_t peer_uid;
	uint64_t connections;                         /* accepted since start */
	uint64_t ended_badly;                         /* of these: by a violation of the protocol */
	unsigned queues;                              /* offered */
	unsigned queues_running;                      /* rings that the guest has started */
	bool has_packed, has_event_idx, has_inflight; /* negotiated with who is connected */
	bool is_write_back;                           /* what the guest chose (CONFIG_WCE) */
	uint64_t features;                            /* negotiated virtio features */
	char last_error[160];                         /* why the last front end was thrown out; "" = none was */
};
void vtd_vhost_info(struct vtd_vhost *vhost, struct vtd_vhost_info *ret);

/* Bucket i counts requests that took less than 2^i microseconds and no less than 2^(i-1); the last one all above. */
#define VTD_LATENCY_BUCKETS 24

struct vtd_io_stats {
	uint64_t reads, writes, flushes, discards, write_zeroes, others;
	uint64_t read_bytes, write_bytes, discard_bytes; /* discard_bytes: of discards and write zeroes */
	uint64_t errors;                       /* answered with an error status, unsupported requests included */
	uint64_t resubmitted;                  /* carried out again after a reconnect */
	uint64_t inflight;                     /* now */
	uint64_t latency[VTD_LATENCY_BUCKETS]; /* of all but "others", from taken to answered */
};
/* Since start, over all front ends. Any thread, never blocks. */
void vtd_vhost_stats(const struct vtd_vhost *vhost, struct vtd_io_stats *ret);

/* The bd has another size now: tells the guest, if it listens for changes of the configuration. Does not wait for
 * the guest. */
void vtd_vhost_resized(struct vtd_vhost *vhost, uint64_t size_bytes);

#endif
