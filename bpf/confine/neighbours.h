/* SPDX-License-Identifier: Apache-2.0 */
/* The libraries that lie beside one. */
#ifndef PROFINFER_CONFINE_NEIGHBOURS_H
#define PROFINFER_CONFINE_NEIGHBOURS_H

#include <stddef.h>

/* Copies the shared libraries of an open folder, which is closed, and links among them, to another
 * as far as there is none of that name yet. What is too large for `*left` bytes is left out; the
 * others are taken off. */
void neighbours_copy(int from, const char *to, size_t *left);

#endif
