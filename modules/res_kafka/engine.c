/*
 * res_kafka: the engine's process: its start, its successors and its end.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Finds the engine's binary beside this module and connects the supervisor with Asterisk.
 *
 * An engine serves once it was greeted (hello) and was told everything that its predecessor knew (replay.c). Until then
 * calls are refused, but for those that wait for an engine.
 */

#include "asterisk.h"

#include <dlfcn.h>
#include <sys/file.h>

#include "asterisk/app.h"
#include "asterisk/ast_version.h"
#include "asterisk/lock.h"
#include "asterisk/logger.h"
#include "asterisk/paths.h"
#include "asterisk/utils.h"

#include "build.h"
#include "boundary/kernel_limits.h"
#include "engine_internal.h"
#include "internal.h"

/* The engine's place, seen from this module's own directory. A folder of its own keeps it away from autoload, which
 * tries every *.so in the modules directory. */
#define ENGINE_FILE "res_kafka/reskafka"

/* How long a module may take to load, ms. The engine itself is there after some 30. */
#define LOAD_MS 10000

/* How long the engine may take to end after it has answered the request to stop, ms; and without that answer, when it sees only
 * that the connection is gone and has still to write to disk what it holds. */
#define END_MS 1000
#define END_UNASKED_MS 5000

struct peer *engine_peer;

static struct supervisor *supervisor;
static struct stage_memory memory;
static bool has_memory;
static struct resk_limits the_limits;
static char *folder; /* limits.stage_folder */
static int folder_lock = -1;
static bool stopped; /* resk_stop has returned */

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

/* Takes a lock on the folder of durable slabs, so that no other engine takes it for that of a killed run. */
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

/* Everything that an engine has to be told, it was told. */
static void serve(void)
{
	ast_mutex_lock(&pump_lock);
	serving = true;
	peer_ready(engine_peer);
	supervisor_ready(supervisor);
	if (pump) {
		stage_pump_engine_new(pump);
	}
	ast_mutex_unlock(&pump_lock);
	refusals_send();
}

/* Reads what the engine says of itself. Returns NULL, or why it is unacceptable; "" = it refuses this module, and has a line
 * in the log about it before it ends. */
static const char *read_hello(const unsigned char *fields, size_t length)
{
	struct resk_limits limits = { 0 };
	struct boundary_reader reader;
	const char *build, *bytes, *stage_folder;
	size_t byte_count;
	int32_t result;
	uint64_t abi;

	boundary_read(&reader, fields, length);
	result = boundary_get_int32(&reader);
	abi = boundary_get_number(&reader);
	build = boundary_get_string(&reader);
	if (abi != RESK_ABI_VERSION || strcmp(build, RESK_BUILD)) {
		ast_log(LOG_ERROR, "The Kafka engine is of another version than res_kafka.so; `make install` installs both, and a module "
			"that is loaded again uses them\n");
		return result == RESK_OK ? "it is of another version" : "";
	}
	bytes = boundary_get_text(&reader, &byte_count);
	limits.topic_length_max = boundary_get_uint32(&reader);
	limits.record_overhead = boundary_get_uint32(&reader);
	limits.header_overhead = boundary_get_uint32(&reader);
	stage_folder = boundary_get_string(&reader);
	limits.stage_bytes = boundary_get_number(&reader);
	if (result != RESK_OK) {
		return "";
	}
	if (byte_count != sizeof(limits.topic_bytes) || commands_read(&reader) || boundary_end(&reader)) {
		return "it sent what cannot be read";
	}
	if (!folder) {
		memcpy(limits.topic_bytes, bytes, sizeof(limits.topic_bytes));
		folder = ast_strdup(stage_folder);
		limits.stage_folder = folder;
		the_limits = limits;
		lock_folder();
	}
	return NULL;
}

static void greeted(void *owner, enum peer_result result, const unsigned char *fields, size_t length)
{
	const char *why;

	if (result != PEER_OK) {
		return; /* it is dead, or will be */
	}
	why = read_hello(fields, length);
	if (why && *why) {
		supervisor_refuse(supervisor, why);
	}
	if (why) {
		return;
	}
	replay_start((uintptr_t) owner, serve);
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
	if (!boundary_finish(&hello)) {
		peer_post(engine_peer, hello.bytes, hello.used, greeted, (void *) (uintptr_t) peer_generation(engine_peer));
	}
	boundary_free(&hello);
}

static void engine_died(void)
{
	ast_mutex_lock(&pump_lock);
	if (pump) {
		stage_pump_engine_lost(pump); /* also for one that never served: it may have written to the shared memory */
	}
	serving = false;
	ast_mutex_unlock(&pump_lock);
	reports_engine_died();
}

static void ponged(void *owner, enum peer_result result, const unsigned char *fields, size_t length)
{
	if (result == PEER_OK) {
		supervisor_alive(supervisor);
	}
}

static void ping(void)
{
	struct boundary_writer request = { 0 };

	boundary_begin(&request, BOUNDARY_PING, 0, 1);
	if (!boundary_finish(&request)) {
		peer_post(engine_peer, request.bytes, request.used, ponged, NULL);
	}
	boundary_free(&request);
}

/* Has Asterisk's handler of SIGCHLD reap nobody's children for a moment. */
static void keep_children(int on)
{
	if (on) {
		ast_replace_sigchld();
	} else {
		ast_unreplace_sigchld();
	}
}

static int engine_path(char *path, size_t size)
{
	Dl_info self;
	const char *slash;

	if (!dladdr(&engine_peer, &self) || !self.dli_fname || !(slash = strrchr(self.dli_fname, '/'))) {
		ast_log(LOG_ERROR, "Cannot tell where res_kafka.so has been loaded from\n");
		return -1;
	}
	if (snprintf(path, size, "%.*s/" ENGINE_FILE, (int) (slash - self.dli_fname), self.dli_fname) >= (int) size) {
		ast_log(LOG_ERROR, "The path of res_kafka.so is too long: %s\n", self.dli_fname);
		return -1;
	}
	return 0;
}

int engine_open(struct resk_limits *limits)
{
	char path[PATH_MAX];
	struct supervisor_options options = {
		.path = path, .trace_folder = ast_config_AST_LOG_DIR, .log = engine_supervisor_says,
		.started = engine_started, .died = engine_died, .ping = ping, .keep_children = keep_children,
	};

	char words[LIMITS_WORDS];
	int error;

	stopped = false;
	if (engine_path(path, sizeof(path))) {
		return -1;
	}
	error = stage_memory_open(&memory);
	has_memory = !error;
	engine_peer = has_memory ? peer_create(engine_says, NULL) : NULL;
	if (!engine_peer) {
		ast_log(LOG_ERROR, "The memory that is shared with the Kafka engine cannot be had: %s\n",
			limits_words(error ? error : errno, NULL, words, sizeof(words)));
		return -1;
	}
	options.peer = engine_peer;
	options.handed[0] = memory.control_file;
	options.handed[1] = memory.plain_file;
	options.handed[2] = memory.wake;
	if (supervisor_start(&options, &supervisor)) {
		return -1;
	}
	error = supervisor_wait_first(supervisor, LOAD_MS);
	if (error > 0) {
		ast_log(LOG_ERROR, "The Kafka engine %s does not serve within %d seconds\n", path, LOAD_MS / 1000);
	}
	if (error) {
		return -1;
	}
	*limits = the_limits;
	return 0;
}

const struct stage_memory *engine_memory(void)
{
	return &memory;
}

const struct resk_limits *engine_limits(void)
{
	return &the_limits;
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

void engine_await(int timeout_ms)
{
	if (!engine_now()) {
		supervisor_hurry(supervisor);
		peer_wait(engine_peer, timeout_ms);
	}
}

enum peer_result engine_ask(struct boundary_writer *request, uint64_t generation, int timeout_ms, const void *tag,
	struct peer_answer *answer)
{
	enum peer_result result = PEER_NO_MEMORY;

	answer->fields = NULL;
	if (!boundary_finish(request)) {
		result = peer_call(engine_peer, generation, request->bytes, request->used, timeout_ms, tag, answer);
	}
	boundary_free(request);
	return result;
}

int32_t engine_ask_result(struct boundary_writer *request, uint64_t generation, int timeout_ms, enum peer_result *peer_result)
{
	struct boundary_reader reader;
	struct peer_answer answer;
	enum peer_result asked = engine_ask(request, generation, timeout_ms, NULL, &answer);
	int32_t result = RESK_ESTATE;

	if (asked == PEER_OK) {
		boundary_read(&reader, answer.fields, answer.length);
		result = boundary_get_int32(&reader);
		if (boundary_end(&reader)) {
			engine_broken();
			result = RESK_ESTATE;
		}
		peer_free(answer.fields);
	}
	if (peer_result) {
		*peer_result = asked;
	}
	return result;
}

/* The engine bounds a stop itself, by grace_ms, each connection's flush_timeout_ms and a second for the closing, and one that hangs
 * is ended after seconds. This is for one that answers pings and does not stop. */
#define STOP_MS 60000

/* How long to wait for another engine when one died while it stopped, ms. That one is not asked to stop: when the connection is closed
 * it takes all that is staged, which the pump may not have handed over yet, delivers it or writes it to disk, and ends. */
#define SUCCESSOR_MS 3000

void resk_stop(uint32_t grace_ms)
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
	asked = engine_ask(&request, 0, STOP_MS, NULL, &answer);
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
		stage_memory_close(&memory);
		has_memory = false;
	}
	replay_clear();
	names_clear();
	commands_clear();
	deliveries_clear();
	ast_free(folder);
	folder = NULL;
}
