/* SPDX-License-Identifier: Apache-2.0 */
/* Filters of system calls (seccomp) that a target has put on itself. */
#ifndef PROFINFER_FILTERS_H
#define PROFINFER_FILTERS_H

#include <stdbool.h>

#include "target.h"

/* Whether some thread has one, or /proc does not tell. */
bool filters_are_on(const struct target *target);

#endif
