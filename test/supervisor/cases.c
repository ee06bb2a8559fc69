/*
 * res_kafka: the cases of the supervisor's test.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#include <dirent.h>
#include <sys/stat.h>

#include "kit.h"

static void engine_is_born_as_promised(void)
{
	int extra = dup(0);

	signal(SIGPIPE, SIG_IGN);
	CHECK(enter("introduce"), "%s", logged);
	CHECK(SOON(was_logged("highest=")));
	/* The engine closes descriptors not closed by the C library: the binary's own at most. */
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
	first = ask_generation = peer_wait(peer, 0);
	CHECK(first == 1);
	CHECK(ask(BOUNDARY_RUN, 10, 100, NULL) == PEER_LATE);
	for (i = 0; i < 3; i++) {
		pthread_create(&threads[i], NULL, ask_until_away, &results[i]);
	}
	/* A thread may begin its call late, so the cancellation is repeated. No call waits for the next
	 * engine. */
	for (i = 0; i < 2000 && pthread_tryjoin_np(threads[0], NULL); i++) {
		peer_cancel(peer, &results[0]);
		usleep(5000);
	}
	CHECK(i < 2000);
	CHECK(results[0] == PEER_AWAY);
	kill_engine();
	pthread_join(threads[1], NULL);
	pthread_join(threads[2], NULL);
	ask_generation = 0;
	CHECK(results[1] == PEER_AWAY && results[2] == PEER_AWAY);
	CHECK(SOON(peer_wait(peer, 0) == 2), "generation %d", (int) peer_wait(peer, 0));
	CHECK(was_logged("another one is started in 100 ms"), "%s", logged);
	CHECK(started == 2 && died == 1);
	DONE();
}

static void first_engine_that_fails_is_the_last(void)
{
	slow_death = 200; /* supervisor_wait_first returned before the callback */
	CHECK(!enter("panic"));
	slow_death = 0;
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
	/* One line has the reason, the trace and the request. */
	CHECK(SOON(was_logged(".trace); another one is started in 10000 ms; it has died 6 times, again and again")), "%s", logged);
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

/* An engine without the answer to hello answered pings, so no successor was ever started. */
static void engine_that_does_not_serve_is_replaced(void)
{
	CHECK(enter("answer"), "%s", logged);
	behave("cold");
	kill_engine();
	CHECK(SOON(started == 2 && pongs)); /* the engine has read its orders by now */
	behave("answer");
	sleep(3); /* see SUPERVISOR_SERVE_MS in the Makefile */
	CHECK(SOON(peer_wait(peer, 0) == 3), "%s", logged);
	CHECK(was_logged("it answered, but did not serve"), "%s", logged);
	DONE();
}

/* A broken engine made Asterisk allocate a gigabyte. */
static void long_answer_ends_the_connection(void)
{
	CHECK(enter("large"), "%s", logged);
	CHECK(ask(BOUNDARY_RUN, 10, 20000, NULL) == PEER_AWAY);
	CHECK(SOON(was_logged("it sent a message that is too long")), "%s", logged);
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

/* Only in `supervisor_test slow`, because the case takes half a minute. */
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

void run_cases(int slow)
{
	engine_is_born_as_promised();
	many_threads_call();
	calls_end_with_the_engine();
	first_engine_that_fails_is_the_last();
	crashes_make_the_pause_longer();
	traces_are_bounded();
	noise_harms_nobody();
	engine_that_does_not_serve_is_replaced();
	long_answer_ends_the_connection();
	stop_kills_who_does_not_end();
	if (slow) {
		silence_ends_an_engine();
	}
}
