/*
 * res_kafka: the pump and the stages.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief The stages of all connections, from the load to the end of Asterisk, and refused records.
 */

#include "asterisk.h"

#include "boundary/clock.h" /* before Asterisk renames the types of pthread.h */

#include "asterisk/logger.h"
#include "asterisk/utils.h"

#include "boundary/kernel_limits.h"
#include "internal.h"

struct slots slots = AST_LIST_HEAD_INIT_VALUE;
static struct stage_pump *pump;
static struct stage *nowhere; /* for refusals without a connection */
static int closing; /* prevents new stages; under the lock of slots */
static int forked;
static int64_t late;  /* records after the shutting of their stage; atomic */
static int told_late; /* the number is logged, and so is the next one: atomic */

/* Wait for the engine to take staged records at the end, ns. The rest stays in shared memory with durability
 * disk, and is lost otherwise. */
#define FLUSH_NS 2000000000LL

/* With batch = yes and safeshutdown = no in cdr.conf, Asterisk posts its call records from a separate thread. Its
 * posting counts as over after SETTLE_QUIET_MS without a record, and at the latest after SETTLE_LIMIT_MS. */
#define SETTLE_STEP_MS 5
#define SETTLE_QUIET_MS 40
#define SETTLE_LIMIT_MS 300

int in_forked_child(void)
{
	return forked;
}

static void after_fork_in_child(void)
{
	forked = 1;
}

/* The pump's callback: reports refusals of one kind. owner is the slot, or NULL for none. Without an engine the
 * refusals are noted again, so the pump repeats the report soon. */
static void note(void *owner, unsigned int reason, uint64_t count, const char *text)
{
	static bool warned; /* the pump's alone */
	struct stage *stage = owner ? ((struct slot *) owner)->stage : nowhere;
	struct boundary_writer request = { 0 };

	boundary_begin(&request, BOUNDARY_REFUSED, 0, 0);
	boundary_put_number(&request, owner ? stage_number(stage) : 0);
	boundary_put_number(&request, reason);
	boundary_put_number(&request, count);
	boundary_put_string(&request, text);
	if (peer_send(engine_peer, &request) == PEER_OK) {
		warned = false;
	} else {
		stage_note(stage, reason, count, text, strlen(text));
		if (!warned) {
			ast_log(LOG_WARNING, "Records are refused, the first for topic '%s', and " AWAY "\n", text);
		}
		warned = true;
	}
	boundary_free(&request);
}

int stages_start(void)
{
	static int fork_handler; /* once for each time the module's code is mapped */
	char words[LIMITS_WORDS];
	const char *folder;
	uint64_t bytes;

	if (!fork_handler && !pthread_atfork(NULL, NULL, after_fork_in_child)) {
		fork_handler = 1;
	}
	closing = 0;
	late = told_late = 0;
	folder = engine_stage_folder(&bytes);
	pump = stage_pump_start(&engine_memory, note, "kafka-pump", folder, bytes);
	if (pump) {
		stage_pump_again(pump, reports_again);
	}
	nowhere = pump ? stage_create(pump, NULL, NULL) : NULL;
	if (!nowhere) {
		ast_log(LOG_ERROR, "The thread that hands records to the Kafka engine cannot be started: %s\n",
			limits_words(errno, NULL, words, sizeof(words)));
		return -1;
	}
	engine_pump(pump);
	return 0;
}

/* Executes a statement for each stage. */
#define EACH_STAGE(stage, statement) do { \
		struct slot *slot; \
		AST_LIST_LOCK(&slots); \
		AST_LIST_TRAVERSE(&slots, slot, next) { \
			struct stage *stage = slot->stage; \
			statement; \
		} \
		AST_LIST_UNLOCK(&slots); \
	} while (0)

void stages_ready(void)
{
	EACH_STAGE(stage, stage_ready(stage));
}

void stages_publish(void)
{
	EACH_STAGE(stage, stage_publish(stage));
}

/* How many records were produced since the module was loaded. */
static int64_t produced(void)
{
	int64_t sum = 0;

	EACH_STAGE(stage, sum += stage_admitted(stage));
	return sum;
}

void stages_settle(void)
{
	int64_t before = produced(), now, looked;
	int quiet = 0, waited;

	for (waited = 0; producers_held() && quiet < SETTLE_QUIET_MS && waited < SETTLE_LIMIT_MS; waited += SETTLE_STEP_MS) {
		looked = clock_now();
		usleep(SETTLE_STEP_MS * 1000);
		now = produced();
		if (now != before) {
			quiet = 0;
		} else if (clock_now() - looked <= 2 * SETTLE_STEP_MS) {
			quiet += SETTLE_STEP_MS; /* a late look says nothing: on a busy machine Asterisk's thread is late too */
		}
		before = now;
	}
}

#define LATE_ADVICE "Asterisk produced %s after res_kafka had ended; safeshutdown = yes in cdr.conf makes it wait for the call records of ended calls; a stop without open calls loses none"

void stages_tell_late(void)
{
	int64_t count = __atomic_load_n(&late, __ATOMIC_SEQ_CST);

	if (count) {
		ast_log(LOG_ERROR, "%lld record(s) are lost: " LATE_ADVICE "\n", (long long) count, "them");
	}
	__atomic_store_n(&told_late, 1, __ATOMIC_SEQ_CST);
}

int stages_refuse(struct stage *stage, enum resk_refusal reason, const char *topic)
{
	topic = S_OR(topic, "");
	stage = stage ? stage : nowhere;
	if (stage) { /* NULL after a declined load, without counters */
		stage_note(stage, reason, 1, topic, strnlen(topic, STAGE_NOTE_TEXT));
	}
	/* The engine cannot log a late record. */
	if (reason == RESK_REFUSED_CLOSED && __atomic_load_n(&closing, __ATOMIC_SEQ_CST)) {
		__atomic_add_fetch(&late, 1, __ATOMIC_SEQ_CST);
		if (__atomic_exchange_n(&told_late, 0, __ATOMIC_SEQ_CST)) {
			ast_log(LOG_ERROR, "A record for topic or source '%s' is lost, and so are later ones: " LATE_ADVICE "\n", topic, "it");
		}
	}
	return -1;
}

void stages_close(void)
{
	AST_LIST_LOCK(&slots);
	__atomic_store_n(&closing, 1, __ATOMIC_SEQ_CST);
	AST_LIST_UNLOCK(&slots);
	EACH_STAGE(stage, stage_shut(stage)); /* but not its gate: the engine may open the gate until its stop */
	if (pump) {
		engine_await(AWAIT_END_MS);
	}
	EACH_STAGE(stage, stage_flush(stage, FLUSH_NS));
	if (nowhere) {
		stage_flush(nowhere, FLUSH_NS);
	}
}

void stages_stop(void)
{
	struct slot *slot;

	engine_pump(NULL);
	stage_pump_stop(pump);
	pump = NULL;
	stage_destroy(nowhere);
	nowhere = NULL;
	AST_LIST_LOCK(&slots);
	while ((slot = AST_LIST_REMOVE_HEAD(&slots, next))) {
		replay_drop(REPLAY_PRODUCER, stage_number(slot->stage));
		stage_destroy(slot->stage);
		ao2_ref(slot, -1);
	}
	AST_LIST_UNLOCK(&slots);
}

int stages_running(const char *what, const char *name)
{
	if (in_forked_child()) {
		return 0;
	}
	if (!__atomic_load_n(&pump, __ATOMIC_SEQ_CST)) {
		ast_log(LOG_ERROR, "No Kafka %s for connection '%s': res_kafka.so is not running, the log of its loading says why\n",
			what, S_OR(name, ""));
		return 0;
	}
	if (ast_strlen_zero(name)) {
		ast_log(LOG_ERROR, "No Kafka %s without the name of a connection in kafka.conf\n", what);
		return 0;
	}
	return 1;
}

static struct slot *slot_create(const char *name)
{
	struct slot *slot = ao2_weakproxy_alloc(sizeof(*slot) + strlen(name) + 1, NULL);

	if (!slot) {
		return NULL;
	}
	strcpy(slot->name, name); /* Safe: the memory has the name's size */
	slot->stage = stage_create(pump, slot, slot->name);
	if (!slot->stage) {
		ao2_ref(slot, -1);
		return NULL;
	}
	AST_LIST_INSERT_TAIL(&slots, slot, next);
	return slot;
}

/* Requests the gate from this engine and each later one. The stage holds frames of a new gate until the
 * answer. Returns 0 or -1. */
static int open_gate(struct slot *slot)
{
	struct resk_gate *gate = stage_gate(slot->stage);
	struct boundary_writer request = { 0 };
	bool is_new = !__atomic_load_n(&gate->max_frames, __ATOMIC_RELAXED);
	int error;

	if (is_new) { /* before the request: a refusal shuts the gate at once, from another thread */
		connection_fill(slot->name, gate);
		__atomic_store_n(&gate->open, 1, __ATOMIC_SEQ_CST);
	}
	boundary_begin(&request, BOUNDARY_PRODUCER_OPEN, 0, 1);
	boundary_put_string(&request, slot->name);
	boundary_put_number(&request, stage_number(slot->stage));
	error = replay_keep(REPLAY_PRODUCER, stage_number(slot->stage), &request, 0, slot->stage);
	boundary_free(&request);
	if (error && is_new) {
		__atomic_store_n(&gate->open, 0, __ATOMIC_SEQ_CST);
	}
	return error;
}

struct slot *slot_open(const char *name)
{
	struct slot *slot;

	if (closing) {
		ast_log(LOG_ERROR, "No Kafka producer for connection '%s': Asterisk ends, or res_kafka.so is being unloaded\n", name);
		return NULL;
	}
	if (!connection_can(name, false, true)) {
		return NULL;
	}
	AST_LIST_TRAVERSE(&slots, slot, next) {
		if (!strcasecmp(slot->name, name)) {
			break;
		}
	}
	if (slot && __atomic_load_n(&stage_gate(slot->stage)->open, __ATOMIC_SEQ_CST)) {
		return slot;
	}
	if ((!slot && !(slot = slot_create(name))) || open_gate(slot)) {
		return NULL;
	}
	stage_ready(slot->stage);
	return slot;
}
