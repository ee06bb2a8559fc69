/*
 * res_kafka: the module's side of the supervisor's test.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#include <sys/wait.h>

#include "kit.h"

int failures;
char folder[64];
struct peer *peer;
struct supervisor *supervisor;
int handed[SUPERVISOR_HANDED];
_Atomic int started, died, pongs, slow_death;
char logged[65536];
uint64_t ask_generation;

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

static void note(const char *text)
{
	pthread_mutex_lock(&log_lock);
	if (strlen(logged) + strlen(text) + 2 < sizeof(logged)) {
		strcat(strcat(logged, text), "\n");
	}
	pthread_mutex_unlock(&log_lock);
}

int was_logged(const char *text)
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

static void on_message(uint16_t kind, struct boundary_reader *fields)
{
	(void) kind;
	note(boundary_get_string(fields));
}

static void on_greeted(void *owner, enum peer_result result, struct boundary_reader *fields)
{
	(void) owner;
	(void) fields;
	if (result == PEER_OK) {
		peer_ready(peer);
		supervisor_ready(supervisor);
	}
}

static void post(uint16_t kind, peer_done done)
{
	struct boundary_writer frame = { 0 };

	boundary_begin(&frame, kind, 0, 1);
	peer_post(peer, &frame, done, NULL);
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
	usleep(slow_death * 1000);
	__atomic_add_fetch(&died, 1, __ATOMIC_SEQ_CST);
}

static void on_pong(void *owner, enum peer_result result, struct boundary_reader *fields)
{
	(void) owner;
	(void) fields;
	if (result == PEER_OK) {
		pongs++;
		supervisor_alive(supervisor);
	}
}

static void on_ping(void)
{
	post(BOUNDARY_PING, on_pong);
}

static _Atomic int keeping;

void reap(int signal)
{
	int saved = errno;

	(void) signal;
	while (!keeping && waitpid(-1, NULL, WNOHANG) > 0) {
	}
	errno = saved;
}

static void keep_children(int on)
{
	keeping = on;
}

void behaviour_path(char *path, size_t size)
{
	snprintf(path, size, "%s/behaviour", getenv("RES_KAFKA_TEST_ENGINE"));
}

void behave(const char *how)
{
	char path[256];
	FILE *file;

	behaviour_path(path, sizeof(path));
	file = fopen(path, "w");
	fputs(how, file);
	fclose(file);
}

int enter(const char *how)
{
	struct supervisor_options options = {
		.path = "/proc/self/exe", .trace_folder = folder, .log = on_log, .started = on_started, .died = on_died,
		.ping = on_ping, .keep_children = keep_children,
	};

	behave(how);
	logged[0] = '\0';
	started = died = 0;
	peer = peer_create(on_message);
	options.peer = peer;
	memcpy(options.handed, handed, sizeof(handed));
	return !supervisor_start(&options, &supervisor) && !supervisor_wait_first(supervisor, 10000);
}

void leave(void)
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

enum peer_result ask(uint16_t kind, size_t bytes, int timeout_ms, const void *tag)
{
	struct boundary_writer frame = { 0 };
	struct peer_answer answer;
	enum peer_result result;
	char *content = calloc(1, bytes + 1);

	boundary_begin(&frame, kind, 0, 1);
	boundary_put_text(&frame, content, bytes);
	result = peer_call(peer, ask_generation, &frame, timeout_ms, tag, 0, &answer);
	boundary_free(&frame);
	free(content);
	if (result == PEER_OK) {
		if (strcmp(boundary_get_string(&answer.reader), "yes")) {
			result = PEER_NO_MEMORY;
		}
	}
	free(answer.fields);
	return result;
}

pid_t engine_pid(void)
{
	struct supervisor_status status;

	supervisor_status(supervisor, &status);
	return status.pid;
}

void kill_engine(void)
{
	pid_t pid = engine_pid();

	if (pid > 0) {
		kill(pid, SIGKILL);
	}
}
