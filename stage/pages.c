/*
 * res_kafka: the pages of slabs.
 *
 * A write or fallocate holds the kernel's lock of the file. A thread can lose its processor there, on a busy machine for
 * a tenth of a second, and each further writer of the file would sleep as long. So a thread writes only while no other
 * thread does. Otherwise MADV_POPULATE_WRITE allocates the pages, without this lock.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#undef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "internal.h"

/* The smallest page size there is: touching more often than needed does no harm. */
#define PAGE_BYTES 4096

/* Linux 5.14; not in every C library. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Number of interruptions by signals before an allocation counts as failed. */
#define ALLOCATE_TRIES 16

/* book adds size to *bytes if the sum stays within most. */
static bool book(size_t *bytes, size_t most, size_t size)
{
	size_t now = __atomic_load_n(bytes, __ATOMIC_RELAXED);

	do {
		if (size > most || now > most - size) {
			return false;
		}
	} while (!__atomic_compare_exchange_n(bytes, &now, now + size, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}

void stage_pool_unbook(struct slab_pool *pool, size_t size)
{
	__atomic_fetch_sub(&pool->bytes, size, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&pool->table->bytes, size, __ATOMIC_RELAXED);
}

/* allowed counts size more bytes of pages within the limits. */
static bool allowed(struct slab_pool *pool, size_t size)
{
	if (!book(&pool->bytes, pool->most, size)) {
		return false;
	}
	if (!book(&pool->table->bytes, pool->table->most, size)) {
		__atomic_fetch_sub(&pool->bytes, size, __ATOMIC_RELAXED);
		return false;
	}
	return true;
}

void stage_pool_failed(struct slab_pool *pool)
{
	__atomic_store_n(&pool->retry, stage_now() + STAGE_RETRY_NS, __ATOMIC_RELAXED);
}

bool stage_file_may_reach(uint64_t end)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) || (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < end)) {
		errno = EFBIG;
		return false;
	}
	return true;
}

/* enter counts this thread as a holder of the lock of the pool's file, or a thread that waits for the lock. */
static void enter(struct slab_pool *pool)
{
	__atomic_fetch_add(&pool->inside, 1, __ATOMIC_ACQUIRE);
}

/* enter_alone does the same if there is no other thread. */
static bool enter_alone(struct slab_pool *pool)
{
	unsigned int none = 0;

	return __atomic_compare_exchange_n(&pool->inside, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static void leave(struct slab_pool *pool)
{
	__atomic_fetch_sub(&pool->inside, 1, __ATOMIC_RELEASE);
}

static void punch(int file, uint64_t at, size_t size)
{
	fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, size);
}

void stage_pool_punch(struct slab_pool *pool, uint64_t at, size_t size)
{
	enter(pool);
	punch(pool->file, at, size);
	leave(pool);
}

/* allocate allocates the pages of a part of a file, as zeros. For a usual slab one write is cheaper than fallocate and
 * a page fault for each page, which clears the page. */
static bool allocate(int file, uint64_t at, size_t size)
{
	static const unsigned char zeros[STAGE_SLAB_BYTES];
	size_t done = 0;
	int tries = 0;

	if (!stage_file_may_reach(at + size)) {
		return false;
	}
	while (done < size) {
		ssize_t more = size <= sizeof(zeros) ? pwrite(file, zeros, size - done, at + done)
			: fallocate(file, 0, at, size) ? -1 : (ssize_t) size;

		if (more > 0) {
			done += more;
		} else if (errno != EINTR || ++tries == ALLOCATE_TRIES) {
			punch(file, at, size);
			return false;
		}
	}
	return true;
}

/* touch maps the pages of a usual slab before its first put. A fault for a read maps the page's aligned 64 KiB, a fault
 * for a write one page. */
static void touch(struct slab *slab)
{
	volatile unsigned char *memory = (volatile unsigned char *) slab->head;
	size_t i;

	(void) memory[0];
	for (i = 0; i < STAGE_SLAB_BYTES; i += PAGE_BYTES) {
		memory[i] = 0;
	}
}

void stage_slab_populate(struct slab *slab)
{
	madvise(slab->head, slab->backed, MADV_POPULATE_WRITE);
}

/* fill allocates and maps the pages of a usual slab. A write and touch take the least time. MADV_POPULATE_WRITE takes
 * half as long again, waits for threads in mmap, and older kernels lack it. */
static bool fill(struct slab_pool *pool, struct slab *slab)
{
	bool alone = enter_alone(pool);
	bool done;

	if (!alone && pool->sized && !madvise(slab->head, STAGE_SLAB_BYTES, MADV_POPULATE_WRITE)) {
		return true;
	}
	if (!alone) {
		enter(pool);
	}
	done = allocate(pool->file, slab->file, STAGE_SLAB_BYTES);
	leave(pool);
	if (done) {
		touch(slab);
	}
	return done;
}

bool stage_pool_back(struct slab_pool *pool, struct slab *slab)
{
	if (!allowed(pool, STAGE_SLAB_BYTES)) {
		return false;
	}
	if (!fill(pool, slab)) {
		stage_pool_unbook(pool, STAGE_SLAB_BYTES);
		stage_pool_failed(pool);
		return false;
	}
	slab->backed = STAGE_SLAB_BYTES;
	return true;
}

bool stage_pool_back_large(struct slab_pool *pool, int file, uint64_t at, struct slab *slab, size_t size)
{
	size_t more = size > slab->backed ? size - slab->backed : 0;
	bool done;

	if (!more) {
		return true;
	}
	if (!allowed(pool, more)) {
		return false;
	}
	enter(pool);
	done = allocate(file, at + slab->backed, more);
	leave(pool);
	if (!done) {
		stage_pool_unbook(pool, more);
		if (pool->shared) { /* after a failed large plain slab a small slab may still fit */
			stage_pool_failed(pool);
		}
		return false;
	}
	slab->backed += more;
	if (!pool->shared) {
		stage_slab_populate(slab);
	}
	return true;
}
