/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of open files. */
#ifndef PROFINFER_CONFINE_COPY_H
#define PROFINFER_CONFINE_COPY_H

#include <stddef.h>
#include <sys/types.h>

/* The bytes of a regular file; a failure for anything else, which might never end. */
size_t copy_size(int file);

/* Copies a file of so many bytes to a new one. */
void copy_file(int file, size_t size, const char *path, mode_t mode);

#endif
