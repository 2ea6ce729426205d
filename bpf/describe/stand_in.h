/* SPDX-License-Identifier: Apache-2.0 */
/* A library that defines symbols and does nothing: it stands in for the program whose they are. */
#ifndef PROFINFER_STAND_IN_H
#define PROFINFER_STAND_IN_H

#include <stdbool.h>
#include <stddef.h>

/* Writes it: all the symbols name the same zeros, which may be written. */
bool stand_in_write(const char *path, const char **names, size_t count);

#endif
