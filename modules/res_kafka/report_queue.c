/*
 * res_kafka: what the engine says became of records.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Queues of reports, across the deaths of engines.
 */

#include "asterisk.h"

#include "asterisk/logger.h"
#include "asterisk/utils.h"

#include "engine_internal.h"

/* How long to wait for memory, or until an engine is ended that broke the rules, ms. */
#define RETRY_MS 200

static uint64_t last; /* number of a queue, ever: atomic */

int32_t resk_reports_open(uint64_t *id)
{
	struct boundary_writer request = { 0 };
	uint64_t generation = engine_now();
	struct peer_answer answer = { 0 };
	enum peer_result asked = PEER_AWAY;
	int32_t result = RESK_ESTATE;

	*id = __atomic_add_fetch(&last, 1, __ATOMIC_SEQ_CST);
	boundary_begin(&request, BOUNDARY_REPORTS_OPEN, 0, 1);
	boundary_put_number(&request, *id);
	if (!boundary_finish(&request) && !peer_is_closed(engine_peer)) {
		if (generation) {
			asked = peer_call(engine_peer, generation, request.bytes, request.used, ASK_MS, NULL, &answer);
			peer_free(answer.fields);
		}
		result = replay_keep(REPLAY_REPORTS, *id, request.bytes, request.used, asked == PEER_AWAY ? 0 : generation)
			? RESK_ESTATE : RESK_OK;
	}
	boundary_free(&request);
	return result;
}

/* Reads reports, which stay where they were received. Takes ownership of fields. Returns 0 with *batch NULL when there are none, or
 * -1 when they cannot be read. */
static int read_reports(unsigned char *fields, size_t length, struct resk_report_batch **result)
{
	struct boundary_reader reader;
	struct resk_report_batch *batch;
	uint32_t count, i;

	boundary_read(&reader, fields, length);
	count = boundary_get_count(&reader, 2 * sizeof(uint32_t) + 3 * sizeof(uint64_t));
	batch = count ? ast_calloc(1, sizeof(*batch) + count * sizeof(struct resk_report)) : NULL;
	*result = NULL;
	if (!batch) {
		int unreadable = boundary_end(&reader);

		peer_free(fields);
		if (!count && unreadable) {
			engine_broken();
		}
		return count || unreadable ? -1 : 0;
	}
	batch->fields = fields;
	batch->reports = (struct resk_report *) (batch + 1);
	batch->count = count;
	for (i = 0; i < count; i++) {
		struct resk_report *report = &batch->reports[i];

		report->opaque = boundary_get_number(&reader);
		report->topic = boundary_get_string(&reader);
		report->partition = boundary_get_int32(&reader);
		report->offset = (int64_t) boundary_get_number(&reader);
		report->error = boundary_get_text(&reader, NULL);
	}
	if (boundary_end(&reader)) {
		engine_broken();
		resk_reports_free(batch);
		return -1;
	}
	*result = batch;
	return 0;
}

struct resk_report_batch *resk_reports_next(uint64_t id, const int *ended, uint64_t *known)
{
	struct boundary_writer request = { 0 };
	struct resk_report_batch *batch;
	struct peer_answer answer;
	uint64_t generation;

	while ((generation = engine_await_until(ended))) {
		if (*known != generation) {
			batch = *known ? ast_calloc(1, sizeof(*batch)) : NULL;
			if (batch) {
				batch->engine_died = 1;
			}
			*known = generation;
			if (batch) {
				return batch;
			}
		}
		boundary_begin(&request, BOUNDARY_REPORTS_NEXT, 0, 1);
		boundary_put_number(&request, id);
		if (engine_ask(&request, generation, -1, ended, &answer) != PEER_OK) {
			continue;
		}
		if (!read_reports(answer.fields, answer.length, &batch)) {
			return batch;
		}
		usleep(RETRY_MS * 1000);
	}
	return NULL;
}

void resk_reports_free(struct resk_report_batch *batch)
{
	peer_free(batch->fields);
	ast_free(batch);
}

void resk_reports_close(uint64_t id, const int *ended)
{
	replay_drop(REPLAY_REPORTS, id);
	engine_send_number(BOUNDARY_REPORTS_CLOSE, 0, id, ASK_MS);
	peer_cancel(engine_peer, ended);
}
