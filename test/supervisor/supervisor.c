/*
 * res_kafka: the socket to the engine and the supervisor of its process, with engines that die, hang, and say what they must
 * not. This program is both: started as `PROGRAM engine` it is an engine that behaves as the file named by
 * RES_KAFKA_TEST_ENGINE says.
 *
 *     supervisor_test      prints a line "ok NAME" or "not ok NAME: why" for each case; exit status 1 if any failed
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "boundary/codec.h"
#include "boundary/peer.h"
#include "boundary/supervisor.h"

static int failures;
static char folder[64]; /* of this run: how engines behave, and traces */

/* CHECK(condition) or CHECK(condition, format, …): a case ends where it fails. */
#define CHECK(condition, ...) do { \
		if (!(condition)) { \
			printf("not ok supervisor/%s: line %d: %s ", __func__, __LINE__, #condition); \
			printf(" " __VA_ARGS__); \
			printf("\n"); \
			failures++; \
			leave(); \
			return; \
		} \
	} while (0)
#define DONE() do { leave(); printf("ok supervisor/%s\n", __func__); } while (0)

/* Waits up to ten seconds until something is so. */
#define SOON(condition) __extension__ ({ \
		int waits; \
		for (waits = 0; waits < 2000 && !(condition); waits++) { \
			usleep(5000); \
		} \
		(condition); \
	})

/* The engine's side. */

static void behaviour_path(char *path, size_t size)
{
	snprintf(path, size, "%s/behaviour", getenv("RES_KAFKA_TEST_ENGINE"));
}

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

/* Sends noise that looks like frames for as long as somebody reads it. */
static void rave(unsigned int seed)
{
	unsigned char noise[4096];
	size_t i;

	srandom(seed);
	for (;;) {
		for (i = 0; i < sizeof(noise); i++) {
			noise[i] = random() % 4 ? random() : 0;
		}
		/* Heads that are possible, now and then: an answer to one of the first requests. */
		for (i = 0; i + 16 < 256; i += 28 + random() % 3) {
			memcpy(noise + i, (unsigned char[16]) { 28, 0, 0, 0, random() % 22, 0, random() % 2, 0, random() % 8 }, 16);
		}
		if (write(SUPERVISOR_SOCKET, noise, 1 + random() % sizeof(noise)) <= 0) {
			_exit(0);
		}
	}
}

/* Says of itself what the supervisor promises for it. */
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

/* Answers every request with the text of its kind, or does what the file says. */
static int be_engine(void)
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

/* The module's side. */

static struct peer *peer;
static struct supervisor *supervisor;
static int handed[SUPERVISOR_HANDED];
static _Atomic int started, died;
static _Atomic int pongs; /* of the last engine that was started */
static _Atomic int reapers;
static char logged[65536];
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

static void note(const char *text)
{
	pthread_mutex_lock(&log_lock);
	if (strlen(logged) + strlen(text) + 2 < sizeof(logged)) {
		strcat(strcat(logged, text), "\n");
	}
	pthread_mutex_unlock(&log_lock);
}

static int was_logged(const char *text)
{
	int found;

	pthread_mutex_lock(&log_lock);
	found = strstr(logged, text) != NULL;
	pthread_mutex_unlock(&log_lock);
	return found;
}

static void on_log(int level, const char *text)
{
	(void) level;
	note(text);
}

static void on_message(void *owner, uint16_t kind, const unsigned char *fields, size_t length)
{
	struct boundary_reader reader;
	const char *text;

	(void) owner;
	(void) kind;
	boundary_read(&reader, fields, length);
	text = boundary_get_string(&reader);
	note(text);
}

static void on_greeted(void *owner, enum peer_result result, const unsigned char *fields, size_t length)
{
	(void) owner;
	(void) fields;
	(void) length;
	if (result == PEER_OK) {
		peer_ready(peer);
		supervisor_ready(supervisor);
	}
}

static void post(uint16_t kind, peer_done done)
{
	struct boundary_writer frame = { 0 };

	boundary_begin(&frame, kind, 0, 1);
	boundary_finish(&frame);
	peer_post(peer, frame.bytes, frame.used, done, NULL);
	boundary_free(&frame);
}

static void on_started(void)
{
	pongs = 0;
	__atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
	post(BOUNDARY_HELLO, on_greeted);
}

static void on_died(void)
{
	__atomic_add_fetch(&died, 1, __ATOMIC_SEQ_CST);
}

static void on_pong(void *owner, enum peer_result result, const unsigned char *fields, size_t length)
{
	(void) owner;
	(void) fields;
	(void) length;
	if (result == PEER_OK) {
		pongs++;
		supervisor_alive(supervisor);
	}
}

static void on_ping(void)
{
	post(BOUNDARY_PING, on_pong);
}

/* Asterisk's handler reaps every child, unless it is told not to. */
static _Atomic int keeping;

static void reap(int signal)
{
	int saved = errno;

	(void) signal;
	while (!keeping && waitpid(-1, NULL, WNOHANG) > 0) {
		reapers++;
	}
	errno = saved;
}

static void keep_children(int on)
{
	keeping = on;
}

static void behave(const char *how)
{
	char path[256];
	FILE *file;

	behaviour_path(path, sizeof(path));
	file = fopen(path, "w");
	fputs(how, file);
	fclose(file);
}

/* Starts the first engine. Returns whether it serves. */
static int enter(const char *how)
{
	struct supervisor_options options = {
		.path = "/proc/self/exe", .trace_folder = folder, .log = on_log, .started = on_started, .died = on_died,
		.ping = on_ping, .keep_children = keep_children,
	};

	behave(how);
	logged[0] = '\0';
	started = died = 0;
	peer = peer_create(on_message, NULL);
	options.peer = peer;
	memcpy(options.handed, handed, sizeof(handed));
	return !supervisor_start(&options, &supervisor) && !supervisor_wait_first(supervisor, 10000);
}

static void leave(void)
{
	if (peer) {
		peer_close(peer);
	}
	supervisor_stop(supervisor, 500);
	supervisor_free(supervisor);
	peer_destroy(peer);
	supervisor = NULL;
	peer = NULL;
}

/* Sends a request with so many bytes. Returns the result; the answer has to be "yes". */
static enum peer_result ask(uint16_t kind, size_t bytes, int timeout_ms, const void *tag)
{
	struct boundary_writer frame = { 0 };
	struct boundary_reader reader;
	struct peer_answer answer;
	enum peer_result result;
	char *content = calloc(1, bytes + 1);

	boundary_begin(&frame, kind, 0, 1);
	boundary_put_text(&frame, content, bytes);
	boundary_finish(&frame);
	result = peer_call(peer, 0, frame.bytes, frame.used, timeout_ms, tag, &answer);
	boundary_free(&frame);
	free(content);
	if (result == PEER_OK) {
		boundary_read(&reader, answer.fields, answer.length);
		if (strcmp(boundary_get_string(&reader), "yes")) {
			result = PEER_NO_MEMORY;
		}
	}
	free(answer.fields);
	return result;
}

static pid_t engine_pid(void)
{
	struct supervisor_status status;

	supervisor_status(supervisor, &status);
	return status.pid;
}

static void kill_engine(void)
{
	pid_t pid = engine_pid();

	if (pid > 0) {
		kill(pid, SIGKILL);
	}
}

static void engine_is_born_as_promised(void)
{
	int extra = dup(0);

	signal(SIGPIPE, SIG_IGN);
	CHECK(enter("introduce"), "%s", logged);
	CHECK(SOON(was_logged("highest=")));
	/* What the C library does not close the engine closes: the binary's own descriptor at most. */
	CHECK(was_logged("blocked=0 pipe=1 policy=0 leader=1 shared=1"), "%s", logged);
	CHECK(was_logged("highest=7") || was_logged("highest=6") || extra < 7, "%s", logged);
	close(extra);
	DONE();
}

static void *ask_often(void *failed)
{
	int i;

	for (i = 0; i < 200; i++) {
		if (ask(BOUNDARY_RUN, i * 50, 20000, NULL) != PEER_OK) {
			__atomic_add_fetch((int *) failed, 1, __ATOMIC_SEQ_CST);
		}
	}
	return NULL;
}

static void many_threads_call(void)
{
	pthread_t threads[8];
	int failed = 0, i;

	CHECK(enter("answer"), "%s", logged);
	for (i = 0; i < 8; i++) {
		pthread_create(&threads[i], NULL, ask_often, &failed);
	}
	for (i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
	}
	CHECK(!failed, "%d failed", failed);
	CHECK(ask(BOUNDARY_RUN, 40 << 20, 20000, NULL) == PEER_OK); /* more than any socket holds */
	DONE();
}

static void *ask_until_away(void *result)
{
	*(enum peer_result *) result = ask(BOUNDARY_RUN, 10, -1, result);
	return NULL;
}

static void calls_end_with_the_engine(void)
{
	enum peer_result results[3] = { PEER_OK, PEER_OK, PEER_OK };
	pthread_t threads[3];
	uint64_t first;
	int i;

	CHECK(enter("half"), "%s", logged);
	first = peer_wait(peer, 0);
	CHECK(first == 1);
	CHECK(ask(BOUNDARY_RUN, 10, 100, NULL) == PEER_LATE);
	for (i = 0; i < 3; i++) {
		pthread_create(&threads[i], NULL, ask_until_away, &results[i]);
	}
	usleep(50000);
	peer_cancel(peer, &results[0]);
	pthread_join(threads[0], NULL);
	CHECK(results[0] == PEER_AWAY);
	kill_engine();
	pthread_join(threads[1], NULL);
	pthread_join(threads[2], NULL);
	CHECK(results[1] == PEER_AWAY && results[2] == PEER_AWAY);
	CHECK(SOON(peer_wait(peer, 0) == 2), "generation %d", (int) peer_wait(peer, 0));
	CHECK(was_logged("another one is started in 100 ms"), "%s", logged);
	CHECK(started == 2 && died == 1);
	DONE();
}

static void first_engine_that_fails_is_the_last(void)
{
	CHECK(!enter("panic"));
	CHECK(was_logged("ended with status 2: panic: the test asked for it (trace: ") || was_logged(" ended: panic: the test asked for it (trace: "), "%s", logged);
	CHECK(started == 1 && died == 1);
	leave();
	CHECK(!enter("rave 1"));
	DONE();
}

static void crashes_make_the_pause_longer(void)
{
	CHECK(enter("answer"), "%s", logged);
	behave("panic");
	kill_engine();
	CHECK(SOON(was_logged("another one is started in 800 ms")), "%s", logged);
	CHECK(SOON(was_logged("another one is started in 10000 ms")), "%s", logged);
	CHECK(was_logged("again and again"), "%s", logged);
	behave("answer");
	supervisor_hurry(supervisor);
	CHECK(SOON(peer_wait(peer, 0)));
	DONE();
}

/* Counts the traces and finds the largest. */
static int count_traces(off_t *largest)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	struct stat status;
	char path[512];
	int count = 0;

	*largest = 0;
	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		if (strstr(entry->d_name, ".trace") && !stat(path, &status)) {
			*largest = status.st_size > *largest ? status.st_size : *largest;
			count++;
		}
	}
	closedir(dir);
	return count;
}

static void traces_are_bounded(void)
{
	off_t largest;
	int i;

	for (i = 0; i < 12; i++) {
		CHECK(!enter("chatter"));
		CHECK(was_logged("fatal error: after much talk"), "%s", logged);
		leave();
	}
	i = count_traces(&largest);
	CHECK(i == 8 && largest > 200000 && largest < 300000, "%d traces, up to %ld bytes", i, (long) largest);
	DONE();
}

static void noise_harms_nobody(void)
{
	char how[32];
	int seed, failed = 0, i;
	pthread_t threads[4];

	CHECK(enter("answer"), "%s", logged);
	for (seed = 0; seed < 20; seed++) {
		snprintf(how, sizeof(how), "rave %d", seed);
		behave(how);
		kill_engine();
		CHECK(SOON(died > seed));
		CHECK(SOON(({ supervisor_hurry(supervisor); started > seed + 1; })));
	}
	behave("answer");
	CHECK(SOON(({ supervisor_hurry(supervisor); peer_wait(peer, 0); })), "%s", logged);
	for (i = 0; i < 4; i++) {
		pthread_create(&threads[i], NULL, ask_often, &failed);
	}
	for (i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
	}
	CHECK(!failed, "%d failed", failed);
	DONE();
}

/* An engine that lost the answer to hello answered pings, so no other one was ever started. */
static void engine_that_does_not_serve_is_replaced(void)
{
	CHECK(enter("answer"), "%s", logged);
	behave("cold");
	kill_engine();
	CHECK(SOON(started == 2 && pongs)); /* so it has read how to behave */
	behave("answer");
	sleep(3); /* see SUPERVISOR_SERVE_MS in the Makefile */
	CHECK(SOON(peer_wait(peer, 0) == 3), "%s", logged);
	CHECK(was_logged("it answered, but did not serve"), "%s", logged);
	DONE();
}

static void stop_kills_who_does_not_end(void)
{
	struct timespec before, after;
	pid_t pid;

	CHECK(enter("stubborn"), "%s", logged);
	pid = engine_pid();
	clock_gettime(CLOCK_MONOTONIC, &before);
	leave();
	clock_gettime(CLOCK_MONOTONIC, &after);
	CHECK(kill(pid, 0) < 0 && errno == ESRCH);
	CHECK(after.tv_sec - before.tv_sec < 5);
	DONE();
}

/* Only under `supervisor_test slow`: it takes half a minute. */
static void silence_ends_an_engine(void)
{
	pid_t first;
	int i;

	CHECK(enter("answer"), "%s", logged);
	first = engine_pid();
	kill(first, SIGSTOP);
	for (i = 0; i < 12 && peer_wait(peer, 0) != 2; i++) {
		SOON(peer_wait(peer, 0) == 2);
	}
	CHECK(peer_wait(peer, 0) == 2, "%s", logged);
	CHECK(was_logged("it did not answer for 30 seconds"), "%s", logged);
	CHECK(kill(first, 0) < 0);
	DONE();
}

static int count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (dir && readdir(dir)) {
		count++;
	}
	closedir(dir);
	return count;
}

int main(int argc, char **argv)
{
	struct sigaction child = { .sa_handler = reap, .sa_flags = SA_RESTART };
	int before, i;

	if (argc > 1 && !strcmp(argv[1], "engine")) {
		return be_engine();
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	snprintf(folder, sizeof(folder), "/tmp/res_kafka-supervisor.XXXXXX");
	if (!mkdtemp(folder)) {
		return 2;
	}
	setenv("RES_KAFKA_TEST_ENGINE", folder, 1);
	sigaction(SIGCHLD, &child, NULL);
	alarm(240); /* nothing here may hang a test run */
	for (i = 0; i < SUPERVISOR_HANDED; i++) {
		handed[i] = eventfd(0, EFD_CLOEXEC);
	}
	before = count_descriptors();
	engine_is_born_as_promised();
	many_threads_call();
	calls_end_with_the_engine();
	first_engine_that_fails_is_the_last();
	crashes_make_the_pause_longer();
	traces_are_bounded();
	noise_harms_nobody();
	engine_that_does_not_serve_is_replaced();
	stop_kills_who_does_not_end();
	if (argc > 1 && !strcmp(argv[1], "slow")) {
		silence_ends_an_engine();
	}
	if (count_descriptors() != before) {
		printf("not ok supervisor/descriptors: %d, then %d\n", before, count_descriptors());
		failures++;
	}
	snprintf(logged, sizeof(logged), "rm -rf %s", folder);
	return system(logged) || failures ? 1 : 0;
}
