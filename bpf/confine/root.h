/* SPDX-License-Identifier: Apache-2.0 */
/* The root in which an engine is loaded: a small file system in memory, on which the folders of its
 * own root are mounted, for reading only. Nothing is changed in that one, and nothing below it can
 * be reached from the new one. */
#ifndef PROFINFER_CONFINE_ROOT_H
#define PROFINFER_CONFINE_ROOT_H

#include "arguments.h"

/* A folder of ours in the root; what the engine's root may have of that name is not seen. */
#define HOME "/.profinfer"

/* Enters the engine's mount namespace and goes on in a copy of it with the new root, which holds up
 * to `size` bytes of files, with HOME in it. `has_processes`: in a process namespace of its own. */
void root_make(const struct arguments *arguments, size_t size, bool has_processes);

/* Mounts an open folder, and what is mounted in it, on a new one: a path in the root. */
void root_bind(int folder, const char *path);

#endif
