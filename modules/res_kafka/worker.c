/*
 * res_kafka: threads that call back into other modules.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Threads that call back into other modules, and how their end is awaited.
 *
 * A worker ends by itself, soon after what it works for has been ended. It must be joined before this module's code can
 * go, but not by whoever cannot wait for a callback: a callback of the worker itself, and a destructor. What they leave
 * is joined by whoever comes next (workers_reap). The turn says who is inside a callback.
 */

#include "asterisk.h"

#include <pthread.h>

#include "asterisk/astobj2.h"
#include "asterisk/linkedlists.h"
#include "asterisk/lock.h"
#include "asterisk/utils.h"

#include "boundary/kernel_limits.h"
#include "boundary/thread.h"
#include "internal.h"

struct worker {
	AST_LIST_ENTRY(worker) next; /* of those that have not been joined; the list has a reference */
	pthread_t thread;
	int done; /* the thread returns within a moment; under the list's lock */
	void (*work)(void *object);
	void *object;
};

static AST_LIST_HEAD_STATIC(unjoined, worker);

static void *run(void *argument)
{
	struct worker *worker = argument;

	pthread_setname_np(pthread_self(), "kafka-callback");
	thread_leave_real_time();
	worker->work(worker->object);
	ao2_ref(worker->object, -1);
	AST_LIST_LOCK(&unjoined);
	worker->done = 1;
	AST_LIST_UNLOCK(&unjoined);
	ao2_ref(worker, -1);
	return NULL;
}

struct worker *worker_start(void (*work)(void *object), void *object)
{
	struct worker *worker = ao2_alloc_options(sizeof(*worker), NULL, AO2_ALLOC_OPT_LOCK_NOLOCK);
	char words[LIMITS_WORDS];
	int error;

	if (!worker) {
		return NULL;
	}
	worker->work = work;
	worker->object = ao2_bump(object);
	AST_LIST_LOCK(&unjoined);
	if ((error = ast_pthread_create(&worker->thread, NULL, run, ao2_bump(worker)))) {
		AST_LIST_UNLOCK(&unjoined);
		ast_log(LOG_ERROR, "A thread for the callbacks of a Kafka module cannot be started: %s\n",
			limits_words(error, NULL, words, sizeof(words)));
		ao2_ref(object, -1);
		ao2_ref(worker, -2);
		return NULL;
	}
	AST_LIST_INSERT_TAIL(&unjoined, ao2_bump(worker), next);
	AST_LIST_UNLOCK(&unjoined);
	return worker;
}

void worker_join(struct worker *worker)
{
	struct worker *mine;

	AST_LIST_LOCK(&unjoined);
	mine = AST_LIST_REMOVE(&unjoined, worker, next);
	AST_LIST_UNLOCK(&unjoined);
	if (mine) {
		pthread_join(mine->thread, NULL);
		ao2_ref(mine, -1);
	}
}

void workers_reap(void)
{
	struct worker *worker;

	AST_LIST_LOCK(&unjoined);
	AST_LIST_TRAVERSE_SAFE_BEGIN(&unjoined, worker, next) {
		if (worker->done) {
			AST_LIST_REMOVE_CURRENT(next);
			pthread_join(worker->thread, NULL);
			ao2_ref(worker, -1);
		}
	}
	AST_LIST_TRAVERSE_SAFE_END;
	AST_LIST_UNLOCK(&unjoined);
}

int workers_busy(void)
{
	struct worker *worker;
	int count = 0;

	AST_LIST_LOCK(&unjoined);
	AST_LIST_TRAVERSE(&unjoined, worker, next) {
		count += !worker->done;
	}
	AST_LIST_UNLOCK(&unjoined);
	return count;
}

void turn_init(struct turn *turn)
{
	ast_mutex_init(&turn->lock);
}

void turn_destroy(struct turn *turn)
{
	ast_mutex_destroy(&turn->lock);
}

void turn_take(struct turn *turn)
{
	ast_mutex_lock(&turn->lock);
}

void turn_give(struct turn *turn)
{
	ast_mutex_unlock(&turn->lock);
}

void turn_enter(struct turn *turn)
{
	turn->inside = pthread_self();
	turn->is_inside = 1;
}

void turn_leave(struct turn *turn)
{
	turn->is_inside = 0;
}

int turn_is_mine(struct turn *turn)
{
	int mine = 0;

	/* The lock is recursive: whoever is inside gets it again, and nobody else does. */
	if (!ast_mutex_trylock(&turn->lock)) {
		mine = turn->is_inside && pthread_equal(turn->inside, pthread_self());
		ast_mutex_unlock(&turn->lock);
	}
	return mine;
}

void turn_wait(struct turn *turn)
{
	turn_take(turn);
	turn_give(turn);
}
