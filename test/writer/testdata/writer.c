/*
 * res_kafka: a process of the tests that puts frames into a real stage, like Asterisk, until a kill or a
 * command.
 *
 *   writer FOLDER THREADS INTERVAL SIZE     INTERVAL: us between two puts of a thread, 0 = none; SIZE: bytes of a value,
 *                                           -1 = at random, sometimes large
 *
 * Descriptor 3 is a socket for the descriptors of the shared memory. Descriptor 4 is a file: thread n counts
 * its accepted frames in the n-th cache line. Standard input has commands of one letter, answered by the same
 * letter: n = there is a new engine, l = it is lost, s = the threads stop. At its end the process does not
 * stop the pump, in order to look killed.
 *
 * The frames of thread T have the key 'A' + T. Each value begins with the frame's number, 8 bytes; the other
 * bytes equal the number's lowest byte.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#define _GNU_SOURCE

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "boundary/frame.h"
#include "stage/stage.h"

#define THREADS_MOST 16
#define VALUE_MOST   (200 * 1024)

static struct stage *stages[2];
static uint64_t *accepted;
static int stop;
static long interval;
static long size;

static void note(void *owner, unsigned int slot, uint64_t count, const char *text)
{
	(void) owner, (void) slot, (void) count, (void) text;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static size_t value_size(uint64_t *seed)
{
	uint64_t dice;

	if (size >= 0) {
		return size < 8 ? 8 : size;
	}
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	dice = *seed >> 33;
	return dice % 997 == 0 ? 70 * 1024 + dice % (VALUE_MOST - 70 * 1024) : 8 + dice % 1500;
}

static int64_t wall(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void *put_frames(void *argument)
{
	long thread = (long) argument;
	char key = (char) ('A' + thread);
	unsigned char *value = calloc(1, VALUE_MOST);
	uint64_t seed = thread * 77 + 1;
	uint64_t number = 0;
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		size_t length = value_size(&seed);
		struct resk_frame_head head = { .accepted_ns = wall(), .topic_length = 1, .key_length = 1, .value_length = length };
		struct iovec parts[] = { { &head, sizeof(head) }, { "t", 1 }, { &key, 1 }, { value, length } };

		memset(value, (int) (number & 0xff), length);
		memcpy(value, &number, sizeof(number));
		while (stage_put(stages[thread % 2], parts, 4, length, false) != STAGE_OK) {
			if (__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
				return NULL;
			}
			usleep(100);
		}
		number++;
		__atomic_store_n(&accepted[thread * 8], number, __ATOMIC_RELEASE);
		if (interval) {
			until.tv_nsec += interval * 1000;
			while (until.tv_nsec >= 1000000000) {
				until.tv_nsec -= 1000000000;
				until.tv_sec++;
			}
			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		}
	}
	return NULL;
}

static void send_descriptors(const int *files, int n)
{
	char control[CMSG_SPACE(8 * sizeof(int))] = { 0 };
	struct iovec part = { "x", 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(head), files, n * sizeof(int));
	if (sendmsg(3, &message, 0) != 1) {
		fail("sendmsg");
	}
}

int main(int argc, char **argv)
{
	struct stage_memory memory;
	struct stage_pump *pump;
	pthread_t threads[THREADS_MOST];
	long n = argc == 5 ? atol(argv[2]) : 0;
	long i;
	char command;

	if (n < 1 || n > THREADS_MOST || stage_memory_open(&memory)) {
		fail("opening");
	}
	interval = atol(argv[3]);
	size = atol(argv[4]);
	accepted = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 4, 0);
	pump = stage_pump_start(&memory, note, "pump", argv[1], 0);
	stages[0] = pump ? stage_create(pump, NULL, "one") : NULL;
	stages[1] = pump ? stage_create(pump, NULL, "two") : NULL;
	if (!stages[1] || accepted == MAP_FAILED) {
		fail("starting");
	}
	send_descriptors((int[]) { memory.control_file, memory.plain_file, memory.wake }, 3);
	for (i = 0; i < n; i++) {
		if (pthread_create(&threads[i], NULL, put_frames, (void *) i)) {
			fail("pthread_create");
		}
	}
	while (read(0, &command, 1) == 1) {
		if (command == 'n') {
			stage_pump_engine_new(pump);
		} else if (command == 'l') {
			stage_pump_engine_lost(pump);
		} else {
			__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
			for (i = 0; i < n; i++) {
				pthread_join(threads[i], NULL);
			}
			stage_publish(stages[0]);
			stage_publish(stages[1]);
		}
		if (write(1, &command, 1) != 1) {
			fail("write");
		}
	}
	_exit(0);
}
