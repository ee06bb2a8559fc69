/*
 * res_kafka: a program in the role of Asterisk against the engine's process. It greets the engine, makes
 * correct and wrong calls, kills the engine, and dies itself.
 *
 *     host ENGINE        prints a line "ok NAME" or "not ok NAME: why" for each case; exit status 1 if any failed
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "build.h"
#include "host.h"

int failures;
struct peer *peer;
struct supervisor *supervisor;
struct stage_memory memory;
struct stage_pump *pump;
char host_folder[64];
__thread struct boundary_writer request;

static const char *engine_path;
static uint64_t abi;
static const char *build;
static char stage_folder[256];
static uint64_t stage_bytes;
static bool serving;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char text[1 << 16];
static __thread struct peer_answer last_answer;

static void note(const char *line)
{
	pthread_mutex_lock(&lock);
	if (strlen(text) + strlen(line) + 2 < sizeof(text)) {
		strcat(strcat(text, line), "\n");
	}
	pthread_mutex_unlock(&lock);
}

const char *host_log(void)
{
	return text;
}

bool was_logged(const char *what)
{
	bool found;

	pthread_mutex_lock(&lock);
	found = strstr(text, what) != NULL;
	pthread_mutex_unlock(&lock);
	return found;
}

static void on_log(int level, const char *line)
{
	(void) level;
	note(line);
}

static void on_message(uint16_t kind, struct boundary_reader *fields)
{
	boundary_get_int32(fields);
	boundary_get_string(fields);
	boundary_get_int32(fields);
	boundary_get_string(fields);
	note(kind == BOUNDARY_LOG ? boundary_get_string(fields) : "a message that is no line of the log");
}

static void on_hello(void *owner, enum peer_result result, struct boundary_reader *fields)
{
	(void) owner;
	if (result != PEER_OK) {
		return;
	}
	if (boundary_get_int32(fields) != RESK_OK) {
		note("it refuses to serve");
		return;
	}
	boundary_get_number(fields);
	boundary_get_string(fields);
	snprintf(stage_folder, sizeof(stage_folder), "%s", boundary_get_string(fields));
	stage_bytes = boundary_get_number(fields);
	if (fields->failed) {
		supervisor_refuse(supervisor, "its hello cannot be read");
		return;
	}
	peer_ready(peer);
	supervisor_ready(supervisor);
}

static void on_started(void)
{
	struct boundary_writer hello = { 0 };

	boundary_begin(&hello, BOUNDARY_HELLO, 0, 1);
	boundary_put_number(&hello, abi);
	boundary_put_string(&hello, build);
	boundary_put_string(&hello, "00:11:22:33:44:55");
	boundary_put_string(&hello, "");
	boundary_put_string(&hello, "22.0.0");
	boundary_put_string(&hello, "host");
	boundary_put_string(&hello, host_folder);
	boundary_put_string(&hello, host_folder);
	boundary_put_string(&hello, stage_folder);
	peer_post(peer, &hello, on_hello, NULL);
	boundary_free(&hello);
}

static void on_died(void)
{
	if (pump && serving) {
		stage_pump_engine_lost(pump);
	}
}

static void on_pong(void *owner, enum peer_result result, struct boundary_reader *fields)
{
	(void) owner;
	(void) fields;
	if (result == PEER_OK) {
		supervisor_alive(supervisor);
	}
}

static void on_ping(void)
{
	struct boundary_writer ping = { 0 };

	boundary_begin(&ping, BOUNDARY_PING, 0, 1);
	peer_post(peer, &ping, on_pong, NULL);
	boundary_free(&ping);
}

unsigned int frames_again, shown_all;

static void on_again(const void *content, uint32_t length)
{
	(void) length;
	__atomic_add_fetch(content ? &frames_again : &shown_all, 1, __ATOMIC_SEQ_CST);
}

static void on_note(void *owner, unsigned int slot, uint64_t count, const char *sample)
{
	(void) owner;
	(void) slot;
	(void) count;
	(void) sample;
}

bool host_enter(void)
{
	return host_enter_as(RESK_ABI_VERSION, RESK_BUILD);
}

bool host_enter_as(uint64_t as_abi, const char *as_build)
{
	struct supervisor_options options = {
		.path = engine_path, .trace_folder = host_folder, .log = on_log, .started = on_started, .died = on_died,
		.ping = on_ping,
	};

	abi = as_abi;
	build = as_build;
	text[0] = '\0';
	stage_folder[0] = '\0';
	serving = false;
	if (stage_memory_open(&memory) || !(peer = peer_create(on_message))) {
		return false;
	}
	options.peer = peer;
	options.handed[0] = memory.control_file;
	options.handed[1] = memory.plain_file;
	options.handed[2] = memory.wake;
	if (supervisor_start(&options, &supervisor) || supervisor_wait_first(supervisor, 20000)) {
		return false;
	}
	pump = stage_pump_start(&memory, on_note, "host-pump", stage_folder, stage_bytes);
	if (pump) {
		serving = true;
		frames_again = shown_all = 0;
		stage_pump_again(pump, on_again);
		stage_pump_engine_new(pump);
	}
	return pump != NULL;
}

void host_leave(void)
{
	if (!peer) {
		return;
	}
	peer_close(peer);
	supervisor_stop(supervisor, 5000); /* before the pump goes, which on_died uses */
	stage_pump_stop(pump);
	supervisor_free(supervisor);
	peer_destroy(peer);
	stage_memory_close(&memory);
	pump = NULL;
	supervisor = NULL;
	peer = NULL;
	peer_free(last_answer.fields);
	last_answer.fields = NULL;
}

pid_t engine_pid(void)
{
	struct supervisor_status status;

	supervisor_status(supervisor, &status);
	return status.pid;
}

void begin(enum boundary_kind kind)
{
	boundary_begin(&request, kind, 0, 1);
}

bool ask_more(struct boundary_reader *reader)
{
	enum peer_result result;

	peer_free(last_answer.fields);
	result = peer_call(peer, 0, &request, 60000, NULL, 0, &last_answer);
	boundary_free(&request);
	*reader = last_answer.reader;
	return result == PEER_OK;
}

int32_t ask(void)
{
	struct boundary_reader reader;
	int32_t result = RESK_ESTATE;

	if (ask_more(&reader)) {
		result = boundary_get_int32(&reader);
		result = reader.failed ? RESK_ESTATE : result;
	}
	peer_free(last_answer.fields);
	last_answer.fields = NULL;
	return result;
}

static void put_entry(const char *name, const char *value, int line)
{
	boundary_put_string(&request, "kafka.conf");
	boundary_put_number(&request, line);
	boundary_put_string(&request, "nobody");
	boundary_put_string(&request, name);
	boundary_put_string(&request, value);
	boundary_put_number(&request, 0);
}

int32_t configure(const char *lines)
{
	char copy[512], *name, *value, *rest = copy;
	size_t count;
	uint32_t entries = 3;

	snprintf(copy, sizeof(copy), "%s", lines ? lines : "");
	begin(BOUNDARY_CONFIGURE);
	count = boundary_put_count(&request, 0);
	put_entry(NULL, NULL, 0);
	put_entry("type", "connection", 2);
	put_entry("brokers", "127.0.0.1:1", 3);
	while ((name = strsep(&rest, "\n"))) {
		value = strchr(name, '=');
		if (value) {
			*value++ = '\0';
			put_entry(name, value, ++entries);
		}
	}
	boundary_set_count(&request, count, entries);
	return ask();
}

int32_t producer_open(const char *name, uint64_t id)
{
	begin(BOUNDARY_PRODUCER_OPEN);
	boundary_put_string(&request, name);
	boundary_put_number(&request, id);
	return ask();
}

int32_t number(enum boundary_kind kind, uint64_t value)
{
	begin(kind);
	boundary_put_number(&request, value);
	return ask();
}

int main(int argc, char **argv)
{
	char command[128];

	if (argc != 2) {
		fprintf(stderr, "usage: host ENGINE\n");
		return 2;
	}
	engine_path = argv[1];
	setvbuf(stdout, NULL, _IOLBF, 0);
	snprintf(host_folder, sizeof(host_folder), "/tmp/res_kafka-host.XXXXXX");
	if (!mkdtemp(host_folder)) {
		return 2;
	}
	alarm(300); /* nothing here may hang a test run */

	greets();
	refuses_another_build();
	refuses_bad_calls();
	refuses_noise();
	lets_waiting_threads_go();
	reports_outlive_the_stop();
	bears_many_threads();
	survives_its_own_faults();
	is_replaced();
	takes_over_frames();
	holds_frames_back();
	ends_with_its_module();
	leaves_nothing_behind();
	snprintf(command, sizeof(command), "rm -rf %s", host_folder);
	return system(command) || failures ? 1 : 0;
}
