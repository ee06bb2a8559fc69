/*
 * res_kafka: control memory, the ring, and which engine reads it.
 *
 *     closed ──stage_pump_engine_new──► fresh ──the pump has rewound its stages──► open
 *        ▲                                │                                          │
 *        └──────stage_pump_engine_lost────┴──────────────────────────────────────────┘
 *
 * Only `taken` and `asleep` are read from control memory. The count of put entries is kept here.
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
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

/* make_file makes a memfd of size bytes with seals. -1 for a failure. */
static int make_file(const char *name, size_t size, int seals)
{
	int file = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	/* The first write allocates pages: stage_create writes those of a gate. */
	if (file >= 0 && (!stage_file_may_reach(size) || ftruncate(file, size) || fcntl(file, F_ADD_SEALS, seals))) {
		int error = errno;

		close(file);
		errno = error;
		return -1;
	}
	return file;
}

/* write_head writes the head of control memory, because a dead engine may have damaged the head and the next
 * one would refuse it. */
static void write_head(struct resk_head *head, uint64_t usual_bytes)
{
	*head = (struct resk_head) {
		.magic = RESK_CONTROL_MAGIC,
		.layout = RESK_CONTROL_LAYOUT,
		.ring = RESK_RING,
		.gates = RESK_GATES,
		.progress = RESK_PROGRESS,
		.size = sizeof(struct resk_control),
		.usual_bytes = usual_bytes,
	};
}

int stage_memory_open(struct stage_memory *memory)
{
	void *control;
	int error;

	memory->control = NULL;
	memory->wake = -1;
	memory->plain_file = -1;
	memory->control_file = make_file("res_kafka control", sizeof(*memory->control), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (memory->control_file >= 0) {
		memory->plain_file = make_file("res_kafka slabs", 0, F_SEAL_SHRINK | F_SEAL_SEAL);
	}
	if (memory->plain_file >= 0) {
		memory->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	if (memory->wake >= 0) {
		control = mmap(NULL, sizeof(*memory->control), PROT_READ | PROT_WRITE, MAP_SHARED, memory->control_file, 0);
		if (control != MAP_FAILED) {
			memory->control = control;
			if (!madvise(control, sizeof(*memory->control), MADV_DONTFORK)) {
				write_head(&memory->control->head, 0);
				return 0;
			}
		}
	}
	error = errno;
	stage_memory_close(memory);
	return error;
}

void stage_memory_close(struct stage_memory *memory)
{
	if (memory->control) {
		munmap(memory->control, sizeof(*memory->control));
	}
	if (memory->wake >= 0) {
		close(memory->wake);
	}
	if (memory->plain_file >= 0) {
		close(memory->plain_file);
	}
	if (memory->control_file >= 0) {
		close(memory->control_file);
	}
	*memory = (struct stage_memory) { .control_file = -1, .plain_file = -1, .wake = -1 };
}

void stage_ring_open(struct ring *ring, const struct stage_memory *memory)
{
	ring->control = memory->control;
	ring->wake = memory->wake;
	stage_mutex_init(&ring->lock);
}

bool stage_ring_ready(const struct ring *ring, int64_t now)
{
	return __atomic_load_n(&ring->open, __ATOMIC_ACQUIRE) && now >= ring->retry;
}

/* wake_engine writes to the eventfd. The only failure, a full counter, wakes the engine as well. */
static void wake_engine(const struct ring *ring)
{
	const uint64_t one = 1;

	while (write(ring->wake, &one, sizeof(one)) < 0 && errno == EINTR) {
	}
}

/* put_entry writes the next entry. The lock is held. */
static void put_entry(struct ring *ring, uint32_t id, const struct slab *slab, size_t start, size_t length)
{
	struct resk_ring *shared = &ring->control->ring;

	shared->entries[ring->put % RESK_RING] = (struct resk_ring_entry) {
		.id = id,
		.pool = !slab->shared ? RESK_POOL_PLAIN : slab_is_large(slab) ? RESK_POOL_FILE : RESK_POOL_DURABLE,
		.slab = slab->file,
		.start = (size_t) (slab->frames - (const unsigned char *) slab->head) + start,
		.length = length,
		.first = (uint64_t) __atomic_load_n(&slab->base, __ATOMIC_RELAXED),
	};
	__atomic_store_n(&shared->put, ++ring->put, __ATOMIC_SEQ_CST);
}

bool stage_ring_put(struct ring *ring, uint32_t id, const struct slab *slab, size_t start, size_t length)
{
	struct resk_ring *shared = &ring->control->ring;
	bool open;
	bool room;

	pthread_mutex_lock(&ring->lock);
	open = __atomic_load_n(&ring->open, __ATOMIC_RELAXED);
	/* An engine with an impossible `taken` gets no more entries. */
	room = open && ring->put - __atomic_load_n(&shared->taken, __ATOMIC_SEQ_CST) < RESK_RING;
	if (room) {
		put_entry(ring, id, slab, start, length);
	}
	pthread_mutex_unlock(&ring->lock);
	if (room) {
		ring->pause = 0;
	} else if (open) {
		ring->pause = !ring->pause ? STAGE_RING_NS : ring->pause < STAGE_RING_MAX_NS ? 2 * ring->pause : ring->pause;
		ring->retry = stage_now() + ring->pause;
	}
	if (room && __atomic_load_n(&shared->asleep, __ATOMIC_SEQ_CST) && __atomic_exchange_n(&shared->asleep, 0, __ATOMIC_SEQ_CST)) {
		wake_engine(ring);
	}
	return room;
}

void stage_pump_again(struct stage_pump *pump, stage_again_cb again)
{
	pump->again = again;
}

void stage_pump_engine_new(struct stage_pump *pump)
{
	pthread_mutex_lock(&pump->ring.lock);
	__atomic_store_n(&pump->ring.fresh, true, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&pump->ring.lock);
	stage_pump_wake(pump);
}

void stage_pump_engine_lost(struct stage_pump *pump)
{
	struct ring *ring = &pump->ring;

	pthread_mutex_lock(&ring->lock);
	ring->epoch++;
	__atomic_store_n(&ring->open, false, __ATOMIC_RELEASE);
	__atomic_store_n(&ring->fresh, false, __ATOMIC_SEQ_CST);
	ring->put = 0;
	write_head(&ring->control->head, ring->usual_bytes);
	__atomic_store_n(&ring->control->ring.put, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&ring->control->ring.taken, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&ring->control->ring.asleep, 0, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&ring->lock);
}

void stage_pump_attach(struct stage_pump *pump)
{
	struct ring *ring = &pump->ring;
	struct stage *stage;
	uint64_t epoch;

	pthread_mutex_lock(&ring->lock);
	__atomic_store_n(&ring->fresh, false, __ATOMIC_SEQ_CST);
	epoch = ring->epoch;
	pthread_mutex_unlock(&ring->lock);
	/* Stages created later have nothing to rewind. */
	pthread_mutex_lock(&pump->lock);
	stage = pump->stages;
	pthread_mutex_unlock(&pump->lock);
	for (; stage; stage = stage->next) {
		stage_rewind(pump, stage);
	}
	if (pump->again) {
		pump->again(NULL, 0);
	}
	pthread_mutex_lock(&ring->lock);
	if (epoch == ring->epoch) {
		__atomic_store_n(&ring->open, true, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&ring->lock);
}
