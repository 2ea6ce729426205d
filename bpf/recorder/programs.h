/* SPDX-License-Identifier: Apache-2.0 */
/* Programs and maps in the kernel, whichever loader has put them there. */
#ifndef PROFINFER_PROGRAMS_H
#define PROFINFER_PROGRAMS_H

#include "source.h"

struct programs; /* descriptors by name */

/* Who loads: libbpf (linked in, -1), or BCC in a process of its own, asked for over this socket. */
void programs_use(int bcc_socket);

/* Whether that is libbpf. */
bool programs_by_libbpf(void);

/* A file in the place of the embedded object of source "profinfer". */
void programs_use_object(const char *path);

/* Loads a source. EXIT_KERNEL when the kernel refuses, with the end of what it says. Where
 * `why` is given, 0 and the reason in it instead. */
struct programs *programs_load(const struct source *source, char **why);

/* The descriptor of a program; EXIT_KERNEL when it was not loaded. */
int programs_find(const struct programs *programs, const char *name);

/* The descriptor of a map. */
int programs_map(const struct programs *programs, const char *name);

/* How often a program has run and how long (counted while statistics are on), and how often the
 * kernel has skipped it because it would have interrupted another one. */
struct program_stats {
  uint64_t runs, run_ns, misses;
};
struct program_stats programs_stats(int program);

/* Closes all of them. */
void programs_close(struct programs *programs);

#endif
