/* SPDX-License-Identifier: Apache-2.0 */
/* Errors that a person can act on: what failed, on what, and what to do next. */
#ifndef PROFINFER_FAILURE_H
#define PROFINFER_FAILURE_H

#include <stddef.h>

/* The same numbers as `profinfer --help` lists. */
enum exit_code {
  EXIT_USAGE = 2,
  EXIT_PRIVILEGE = 3,
  EXIT_KERNEL = 4,
  EXIT_TARGET = 5,
  EXIT_PROBES = 6,
  EXIT_OUTPUT = 7,
  EXIT_PLAN = 8,
};

/* Says it on stderr and ends the process. Probes go with the process, and every frame that was
 * written is in the file, so there is nothing to clean up. `hint` may be empty. */
_Noreturn void fail(enum exit_code code, const char *hint, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* From now on `fail` tells it over a socket instead, as an event "failed" about `verb` (serve.h).
 */
void failure_over(int socket, const char *verb);

/* Something to know, on stderr. */
void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Zeroed memory for `count` things; ends the process when there is none. */
void *allocate(size_t count, size_t size);

/* A printf into memory of its own. */
char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
