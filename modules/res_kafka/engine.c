/*
 * res_kafka: the engine's process: start, restart and end.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Finds the engine's binary in the modules directory and connects the supervisor with Asterisk.
 *
 * An engine serves after hello and after the replay of its predecessor's requests (replay.c). Earlier calls
 * are refused; a few calls wait for an engine.
 */

#include "asterisk.h"

#include <sys/file.h>

#include "asterisk/app.h"
#include "asterisk/ast_version.h"
#include "asterisk/lock.h"
#include "asterisk/logger.h"
#include "asterisk/paths.h"
#include "asterisk/utils.h"

#include "build.h"
#include "boundary/kernel_limits.h"
#include "internal.h"

/* The engine's place, relative to the modules directory. Asterisk's autoload tries every *.so in the
 * modules directory; the separate folder hides the binary. */
#define ENGINE_FILE "res_kafka/reskafka"

/* How long a module may take to load, ms. The engine itself is there after some 30. */
#define LOAD_MS 10000

/* Limit for the engine's end, ms: after the answer to the request to stop, or after a lost connection. In the
 * second case the engine first writes its records to disk. */
#define END_MS 1000
#define END_UNASKED_MS 5000

/* A waiting thread looks for its own end this often, ms. */
#define ENDED_MS 200

struct peer *engine_peer;

static struct supervisor *supervisor;
struct stage_memory engine_memory;
static bool has_memory;
static char *folder; /* of durable slabs; NULL before the first hello */
static uint64_t folder_bytes;
static int folder_lock = -1;
static bool stopped; /* engine_stop has returned */

AST_MUTEX_DEFINE_STATIC(pump_lock);
static struct stage_pump *pump; /* under the lock, as is */
static bool serving;

void engine_refuse(const char *why)
{
	supervisor_refuse(supervisor, why);
}

void engine_broken(void)
{
	engine_refuse("it sent what cannot be read");
}

void engine_supervised(struct supervisor_status *status)
{
	if (supervisor) {
		supervisor_status(supervisor, status);
	}
}

/* Locks the folder of durable slabs. No other engine takes the folder for a killed run's. */
static void lock_folder(void)
{
	char path[PATH_MAX];

	if (ast_strlen_zero(folder) || folder_lock >= 0) {
		return;
	}
	snprintf(path, sizeof(path), "%s/lock", folder);
	folder_lock = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (folder_lock >= 0 && flock(folder_lock, LOCK_SH | LOCK_NB)) {
		ast_log(LOG_WARNING, "%s cannot be locked: %s\n", path, strerror(errno));
	}
}

void engine_serve(void)
{
	ast_mutex_lock(&pump_lock);
	serving = true;
	peer_ready(engine_peer);
	supervisor_ready(supervisor);
	if (pump) {
		stage_pump_engine_new(pump);
	}
	ast_mutex_unlock(&pump_lock);
}

/* Reads the engine's hello. Returns NULL, or the reason for a refusal. "" = the engine refuses this module
 * and logs the reason before its end. */
static const char *read_hello(struct boundary_reader *reader)
{
	const char *build, *stage_folder;
	int32_t result;
	uint64_t abi;

	result = boundary_get_int32(reader);
	abi = boundary_get_number(reader);
	build = boundary_get_string(reader);
	if (abi != RESK_ABI_VERSION || strcmp(build, RESK_BUILD)) {
		ast_log(LOG_ERROR, "The Kafka engine is of another version than res_kafka.so; `make install` installs both, and a module "
			"that is loaded again uses them\n");
		return result == RESK_OK ? "it is of another version" : "";
	}
	if (result != RESK_OK || folder) { /* an engine of the same build has the same commands */
		return result == RESK_OK ? NULL : "";
	}
	stage_folder = boundary_get_string(reader);
	folder_bytes = boundary_get_number(reader);
	if (commands_read(reader) || !(folder = ast_strdup(stage_folder))) {
		return "it sent what cannot be read";
	}
	lock_folder();
	return NULL;
}

static void greeted(void *owner, enum peer_result result, struct boundary_reader *fields)
{
	const char *why = result == PEER_OK ? read_hello(fields) : "";

	if (!why) {
		replay_start(peer_generation(engine_peer));
	} else if (*why) {
		supervisor_refuse(supervisor, why);
	}
}

/* Greets a new engine. */
static void engine_started(void)
{
	struct boundary_writer hello = { 0 };
	char eid[20], hostname[256] = "";

	ast_eid_to_str(eid, sizeof(eid), &ast_eid_default);
	gethostname(hostname, sizeof(hostname) - 1);
	boundary_begin(&hello, BOUNDARY_HELLO, 0, 1);
	boundary_put_number(&hello, RESK_ABI_VERSION);
	boundary_put_string(&hello, RESK_BUILD);
	boundary_put_string(&hello, eid);
	boundary_put_string(&hello, ast_config_AST_SYSTEM_NAME);
	boundary_put_string(&hello, ast_get_version());
	boundary_put_string(&hello, hostname);
	boundary_put_string(&hello, ast_config_AST_SPOOL_DIR);
	boundary_put_string(&hello, ast_config_AST_LOG_DIR);
	boundary_put_string(&hello, S_OR(folder, ""));
	peer_post(engine_peer, &hello, greeted, NULL);
	boundary_free(&hello);
}

static void engine_died(void)
{
	ast_mutex_lock(&pump_lock);
	if (pump) {
		stage_pump_engine_lost(pump); /* also for an engine that never served: the shared memory may have changed */
	}
	serving = false;
	ast_mutex_unlock(&pump_lock);
	reports_engine_died();
}

static void ponged(void *owner, enum peer_result result, struct boundary_reader *fields)
{
	if (result == PEER_OK) {
		supervisor_alive(supervisor);
	}
}

static void ping(void)
{
	struct boundary_writer request = { 0 };

	boundary_begin(&request, BOUNDARY_PING, 0, 1);
	peer_post(engine_peer, &request, ponged, NULL);
	boundary_free(&request);
	replay_rest(); /* the obstacle to a refused producer may be gone */
}

/* Suspends Asterisk's handler of SIGCHLD for a moment: the handler reaps every child. */
static void keep_children(int on)
{
	if (on) {
		ast_replace_sigchld();
	} else {
		ast_unreplace_sigchld();
	}
}

int engine_open(void)
{
	char path[PATH_MAX];
	struct supervisor_options options = {
		.path = path, .trace_folder = ast_config_AST_LOG_DIR, .log = engine_supervisor_says,
		.started = engine_started, .died = engine_died, .ping = ping, .keep_children = keep_children,
	};
	char words[LIMITS_WORDS];
	int error;

	stopped = false;
	snprintf(path, sizeof(path), "%s/" ENGINE_FILE, ast_config_AST_MODULE_DIR);
	error = stage_memory_open(&engine_memory);
	has_memory = !error;
	engine_peer = has_memory ? peer_create(engine_says) : NULL;
	if (!engine_peer) {
		ast_log(LOG_ERROR, "The memory that is shared with the Kafka engine cannot be had: %s\n",
			limits_words(error ? error : errno, NULL, words, sizeof(words)));
		return -1;
	}
	options.peer = engine_peer;
	options.handed[0] = engine_memory.control_file;
	options.handed[1] = engine_memory.plain_file;
	options.handed[2] = engine_memory.wake;
	if (supervisor_start(&options, &supervisor)) {
		return -1;
	}
	error = supervisor_wait_first(supervisor, LOAD_MS);
	if (error > 0) {
		ast_log(LOG_ERROR, "The Kafka engine %s does not serve within %d seconds\n", path, LOAD_MS / 1000);
	}
	return error ? -1 : 0;
}

const char *engine_stage_folder(uint64_t *bytes)
{
	*bytes = folder_bytes;
	return S_OR(folder, "");
}

uint64_t engine_now(void)
{
	return peer_serving(engine_peer);
}

void engine_pump(struct stage_pump *new_pump)
{
	ast_mutex_lock(&pump_lock);
	pump = new_pump;
	if (pump && serving) {
		stage_pump_engine_new(pump);
	}
	ast_mutex_unlock(&pump_lock);
}

uint64_t engine_await(int timeout_ms)
{
	uint64_t generation = engine_now();

	if (!generation) {
		supervisor_hurry(supervisor);
		generation = peer_wait(engine_peer, timeout_ms);
	}
	return generation;
}

uint64_t engine_await_until(const int *ended)
{
	uint64_t generation = 0;

	while (!__atomic_load_n(ended, __ATOMIC_SEQ_CST) && !(generation = peer_wait(engine_peer, ENDED_MS)) && !peer_is_closed(engine_peer)) {
	}
	return generation;
}

enum peer_result engine_ask(struct boundary_writer *request, uint64_t generation, int timeout_ms, const void *tag, size_t most,
	struct peer_answer *answer)
{
	enum peer_result result = peer_call(engine_peer, generation, request, timeout_ms, tag, most, answer);

	boundary_free(request);
	return result;
}

int answer_end(struct peer_answer *answer)
{
	int broken = boundary_end(&answer->reader);

	if (broken) {
		engine_broken();
	}
	peer_free(answer->fields);
	answer->fields = NULL;
	return broken;
}

int32_t engine_ask_result(struct boundary_writer *request, uint64_t generation, int timeout_ms, enum peer_result *asked)
{
	struct peer_answer answer;
	int32_t result;

	*asked = engine_ask(request, generation, timeout_ms, NULL, 0, &answer);
	if (*asked != PEER_OK) {
		return RESK_ESTATE;
	}
	result = boundary_get_int32(&answer.reader);
	return answer_end(&answer) ? RESK_ESTATE : result;
}

enum peer_result engine_send_number(uint16_t kind, uint64_t generation, uint64_t number, int timeout_ms)
{
	struct boundary_writer request = { 0 };
	struct peer_answer answer;
	enum peer_result result;

	boundary_begin(&request, kind, 0, 1);
	boundary_put_number(&request, number);
	result = engine_ask(&request, generation, timeout_ms, NULL, 0, &answer);
	peer_free(answer.fields);
	return result;
}

/* Limit of a stop, ms. The engine itself limits a stop by grace_ms, each connection's flush_timeout_ms and
 * one second for the closing; the supervisor ends a hanging engine after seconds. This limit is for an engine
 * that answers pings and never stops. */
#define STOP_MS 60000

/* Limit of the wait for a successor after a death during the stop, ms. The successor gets no request to stop.
 * At the end of the connection the successor takes all staged records, also those not yet handed over,
 * delivers them or writes them to disk, and ends. */
#define SUCCESSOR_MS 3000

void engine_stop(uint32_t grace_ms)
{
	struct boundary_writer request = { 0 };
	struct peer_answer answer;
	enum peer_result asked;

	if (!engine_peer || !supervisor || stopped) {
		return;
	}
	supervisor_hasten(supervisor);
	boundary_begin(&request, BOUNDARY_STOP, 0, 1);
	boundary_put_number(&request, grace_ms);
	asked = engine_ask(&request, 0, STOP_MS, NULL, 0, &answer);
	if (asked == PEER_OK) {
		stopped = true;
		peer_free(answer.fields);
	} else if (asked == PEER_AWAY) {
		engine_await(SUCCESSOR_MS);
	}
}

void engine_close(int forget)
{
	if (engine_peer) {
		peer_close(engine_peer);
	}
	supervisor_stop(supervisor, stopped ? END_MS : END_UNASKED_MS);
	if (folder_lock >= 0) {
		close(folder_lock);
	}
	folder_lock = -1;
	if (!forget) {
		return;
	}
	supervisor_free(supervisor);
	supervisor = NULL;
	peer_destroy(engine_peer);
	engine_peer = NULL;
	if (has_memory) {
		stage_memory_close(&engine_memory);
		has_memory = false;
	}
	replay_clear();
	connections_clear();
	commands_clear();
	subscriptions_clear();
	ast_free(folder);
	folder = NULL;
}
