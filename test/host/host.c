/*
 * res_kafka: a program that plays Asterisk against the engine's library: opens it as Asterisk opens modules, sends it
 * signals, calls it wrongly, from many threads, before its start and after its end.
 *
 *     host LIBRARY        prints a line "ok NAME" or "not ok NAME: why" for each case; exit status 1 if any failed
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "abi/engine.h"
#include "modules/res_kafka/golib.h"

#define ENGINE_POINTER(call) __typeof__(call) *call;
static struct {
	RESK_CALLS(ENGINE_POINTER)
} engine;

static const char *library_path;
static int failures;

/* CHECK(condition) or CHECK(condition, format, …): a case ends where it fails. */
#define CHECK(condition, ...) do { \
		if (!(condition)) { \
			printf("not ok host/%s: line %d: %s ", __func__, __LINE__, #condition); \
			printf(" " __VA_ARGS__); \
			printf("\n"); \
			failures++; \
			return; \
		} \
	} while (0)
#define DONE() printf("ok host/%s\n", __func__)

/* The host's log: how many lines of each level there were, and the last one. */
static int log_lines[4];
static char last_line[4096];
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static int log_is_closed, logged_after_close;

static void host_log(int32_t level, const char *file, int32_t line, const char *function, const char *text)
{
	(void) file;
	(void) line;
	(void) function;
	pthread_mutex_lock(&log_lock);
	if (log_is_closed) {
		logged_after_close++;
	}
	if (level >= 0 && level < 4) {
		log_lines[level]++;
	}
	snprintf(last_line, sizeof(last_line), "%s", text);
	pthread_mutex_unlock(&log_lock);
}

static void log_reset(void)
{
	pthread_mutex_lock(&log_lock);
	memset(log_lines, 0, sizeof(log_lines));
	last_line[0] = '\0';
	log_is_closed = logged_after_close = 0;
	pthread_mutex_unlock(&log_lock);
}

static int errors_logged(void)
{
	int n;

	pthread_mutex_lock(&log_lock);
	n = log_lines[RESK_LOG_ERROR];
	pthread_mutex_unlock(&log_lock);
	return n;
}

static struct resk_host the_host = {
	.abi_version = RESK_ABI_VERSION, .size = sizeof(struct resk_host), .log = host_log,
	.entity_id = "00:11:22:33:44:55", .system_name = NULL, .version = "22.0.0", .hostname = "host",
};
static struct resk_limits limits;

static struct resk_text text(const char *s)
{
	return (struct resk_text) { s, s ? strlen(s) : 0 };
}

/* A configuration with one connection to a port of this machine where nobody listens. */
static struct resk_entry nobody[] = {
	{ .file = "kafka.conf", .section = "nobody" },
	{ .file = "kafka.conf", .line = 2, .section = "nobody", .name = "type", .value = "connection" },
	{ .file = "kafka.conf", .line = 3, .section = "nobody", .name = "brokers", .value = "127.0.0.1:1" },
};
#define ENTRIES(list) list, sizeof(list) / sizeof(list[0])

static void opens_like_asterisk(void)
{
	/* Asterisk opens a module that exports symbols, closes it, and opens it again for everybody. */
	void *first = golib_open(library_path, "resk_abi"), *second;

	CHECK(first, "%s", dlerror());
	dlclose(first);
	second = dlopen(library_path, RTLD_NOW | RTLD_GLOBAL);
	CHECK(second, "%s", dlerror());
	CHECK(golib_open(library_path, "resk_abi") == second);
#define LOOK_UP(call) \
	engine.call = (__typeof__(engine.call)) dlsym(second, #call); \
	CHECK(engine.call, "%s is missing", #call);
	RESK_CALLS(LOOK_UP)
	CHECK(engine.resk_abi() == RESK_ABI_VERSION);
	DONE();
}

static void exports_nothing_else(void)
{
	CHECK(!dlsym(golib_open(library_path, "resk_abi"), "resk_no_such_call"));
	DONE();
}

static volatile sig_atomic_t urgent;

static void on_urgent(int signal)
{
	(void) signal;
	urgent++;
}

static void handlers_are_the_hosts(void)
{
	struct sigaction now;

	sigaction(SIGURG, NULL, &now);
	CHECK(now.sa_handler == on_urgent);
	CHECK(!(now.sa_flags & SA_RESTART));
	sigaction(SIGPIPE, NULL, &now);
	CHECK(now.sa_handler == SIG_IGN);
	DONE();
}

/* How many threads other than ours there are, and whether each has the signal blocked. */
static int unblocked_in_others(int signal, const int *ours, int count)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	int unblocked = 0, i;

	while (tasks && (task = readdir(tasks))) {
		char path[300], line[256];
		FILE *status;
		int tid = atoi(task->d_name);

		for (i = 0; i < count && ours[i] != tid; i++) {
		}
		if (!tid || i < count) {
			continue;
		}
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", task->d_name);
		status = fopen(path, "r");
		while (status && fgets(line, sizeof(line), status)) {
			unsigned long long mask;

			if (sscanf(line, "SigBlk: %llx", &mask) == 1 && !(mask >> (signal - 1) & 1)) {
				unblocked++;
			}
		}
		if (status) {
			fclose(status);
		}
	}
	if (tasks) {
		closedir(tasks);
	}
	return unblocked;
}

static void its_threads_take_no_signals(void)
{
	static const int signals[] = { SIGHUP, SIGINT, SIGTERM, SIGURG, SIGALRM, SIGUSR1, SIGUSR2, SIGWINCH };
	int ours[] = { getpid() };
	size_t i;

	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		int unblocked = unblocked_in_others(signals[i], ours, 1);

		CHECK(unblocked == 0, "%d thread(s) of the library take signal %d", unblocked, signals[i]);
	}
	DONE();
}

static void is_not_there_before_its_start(void)
{
	struct resk_command command;
	uint64_t id = 7, source = 0;
	struct resk_delivery *delivery = NULL;
	struct stage_gate gate = { 0 };
	struct resk_text word = text("kafka");
	char *connection = NULL, *printed;

	CHECK(engine.resk_configure(ENTRIES(nobody)) == RESK_ESTATE);
	CHECK(engine.resk_producer_open(text("nobody"), &gate, &id) == RESK_ESTATE);
	CHECK(engine.resk_source_open(text("cdr"), NULL, 0, &source, &connection) == RESK_ESTATE);
	engine.resk_take(1, (char[]) { "" }, 0, 0);
	engine.resk_refused(1, RESK_REFUSED_TOPIC, 1, text("t"));
	CHECK(engine.resk_consumer_check(text("nobody")) == RESK_ESTATE);
	CHECK(engine.resk_subscribe(text("nobody"), text("t"), &delivery, &id) == RESK_ESTATE);
	CHECK(!engine.resk_next(1));
	engine.resk_unsubscribe(1);
	engine.resk_subscription_free(1);
	CHECK(engine.resk_commit(1, 0) == RESK_ESTATE);
	CHECK(engine.resk_pause(1, text(NULL), 1) == RESK_ESTATE);
	CHECK(engine.resk_ensure_topic(text("nobody"), text("t"), 1, 1, 1) == RESK_ESTATE);
	CHECK(engine.resk_reports_open(&id) == RESK_ESTATE);
	CHECK(!engine.resk_reports_next(1));
	engine.resk_reports_close(1);
	engine.resk_stop(0);
	CHECK(engine.resk_command_at(0, &command) == RESK_OK);
	CHECK(command.words && command.summary && command.usage);
	CHECK(engine.resk_command_at(4000000000u, &command) == RESK_ENOENT);
	printed = engine.resk_run(0, &word, 1);
	CHECK(printed && strstr(printed, "not running"));
	engine.resk_free(printed);
	CHECK(!engine.resk_complete(0, &word, 1, word, 0));
	engine.resk_free(NULL);
	DONE();
}

static void start_checks_its_host(void)
{
	struct resk_host other = the_host;

	other.abi_version++;
	CHECK(engine.resk_start(&other, &limits) == RESK_EINVAL);
	other = the_host;
	other.size--;
	CHECK(engine.resk_start(&other, &limits) == RESK_EINVAL);
	CHECK(engine.resk_start(NULL, &limits) == RESK_EINVAL);
	CHECK(engine.resk_start(&the_host, NULL) == RESK_EINVAL);
	CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
	CHECK(engine.resk_start(&the_host, &limits) == RESK_ESTATE);
	CHECK(limits.topic_length_max == 249 && limits.topic_bytes['a'] && !limits.topic_bytes['/'] && !limits.topic_bytes[0]);
	engine.resk_stop(0);
	engine.resk_stop(0);
	CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
	engine.resk_stop(0);
	DONE();
}

static void refuses_bad_calls(void)
{
	struct stage_gate gate = { 0 };
	struct resk_text words[3] = { { NULL, 0 }, { "a\0b", 3 }, { "", 0 } };
	struct resk_delivery *delivery = NULL;
	uint64_t id = 99, source = 12345, other = 0;
	char *connection = NULL;
	unsigned char noise[4096];
	struct resk_entry broken[] = { { .section = NULL }, { .section = "x", .name = NULL }, { .section = "x", .name = "type", .value = NULL } };
	uint32_t i;

	log_reset();
	CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
	CHECK(engine.resk_configure(ENTRIES(broken)) == RESK_EINVAL);
	CHECK(errors_logged() > 0);
	CHECK(engine.resk_configure(ENTRIES(nobody)) == RESK_OK, "%s", last_line);
	CHECK(engine.resk_producer_open(text("unknown"), &gate, &id) == RESK_ENOENT);
	CHECK(engine.resk_producer_open(text(NULL), &gate, &id) == RESK_ENOENT);
	CHECK(engine.resk_source_open(text("no such kind"), NULL, 0, &source, &connection) == RESK_ENOENT);
	source = 12345;
	CHECK(engine.resk_source_open(text("cdr"), NULL, 0, &source, &connection) != RESK_OK);
	CHECK(engine.resk_producer_open(text("nobody"), &gate, &id) == RESK_OK, "%s", last_line);
	CHECK(gate.open == 1 && gate.max_frames == 100000 && gate.max_weight == 1000000);
	srandom(1);
	for (i = 0; i < sizeof(noise); i++) {
		noise[i] = random();
	}
	for (i = 0; i < 200; i++) {
		engine.resk_take(id, noise + i, i * 8, 0);
		engine.resk_take(i * 1000, noise, sizeof(noise), 0);
	}
	CHECK(engine.resk_consumer_check(text("unknown")) == RESK_ENOENT);
	CHECK(engine.resk_consumer_check(text("nobody")) == RESK_EINVAL); /* without a group_id */
	CHECK(engine.resk_subscribe(text(NULL), text(NULL), &delivery, &other) != RESK_OK);
	CHECK(!engine.resk_next(0) && !engine.resk_next(UINT64_MAX));
	engine.resk_unsubscribe(UINT64_MAX);
	engine.resk_subscription_free(UINT64_MAX);
	CHECK(engine.resk_commit(UINT64_MAX, 1) == RESK_ENOENT);
	CHECK(engine.resk_pause(UINT64_MAX, text("t"), 1) == RESK_ENOENT);
	CHECK(engine.resk_ensure_topic(text("unknown"), text("t"), 1, 1, 1) == RESK_ENOENT);
	CHECK(engine.resk_ensure_topic(text("nobody"), text("a/b"), 1, 1, 0) == RESK_EINVAL);
	CHECK(engine.resk_ensure_topic(text("nobody"), text(NULL), INT32_MIN, INT32_MAX, 0) == RESK_EINVAL);
	engine.resk_refused(UINT64_MAX, 4711, UINT64_MAX, text(NULL));
	for (i = 0; i < 10; i++) {
		char *printed = engine.resk_run(i, words, i % 4);

		engine.resk_free(printed);
		engine.resk_free(engine.resk_complete(i, words, i % 4, words[i % 3], i));
	}
	CHECK(!engine.resk_run(0, NULL, 0), "an empty command line is answered with the usage");
	engine.resk_stop(0);
	DONE();
}

static void *fetch(void *id)
{
	while (engine.resk_next(*(uint64_t *) id)) {
		/* nobody sends anything */
	}
	engine.resk_subscription_free(*(uint64_t *) id);
	return NULL;
}

/* A thread that waits for messages is let go by unsubscribing, and by the engine's end. */
static void lets_waiting_threads_go(void)
{
	struct resk_entry group[] = {
		{ .file = "kafka.conf", .section = "group" },
		{ .file = "kafka.conf", .line = 2, .section = "group", .name = "type", .value = "connection" },
		{ .file = "kafka.conf", .line = 3, .section = "group", .name = "brokers", .value = "127.0.0.1:1" },
		{ .file = "kafka.conf", .line = 4, .section = "group", .name = "group_id", .value = "g" },
	};
	struct resk_delivery *delivery;
	uint64_t ids[2];
	pthread_t threads[2];
	int i;

	log_reset();
	CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
	CHECK(engine.resk_configure(ENTRIES(group)) == RESK_OK);
	for (i = 0; i < 2; i++) {
		CHECK(engine.resk_subscribe(text("group"), text(" a , ,b"), &delivery, &ids[i]) == RESK_OK, "%s", last_line);
		CHECK(delivery && delivery->delivered == 0);
		pthread_create(&threads[i], NULL, fetch, &ids[i]);
	}
	engine.resk_unsubscribe(ids[0]);
	pthread_join(threads[0], NULL);
	CHECK(engine.resk_subscribe(text("group"), text(" , "), &delivery, &ids[0]) == RESK_EINVAL);
	engine.resk_stop(0);
	pthread_join(threads[1], NULL);
	DONE();
}

/* Stages a record for topic t that asks for a report, and hands it over. */
static void take_reported(uint64_t connection, uint64_t reports, uint64_t opaque)
{
	struct resk_frame_head head = { .topic_length = 1, .key_length = RESK_NULL, .value_length = RESK_NULL, .field_count = 1 };
	struct resk_field_head field = { .value_length = sizeof(struct resk_report_to), .kind = RESK_FIELD_REPORT };
	struct resk_report_to to = { .reports = reports, .opaque = opaque };
	_Alignas(8) unsigned char slab[sizeof(struct stage_frame) + sizeof(head) + 8 + sizeof(field) + sizeof(to)];
	struct stage_frame frame = { .state = STAGE_FRAME_READY };
	size_t at = sizeof(frame);

	memset(slab, 0, sizeof(slab));
	memcpy(slab + at, &head, sizeof(head));
	at += sizeof(head);
	slab[at++] = 't';
	memcpy(slab + at, &field, sizeof(field));
	at += sizeof(field);
	memcpy(slab + at, &to, sizeof(to));
	at += sizeof(to);
	frame.length = at - sizeof(frame);
	frame.size = (at + 7) / 8 * 8;
	memcpy(slab, &frame, sizeof(frame));
	engine.resk_take(connection, slab, frame.size, 0);
}

/* What becomes of records when the engine stops is told after it has, to whoever asks, and then no more. */
static void reports_outlive_the_stop(void)
{
	struct stage_gate gate = { 0 };
	struct resk_report_batch *batch;
	uint64_t connection = 0, reports[2] = { 0 }, seen = 0;
	size_t count = 0, i;

	log_reset();
	CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
	CHECK(engine.resk_configure(ENTRIES(nobody)) == RESK_OK);
	CHECK(engine.resk_producer_open(text("nobody"), &gate, &connection) == RESK_OK, "%s", last_line);
	CHECK(engine.resk_reports_open(&reports[0]) == RESK_OK && engine.resk_reports_open(&reports[1]) == RESK_OK);
	CHECK(reports[0] && reports[1] && reports[0] != reports[1]);
	for (i = 0; i < 64; i++) {
		take_reported(connection, reports[0], i);
		take_reported(connection, reports[1], i);
		take_reported(connection, UINT64_MAX, i); /* nobody */
	}
	engine.resk_reports_close(reports[1]);
	engine.resk_stop(0);
	while ((batch = engine.resk_reports_next(reports[0]))) {
		for (i = 0; i < batch->count; i++) {
			const struct resk_report *report = &batch->reports[i];

			CHECK(!strcmp(report->topic, "t") && report->partition == -1 && report->offset == -1);
			CHECK(report->error && strlen(report->error) > 3, "'%s'", report->error);
			seen |= 1ull << report->opaque;
		}
		count += batch->count;
		engine.resk_free(batch);
	}
	CHECK(count == 64 && seen == UINT64_MAX, "%zu reports", count);
	CHECK(!engine.resk_reports_next(reports[1]));
	engine.resk_reports_close(reports[0]);
	engine.resk_reports_close(reports[0]);
	CHECK(!engine.resk_reports_next(reports[0]));
	DONE();
}

static void survives_its_own_faults(void)
{
	int i;

	log_reset();
	CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
	for (i = 0; i < 10; i++) {
		CHECK(engine.resk_fault() == RESK_PANIC);
	}
	CHECK(errors_logged() > 10, "no stack in the log: %d", errors_logged());
	CHECK(engine.resk_configure(ENTRIES(nobody)) == RESK_OK);
	engine.resk_stop(0);
	DONE();
}

static void __attribute__((noinline)) raise_fault(volatile int *nowhere)
{
	*nowhere = 1;
}

/* A fault in C must still end the process by a signal, not be taken for one of Go's. */
static void faults_elsewhere_still_end_the_process(void)
{
	pid_t child = fork();
	int status;

	if (!child) {
		struct rlimit none = { 0, 0 };
		int quiet = open("/dev/null", O_WRONLY);

		setrlimit(RLIMIT_CORE, &none);
		dup2(quiet, 2);
		alarm(20);
		raise_fault((volatile int *) 8);
		_exit(0);
	}
	waitpid(child, &status, 0);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) != SIGALRM, "status %x", status);
	DONE();
}

struct sleeper {
	int pipe[2];
	int use_poll;
	volatile int waiting;
	int result;
	int error;
};

static void *sleeper_run(void *arg)
{
	struct sleeper *sleeper = arg;
	struct pollfd fd = { sleeper->pipe[0], POLLIN, 0 };
	char byte;

	sleeper->waiting = 1;
	sleeper->result = sleeper->use_poll ? poll(&fd, 1, 10000) : (int) read(sleeper->pipe[0], &byte, 1);
	sleeper->error = errno;
	return NULL;
}

static void threads_wake_on_sigurg(void)
{
	int use_poll, round;

	log_reset();
	CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
	CHECK(engine.resk_configure(ENTRIES(nobody)) == RESK_OK);
	for (use_poll = 0; use_poll < 2; use_poll++) {
		for (round = 0; round < 20; round++) {
			struct sleeper sleeper = { .use_poll = use_poll };
			struct timespec moment = { 0, 2000000 };
			pthread_t thread;
			int i;

			CHECK(!pipe(sleeper.pipe));
			pthread_create(&thread, NULL, sleeper_run, &sleeper);
			for (i = 0; i < 5000 && !sleeper.waiting; i++) {
				nanosleep(&moment, NULL);
			}
			/* Sent until it has answered: a signal may come before the thread has gone to sleep. */
			for (i = 0; i < 1000; i++) {
				struct timespec soon;

				pthread_kill(thread, SIGURG);
				clock_gettime(CLOCK_REALTIME, &soon);
				soon.tv_nsec += 10000000;
				if (soon.tv_nsec >= 1000000000) {
					soon.tv_sec++;
					soon.tv_nsec -= 1000000000;
				}
				if (!pthread_timedjoin_np(thread, NULL, &soon)) {
					break;
				}
			}
			CHECK(i < 1000, "a thread in %s is not woken", use_poll ? "poll" : "read");
			CHECK(sleeper.result == -1 && sleeper.error == EINTR, "%s: %d, errno %d", use_poll ? "poll" : "read",
				sleeper.result, sleeper.error);
			close(sleeper.pipe[0]);
			close(sleeper.pipe[1]);
		}
	}
	engine.resk_stop(0);
	CHECK(urgent >= 40);
	DONE();
}

static volatile sig_atomic_t children_elsewhere, children_here;
static __thread int forks_children;

static void on_child(int signal)
{
	(void) signal;
	if (forks_children) {
		children_here++;
	} else {
		children_elsewhere++;
	}
}

static void *fork_children(void *arg)
{
	int i;

	(void) arg;
	forks_children = 1;
	for (i = 0; i < 200; i++) {
		pid_t child = fork();

		if (!child) {
			_exit(0);
		}
		waitpid(child, NULL, 0);
	}
	return NULL;
}

/* The one signal that Go's threads insist on taking. The kernel offers it to the thread that forked first, and to
 * another one only when that one has a signal pending just then. */
static void sigchld_goes_to_the_thread_that_forked(void)
{
	struct sigaction act = { .sa_handler = on_child, .sa_flags = SA_RESTART }, before;
	pthread_t thread;

	sigaction(SIGCHLD, &act, &before);
	pthread_create(&thread, NULL, fork_children, NULL);
	pthread_join(thread, NULL);
	sigaction(SIGCHLD, &before, NULL);
	CHECK(children_here > 50 * children_elsewhere, "here %d, elsewhere %d", (int) children_here, (int) children_elsewhere);
	DONE();
}

static volatile int hammering;

static void *hammer(void *arg)
{
	struct stage_gate *gate = calloc(1, sizeof(*gate));
	struct resk_text words[] = { text("kafka"), text("show"), text("connection"), text("nobody") };
	uint64_t id;

	(void) arg;
	while (hammering) {
		engine.resk_producer_open(text("nobody"), gate, &id);
		engine.resk_configure(ENTRIES(nobody));
		engine.resk_free(engine.resk_run(1, words, 4));
		engine.resk_free(engine.resk_complete(1, words, 3, text("n"), 0));
		engine.resk_refused(id, RESK_REFUSED_TOPIC, 1, text("t"));
		engine.resk_take(id, (char[]) { "" }, 0, 0);
	}
	free(gate);
	return NULL;
}

static int count_entries(const char *path)
{
	DIR *dir = opendir(path);
	int n = 0;

	while (dir && readdir(dir)) {
		n++;
	}
	if (dir) {
		closedir(dir);
	}
	return n;
}

static void bears_many_threads_and_restarts(void)
{
	int round, threads = 0, files = 0;

	log_reset();
	for (round = 0; round < 40; round++) {
		pthread_t workers[8];
		struct timespec moment = { 0, 5000000 };
		int i;

		log_reset();
		CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
		CHECK(engine.resk_configure(ENTRIES(nobody)) == RESK_OK);
		hammering = 1;
		for (i = 0; i < 8; i++) {
			pthread_create(&workers[i], NULL, hammer, NULL);
		}
		nanosleep(&moment, NULL);
		engine.resk_stop(0); /* in the middle of it: the threads call on and are told so */
		pthread_mutex_lock(&log_lock);
		log_is_closed = 1;
		pthread_mutex_unlock(&log_lock);
		nanosleep(&moment, NULL);
		hammering = 0;
		for (i = 0; i < 8; i++) {
			pthread_join(workers[i], NULL);
		}
		CHECK(!logged_after_close, "%d line(s) after resk_stop had returned", logged_after_close);
		if (round == 9) {
			threads = count_entries("/proc/self/task");
			files = count_entries("/proc/self/fd");
		}
	}
	CHECK(count_entries("/proc/self/task") <= threads + 4, "threads grow: %d, then %d", threads, count_entries("/proc/self/task"));
	/* Threads have been added by now. */
	CHECK(!unblocked_in_others(SIGTERM, (int[]) { getpid() }, 1));
	CHECK(count_entries("/proc/self/fd") <= files, "descriptors grow: %d, then %d", files, count_entries("/proc/self/fd"));
	DONE();
}

int main(int argc, char **argv)
{
	struct sigaction urg = { .sa_handler = on_urgent };

	if (argc != 2) {
		fprintf(stderr, "usage: host LIBRARY\n");
		return 2;
	}
	library_path = argv[1];
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGURG, &urg, NULL);
	signal(SIGPIPE, SIG_IGN);
	alarm(300); /* nothing here may hang a test run */

	opens_like_asterisk();
	if (failures) {
		return 1;
	}
	exports_nothing_else();
	handlers_are_the_hosts();
	its_threads_take_no_signals();
	is_not_there_before_its_start();
	start_checks_its_host();
	refuses_bad_calls();
	lets_waiting_threads_go();
	reports_outlive_the_stop();
	survives_its_own_faults();
	faults_elsewhere_still_end_the_process();
	threads_wake_on_sigurg();
	sigchld_goes_to_the_thread_that_forked();
	bears_many_threads_and_restarts();
	return failures ? 1 : 0;
}
