/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A verb of bdfs: its options, its help, and what it does.
 *
 * A verb takes one JSON object of arguments and gives one JSON object as its
 * result. It never prints, never asks and never looks at argv: cli/ parses,
 * asks and renders. So the same run() serves in the daemon of a mounted pool
 * and in the command itself when the pool is not mounted.
 *
 * Arguments: a key is an option's name. CMD_FLAG true; CMD_TEXT a string;
 * CMD_SIZE an integer (bytes) or {"bytes": n, "increment": true}; CMD_NUMBER an
 * integer; CMD_LIST an array of strings. Results: bytes as integers, stable
 * keys, names and paths as cmd/text.h has them.
 *
 * Context: CTL. In the daemon several verbs may run at once, but only one that
 * changes something.
 */
#ifndef CMD_VERB_H
#define CMD_VERB_H

#include <jansson.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/types.h"

struct base_fault;
struct meta_pool;
struct ioc_pool;
struct vtd_table;
struct cmd_background;

enum cmd_kind { CMD_FLAG, CMD_TEXT, CMD_SIZE, CMD_NUMBER, CMD_LIST };

enum {
	CMD_POSITIONAL = 1 << 0, /* given by its place; a CMD_LIST takes all that are left */
	CMD_REQUIRED = 1 << 1,
	CMD_HIDDEN = 1 << 3, /* for the command's own requests to the daemon: in no help, refused by local() */
	CMD_LATER = 1 << 2, /* VIOS has it, this release doesn't: refused with its help as the reason */
};

struct cmd_option {
	const char *name;  /* "sp": -sp and --sp, and the key in args; NULL ends the table */
	const char *alias; /* a second spelling on the command line, or NULL */
	enum cmd_kind kind;
	unsigned flags;
	const char *value; /* what the help calls its value: "POOL"; NULL for a flag */
	const char *help;
};

#define CMD_OPTION_SP                                                                                                  \
	{                                                                                                              \
		"sp", NULL, CMD_TEXT, 0, "POOL",                                                                       \
			"the pool: its name, or the path of its directory. Without it: the default pool"               \
	}

/* Whose absence an error is about; picks among exit statuses, see cmd/exit_status.h. */
enum cmd_subject { CMD_SUBJECT_NONE, CMD_SUBJECT_POOL, CMD_SUBJECT_BD };

/* What a daemon tells about itself. Const after the mount, but for what functions say. */
struct cmd_service {
	const char *mountpoint;
	const char *options; /* mount options as given, or NULL */
	pid_t pid;
	uint64_t started_s; /* seconds since the epoch */
	bool read_only;
	int device_fd, handles_fd; /* of a mount that survives the daemon; -1 */
	struct base_fault *fault; /* NULL, or the rules of faults that are injected */
	/* Asks for the unmount. 0: on its way; -EBUSY: files are open; other negative errno. */
	int (*unmount)(const struct cmd_service *service, bool lazy, struct base_error *err);
	/* What the kernel has to be told, as it caches names and sizes of the mount. */
	void (*disk_changed)(const struct cmd_service *service, uint64_t number);
	void (*disk_renamed)(const struct cmd_service *service, uint64_t number, const char *old_name);
	void (*disk_removed)(const struct cmd_service *service, uint64_t number, const char *name);
	void (*disk_replaced)(const struct cmd_service *service, uint64_t number); /* another content: a rollback */
	void (*snapshot_removed)(const struct cmd_service *service, uint64_t number, uint64_t layer, const char *name);
	struct vtd_table *vtds; /* what serves the mappings */
	struct cmd_background *background;
	void *ctx;
};

/* How long work tells how far it is. Return nonzero to stop it: it then ends with -ECANCELED. */
struct cmd_progress {
	int (*report)(struct cmd_progress *progress, const char *what, uint64_t done, uint64_t total);
	/* Of a stream of events; NULL where there can be none. ready, in the daemon: 0: one event can be sent without
	 * waiting; -EAGAIN: not now; -EPIPE: nobody is there any more; -ECANCELED: the daemon ends. event: 0; as
	 * ready, or nonzero from who shows it: no more. */
	int (*ready)(struct cmd_progress *progress);
	int (*event)(struct cmd_progress *progress, const json_t *event);
	void *ctx;
};

struct cmd_context {
	const char *directory;             /* the pool's */
	struct meta_pool *meta;            /* NULL in a command of its own, if the verb is CMD_CLOSED */
	struct ioc_pool *ioc;              /* NULL in a command of its own, unless the verb needs CMD_IO */
	const struct cmd_service *service; /* NULL in a command of its own */
	uid_t uid;                         /* who asks */
	struct cmd_progress *progress;     /* NULL: nobody wants to know */
	enum cmd_subject subject;          /* out: what an error is about */
};

/* What local() may return beside 0 and a negative errno. */
enum {
	CMD_ON_POOL = 1,  /* nothing to do here: run() on the pool of -sp, or on the default pool */
	CMD_ON_EACH_POOL, /* run() on every registered pool; the results' arrays are joined to those in *ret_result */
};
/* What run() may return besides: the answer is given when the daemon has ended in order. */
enum { CMD_ANSWER_AT_END = 1 };

/* What a verb needs of its pool, by its arguments. */
enum {
	CMD_CHANGES = 1 << 0, /* opened for writing; one such verb at a time; a line in the log */
	CMD_IO = 1 << 1,      /* queue threads */
	CMD_LONG = 1 << 3,    /* goes on until its client has enough: a thread of its own in the daemon */
	CMD_ONLY_READS = 1 << 4, /* with CMD_CHANGES: all the same, nothing is changed: fine on a read-only mount */
	CMD_CLOSED = 1 << 2,  /* without a daemon the pool is not opened: the verb looks at its directory */
};

struct cmd_verb {
	const char *name;
	const char *summary;  /* half a line */
	const char *synopsis; /* lines */
	const char *about;    /* paragraphs */
	const char *examples; /* lines */
	const char *exits;    /* beyond the common ones, or NULL */
	const struct cmd_option *options;
	/* What runs in the command's own process, without an open pool (the registry, mounting). NULL = CMD_ON_POOL. */
	int (*local)(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err);
	/* What runs on an open pool. NULL: local() does it all. May give a result beside a negative errno. */
	int (*run)(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err);
	unsigned (*needs)(const json_t *args); /* NULL = it only reads */
	/* What a terminal is asked before args get "yes"; false = nothing to ask. NULL = never asks. */
	bool (*question)(const json_t *args, char *buf, size_t room);
};

/* In the order of the help; NULL at the end. */
extern const struct cmd_verb *const cmd_verbs[];
const struct cmd_verb *cmd_verb_find(const char *name);
const struct cmd_option *cmd_option_find(const struct cmd_verb *verb, const char *name);
unsigned cmd_verb_needs(const struct cmd_verb *verb, const json_t *args);

extern const struct cmd_verb cmd_mksp, cmd_lssp, cmd_chsp, cmd_rmsp, cmd_mount, cmd_umount, cmd_mkbdsp, cmd_chbdsp,
	cmd_rmbdsp, cmd_lu, cmd_snapshot, cmd_inflate, cmd_jobs, cmd_send, cmd_receive, cmd_check, cmd_dump;
extern const struct cmd_verb cmd_restore, cmd_import;
extern const struct cmd_verb cmd_alert, cmd_events;
extern const struct cmd_verb cmd_mkvdev, cmd_rmvdev, cmd_lsmap, cmd_lsdev, cmd_chdev, cmd_rmdev;
extern const struct cmd_verb cmd_mklv, cmd_lslv, cmd_extendlv, cmd_rmlv, cmd_cplv;
extern const struct cmd_verb cmd_viostat;
extern const struct cmd_verb cmd_bench;

#endif
