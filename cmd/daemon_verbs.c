/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verbs that come over the control socket of a mounted pool.
 *
 * Each request is looked up in the same table and run by the same run() as in a
 * command of its own; around it come what a daemon owes: nothing of the request
 * is believed before it is checked, verbs that change something run one at a
 * time and leave a line in the log with who asked for what and how it ended.
 *
 * Verbs that only read run beside each other and beside a changing one, as the
 * file operations of the mount do.
 *
 * umount has its answer when the daemon has ended in order: the connection is
 * kept in a list and answered last of all, with how it ended.
 *
 * Failure modes: an unknown verb, or one that makes no sense in a daemon
 * (-EOPNOTSUPP), or one that would change a pool that is mounted read-only
 * (-EROFS), is answered and changes nothing.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cmd/control.h"
#include "cmd/daemon.h"
#include "cmd/execute.h"
#include "cmd/followers.h"
#include "cmd/pools.h"
#include "cmd/text.h"

#define AUDIT_ARGS_BYTES_MAX 600

struct cmd_dispatch {
	struct cmd_dispatch_args args; /* const after start */
	struct cmd_server *server;     /* const after start */
	struct cmd_followers followers;
	pthread_mutex_t changing;      /* held while a verb changes something; taken first */
	pthread_mutex_t lock;          /* of what follows */
	struct cmd_connection *kept[CMD_CONNECTIONS_MAX];
	unsigned kept_count;
};

struct report {
	struct cmd_progress progress;
	struct cmd_connection *connection;
};

static int report_progress(struct cmd_progress *progress, const char *what, uint64_t done, uint64_t total)
{
	struct report *report = progress->ctx;

	return cmd_connection_progress(report->connection, what, done, total);
}

static int report_ready(struct cmd_progress *progress)
{
	return cmd_connection_ready(((struct report *)progress->ctx)->connection);
}

static int report_event(struct cmd_progress *progress, const json_t *event)
{
	return cmd_connection_event(((struct report *)progress->ctx)->connection, event);
}

static void audit(struct cmd_peer peer, const char *verb, const json_t *args, const struct cmd_outcome *outcome)
{
	char *text = json_dumps(args, JSON_COMPACT);

	log_info("uid %u pid %d: %s %.*s: %s", (unsigned)peer.uid, (int)peer.pid, verb, AUDIT_ARGS_BYTES_MAX,
		 text ? text : "", outcome->code < 0 ? outcome->err.text : "done");
	free(text);
}

/* The pool itself is open for writing then too: a log had to be replayed, freed space goes on to be discarded. */
static bool refuse_read_only(struct cmd_dispatch *dispatch, const char *verb, unsigned needs,
			     struct cmd_outcome *outcome)
{
	if (!(needs & CMD_CHANGES) || (needs & CMD_ONLY_READS) || !dispatch->args.service->read_only)
		return false;
	outcome->code = base_error_set(&outcome->err, -EROFS,
				       "%s: would change the pool, which is mounted read-only at %s: mount it without "
				       "-ro for that",
				       verb, dispatch->args.service->mountpoint);
	return true;
}

static void run_verb(struct cmd_dispatch *dispatch, struct cmd_connection *connection, const struct cmd_verb *verb,
		     json_t *args, struct cmd_outcome *outcome)
{
	struct report report = { .progress = { .report = report_progress,
					       .ready = report_ready,
					       .event = report_event,
					       .ctx = &report },
				 .connection = connection };
	struct cmd_peer peer = cmd_connection_peer(connection);
	struct cmd_context ctx = {
		.directory = dispatch->args.directory,
		.meta = dispatch->args.meta,
		.ioc = dispatch->args.ioc,
		.service = dispatch->args.service,
		.uid = peer.uid,
		.progress = &report.progress,
	};
	unsigned needs = json_is_object(args) ? cmd_verb_needs(verb, args) : 0;
	bool changes = needs & CMD_CHANGES;

	if (refuse_read_only(dispatch, verb->name, needs, outcome))
		return;
	if (changes)
		pthread_mutex_lock(&dispatch->changing);
	cmd_run(verb, args, &ctx, outcome);
	if (changes) {
		audit(peer, verb->name, args, outcome);
		pthread_mutex_unlock(&dispatch->changing);
	}
}

static void run_request(struct cmd_dispatch *dispatch, struct cmd_connection *connection, json_t *request,
			struct cmd_outcome *outcome)
{
	const char *name = json_string_value(json_object_get(request, "verb"));
	const struct cmd_verb *verb = name ? cmd_verb_find(name) : NULL;

	*outcome = (struct cmd_outcome){ 0 };
	if (!verb || !verb->run)
		outcome->code = base_error_set(&outcome->err, -EOPNOTSUPP, "%.64s: not a verb for a mounted pool",
					       name ? name : "?");
	else
		run_verb(dispatch, connection, verb, json_object_get(request, "args"), outcome);
}

/* There is always room: each kept connection has a slot of the server, which has no more. */
static void keep(struct cmd_dispatch *dispatch, struct cmd_connection *connection)
{
	pthread_mutex_lock(&dispatch->lock);
	dispatch->kept[dispatch->kept_count++] = connection;
	pthread_mutex_unlock(&dispatch->lock);
}

static void serve_long(void *arg, struct cmd_connection *connection, json_t *request)
{
	struct cmd_outcome outcome;

	run_request(arg, connection, request, &outcome);
	cmd_connection_answer(connection, cmd_outcome_to_json(&outcome));
	cmd_outcome_done(&outcome);
}

static bool is_long(const json_t *request)
{
	const char *name = json_string_value(json_object_get(request, "verb"));
	const struct cmd_verb *verb = name ? cmd_verb_find(name) : NULL;
	const json_t *args = json_object_get(request, "args");

	return verb && json_is_object(args) && (cmd_verb_needs(verb, args) & CMD_LONG);
}

static json_t *serve(void *arg, struct cmd_connection *connection, json_t *request)
{
	struct cmd_dispatch *dispatch = arg;
	struct cmd_outcome outcome;
	json_t *answer;

	if (is_long(request)) {
		int r = cmd_followers_take(&dispatch->followers, connection, request);

		if (r == 0)
			return NULL;
		outcome = (struct cmd_outcome){ .code = r };
		base_error_set_errno(&outcome.err, r, "too many commands that follow this pool, %d already",
				     CMD_FOLLOWERS_MAX);
	} else {
		run_request(dispatch, connection, request, &outcome);
	}
	if (outcome.code == CMD_ANSWER_AT_END) {
		keep(dispatch, connection);
		return NULL;
	}
	answer = cmd_outcome_to_json(&outcome);
	cmd_outcome_done(&outcome);
	return answer ? answer
		      : json_pack("{s:{s:s, s:i, s:s}}", "error", "code", "ENOMEM", "errno", ENOMEM, "text",
				  "out of memory for the answer");
}

int cmd_dispatch_start(const struct cmd_dispatch_args *args, struct cmd_dispatch **ret, struct base_error *err)
{
	struct cmd_dispatch *dispatch = calloc(1, sizeof(*dispatch));
	struct cmd_server_args server_args = {
		.directory = args->directory,
		.owner = cmd_pool_owner(args->directory),
		.serve = serve,
		.ctx = dispatch,
	};

	if (!dispatch)
		return base_error_set(err, -ENOMEM, "out of memory for the control socket");
	dispatch->args = *args;
	dispatch->followers.run = serve_long;
	dispatch->followers.ctx = dispatch;
	cmd_followers_init(&dispatch->followers);
	pthread_mutex_init(&dispatch->changing, NULL);
	pthread_mutex_init(&dispatch->lock, NULL);

	int r = cmd_server_start(&server_args, &dispatch->server, err);

	if (r < 0)
		free(dispatch);
	else
		*ret = dispatch;
	return r;
}

void cmd_dispatch_stop(struct cmd_dispatch *dispatch)
{
	cmd_server_stop(dispatch->server);
	cmd_followers_done(&dispatch->followers);
}

void cmd_dispatch_free(struct cmd_dispatch *dispatch, int code, const struct base_error *err)
{
	struct cmd_outcome outcome = { .code = code };

	if (code < 0)
		outcome.err = *err;
	else
		outcome.result = json_pack("{s:o}", "unmounted", cmd_text_to_json(dispatch->args.service->mountpoint));
	for (unsigned i = 0; i < dispatch->kept_count; i++)
		cmd_connection_answer(dispatch->kept[i], cmd_outcome_to_json(&outcome));
	cmd_outcome_done(&outcome);
	cmd_server_free(dispatch->server);
	pthread_mutex_destroy(&dispatch->lock);
	pthread_mutex_destroy(&dispatch->changing);
	free(dispatch);
}
