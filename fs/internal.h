/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share: the mount, its queue sources, and the
 * functions that one file has for another.
 *
 * A message's way: transport.c reads it on a queue thread. decode.c says what
 * it is. READ, WRITE and the like go to hot.c and are answered on the same
 * queue; all others are copied to a control worker, which has libfuse parse
 * them and call the handlers of the ops_ files.
 */
#ifndef FS_INTERNAL_H
#define FS_INTERNAL_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include "base/error.h"
#include "base/types.h"
#include "fs/decode.h"
#include "fs/fs.h"
#include "fs/handles.h"
#include "fs/open_table.h"
#include "fs/proto.h"
#include "fs/workers.h"
#include "iocore/pool.h"
#include "meta/io.h"
#include "meta/pool.h"

/* Two may wait for a RELEASE that is on its way while two others answer. */
#define FS_CTL_WORKERS 4
/* How long an unlink or a shrink waits for RELEASEs before it says "busy". */
#define FS_RELEASE_WAIT_NS (300 * UINT64_C(1000000))
/* How long a mount may take to answer its first requests. */
#define FS_START_DEADLINE_MS 10000

/* Names change only through us, and changes by other ways than this mount are notified. */
#define FS_ENTRY_TIMEOUT_S 3600.0
/* Attributes too, but for st_blocks and st_mtime of a disk that a guest writes to: not worth a notification each. */
#define FS_ATTR_TIMEOUT_S 1.0

/* One message from the kernel: its memory, and all that its way through iocore needs. Owner: Q. */
struct fs_slot {
	struct fs_queue *q; /* const */
	struct fs_slot *next_free;
	uint8_t *data; /* const; page-aligned. A WRITE's payload and a READ's answer; the header stands before it */
	struct fs_request request;
	struct fs_open *open; /* pinned, or NULL */
	struct ioc_request io_request;
	struct iovec segment;
	struct ioc_io io; /* of the device: first the read, then the reply */
	struct iovec iov[2];
	struct fuse_out_header out;
	union {
		struct fuse_write_out write;
		struct fuse_lseek_out lseek;
	} body;
};

/* Our source on one queue thread. Owner: Q, but for what is const. */
struct fs_queue {
	struct fs_mount *fs;     /* const */
	struct ioc_queue *queue; /* const */
	unsigned number;         /* const; index of fs->queues */
	uint8_t *memory;         /* const */
	struct fs_slot *slots;   /* const */
	struct base_msg start;   /* start to read */
	struct base_msg last;    /* after all others */
	_Atomic bool start_posted;
	struct ioc_engine *engine;
	struct fs_slot *free;
	unsigned made, taken; /* of SLOTS: ever used; in use now, for a read under way or a request */
	unsigned reads; /* reads of the device under way */
	unsigned quiet; /* requests in a row that found nothing else in flight */
	unsigned single; /* requests in a row that were alone, since we last looked where the client runs */
	bool is_ending; /* the device said that the mount is gone */
	bool has_ended;
	struct fs_open_cache cache;
};

struct fs_mount {
	/* const after the start */
	struct meta_pool *meta;
	struct ioc_pool *ioc;
	struct fuse_session *session;
	int fd;
	char *mountpoint; /* absolute */
	bool read_only;
	uid_t uid;
	gid_t gid;
	size_t page_bytes;
	bool has_shared_mmap; /* the kernel allows MAP_SHARED of direct files */
	unsigned queue_count;
	struct fs_queue *queues;
	_Atomic unsigned readers; /* the first so many queues read the device */
	_Atomic bool all_read;    /* the mount is gone, and every queue is to hear of it */
	char pool_name[NAME_BYTES_MAX + 1];

	struct fs_open_table opens;
	struct fs_handles *handles; /* const; NULL: nobody keeps the mount when we die */
	struct fs_workers ctl;
	struct fs_workers notifier;
	pthread_t recorder;
	_Atomic uint64_t catalogue_changed_s; /* st_mtime of disks/ */
	_Atomic uint64_t next_directory;      /* handles of open directories */
	pthread_mutex_t directories_lock;
	struct fs_directory *directories; /* directories_lock */

	pthread_mutex_t lock;
	pthread_cond_t ended;
	unsigned queues_running; /* lock */
};

/* ---- follow.c ----------------------------------------------------------------------------- */

/* Moves the calling thread to the processor that the thread `client` (0: unknown) last ran on, if it may run there; it
 * may run elsewhere again afterwards. Thread: any. Takes some microseconds; never fails. */
void fs_follow(pid_t client);

/* ---- transport.c -------------------------------------------------------------------------- */

/* Makes the queues' memory. Return: 0 or -ENOMEM. Context: CTL. */
MUST_CHECK int fs_transport_init(struct fs_mount *fs);
/* Every queue begins to read the device. */
void fs_transport_start(struct fs_mount *fs);
/* Blocks until every queue has met the end of the mount and has answered what it had. Context: CTL. */
void fs_transport_wait(struct fs_mount *fs);
void fs_transport_done(struct fs_mount *fs);

/* Each answers slot's request and gives the slot back. Context: Q. */
void fs_reply_error(struct fs_slot *slot, int result); /* as the engine says it, or 0: a reply without a body */
void fs_reply_unknown(struct fs_slot *slot);           /* ENOSYS: the kernel does not ask again, for any file */
void fs_reply_body(struct fs_slot *slot, void *body, size_t bytes);
/* Gives the slot back without an answer. */
void fs_slot_put(struct fs_slot *slot);

/* ---- hot.c -------------------------------------------------------------------------------- */

/* Carries out and answers slot->request, of an operation other than FS_OP_OTHER. Context: Q. */
void fs_hot_handle(struct fs_slot *slot);
/* ---- notify.c ----------------------------------------------------------------------------- */

/* snapshots/NAME is another directory now, or none. Any thread. */
void fs_notify_snapshots_moved(struct fs_mount *fs, const char *old_name);

/* ---- recorder.c --------------------------------------------------------------------------- */

/* Return: 0 or negative errno. Context: CTL. */
MUST_CHECK int fs_recorder_start(struct fs_mount *fs);
/* Records what is noted of closed disks and ends. Context: CTL; no more RELEASEs come. */
void fs_recorder_stop(struct fs_mount *fs);
/* Records the time of the last change of a disk. Context: CTL; blocks. ctx is not used. */
void fs_keep_modified(struct meta_disk *disk, uint64_t modified_s, void *ctx);

/* ---- ctl.c -------------------------------------------------------------------------------- */

/* Hands a copy of a message to libfuse, on a control worker. Return: 0 or -ENOMEM. Any thread. */
MUST_CHECK int fs_ctl_post(struct fs_mount *fs, const void *message, size_t bytes);
/* The number of the request that this control worker is at. */
uint64_t fs_request_unique(void);
/* Whether it was sent before, to a daemon that died before it answered but may have carried it out. */
bool fs_request_is_resent(void);

/* ---- init.c ------------------------------------------------------------------------------- */

/* Answers the kernel's INIT and tells libfuse of it. Nothing else reads the device yet. Context: CTL. */
MUST_CHECK int fs_init_answer(struct fs_mount *fs, struct base_error *err);
/* The same for a mount that is taken over, by the INIT of its beginning. */
MUST_CHECK int fs_init_repeat(struct fs_mount *fs, struct base_error *err);

/* ---- take_over.c -------------------------------------------------------------------------- */

/* Opens again what is open in the mount. Before anything is served. Context: CTL. */
void fs_take_over_opens(struct fs_mount *fs);
/* Has the kernel send again what it has no answer to. Return: 0 or negative errno. */
MUST_CHECK int fs_take_over_requests(struct fs_mount *fs);

/* ---- mount.c ------------------------------------------------------------------------------ */

/* The last line that libfuse logged on this thread since the mount began; may be empty. */
const char *fs_libfuse_said(void);

/* ---- mount_point.c ------------------------------------------------------------------------ */

/* The absolute path of a directory to mount on, free of a dead mount of ours. The caller frees *ret. */
MUST_CHECK int fs_mount_point_prepare(const char *path, char **ret, struct base_error *err);
/* Detaches a mount of ours on path if its daemon is gone; anything else is left alone. */
void fs_mount_point_clear(const char *path);
/* Return: 0 once a statfs of path has been answered; -ETIMEDOUT; or what statfs said. */
MUST_CHECK int fs_mount_point_probe(const char *path, int timeout_ms);
/* flags: of umount2(2). */
MUST_CHECK int fs_mount_point_unmount(const char *path, int flags);

/* ---- ops_*.c: the handlers that libfuse calls, on a control worker --------------------------- */

extern const struct fuse_lowlevel_ops fs_ops;

void fs_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void fs_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void fs_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
		  unsigned flags);
void fs_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void fs_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name);
void fs_op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t new_parent, const char *new_name);

void fs_op_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void fs_op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi);
void fs_op_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi);
void fs_op_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
/* Frees the handles that are left. Context: CTL. */
void fs_directories_done(struct fs_mount *fs);

void fs_op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void fs_op_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int which, struct fuse_file_info *fi);
void fs_op_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void fs_op_statfs(fuse_req_t req, fuse_ino_t node);
void fs_op_ioctl(fuse_req_t req, fuse_ino_t node, unsigned cmd, void *arg, struct fuse_file_info *fi, unsigned flags,
		 const void *in, size_t in_bytes, size_t out_bytes);

void fs_op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size);
void fs_op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size);
void fs_op_copy_file_range(fuse_req_t req, fuse_ino_t node_in, off_t offset_in, struct fuse_file_info *in,
			   fuse_ino_t node_out, off_t offset_out, struct fuse_file_info *out, size_t length,
			   int flags);

void fs_op_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags);
void fs_op_removexattr(fuse_req_t req, fuse_ino_t node, const char *name);

/* ---- ops_common.c ------------------------------------------------------------------------- */

static inline struct fs_mount *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* result: 0 or negative, as the rooms below say it; the answer has no body. */
void fs_answer(fuse_req_t req, int result);
/* Resizes the disk. Return: as the engine's resize. Blocks. */
MUST_CHECK int fs_disk_resize(struct fs_mount *fs, struct meta_disk *disk, uint64_t size_bytes);
/* Waits for RELEASEs on their way. Return: 0 when nobody but allowed descriptors of this mount has it open; -EBUSY.
 */
MUST_CHECK int fs_disk_wait_unused(struct fs_mount *fs, struct meta_disk *disk, unsigned allowed);
/* Opens the disk for a descriptor, with truncation if O_TRUNC is in open_flags; undone by fs_release. */
MUST_CHECK int fs_disk_open(struct fs_mount *fs, struct meta_disk *disk, int open_flags, pid_t pid,
			    struct fuse_open_out *ret);
/* Gives back what one descriptor held, when its last request has ended. */
void fs_disk_close(struct ioc_bd *bd);
/* A handle for the open that was just added, which is taken back if there is none. Return: 0; -ENFILE. */
MUST_CHECK int fs_hand_out(struct fs_mount *fs, uint64_t number, uint64_t *ret_fh);
/* One descriptor less: a RELEASE, or an OPEN whose answer nobody took. Return: 0; -EBADF. Any thread. */
int fs_release(struct fs_mount *fs, uint64_t fh);
/* One open of the disk for the open table, and what it counts for elsewhere. Return: 0; negative errno. */
MUST_CHECK int fs_disk_add_open(struct fs_mount *fs, struct meta_disk *disk, int open_flags, pid_t pid);

/* ---- node.c ------------------------------------------------------------------------------- */

/*
 * A disk's node id is made of its number, a snapshot's of the number of its layer: both are drawn from one counter.
 * This bit in a disk's node id makes that of the directory of its snapshots.
 */
#define FS_NODE_SNAPSHOTS_BIT (UINT64_C(1) << 62)

enum { FS_NODE_ROOT = 1, FS_NODE_DISKS = 2, FS_NODE_SNAPSHOTS = 3, FS_NODE_MEDIA = 4, FS_NODE_FIRST_DISK = 16 };

/* Disk numbers are never used again, so a node id means one disk for ever, across restarts too. */
static inline fuse_ino_t fs_node_of_disk(const struct meta_disk *disk)
{
	return FS_NODE_FIRST_DISK + meta_disk_number(disk);
}

static inline bool fs_node_is_snapshots_of(fuse_ino_t node)
{
	return node & FS_NODE_SNAPSHOTS_BIT;
}

static inline bool fs_node_is_directory(fuse_ino_t node)
{
	return node <= FS_NODE_MEDIA || fs_node_is_snapshots_of(node);
}

/* A referenced disk, or NULL: something else, or a disk that is gone. */
struct meta_disk *fs_node_disk(struct fs_mount *fs, fuse_ino_t node);
/* 0 or -ESTALE: no such node (the kernel then looks the name up anew). */
MUST_CHECK int fs_node_stat(struct fs_mount *fs, fuse_ino_t node, struct stat *ret);
void fs_disk_stat(struct fs_mount *fs, struct meta_disk *disk, struct stat *ret);
void fs_disk_entry(struct fs_mount *fs, struct meta_disk *disk, struct fuse_entry_param *ret);
/* One second is what the kernel may believe attributes for; names as long as FS_ENTRY_TIMEOUT_S. */
void fs_directory_stat(struct fs_mount *fs, fuse_ino_t node, struct stat *ret);

/* ---- snapshots.c -------------------------------------------------------------------------- */

/* A referenced snapshot, or NULL. */
struct meta_snapshot *fs_node_snapshot(struct fs_mount *fs, fuse_ino_t node);
/* The disk of a directory of snapshots, referenced, or NULL: it is none, or the disk is gone. */
struct meta_disk *fs_node_snapshots_of(struct fs_mount *fs, fuse_ino_t node);
void fs_snapshot_stat(struct fs_mount *fs, struct meta_snapshot *snapshot, struct stat *ret);
/* The directory that a node is in; node is one of this file's. 0: it is gone. */
fuse_ino_t fs_snapshots_parent(struct fs_mount *fs, fuse_ino_t node);
/* What NAME is in snapshots/ or in snapshots/DISK. Return: 0; -ENOENT. */
MUST_CHECK int fs_snapshots_look_up(struct fs_mount *fs, fuse_ino_t parent, const char *name,
				    struct fuse_entry_param *ret);
/* An entry by its number, as fs_snapshots_each gives it. Return: 0; -ENOENT: it is gone. */
MUST_CHECK int fs_snapshots_entry(struct fs_mount *fs, fuse_ino_t parent, uint64_t number,
				  char ret_name[NAME_BYTES_MAX + 1], struct fuse_entry_param *ret);
/* Calls add with the number of each entry of snapshots/ or snapshots/DISK, in any order, until it fails. */
MUST_CHECK int fs_snapshots_each(struct fs_mount *fs, fuse_ino_t node, int (*add)(void *ctx, uint64_t number),
				 void *ctx);
/* Opens a snapshot for a descriptor; undone by fs_release. */
MUST_CHECK int fs_snapshot_open(struct fs_mount *fs, struct meta_snapshot *snapshot, int open_flags,
				struct fuse_open_out *ret);
/* One open of the snapshot for the open table. Return: 0; negative errno. */
MUST_CHECK int fs_snapshot_add_open(struct fs_mount *fs, struct meta_snapshot *snapshot);

/* ---- node.c, again ------------------------------------------------------------------------ */

/* Notes that the list of disks has changed now. */
void fs_catalogue_touch(struct fs_mount *fs);
uint64_t fs_now_s(void);

#endif
