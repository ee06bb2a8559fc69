/*
 * res_kafka: common parts of the stage's files, and its constants.
 *
 *   stage.c    writers: admission, reservation, copy, notes
 *   admit.c    use of a stage's limits
 *   pump.c     the pump's thread: its schedule of stages, its sleep and its wake-ups
 *   hand.c     its work at a stage: hand over frames, report notes, find a stage empty
 *   reclaim.c  slabs of finished frames; frames for a new engine
 *   ring.c     control memory, the ring, and the presence of an engine
 *   life.c     creation and end of pumps and stages, and waits for the pump
 *   slab.c     slabs: their table, pools of spare slabs
 *   files.c    the files of slabs, and the places of slabs there
 *   pages.c    pages for slabs
 *   pool.c     opening and closing the files, release of pages
 *
 * A stage's slabs hang on its *word*. The word has the current slab, its fill level, and its number of
 * frames. A writer reserves space by an exchange of the word: for a higher fill level, or for a new slab of
 * the writer. Other checks need no lock, because the exchange fails after any change of the stage since the
 * read of the word. Each slab stores the word it replaced. The pump, the only remover of slabs, follows these
 * words back to the slabs already known.
 *
 *     word ─► current slab ─before─► slab ─before─► … ─► slab known to the pump
 *
 * Places of slabs in the pump:
 *
 *     again ──handed over──► kept        frames of a dead engine, oldest first
 *     oldest ─next─► … ─► newest         not handed over in full
 *     kept                               full and handed over, until every frame is done
 *
 * Locks, never nested: a stage's lock (its notes), its pump's lock (the list of stages, and waits for the
 * pump), the ring's lock. A put takes no lock. No lock is held during a callback.
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

/* Slabs of one stage handed out before the pump turns to the next stage: 1 MiB. */
#define STAGE_SLABS_PER_LOOK 16

/* After this time without a frame a stage is disarmed, and its next writer wakes the pump. From 20 messages a
 * second on, no writer ever wakes the pump. The same quiet of all stages trims the spare slabs. Tests set a
 * lower value. */
#ifndef STAGE_QUIET_NS
#define STAGE_QUIET_NS (50 * STAGE_MILLISECOND)
#endif

/* Idle slabs keep their pages for this time, for the next burst. With half of the permitted bytes in use they keep them
 * for STAGE_QUIET_NS. Tests set a lower value. */
#ifndef STAGE_IDLE_NS
#define STAGE_IDLE_NS STAGE_SECOND
#endif

/* Pause of the pump before its next look at a stage with a slab that the engine follows. The engine is the
 * first to take frames there, so the look finds most of them taken. The engine follows for longer than the
 * pump needs to disarm the stage (followQuiet in internal/ingest/follow.go): this pause and STAGE_QUIET_NS. */
#define STAGE_FOLLOWED_NS (60 * STAGE_MILLISECOND)

/* Largest extra linger of a frame that arrives before its predicted time, see stage_expect; for a shorter
 * linger, half of the linger. */
#define STAGE_LATE_NS (5 * STAGE_MILLISECOND / 2)

/* Delay of a note, to collect notes of its kind. */
#define STAGE_NOTE_NS (50 * STAGE_MILLISECOND)

/* Waits for an unfinished copy: the pump first spins this many times, longer than a copy of some kilobytes.
 * Then the writer has lost its processor, and the pump sleeps for this time, doubled after each look without
 * progress. */
#define STAGE_COPY_SPINS 256
#define STAGE_COPY_NS    (STAGE_MILLISECOND / 5)

/* The longest of these sleeps. */
#define STAGE_COPY_MAX_NS (20 * STAGE_MILLISECOND)

/* Largest linger, a day, so sums of times cannot overflow. */
#define STAGE_LINGER_MAX (86400 * STAGE_SECOND)

/* Interval of an idle pump's checks for finished frames in kept slabs, doubled after each check without a
 * change, up to the maximum. */
#define STAGE_KEPT_NS     (20 * STAGE_MILLISECOND)
#define STAGE_KEPT_MAX_NS (32 * STAGE_KEPT_NS)

/* Delay before the pump retries a full ring. An engine takes an entry in some microseconds, so a full ring
 * means an engine without a processor, or a hang. The delay doubles up to an engine's time for a full
 * ring. */
#define STAGE_RING_NS     STAGE_MILLISECOND
#define STAGE_RING_MAX_NS (16 * STAGE_RING_NS)

/* Longest wait of stage_destroy and stage_pump_stop for space in the ring. The remaining frames are then not
 * handed over. */
#ifndef STAGE_DRAIN_NS
#define STAGE_DRAIN_NS STAGE_SECOND
#endif

/* A stage's word. The slab is a number in the pump's table, 0 = none. The fill level counts granules. Each
 * exchange of the slab increments the epoch, and so does a thread that must invalidate earlier reads. An
 * equal word could only recur after 262,144 increments with all other parts equal. */
#define STAGE_WORD_SLAB(word)  ((uint32_t) ((word) >> 46))
#define STAGE_WORD_COUNT(word) ((uint32_t) ((word) >> 15) & 0x1fff)
#define STAGE_WORD_USED(word)  ((uint32_t) ((word) >> 1) & 0x3fff)
#define STAGE_WORD_SHUT        UINT64_C(1)
#define STAGE_WORD_FULL        0x3fffu /* used, of a slab with a single large frame */

static inline uint64_t stage_word(uint32_t slab, uint32_t count, uint32_t used, uint64_t before, bool anew)
{
	return (uint64_t) slab << 46 | (((before >> 28) + anew) & 0x3ffff) << 28 | (uint64_t) count << 15
		| (uint64_t) used << 1 | (before & STAGE_WORD_SHUT);
}

struct note {
	uint64_t count;
	char text[STAGE_NOTE_TEXT];
};

/* Flags shared by a stage and its pump, so no event is lost: a writer sets a flag and then calls the pump,
 * unless the flag was already set. */
enum {
	STAGE_ARMED = 1,  /* the pump looks at this stage again, no later than linger after a put */
	STAGE_FILLED = 2, /* a slab is full, the pump comes at once */
	STAGE_NOTED = 4,  /* there are notes, the pump comes within STAGE_NOTE_NS */
};

/* Other requests to the pump. */
enum {
	STAGE_ASK_NOW = 1,   /* look at once, in spite of the linger: a flush */
	STAGE_ASK_LEAVE = 2, /* take everything and forget the stage */
};

struct stage {
	/* Atomic: the fields changed by every put, in one cache line. */
	uint64_t word;
	uint64_t put_frames;  /* ever counted against the limits, minus frames refused in the end, */
	uint64_t put_charge;  /* and the charge of these frames */
	uint64_t seen_frames; /* frames done at a writer's last look: the difference is an upper bound of frames in use, */
	uint64_t seen_charge; /* so a writer reads the engine's line of the gate only near a limit */
	uint64_t complete;    /* frames finished by their writers */
	int64_t before;       /* frames admitted before now, while the word names no slab */
	int64_t unshared;     /* see struct resk_gate */

	/* Atomic: fields only read by puts. */
	_Alignas(64) int64_t linger; /* shortest linger known to the pump's schedule */
	int64_t since;               /* start of the wait, or earlier; 0 = no frame waits, STAGE_LONG_AGO = wait over */
	unsigned int flags;
	/* Constant. */
	uint32_t number; /* of the gate */
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
	struct slab *again;          /* slabs for a new engine, linked by next like all lists of slabs */
	struct slab *oldest;         /* the known slabs */
	struct slab *newest;
	const struct slab *shown;    /* the slab of the last entry; NULL = no entry for this engine yet */
	struct slab *kept;
	struct slab **kept_end;
	int64_t done_frames;         /* of slabs no longer in the stage, */
	int64_t done_charge;         /* and their charge */
	struct stage *next_active;
	bool active;
	bool heard;  /* called since the last visit */
	bool filled; /* something is to be handed over at once */
	unsigned int asked;
	int64_t pace;       /* linger at the computation of frame_due */
	int64_t frame_due;  /* when to take everything */
	int64_t note_due;
	int64_t last_frame; /* when a look last found a frame */
	int64_t emptied;    /* when everything was last taken */
	int64_t gap;        /* from the previous prediction to the next frame */
	int64_t copying;    /* the pump's wait for an unfinished copy */
	bool kept_more;     /* more than at the last check: the interval starts again */
	int64_t kept_pace;  /* interval from the last check to the next, and */
	int64_t kept_due;   /* time of the next check */
};

/* The module's side of the ring, and the engine's state. */
struct ring {
	struct resk_control *control;
	uint64_t usual_bytes; /* see struct resk_head */
	int wake;             /* the eventfd */

	pthread_mutex_t lock;
	/* Under lock. */
	uint64_t put;   /* entries; control memory has a copy */
	uint64_t epoch; /* lost engines */
	bool open;      /* an engine is attached: atomic */
	bool fresh;     /* a new engine waits for stage_pump_attach: atomic */

	/* The pump's thread only. */
	int64_t retry; /* before this time the ring is taken to be full, */
	int64_t pause; /* for this time; 0 = not blocked */
};

struct stage_pump {
	stage_note_cb note;
	stage_again_cb again; /* NULL = no observer of repeated hand-overs */
	pthread_t thread;
	struct slab_table slabs;
	struct slab_pool plain;
	struct slab_pool shared;
	struct ring ring;

	/* Atomic. */
	struct stage *calls;  /* stages with a call */
	int64_t sleep_ns;     /* planned length of the pump's sleep */
	uint32_t sleeping;    /* 1 = the pump sleeps until this is 0 */
	bool stop;
	unsigned int waiters; /* written under lock */

	pthread_mutex_t lock;
	pthread_cond_t progress; /* for threads that wait for the pump */
	/* Under lock. */
	struct stage *stages;
	bool ended;
	unsigned int references; /* stages, plus one for stage_pump_stop */
	uint32_t created;        /* stages, ever */

	/* The pump's thread only. */
	struct stage *active;
	struct slab *orphans; /* slabs of destroyed stages */
	int64_t given_back;   /* time of the last release of pages */
	bool more_back;       /* the next release is soon */
	int64_t period;       /* begin of the period in which idle slabs are needed or not */
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

/* stage_slab_take_away detaches the newest slab from its stage and closes the slab. All of its frames must
 * have been taken. false: the word has changed since the read. The pump's thread. */
STAGE_HIDDEN bool stage_slab_take_away(struct stage *stage, uint64_t word);

/* stage_look reads the stage's word and registers new slabs. The pump's thread. */
STAGE_HIDDEN uint64_t stage_look(struct stage *stage);

/* stage_is_ready reports whether the frame at byte `at` of a slab is complete, and spins for a moment for an
 * unfinished frame. The engine may have cleared the frame's bit; the frame then counts as complete once no
 * put is running. */
STAGE_HIDDEN bool stage_is_ready(const struct stage *stage, const struct slab *slab, size_t at);

/* stage_total returns the number of frames ever admitted, if the word is unchanged. */
STAGE_HIDDEN int64_t stage_total(const struct stage *stage, uint64_t word);

/* stage_count adds a frame with its charge to the frames and the charge in use, within both limits. No limit
 * is ever exceeded: the engine only frees space meanwhile. Any thread. */
STAGE_HIDDEN enum stage_result stage_count(struct stage *stage, uint32_t weight, bool memory_only);

/* stage_uncount reverts stage_count. */
STAGE_HIDDEN void stage_uncount(struct stage *stage, uint32_t weight);

/* reclaim.c: the pump's thread. */

/* stage_keep appends a full, handed-over slab to the kept slabs. */
STAGE_HIDDEN void stage_keep(struct stage *stage, struct slab *slab);

/* stage_reclaim makes the finished slabs of a stage spare. Returns the time of the next check of the
 * others. */
STAGE_HIDDEN int64_t stage_reclaim(struct stage_pump *pump, struct stage *stage, int64_t now);

/* stage_rewind marks every unfinished frame of a stage as not handed over, and sets the gate's counts of done
 * frames from the frames' states. */
STAGE_HIDDEN void stage_rewind(struct stage_pump *pump, struct stage *stage);

/* stage_orphan passes the slabs of a stage to its pump during the stage's destruction. */
STAGE_HIDDEN void stage_orphan(struct stage_pump *pump, struct stage *stage);

/* stage_reclaim_orphans makes finished orphans spare. */
STAGE_HIDDEN void stage_reclaim_orphans(struct stage_pump *pump);

/* ring.c */

/* stage_ring_open makes the pump's side of the ring in control memory. */
STAGE_HIDDEN void stage_ring_open(struct ring *ring, const struct stage_memory *memory);

/* stage_ring_ready reports whether there is an engine and the ring is not known to be full. The pump's
 * thread, as the following. */
STAGE_HIDDEN bool stage_ring_ready(const struct ring *ring, int64_t now);

/* stage_ring_put puts a range of frames of a slab into the ring and wakes a sleeping engine. false: no
 * engine, or no space. */
STAGE_HIDDEN bool stage_ring_put(struct ring *ring, uint32_t id, const struct slab *slab, size_t start, size_t length);

/* stage_pump_attach rewinds all stages and opens the ring for a new engine. */
STAGE_HIDDEN void stage_pump_attach(struct stage_pump *pump);

/* stage_mutex_init makes a mutex that spins before it sleeps: all our mutexes are held for a few
 * instructions, but a holder may lose its processor. */
STAGE_HIDDEN void stage_mutex_init(pthread_mutex_t *mutex);

/* stage_pump_call puts the stage on the pump's list and wakes a pump that sleeps for longer than patience
 * (ns). */
STAGE_HIDDEN void stage_pump_call(struct stage *stage, unsigned int asks, int64_t patience);

/* stage_pump_wake wakes a sleeping pump. */
STAGE_HIDDEN void stage_pump_wake(struct stage_pump *pump);

/* stage_pump_run is the pump's thread, from which alone the following are called. */
STAGE_HIDDEN void *stage_pump_run(void *pump);

/* stage_is_followed reports whether the engine takes further frames of the slab that is being filled by
 * itself. The pump's thread. */
STAGE_HIDDEN bool stage_is_followed(const struct stage *stage);

/* Rest after a hand-out. */
enum rest {
	REST_NONE,    /* none at the end */
	REST_MORE,    /* slabs for another time */
	REST_COPYING, /* an unfinished frame, and all later frames */
	REST_BLOCKED, /* frames without space in the ring, or without an engine */
};

/* stage_expect notes that all frames were taken at now, after the first had waited since the time since (see
 * stage.since). It returns the expected delay until the next frame: the shorter of the last two delays, at
 * most STAGE_LATE_NS. The pump then comes a linger after the expected frame. A visit a linger after now, and
 * another after the next frame, would double the wake-ups in steady traffic. */
STAGE_HIDDEN int64_t stage_expect(struct stage *stage, int64_t now, int64_t since, int64_t linger);

/* stage_hand_out hands over the stage's frames, slab by slab; only full slabs unless all. */
STAGE_HIDDEN enum rest stage_hand_out(struct stage_pump *pump, struct stage *stage, bool all);

/* stage_disarm gives up looking at a stage of which everything was taken. false: something has come. */
STAGE_HIDDEN bool stage_disarm(struct stage *stage);

/* stage_report hands over the stage's notes. */
STAGE_HIDDEN void stage_report(struct stage_pump *pump, struct stage *stage);

/* stage_drain hands over all frames and notes of a closed stage. Frames without space in the ring by `until`
 * stay. */
STAGE_HIDDEN void stage_drain(struct stage_pump *pump, struct stage *stage, int64_t until);

/* stage_activate has the pump visit the stage. The pump's thread. */
STAGE_HIDDEN void stage_activate(struct stage_pump *pump, struct stage *stage);

/* stage_linger reads the stage's linger, clamped to its range. */
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
