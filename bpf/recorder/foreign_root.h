/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes of a launched command that have another root than ours, by chroot or in a container:
 * a loader there complains that it finds no audit library. Our name is taken out of LD_AUDIT while
 * such a process stands still after exec, before its loader looks.
 */
#ifndef PROFINFER_FOREIGN_ROOT_H
#define PROFINFER_FOREIGN_ROOT_H

#include <stdbool.h>
#include <stddef.h>

#include "target.h"

/* What LD_AUDIT has been set to, the library last ("": it has not been), of all commands. */
void foreign_root_audit(const char *audit);

/* Takes the library out of a stopped process's environment where it cannot be found in that
 * process's root. What others have set stays; whatever goes wrong, all stays as it is. */
void foreign_root_tidy(const struct target *target);

/* Takes the library out of LD_AUDIT among the strings of an environment, in which nothing is
 * moved but the rest of that value. The string's beginning and old length, or false. */
bool foreign_root_take_out(char *strings, size_t length, const char *library, size_t *begin,
                           size_t *changed);

#endif
