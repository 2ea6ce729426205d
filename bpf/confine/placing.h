/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's files, where the user can load them. */
#ifndef PROFINFER_CONFINE_PLACING_H
#define PROFINFER_CONFINE_PLACING_H

#include "arguments.h"

/* The most bytes of neighbours that are copied. */
enum { PLACING_NEIGHBOURS = 512 << 20 };

/* The most bytes that copies of the engine's files may take: of what a stranger calls a library,
 * only so much is taken into memory. */
size_t placing_size(const struct arguments *arguments);

/* Sets `placed` of all objects, in the new root. One stays where it is if the user can open it
 * there and it is what the descriptor holds. Of one that folders above close to the user, the
 * folder is mounted within reach. One whose path leads elsewhere (it was deleted or replaced) is
 * copied. So is, with `may_copy`, one that the user may not read, with the libraries beside it;
 * without, that is said, and the end. */
void placing_objects(struct arguments *arguments);

/* They stay where they are, or it is said which cannot be read. */
void placing_leave(struct arguments *arguments);

/* The folders of what has been placed and those that it came from, with colons between, for the
 * dynamic loader. */
char *placing_folders(const struct arguments *arguments);

#endif
