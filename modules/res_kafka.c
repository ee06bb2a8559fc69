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
 * The engine is a process beside Asterisk, written in Go. The engine may die; Asterisk then continues, and
 * another engine is started. These files connect the engine with Asterisk; docs/boundary.md describes both
 * processes.
 *
 *   res_kafka/engine.c    starts the engine's process, and the next process after a death; requests
 *   res_kafka/engine_log.c    writes the engine's log lines and state
 *   res_kafka/replay.c    requests repeated for each new engine
 *   res_kafka/config.c    reads configuration files with Asterisk's loader; the engine interprets the lines
 *   res_kafka/cli.c       the CLI commands of the engine's table
 *   res_kafka/stages.c    the stages of all connections
 *   res_kafka/producer.c  producer handles; puts records into the stage
 *   res_kafka/source.c    the same for the fields of an event
 *   res_kafka/reports.c   report handles and their threads
 *   res_kafka/tickets.c   numbers of outstanding reports
 *   res_kafka/consumer.c  consumer handles
 *   res_kafka/subscription.c  the threads of subscriptions
 *   res_kafka/bequest.c   what a subscription leaves to the next engine
 *   res_kafka/worker.c    threads with calls into other modules
 *   res_kafka/topics.c    topics
 *   ../boundary           the socket to the engine, the engine's process, and the shared memory
 *   ../stage              the staging area of callers' records, and the thread to hand them to the engine
 *
 * Load: start the engine and wait until the engine serves, start the pump, register the commands, let the
 * engine read kafka.conf. Unload is the same backwards. The order matters: first callers are refused, then
 * the engine accepts the staged frames and delivers these for a limited time, then the engine ends.
 */

/*** MODULEINFO
	<support_level>extended</support_level>
 ***/

#include "asterisk.h"

#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

#include "internal.h"

/* Time for the delivery of waiting records at Asterisk's end or the module's unload; records in memory only
 * have flush_timeout_ms. The close of the clients takes a moment more, or 0.3 seconds with a hanging broker.
 * Both together are a stop's extra time. */
#define STOP_GRACE_MS 300

/* A stop with "now" ends Asterisk without unloading its modules. */
static void at_exit(void)
{
	stages_settle(); /* call records posted during the exit handlers */
	stages_close();
	engine_stop(STOP_GRACE_MS);
	reports_stop();
	engine_close(0);
	stages_tell_late();
}

static int unload_module(void)
{
	if (producers_held() || consumers_held()) {
		ast_log(LOG_WARNING, "Not unloading: %d Kafka producer(s) and %d consumer(s) are still held by other modules\n",
			producers_held(), consumers_held());
		return -1;
	}
	/* Subscriptions without a handle. */
	consumers_stop();
	workers_reap();
	if (consumers_held() || workers_busy()) {
		ast_log(LOG_WARNING, "Not unloading: %d Kafka consumer(s) are still held by other modules, and %d thread(s) call back into them\n",
			consumers_held(), workers_busy());
		return -1;
	}
	ast_unregister_atexit(at_exit);
	cli_unregister();
	stages_close();
	engine_stop(STOP_GRACE_MS);
	stages_stop();
	engine_close(1);
	return 0;
}

static int load_module(void)
{
	if (engine_open()) {
		engine_close(1);
		return AST_MODULE_LOAD_DECLINE;
	}
	if (stages_start() || cli_register() || config_load()) {
		cli_unregister();
		stages_close();
		engine_stop(0);
		stages_stop();
		engine_close(1);
		return AST_MODULE_LOAD_DECLINE;
	}
	ast_register_atexit(at_exit);
	return AST_MODULE_LOAD_SUCCESS;
}

static int reload_module(void)
{
	if (config_load()) {
		return AST_MODULE_RELOAD_ERROR;
	}
	stages_ready();
	return AST_MODULE_RELOAD_SUCCESS;
}

AST_MODULE_INFO(ASTERISK_GPL_KEY, AST_MODFLAG_GLOBAL_SYMBOLS | AST_MODFLAG_LOAD_ORDER, "Kafka connections",
	.support_level = AST_MODULE_SUPPORT_EXTENDED,
	.load = load_module,
	.unload = unload_module,
	.reload = reload_module,
	.load_pri = AST_MODPRI_APP_DEPEND,
);
