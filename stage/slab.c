/*
 * res_kafka: pools of spare slabs, one of each kind for all stages of a pump.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdlib.h>

#include "internal.h"

/* The smallest page size there is: touching more often than needed does no harm. */
#define PAGE_BYTES 4096

static struct slab *make(struct slab_pool *pool, size_t size)
{
	struct slab *slab;

	if (pool->shared) {
		return stage_shared_make(pool, size);
	}
	slab = aligned_alloc(_Alignof(struct slab), (size + _Alignof(struct slab) - 1) & ~(_Alignof(struct slab) - 1));
	if (slab) {
		*slab = (struct slab) { .head.size = size };
	}
	return slab;
}

static void discard(struct slab_pool *pool, struct slab *slab)
{
	if (slab->shared) {
		stage_shared_free(pool, slab, true);
	} else {
		free(slab);
	}
}

/* empty makes a slab fit for its next use. */
static struct slab *empty(struct slab *slab)
{
	slab_set_used(slab, 0);
	slab->next = NULL;
	slab->taken = 0;
	slab->done = 0;
	slab->fallback = false;
	return slab;
}

struct slab *stage_slab_get(struct slab_pool *pool, size_t size)
{
	struct slab *slab;

	if (size > STAGE_SLAB_ROOM) {
		return make(pool, sizeof(*slab) + size);
	}
	pthread_mutex_lock(&pool->lock);
	slab = pool->spare;
	if (slab) {
		pool->spare = slab->next;
		pool->count--;
	}
	pthread_mutex_unlock(&pool->lock);
	return slab ? empty(slab) : make(pool, STAGE_SLAB_BYTES);
}

void stage_slab_put(struct slab_pool *pool, struct slab *slab)
{
	bool keep = false;

	empty(slab); /* in a file nobody is to find it again */
	if (!slab_is_large(slab)) {
		pthread_mutex_lock(&pool->lock);
		/* Files are not so quickly made, and bounded already. */
		keep = pool->shared || pool->count < STAGE_SPARES_MAX;
		if (keep) {
			slab->next = pool->spare;
			pool->spare = slab;
			pool->count++;
		}
		pthread_mutex_unlock(&pool->lock);
	}
	if (!keep) {
		discard(pool, slab);
	}
}

static unsigned int spares(struct slab_pool *pool)
{
	unsigned int count;

	pthread_mutex_lock(&pool->lock);
	count = pool->count;
	pthread_mutex_unlock(&pool->lock);
	return count;
}

bool stage_slab_surplus(struct slab_pool *pool)
{
	return spares(pool) > STAGE_SPARES_READY;
}

void stage_slab_refill(struct slab_pool *pool)
{
	if (pool->shared && !__atomic_load_n(&pool->wanted, __ATOMIC_RELAXED)) {
		return;
	}
	while (spares(pool) < STAGE_SPARES_READY) {
		struct slab *slab = make(pool, STAGE_SLAB_BYTES);
		size_t i;

		if (!slab) {
			return;
		}
		/* A page fault is better had here than in a thread that carries a call. */
		for (i = 0; i < slab_room(slab); i += PAGE_BYTES) {
			*(volatile unsigned char *) (slab->frames + i) = 0;
		}
		stage_slab_put(pool, slab);
	}
}

void stage_slab_trim(struct slab_pool *pool, unsigned int keep)
{
	struct slab *surplus = NULL;

	pthread_mutex_lock(&pool->lock);
	while (pool->count > keep) {
		struct slab *slab = pool->spare;

		pool->spare = slab->next;
		pool->count--;
		slab->next = surplus;
		surplus = slab;
	}
	pthread_mutex_unlock(&pool->lock);
	while (surplus) {
		struct slab *next = surplus->next;

		discard(pool, surplus);
		surplus = next;
	}
}
