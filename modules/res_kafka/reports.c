/*
 * res_kafka: delivery reports.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Delivery reports: handles, and the one thread each has that tells what became of records.
 *
 * A handle is what other modules hold. The teller is what it shares with its thread, and outlives it. The turn is held
 * over each callback: who has set ended and then has had the turn knows that no callback is under way and none begins.
 */

#include "asterisk.h"

#include <pthread.h>

#include "asterisk/astobj2.h"
#include "asterisk/linkedlists.h"
#include "asterisk/lock.h"
#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/time.h"
#include "asterisk/utils.h"

#include "internal.h"

struct teller {
	AST_LIST_ENTRY(teller) next; /* of those with a thread */
	uint64_t generation; /* of the engine that the thread asks */
	uint64_t id; /* of the engine's queue of reports */
	struct worker *worker;
	ast_kafka_report_cb callback;
	void *userdata;
	struct turn turn; /* of callbacks */
	struct tickets tickets; /* of the pointers that reports bring back */
	int ended;           /* no callback begins any more */
	int64_t outstanding; /* records accepted, or about to be, whose callback has not returned */
};

struct ast_kafka_reports {
	struct ast_kafka_producer *producer;
	struct teller *teller;
};

/* Those with a thread, so that the pump finds them by their number. */
static AST_LIST_HEAD_STATIC(tellers, teller);

/* How many engines have died, and after how many deaths the pump has shown all that it hands over again: atomic, both. */
static uint32_t deaths, shown;

/* How long the end of Asterisk waits for callbacks with the last reports. */
#define STOP_WAIT_MS 500

/* Signalled when a teller has nothing outstanding, has been ended or its thread ends; with the lock, for busy alone. */
AST_MUTEX_DEFINE_STATIC(settling);
static ast_cond_t settled = PTHREAD_COND_INITIALIZER;
static int busy; /* tellers with a thread */

static void teller_destroy(void *obj)
{
	struct teller *teller = obj;

	ao2_cleanup(teller->worker);
	turn_destroy(&teller->turn);
	tickets_destroy(&teller->tickets);
}

static void settle(void)
{
	ast_mutex_lock(&settling);
	ast_cond_broadcast(&settled);
	ast_mutex_unlock(&settling);
}

/* A record that was counted as outstanding is so no more. */
static void drop_outstanding(struct teller *teller)
{
	if (!__atomic_sub_fetch(&teller->outstanding, 1, __ATOMIC_SEQ_CST)) {
		settle();
	}
}

/* Calls back, unless the teller has been ended. */
static void call_back(struct teller *teller, const struct ast_kafka_report *report)
{
	turn_take(&teller->turn);
	if (!__atomic_load_n(&teller->ended, __ATOMIC_SEQ_CST)) {
		turn_enter(&teller->turn);
		teller->callback(report, teller->userdata);
		turn_leave(&teller->turn);
		drop_outstanding(teller);
	}
	turn_give(&teller->turn);
}

/* Tells one report, unless it was told already. */
static void tell(struct teller *teller, const struct resk_report *r)
{
	struct ast_kafka_report report = {
		.topic = r->topic, .partition = r->partition, .offset = r->offset, .error = r->error,
	};

	if (tickets_redeem(&teller->tickets, r->opaque, &report.opaque)) {
		call_back(teller, &report);
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
	memcpy(&head, content, sizeof(head)); /* once: the engine may write to it */
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

/* How long the pump may take to show what it hands over again, ms, and how often to look. */
#define SHOW_LIMIT_MS 10000
#define SHOW_STEP_MS 5

/* Reports what an engine that died had finished without anybody having heard of it. */
static void tell_lost(struct teller *teller)
{
	uint32_t dead = __atomic_load_n(&deaths, __ATOMIC_SEQ_CST), from = 0;
	struct ast_kafka_report report = {
		.topic = "", .partition = -1, .offset = -1,
		.error = "not known: the Kafka engine died before it said what became of the record, which may be delivered",
	};
	int waited;

	for (waited = 0; __atomic_load_n(&shown, __ATOMIC_SEQ_CST) != dead; waited += SHOW_STEP_MS) {
		if (waited > SHOW_LIMIT_MS || __atomic_load_n(&teller->ended, __ATOMIC_SEQ_CST)
			|| __atomic_load_n(&deaths, __ATOMIC_SEQ_CST) != dead) {
			return; /* the next engine's turn */
		}
		usleep(SHOW_STEP_MS * 1000);
	}
	while (tickets_lost(&teller->tickets, dead, &from, &report.opaque)) {
		call_back(teller, &report);
	}
}

static void run(void *object)
{
	struct teller *teller = object;
	struct resk_report_batch *batch;
	size_t i;

	while ((batch = resk_reports_next(teller->id, &teller->ended, &teller->generation))) {
		if (batch->engine_died) {
			tell_lost(teller);
		}
		for (i = 0; i < batch->count; i++) {
			tell(teller, &batch->reports[i]);
		}
		resk_reports_free(batch);
	}
	AST_LIST_LOCK(&tellers);
	AST_LIST_REMOVE(&tellers, teller, next);
	AST_LIST_UNLOCK(&tellers);
	ast_mutex_lock(&settling);
	busy--;
	ast_cond_broadcast(&settled);
	ast_mutex_unlock(&settling);
}

static int nothing_to_come(const struct teller *teller)
{
	return !__atomic_load_n(&teller->outstanding, __ATOMIC_SEQ_CST) || __atomic_load_n(&teller->ended, __ATOMIC_SEQ_CST);
}

static int nobody_busy(const struct teller *unused)
{
	return !busy;
}

/* Waits for at most that long until so it is. */
static void await(int (*so)(const struct teller *teller), const struct teller *teller, int wait_ms)
{
	struct timeval until = ast_tvadd(ast_tvnow(), ast_samp2tv(wait_ms, 1000));
	struct timespec limit = { .tv_sec = until.tv_sec, .tv_nsec = until.tv_usec * 1000 };

	ast_mutex_lock(&settling);
	while (!so(teller) && !ast_cond_timedwait(&settled, &settling, &limit)) {
		/* Somebody else may have been meant. */
	}
	ast_mutex_unlock(&settling);
}

void reports_stop(void)
{
	await(nobody_busy, NULL, STOP_WAIT_MS);
}

/* Ends a teller without waiting for anything. */
static void end(struct teller *teller)
{
	__atomic_store_n(&teller->ended, 1, __ATOMIC_SEQ_CST);
	settle();
	resk_reports_close(teller->id, &teller->ended);
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
		await(nothing_to_come, teller, wait_ms);
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

/* Counts a record as outstanding, unless too many are. Inside a callback the record that it is about, which is outstanding
 * until it returns, leaves its place to another. */
static int add_outstanding(struct teller *teller, int64_t limit)
{
	int64_t outstanding = __atomic_add_fetch(&teller->outstanding, 1, __ATOMIC_SEQ_CST);

	if (outstanding <= limit || (outstanding == limit + 1 && turn_is_mine(&teller->turn))) {
		return 0;
	}
	drop_outstanding(teller);
	return -1;
}

/* Starts the thread of a teller that has its callback. */
static int start(struct teller *teller)
{
	if (resk_reports_open(&teller->id) != RESK_OK) {
		return -1;
	}
	ast_mutex_lock(&settling);
	busy++;
	ast_mutex_unlock(&settling);
	AST_LIST_LOCK(&tellers);
	AST_LIST_INSERT_TAIL(&tellers, teller, next);
	AST_LIST_UNLOCK(&tellers);
	teller->worker = worker_start(run, teller);
	if (teller->worker) {
		return 0;
	}
	AST_LIST_LOCK(&tellers);
	AST_LIST_REMOVE(&tellers, teller, next);
	AST_LIST_UNLOCK(&tellers);
	ast_mutex_lock(&settling);
	busy--;
	ast_mutex_unlock(&settling);
	resk_reports_close(teller->id, &teller->ended);
	return -1;
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
	turn_init(&teller->turn);
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
		return producer_refuse(teller ? reports->producer : NULL, RESK_REFUSED_ARGUMENT, topic);
	}
	/* A report that nobody takes keeps a record's place, or a callback that hangs would let them pile up without end. */
	if (add_outstanding(teller, producer_queue_limit(reports->producer))) {
		return producer_refuse(reports->producer, RESK_REFUSED_FULL_FRAMES, topic);
	}
	report.opaque = tickets_take(&teller->tickets, opaque, __atomic_load_n(&deaths, __ATOMIC_SEQ_CST));
	if (!report.opaque) {
		drop_outstanding(teller);
		return producer_refuse(reports->producer, RESK_REFUSED_NO_MEMORY, topic);
	}
	if (producer_record(reports->producer, &record)) {
		tickets_redeem(&teller->tickets, report.opaque, &opaque);
		drop_outstanding(teller);
		return -1;
	}
	return 0;
}
