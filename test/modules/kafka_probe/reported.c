/*
 * kafka_probe: records with delivery reports, counted.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief A thread that produces records with reports. The pointer of each report may return only once.
 *
 *   kafka reported start <connection> <topic> <count> <per second>
 *   kafka reported show                   accepted, acknowledged, failed, not known, strange (of no record, or a second time)
 */

#include "asterisk.h"

#include <pthread.h>

#include "asterisk/astobj2.h"
#include "asterisk/cli.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

#include "asterisk/kafka.h"

#include "reported.h"

#define MOST 200000

#define ADD(variable) __atomic_add_fetch(&(variable), 1, __ATOMIC_SEQ_CST)
#define GET(variable) __atomic_load_n(&(variable), __ATOMIC_SEQ_CST)

static struct {
	struct ast_kafka_reports *reports;
	char topic[256];
	long count, rate;
	pthread_t thread;
	int stop;
	long accepted, acknowledged, failed, unknown, strange;
	unsigned char told[MOST]; /* the address is the value in the report */
} reported;

static void on_report(const struct ast_kafka_report *report, void *userdata)
{
	unsigned char *told = report->opaque;

	if (told < reported.told || told >= reported.told + MOST || __atomic_exchange_n(told, 2, __ATOMIC_SEQ_CST) != 1) {
		ADD(reported.strange);
	} else if (!report->error) {
		ADD(reported.acknowledged);
	} else if (strstr(report->error, "not known")) {
		ADD(reported.unknown);
	} else {
		ADD(reported.failed);
	}
}

static void *produce(void *unused)
{
	char value[32];
	long i;

	for (i = 0; i < reported.count && !GET(reported.stop); i++) {
		__atomic_store_n(&reported.told[i], 1, __ATOMIC_SEQ_CST);
		while (ast_kafka_produce_reported(reported.reports, reported.topic, NULL, value, snprintf(value, sizeof(value), "%ld", i), NULL, 0,
			&reported.told[i]) && !GET(reported.stop)) {
			usleep(1000);
		}
		ADD(reported.accepted);
		usleep(1000000 / reported.rate);
	}
	return NULL;
}

static void end(void)
{
	__atomic_store_n(&reported.stop, 1, __ATOMIC_SEQ_CST);
	if (reported.reports) {
		pthread_join(reported.thread, NULL);
		ast_kafka_reports_end(reported.reports, 0);
		ao2_cleanup(reported.reports);
	}
	memset(&reported, 0, sizeof(reported));
}

static char *command(struct ast_cli_entry *e, int cmd, struct ast_cli_args *a)
{
	struct ast_kafka_producer *producer;

	if (cmd == CLI_INIT) {
		e->command = "kafka reported";
		e->usage = "Usage: kafka reported <what> ...\n       See the top of reported.c.\n";
		return NULL;
	}
	if (cmd == CLI_GENERATE) {
		return NULL;
	}
	if (a->argc == 3 && !strcmp(a->argv[2], "show")) {
		ast_cli(a->fd, "accepted %ld acknowledged %ld failed %ld unknown %ld strange %ld\n", GET(reported.accepted),
			GET(reported.acknowledged), GET(reported.failed), GET(reported.unknown), GET(reported.strange));
		return CLI_SUCCESS;
	}
	if (a->argc != 7 || strcmp(a->argv[2], "start")) {
		return CLI_SHOWUSAGE;
	}
	end();
	producer = ast_kafka_get_producer(a->argv[3]);
	reported.reports = ast_kafka_reports_create(producer, on_report, NULL);
	ao2_cleanup(producer);
	ast_copy_string(reported.topic, a->argv[4], sizeof(reported.topic));
	reported.count = MIN(atol(a->argv[5]), MOST);
	reported.rate = MAX(atol(a->argv[6]), 1);
	ast_cli(a->fd, "start %d\n", reported.reports && !ast_pthread_create(&reported.thread, NULL, produce, NULL) ? 0 : -1);
	return CLI_SUCCESS;
}

static struct ast_cli_entry commands[] = {
	AST_CLI_DEFINE(command, "Records with delivery reports"),
};

int reported_load(void)
{
	return ast_cli_register_multiple(commands, ARRAY_LEN(commands));
}

void reported_unload(void)
{
	ast_cli_unregister_multiple(commands, ARRAY_LEN(commands));
	end();
}
