/*
 * res_kafka: threads for callbacks into other modules.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Threads for callbacks into other modules, and the wait for their end.
 *
 * A worker ends soon after the end of its handle or subscription. It must be joined before the module's
 * unload, but not from its own callback and not from a destructor. workers_reap joins the workers left there,
 * at the next call. The turn names the thread inside a callback.
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
	AST_LIST_ENTRY(worker) next; /* in the list of workers to join; the list has a reference */
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

int turn_begin(struct turn *turn, const int *ended)
{
	ast_mutex_lock(&turn->lock);
	if (__atomic_load_n(ended, __ATOMIC_SEQ_CST)) {
		ast_mutex_unlock(&turn->lock);
		return -1;
	}
	turn->inside = pthread_self();
	turn->is_inside = 1;
	return 0;
}

void turn_end(struct turn *turn)
{
	turn->is_inside = 0;
	ast_mutex_unlock(&turn->lock);
}

int turn_is_mine(struct turn *turn)
{
	int mine = 0;

	/* The lock is recursive: only the thread inside a callback gets it again. */
	if (!ast_mutex_trylock(&turn->lock)) {
		mine = turn->is_inside && pthread_equal(turn->inside, pthread_self());
		ast_mutex_unlock(&turn->lock);
	}
	return mine;
}

void turn_wait(struct turn *turn)
{
	ast_mutex_lock(&turn->lock);
	ast_mutex_unlock(&turn->lock);
}
