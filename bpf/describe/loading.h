/* SPDX-License-Identifier: Apache-2.0 */
/* Loading one library with what it needs, wherever that is. */
#ifndef PROFINFER_LOADING_H
#define PROFINFER_LOADING_H

#include "unfit.h"

/* A library that may be needed, and whose folder may hold others. */
void loading_add_neighbour(const char *path);

/* Loads it for all to see; 0, with the loader's reason, when that cannot be. */
void *loading_open(const char *path, char reason[REASON_SIZE]);

/* When it could not be because of symbols that a program would have had, as an interpreter has for
 * its extension modules: defines them, in a library in the folder `scratch`. False when not. */
bool loading_stand_in(const char *path, const char *scratch, const char *reason);

/* A path's last part. */
const char *loading_name(const char *path);

#endif
