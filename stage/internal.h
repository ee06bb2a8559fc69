/*
 * res_kafka: what the files of the stage share, and its numbers.
 *
 *   stage.c    writers: admission, reservation, copy, notes
 *   admit.c    what is held of a stage's limits
 *   pump.c     the pump's thread: when it looks at which stage, how it sleeps and is called
 *   hand.c     what it does there: hand over frames, report notes, find a stage empty
 *   reclaim.c  slabs whose frames are done; what a new engine has to get again
 *   ring.c     control memory, the ring, and whether there is an engine
 *   life.c     creation and end of pumps and stages, and waiting for the pump
 *   slab.c     slabs: their table, pools of spare ones
 *   files.c    the files that they lie in, memory for slabs
 *   pool.c     opening and closing those files, pages that are given back
 *
 * A stage's slabs hang on its *word*, which says which slab is being filled, how far, and how many frames
 * are in it. A writer reserves by exchanging the word for one that says so much more, or that names a slab
 * it has brought along. What else it finds out before, it need not lock: the exchange fails when anything
 * has happened to the stage since it read the word. Each slab keeps the word that it took the place of, so
 * that the pump, which alone takes slabs away, finds its way back to the slab that it knows already.
 *
 *     word ─► slab being filled ─before─► slab ─before─► … ─► what the pump knows
 *
 * Where the pump finds a slab:
 *
 *     again ──handed over──► kept        frames of an engine that died, oldest first
 *     oldest ─next─► … ─► newest         not handed over in full
 *     kept                               full and handed over, until every frame is done
 *
 * Locks, never one inside another: a stage's lock (its notes), its pump's lock (the list of stages, and
 * who waits for the pump), the ring's lock. A put takes none. No lock is held while a callback runs.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_STAGE_INTERNAL_H
#define RES_KAFKA_STAGE_INTERNAL_H

#include <pthread.h>
#include <time.h>

#include "slab.h"

#define STAGE_MILLISECOND INT64_C(1000000)
#define STAGE_SECOND      (1000 * STAGE_MILLISECOND)
#define STAGE_NEVER       INT64_MAX
#define STAGE_LONG_AGO    (-STAGE_NEVER / 2)

/* Slabs of one stage that the pump hands out before it turns to the next stage: 1 MiB. */
#define STAGE_SLABS_PER_LOOK 16

/* Without a frame for this long a stage is disarmed and its next writer wakes the pump: from 20 messages a
 * second on no writer ever does. The same quiet of all stages trims the spares. Tests set it lower. */
#ifndef STAGE_QUIET_NS
#define STAGE_QUIET_NS (50 * STAGE_MILLISECOND)
#endif

/* The most that a frame lingers too long because the pump expected it later, see stage_expect; half of a
 * shorter linger. */
#define STAGE_LATE_NS (5 * STAGE_MILLISECOND / 2)

/* How long a note waits for more of its kind. */
#define STAGE_NOTE_NS (50 * STAGE_MILLISECOND)

/* A frame that is still being copied: the pump first spins this many times, longer than a copy of some
 * kilobytes takes. Then the writer has lost its processor, and the pump sleeps this long, and twice as
 * long each time without progress. */
#define STAGE_COPY_SPINS 256
#define STAGE_COPY_NS    (STAGE_MILLISECOND / 5)

/* The longest of these sleeps. */
#define STAGE_COPY_MAX_NS (20 * STAGE_MILLISECOND)

/* A longer linger is taken for this one, a day, so that sums of times cannot overflow. */
#define STAGE_LINGER_MAX (86400 * STAGE_SECOND)

/* Slabs that were handed over and wait for their frames to be done keep an idle pump coming after this
 * time, after twice of it when nothing has changed, and so on up to the longest. */
#define STAGE_KEPT_NS     (20 * STAGE_MILLISECOND)
#define STAGE_KEPT_MAX_NS (32 * STAGE_KEPT_NS)

/* How soon the pump tries again when the ring is full. An engine takes an entry in some microseconds, so
 * this one has no processor or hangs. The pause doubles up to the time that an engine needs for a full
 * ring. */
#define STAGE_RING_NS     STAGE_MILLISECOND
#define STAGE_RING_MAX_NS (16 * STAGE_RING_NS)

/* How long stage_destroy and stage_pump_stop wait for room in the ring. After that the remaining frames
 * are not handed over. */
#ifndef STAGE_DRAIN_NS
#define STAGE_DRAIN_NS STAGE_SECOND
#endif

/* A stage's word. A slab is named by its number in its pump's table, 0 = none; how far it is filled is
 * counted in granules. Whoever exchanges the slab, or wants to know that nobody goes on with what it read
 * before, adds one to the epoch: a word that comes again would have to come after 262,144 of those, with
 * all else the same. */
#define STAGE_WORD_SLAB(word)  ((uint32_t) ((word) >> 46))
#define STAGE_WORD_COUNT(word) ((uint32_t) ((word) >> 15) & 0x1fff)
#define STAGE_WORD_USED(word)  ((uint32_t) ((word) >> 1) & 0x3fff)
#define STAGE_WORD_SHUT        UINT64_C(1)
#define STAGE_WORD_FULL        0x3fffu /* used, of a slab that a single frame has to itself */

static inline uint64_t stage_word(uint32_t slab, uint32_t count, uint32_t used, uint64_t before, bool anew)
{
	return (uint64_t) slab << 46 | (((before >> 28) + anew) & 0x3ffff) << 28 | (uint64_t) count << 15
		| (uint64_t) used << 1 | (before & STAGE_WORD_SHUT);
}

struct note {
	uint64_t count;
	char text[STAGE_NOTE_TEXT];
};

/* What a stage and its pump have agreed on, so that none of it can be missed: a writer sets a flag and
 * then calls the pump, and whoever finds it set already need not. */
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
	/* Atomic, all of it: what every put changes, in one cache line. */
	uint64_t word;
	uint64_t put_frames;  /* ever counted against the limits, less those that were refused in the end, */
	uint64_t put_charge;  /* and their charge */
	uint64_t seen_frames; /* what the engine had done when a writer last looked: what is held is no more than the difference, */
	uint64_t seen_charge; /* so that a writer looks at the engine's line of the gate only near a limit */
	uint64_t complete;    /* frames that their writers are done with */
	int64_t before;       /* frames admitted before now, while the word names no slab */
	int64_t unshared;     /* see struct resk_gate */

	/* Atomic, all of it; what every put only reads. */
	_Alignas(64) int64_t linger; /* the shortest linger that the pump's next look goes by */
	int64_t since;               /* what waits has done so since then, or not as long; 0 = nothing waits, STAGE_LONG_AGO =
	                              * it is not to wait any longer */
	unsigned int flags;
	/* Constant. */
	uint32_t number; /* of its gate */
	struct resk_gate *gate;
	struct stage_pump *pump;
	void *owner;
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
	bool held;         /* nothing is handed over: atomic */

	/* Written by the pump's thread only; the first two are read by flush. */
	_Alignas(64) int64_t handed; /* frames */
	uint64_t reported;           /* notes */
	struct slab *again;          /* what a new engine has to get again, linked by next as all lists of slabs */
	struct slab *oldest;         /* the slabs that are known */
	struct slab *newest;
	struct slab *kept;
	struct slab **kept_end;
	int64_t done_frames;         /* of slabs that the stage has given up, */
	int64_t done_charge;         /* and their charge */
	struct stage *next_active;
	bool active;
	bool heard;  /* called since the last visit */
	bool filled; /* something is to be handed over at once */
	unsigned int asked;
	int64_t pace;       /* the linger that frame_due was set by */
	int64_t frame_due;  /* when to take everything */
	int64_t note_due;
	int64_t last_frame; /* when a look last found a frame */
	int64_t emptied;    /* when everything was last taken */
	int64_t gap;        /* from when it was the time before until the next frame came */
	int64_t copying;    /* how long the pump waits for the frame that is being copied */
	bool kept_more;     /* than at the last look at them: the patience with them begins anew */
	int64_t kept_pace;  /* how long after the last look at them the next is due, and */
	int64_t kept_due;   /* when that is */
};

/* The module's side of the ring, and the engine's state. */
struct ring {
	struct resk_control *control;
	uint64_t usual_bytes; /* see struct resk_head */
	int wake;             /* the eventfd */

	pthread_mutex_t lock;
	/* Under lock. */
	uint64_t put;   /* entries; control memory has a copy */
	uint64_t epoch; /* engines that were lost */
	bool open;      /* an engine is attached: atomic */
	bool fresh;     /* a new engine waits for stage_pump_attach: atomic */

	/* The pump's thread only. */
	int64_t retry; /* before this time the ring is taken to be full, */
	int64_t pause; /* for so long; 0 = it was not */
};

struct stage_pump {
	stage_note_cb note;
	stage_again_cb again; /* NULL = nobody wants to see what is handed over again */
	pthread_t thread;
	struct slab_table slabs;
	struct slab_pool plain;
	struct slab_pool shared;
	struct ring ring;

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
	uint32_t created;        /* stages, ever */

	/* The pump's thread only. */
	struct stage *active;
	struct slab *orphans; /* slabs of stages that are gone */
	struct note notes[STAGE_NOTE_SLOTS];
};

static inline struct slab *slab_of(const struct slab_table *table, uint64_t word)
{
	uint32_t number = STAGE_WORD_SLAB(word);

	return number ? &table->slabs[number] : NULL;
}

static inline struct slab_pool *pool_of(struct stage_pump *pump, const struct slab *slab)
{
	return slab->shared ? &pump->shared : &pump->plain;
}

/* stage_slab_take_away detaches the newest slab from its stage and closes it. All of it must have been
 * taken. false: the word has changed since it was read. The pump's thread. */
STAGE_HIDDEN bool stage_slab_take_away(struct stage *stage, uint64_t word);

/* stage_look reads the stage's word and gets to know the slabs that have come. The pump's thread. */
STAGE_HIDDEN uint64_t stage_look(struct stage *stage);

/* stage_is_ready reports whether the frame at byte `at` of a slab is complete, and spins for a moment if it is not. The
 * engine may have cleared the frame's bit; then the frame counts as complete once no put is under way. */
STAGE_HIDDEN bool stage_is_ready(const struct stage *stage, const struct slab *slab, size_t at);

/* stage_total returns how many frames were ever admitted, if the word is still what it was. */
STAGE_HIDDEN int64_t stage_total(const struct stage *stage, uint64_t word);

/* stage_wants_shared reports whether the stage's next slab is to be a durable one, if it can be had. */
STAGE_HIDDEN bool stage_wants_shared(const struct stage *stage);

/* stage_count adds a frame of that charge to the held frames and charge if the limits allow both. No limit
 * is ever exceeded: the engine only makes room meanwhile. Any thread. */
STAGE_HIDDEN enum stage_result stage_count(struct stage *stage, uint32_t weight, bool memory_only);

/* stage_uncount reverts stage_count. */
STAGE_HIDDEN void stage_uncount(struct stage *stage, uint32_t weight);

/* reclaim.c: the pump's thread. */

/* stage_keep appends a slab that is full and handed over to the kept ones. */
STAGE_HIDDEN void stage_keep(struct stage *stage, struct slab *slab);

/* stage_reclaim makes the done slabs of a stage spares. Returns when to check the others. */
STAGE_HIDDEN int64_t stage_reclaim(struct stage_pump *pump, struct stage *stage, int64_t now);

/* stage_rewind marks every frame of a stage that is not done as not handed over, and sets the gate's
 * counts of done frames from the frames' states. */
STAGE_HIDDEN void stage_rewind(struct stage_pump *pump, struct stage *stage);

/* stage_orphan passes the slabs of a stage that is being destroyed to its pump. */
STAGE_HIDDEN void stage_orphan(struct stage_pump *pump, struct stage *stage);

/* stage_reclaim_orphans makes the done ones spares. */
STAGE_HIDDEN void stage_reclaim_orphans(struct stage_pump *pump);

/* ring.c */

/* stage_ring_open makes the pump's side of the ring in control memory. */
STAGE_HIDDEN void stage_ring_open(struct ring *ring, const struct stage_memory *memory);

/* stage_ring_ready reports whether there is an engine and the ring is not known to be full. The pump's
 * thread, as the following. */
STAGE_HIDDEN bool stage_ring_ready(const struct ring *ring, int64_t now);

/* stage_ring_put puts a range of frames of a slab into the ring and wakes the engine if it sleeps. false:
 * there is no engine, or no room. */
STAGE_HIDDEN bool stage_ring_put(struct ring *ring, uint32_t id, const struct slab *slab, size_t start, size_t length);

/* stage_pump_attach rewinds all stages and opens the ring for a new engine. */
STAGE_HIDDEN void stage_pump_attach(struct stage_pump *pump);

/* stage_mutex_init makes a mutex that spins for a moment before it sleeps: all of ours are held for a few
 * instructions, but a holder may lose its processor. */
STAGE_HIDDEN void stage_mutex_init(pthread_mutex_t *mutex);

/* stage_pump_call puts the stage on the pump's list and wakes the pump if it sleeps for longer than
 * patience (ns). */
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
	REST_BLOCKED, /* what the ring has no room for, or no engine is there for */
};

/* stage_expect notes that everything was taken, at now, the first of it having waited since then (see
 * stage.since), and gives how long after now the next frame is to be expected: as soon as one came after
 * the last two times, at most STAGE_LATE_NS. To come a linger after that, rather than a linger after now
 * and then again, spares the pump every second wake-up in steady traffic. */
STAGE_HIDDEN int64_t stage_expect(struct stage *stage, int64_t now, int64_t since, int64_t linger);

/* stage_hand_out hands over what the stage holds, slab by slab; only full slabs unless all. */
STAGE_HIDDEN enum rest stage_hand_out(struct stage_pump *pump, struct stage *stage, bool all);

/* stage_disarm gives up looking at a stage of which everything was taken. false: something has come. */
STAGE_HIDDEN bool stage_disarm(struct stage *stage);

/* stage_report hands over the stage's notes. */
STAGE_HIDDEN void stage_report(struct stage_pump *pump, struct stage *stage);

/* stage_drain hands over all frames and notes of a stage that is closed. Frames for which the ring has no
 * room by `until` stay. */
STAGE_HIDDEN void stage_drain(struct stage_pump *pump, struct stage *stage, int64_t until);

/* stage_activate has the pump visit the stage. The pump's thread. */
STAGE_HIDDEN void stage_activate(struct stage_pump *pump, struct stage *stage);

/* stage_linger reads the stage's linger, forced into its range. */
static inline int64_t stage_linger(const struct stage *stage)
{
	int64_t linger = __atomic_load_n(&stage->gate->linger_ns, __ATOMIC_RELAXED);

	return linger < 0 ? 0 : linger > STAGE_LINGER_MAX ? STAGE_LINGER_MAX : linger;
}

static inline int64_t stage_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * STAGE_SECOND + now.tv_nsec;
}

#endif /* RES_KAFKA_STAGE_INTERNAL_H */
