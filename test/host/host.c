/*
 * res_kafka: a program that plays Asterisk against the engine's library: opens it as Asterisk opens modules, sends it
 * signals, calls it wrongly, from many threads, before its start and after its end.
 *
 *     host LIBRARY        prints a line "ok NAME" or "not ok NAME: why" for each case; exit status 1 if any failed
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>

#include "host.h"
#include "modules/res_kafka/golib.h"

struct engine engine;
int failures;
static const char *library_path;

struct host_log host_log;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

static void write_log(int32_t level, const char *file, int32_t line, const char *function, const char *text)
{
	(void) file;
	(void) line;
	(void) function;
	pthread_mutex_lock(&log_lock);
	if (host_log.closed) {
		host_log.after_close++;
	}
	if (level >= 0 && level < 4) {
		host_log.lines[level]++;
	}
	snprintf(host_log.last, sizeof(host_log.last), "%s", text);
	pthread_mutex_unlock(&log_lock);
}

void log_reset(void)
{
	pthread_mutex_lock(&log_lock);
	memset(&host_log, 0, sizeof(host_log));
	pthread_mutex_unlock(&log_lock);
}

void log_close(void)
{
	pthread_mutex_lock(&log_lock);
	host_log.closed = 1;
	pthread_mutex_unlock(&log_lock);
}

int errors_logged(void)
{
	int n;

	pthread_mutex_lock(&log_lock);
	n = host_log.lines[RESK_LOG_ERROR];
	pthread_mutex_unlock(&log_lock);
	return n;
}

unsigned int slabs_back;

/* give_back spoils a slab: whoever still looks at it finds out. */
static void give_back(void *slab)
{
	memset(slab, 0xA5, SLAB_BYTES);
	__atomic_fetch_add(&slabs_back, 1, __ATOMIC_SEQ_CST);
}

struct resk_host the_host = {
	.abi_version = RESK_ABI_VERSION, .size = sizeof(struct resk_host), .log = write_log, .give_back = give_back,
	.entity_id = "00:11:22:33:44:55", .system_name = NULL, .version = "22.0.0", .hostname = "host",
};
struct resk_limits limits;

struct resk_entry nobody[3] = {
	{ .file = "kafka.conf", .section = "nobody" },
	{ .file = "kafka.conf", .line = 2, .section = "nobody", .name = "type", .value = "connection" },
	{ .file = "kafka.conf", .line = 3, .section = "nobody", .name = "brokers", .value = "127.0.0.1:1" },
};

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
	slabs_are_kept_and_given_back();
	survives_its_own_faults();
	faults_elsewhere_still_end_the_process();
	threads_wake_on_sigurg();
	sigchld_goes_to_the_thread_that_forked();
	bears_many_threads_and_restarts();
	return failures ? 1 : 0;
}
