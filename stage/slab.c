/*
 * res_kafka: the stage's pool of spare slabs, one for all stages of a pump.
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

static struct slab *make(size_t room)
{
	struct slab *slab = malloc(sizeof(*slab) + room);

	if (slab) {
		slab->next = NULL;
		slab->room = room;
		slab->used = 0;
		slab->taken = 0;
	}
	return slab;
}

struct slab *stage_slab_get(struct slab_pool *pool, size_t size)
{
	struct slab *slab;

	if (size > STAGE_SLAB_ROOM) {
		return make(size);
	}
	pthread_mutex_lock(&pool->lock);
	slab = pool->spare;
	if (slab) {
		pool->spare = slab->next;
		pool->count--;
	}
	pthread_mutex_unlock(&pool->lock);
	if (!slab) {
		return make(STAGE_SLAB_ROOM);
	}
	slab->next = NULL;
	slab->used = 0;
	slab->taken = 0;
	return slab;
}

void stage_slab_put(struct slab_pool *pool, struct slab *slab)
{
	bool keep = false;

	if (slab->room == STAGE_SLAB_ROOM) {
		pthread_mutex_lock(&pool->lock);
		keep = pool->count < STAGE_SPARES_MAX;
		if (keep) {
			slab->next = pool->spare;
			pool->spare = slab;
			pool->count++;
		}
		pthread_mutex_unlock(&pool->lock);
	}
	if (!keep) {
		free(slab);
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
	while (spares(pool) < STAGE_SPARES_READY) {
		struct slab *slab = make(STAGE_SLAB_ROOM);
		size_t i;

		if (!slab) {
			return;
		}
		/* A page fault is better had here than in a thread that carries a call. */
		for (i = 0; i < slab->room; i += PAGE_BYTES) {
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

		free(surplus);
		surplus = next;
	}
}
