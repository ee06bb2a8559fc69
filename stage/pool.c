/*
 * res_kafka: opening and closing the files of slabs, and release of pages.
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
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "internal.h"

/* Share of plain slabs in the address space left by RLIMIT_AS. */
#define ADDRESSES_SHARE 8

/* A failed mapping is retried with half the size, down to this. */
#define MAPPING_LEAST ((size_t) 4 * 1024 * 1024)

/* map_places maps a file of usual slabs. Each slab begins at a multiple of its size, if possible: see touch in
 * pages.c. */
static unsigned char *map_places(int file, size_t size)
{
	unsigned char *memory = stage_file_map(file, 0, size, NULL);
	size_t beyond = (uintptr_t) memory % STAGE_SLAB_BYTES;

	if (beyond) {
		munmap(memory, size);
		memory = stage_file_map(file, 0, size, memory - beyond);
	}
	return memory;
}

/* open_places maps the file of usual slabs, which is empty. */
static bool open_places(struct slab_pool *pool, size_t size)
{
	size = size / STAGE_SLAB_BYTES * STAGE_SLAB_BYTES;
	if (!size || pool->file < 0) {
		return false;
	}
	pool->places = calloc((size / STAGE_SLAB_BYTES + 63) / 64, sizeof(*pool->places));
	if (!pool->places) {
		return false;
	}
	while (!(pool->memory = map_places(pool->file, size))) {
		size = size / 2 / STAGE_SLAB_BYTES * STAGE_SLAB_BYTES;
		if (size < MAPPING_LEAST) {
			return false;
		}
	}
	/* Without pages: MADV_POPULATE_WRITE allocates pages only within the size of the file. */
	pool->sized = stage_file_may_reach(size) && !ftruncate(pool->file, size);
	pool->regions = size / STAGE_SLAB_BYTES;
	pool->end = size;
	return true;
}

/* addresses returns how many bytes plain slabs may map. Under a limit of address space the PBX keeps most
 * of the rest. */
static size_t addresses(void)
{
	struct rlimit limit;
	char text[32] = "";
	int file;
	size_t used;

	if (getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur == RLIM_INFINITY) {
		return SIZE_MAX;
	}
	file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	if (file >= 0) {
		if (read(file, text, sizeof(text) - 1) < 0) {
			text[0] = '\0';
		}
		close(file);
	}
	used = strtoull(text, NULL, 10) * sysconf(_SC_PAGESIZE);
	return limit.rlim_cur > used ? (limit.rlim_cur - used) / ADDRESSES_SHARE : 0;
}

bool stage_pool_open_plain(struct slab_pool *pool, int file)
{
	size_t most = addresses();

	pool->folder = -1;
	pool->file = file;
	pool->most = SIZE_MAX;
	if (most < MAPPING_LEAST) {
		most = MAPPING_LEAST;
	}
	return open_places(pool, most < pool->table->most ? most : pool->table->most);
}

/* open_folder opens a folder accessible to this user only. It does not block on a FIFO or device of the same
 * name. */
static int open_folder(const char *path)
{
	struct stat status;
	int folder = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (folder >= 0 && (fstat(folder, &status) || status.st_uid != geteuid() || status.st_mode & (S_IRWXG | S_IRWXO))) {
		close(folder);
		return -1;
	}
	return folder;
}

void stage_pool_open_durable(struct slab_pool *pool, const char *folder)
{
	struct statvfs system;
	uint64_t half;

	pool->shared = true;
	pool->file = -1;
	pool->folder = folder && folder[0] ? open_folder(folder) : -1;
	if (pool->folder < 0 || fstatvfs(pool->folder, &system)) {
		return;
	}
	/* The file system has other users, and is small in many containers. A file system without a limit reports
	 * 0. */
	half = (uint64_t) system.f_blocks * system.f_frsize / 2;
	pool->most = !half || half > STAGE_SHARED_MAX ? STAGE_SHARED_MAX : half;
	if (pool->most > pool->table->most) {
		pool->most = pool->table->most;
	}
	pool->file = openat(pool->folder, STAGE_SLABS_FILE, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	open_places(pool, pool->most);
}

/* unmap_large unmaps the larger slabs of a stack. */
static void unmap_large(struct slab_pool *pool, struct slab_stack *stack)
{
	struct slab *slab;

	while ((slab = stage_slab_pop(pool->table, stack))) {
		munmap(slab->head, slab->size);
	}
}

void stage_pool_close(struct slab_pool *pool)
{
	int i;

	for (i = 0; i < STAGE_SIZES; i++) {
		unmap_large(pool, &pool->idle_large[i].slabs);
	}
	if (pool->memory) {
		munmap(pool->memory, pool->regions * STAGE_SLAB_BYTES);
	}
	free(pool->places);
	if (!pool->shared) {
		return; /* the file is not the pool's */
	}
	if (pool->file >= 0) {
		close(pool->file);
		if (!pool->left) {
			unlinkat(pool->folder, STAGE_SLABS_FILE, 0);
		}
	}
	if (pool->folder >= 0) {
		close(pool->folder);
	}
}

static bool marked(const struct slab_pool *pool, uint64_t number)
{
	return pool->places[number / 64] >> number % 64 & 1;
}

/* punch_marked releases the pages of the marked places, with one call for each run, and clears the marks. */
static void punch_marked(struct slab_pool *pool)
{
	uint64_t begun = __atomic_load_n(&pool->begun, __ATOMIC_RELAXED);
	uint64_t from;
	uint64_t to;

	for (from = 0; from < begun; from = to + 1) {
		for (to = from; to < begun && marked(pool, to); to++) {
		}
		if (to > from) {
			stage_pool_punch(pool, from * STAGE_SLAB_BYTES, (to - from) * STAGE_SLAB_BYTES);
		}
	}
	memset(pool->places, 0, (pool->regions + 63) / 64 * sizeof(*pool->places));
}

bool stage_pool_idle(const struct slab_pool *pool)
{
	int64_t count = __atomic_load_n(&pool->idle.count, __ATOMIC_RELAXED);
	int i;

	for (i = 0; i < STAGE_SIZES; i++) {
		count += __atomic_load_n(&pool->idle_large[i].count, __ATOMIC_RELAXED);
	}
	return count > 0;
}

/* unneeded pops idle slabs not needed in the previous period, linked by next. */
static struct slab *unneeded(struct slab_pool *pool, struct slab_idle *idle, bool anew)
{
	struct slab *slabs = NULL;
	struct slab *slab;
	size_t bytes = 0;

	if (anew) {
		idle->surplus = __atomic_load_n(&idle->least, __ATOMIC_RELAXED);
		__atomic_store_n(&idle->least, __atomic_load_n(&idle->count, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
	}
	while (idle->surplus > 0 && bytes < STAGE_GIVE_BACK && (slab = stage_slab_pop_idle(pool, idle))) {
		idle->surplus--;
		bytes += slab->size;
		slab->next = slabs;
		slabs = slab;
	}
	return slabs;
}

static bool give_back_usual(struct slab_pool *pool, bool anew)
{
	struct slab *slabs = unneeded(pool, &pool->idle, anew);
	struct slab *slab;

	if (!slabs) {
		return false;
	}
	for (slab = slabs; slab; slab = slab->next) {
		uint64_t number = slab->file / STAGE_SLAB_BYTES;

		pool->places[number / 64] |= UINT64_C(1) << number % 64;
	}
	punch_marked(pool);
	while ((slab = slabs)) {
		slabs = slab->next;
		stage_pool_unbook(pool, slab->backed);
		slab->backed = 0;
		stage_slab_push(pool->table, &pool->bare, slab);
	}
	return true;
}

bool stage_pool_give_back(struct slab_pool *pool, bool anew)
{
	bool any = give_back_usual(pool, anew);
	int i;

	for (i = 0; i < STAGE_SIZES; i++) {
		struct slab *slabs = unneeded(pool, &pool->idle_large[i], anew);

		any = any || slabs;
		while (slabs) {
			struct slab *slab = slabs;

			slabs = slab->next;
			stage_slab_unplace(pool, slab);
		}
	}
	return any;
}
