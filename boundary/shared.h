/*
 * res_kafka: the memory shared by the module (C, in Asterisk) and the engine (Go, in its own process).
 *
 *   control memory   struct resk_control: one memfd of fixed size, sealed against every change of size
 *   plain slabs      one memfd, sealed against shrinking: slabs of the usual size below resk_head.usual_bytes, larger ones above
 *   durable slabs    the files of the staging folder, on a memory file system: STAGE_SLABS_FILE, and "slab-N" for each larger one
 *
 * Both processes map all of the memory for writing. Neither trusts its peer: each reads a value once, into
 * its own memory, and then checks the copy. No value written by the engine harms the module; the worst
 * outcome is a wrong refusal.
 *
 * Integers are in the machine's byte order, which is the same on both sides. A field of 8 bytes is read and
 * written atomically unless its comment says otherwise; relaxed order is enough where none is named.
 * Fields have fixed sizes and natural alignment, so every compiler gives them the same offsets; a test compares each
 * offset with the Go side (internal/ingest).
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_BOUNDARY_SHARED_H
#define RES_KAFKA_BOUNDARY_SHARED_H

#include <stddef.h>
#include <stdint.h>

#define SHARED_SIZE(type, size)        _Static_assert(sizeof(struct type) == (size), #type)

/* A cache line. Fields of different writers never share a line. */
#define RESK_LINE 64

#define RESK_CONTROL_MAGIC  UINT64_C(0x4c525443534b4552) /* "RESKCTRL" where the lowest byte comes first */
#define RESK_CONTROL_LAYOUT 5                            /* of struct resk_control; the engine refuses any other */

/* Numbers of gates and progress records. Number 0 is unused and means "none". */
#define RESK_GATES    4096
#define RESK_PROGRESS 1024

/* Areas for long batches of messages; shorter ones take the socket. An area fits the engine's batch of 1 MiB in keys,
 * values and headers. One area serves one subscription with a backlog at a time. */
#define RESK_AREAS      4
#define RESK_AREA_BYTES (1280 * 1024)

/* The areas begin at a page of the usual size. */
#define RESK_AREA_ALIGN 4096

/* Entries of the ring, a power of two: some 30 ms of full slabs at the highest rate of writers. */
#define RESK_RING 1024

/* The module writes the head before the start of the first engine, except usual_bytes. */
struct resk_head {
	uint64_t magic;       /* RESK_CONTROL_MAGIC */
	uint32_t layout;      /* RESK_CONTROL_LAYOUT */
	uint32_t ring;        /* RESK_RING */
	uint32_t gates;       /* RESK_GATES */
	uint32_t progress;    /* RESK_PROGRESS */
	uint64_t size;        /* sizeof(struct resk_control) */
	uint64_t usual_bytes; /* of the plain file: below this, each multiple of STAGE_SLAB_BYTES may begin a slab of this
	                       * size; larger slabs follow. Written before the first entry of the ring */
	uint64_t unused[3];
};

SHARED_SIZE(resk_head, 64);

/* Which file a slab lies in. */
enum resk_pool {
	RESK_POOL_PLAIN = 0,   /* the memfd of plain slabs; resk_entry_slab is the slab's offset */
	RESK_POOL_DURABLE = 1, /* STAGE_SLABS_FILE of the staging folder; the slab's offset */
	RESK_POOL_FILE = 2,    /* "slab-N" of the staging folder, a single slab; N */
};

/* A range of frames for the engine. Plain fields: the ring's counters order the accesses.
 *
 * The range has whole, contiguous frames in the order of admission. After the start of a new engine a range
 * may include finished frames: the engine skips each frame with a state other than STAGE_FRAME_READY. The
 * last frame of a range is unfinished. The slab is therefore not reused before the engine has read the range
 * to its end, whichever frames the engine finishes meanwhile.
 *
 * An engine that follows a slab has taken frames before their entry comes, and then skips these frames. The
 * slab may even be in use again: the head then has another stage or another `first`. */
struct resk_ring_entry {
	uint64_t id;     /* number of the gate, equal to the connection's */
	uint64_t pool;   /* enum resk_pool */
	uint64_t slab;   /* see enum resk_pool */
	uint64_t start;  /* of the first frame, bytes from the beginning of the slab */
	uint64_t length; /* of the range, bytes */
	uint64_t first;  /* frames of the stage before the slab: the `first` of the slab's head */
	uint64_t unused[2];
};

SHARED_SIZE(resk_ring_entry, RESK_LINE);

/* The module's pump puts entries, the engine takes entries. put, taken and asleep are accessed in sequential
 * order. Entry n is entries[n % RESK_RING]; the ring is full if put - taken is RESK_RING. Between two
 * engines, after the proof of the old engine's death and before the start of the new engine, the module sets
 * put and taken to 0. */
struct resk_ring {
	_Alignas(RESK_LINE) uint64_t put;    /* entries ever put; written by the module */
	_Alignas(RESK_LINE) uint64_t taken;  /* entries ever taken; written by the engine */
	_Alignas(RESK_LINE) uint64_t asleep; /* the engine stores 1, then reads put again before it sleeps. The module puts,
	                                      * then exchanges 1 for 0; after an exchange of 1 it writes 8 bytes to the
	                                      * eventfd */
	_Alignas(RESK_LINE) struct resk_ring_entry entries[RESK_RING];
};

SHARED_SIZE(resk_ring, 3 * RESK_LINE + RESK_RING * RESK_LINE);

/* The limits and counters of a connection's stage. The number of frames in use is the number of put frames,
 * in the module's own memory, minus done_frames. */
struct resk_gate {
	/* The engine writes, writers read with each put. */
	int64_t open;       /* 0 = every put is refused with STAGE_CLOSED */
	int64_t max_frames; /* limit of frames in use */
	int64_t max_charge; /* limit of charge in use; an empty stage still admits a larger frame */
	int64_t max_length; /* limit of a frame's content, bytes */
	int64_t linger_ns;  /* delay of the pump for further frames, plus or minus an eighth, or up to a half and 2.5 ms
	                     * longer if frames come faster than before; 0 = none. A longer value is in force from the pump's
	                     * next look on, a shorter value from the next put on. A full slab does not wait */
	int64_t max_weight; /* of a record; the module weighs records, the stage ignores this field */
	int64_t shared;     /* 1 = new slabs are durable */
	int64_t memory;     /* limits for frames that wait in memory only: frames in the lower 32 bits, charge in units of
	                     * 1024 in the upper 32. max_frames and max_charge apply as well */

	/* Written by the engine. It adds to both, first charge and then frames, after storing STAGE_FRAME_DONE
	 * into the states. Before the first entry for a new engine, the module sets both from the states. */
	_Alignas(RESK_LINE) int64_t done_frames; /* frames ever done */
	int64_t done_charge;                     /* charge of these frames */
	/* The engine writes these for the next engine, which continues the identity with the next epoch, so that brokers refuse late
	 * requests of the dead engine. The module never reads them. */
	int64_t producer_id;    /* of the idempotent producer */
	int64_t producer_epoch; /* 1 more than its epoch; 0 = there is no identity. Set to 0 while the other two are written */
	uint64_t cluster;       /* a hash of the id of the cluster that issued producer_id */
	int64_t dropped;        /* records that engines have dropped. The next engine's account begins with them */

	/* Written by the engine, set to 0 by the module for a new engine. Not 0: the engine also takes frames without an entry,
	 * the further frames of the slab with the gate's last entry, and has got so many of the stage's frames. */
	int64_t follows;
	int64_t unused_done[1];

	/* Written by the module, at each look of the pump and in stage_publish, and never read by the module. */
	_Alignas(RESK_LINE) int64_t admitted; /* frames ever admitted */
	int64_t handed;                       /* of these, frames handed over; less after the start of a new engine */
	int64_t unshared;                     /* frames in a plain slab while `shared` was 1, without an available durable
	                                       * slab: the folder's file system is full, the folder is gone, or a limit is
	                                       * reached */
	int64_t unused_module[5];
};

SHARED_SIZE(resk_gate, 3 * RESK_LINE);

/* Shared by a subscription's thread and the engine during the delivery of a batch. */
struct resk_progress {
	_Alignas(RESK_LINE) uint64_t delivered; /* incremented by the thread after a callback: the offset may be committed */
	uint64_t hurry;                         /* the engine writes: not 0 = begin no other callback, ask for the next batch */
	uint64_t unused[6];
};

SHARED_SIZE(resk_progress, RESK_LINE);

/* The control memory. */
struct resk_control {
	struct resk_head head;
	struct resk_ring ring;
	struct resk_gate gates[RESK_GATES];
	struct resk_progress progress[RESK_PROGRESS];

	/* Fields of messages, as in the answer to next. The engine writes an area before an answer with the area's number, and
	 * again only after the subscription's next request. The module copies an area and decodes the copy. Untouched areas
	 * cost no memory. */
	_Alignas(RESK_AREA_ALIGN) unsigned char areas[RESK_AREAS][RESK_AREA_BYTES];
};

SHARED_SIZE(resk_control, 6164480);

/* A frame in a slab, 8-byte aligned. The content follows the header; the next frame starts size bytes after
 * this frame. A frame has no pointer, so another process can read it. */
struct stage_frame {
	uint32_t size;   /* bytes from this frame to the next, header and padding included: a multiple of 8 */
	uint32_t length; /* bytes of content */
	uint32_t state;  /* STAGE_FRAME_READY, until the engine stores STAGE_FRAME_DONE, atomically and with release order:
	                  * from then on only the module reads the frame. In between STAGE_FRAME_STORED: the record is on
	                  * disk, and this engine still reads the frame. A later engine marks such a frame as done. */
	uint32_t charge; /* weight against max_charge */
};

SHARED_SIZE(stage_frame, 16);

#define STAGE_FRAME_READY    0x52454459u
#define STAGE_FRAME_DONE     0x444f4e45u
#define STAGE_FRAME_STORED   0x53544f52u

/* Size of a slab with its head: about 200 frames of 300 bytes, so work for each slab (a wake-up, a hand-over)
 * costs little for each frame. */
#define STAGE_SLAB_BYTES (64 * 1024)

/* The file of the staging folder with all durable slabs of the usual size, at multiples of STAGE_SLAB_BYTES.
 * Each larger slab has its own file with a name that begins with "slab-". */
#define STAGE_SLABS_FILE "slabs"

/* The granule of a slab, bytes: every frame begins at a multiple of the granule. */
#define STAGE_GRANULE 8

/* The head of a slab. The head is valid after a kill of its process at any moment. Memory without the magic
 * number has no slab. A bit in `whole` marks a complete frame, READY or DONE; such frames do not overlap.
 * Bytes between them are an unfinished frame of unknown length. */
struct stage_slab {
	uint64_t magic;  /* STAGE_SLAB_MAGIC, written last */
	uint32_t layout; /* STAGE_SLAB_LAYOUT */
	uint32_t frames; /* where the first frame begins, bytes from the beginning of the slab */
	uint64_t size;   /* of the slab's place, bytes: STAGE_SLAB_BYTES, or more for a larger slab with a single frame */
	uint64_t stage;  /* the number of the stage's gate, and */
	uint64_t first;  /* number of frames admitted to the stage before this slab: `label` and `first` order slabs */
	char label[152]; /* the stage's, ends with NUL */
	uint64_t whole[128]; /* bit n % 64 of word n / 64: a complete frame begins at granule n from frames on */
};

#define STAGE_SLAB_MAGIC  UINT64_C(0x42414c534b534552) /* "RESKSLAB" where the lowest byte comes first */
#define STAGE_SLAB_LAYOUT 2                            /* of this struct, struct stage_frame and a frame's content */
#define STAGE_LABEL_MAX   (sizeof(((struct stage_slab *) NULL)->label) - 1)

SHARED_SIZE(stage_slab, 1216);

#endif /* RES_KAFKA_BOUNDARY_SHARED_H */
