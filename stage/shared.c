/*
 * res_kafka: slabs that are files of a memory file system, and when they may be used again.
 *
 *             put fills it, the pump hands it over               every frame is done
 *     filled ──────────────────────────────────────► kept ──────────────────────────► spare
 *        ▲                                                                              │
 *        └──────────────────────────────────────────────────────────────────────────────┘
 *
 * The slab that is being filled becomes a spare, too, when all that it holds is done. Nothing is ever written back to a
 * disk: what these files survive is the process, not the machine.
 *
 * All slabs but large ones have their places in one file that is mapped once, and given memory where a slab is: making one
 * is then a single system call, which waits neither for others that make files in the folder nor for who maps memory.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "internal.h"

/* How often a signal may interrupt the allocation of a file before it counts as failed. */
#define ALLOCATE_TRIES 16

/* open_regions makes the file of regular slabs, which has no memory yet, and maps it. */
static void open_regions(struct slab_pool *pool)
{
	size_t size = pool->most / STAGE_SLAB_BYTES * STAGE_SLAB_BYTES;
	void *memory = MAP_FAILED;

	pool->file = openat(pool->folder, STAGE_SLABS_FILE, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (pool->file >= 0 && size && !ftruncate(pool->file, size)) {
		memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, pool->file, 0);
	}
	if (memory != MAP_FAILED) {
		pool->memory = memory;
		pool->regions = size / STAGE_SLAB_BYTES;
	}
}

/* open_folder opens a folder that is this user's alone, and waits for nothing that may stand in its place. */
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

void stage_shared_open(struct slab_pool *pool, const char *folder)
{
	struct statvfs system;

	pool->shared = true;
	pool->file = -1;
	pool->folder = folder && folder[0] ? open_folder(folder) : -1;
	/* The file system is not ours alone, and small in many a container. */
	if (pool->folder >= 0 && !fstatvfs(pool->folder, &system)) {
		pool->most = (uint64_t) system.f_blocks * system.f_frsize / 2;
		/* One without a limit says 0. */
		if (!system.f_blocks || pool->most > STAGE_SHARED_MAX) {
			pool->most = STAGE_SHARED_MAX;
		}
		open_regions(pool);
	}
}

void stage_shared_close(struct slab_pool *pool)
{
	if (pool->memory) {
		munmap(pool->memory, pool->regions * STAGE_SLAB_BYTES);
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

static void file_name(char *name, size_t size, uint64_t number)
{
	snprintf(name, size, "slab-%llu", (unsigned long long) number);
}

/* allowed books size bytes, if there may be so many more. */
static bool allowed(struct slab_pool *pool, size_t size)
{
	size_t bytes = __atomic_load_n(&pool->bytes, __ATOMIC_RELAXED);
	int64_t retry = __atomic_load_n(&pool->retry, __ATOMIC_RELAXED);

	if (retry && stage_now() < retry) {
		return false;
	}
	do {
		if (size > pool->most || bytes > pool->most - size) {
			return false;
		}
	} while (!__atomic_compare_exchange_n(&pool->bytes, &bytes, bytes + size, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}

static void gone(struct slab_pool *pool, size_t size)
{
	__atomic_fetch_sub(&pool->bytes, size, __ATOMIC_RELAXED);
}

/* allocate has the memory of a part of a file there, or says that it cannot be had: a page that were missing when it is
 * written to would end the process. */
static bool allocate(int file, size_t at, size_t size)
{
	int tries = 0;
	int error;

	do {
		error = posix_fallocate(file, at, size);
	} while (error == EINTR && ++tries < ALLOCATE_TRIES);
	return !error;
}

/* map makes the file of a large slab and maps it. All of its memory is there afterwards, or the file is not. */
static void *map(struct slab_pool *pool, size_t size, uint64_t number)
{
	char name[32];
	void *memory = MAP_FAILED;
	int file;

	file_name(name, sizeof(name), number);
	file = openat(pool->folder, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (file < 0) {
		return MAP_FAILED;
	}
	if (allocate(file, 0, size)) {
		memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
	}
	close(file);
	if (memory == MAP_FAILED) {
		unlinkat(pool->folder, name, 0);
	}
	return memory;
}

/* region gives a slab with a place in the file of all, which may have no memory. */
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
		slab->file = number;
	}
	return slab;
}

/* make_region makes a slab in the file of all. */
static struct slab *make_region(struct slab_pool *pool)
{
	struct slab *slab = region(pool);
	struct stat status;

	/* Somebody may have removed the file: nobody would find what is in it. */
	if (slab && !fstat(pool->file, &status) && status.st_nlink > 0
		&& allocate(pool->file, slab->file * STAGE_SLAB_BYTES, STAGE_SLAB_BYTES)) {
		stage_slab_touch(slab);
		return slab;
	}
	if (slab) {
		stage_slab_push(pool->table, &pool->bare, slab);
	}
	return NULL;
}

/* make_file makes a slab that has a file to itself. */
static struct slab *make_file(struct slab_pool *pool, size_t size)
{
	struct slab *slab = stage_slab_new(pool->table);
	void *memory;

	if (!slab) {
		return NULL;
	}
	slab->file = __atomic_add_fetch(&pool->files, 1, __ATOMIC_RELAXED);
	memory = map(pool, size, slab->file);
	if (memory == MAP_FAILED) {
		stage_slab_forget(pool->table, slab);
		return NULL;
	}
	slab->head = memory;
	slab->size = size;
	return slab;
}

struct slab *stage_shared_make(struct slab_pool *pool, size_t size)
{
	struct slab *slab;

	if (!allowed(pool, size)) {
		return NULL;
	}
	slab = size > STAGE_SLAB_BYTES ? make_file(pool, size) : make_region(pool);
	if (!slab) {
		gone(pool, size);
		__atomic_store_n(&pool->retry, stage_now() + STAGE_RETRY_NS, __ATOMIC_RELAXED);
		return NULL;
	}
	/* All of it is zeros. */
	STAGE_STEP(true);
	slab->head->layout = STAGE_SLAB_LAYOUT;
	slab->head->frames = sizeof(*slab->head);
	slab->head->size = size;
	STAGE_STEP(true);
	__atomic_store_n(&slab->head->magic, STAGE_SLAB_MAGIC, __ATOMIC_RELEASE);
	STAGE_STEP(true);
	return slab;
}

void stage_shared_free(struct slab_pool *pool, struct slab *slab)
{
	char name[32];

	gone(pool, slab->size);
	if (slab_is_large(slab)) {
		file_name(name, sizeof(name), slab->file);
		munmap(slab->head, slab->size);
		unlinkat(pool->folder, name, 0);
		stage_slab_forget(pool->table, slab);
		return;
	}
	/* Should the hole not come about, this is what makes it no slab any more. */
	memset(slab->head, 0, sizeof(*slab->head));
	fallocate(pool->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, slab->file * STAGE_SLAB_BYTES, STAGE_SLAB_BYTES);
	stage_slab_push(pool->table, &pool->bare, slab);
}

void stage_shared_leave(struct slab_pool *pool, struct slab *slab)
{
	if (slab_is_large(slab)) {
		munmap(slab->head, slab->size);
	} else {
		pool->left = true;
	}
}

bool stage_slab_is_done(struct slab *slab)
{
	while (slab->done < slab->taken) {
		const struct stage_frame *frame = (const struct stage_frame *) (slab->frames + slab->done);

		/* Pairs with the release of whoever is done with it: nobody looks at the frame any more. */
		if (__atomic_load_n(&frame->state, __ATOMIC_ACQUIRE) != STAGE_FRAME_DONE) {
			return false;
		}
		slab->done += frame->size;
	}
	return true;
}

void stage_keep(struct stage *stage, struct slab *slab)
{
	slab->next = NULL;
	*stage->kept_end = slab;
	stage->kept_end = &slab->next;
	stage->kept_more = true;
}

/* reclaim_current looks at the slab that is being filled. When all it holds is done it becomes a spare, with which the next
 * frame may begin anew. Returns whether there is something to wait for. */
static bool reclaim_current(struct stage_pump *pump, struct stage *stage)
{
	uint64_t word = stage_look(stage);
	struct slab *slab = stage->oldest;

	if (!slab || slab != stage->newest || !slab->shared || slab_is_large(slab) || slab->taken == 0) {
		return false;
	}
	if (!stage_slab_is_done(slab)) {
		return true;
	}
	/* More that has come is not here to wait for. */
	if (STAGE_WORD_USED(word) * STAGE_GRANULE == slab->done && stage_slab_take_away(stage, word)) {
		stage_slab_put(&pump->shared, slab);
	}
	return false;
}

/* reclaim_kept takes back the slabs of a list that are done: those before the first that is not, or all of them. *end
 * stays the place behind the last one. Returns whether there were any. */
static bool reclaim_kept(struct stage_pump *pump, struct slab **place, struct slab ***end, bool all)
{
	bool progress = false;

	while (*place) {
		struct slab *slab = *place;

		if (stage_slab_is_done(slab)) {
			*place = slab->next;
			if (!*place) {
				*end = place;
			}
			stage_slab_put(&pump->shared, slab);
			progress = true;
		} else if (all) {
			place = &slab->next;
		} else {
			break;
		}
	}
	return progress;
}

/* At every visit the oldest slabs are looked at, all of them only when that is due: a frame that takes long must not
 * hold up what is behind it, but many such frames must not be looked at each time. */
int64_t stage_reclaim(struct stage_pump *pump, struct stage *stage, int64_t now)
{
	/* What would be due soon is as well seen to now when the stage is quiet: many stages come to share their wake-ups.
	 * While frames come, a look between them finds more done than one at them. */
	int64_t early = stage->frame_due == STAGE_NEVER ? stage->kept_pace / 4 : 0;
	bool due = stage->kept_due != STAGE_NEVER && stage->kept_due - early <= now;
	bool anew = reclaim_kept(pump, &stage->kept, &stage->kept_end, due);
	bool waits = reclaim_current(pump, stage) || stage->kept;

	anew = anew || stage->kept_more || stage->kept_due == STAGE_NEVER;
	stage->kept_more = false;
	if (!waits) {
		stage->kept_due = STAGE_NEVER;
	} else if (anew || due) {
		int64_t pace = anew ? STAGE_KEPT_NS : 2 * stage->kept_pace;

		stage->kept_pace = pace < STAGE_KEPT_MAX_NS ? pace : STAGE_KEPT_MAX_NS;
		/* What is due sooner is not put off, or much traffic would do so for ever. */
		if (due || now + stage->kept_pace < stage->kept_due) {
			stage->kept_due = now + stage->kept_pace;
		}
	}
	return stage->kept_due;
}

void stage_orphan(struct stage_pump *pump, struct stage *stage)
{
	uint64_t word;
	struct slab *slab;

	do {
		word = stage_look(stage);
		slab = stage->newest;
	} while (slab && !stage_slab_take_away(stage, word)); /* others may wait for the last frames meanwhile */
	if (slab && slab->shared) {
		stage_keep(stage, slab);
	} else if (slab) {
		stage_slab_put(&pump->plain, slab);
	}
	*stage->kept_end = pump->orphans;
	pump->orphans = stage->kept;
	stage->kept = NULL;
	stage->kept_end = &stage->kept;
	stage_reclaim_orphans(pump);
}

void stage_reclaim_orphans(struct stage_pump *pump)
{
	struct slab **end;

	reclaim_kept(pump, &pump->orphans, &end, true);
}
