/*
 * res_kafka: the engine of the supervisor's test, which behaves as the file named by RES_KAFKA_TEST_ENGINE says.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>

#include "kit.h"

static int read_all(int fd, unsigned char *to, size_t length)
{
	while (length > 0) {
		ssize_t n = read(fd, to, length);

		if (n <= 0) {
			return -1;
		}
		to += n;
		length -= n;
	}
	return 0;
}

static void write_frame(uint16_t kind, uint16_t flags, uint64_t number, const void *fields, size_t length)
{
	struct boundary_writer frame = { 0 };
	size_t sent = 0;

	boundary_begin(&frame, kind, flags, number);
	boundary_put_text(&frame, fields, length);
	boundary_finish(&frame);
	while (sent < frame.used) {
		ssize_t n = write(SUPERVISOR_SOCKET, frame.bytes + sent, frame.used - sent);

		if (n <= 0) {
			_exit(0);
		}
		sent += n;
	}
	boundary_free(&frame);
}

/* Sends noise in the form of frames until the reader ends. */
static void rave(unsigned int seed)
{
	unsigned char noise[4096];
	size_t i;

	srandom(seed);
	for (;;) {
		for (i = 0; i < sizeof(noise); i++) {
			noise[i] = random() % 4 ? random() : 0;
		}
		/* Occasionally possible heads: an answer to an early request. */
		for (i = 0; i + 16 < 256; i += 28 + random() % 3) {
			memcpy(noise + i, (unsigned char[16]) { 28, 0, 0, 0, random() % 22, 0, random() % 2, 0, random() % 8 }, 16);
		}
		if (write(SUPERVISOR_SOCKET, noise, 1 + random() % sizeof(noise)) <= 0) {
			_exit(0);
		}
	}
}

/* Reports the promises of the supervisor about this process. */
static void introduce(void)
{
	char text[1024];
	struct sigaction pipe_action;
	sigset_t mask;
	DIR *descriptors = opendir("/proc/self/fd");
	struct dirent *entry;
	int highest = 0, blocked = 0, i;

	while (descriptors && (entry = readdir(descriptors))) {
		int number = atoi(entry->d_name);

		if (number > highest && number != dirfd(descriptors)) {
			highest = number;
		}
	}
	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (i = 1; i < 32; i++) {
		blocked += sigismember(&mask, i);
	}
	sigaction(SIGPIPE, NULL, &pipe_action);
	snprintf(text, sizeof(text), "highest=%d blocked=%d pipe=%d policy=%d leader=%d shared=%d",
		highest, blocked, pipe_action.sa_handler == SIG_DFL, sched_getscheduler(0), getsid(0) == getpid(),
		fcntl(SUPERVISOR_SHARED, F_GETFD) >= 0 && fcntl(SUPERVISOR_SHARED + 2, F_GETFD) >= 0);
	write_frame(BOUNDARY_LOG, 0, 0, text, strlen(text));
}

/* Answers every request with "yes", or follows the file. */
int be_engine(void)
{
	char path[256], behaviour[64] = "";
	unsigned char head[BOUNDARY_HEAD_SIZE], *fields;
	struct boundary_head parsed;
	FILE *file;

	behaviour_path(path, sizeof(path));
	file = fopen(path, "r");
	if (!file || !fgets(behaviour, sizeof(behaviour), file)) {
		return 9;
	}
	fclose(file);
	if (!strcmp(behaviour, "panic")) {
		fprintf(stderr, "panic: the test asked for it\n\ngoroutine 1 [running]:\n");
		return 2;
	}
	if (!strcmp(behaviour, "chatter")) {
		for (int i = 0; i < 40000; i++) {
			fprintf(stderr, "line %d of many\n", i);
		}
		fprintf(stderr, "fatal error: after much talk\n");
		return 2;
	}
	if (!strncmp(behaviour, "rave", 4)) {
		rave(atoi(behaviour + 4));
	}
	if (!strcmp(behaviour, "introduce")) {
		introduce();
	}
	while (!read_all(SUPERVISOR_SOCKET, head, sizeof(head)) && !boundary_parse_head(head, &parsed)) {
		fields = malloc(parsed.length + 1);
		if (read_all(SUPERVISOR_SOCKET, fields, parsed.length)) {
			break;
		}
		free(fields);
		if (!strcmp(behaviour, "deaf") || (!strcmp(behaviour, "half") && parsed.kind == BOUNDARY_RUN)
			|| (!strcmp(behaviour, "cold") && parsed.kind == BOUNDARY_HELLO)) {
			continue;
		}
		if (!strcmp(behaviour, "large") && parsed.kind == BOUNDARY_RUN) {
			write_frame(parsed.kind, BOUNDARY_ANSWER, parsed.number, calloc(1, PEER_ANSWER_MAX + 1), PEER_ANSWER_MAX + 1);
		}
		if (parsed.kind == BOUNDARY_FAULT) {
			raise(SIGKILL);
		}
		write_frame(parsed.kind, BOUNDARY_ANSWER, parsed.number, "yes", 3);
	}
	if (!strcmp(behaviour, "stubborn")) {
		for (;;) {
			pause();
		}
	}
	return 0;
}
