/*
 * res_kafka: slabs: where they come from, and pools of spare ones, one of each kind for all stages of a pump.
 *
 * Plain slabs lie in mappings of several, which stay until the pump is freed. What is not needed is *idle* at first, and
 * soon gives its pages back and keeps its place: it is *bare*.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

/* The smallest page size there is: touching more often than needed does no harm. */
#define PAGE_BYTES 4096

/* Plain slabs of one mapping, 4 MiB: enough that mapping costs next to nothing. It waits for whoever else in the process
 * maps something. */
#define MAPPING_SLABS 64
#define MAPPING_BYTES (MAPPING_SLABS * (size_t) STAGE_SLAB_BYTES)

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
		/* If somebody else is quicker, what is read here means nothing, and the exchange fails. */
	} while (!__atomic_compare_exchange_n(&stack->top, &top,
		((top >> 32) + 1) << 32 | __atomic_load_n(&slab->below, __ATOMIC_RELAXED), false, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE));
	return slab;
}

bool stage_slabs_open(struct slab_table *table)
{
	/* Only what is used of it gets pages. */
	void *memory = mmap(NULL, STAGE_SLABS_MOST * sizeof(struct slab), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	table->slabs = memory == MAP_FAILED ? NULL : memory;
	table->made = 1;
	return table->slabs;
}

/* unmap_plain gives up a mapping but for what the taker has of it. */
static void unmap_plain(const struct slab *first)
{
	int lent = 0;
	int i;

	for (i = 0; i < MAPPING_SLABS; i++) {
		lent += first[i].lent;
	}
	if (!lent) {
		munmap(first->head, MAPPING_BYTES);
		return;
	}
	for (i = 0; i < MAPPING_SLABS; i++) {
		if (!first[i].lent) {
			munmap(first[i].head, STAGE_SLAB_BYTES);
		}
	}
}

void stage_slabs_close(struct slab_table *table)
{
	uint32_t i;

	if (!table->slabs) {
		return;
	}
	for (i = 1; i < table->made; i++) {
		if (table->slabs[i].mapping) {
			unmap_plain(&table->slabs[i]);
		}
	}
	munmap(table->slabs, STAGE_SLABS_MOST * sizeof(struct slab));
}

/* more uses numbers that were not used yet. Returns the first slab of so many, or NULL. */
static struct slab *more(struct slab_table *table, uint32_t many)
{
	uint32_t made = __atomic_load_n(&table->made, __ATOMIC_RELAXED);

	do {
		if (made > STAGE_SLABS_MOST - many) {
			return NULL;
		}
	} while (!__atomic_compare_exchange_n(&table->made, &made, made + many, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return &table->slabs[made];
}

struct slab *stage_slab_new(struct slab_table *table)
{
	struct slab *slab = stage_slab_pop(table, &table->free);

	return slab ? slab : more(table, 1);
}

void stage_slab_forget(struct slab_table *table, struct slab *slab)
{
	stage_slab_push(table, &table->free, slab);
}

/* map_plain makes a mapping of plain slabs. One of them is returned, the others are bare ones for all. */
static struct slab *map_plain(struct slab_table *table)
{
	unsigned char *memory = mmap(NULL, MAPPING_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct slab *slabs = memory == MAP_FAILED ? NULL : more(table, MAPPING_SLABS);
	int i;

	if (!slabs) {
		if (memory != MAP_FAILED) {
			munmap(memory, MAPPING_BYTES);
		}
		return NULL;
	}
	for (i = 0; i < MAPPING_SLABS; i++) {
		slabs[i].head = (struct stage_slab *) (memory + i * STAGE_SLAB_BYTES);
		slabs[i].size = STAGE_SLAB_BYTES;
		slabs[i].mapping = i == 0;
		slabs[i].first = slabs - table->slabs;
		if (i) {
			stage_slab_push(table, &table->bare, &slabs[i]);
		}
	}
	return slabs;
}

/* Asking for the pages by madvise would be somewhat cheaper, but wait for whoever maps something meanwhile, as Go does: a
 * page fault need not. Large pages would be much cheaper, but it takes up to 8 ms to get one, in the middle of a call. */
void stage_slab_touch(struct slab *slab)
{
	size_t i;

	for (i = 0; i < STAGE_SLAB_BYTES; i += PAGE_BYTES) {
		*((volatile unsigned char *) slab->head + i) = 0;
	}
}

static struct slab *make_plain(struct slab_table *table)
{
	struct slab *slab = stage_slab_pop(table, &table->idle);

	if (slab) {
		__atomic_fetch_sub(&table->idling, 1, __ATOMIC_RELAXED);
		return slab;
	}
	slab = stage_slab_pop(table, &table->bare);
	if (!slab) {
		slab = map_plain(table);
	}
	if (slab) {
		stage_slab_touch(slab);
	}
	return slab;
}

static struct slab *make_large(struct slab_table *table, size_t size)
{
	struct slab *slab = stage_slab_new(table);

	if (slab) {
		slab->head = malloc(size);
		if (!slab->head) {
			stage_slab_forget(table, slab);
			return NULL;
		}
		memset(slab->head, 0, sizeof(*slab->head));
		slab->size = size;
	}
	return slab;
}

static struct slab *make(struct slab_pool *pool, size_t size)
{
	struct slab *slab;

	if (pool->shared) {
		slab = stage_shared_make(pool, size);
	} else {
		slab = size > STAGE_SLAB_BYTES ? make_large(pool->table, size) : make_plain(pool->table);
	}
	if (slab) {
		slab->frames = (unsigned char *) (slab->head + 1);
		slab->shared = pool->shared;
		slab->fallback = false;
		slab->next = NULL;
		slab->taken = 0;
		slab->done = 0;
		slab->closed = false;
	}
	return slab;
}

static void discard(struct slab_pool *pool, struct slab *slab)
{
	if (slab->shared) {
		stage_shared_free(pool, slab);
	} else if (slab_is_large(slab)) {
		free(slab->head);
		stage_slab_forget(pool->table, slab);
	} else {
		__atomic_fetch_add(&pool->table->idling, 1, __ATOMIC_RELAXED);
		stage_slab_push(pool->table, &pool->table->idle, slab);
	}
}

bool stage_slabs_idle(const struct slab_table *table)
{
	return __atomic_load_n(&table->idling, __ATOMIC_RELAXED) > 0;
}

/* gather takes all idle slabs, by their mappings: the first slab of the first mapping, or NULL. */
static struct slab *gather(struct slab_table *table)
{
	struct slab *mappings = NULL;
	struct slab *slab;

	while ((slab = stage_slab_pop(table, &table->idle))) {
		struct slab *first = &table->slabs[slab->first];

		__atomic_fetch_sub(&table->idling, 1, __ATOMIC_RELAXED);
		if (!first->idle) {
			first->many = 0;
			first->other = mappings;
			mappings = first;
		}
		first->many++;
		slab->next = first->idle;
		first->idle = slab;
	}
	return mappings;
}

void stage_slabs_give_back(struct slab_table *table)
{
	struct slab *first = gather(table);

	for (; first; first = first->other) {
		bool whole = first->many == MAPPING_SLABS;
		struct slab *slab = first->idle;

		first->idle = NULL;
		if (whole) {
			madvise(first->head, MAPPING_BYTES, MADV_DONTNEED);
		}
		while (slab) {
			struct slab *next = slab->next;

			if (!whole) {
				madvise(slab->head, STAGE_SLAB_BYTES, MADV_DONTNEED);
			}
			stage_slab_push(table, &table->bare, slab);
			slab = next;
		}
	}
}

/* empty makes a slab fit for its next use, in which nobody is to find what it held. */
static void empty(struct slab *slab)
{
	memset(slab->head->whole, 0, sizeof(slab->head->whole));
	slab->next = NULL;
	slab->taken = 0;
	slab->done = 0;
	slab->fallback = false;
	slab->closed = false;
}

static int64_t spares(struct slab_pool *pool)
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

struct slab *stage_slab_get(struct slab_pool *pool, size_t size)
{
	struct slab *slab;

	if (size > STAGE_SLAB_ROOM) {
		return make(pool, sizeof(*slab->head) + size);
	}
	slab = spare(pool);
	if (slab) {
		return slab;
	}
	__atomic_fetch_add(&pool->missed, 1, __ATOMIC_RELAXED);
	return make(pool, STAGE_SLAB_BYTES);
}

void stage_slab_put(struct slab_pool *pool, struct slab *slab)
{
	empty(slab);
	/* Files are not so quickly made, and bounded already. */
	if (slab_is_large(slab) || (!pool->shared && spares(pool) >= STAGE_SPARES_MAX)) {
		discard(pool, slab);
		return;
	}
	__atomic_fetch_add(&pool->count, 1, __ATOMIC_RELAXED);
	stage_slab_push(pool->table, &pool->spare, slab);
}

void stage_give_back(struct stage_pump *pump, void *lent)
{
	struct slab *slab = lent;

	slab->lent = false;
	stage_slab_put(&pump->plain, slab);
	if (__atomic_sub_fetch(&pump->lent, 1, __ATOMIC_SEQ_CST) % STAGE_LENT_STEP == 0) {
		stage_pump_wake(pump);
	}
}

bool stage_slab_surplus(struct slab_pool *pool)
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
		struct slab *slab = make(pool, STAGE_SLAB_BYTES);

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
		discard(pool, slab);
	}
}
