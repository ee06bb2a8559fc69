/*
 * res_kafka: Kafka connections for Asterisk modules.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief The module's life: load, reload, unload, and the end of Asterisk.
 *
 * The engine is a process beside Asterisk, written in Go. It may die; Asterisk then goes on, and another engine is
 * started. These files connect the engine with Asterisk; docs/boundary.md describes both processes.
 *
 *   res_kafka/engine.c    starts the engine's process, and the next one when it dies
 *   res_kafka/engine_log.c    writes the engine's log lines
 *   res_kafka/engine_status.c prints the engine's state
 *   res_kafka/replay.c    requests that are repeated for each new engine
 *   res_kafka/calls.c     requests: configuration, producers, sources, topics
 *   res_kafka/fetch.c     requests for messages
 *   res_kafka/report_queue.c  requests for delivery reports
 *   res_kafka/tickets.c   numbers of outstanding reports
 *   res_kafka/commands.c  requests for CLI commands
 *   res_kafka/config.c    reads a configuration file with Asterisk's loader; the engine interprets the lines
 *   res_kafka/cli.c       registers the CLI commands of the engine's table
 *   res_kafka/producer.c  producer handles; puts records into the stage
 *   res_kafka/source.c    the same for the fields of an event
 *   res_kafka/reports.c   report handles and their threads
 *   res_kafka/consumer.c  consumer handles and the threads of subscriptions
 *   res_kafka/worker.c    threads that call back into other modules
 *   res_kafka/admin.c     topics
 *   ../boundary           the socket to the engine, its process, and the memory that both share
 *   ../stage              where callers leave records, and the thread that hands them to the engine
 *
 * Load: start the engine and wait until it serves, start the pump, register the commands, let the engine read kafka.conf.
 * Unload is the same backwards. The order matters: first callers are refused, then the engine accepts the staged frames
 * and delivers them for a limited time, then it ends.
 */

/*** MODULEINFO
	<support_level>extended</support_level>
 ***/

#include "asterisk.h"

#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

#include "internal.h"

#define CONF_FILE "kafka.conf"

/* How long what is waiting may take to be delivered when Asterisk ends or the module is unloaded, but for what is in memory
 * only, which has flush_timeout_ms. With closing the clients, which takes a moment, or 0.3 seconds when a broker hangs, it
 * is what a stop may take longer. */
#define STOP_GRACE_MS 300

static int configure(void)
{
	struct entries entries;
	int res;

	if (entries_load(CONF_FILE, &entries)) {
		return -1;
	}
	res = resk_configure(entries.list, entries.count);
	entries_free(&entries);
	return res == RESK_OK ? 0 : -1;
}

/* With cdr.conf's batch = yes and safeshutdown = no Asterisk posts its call records from a thread of its own while exit
 * handlers run. It is over when nothing came for the first time, or for the second in all. */
#define SETTLE_QUIET_MS 40
#define SETTLE_LIMIT_MS 300

/* Asterisk ends without unloading its modules when it is told to stop now. */
static void at_exit(void)
{
	producers_settle(SETTLE_QUIET_MS, SETTLE_LIMIT_MS);
	producers_close();
	resk_stop(STOP_GRACE_MS);
	reports_stop();
	engine_close(0);
	producers_tell_late();
}

static int unload_module(void)
{
	if (producers_held() || consumers_held()) {
		ast_log(LOG_WARNING, "Not unloading: %d Kafka producer(s) and %d consumer(s) are still held by other modules\n",
			producers_held(), consumers_held());
		return -1;
	}
	/* Subscriptions that nobody else can end any more. */
	consumers_stop();
	workers_reap();
	if (consumers_held() || workers_busy()) {
		ast_log(LOG_WARNING, "Not unloading: %d Kafka consumer(s) are still held by other modules, and %d thread(s) call back into them\n",
			consumers_held(), workers_busy());
		return -1;
	}
	ast_unregister_atexit(at_exit);
	cli_unregister();
	producers_close();
	resk_stop(STOP_GRACE_MS);
	producers_stop();
	engine_close(1);
	return 0;
}

static int load_module(void)
{
	struct resk_limits limits;

	if (engine_open(&limits)) {
		engine_close(1);
		return AST_MODULE_LOAD_DECLINE;
	}
	if (producers_start(&limits) || cli_register() || configure()) {
		cli_unregister();
		producers_close();
		resk_stop(0);
		producers_stop();
		engine_close(1);
		return AST_MODULE_LOAD_DECLINE;
	}
	ast_register_atexit(at_exit);
	return AST_MODULE_LOAD_SUCCESS;
}

static int reload_module(void)
{
	if (configure()) {
		return AST_MODULE_RELOAD_ERROR;
	}
	producers_ready();
	return AST_MODULE_RELOAD_SUCCESS;
}

AST_MODULE_INFO(ASTERISK_GPL_KEY, AST_MODFLAG_GLOBAL_SYMBOLS | AST_MODFLAG_LOAD_ORDER, "Kafka connections",
	.support_level = AST_MODULE_SUPPORT_EXTENDED,
	.load = load_module,
	.unload = unload_module,
	.reload = reload_module,
	.load_pri = AST_MODPRI_APP_DEPEND,
);
