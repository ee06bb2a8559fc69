/*
 * kafka_probe: a steady load, written down.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#ifndef KAFKA_PROBE_STEADY_H
#define KAFKA_PROBE_STEADY_H

#include <stdint.h>

/* Registers the commands; 0, or -1. */
int steady_load(void);

/* Ends every load, and unregisters the commands. */
void steady_unload(void);

/*
 * A ledger is a file made by the reader and initially full of zeros: one page of struct steady_ledger, then
 * for each thread one page of struct steady_thread and one byte per possible message. 0 = the call has not
 * returned, STEADY_ACCEPTED, STEADY_REFUSED. test/ledger/ledger.go reads this file with the same
 * offsets.
 *
 * The mapping is shared, so the contents outlive the process. After a kill the ledger shows the calls that
 * had returned.
 */
#define STEADY_PAGE 4096
#define STEADY_ACCEPTED 1
#define STEADY_REFUSED 2
#define STEADY_SLOW_NS 5000000
#define STEADY_BUCKETS 40

struct steady_ledger {
	uint64_t threads, capacity; /* written by the reader; capacity is a multiple of a page */
};

/* Written by one thread at a time, in this order: begun, the message's byte, the rest. */
struct steady_thread {
	uint64_t begun;    /* started calls: the number of the next message */
	uint64_t accepted;
	uint64_t refused;
	uint64_t worst_ns; /* the longest call */
	uint64_t slow;     /* calls longer than STEADY_SLOW_NS */
	uint64_t slow_own; /* calls with a longer own time: without waits for a processor, interrupts, and so on */
	uint64_t own_ns;   /* the longest own time */
	uint64_t took[STEADY_BUCKETS]; /* calls by the binary logarithm of their nanoseconds */
};

#endif
