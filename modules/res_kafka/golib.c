/*
 * res_kafka: opening a Go library in a process that is not Go's.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#include "golib.h"

#include <dlfcn.h>
#include <signal.h>

#define KEPT_SIGNALS 2
static const int kept_signals[KEPT_SIGNALS] = { SIGURG, SIGPIPE };

void *golib_open(const char *path, const char *any_call)
{
	struct sigaction before[KEPT_SIGNALS];
	sigset_t all, mask;
	uint32_t (*call)(void);
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
	int i;

	if (library) {
		return library;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &mask);
	for (i = 0; i < KEPT_SIGNALS; i++) {
		sigaction(kept_signals[i], NULL, &before[i]);
	}

	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (library && (call = (uint32_t (*)(void)) dlsym(library, any_call))) {
		call(); /* returns once the runtime is up */
	}

	for (i = 0; i < KEPT_SIGNALS; i++) {
		sigaction(kept_signals[i], &before[i], NULL);
	}
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	return library;
}
