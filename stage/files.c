/*
 * res_kafka: the files of slabs, and the places of slabs in the files.
 *
 * A memfd has no name, and the size of /dev/shm does not limit a memfd. Durable slabs must survive both
 * processes, so they lie in a folder of a memory file system: a mapping of a file on disk would block a call.
 * They do not survive the machine.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#undef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

/* The smallest page size there is. */
#define PAGE_BYTES 4096

void *stage_file_map(int file, uint64_t at, size_t size, void *wish)
{
	void *memory = mmap(wish, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, at);

	if (memory == MAP_FAILED) {
		return NULL;
	}
	if (madvise(memory, size, MADV_DONTFORK)) {
		munmap(memory, size);
		return NULL;
	}
	return memory;
}

static void file_name(char *name, size_t size, uint64_t number)
{
	snprintf(name, size, "slab-%llu", (unsigned long long) number);
}

struct slab *stage_slab_pop_idle(struct slab_pool *pool, struct slab_idle *idle)
{
	struct slab *slab = stage_slab_pop(pool->table, &idle->slabs);
	int64_t count;

	if (slab) {
		count = __atomic_sub_fetch(&idle->count, 1, __ATOMIC_RELAXED);
		if (count < __atomic_load_n(&idle->least, __ATOMIC_RELAXED)) {
			__atomic_store_n(&idle->least, count, __ATOMIC_RELAXED);
		}
	}
	return slab;
}

/* region returns a usual slab with a place in the file and no pages. */
static struct slab *region(struct slab_pool *pool)
{
	struct slab *slab = stage_slab_pop(pool->table, &pool->bare);
	uint64_t number = __atomic_load_n(&pool->begun, __ATOMIC_RELAXED);

	if (slab) {
		return slab;
	}
	do {
		if (number >= pool->regions) {
			return NULL;
		}
	} while (!__atomic_compare_exchange_n(&pool->begun, &number, number + 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	slab = stage_slab_new(pool->table);
	if (slab) {
		slab->head = (struct stage_slab *) (pool->memory + number * STAGE_SLAB_BYTES);
		slab->size = STAGE_SLAB_BYTES;
		slab->backed = 0;
		slab->file = number * STAGE_SLAB_BYTES;
	}
	return slab;
}

/* is_there reports whether the file still has a name. Frames in a removed file would never be found. */
static bool is_there(const struct slab_pool *pool)
{
	struct stat status;

	return !pool->shared || (!fstat(pool->file, &status) && status.st_nlink > 0);
}

static struct slab *make_usual(struct slab_pool *pool)
{
	struct slab *slab = stage_slab_pop_idle(pool, &pool->idle);

	if (slab) {
		return slab;
	}
	slab = region(pool);
	if (!slab) {
		return NULL;
	}
	if (!is_there(pool)) {
		stage_pool_failed(pool);
	} else if (stage_pool_back(pool, slab)) {
		return slab;
	}
	stage_slab_push(pool->table, &pool->bare, slab);
	return NULL;
}

/* size_class returns which of the sizes of places a larger plain slab needs, or -1. */
static int size_class(size_t size)
{
	int i;

	for (i = 0; i < STAGE_SIZES; i++) {
		if ((uint64_t) size <= (uint64_t) STAGE_SLAB_BYTES << (i + 1)) {
			return i;
		}
	}
	return -1;
}

/* place returns a mapped larger plain slab, with or without pages. */
static struct slab *place(struct slab_pool *pool, int class)
{
	struct slab *slab = stage_slab_pop_idle(pool, &pool->idle_large[class]);
	uint64_t size = (uint64_t) STAGE_SLAB_BYTES << (class + 1);

	if (slab) {
		return slab;
	}
	slab = stage_slab_pop(pool->table, &pool->bare_large[class]);
	if (!slab) {
		slab = size <= SIZE_MAX ? stage_slab_new(pool->table) : NULL;
		if (!slab) {
			return NULL;
		}
		slab->file = __atomic_fetch_add(&pool->end, size, __ATOMIC_RELAXED);
		slab->size = size;
	}
	slab->backed = 0;
	slab->head = stage_file_map(pool->file, slab->file, slab->size, NULL);
	if (!slab->head) {
		stage_slab_push(pool->table, &pool->bare_large[class], slab);
		return NULL;
	}
	return slab;
}

void stage_slab_unplace(struct slab_pool *pool, struct slab *slab)
{
	if (slab->backed) {
		stage_pool_punch(pool, slab->file, slab->backed);
		stage_pool_unbook(pool, slab->backed);
	}
	munmap(slab->head, slab->size);
	stage_slab_push(pool->table, &pool->bare_large[size_class(slab->size)], slab);
}

/* make_large makes a larger plain slab. */
static struct slab *make_large(struct slab_pool *pool, size_t size)
{
	int class = size_class(size);
	struct slab *slab = class < 0 ? NULL : place(pool, class);

	if (slab && !stage_pool_back_large(pool, pool->file, slab->file, slab, size)) {
		stage_slab_unplace(pool, slab);
		return NULL;
	}
	return slab;
}

/* map_own makes and maps the file of a larger durable slab. */
static bool map_own(struct slab_pool *pool, struct slab *slab, size_t size)
{
	char name[32];
	int file;

	file_name(name, sizeof(name), slab->file);
	file = openat(pool->folder, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (file < 0) {
		stage_pool_failed(pool);
		return false;
	}
	slab->head = NULL;
	if (stage_pool_back_large(pool, file, 0, slab, size)) {
		slab->head = stage_file_map(file, 0, size, NULL);
	}
	close(file);
	if (!slab->head) {
		unlinkat(pool->folder, name, 0);
		stage_pool_unbook(pool, slab->backed);
		return false;
	}
	stage_slab_populate(slab);
	return true;
}

/* make_file makes a slab with its own file. */
static struct slab *make_file(struct slab_pool *pool, size_t size)
{
	struct slab *slab = stage_slab_new(pool->table);

	if (!slab) {
		return NULL;
	}
	slab->file = __atomic_add_fetch(&pool->files, 1, __ATOMIC_RELAXED);
	slab->size = size;
	slab->backed = 0;
	if (!map_own(pool, slab, size)) {
		stage_slab_push(pool->table, &pool->table->free, slab);
		return NULL;
	}
	return slab;
}

struct slab *stage_slab_make(struct slab_pool *pool, size_t size)
{
	int64_t retry = __atomic_load_n(&pool->retry, __ATOMIC_RELAXED);
	struct slab *slab = NULL;

	if (retry && stage_now() < retry) {
		return NULL;
	}
	if (size <= STAGE_SLAB_BYTES) {
		slab = make_usual(pool);
	} else if (size <= pool->table->most) {
		size = (size + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
		slab = pool->shared ? make_file(pool, size) : make_large(pool, size);
	}
	if (slab) {
		slab->shared = pool->shared;
	}
	return slab;
}

void stage_slab_discard(struct slab_pool *pool, struct slab *slab)
{
	struct slab_idle *idle;
	char name[32];

	if (slab_is_large(slab) && pool->shared) {
		file_name(name, sizeof(name), slab->file);
		munmap(slab->head, slab->size);
		unlinkat(pool->folder, name, 0);
		stage_pool_unbook(pool, slab->backed);
		stage_slab_push(pool->table, &pool->table->free, slab);
		return;
	}
	idle = slab_is_large(slab) ? &pool->idle_large[size_class(slab->size)] : &pool->idle;
	__atomic_fetch_add(&idle->count, 1, __ATOMIC_RELAXED);
	stage_slab_push(pool->table, &idle->slabs, slab);
}

void stage_slab_leave(struct slab_pool *pool, struct slab *slab)
{
	if (slab_is_large(slab)) {
		munmap(slab->head, slab->size);
	} else {
		pool->left = true;
	}
}
