/*
 * res_kafka: slabs that are files of a memory file system, and when they may be used again.
 *
 *             put fills it, the pump hands it over               every frame is done
 *     filled ──────────────────────────────────────► kept ──────────────────────────► spare
 *        ▲                                                                              │
 *        └──────────────────────────────────────────────────────────────────────────────┘
 *
 * The slab that is being filled starts anew when all that it holds is done. Nothing is ever written back to a disk: what
 * these files survive is the process, not the machine.
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
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "internal.h"

/* How often a signal may interrupt the allocation of a file before it counts as failed. */
#define ALLOCATE_TRIES 16

void stage_shared_open(struct slab_pool *pool, const char *folder)
{
	struct statvfs system;

	pool->shared = true;
	pool->folder = folder && folder[0] ? open(folder, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	/* The file system is not ours alone, and small in many a container. */
	if (pool->folder >= 0 && !fstatvfs(pool->folder, &system)) {
		pool->most = (uint64_t) system.f_blocks * system.f_frsize / 2;
		/* One without a limit says 0. */
		if (!system.f_blocks || pool->most > STAGE_SHARED_MAX) {
			pool->most = STAGE_SHARED_MAX;
		}
	}
}

static void file_name(char *name, size_t size, uint64_t number)
{
	snprintf(name, size, "slab-%llu", (unsigned long long) number);
}

/* allowed books a file of size bytes and numbers it. 0: it may not be made. */
static uint64_t allowed(struct slab_pool *pool, size_t size)
{
	uint64_t number = 0;

	pthread_mutex_lock(&pool->lock);
	if (size <= pool->most && pool->bytes <= pool->most - size
		&& (!pool->retry || stage_now() >= pool->retry)) {
		pool->retry = 0;
		pool->bytes += size;
		number = ++pool->files;
	}
	pthread_mutex_unlock(&pool->lock);
	return number;
}

static void gone(struct slab_pool *pool, size_t size, bool failed)
{
	pthread_mutex_lock(&pool->lock);
	pool->bytes -= size;
	if (failed) {
		pool->retry = stage_now() + STAGE_RETRY_NS;
	}
	pthread_mutex_unlock(&pool->lock);
}

/* map makes the file and maps it. All of its memory is there afterwards, or the file is not: a page that were missing
 * when it is written to would end the process. */
static void *map(struct slab_pool *pool, size_t size, uint64_t number)
{
	char name[32];
	void *memory = MAP_FAILED;
	int tries = 0;
	int error;
	int file;

	file_name(name, sizeof(name), number);
	file = openat(pool->folder, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (file < 0) {
		return MAP_FAILED;
	}
	do {
		error = posix_fallocate(file, 0, size);
	} while (error == EINTR && ++tries < ALLOCATE_TRIES);
	if (!error) {
		memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
	}
	close(file);
	if (memory == MAP_FAILED) {
		unlinkat(pool->folder, name, 0);
	}
	return memory;
}

struct slab *stage_shared_make(struct slab_pool *pool, size_t size)
{
	uint64_t number = allowed(pool, size);
	struct slab *slab;

	if (!number) {
		return NULL;
	}
	slab = map(pool, size, number);
	if (slab == MAP_FAILED) {
		gone(pool, size, true);
		return NULL;
	}
	/* The file began as zeros. */
	STAGE_STEP(false);
	slab->head.layout = STAGE_SLAB_LAYOUT;
	slab->head.frames = sizeof(*slab);
	slab->head.size = size;
	slab->file = number;
	slab->shared = true;
	STAGE_STEP(false);
	__atomic_store_n(&slab->head.magic, STAGE_SLAB_MAGIC, __ATOMIC_RELEASE);
	STAGE_STEP(false);
	return slab;
}

void stage_shared_free(struct slab_pool *pool, struct slab *slab, bool unlink)
{
	size_t size = slab->head.size;
	char name[32];

	file_name(name, sizeof(name), slab->file);
	munmap(slab, size);
	if (unlink) {
		unlinkat(pool->folder, name, 0);
	}
	gone(pool, size, false);
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

/* reclaim_current looks at the slab that is being filled. When all it holds is done it starts anew, or is given up if
 * nobody is writing. Returns whether there is something to wait for. */
static bool reclaim_current(struct stage_pump *pump, struct stage *stage)
{
	struct slab *slab;

	pthread_mutex_lock(&stage->lock);
	slab = stage->head == stage->tail ? stage->head : NULL;
	pthread_mutex_unlock(&stage->lock);
	/* Nobody but the pump takes it away. */
	if (!slab || !slab->shared || slab_is_large(slab) || slab->taken == 0) {
		return false;
	}
	if (!stage_slab_is_done(slab)) {
		return true;
	}
	pthread_mutex_lock(&stage->lock);
	if (slab->next || slab->head.used != slab->done) {
		slab = NULL; /* more has come, which is not here to wait for */
	} else if ((stage->flags & STAGE_ARMED) && stage_wants_shared(stage)) {
		slab_set_used(slab, 0);
		STAGE_STEP(false);
		slab->taken = 0;
		slab->done = 0;
		slab = NULL;
	} else {
		stage->head = NULL;
		stage->tail = NULL;
		stage->bytes = 0;
	}
	pthread_mutex_unlock(&stage->lock);
	if (slab) {
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
	struct slab *slab;

	pthread_mutex_lock(&stage->lock);
	slab = stage->head;
	stage->head = NULL;
	stage->tail = NULL;
	stage->bytes = 0;
	pthread_mutex_unlock(&stage->lock);
	if (slab) {
		stage_keep(stage, slab);
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
