/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that hold no engine, in a map that bpf/launch.h reads: who can execute nothing else is not
 * even stopped. A file is told by device, inode, size and when it was changed.
 */
#ifndef PROFINFER_KNOWN_FILES_H
#define PROFINFER_KNOWN_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "source.h"
#include "target.h"

/* Sets what launch.h's programs need for that: the map and the kernel's functions, too, where it is
 * `wanted` and the kernel has all that it takes. */
void known_files_parameters(struct source *source, bool wanted);

/* The map from now on; -1: none. */
void known_files_use(int map);

/* Enters those of these files in the map that have been looked into (engine_marks.h). */
void known_files_add(const struct target *target, const struct mapping *mappings, size_t count);

#endif
