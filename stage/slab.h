/*
 * res_kafka: slabs, and pools of slabs.
 *
 * A slab's description is in the module's own memory (struct slab); the slab lies in a file mapped by the
 * engine too. The files belong to two pools: the plain pool has a memfd, the durable pool the staging folder.
 * Slabs of the usual size are contiguous in one file of their pool, which is mapped once. A larger slab has a
 * single frame:
 *
 *   pool      usual slabs                          larger slabs
 *   plain     memfd, below usual_bytes             memfd above that, at places of 128 KiB, 256 KiB, ..., each with its own mapping
 *   durable   STAGE_SLABS_FILE of the folder       a file each
 *
 * Pages are allocated before a slab's use, so full memory is a refusal and not SIGBUS.
 *
 *     place without pages ──allocate──► spare ──put──► in a stage ──all frames done──► spare
 *            ▲                            │ surplus
 *            └────punch a hole──── idle ◄─┘
 *
 * Stacks of slabs are lock-free. Descriptions of slabs are never freed: a late reader gets an old value at
 * worst, and its exchange fails.
 *
 * The engine can write to a slab's memory, so every value from there is checked: see stage_frame_size.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_STAGE_SLAB_H
#define RES_KAFKA_STAGE_SLAB_H

#include <stdbool.h>

#include "stage.h"

#define STAGE_HIDDEN __attribute__((visibility("hidden")))

/* Tests end the process or stop the thread here: between instructions with different results for another
 * writer, or for a reader of a killed process's files. writer: the thread is in the middle of a put. */
#ifdef STAGE_STEPS
void stage_step(bool writer);
#define STAGE_STEP(writer) stage_step(writer)
#else
#define STAGE_STEP(writer) ((void) 0)
#endif

/* Minimum of spare slabs in the pump: two, so two stages can wake up at the same time. */
#define STAGE_SPARES_READY 2

/* Spare slabs after the pump has fallen behind, so writers need not allocate pages. A writer at full speed
 * fills half as many during the hand-over of a slab. */
#define STAGE_SPARES_BUSY 16

/* Limit of plain spare slabs under load, 4 MiB. A writer at full speed fills a slab in some 15 us. The spares
 * last for the pump's wait for a processor, about a millisecond. */
#define STAGE_SPARES_MAX 64

/* Bytes released at a time, about a millisecond of work. */
#define STAGE_GIVE_BACK ((size_t) 8 * 1024 * 1024)

/* Places of larger plain slabs come in sizes of 2 to 2^17 usual slabs, 128 KiB to 8 GiB. */
#define STAGE_SIZES 17

/* Pause after a failed allocation. Tests set a lower value. */
#ifndef STAGE_RETRY_NS
#define STAGE_RETRY_NS INT64_C(1000000000)
#endif

/* Slab numbers of a pump: one for each slab within the limit, one for each durable slab, and as many again
 * for places of larger slabs without pages. A word has 18 bits for a number. */
#define STAGE_SLAB_NUMBERS(bytes) (2 * ((bytes) + STAGE_SHARED_MAX) / STAGE_SLAB_BYTES + 1)

#define STAGE_SLAB_ROOM (STAGE_SLAB_BYTES - sizeof(struct stage_slab))

struct slab {
	/* Written by the thread that adds the slab to a stage, before the addition. Marked fields are atomic,
	 * because other threads may read them late. */
	struct stage_slab *head;
	unsigned char *frames;
	size_t size;     /* of the place, bytes */
	size_t backed;   /* part of size with pages, bytes */
	uint64_t file;   /* offset in the file; of a larger durable slab the number of its file */
	uint64_t before; /* the replaced word */
	int64_t base;    /* frames admitted to the stage before this slab: atomic */
	size_t only;     /* of a larger slab: bytes of its frame */
	uint32_t below;  /* in a stack: number of the next slab, 0 = none: atomic */
	bool shared;     /* a durable slab */
	bool fallback;   /* a plain slab in place of a durable slab */

	/* The pump's thread only. */
	_Alignas(64) struct slab *next;
	size_t ready;        /* bytes of frames known to be complete, from the beginning */
	size_t taken;        /* of these, bytes handed to the engine, or done already */
	size_t done;         /* bytes of frames known to be done, from the beginning */
	size_t end;          /* once closed: bytes of frames */
	int64_t count;       /* frames in `taken` */
	int64_t done_count;  /* frames in `done`, and */
	int64_t done_charge; /* charge of the done frames */
	int64_t total;       /* once closed: frames */
	bool closed;         /* no further frames */
};

/* A stack of slabs: the number of the topmost slab in the lower half, a count of pops in the upper half
 * against the ABA problem. */
struct slab_stack {
	_Alignas(64) uint64_t top;
};

/* Surplus slabs with pages. */
struct slab_idle {
	struct slab_stack slabs;
	int64_t count;   /* or a little off: atomic */
	int64_t least;   /* minimum in this period: atomic */
	int64_t surplus; /* not needed in the previous period: the pump's thread only */
};

/* All slabs of a pump. */
struct slab_table {
	struct slab *slabs;     /* by number */
	uint32_t numbers;       /* size of the table: constant */
	uint32_t made;          /* numbers ever used, including 0: atomic */
	struct slab_stack free; /* without a place */
	size_t bytes;           /* with pages, of all pools: atomic */
	size_t most;            /* there may be: constant */
};

/* A pool. */
struct slab_pool {
	struct slab_table *table;
	struct slab_stack spare;
	struct slab_stack bare; /* with a place in the file of usual slabs and no pages */
	struct slab_idle idle;

	/* Larger plain slabs, by the size of their places: idle slabs are mapped and have pages, bare slabs are
	 * unmapped and have none. */
	struct slab_idle idle_large[STAGE_SIZES];
	struct slab_stack bare_large[STAGE_SIZES];
	uint64_t end; /* of the places of larger plain slabs: atomic */

	int64_t count;  /* number of spare slabs, approximate: atomic, like the fields below */
	int64_t missed; /* number of requests without a spare slab */
	bool wanted;    /* a stage has requested a slab; durable slabs only */
	size_t bytes;   /* with pages */
	uint64_t files; /* of larger durable slabs, ever made */
	uint64_t begun; /* places ever used in the file of usual slabs */
	int64_t retry;  /* before this time none is made */
	unsigned int inside; /* threads with the kernel's lock of the file of usual slabs, or in wait for the lock */

	/* The pump's thread only. */
	int64_t target;   /* spares the pump makes */
	uint64_t *places; /* bits, for stage_pool_give_back */

	/* Constant. */
	bool shared;
	int folder;            /* a descriptor, -1 = none */
	int file;              /* of usual slabs, -1 = none, mapped at */
	unsigned char *memory;
	uint64_t regions;      /* places for usual slabs in the file */
	bool sized;            /* the size of the file includes all of these places */
	size_t most;           /* bytes with pages there may be */
	bool left;             /* frames stay in the file after the pump's end; the pump's thread */
};

/* slab_is_large reports whether the slab is for a single large frame. */
static inline bool slab_is_large(const struct slab *slab)
{
	return slab->size > STAGE_SLAB_BYTES;
}

/* stage_slabs_open makes a table without slabs, for the limit of bytes. false: no memory. */
STAGE_HIDDEN bool stage_slabs_open(struct slab_table *table, size_t most);

/* stage_slabs_close frees the table. The pools must be closed. */
STAGE_HIDDEN void stage_slabs_close(struct slab_table *table);

/* stage_slab_new returns a slab without a place. NULL: there are too many. */
STAGE_HIDDEN struct slab *stage_slab_new(struct slab_table *table);

/* stage_slab_push puts a slab on a stack. stage_slab_pop removes a slab. NULL: the stack is empty. */
STAGE_HIDDEN void stage_slab_push(const struct slab_table *table, struct slab_stack *stack, struct slab *slab);
STAGE_HIDDEN struct slab *stage_slab_pop(const struct slab_table *table, struct slab_stack *stack);

/* stage_slab_get returns an empty slab for a frame of size bytes, a spare slab if possible. NULL: no memory,
 * or a limit is reached. Any thread. */
STAGE_HIDDEN struct slab *stage_slab_get(struct slab_pool *pool, size_t size);

/* stage_slab_put returns a slab to the pool, as spare or idle. Any thread. */
STAGE_HIDDEN void stage_slab_put(struct slab_pool *pool, struct slab *slab);

/* stage_slab_refill makes spare slabs: a few, or many after a writer has found none. It makes no durable
 * spares before a stage's first request. The pump's thread. */
STAGE_HIDDEN void stage_slab_refill(struct slab_pool *pool);

/* stage_slab_trim makes all spare slabs idle except keep, and resets the number of spares to a few. */
STAGE_HIDDEN void stage_slab_trim(struct slab_pool *pool, int64_t keep);

/* stage_slab_surplus reports whether there are more than STAGE_SPARES_READY spares. */
STAGE_HIDDEN bool stage_slab_surplus(const struct slab_pool *pool);

/* stage_frame_size returns the size of the frame at byte `at` of a slab's frames, which end at byte `end`. It
 * returns 0 for an impossible size, written by the engine: the bytes up to `end` are then unreadable. */
static inline size_t stage_frame_size(const struct slab *slab, size_t at, size_t end)
{
	size_t size = __atomic_load_n(&((const struct stage_frame *) (slab->frames + at))->size, __ATOMIC_RELAXED);

	return size < sizeof(struct stage_frame) || size % STAGE_GRANULE || size > end - at ? 0 : size;
}

/* stage_slab_is_done reports whether every frame handed over from a slab is done, and counts the done frames.
 * Atomic reads of the slab's memory only. The pump's thread. */
STAGE_HIDDEN bool stage_slab_is_done(struct slab *slab);

/* pages.c: the pages of slabs. Any thread. */

/* stage_file_may_reach reports whether RLIMIT_FSIZE allows a file of this size. Growth beyond the limit would
 * end the process by SIGXFSZ. Sets errno. */
STAGE_HIDDEN bool stage_file_may_reach(uint64_t end);

/* stage_pool_back allocates and maps the pages of a usual slab. false: no memory, or a limit is reached. It waits for the
 * lock of the file only if MADV_POPULATE_WRITE fails. */
STAGE_HIDDEN bool stage_pool_back(struct slab_pool *pool, struct slab *slab);

/* stage_pool_back_large allocates the pages of the first size bytes of a larger slab, which begins at byte `at` of the
 * file. It maps the pages of a plain slab, which has its mapping already. false: as above. */
STAGE_HIDDEN bool stage_pool_back_large(struct slab_pool *pool, int file, uint64_t at, struct slab *slab, size_t size);

/* stage_slab_populate maps the pages of a larger slab in one call, where the kernel can. Otherwise page faults map page
 * by page. */
STAGE_HIDDEN void stage_slab_populate(struct slab *slab);

/* stage_pool_punch releases the pages of a part of the file of usual slabs. */
STAGE_HIDDEN void stage_pool_punch(struct slab_pool *pool, uint64_t at, size_t size);

/* stage_pool_unbook counts size bytes of pages less. */
STAGE_HIDDEN void stage_pool_unbook(struct slab_pool *pool, size_t size);

/* stage_pool_failed starts a pause in which the pool makes no slab. */
STAGE_HIDDEN void stage_pool_failed(struct slab_pool *pool);

/* files.c: the memory of slabs. Any thread. */

/* stage_file_map maps a part of a file, with or without pages, at the address `wish` if that is free. A forked
 * child does not inherit the mapping, and cannot write into the stage. NULL: the mapping failed. */
STAGE_HIDDEN void *stage_file_map(int file, uint64_t at, size_t size, void *wish);

/* stage_slab_pop_idle takes an idle slab. NULL: there is none. */
STAGE_HIDDEN struct slab *stage_slab_pop_idle(struct slab_pool *pool, struct slab_idle *idle);

/* stage_slab_unplace takes the pages and the mapping of a larger plain slab. */
STAGE_HIDDEN void stage_slab_unplace(struct slab_pool *pool, struct slab *slab);

/* stage_slab_make returns a slab of at least size bytes, including the head, with pages. The head is not
 * written yet. NULL: failed. Any thread. */
STAGE_HIDDEN struct slab *stage_slab_make(struct slab_pool *pool, size_t size);

/* stage_slab_discard makes an unneeded slab idle, or frees its file. Any thread. */
STAGE_HIDDEN void stage_slab_discard(struct slab_pool *pool, struct slab *slab);

/* stage_slab_leave drops a durable slab and keeps its file, for the next process to find the frames. */
STAGE_HIDDEN void stage_slab_leave(struct slab_pool *pool, struct slab *slab);

/* pool.c: the files. The pump's thread, or before its start and after its end. */

/* stage_pool_open_plain opens the pool of plain slabs, in an empty memfd. false: the mapping failed. */
STAGE_HIDDEN bool stage_pool_open_plain(struct slab_pool *pool, int file);

/* stage_pool_open_durable opens the pool of durable slabs, in a folder, which may be NULL. */
STAGE_HIDDEN void stage_pool_open_durable(struct slab_pool *pool, const char *folder);

/* stage_pool_close unmaps all slabs. Only files of slabs dropped by stage_slab_leave stay in the folder. */
STAGE_HIDDEN void stage_pool_close(struct slab_pool *pool);

/* stage_pool_idle reports whether there are idle slabs. */
STAGE_HIDDEN bool stage_pool_idle(const struct slab_pool *pool);

/* stage_pool_give_back releases the pages of idle slabs not needed in the previous period, STAGE_GIVE_BACK at most of
 * one size. anew begins a period. Adjacent slabs share a system call, and one interrupt of the other processors.
 * Returns whether there were any. The pump's thread. */
STAGE_HIDDEN bool stage_pool_give_back(struct slab_pool *pool, bool anew);

#endif /* RES_KAFKA_STAGE_SLAB_H */
