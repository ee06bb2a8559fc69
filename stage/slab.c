/*
 * res_kafka: slabs: their table, stacks, and pools of spare slabs.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <string.h>
#include <sys/mman.h>

#include "slab.h"

void stage_slab_push(const struct slab_table *table, struct slab_stack *stack, struct slab *slab)
{
	uint64_t top = __atomic_load_n(&stack->top, __ATOMIC_RELAXED);

	do {
		__atomic_store_n(&slab->below, (uint32_t) top, __ATOMIC_RELAXED);
	} while (!__atomic_compare_exchange_n(&stack->top, &top, (top >> 32 << 32) | (uint32_t) (slab - table->slabs), false,
		__ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

struct slab *stage_slab_pop(const struct slab_table *table, struct slab_stack *stack)
{
	uint64_t top = __atomic_load_n(&stack->top, __ATOMIC_ACQUIRE);
	struct slab *slab;

	do {
		if (!(uint32_t) top) {
			return NULL;
		}
		slab = &table->slabs[(uint32_t) top];
		/* If another thread pops the slab first, this value is stale and the exchange fails. */
	} while (!__atomic_compare_exchange_n(&stack->top, &top,
		((top >> 32) + 1) << 32 | __atomic_load_n(&slab->below, __ATOMIC_RELAXED), false, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE));
	return slab;
}

bool stage_slabs_open(struct slab_table *table, size_t most)
{
	void *memory;

	_Static_assert(STAGE_SLAB_NUMBERS(STAGE_BYTES_MAX) < 1 << 18, "a word has 18 bits");
	table->numbers = STAGE_SLAB_NUMBERS(most);
	/* Only used parts of the table get pages. */
	memory = mmap(NULL, table->numbers * sizeof(struct slab), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	table->slabs = memory == MAP_FAILED ? NULL : memory;
	table->made = 1;
	table->most = most;
	return table->slabs;
}

void stage_slabs_close(struct slab_table *table)
{
	if (table->slabs) {
		munmap(table->slabs, table->numbers * sizeof(struct slab));
	}
}

struct slab *stage_slab_new(struct slab_table *table)
{
	struct slab *slab = stage_slab_pop(table, &table->free);
	uint32_t made = __atomic_load_n(&table->made, __ATOMIC_RELAXED);

	if (slab) {
		return slab;
	}
	do {
		if (made == table->numbers) {
			return NULL;
		}
	} while (!__atomic_compare_exchange_n(&table->made, &made, made + 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return &table->slabs[made];
}

static int64_t spares(const struct slab_pool *pool)
{
	return __atomic_load_n(&pool->count, __ATOMIC_RELAXED);
}

static struct slab *spare(struct slab_pool *pool)
{
	struct slab *slab = stage_slab_pop(pool->table, &pool->spare);

	if (slab) {
		__atomic_fetch_sub(&pool->count, 1, __ATOMIC_RELAXED);
	}
	return slab;
}

/* empty prepares a slab for its next use. It first clears the bits of the old frames, for readers of a killed
 * process's files. It rewrites the head, but for label, stage and first, because the engine may have overwritten the
 * head. */
static void empty(struct slab *slab)
{
	struct stage_slab *head = slab->head;

	memset(head->whole, 0, sizeof(head->whole));
	STAGE_STEP(true);
	head->layout = STAGE_SLAB_LAYOUT;
	head->frames = sizeof(*head);
	head->size = slab->size;
	STAGE_STEP(true);
	__atomic_store_n(&head->magic, STAGE_SLAB_MAGIC, __ATOMIC_RELEASE);
	STAGE_STEP(true);
	slab->frames = (unsigned char *) (head + 1);
	slab->fallback = false;
	slab->next = NULL;
	slab->ready = slab->taken = slab->done = 0;
	slab->count = slab->done_count = slab->done_charge = 0;
	slab->closed = false;
}

struct slab *stage_slab_get(struct slab_pool *pool, size_t size)
{
	struct slab *slab = size <= STAGE_SLAB_ROOM ? spare(pool) : NULL;

	if (slab) {
		return slab;
	}
	if (size <= STAGE_SLAB_ROOM) {
		__atomic_fetch_add(&pool->missed, 1, __ATOMIC_RELAXED);
	}
	slab = stage_slab_make(pool, sizeof(*slab->head) + size);
	if (slab) {
		empty(slab);
	}
	return slab;
}

void stage_slab_put(struct slab_pool *pool, struct slab *slab)
{
	empty(slab);
	/* Durable slabs take longer to make, and there are not many. */
	if (slab_is_large(slab) || (!pool->shared && spares(pool) >= STAGE_SPARES_MAX)) {
		stage_slab_discard(pool, slab);
		return;
	}
	__atomic_fetch_add(&pool->count, 1, __ATOMIC_RELAXED);
	stage_slab_push(pool->table, &pool->spare, slab);
}

bool stage_slab_surplus(const struct slab_pool *pool)
{
	return spares(pool) > STAGE_SPARES_READY;
}

void stage_slab_refill(struct slab_pool *pool)
{
	int64_t missed;

	if (pool->shared && !__atomic_load_n(&pool->wanted, __ATOMIC_RELAXED)) {
		return;
	}
	missed = __atomic_load_n(&pool->missed, __ATOMIC_RELAXED);
	if (missed) {
		__atomic_fetch_sub(&pool->missed, missed, __ATOMIC_RELAXED);
		pool->target += 2 * missed;
		if (pool->target > STAGE_SPARES_BUSY) {
			pool->target = STAGE_SPARES_BUSY;
		}
	}
	if (spares(pool) >= (pool->target > STAGE_SPARES_READY ? pool->target / 2 : STAGE_SPARES_READY)) {
		return;
	}
	while (spares(pool) < pool->target) {
		struct slab *slab = stage_slab_make(pool, STAGE_SLAB_BYTES);

		if (!slab) {
			return;
		}
		stage_slab_put(pool, slab);
	}
}

void stage_slab_trim(struct slab_pool *pool, int64_t keep)
{
	pool->target = STAGE_SPARES_READY;
	while (spares(pool) > keep) {
		struct slab *slab = spare(pool);

		if (!slab) {
			return;
		}
		stage_slab_discard(pool, slab);
	}
}

bool stage_slab_is_done(struct slab *slab)
{
	while (slab->done < slab->taken) {
		const struct stage_frame *frame = (const struct stage_frame *) (slab->frames + slab->done);
		size_t size = stage_frame_size(slab, slab->done, slab->taken);

		if (!size) { /* unreachable frames will never be marked as done */
			slab->done = slab->taken;
			slab->done_count = slab->count;
			return true;
		}
		/* Pairs with the engine's release: the engine no longer reads the frame. */
		if (__atomic_load_n(&frame->state, __ATOMIC_ACQUIRE) != STAGE_FRAME_DONE) {
			return false;
		}
		slab->done += size;
		slab->done_count++;
		slab->done_charge += __atomic_load_n(&frame->charge, __ATOMIC_RELAXED);
	}
	return true;
}
