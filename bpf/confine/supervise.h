/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces of its own for what is confined, and who sees to its end. */
#ifndef PROFINFER_CONFINE_SUPERVISE_H
#define PROFINFER_CONFINE_SUPERVISE_H

#include <stdbool.h>

/* What is the process's own. */
struct isolation {
  bool network; /* and what processes share by keys */
  bool processes;
  bool mounts; /* may be made */
};

/* As much of it as the kernel gives. Who is not root gets a user namespace with it. */
struct isolation supervise_isolate(void);

/* Goes on in a child, the first process of the new namespace: with it dies whatever the library
 * starts, wherever it moves itself. It ends after so many seconds. This one ends as that ends, and
 * ends it at SIGTERM. */
void supervise_first(unsigned seconds);

/* Goes on in a child of the first process, because signals, and so crashes, mean something else to
 * a first process. That one calls `retire`, which leaves standard input alone, and ends as its
 * child does. */
void supervise_worker(void (*retire)(void *data), void *data);

/* Dies with its parent from now on; a change of user ends that. */
void supervise_die_with_parent(void);

#endif
