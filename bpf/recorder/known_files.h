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

/* Sets what launch.h's programs need for that: all of it only if it is `wanted`, and the kernel has
 * it. */
void known_files_parameters(struct source *source, bool wanted);

/* Enters those of these files in the map that have been looked into (engine_marks.h). */
void known_files_add(int map, const struct target *target, const struct mapping *mappings,
                     size_t count);

#endif
