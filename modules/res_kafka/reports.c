/*
 * res_kafka: delivery reports.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Delivery reports: handles, and one thread per handle for the callbacks.
 *
 * A handle belongs to another module. The teller is shared by handle and thread, and outlives the handle. The
 * thread holds the turn during each callback. Set ended, then take the turn: after that no callback runs or
 * begins.
 */

#include "asterisk.h"

#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/time.h"
#include "asterisk/utils.h"

#include "internal.h"

struct teller {
	AST_LIST_ENTRY(teller) next; /* in the list of tellers with a thread */
	uint64_t id; /* of the engine's queue of reports */
	struct worker *worker;
	ast_kafka_report_cb callback;
	void *userdata;
	struct turn turn; /* of callbacks */
	struct tickets tickets; /* for the pointers in reports */
	int ended;           /* prevents further callbacks */
	int64_t outstanding; /* records, accepted or nearly so, before the return of their callback */
};

struct ast_kafka_reports {
	struct ast_kafka_producer *producer;
	struct teller *teller;
};

/* Tellers with a thread; the pump finds a teller by number. */
static AST_LIST_HEAD_STATIC(tellers, teller);

/* The number of engine deaths, and that number at the end of the pump's last repetition; both atomic. */
static uint32_t deaths, shown;

/* How long the end of Asterisk waits for callbacks with the last reports, and the interval of looks, ms. */
#define STOP_WAIT_MS 500
#define LOOK_MS 5

/* Signalled when a teller has nothing outstanding, or is ended. */
AST_MUTEX_DEFINE_STATIC(settling);
static ast_cond_t settled = PTHREAD_COND_INITIALIZER;
static uint64_t last_id; /* of a queue, ever: atomic */

/* Wait for memory, or for the end of a broken engine, ms. */
#define RETRY_MS 200

static void teller_destroy(void *obj)
{
	struct teller *teller = obj;

	ao2_cleanup(teller->worker);
	ast_mutex_destroy(&teller->turn.lock);
	tickets_destroy(&teller->tickets);
}

static void settle(void)
{
	ast_mutex_lock(&settling);
	ast_cond_broadcast(&settled);
	ast_mutex_unlock(&settling);
}

/* Ends a record's outstanding state. */
static void drop_outstanding(struct teller *teller)
{
	if (!__atomic_sub_fetch(&teller->outstanding, 1, __ATOMIC_SEQ_CST)) {
		settle();
	}
}

/* Calls back, unless the teller has been ended. */
static void call_back(struct teller *teller, const struct ast_kafka_report *report)
{
	if (!turn_begin(&teller->turn, &teller->ended)) {
		teller->callback(report, teller->userdata);
		drop_outstanding(teller);
		turn_end(&teller->turn);
	}
}

void reports_engine_died(void)
{
	__atomic_add_fetch(&deaths, 1, __ATOMIC_SEQ_CST);
}

void reports_again(const void *content, uint32_t length)
{
	uint32_t dead = __atomic_load_n(&deaths, __ATOMIC_SEQ_CST);
	struct resk_frame_head head;
	struct resk_field_head field;
	struct resk_report_to to;
	struct teller *teller;
	uint64_t at = sizeof(head);

	if (!content) {
		__atomic_store_n(&shown, dead, __ATOMIC_SEQ_CST);
		return;
	}
	if (length < sizeof(head)) {
		return;
	}
	memcpy(&head, content, sizeof(head)); /* once: the engine can write there */
	at += (uint64_t) head.topic_length + (head.key_length == RESK_NULL ? 0 : head.key_length)
		+ (head.value_length == RESK_NULL ? 0 : head.value_length);
	if (head.source || !head.field_count || at + sizeof(field) + sizeof(to) > length) {
		return;
	}
	memcpy(&field, (const char *) content + at, sizeof(field)); /* the first field, see producer.c */
	if (field.kind != RESK_FIELD_REPORT) {
		return;
	}
	memcpy(&to, (const char *) content + at + sizeof(field), sizeof(to));
	AST_LIST_LOCK(&tellers);
	AST_LIST_TRAVERSE(&tellers, teller, next) {
		if (teller->id == to.reports) {
			tickets_again(&teller->tickets, to.opaque, dead);
			break;
		}
	}
	AST_LIST_UNLOCK(&tellers);
}

/* Limit of the wait for the pump's repetition, ms. */
#define SHOW_LIMIT_MS 10000

/* Reports the lost tickets: a dead engine finished their records, and the report never came. */
static void tell_lost(struct teller *teller)
{
	uint32_t dead = __atomic_load_n(&deaths, __ATOMIC_SEQ_CST), from = 0;
	struct ast_kafka_report report = {
		.topic = "", .partition = -1, .offset = -1,
		.error = "not known: the Kafka engine died before it said what became of the record, which may be delivered",
	};
	int waited;

	for (waited = 0; __atomic_load_n(&shown, __ATOMIC_SEQ_CST) != dead; waited += LOOK_MS) {
		if (waited > SHOW_LIMIT_MS || __atomic_load_n(&teller->ended, __ATOMIC_SEQ_CST)
			|| __atomic_load_n(&deaths, __ATOMIC_SEQ_CST) != dead) {
			return; /* the next engine's turn */
		}
		usleep(LOOK_MS * 1000);
	}
	while (tickets_lost(&teller->tickets, dead, &from, &report.opaque)) {
		call_back(teller, &report);
	}
}

/* Reads reports and calls back once for each. */
static void tell(struct teller *teller, struct boundary_reader *reader, uint32_t count)
{
	struct ast_kafka_report report;
	uint64_t number;

	for (; count; count--) {
		number = boundary_get_number(reader);
		report.topic = boundary_get_string(reader);
		report.partition = boundary_get_int32(reader);
		report.offset = (int64_t) boundary_get_number(reader);
		report.error = boundary_get_text(reader, NULL);
		if (!reader->failed && tickets_redeem(&teller->tickets, number, &report.opaque)) {
			call_back(teller, &report);
		}
	}
}

static void run(void *object)
{
	struct teller *teller = object;
	struct boundary_writer request = { 0 };
	uint64_t generation, known = 0;
	struct peer_answer answer;
	uint32_t count = 1;
	bool lost = false; /* the last answer was */

	while (count && (generation = engine_await_until(&teller->ended))) {
		if (known && known != generation) {
			tell_lost(teller);
		}
		lost = lost && known == generation;
		known = generation;
		boundary_begin(&request, BOUNDARY_REPORTS_NEXT, 0, 1);
		boundary_put_number(&request, teller->id);
		boundary_put_number(&request, lost);
		lost = engine_ask(&request, generation, LOST_MS, &teller->ended, 0, &answer) != PEER_OK;
		if (!lost) {
			count = boundary_get_count(&answer.reader, 2 * sizeof(uint32_t) + 3 * sizeof(uint64_t));
			tell(teller, &answer.reader, count);
			if (answer_end(&answer)) {
				count = 1;
				usleep(RETRY_MS * 1000);
			}
		} else if (engine_now() == generation && !__atomic_load_n(&teller->ended, __ATOMIC_SEQ_CST)) {
			usleep(RETRY_MS * 1000); /* memory comes back */
		}
	}
	AST_LIST_LOCK(&tellers);
	AST_LIST_REMOVE(&tellers, teller, next);
	AST_LIST_UNLOCK(&tellers);
}

/* Waits until nothing is outstanding, or the teller is ended, for a limited time. */
static void await_all(const struct teller *teller, int wait_ms)
{
	struct timeval until = ast_tvadd(ast_tvnow(), ast_samp2tv(wait_ms, 1000));
	struct timespec limit = { .tv_sec = until.tv_sec, .tv_nsec = until.tv_usec * 1000 };

	ast_mutex_lock(&settling);
	while (__atomic_load_n(&teller->outstanding, __ATOMIC_SEQ_CST) && !__atomic_load_n(&teller->ended, __ATOMIC_SEQ_CST)
		&& !ast_cond_timedwait(&settled, &settling, &limit)) {
		/* The signal may have been for another thread. */
	}
	ast_mutex_unlock(&settling);
}

void reports_stop(void)
{
	int waited;

	for (waited = 0; waited < STOP_WAIT_MS && __atomic_load_n(&tellers.first, __ATOMIC_SEQ_CST); waited += LOOK_MS) {
		usleep(LOOK_MS * 1000);
	}
}

/* Ends a teller without waiting for a callback. */
static void end(struct teller *teller)
{
	__atomic_store_n(&teller->ended, 1, __ATOMIC_SEQ_CST);
	settle();
	replay_drop(REPLAY_REPORTS, teller->id);
	engine_send_number(BOUNDARY_REPORTS_CLOSE, 0, teller->id, ASK_MS);
	peer_cancel(engine_peer, &teller->ended);
}

int ast_kafka_reports_end(struct ast_kafka_reports *reports, int wait_ms)
{
	struct teller *teller;
	int inside;

	if (in_forked_child() || !reports) {
		return -1;
	}
	teller = reports->teller;
	inside = turn_is_mine(&teller->turn);
	if (!inside && wait_ms > 0) {
		await_all(teller, wait_ms);
	}
	end(teller);
	if (!inside) {
		turn_wait(&teller->turn);
		worker_join(teller->worker);
	}
	workers_reap();
	return __atomic_load_n(&teller->outstanding, __ATOMIC_SEQ_CST) - inside;
}

static void reports_destroy(void *obj)
{
	struct ast_kafka_reports *reports = obj;

	if (reports->teller && !in_forked_child()) {
		end(reports->teller);
	}
	ao2_cleanup(reports->teller);
	ao2_cleanup(reports->producer);
}

/* How many records the producer's connection may hold. */
static int64_t queue_limit(struct ast_kafka_producer *producer)
{
	return __atomic_load_n(&stage_gate(producer_stage(producer))->max_frames, __ATOMIC_RELAXED);
}

/* Counts a record as outstanding, up to the limit. Inside a callback the callback's own record gives its
 * place to the new one. */
static int add_outstanding(struct teller *teller, int64_t limit)
{
	int64_t outstanding = __atomic_add_fetch(&teller->outstanding, 1, __ATOMIC_SEQ_CST);

	if (outstanding <= limit || (outstanding == limit + 1 && turn_is_mine(&teller->turn))) {
		return 0;
	}
	drop_outstanding(teller);
	return -1;
}

/* Registers the queue with this engine and each later one, and starts the teller's thread. Waits for the
 * answer: the ring can be faster than the socket, and a report without a queue is lost. */
static int start(struct teller *teller)
{
	uint64_t generation = engine_now();
	struct boundary_writer request = { 0 };
	struct peer_answer answer = { 0 };
	enum peer_result asked = PEER_AWAY;
	int error;

	teller->id = __atomic_add_fetch(&last_id, 1, __ATOMIC_SEQ_CST);
	boundary_begin(&request, BOUNDARY_REPORTS_OPEN, 0, 1);
	boundary_put_number(&request, teller->id);
	if (generation) {
		asked = peer_call(engine_peer, generation, &request, ASK_MS, NULL, 0, &answer);
	}
	error = peer_is_closed(engine_peer)
		|| replay_keep(REPLAY_REPORTS, teller->id, &request, asked == PEER_AWAY ? 0 : generation, NULL);
	peer_free(answer.fields);
	boundary_free(&request);
	if (error) {
		return -1;
	}
	AST_LIST_LOCK(&tellers);
	teller->worker = worker_start(run, teller);
	if (teller->worker) {
		AST_LIST_INSERT_TAIL(&tellers, teller, next);
	}
	AST_LIST_UNLOCK(&tellers);
	if (!teller->worker) {
		end(teller);
	}
	return teller->worker ? 0 : -1;
}

struct ast_kafka_reports *ast_kafka_reports_create(struct ast_kafka_producer *producer, ast_kafka_report_cb callback,
	void *userdata)
{
	struct ast_kafka_reports *reports;
	struct teller *teller;

	if (in_forked_child() || !producer || !callback) {
		return NULL;
	}
	workers_reap();
	reports = ao2_alloc_options(sizeof(*reports), reports_destroy, AO2_ALLOC_OPT_LOCK_NOLOCK);
	teller = reports ? ao2_alloc_options(sizeof(*teller), teller_destroy, AO2_ALLOC_OPT_LOCK_NOLOCK) : NULL;
	if (!teller) {
		ao2_cleanup(reports);
		return NULL;
	}
	ast_mutex_init(&teller->turn.lock);
	tickets_init(&teller->tickets);
	teller->callback = callback;
	teller->userdata = userdata;
	reports->producer = ao2_bump(producer);
	if (start(teller)) {
		ast_log(LOG_ERROR, "No delivery reports of Kafka connection '%s': there is no thread for them, or Asterisk ends\n",
			producer_name(producer));
		ao2_ref(teller, -1);
		ao2_ref(reports, -1);
		return NULL;
	}
	reports->teller = teller;
	return reports;
}

int ast_kafka_produce_reported(struct ast_kafka_reports *reports, const char *topic, const char *key,
	const void *payload, size_t len, const struct ast_kafka_header *headers, size_t header_count, void *opaque)
{
	struct teller *teller = reports ? reports->teller : NULL;
	struct resk_report_to report = { .reports = teller ? teller->id : 0 };
	const struct record record = {
		.topic = topic, .key = key, .payload = payload, .len = len,
		.headers = headers, .header_count = headers ? header_count : 0, .report = &report,
	};

	if (in_forked_child()) {
		return -1;
	}
	if (!teller || __atomic_load_n(&teller->ended, __ATOMIC_SEQ_CST)) {
		return stages_refuse(producer_stage(teller ? reports->producer : NULL), RESK_REFUSED_ARGUMENT, topic);
	}
	/* An undelivered report keeps its record's place. Otherwise a hanging callback would let reports pile up
	 * without limit. */
	if (add_outstanding(teller, queue_limit(reports->producer))) {
		return stages_refuse(producer_stage(reports->producer), RESK_REFUSED_FULL_FRAMES, topic);
	}
	report.opaque = tickets_take(&teller->tickets, opaque, __atomic_load_n(&deaths, __ATOMIC_SEQ_CST));
	if (!report.opaque) {
		drop_outstanding(teller);
		return stages_refuse(producer_stage(reports->producer), RESK_REFUSED_NO_MEMORY, topic);
	}
	if (producer_record(reports->producer, &record)) {
		tickets_redeem(&teller->tickets, report.opaque, &opaque);
		drop_outstanding(teller);
		return -1;
	}
	return 0;
}
