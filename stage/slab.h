/*
 * res_kafka: slabs, and pools of them.
 *
 * A slab is described in the module's own memory (struct slab) and lies in a file that the engine maps
 * too. The files belong to two pools: the plain one has a memfd, the durable one the staging folder. Slabs
 * of the usual size lie side by side in one file of their pool, which is mapped once. A larger slab holds
 * a single frame:
 *
 *   pool      usual slabs                          larger slabs
 *   plain     memfd, below usual_bytes             memfd above that, at places of 128 KiB, 256 KiB, ..., each with its own mapping
 *   durable   STAGE_SLABS_FILE of the folder       a file each
 *
 * Pages are allocated before a slab is used, so that full memory is a refusal and not SIGBUS.
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

/* Tests end the process or stop the thread here: between instructions that another writer, or a reader of
 * a killed process's files, can tell apart. writer: the thread is in the middle of a put. */
#ifdef STAGE_STEPS
void stage_step(bool writer);
#define STAGE_STEP(writer) stage_step(writer)
#else
#define STAGE_STEP(writer) ((void) 0)
#endif

/* Spares that the pump always keeps: two, so that two stages can wake up at the same time. */
#define STAGE_SPARES_READY 2

/* Spares that the pump makes after it has fallen behind, so that writers need not allocate pages. A writer
 * at full speed fills half as many while the pump hands over one slab. */
#define STAGE_SPARES_BUSY 16

/* Plain spares kept under load, 4 MiB. A writer at full speed fills a slab in some 15 us, so these last
 * for the millisecond that the pump may wait for a processor. */
#define STAGE_SPARES_MAX 64

/* Places of larger plain slabs come in sizes of 2 to 2^17 usual slabs, 128 KiB to 8 GiB. */
#define STAGE_SIZES 17

/* Pause after a failed allocation. Tests set it lower. */
#ifndef STAGE_RETRY_NS
#define STAGE_RETRY_NS INT64_C(1000000000)
#endif

/* Slab numbers of one pump: one for each slab that the limit allows, one for each durable slab, and as
 * many again for places of larger slabs without pages. A word has 18 bits for a number. */
#define STAGE_SLAB_NUMBERS(bytes) (2 * ((bytes) + STAGE_SHARED_MAX) / STAGE_SLAB_BYTES + 1)

#define STAGE_SLAB_ROOM (STAGE_SLAB_BYTES - sizeof(struct stage_slab))

struct slab {
	/* Written by the thread that brings the slab into a stage, before that. Marked fields are atomic:
	 * others may read them late. */
	struct stage_slab *head;
	unsigned char *frames;
	size_t size;     /* bytes of its place */
	size_t backed;   /* of these, bytes that have pages */
	uint64_t file;   /* its offset in the file; of a larger durable one the number of its file */
	uint64_t before; /* the word that it took the place of */
	int64_t base;    /* frames admitted to its stage before it: atomic */
	size_t only;     /* of a larger one: bytes of its frame */
	uint32_t below;  /* in a stack: the number of the next one, 0 = none: atomic */
	bool shared;     /* it is a durable one */
	bool fallback;   /* it ought to be a durable one */

	/* The pump's thread only. */
	_Alignas(64) struct slab *next;
	size_t ready;        /* bytes of frames that were seen to be complete, from the beginning */
	size_t taken;        /* of these, bytes handed to the engine, or done already */
	size_t done;         /* of these, bytes of frames that are known to be done, from the beginning */
	size_t end;          /* when it is closed: bytes of frames */
	int64_t count;       /* frames in `taken` */
	int64_t done_count;  /* frames in `done`, and */
	int64_t done_charge; /* their charge */
	int64_t total;       /* when it is closed: frames */
	bool closed;         /* nothing more comes into it */
};

/* A stack of slabs: the number of the topmost slab in the lower half, a count of pops in the upper half
 * against the ABA problem. */
struct slab_stack {
	_Alignas(64) uint64_t top;
};

/* Slabs that have pages and are not needed. */
struct slab_idle {
	struct slab_stack slabs;
	int64_t count; /* or a little off: atomic */
	int64_t least; /* that there were since the last stage_pool_give_back: atomic */
};

/* All slabs of a pump. */
struct slab_table {
	struct slab *slabs;     /* by number */
	uint32_t numbers;       /* that there are: constant */
	uint32_t made;          /* that were ever used, and number 0: atomic */
	struct slab_stack free; /* without a place */
	size_t bytes;           /* with pages, of all pools: atomic */
	size_t most;            /* there may be: constant */
};

/* One pool. */
struct slab_pool {
	struct slab_table *table;
	struct slab_stack spare;
	struct slab_stack bare; /* with a place in the file of usual slabs and no pages */
	struct slab_idle idle;

	/* Larger plain ones, by the size of their places: idle ones are mapped and have pages, bare ones are
	 * not and have none. */
	struct slab_idle idle_large[STAGE_SIZES];
	struct slab_stack bare_large[STAGE_SIZES];
	uint64_t end; /* of the places of larger plain slabs: atomic */

	int64_t count;  /* of spares, or a little off: atomic, as what follows */
	int64_t missed; /* times that there was no spare when a writer wanted one */
	bool wanted;    /* some stage has wanted one; durable slabs only */
	size_t bytes;   /* with pages */
	uint64_t files; /* of larger durable slabs, ever made */
	uint64_t begun; /* places in the file of usual slabs that were ever used */
	int64_t retry;  /* before this time none is made */

	/* The pump's thread only. */
	int64_t target;   /* spares the pump makes */
	uint64_t *places; /* bits, for stage_pool_give_back */

	/* Constant. */
	bool shared;
	int folder;            /* a descriptor, -1 = none */
	int file;              /* of usual slabs, -1 = none, mapped at */
	unsigned char *memory;
	uint64_t regions;      /* places for usual slabs in it */
	size_t most;           /* bytes with pages there may be */
	bool left;             /* something stays in that file when the pump has ended; the pump's thread */
};

/* slab_is_large reports whether the slab is for a single large frame. */
static inline bool slab_is_large(const struct slab *slab)
{
	return slab->size > STAGE_SLAB_BYTES;
}

/* stage_slabs_open makes a table without slabs for at most so many bytes. false: no memory. */
STAGE_HIDDEN bool stage_slabs_open(struct slab_table *table, size_t most);

/* stage_slabs_close frees it. The pools have been closed. */
STAGE_HIDDEN void stage_slabs_close(struct slab_table *table);

/* stage_slab_new returns a slab without a place. NULL: there are too many. */
STAGE_HIDDEN struct slab *stage_slab_new(struct slab_table *table);

/* stage_slab_push and stage_slab_pop put a slab on a stack and take one off. NULL: it is empty. */
STAGE_HIDDEN void stage_slab_push(const struct slab_table *table, struct slab_stack *stack, struct slab *slab);
STAGE_HIDDEN struct slab *stage_slab_pop(const struct slab_table *table, struct slab_stack *stack);

/* stage_slab_get returns an empty slab with room for a frame of size bytes, a spare if there is one. NULL:
 * no memory, or a limit is reached. Any thread. */
STAGE_HIDDEN struct slab *stage_slab_get(struct slab_pool *pool, size_t size);

/* stage_slab_put takes a slab back, as a spare or as an idle one. Any thread. */
STAGE_HIDDEN void stage_slab_put(struct slab_pool *pool, struct slab *slab);

/* stage_slab_refill makes spares: a few, or many after a writer has found none. It makes no durable spares
 * before a stage asks for one. The pump's thread. */
STAGE_HIDDEN void stage_slab_refill(struct slab_pool *pool);

/* stage_slab_trim makes all spares idle but keep of them, and resets the number of spares to a few. */
STAGE_HIDDEN void stage_slab_trim(struct slab_pool *pool, int64_t keep);

/* stage_slab_surplus reports whether more than STAGE_SPARES_READY spares are kept, or some slab is idle. */
STAGE_HIDDEN bool stage_slab_surplus(const struct slab_pool *pool);

/* stage_frame_size returns the size of the frame at byte `at` of a slab's frames, which end at byte `end`.
 * It returns 0 if the size is impossible, because the engine has written over it: then the bytes up to
 * `end` cannot be read as frames. */
static inline size_t stage_frame_size(const struct slab *slab, size_t at, size_t end)
{
	size_t size = __atomic_load_n(&((const struct stage_frame *) (slab->frames + at))->size, __ATOMIC_RELAXED);

	return size < sizeof(struct stage_frame) || size % STAGE_GRANULE || size > end - at ? 0 : size;
}

/* stage_slab_is_done reports whether every frame that the engine got of a slab is done, and counts those
 * that are. Atomic reads of the slab's memory only. The pump's thread. */
STAGE_HIDDEN bool stage_slab_is_done(struct slab *slab);

/* files.c: the memory of slabs. Any thread. */

/* stage_file_may_reach reports whether RLIMIT_FSIZE allows a file of that size. Growing a file beyond the
 * limit would end the process by SIGXFSZ. Sets errno. */
STAGE_HIDDEN bool stage_file_may_reach(uint64_t end);

/* stage_file_allocate has the pages of a part of a file there. false: they cannot be had, errno says why. */
STAGE_HIDDEN bool stage_file_allocate(int file, uint64_t at, size_t size);

/* stage_file_map maps a part of a file, which need not have pages yet. A forked child does not inherit the
 * mapping, so it cannot write into the stage. NULL: the mapping failed. */
STAGE_HIDDEN void *stage_file_map(int file, uint64_t at, size_t size);

/* stage_file_punch gives back the pages of a part of a file. */
STAGE_HIDDEN void stage_file_punch(int file, uint64_t at, size_t size);

/* stage_pool_unbook counts size bytes of pages less. */
STAGE_HIDDEN void stage_pool_unbook(struct slab_pool *pool, size_t size);

/* stage_slab_pop_idle takes an idle slab. NULL: there is none. */
STAGE_HIDDEN struct slab *stage_slab_pop_idle(struct slab_pool *pool, struct slab_idle *idle);

/* stage_slab_unplace takes the pages and the mapping of a larger plain slab. */
STAGE_HIDDEN void stage_slab_unplace(struct slab_pool *pool, struct slab *slab);

/* stage_slab_make returns a slab of at least so many bytes, head included, with its pages. Its head is not
 * written yet. NULL: it cannot be had. Any thread. */
STAGE_HIDDEN struct slab *stage_slab_make(struct slab_pool *pool, size_t size);

/* stage_slab_discard makes idle a slab that nobody needs, or frees its file. Any thread. */
STAGE_HIDDEN void stage_slab_discard(struct slab_pool *pool, struct slab *slab);

/* stage_slab_leave gives up a durable slab and keeps its file, for the next process to find its frames. */
STAGE_HIDDEN void stage_slab_leave(struct slab_pool *pool, struct slab *slab);

/* stage_slab_head writes the head of an empty slab, but for label, stage and first. */
STAGE_HIDDEN void stage_slab_head(struct slab *slab);

/* pool.c: the files. The pump's thread, or before and after there is one. */

/* stage_pool_open_plain makes pool the one of plain slabs, in an empty memfd. false: it cannot be mapped. */
STAGE_HIDDEN bool stage_pool_open_plain(struct slab_pool *pool, int file);

/* stage_pool_open_durable makes pool the one of durable slabs, in a folder, which may be NULL. */
STAGE_HIDDEN void stage_pool_open_durable(struct slab_pool *pool, const char *folder);

/* stage_pool_close unmaps all slabs. Only files of slabs that stage_slab_leave gave up stay in the folder. */
STAGE_HIDDEN void stage_pool_close(struct slab_pool *pool);

/* stage_pool_idle reports whether there are idle slabs. */
STAGE_HIDDEN bool stage_pool_idle(const struct slab_pool *pool);

/* stage_pool_give_back gives back the pages of idle slabs that were not needed since the previous call.
 * Adjacent slabs take one system call together, and one message to the other processors. The pump's
 * thread. */
STAGE_HIDDEN void stage_pool_give_back(struct slab_pool *pool);

#endif /* RES_KAFKA_STAGE_SLAB_H */
