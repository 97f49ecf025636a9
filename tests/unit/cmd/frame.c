/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of the control protocol, with peers that lie, stall and go away. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/types.h"
#include "cmd/frame.h"

#define SHORT_MS 50
#define LONG_MS 5000

static int fds[2];

static void open_pair(void)
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
}

static void close_pair(void)
{
	close(fds[0]);
	close(fds[1]);
}

TestSuite(cmd_frame, .init = open_pair, .fini = close_pair);

static void put(const void *bytes, size_t count)
{
	cr_assert_eq(write(fds[0], bytes, count), (ssize_t)count);
}

static void put_length(uint32_t length)
{
	uint8_t bytes[4] = { (uint8_t)length, (uint8_t)(length >> 8), (uint8_t)(length >> 16),
			     (uint8_t)(length >> 24) };

	put(bytes, sizeof(bytes));
}

static void put_text(const char *text)
{
	put_length((uint32_t)strlen(text));
	put(text, strlen(text));
}

static int get(void)
{
	json_t *message = NULL;
	int r = cmd_frame_receive(fds[1], CMD_REQUEST_BYTES_MAX, SHORT_MS, &message);

	json_decref(message);
	return r;
}

Test(cmd_frame, a_message_comes_as_it_went)
{
	json_t *there = json_pack("{s:s, s:[i, i]}", "verb", "lssp", "args", 1, 2), *back = NULL;

	cr_assert_eq(cmd_frame_send(fds[0], there, SHORT_MS), 0);
	cr_assert_eq(cmd_frame_receive(fds[1], CMD_REQUEST_BYTES_MAX, SHORT_MS, &back), 0);
	cr_assert(json_equal(there, back));
	json_decref(there);
	json_decref(back);
}

Test(cmd_frame, length_is_little_endian)
{
	uint8_t bytes[6];
	json_t *empty = json_object();

	cr_assert_eq(cmd_frame_send(fds[0], empty, SHORT_MS), 0);
	cr_assert_eq(read(fds[1], bytes, sizeof(bytes)), 6);
	cr_assert_arr_eq(bytes, "\x02\0\0\0{}", 6);
	json_decref(empty);
}

Test(cmd_frame, messages_follow_each_other)
{
	put_text("{\"a\":1}");
	put_text("{\"b\":2}");
	cr_assert_eq(get(), 0);
	cr_assert_eq(get(), 0);
	cr_assert_eq(get(), -ETIMEDOUT);
}

Test(cmd_frame, hostile_lengths_are_refused_before_memory_is_taken)
{
	static const uint32_t lengths[] = { 0, CMD_REQUEST_BYTES_MAX + 1, 0x7fffffff, 0x80000000, 0xffffffff };

	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		put_length(lengths[i]);
		cr_assert_eq(get(), -EMSGSIZE, "length %u", lengths[i]);
	}
}

Test(cmd_frame, the_largest_length_is_accepted)
{
	json_t *message = NULL;
	char *text = malloc(CMD_REQUEST_BYTES_MAX);

	/* Blanks are JSON too. */
	memset(text, ' ', CMD_REQUEST_BYTES_MAX);
	text[0] = '{';
	text[CMD_REQUEST_BYTES_MAX - 1] = '}';
	if (fork() == 0) {
		put_length(CMD_REQUEST_BYTES_MAX);
		for (size_t sent = 0; sent < CMD_REQUEST_BYTES_MAX;)
			sent += (size_t)write(fds[0], text + sent, MIN(CMD_REQUEST_BYTES_MAX - sent, 4096));
		_exit(0);
	}
	cr_assert_eq(cmd_frame_receive(fds[1], CMD_REQUEST_BYTES_MAX, LONG_MS, &message), 0);
	json_decref(message);
	free(text);
}

Test(cmd_frame, what_is_no_object_is_refused)
{
	static const char *const texts[] = { "[]",  "7", "nonsense", "{\"a\":1", "{\"a\":1}x", "{\"a\":1,\"a\":2}",
					     "\xff" };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		put_text(texts[i]);
		cr_assert_eq(get(), -EBADMSG, "%s", texts[i]);
	}
}

Test(cmd_frame, deep_nesting_is_refused)
{
	static char text[200000];

	strcpy(text, "{\"a\":");
	memset(text + 5, '[', sizeof(text) - 6);
	put_text(text);
	cr_assert_eq(get(), -EBADMSG);
}

Test(cmd_frame, half_a_length_times_out)
{
	put("\x10\0", 2);
	cr_assert_eq(get(), -ETIMEDOUT);
}

Test(cmd_frame, half_a_message_times_out)
{
	put("\x10\0\0\0{\"a\"", 8);
	cr_assert_eq(get(), -ETIMEDOUT);
}

static void *drip(void *arg)
{
	struct timespec pause = { .tv_nsec = 20000000 };

	/* Each byte comes well within the time; the whole message does not. */
	for (int i = 0; i < 20; i++) {
		if (send(fds[0], "\x7f", 1, MSG_NOSIGNAL) < 0)
			break;
		nanosleep(&pause, NULL);
	}
	return NULL;
}

Test(cmd_frame, the_time_is_for_the_whole_message)
{
	struct timespec begin, end;
	pthread_t thread;

	put_length(1000);
	pthread_create(&thread, NULL, drip, NULL);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	cr_assert_eq(get(), -ETIMEDOUT);
	clock_gettime(CLOCK_MONOTONIC, &end);
	cr_assert_lt((end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000, 300);
	pthread_join(thread, NULL);
}

Test(cmd_frame, closing_is_told_from_breaking_off)
{
	shutdown(fds[0], SHUT_WR);
	cr_assert_eq(get(), -ENODATA);
}

Test(cmd_frame, breaking_off_is_told_from_closing)
{
	put_length(10);
	put("{", 1);
	shutdown(fds[0], SHUT_WR);
	cr_assert_eq(get(), -EPIPE);
}

Test(cmd_frame, sending_to_nobody_fails_without_a_signal)
{
	json_t *message = json_object();

	close(fds[1]);
	cr_assert_eq(cmd_frame_send(fds[0], message, SHORT_MS), -EPIPE);
	json_decref(message);
	fds[1] = dup(fds[0]); /* for close_pair */
}

Test(cmd_frame, sending_to_one_who_does_not_read_times_out)
{
	json_t *message = json_object();
	char *text = malloc(8 * MIB);

	memset(text, 'x', 8 * MIB - 1);
	text[8 * MIB - 1] = '\0';
	json_object_set_new(message, "text", json_string(text));
	cr_assert_eq(cmd_frame_send(fds[0], message, SHORT_MS), -ETIMEDOUT);
	json_decref(message);
	free(text);
}
