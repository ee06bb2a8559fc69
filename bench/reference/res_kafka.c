/*
 * The reference of res_kafka's measurements: the same API on librdkafka. FOR MEASUREMENTS ONLY, never
 * installed.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief A stand-in for the module replaced by res_kafka.
 *
 * The name is res_kafka.so too, and the exports are the declarations of asterisk/kafka.h, so one benchmark
 * module loads with either. The stand-in works like the replaced module, no better and no worse:
 *
 *   - produce is rd_kafka_producev() with a copy in the calling thread; on a full queue the thread polls for
 *     100 ms and tries once more;
 *   - one thread serves all producers' delivery reports and all consumers, then sleeps for 100 ms. A turn
 *     takes all arrived messages, and callbacks run in this turn;
 *   - unloading flushes for five seconds.
 *
 * Missing, because no measurement needs them: topics made through the API, delivery reports, CLI, reload.
 *
 *   res_kafka/config.c    kafka.conf, and librdkafka's configuration
 *   res_kafka/producer.c  producing
 *   res_kafka/consumer.c  consuming
 */

/*** MODULEINFO
	<depend>rdkafka</depend>
	<support_level>extended</support_level>
 ***/

#include "asterisk.h"

#include <pthread.h>

#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

#include "internal.h"

#define TURN_US 100000

static pthread_t thread = AST_PTHREADT_NULL;
static int running;

static void *poll_thread(void *unused)
{
	while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) {
		producers_poll();
		consumers_poll();
		usleep(TURN_US);
	}
	return NULL;
}

static void stop(void)
{
	__atomic_store_n(&running, 0, __ATOMIC_RELEASE);
	if (thread != AST_PTHREADT_NULL) {
		pthread_join(thread, NULL);
		thread = AST_PTHREADT_NULL;
	}
	consumers_stop();
	producers_stop();
	config_free();
}

static int unload_module(void)
{
	stop();
	return 0;
}

static int load_module(void)
{
	if (config_load()) {
		return AST_MODULE_LOAD_DECLINE;
	}
	running = 1;
	if (producers_start() || consumers_start() || ast_pthread_create(&thread, NULL, poll_thread, NULL)) {
		thread = AST_PTHREADT_NULL;
		stop();
		return AST_MODULE_LOAD_DECLINE;
	}
	ast_log(LOG_NOTICE, "This is the reference on librdkafka %s, for measuring only\n", rd_kafka_version_str());
	return AST_MODULE_LOAD_SUCCESS;
}

AST_MODULE_INFO(ASTERISK_GPL_KEY, AST_MODFLAG_GLOBAL_SYMBOLS | AST_MODFLAG_LOAD_ORDER, "Reference on librdkafka, for measuring only",
	.support_level = AST_MODULE_SUPPORT_EXTENDED,
	.load = load_module,
	.unload = unload_module,
	.load_pri = AST_MODPRI_APP_DEPEND,
);
