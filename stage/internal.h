/*
 * res_kafka: what the files of the stage share, and its numbers.
 *
 *   stage.c   writers: admission, reservation, copy, notes
 *   pump.c    the pump's thread: when it looks at which stage, how it sleeps and is called
 *   hand.c    what it does there: hand out frames, report notes
 *   life.c    creation and end of pumps and stages, and waiting for the pump
 *   slab.c    the pool of spare slabs
 *
 * Locks, never one inside another: a stage's lock (its slabs, flags, notes), its pump's lock (calls, sleep, the list
 * of stages), the pool's lock. No lock is held during a call to the taker.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_STAGE_INTERNAL_H
#define RES_KAFKA_STAGE_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "stage.h"

#define STAGE_MILLISECOND INT64_C(1000000)
#define STAGE_SECOND      (1000 * STAGE_MILLISECOND)
#define STAGE_NEVER       INT64_MAX

/* One slab, its own header included: about 200 frames of 300 bytes, so that what is done once per slab (a spare, a
 * wake-up, a call into the engine) costs a frame next to nothing, and below the 128 KiB from which malloc maps pages
 * of its own for each block. */
#define STAGE_SLAB_BYTES (64 * 1024)

/* Spares the pump keeps ready, idle or not: two, so that two stages may wake up at the same time. */
#define STAGE_SPARES_READY 2

/* Spares kept under load, 4 MiB. One writer flat out fills a slab in some 15 us; this is what it fills in the
 * millisecond that a pump may wait for a processor, so that even then it finds memory that is mapped already. */
#define STAGE_SPARES_MAX 64

/* Slabs of one stage that the pump hands out before it turns to the next stage: 1 MiB. */
#define STAGE_SLABS_PER_LOOK 16

/* Without a frame for this long a stage is disarmed and its next writer wakes the pump: from 20 messages a second on
 * no writer ever does. The same quiet of all stages trims the spares. Tests set it lower. */
#ifndef STAGE_QUIET_NS
#define STAGE_QUIET_NS (50 * STAGE_MILLISECOND)
#endif

/* How long a note waits for more of its kind. */
#define STAGE_NOTE_NS (50 * STAGE_MILLISECOND)

/* A frame still being copied: first the pump watches it this many times, longer than a copy of some kilobytes takes,
 * then its writer has lost its processor and the pump sleeps this long. */
#define STAGE_COPY_SPINS 256
#define STAGE_COPY_NS    (STAGE_MILLISECOND / 5)

/* A longer linger is taken for this one, a day, so that sums of times cannot overflow. */
#define STAGE_LINGER_MAX (86400 * STAGE_SECOND)

#define STAGE_HIDDEN __attribute__((visibility("hidden")))

struct slab {
	struct slab *next;
	size_t room;  /* bytes of frames that fit */
	size_t used;  /* bytes reserved; under the stage's lock */
	size_t taken; /* bytes handed to the taker; the pump's thread writes it, under the stage's lock when it resets */
	_Alignas(16) unsigned char frames[];
};

#define STAGE_SLAB_ROOM (STAGE_SLAB_BYTES - sizeof(struct slab))

struct slab_pool {
	pthread_mutex_t lock;
	struct slab *spare;
	unsigned int count;
};

struct note {
	uint64_t count;
	char text[STAGE_NOTE_TEXT];
};

/* What a stage and its pump have agreed on, under the stage's lock, so that none of it can be missed: a writer sets
 * a flag and then calls the pump, and whoever finds it set already need not. */
enum {
	STAGE_ARMED = 1,  /* the pump looks at this stage again, no later than linger after a put */
	STAGE_FILLED = 2, /* a slab is full, the pump comes at once */
	STAGE_NOTED = 4,  /* there are notes, the pump comes within STAGE_NOTE_NS */
};

/* What else the pump can be asked, under its lock. */
enum {
	STAGE_ASK_NOW = 1,   /* look at once, whatever the linger says: a flush */
	STAGE_ASK_LEAVE = 2, /* take everything and forget the stage */
};

struct stage {
	struct stage_gate gate;
	struct stage_pump *pump;
	void *owner;

	/* Under lock. */
	_Alignas(64) pthread_mutex_t lock;
	unsigned int flags;
	int64_t linger;    /* the shortest linger that the pump's next look goes by */
	struct slab *head; /* the oldest slab */
	struct slab *tail; /* the slab that is being filled */
	size_t bytes;      /* of all slabs from head to tail, headers included */
	int64_t admitted;
	uint64_t noted;
	struct note notes[STAGE_NOTE_SLOTS];

	/* Under the pump's lock. */
	_Alignas(64) struct stage *next;
	struct stage *previous;
	struct stage *next_call;
	bool called; /* is in the list of calls */
	bool gone;   /* the pump has forgotten the stage */
	unsigned int asks;

	/* Written by the pump's thread only; the first two are read by flush. */
	_Alignas(64) int64_t handed; /* frames */
	uint64_t reported;           /* notes */
	struct stage *next_active;
	bool active;
	bool heard;  /* called since the last visit */
	bool filled;
	unsigned int asked;
	int64_t pace;       /* the linger that frame_due was set by */
	int64_t frame_due;  /* when to take everything */
	int64_t note_due;
	int64_t last_frame; /* when a look last found a frame */
};

struct stage_pump {
	struct stage_taker taker;
	pthread_t thread;
	struct slab_pool pool;

	pthread_mutex_t lock;
	pthread_cond_t wake;     /* the pump waits for calls */
	pthread_cond_t progress; /* others wait for the pump */
	/* Under lock. */
	struct stage *stages;
	struct stage *calls;
	int64_t sleep_ns; /* how long the pump meant to sleep when it began to */
	bool sleeping;
	bool stop;
	bool ended;
	unsigned int waiters;
	unsigned int references; /* stages, and one for stage_pump_stop */

	/* The pump's thread only. */
	struct stage *active;
	struct note notes[STAGE_NOTE_SLOTS];
};

/* stage_slab_get gives an empty slab with room for a frame of size bytes, a spare if there is one. NULL: no memory. */
STAGE_HIDDEN struct slab *stage_slab_get(struct slab_pool *pool, size_t size);

/* stage_slab_put takes a slab back, as a spare or for free. */
STAGE_HIDDEN void stage_slab_put(struct slab_pool *pool, struct slab *slab);

/* stage_slab_refill makes spares until STAGE_SPARES_READY are there, their pages touched. The pump's thread. */
STAGE_HIDDEN void stage_slab_refill(struct slab_pool *pool);

/* stage_slab_trim frees all spares but keep. */
STAGE_HIDDEN void stage_slab_trim(struct slab_pool *pool, unsigned int keep);

/* stage_slab_surplus says whether more than STAGE_SPARES_READY spares are kept. */
STAGE_HIDDEN bool stage_slab_surplus(struct slab_pool *pool);

/* stage_mutex_init makes a mutex that spins for a moment before it sleeps: all of ours are held for a few
 * instructions, but a holder may lose its processor. */
STAGE_HIDDEN void stage_mutex_init(pthread_mutex_t *mutex);

/* stage_pump_call puts the stage on the pump's list and wakes the pump if it sleeps for longer than patience (ns).
 * No lock is held. */
STAGE_HIDDEN void stage_pump_call(struct stage *stage, unsigned int asks, int64_t patience);

/* stage_pump_call_locked is the same with the pump's lock held; true: the caller must signal pump->wake. */
STAGE_HIDDEN bool stage_pump_call_locked(struct stage *stage, unsigned int asks, int64_t patience);

/* stage_pump_run is the pump's thread, from which alone the following are called. */
STAGE_HIDDEN void *stage_pump_run(void *pump);

/* What handing out leaves behind. */
enum rest {
	REST_NONE,    /* nothing of what was there when it ended */
	REST_MORE,    /* slabs for another time */
	REST_COPYING, /* a frame whose writer is not done, and all behind it */
};

/* stage_hand_out hands over what the stage holds, slab by slab; only full slabs unless all. */
STAGE_HIDDEN enum rest stage_hand_out(struct stage_pump *pump, struct stage *stage, bool all);

/* stage_disarm gives up looking at an empty stage, and its slab for others to use. false: it is not empty. */
STAGE_HIDDEN bool stage_disarm(struct stage_pump *pump, struct stage *stage);

/* stage_report hands over the stage's notes. */
STAGE_HIDDEN void stage_report(struct stage_pump *pump, struct stage *stage);

/* stage_drain takes everything, frames and notes, from a stage that nobody puts into any more. */
STAGE_HIDDEN void stage_drain(struct stage_pump *pump, struct stage *stage);

/* stage_linger reads the stage's linger, forced into its range. */
static inline int64_t stage_linger(const struct stage *stage)
{
	int64_t linger = __atomic_load_n(&stage->gate.linger_ns, __ATOMIC_RELAXED);

	return linger < 0 ? 0 : linger > STAGE_LINGER_MAX ? STAGE_LINGER_MAX : linger;
}

static inline int64_t stage_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * STAGE_SECOND + now.tv_nsec;
}

#endif /* RES_KAFKA_STAGE_INTERNAL_H */
