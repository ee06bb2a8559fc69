/*
 * test_res_kafka: tests of asterisk/kafka.h for Asterisk's own test framework.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Every promise of asterisk/kafka.h, checked by a module on top: `test execute category /res/kafka/`.
 *
 *   test_res_kafka/kit.h        parts of a test: topics, the inbox of a consumer, threads
 *   test_res_kafka/producers.c  handles, and refused calls
 *   test_res_kafka/trip.c       from produce to the callback
 *   test_res_kafka/consumers.c  subscribing
 *   test_res_kafka/ending.c     unsubscribing, and no message afterwards
 *   test_res_kafka/inside.c     the same from inside the callback
 *   test_res_kafka/group.c      sharing partitions, committing, pausing
 *   test_res_kafka/topics.c     creating topics
 *   test_res_kafka/threads.c    many threads, with a reload meanwhile
 *   test_res_kafka/reports.c    delivery reports
 *
 * kafka.conf needs these connections to a broker with topic creation allowed (example:
 * test/scenario/asttest_test.go):
 *
 *   test            group_id, auto_offset_reset = earliest, message_max_bytes = 1000000, client_id at the end of the file
 *   test_other      the same with another group_id
 *   test_manual     the same with a third group_id and enable_auto_commit = no
 *   test_hasty      the same with a fourth group_id, session_timeout_ms = 6000 and max_poll_interval_ms = 6000
 *   test_race       the same with a fifth group_id
 *   test_often      the same with a sixth group_id
 *   test_groupless  no group_id
 *   test_small      message_max_bytes = 1000
 *   test_nobody     an unreachable broker, queue_buffering_max_messages = 10
 *   test_hopeless   the same with message_timeout_ms = 1000
 *
 * kafka.conf may include a file test_res_kafka.conf at the end of section test. Tests of reloads change this
 * file for a moment, and so the connection.
 */

/*** MODULEINFO
	<depend>TEST_FRAMEWORK</depend>
	<depend>res_kafka</depend>
	<support_level>extended</support_level>
 ***/

#include "asterisk.h"

#include "asterisk/module.h"
#include "asterisk/test.h"

#include "kit.h"

static ast_test_cb_t *const *const all[] = {
	producer_tests, trip_tests, consumer_tests, ending_tests, inside_tests, group_tests, topic_tests, thread_tests,
	report_tests,
};

static int unload_module(void)
{
	ast_test_cb_t *const *test;
	size_t i;

	for (i = 0; i < ARRAY_LEN(all); i++) {
		for (test = all[i]; *test; test++) {
			ast_test_unregister(*test);
		}
	}
	return 0;
}

static int load_module(void)
{
	ast_test_cb_t *const *test;
	size_t i;

	for (i = 0; i < ARRAY_LEN(all); i++) {
		for (test = all[i]; *test; test++) {
			if (ast_test_register(*test)) {
				unload_module();
				return AST_MODULE_LOAD_DECLINE;
			}
		}
	}
	return AST_MODULE_LOAD_SUCCESS;
}

AST_MODULE_INFO(ASTERISK_GPL_KEY, AST_MODFLAG_DEFAULT, "Tests of asterisk/kafka.h",
	.support_level = AST_MODULE_SUPPORT_EXTENDED,
	.load = load_module,
	.unload = unload_module,
	.requires = "res_kafka",
);
