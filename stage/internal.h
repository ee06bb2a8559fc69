/*
 * res_kafka: what the files of the stage share, and its numbers.
 *
 *   stage.c   writers: admission, reservation, copy, notes
 *   pump.c    the pump's thread: when it looks at which stage, how it sleeps and is called
 *   hand.c    what it does there: hand out frames, report notes
 *   life.c    creation and end of pumps and stages, and waiting for the pump
 *   slab.c    slabs: what they are, where they come from, pools of spare ones
 *   shared.c  slabs that are files, and when they may be used again
 *
 * A stage's slabs hang on its *word*, which says which slab is being filled, how far, and how many frames are in it. A
 * writer reserves by exchanging the word for one that says so much more, or that names a slab it has brought along. What
 * else it finds out before, it need not lock: the exchange fails when anything has happened to the stage since it read
 * the word. Each slab keeps the word that it took the place of, so that the pump, which alone takes slabs away, finds
 * its way back to the slab that it knows already.
 *
 *     word ─► slab being filled ─before─► slab ─before─► … ─► what the pump knows
 *
 * Pools of slabs are stacks of the same kind. Slabs, as opposed to their memory, exist until their pump is freed, so
 * that whoever looks at one that is not the stage's any more reads nonsense at worst, and its exchange fails.
 *
 * Locks, never one inside another: a stage's lock (its notes), its pump's lock (the list of stages, and who waits for
 * the pump). A put takes none. No lock is held during a call to the taker.
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

/* Spares the pump keeps ready, idle or not: two, so that two stages may wake up at the same time. */
#define STAGE_SPARES_READY 2

/* Spares the pump sees to when it has fallen behind, so that it and not a writer fetches the memory: what a writer flat out
 * fills while the pump hands over one slab, and again as much. */
#define STAGE_SPARES_BUSY 16

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

/* The most that a frame lingers too long because the pump expected it later, see stage_expect; half of a shorter linger. */
#define STAGE_LATE_NS (5 * STAGE_MILLISECOND / 2)

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

/* Between two instructions that could be told apart by who reads what a killed process left, or by another writer, tests
 * end it, or stop the thread for good. writer: the thread is in the middle of a put. */
#ifdef STAGE_STEPS
void stage_step(bool writer);
#define STAGE_STEP(writer) stage_step(writer)
#else
#define STAGE_STEP(writer) ((void) 0)
#endif

/* A slab: what is known of it. Its memory begins with a head, which a plain slab has too, but for the magic number. */
struct slab {
	/* By who brings it into a stage, before that; atomic where who has only seen it pass may read it. */
	struct stage_slab *head;
	unsigned char *frames;
	size_t size;     /* of its memory, bytes */
	uint64_t before; /* the word that it took the place of */
	int64_t base;    /* frames admitted to its stage before it: atomic */
	size_t only;     /* of a large one: bytes of its frame */
	uint64_t file;   /* of a large shared one: its file's number; of another: its place in the file of all */
	uint32_t below;  /* in a stack: the number of the next one, 0 = none: atomic */
	bool shared;
	bool fallback;   /* it ought to be shared */
	bool mapping;    /* a mapping begins with its memory, which goes with the table */
	bool lent;       /* the taker has its memory, or had it when the pump was stopped */
	uint32_t first;  /* of a plain one that is not large: the number of the one with which its mapping begins */

	/* The pump's thread only. */
	_Alignas(64) struct slab *next;
	size_t taken; /* bytes handed to the taker */
	size_t done;  /* of those, bytes of frames that are known to be done, from the beginning */
	size_t end;   /* when it is closed: bytes of frames */
	bool closed;  /* another has taken its place */

	/* Of one with which a mapping begins, while memory is given back: */
	struct slab *idle;  /* slabs of the mapping whose memory nobody needs, */
	unsigned int many;  /* how many, */
	struct slab *other; /* and the next mapping with such. */
};

#define STAGE_SLAB_ROOM (STAGE_SLAB_BYTES - sizeof(struct stage_slab))

/* A stage's word. A slab is named by its number in its pump's table, 0 = none; how far it is filled is counted in
 * granules. Whoever exchanges the slab, or wants to know that nobody goes on with what it read before, adds one to the
 * epoch: a word that comes again would have to come after 262,144 of those, with all else the same. */
#define STAGE_WORD_SLAB(word)  ((uint32_t) ((word) >> 46))
#define STAGE_WORD_COUNT(word) ((uint32_t) ((word) >> 15) & 0x1fff)
#define STAGE_WORD_USED(word)  ((uint32_t) ((word) >> 1) & 0x3fff)
#define STAGE_WORD_SHUT        UINT64_C(1)
#define STAGE_WORD_FULL        0x3fffu /* used, of a slab that a single frame has to itself */
#define STAGE_SLABS_MOST       (1u << 18)

static inline uint64_t stage_word(uint32_t slab, uint32_t count, uint32_t used, uint64_t before, bool anew)
{
	return (uint64_t) slab << 46 | (((before >> 28) + anew) & 0x3ffff) << 28 | (uint64_t) count << 15
		| (uint64_t) used << 1 | (before & STAGE_WORD_SHUT);
}

/* A stack of slabs: the number of the topmost, and above it how often one was taken off, so that a stack that is the
 * same again does not look it. */
struct slab_stack {
	_Alignas(64) uint64_t top;
};

/* All slabs of a pump. */
struct slab_table {
	struct slab *slabs;     /* STAGE_SLABS_MOST of them, by number */
	uint32_t made;          /* that were ever used, and number 0: atomic */
	struct slab_stack free; /* without memory */
	struct slab_stack bare; /* plain ones whose memory has no pages */
	struct slab_stack idle; /* plain ones that are not needed, and have some: until stage_slabs_give_back */
	int64_t idling;         /* how many, or a little off: atomic */
};

/* Spares of one kind. */
struct slab_pool {
	struct slab_table *table;
	struct slab_stack spare;
	int64_t count;  /* of spares, or a little off: atomic, as what follows */
	int64_t missed; /* times that there was none when a writer wanted one */
	bool wanted;    /* some stage has wanted one; shared slabs only, as what follows */
	size_t bytes;   /* there are */
	uint64_t files; /* of large slabs, ever made */
	uint64_t begun; /* places in the file of the others that were ever used */
	int64_t retry;  /* before this time none is made */
	struct slab_stack bare; /* slabs with places in that file, without memory */

	int64_t target; /* spares the pump sees to; the pump's thread only */

	/* Constant. */
	bool shared;
	int folder;  /* a descriptor, -1 = there are none, and */
	int file;    /* of all slabs but large ones, mapped at */
	unsigned char *memory;
	uint64_t regions; /* places in that file */
	size_t most;      /* bytes there may be */
	bool left;        /* something stays in that file when the pump has ended */
};

struct note {
	uint64_t count;
	char text[STAGE_NOTE_TEXT];
};

/* What a stage and its pump have agreed on, so that none of it can be missed: a writer sets a flag and then calls the
 * pump, and whoever finds it set already need not. */
enum {
	STAGE_ARMED = 1,  /* the pump looks at this stage again, no later than linger after a put */
	STAGE_FILLED = 2, /* a slab is full, the pump comes at once */
	STAGE_NOTED = 4,  /* there are notes, the pump comes within STAGE_NOTE_NS */
};

/* What else the pump can be asked. */
enum {
	STAGE_ASK_NOW = 1,   /* look at once, whatever the linger says: a flush */
	STAGE_ASK_LEAVE = 2, /* take everything and forget the stage */
};

struct stage {
	struct stage_gate gate;
	/* Atomic, all of it, as what the gate ends with, in the same cache line: what every put changes, so that a writer waits for
	 * one line of another processor's, not for three. */
	uint64_t word;
	int64_t bytes;  /* of all slabs that wait, heads included */
	int64_t before; /* frames admitted before now, while the word names no slab */

	/* Atomic, all of it; what every put only reads. */
	_Alignas(64) int64_t linger; /* the shortest linger that the pump's next look goes by */
	int64_t since;               /* what waits has done so since then, or not as long; 0 = nothing waits, STAGE_LONG_AGO =
	                              * it is not to wait any longer */
	unsigned int flags;
	/* Constant. */
	struct stage_pump *pump;
	void *owner;
	uint64_t number; /* among the pump's stages */
	char label[STAGE_LABEL_MAX + 1];

	/* Under lock. */
	_Alignas(64) pthread_mutex_t lock;
	uint64_t noted;
	struct note notes[STAGE_NOTE_SLOTS];

	/* Under the pump's lock. */
	_Alignas(64) struct stage *next;
	struct stage *previous;
	bool gone; /* the pump has forgotten the stage */

	/* Between callers and the pump. */
	struct stage *next_call;
	bool called;       /* is in the list of calls, or soon: atomic */
	unsigned int asks; /* atomic */

	/* Written by the pump's thread only; the first two are read by flush. */
	_Alignas(64) int64_t handed; /* frames */
	uint64_t reported;           /* notes */
	struct slab *oldest;         /* the slabs that are known, linked by next */
	struct slab *newest;
	struct stage *next_active;
	bool active;
	bool heard;  /* called since the last visit */
	bool filled;
	unsigned int asked;
	int64_t pace;       /* the linger that frame_due was set by */
	int64_t frame_due;  /* when to take everything */
	int64_t note_due;
	int64_t last_frame; /* when a look last found a frame */
	int64_t emptied;    /* when everything was last taken */
	int64_t gap;        /* from when it was the time before until the next frame came */
	struct slab *kept;  /* shared slabs that are full and handed over, the oldest first */
	struct slab **kept_end;
	bool kept_more;     /* than at the last look at them: the patience with them begins anew */
	int64_t kept_pace;  /* how long after the last look at them the next is due, and */
	int64_t kept_due;   /* when that is */
};

struct stage_pump {
	struct stage_taker taker;
	pthread_t thread;
	struct slab_table slabs;
	struct slab_pool plain;
	struct slab_pool shared;
	int64_t lent; /* slabs that the taker has: atomic */

	/* Atomic, all of it. */
	struct stage *calls;  /* those that have called */
	int64_t sleep_ns;     /* how long the pump meant to sleep when it began to */
	uint32_t sleeping;    /* 1 = the pump sleeps until this is 0 */
	bool stop;
	unsigned int waiters; /* written under lock */

	pthread_mutex_t lock;
	pthread_cond_t progress; /* others wait for the pump */
	/* Under lock. */
	struct stage *stages;
	bool ended;
	unsigned int references; /* stages, and one for stage_pump_stop */
	uint64_t created;        /* stages, ever */

	/* The pump's thread only. */
	struct stage *active;
	struct slab *orphans; /* shared slabs of stages that are gone */
	struct note notes[STAGE_NOTE_SLOTS];
};

/* A slab that a single frame has to itself. */
static inline bool slab_is_large(const struct slab *slab)
{
	return slab->size > STAGE_SLAB_BYTES;
}

static inline struct slab *slab_of(const struct slab_table *table, uint64_t word)
{
	uint32_t number = STAGE_WORD_SLAB(word);

	return number ? &table->slabs[number] : NULL;
}

/* stage_slabs_open makes a table without slabs. false: no memory. */
STAGE_HIDDEN bool stage_slabs_open(struct slab_table *table);

/* stage_slabs_close frees it, and the memory of plain slabs, which are all in it, but for what is lent. */
STAGE_HIDDEN void stage_slabs_close(struct slab_table *table);

/* stage_slab_new gives a slab without memory. NULL: there are too many. */
STAGE_HIDDEN struct slab *stage_slab_new(struct slab_table *table);

/* stage_slab_forget takes one back whose memory is gone. */
STAGE_HIDDEN void stage_slab_forget(struct slab_table *table, struct slab *slab);

/* stage_slab_push and stage_slab_pop put a slab on a stack and take one off. NULL: it is empty. */
STAGE_HIDDEN void stage_slab_push(const struct slab_table *table, struct slab_stack *stack, struct slab *slab);
STAGE_HIDDEN struct slab *stage_slab_pop(const struct slab_table *table, struct slab_stack *stack);

/* stage_slab_touch has all pages of a slab that is not large there at once, in one put instead of in the middle of many. */
STAGE_HIDDEN void stage_slab_touch(struct slab *slab);

/* stage_slab_get gives an empty slab with room for a frame of size bytes, a spare if there is one. NULL: no memory, or
 * no room for a file. */
STAGE_HIDDEN struct slab *stage_slab_get(struct slab_pool *pool, size_t size);

/* stage_slab_put takes a slab back, as a spare or for free. */
STAGE_HIDDEN void stage_slab_put(struct slab_pool *pool, struct slab *slab);

/* STAGE_LENT_STEP is how many slabs come back between two times that an idle pump looks what it need not keep. */
#define STAGE_LENT_STEP 64

/* stage_slab_refill makes spares, their pages touched, unless they are shared ones that nobody has wanted: a few, or
 * many when a writer has found none. The pump's thread. */
STAGE_HIDDEN void stage_slab_refill(struct slab_pool *pool);

/* stage_slab_trim frees all spares but keep, and has the pump see to a few only from now on. */
STAGE_HIDDEN void stage_slab_trim(struct slab_pool *pool, int64_t keep);

/* stage_slabs_idle says whether there are slabs that are not needed and have memory. */
STAGE_HIDDEN bool stage_slabs_idle(const struct slab_table *table);

/* stage_slabs_give_back gives back the memory of the plain slabs that are not needed. For the pump's thread. It costs least for
 * many at once: a mapping of which all slabs are idle is one call, and one message to the other processors. */
STAGE_HIDDEN void stage_slabs_give_back(struct slab_table *table);

/* stage_slab_surplus says whether more than STAGE_SPARES_READY spares are kept. */
STAGE_HIDDEN bool stage_slab_surplus(struct slab_pool *pool);

/* stage_slab_take_away takes the newest slab, of which nothing else is to come, out of its stage, if the word is still the
 * one that was read when that was found out. The pump's thread. */
STAGE_HIDDEN bool stage_slab_take_away(struct stage *stage, uint64_t word);

/* stage_look reads the stage's word and gets to know the slabs that have come. The pump's thread. */
STAGE_HIDDEN uint64_t stage_look(struct stage *stage);

/* stage_total says how many frames were ever admitted, if the word is still what it was. */
STAGE_HIDDEN int64_t stage_total(const struct stage *stage, uint64_t word);

/* stage_wants_shared says whether the stage's next slab is to be a shared one, if it can be had. */
STAGE_HIDDEN bool stage_wants_shared(const struct stage *stage);

/* stage_shared_open makes pool one of shared slabs in a folder, which may be NULL. */
STAGE_HIDDEN void stage_shared_open(struct slab_pool *pool, const char *folder);

/* stage_shared_close gives it up. What stays in the folder is what stage_shared_leave was told to leave. */
STAGE_HIDDEN void stage_shared_close(struct slab_pool *pool);

/* stage_shared_make makes a shared slab of so many bytes, head included, or says NULL. */
STAGE_HIDDEN struct slab *stage_shared_make(struct slab_pool *pool, size_t size);

/* stage_shared_free gives up one, and its memory. */
STAGE_HIDDEN void stage_shared_free(struct slab_pool *pool, struct slab *slab);

/* stage_shared_leave gives up one whose frames are to be found by others. */
STAGE_HIDDEN void stage_shared_leave(struct slab_pool *pool, struct slab *slab);

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

/* stage_pump_call puts the stage on the pump's list and wakes the pump if it sleeps for longer than patience (ns). */
STAGE_HIDDEN void stage_pump_call(struct stage *stage, unsigned int asks, int64_t patience);

/* stage_pump_wake wakes the pump if it sleeps. */
STAGE_HIDDEN void stage_pump_wake(struct stage_pump *pump);

/* stage_pump_run is the pump's thread, from which alone the following are called. */
STAGE_HIDDEN void *stage_pump_run(void *pump);

/* What handing out leaves behind. */
enum rest {
	REST_NONE,    /* nothing of what was there when it ended */
	REST_MORE,    /* slabs for another time */
	REST_COPYING, /* a frame whose writer is not done, and all behind it */
};

/* stage_expect notes that everything was taken, at now, the first of it having waited since then (see stage.since), and gives how
 * long after now the next frame is to be expected: as soon as one came after the last two times, at most STAGE_LATE_NS. To come a
 * linger after that, rather than a linger after now and then again, spares the pump every second wake-up in steady traffic. */
STAGE_HIDDEN int64_t stage_expect(struct stage *stage, int64_t now, int64_t since, int64_t linger);

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
