/* SPDX-License-Identifier: Apache-2.0 */
/* Reading our own memory through the kernel: a wrong guess gives an error and not a crash. */
#ifndef PROFINFER_PEEK_H
#define PROFINFER_PEEK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEEK_MAX 4096

/* Opens what all reads go through. A copy of this process needs one of its own. */
void peek_begin(void);

/* Reads up to PEEK_MAX bytes; how many of them were readable. */
size_t peek(uint64_t address, void *data, size_t count);

/* Exactly that many, or unfit. */
void peek_all(uint64_t address, void *data, size_t count);

/* Whether exactly these bytes are there. */
bool peek_is(uint64_t address, const void *wanted, size_t count);

/* Reads printable ASCII that ends in NUL within `size` bytes; false when there is none. */
bool peek_text(uint64_t address, char *text, size_t size);

#endif
