/*
 * res_kafka: opening a Go library in a process that is not Go's. Knows nothing of Asterisk.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_GOLIB_H
#define RES_KAFKA_GOLIB_H

#include <stdint.h>

/* golib_open opens the Go library at path, or finds it if it is open already, and waits until its runtime is up; any_call is
 * the name of some exported function `uint32_t f(void)`, which is called for that. Returns what dlopen returns; NULL leaves
 * the reason to dlerror(). Not concurrently with itself. The library can never be closed again.
 *
 * What the Go runtime would change in the process, and what is in force afterwards instead:
 *
 * - Its threads inherit the signal mask of the thread that loads it. All signals are blocked while it loads, so that
 *   a signal meant for the program (SIGHUP, SIGTERM, SIGURG, …) is never delivered to a thread of the library, whose
 *   small stacks no handler but Go's own may use. Go insists on SIGCHLD; that one the kernel offers first to the thread
 *   that forked the child, which is never one of the library's.
 * - It replaces the handlers of SIGURG and SIGPIPE. Asterisk wakes threads out of poll() with SIGURG, by a handler
 *   without SA_RESTART, and ignores SIGPIPE: both are put back. Go needs SIGURG only to preempt goroutines, which the
 *   library must have been linked not to do (asyncpreemptoff=1 in runtime.godebugDefault; the environment is no place
 *   for it, the runtime reads only what the process was started with), and it learns of a broken connection from the
 *   write that fails.
 * - Its handlers of SIGSEGV, SIGBUS and SIGFPE stay: they turn a fault inside Go into a panic, which the library
 *   catches. A fault anywhere else still ends the process by a signal.
 */
void *golib_open(const char *path, const char *any_call);

#endif /* RES_KAFKA_GOLIB_H */
