/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket, both ends, with peers of every kind and an echo for a daemon. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/types.h"
#include "cmd/control.h"
#include "cmd/frame.h"

static char directory[] = "/tmp/bdfs-control-XXXXXX";
static struct cmd_server *server;
static struct base_error err;
static _Atomic(struct cmd_connection *) kept;
static atomic_uint served, gate_open = 1;

static void pause_ms(long ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

/* Waits for *what to be at least n. */
static void await_count(atomic_uint *what, unsigned n)
{
	for (int i = 0; atomic_load(what) < n; i++) {
		cr_assert_lt(i, 500, "waited 5 s for %u, have %u", n, atomic_load(what));
		pause_ms(10);
	}
}

/* Answers {"result": request}; verb "keep" keeps the connection, "wait" waits for the gate, "count" reports
 * progress. */
static json_t *echo(void *ctx, struct cmd_connection *connection, json_t *request)
{
	const char *verb = json_string_value(json_object_get(request, "verb"));

	atomic_fetch_add(&served, 1);
	if (verb && strcmp(verb, "keep") == 0) {
		atomic_store(&kept, connection);
		return NULL;
	}
	while (verb && strcmp(verb, "wait") == 0 && !atomic_load(&gate_open))
		pause_ms(5);
	for (unsigned i = 0; verb && strcmp(verb, "count") == 0 && i < 3; i++)
		cr_assert_eq(cmd_connection_progress(connection, "counting", i, 3), 0);
	return json_pack("{s:O}", "result", request);
}

static void begin_owned_by(uid_t owner)
{
	struct cmd_server_args args = { .directory = directory, .owner = owner, .serve = echo };

	cr_assert_not_null(mkdtemp(directory));
	cr_assert_eq(cmd_server_start(&args, &server, &err), 0, "%s", err.text);
}

static void begin(void)
{
	begin_owned_by(geteuid());
}

static void end(void)
{
	cmd_server_stop(server);
	cmd_server_free(server);
	cr_assert_eq(rmdir(directory), 0, "something is left behind");
}

TestSuite(cmd_control, .init = begin, .fini = end);

static int call(const char *verb, struct cmd_progress *progress, struct cmd_outcome *outcome)
{
	json_t *args = json_pack("{s:i}", "a", 1);
	int r = cmd_control_call(directory, verb, args, progress, outcome, &err);

	json_decref(args);
	return r;
}

static int connect_raw(void)
{
	struct sockaddr_un address;
	int dir_fd, fd = socket(AF_UNIX, SOCK_STREAM, 0);

	cr_assert_eq(cmd_control_address(directory, &address, &dir_fd), 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(dir_fd);
	return fd;
}

static int receive_error(int fd)
{
	struct cmd_outcome outcome;
	json_t *answer = NULL;

	cr_assert_eq(cmd_frame_receive(fd, CMD_ANSWER_BYTES_MAX, 8000, &answer), 0);
	cr_assert_eq(cmd_outcome_from_json(answer, &outcome), 0);
	json_decref(answer);
	return outcome.code;
}

Test(cmd_control, a_request_is_answered)
{
	struct cmd_outcome outcome;

	cr_assert_eq(call("lssp", NULL, &outcome), 0, "%s", err.text);
	cr_assert_str_eq(json_string_value(json_object_get(outcome.result, "verb")), "lssp");
	cr_assert_eq(json_integer_value(json_object_get(json_object_get(outcome.result, "args"), "a")), 1);
	cmd_outcome_done(&outcome);
}

Test(cmd_control, the_socket_is_for_its_owner_only)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "%s/control", directory);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
	cr_assert_eq(st.st_uid, geteuid());
}

Test(cmd_control, a_long_path_is_no_hindrance)
{
	char path[300];
	struct cmd_server_args args = { .directory = path, .owner = geteuid(), .serve = echo };
	struct cmd_server *other;
	struct cmd_outcome outcome;
	json_t *nothing = json_object();

	snprintf(path, sizeof(path), "%s/%0200d", directory, 7);
	cr_assert_eq(mkdir(path, 0700), 0);
	cr_assert_eq(cmd_server_start(&args, &other, &err), 0, "%s", err.text);
	cr_assert_eq(cmd_control_call(path, "x", nothing, NULL, &outcome, &err), 0, "%s", err.text);
	cmd_outcome_done(&outcome);
	cmd_server_stop(other);
	cmd_server_free(other);
	json_decref(nothing);
	cr_assert_eq(rmdir(path), 0);
}

static unsigned reports;

static int count_reports(struct cmd_progress *progress, const char *what, uint64_t done, uint64_t total)
{
	cr_assert_str_eq(what, "counting");
	cr_assert_eq(done, reports);
	cr_assert_eq(total, 3);
	reports++;
	return 0;
}

Test(cmd_control, progress_arrives_before_the_answer)
{
	struct cmd_progress progress = { .report = count_reports };
	struct cmd_outcome outcome;

	cr_assert_eq(call("count", &progress, &outcome), 0);
	cr_assert_eq(reports, 3);
	cmd_outcome_done(&outcome);
}

Test(cmd_control, nobody_listening_is_no_error)
{
	struct cmd_outcome outcome;
	json_t *nothing = json_object();

	cr_assert_eq(cmd_control_call("/tmp", "x", nothing, NULL, &outcome, &err), CMD_NO_DAEMON);
	json_decref(nothing);
}

Test(cmd_control, a_socket_that_a_dead_daemon_left_is_no_daemon_and_is_replaced)
{
	struct cmd_server_args args = { .directory = directory, .owner = geteuid(), .serve = echo };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct cmd_outcome outcome;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	cmd_server_stop(server);
	cmd_server_free(server);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/control", directory);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	cr_assert_eq(call("x", NULL, &outcome), CMD_NO_DAEMON);
	cr_assert_eq(cmd_server_start(&args, &server, &err), 0, "%s", err.text);
	cr_assert_eq(call("x", NULL, &outcome), 0);
	cmd_outcome_done(&outcome);
}

Test(cmd_control, a_hostile_length_is_answered_and_others_are_served)
{
	struct cmd_outcome outcome;
	int fd = connect_raw();

	cr_assert_eq(write(fd, "\xff\xff\xff\xff", 4), 4);
	cr_assert_eq(receive_error(fd), -EMSGSIZE);
	close(fd);
	cr_assert_eq(call("x", NULL, &outcome), 0);
	cmd_outcome_done(&outcome);
}

Test(cmd_control, rubbish_is_answered)
{
	int fd = connect_raw();

	cr_assert_eq(write(fd, "\x03\0\0\0abc", 7), 7);
	cr_assert_eq(receive_error(fd), -EBADMSG);
	close(fd);
}

Test(cmd_control, half_a_request_times_out_and_says_so)
{
	int fd = connect_raw();

	cr_assert_eq(write(fd, "\x08\0", 2), 2);
	cr_assert_eq(receive_error(fd), -ETIMEDOUT);
	close(fd);
}

Test(cmd_control, the_thirty_third_is_turned_away)
{
	int fds[CMD_CONNECTIONS_MAX], more;

	/* They say nothing, so they keep their places until they time out. */
	for (int i = 0; i < CMD_CONNECTIONS_MAX; i++)
		fds[i] = connect_raw();
	more = connect_raw();
	cr_assert_eq(receive_error(more), -EAGAIN);
	close(more);
	for (int i = 0; i < CMD_CONNECTIONS_MAX; i++)
		close(fds[i]);
}

/* The answer is on its way before the request is: a close of the other side would make this send fail. */
Test(cmd_control, who_is_turned_away_can_send_his_request_all_the_same_and_is_answered)
{
	static char request[256 * 1024];
	int fds[CMD_CONNECTIONS_MAX], more;
	char byte;

	for (int i = 0; i < CMD_CONNECTIONS_MAX; i++)
		fds[i] = connect_raw();
	more = connect_raw();
	cr_assert_eq(recv(more, &byte, 1, MSG_PEEK), 1);
	pause_ms(50); /* for a server that closes */
	cr_assert_eq(send(more, request, sizeof(request), MSG_NOSIGNAL), (ssize_t)sizeof(request), "%m");
	cr_assert_eq(receive_error(more), -EAGAIN);
	cr_assert_eq(recv(more, &byte, 1, 0), 0, "more than one answer, or a reset: %m");
	close(more);
	for (int i = 0; i < CMD_CONNECTIONS_MAX; i++)
		close(fds[i]);
}

Test(cmd_control, a_request_of_hostile_length_can_be_sent_on_and_its_answer_is_not_lost)
{
	uint32_t length = UINT32_MAX;
	static char body[64 * 1024];
	char byte;
	int fd = connect_raw();

	cr_assert_eq(send(fd, &length, sizeof(length), MSG_NOSIGNAL), (ssize_t)sizeof(length));
	cr_assert_eq(recv(fd, &byte, 1, MSG_PEEK), 1);
	cr_assert_eq(send(fd, body, sizeof(body), MSG_NOSIGNAL), (ssize_t)sizeof(body), "%m");
	cr_assert_eq(receive_error(fd), -EMSGSIZE);
	close(fd);
}

/* One who is turned away and neither reads nor closes: he is let go of, and others are served. */
Test(cmd_control, those_turned_away_who_stay_do_not_add_up)
{
	int fds[CMD_CONNECTIONS_MAX], more[200];
	struct cmd_outcome outcome;

	for (int i = 0; i < CMD_CONNECTIONS_MAX; i++)
		fds[i] = connect_raw();
	for (size_t i = 0; i < ARRAY_LEN(more); i++)
		more[i] = connect_raw();
	for (int i = 0; i < CMD_CONNECTIONS_MAX; i++)
		close(fds[i]);
	for (int i = 0;; i++) {
		cr_assert_eq(call("x", NULL, &outcome), 0, "%s", err.text);
		bool is_served = outcome.code == 0;
		cmd_outcome_done(&outcome);
		if (is_served)
			break;
		cr_assert_lt(i, 500);
		pause_ms(10);
	}
	for (size_t i = 0; i < ARRAY_LEN(more); i++)
		close(more[i]);
}

Test(cmd_control, places_are_given_back)
{
	struct cmd_outcome outcome;

	for (int i = 0; i < 4 * CMD_CONNECTIONS_MAX; i++) {
		cr_assert_eq(call("x", NULL, &outcome), 0, "call %d: %s", i, err.text);
		cmd_outcome_done(&outcome);
	}
}

static void *call_keep(void *arg)
{
	struct cmd_outcome *outcome = arg;

	cr_assert_eq(call("keep", NULL, outcome), 0, "%s", err.text);
	return NULL;
}

Test(cmd_control, a_kept_connection_is_answered_after_the_stop)
{
	struct cmd_outcome outcome;
	pthread_t caller;

	pthread_create(&caller, NULL, call_keep, &outcome);
	await_count(&served, 1);
	cmd_server_stop(server);
	cr_assert_not_null(atomic_load(&kept));
	cmd_connection_answer(atomic_load(&kept), json_pack("{s:{s:b}}", "result", "late", true));
	pthread_join(caller, NULL);
	cr_assert(json_is_true(json_object_get(outcome.result, "late")));
	cmd_outcome_done(&outcome);
}

static void *call_wait(void *arg)
{
	struct cmd_outcome outcome;

	cr_assert_eq(call("wait", NULL, &outcome), 0);
	cr_assert_not_null(outcome.result, "%s", outcome.err.text);
	cmd_outcome_done(&outcome);
	return NULL;
}

static void *stop_server(void *arg)
{
	cmd_server_stop(server);
	return NULL;
}

Test(cmd_control, a_verb_under_way_is_finished_before_the_stop_returns)
{
	pthread_t caller, stopper;
	struct cmd_outcome outcome;

	atomic_store(&gate_open, 0);
	pthread_create(&caller, NULL, call_wait, NULL);
	await_count(&served, 1);
	pthread_create(&stopper, NULL, stop_server, NULL);
	/* The name goes first: who comes now sees no daemon. */
	for (int i = 0; call("x", NULL, &outcome) != CMD_NO_DAEMON; i++) {
		cmd_outcome_done(&outcome);
		cr_assert_lt(i, 500);
		pause_ms(10);
	}
	atomic_store(&gate_open, 1);
	pthread_join(stopper, NULL);
	pthread_join(caller, NULL);
}

Test(cmd_control, stopping_does_not_wait_for_one_who_says_nothing)
{
	struct timespec begin_at, end_at;
	int fd = connect_raw();

	pause_ms(50); /* so that a thread reads from it; either way the stop must not wait */
	clock_gettime(CLOCK_MONOTONIC, &begin_at);
	cmd_server_stop(server);
	clock_gettime(CLOCK_MONOTONIC, &end_at);
	cr_assert_lt(end_at.tv_sec - begin_at.tv_sec, 3);
	close(fd);
}

/* Asks as uid 12345 in a child. Returns 0, or the errno it got. */
static int call_as_somebody(void)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		struct cmd_outcome outcome = { 0 };
		json_t *args = json_object();

		if (setgid(12345) < 0 || setuid(12345) < 0)
			_exit(200);

		int r = cmd_control_call(directory, "x", args, NULL, &outcome, NULL);

		_exit(r < 0 ? -r : -outcome.code);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

Test(cmd_control, a_stranger_is_refused_even_with_the_socket_open_to_all)
{
	char path[64];

	if (geteuid() != 0)
		cr_skip_test("needs root to become another user");
	snprintf(path, sizeof(path), "%s/control", directory);
	chmod(directory, 0755);
	cr_assert_eq(call_as_somebody(), EACCES);
	chmod(path, 0666);
	cr_assert_eq(call_as_somebody(), EACCES);
}

static void begin_for_another_owner(void)
{
	if (geteuid() != 0)
		cr_skip_test("needs root to make a socket of another user's");
	begin_owned_by(12345);
}

TestSuite(cmd_control_owner, .init = begin_for_another_owner, .fini = end);

Test(cmd_control_owner, may_ask)
{
	chmod(directory, 0755);
	cr_assert_eq(call_as_somebody(), 0);
}
