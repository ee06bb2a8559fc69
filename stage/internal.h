/*
 * res_kafka: what the files of the stage share, and its numbers.
 *
 *   stage.c   writers: admission, reservation, copy, notes
 *   pump.c    the pump's thread: when it looks at which stage, how it sleeps and is called
 *   hand.c    what it does there: hand out frames, report notes
 *   life.c    creation and end of pumps and stages, and waiting for the pump
 *   slab.c    pools of spare slabs
 *   shared.c  slabs that are files, and when they may be used again
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
#define STAGE_LONG_AGO    (-STAGE_NEVER / 2)

/* One slab, its own header included: about 200 frames of 300 bytes, so that what is done once per slab (a spare, a
 * wake-up, a call into the engine) costs a frame next to nothing, and below the 128 KiB from which malloc maps pages
 * of its own for each block. */
#define STAGE_SLAB_BYTES (64 * 1024)

/* Spares the pump keeps ready, idle or not: two, so that two stages may wake up at the same time. */
#define STAGE_SPARES_READY 2

/* Plain spares kept under load, 4 MiB. One writer flat out fills a slab in some 15 us; this is what it fills in the
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

/* Slabs that were handed over and wait for their frames to be done keep an idle pump coming after this time, after
 * twice of it when nothing has changed, and so on up to the longest. */
#define STAGE_KEPT_NS     (20 * STAGE_MILLISECOND)
#define STAGE_KEPT_MAX_NS (32 * STAGE_KEPT_NS)

/* How long no file is made after one could not be. */
#ifndef STAGE_RETRY_NS
#define STAGE_RETRY_NS STAGE_SECOND
#endif

#define STAGE_HIDDEN __attribute__((visibility("hidden")))

/* Between two instructions that could be told apart by who reads what a killed process left, tests end it. copying: no
 * lock is held. */
#ifdef STAGE_STEPS
void stage_step(bool copying);
#define STAGE_STEP(copying) stage_step(copying)
#else
#define STAGE_STEP(copying) ((void) 0)
#endif

/* A plain slab begins like a shared one, but for the magic number; size is that of its memory. */
struct slab {
	struct stage_slab head; /* used and first: under the stage's lock */
	struct slab *next;
	uint64_t file;  /* its number among the pool's files */
	size_t taken;   /* bytes handed to the taker; the pump's thread writes it, under the stage's lock when it resets */
	size_t done;    /* of those, bytes of frames that are known to be done, from the beginning; the pump's thread only */
	bool shared;
	bool fallback;  /* it ought to be shared */
	_Alignas(64) unsigned char frames[];
};

#define STAGE_SLAB_ROOM (STAGE_SLAB_BYTES - sizeof(struct slab))

/* Spares of one kind. */
struct slab_pool {
	pthread_mutex_t lock;
	struct slab *spare;
	unsigned int count;

	/* Of shared slabs only. */
	bool shared;
	int folder;     /* a descriptor, -1 = there are none */
	bool wanted;    /* some stage has wanted one: atomic */
	size_t most;    /* bytes of files there may be */
	uint64_t files; /* ever made; under lock, as what follows */
	size_t bytes;   /* of those there are */
	int64_t retry;  /* before this time no file is made */
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
	uint64_t number; /* among the pump's stages */
	char label[STAGE_LABEL_MAX + 1];

	/* Under lock. */
	_Alignas(64) pthread_mutex_t lock;
	unsigned int flags;
	bool shut;
	int64_t linger;    /* the shortest linger that the pump's next look goes by */
	int64_t since;     /* what waits has done so since then, or not as long; 0 = nothing waits, STAGE_LONG_AGO = it is not to
	                    * wait any longer */
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
	struct slab *kept;  /* shared slabs that are full and handed over, the oldest first */
	struct slab **kept_end;
	bool kept_more;     /* than at the last look at them: the patience with them begins anew */
	int64_t kept_pace;  /* how long after the last look at them the next is due, and */
	int64_t kept_due;   /* when that is */
};

struct stage_pump {
	struct stage_taker taker;
	pthread_t thread;
	struct slab_pool plain;
	struct slab_pool shared;

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
	uint64_t created;        /* stages, ever */

	/* The pump's thread only. */
	struct stage *active;
	struct slab *orphans; /* shared slabs of stages that are gone */
	struct note notes[STAGE_NOTE_SLOTS];
};

static inline size_t slab_room(const struct slab *slab)
{
	return slab->head.size - sizeof(*slab);
}

/* A slab that a single frame has to itself. */
static inline bool slab_is_large(const struct slab *slab)
{
	return slab->head.size > STAGE_SLAB_BYTES;
}

/* slab_set_used says how much of a slab there is to read. Whoever finds it after a kill sees what was written before. */
static inline void slab_set_used(struct slab *slab, size_t used)
{
	__atomic_store_n(&slab->head.used, used, __ATOMIC_RELEASE);
}

/* stage_slab_get gives an empty slab with room for a frame of size bytes, a spare if there is one. NULL: no memory, or
 * no room for a file. */
STAGE_HIDDEN struct slab *stage_slab_get(struct slab_pool *pool, size_t size);

/* stage_slab_put takes a slab back, as a spare or for free. */
STAGE_HIDDEN void stage_slab_put(struct slab_pool *pool, struct slab *slab);

/* stage_slab_refill makes spares until STAGE_SPARES_READY are there, their pages touched, unless they are shared ones
 * that nobody has wanted. The pump's thread. */
STAGE_HIDDEN void stage_slab_refill(struct slab_pool *pool);

/* stage_slab_trim frees all spares but keep. */
STAGE_HIDDEN void stage_slab_trim(struct slab_pool *pool, unsigned int keep);

/* stage_slab_surplus says whether more than STAGE_SPARES_READY spares are kept. */
STAGE_HIDDEN bool stage_slab_surplus(struct slab_pool *pool);

/* stage_wants_shared says whether the stage's next slab is to be a shared one, if it can be had. */
STAGE_HIDDEN bool stage_wants_shared(const struct stage *stage);

/* stage_shared_open makes pool one of shared slabs in a folder, which may be NULL. */
STAGE_HIDDEN void stage_shared_open(struct slab_pool *pool, const char *folder);

/* stage_shared_make makes a shared slab of so many bytes, header included, or says NULL. */
STAGE_HIDDEN struct slab *stage_shared_make(struct slab_pool *pool, size_t size);

/* stage_shared_free unmaps one; its file goes too when unlink. */
STAGE_HIDDEN void stage_shared_free(struct slab_pool *pool, struct slab *slab, bool unlink);

/* stage_keep takes over a shared slab that is full and handed over, until its frames are done. The pump's thread, as
 * the following. */
STAGE_HIDDEN void stage_keep(struct stage *stage, struct slab *slab);

/* stage_reclaim takes back what is done of a stage's shared slabs. Returns when to come again because of the others. */
STAGE_HIDDEN int64_t stage_reclaim(struct stage_pump *pump, struct stage *stage, int64_t now);

/* stage_orphan leaves the shared slabs of a stage that is to be forgotten to its pump. */
STAGE_HIDDEN void stage_orphan(struct stage_pump *pump, struct stage *stage);

/* stage_reclaim_orphans takes back those that are done. */
STAGE_HIDDEN void stage_reclaim_orphans(struct stage_pump *pump);

/* stage_slab_is_done says whether every frame that the taker got of a slab is done. */
STAGE_HIDDEN bool stage_slab_is_done(struct slab *slab);

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
