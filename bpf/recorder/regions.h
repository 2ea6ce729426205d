/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of a process, region by region, as /proc/PID/maps lists it; read in pieces, because a
 * process may have as many regions as it likes. */
#ifndef PROFINFER_REGIONS_H
#define PROFINFER_REGIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "target.h"

/* Addresses [start, end): a part of a file, or of none (device and inode 0). */
struct region {
  uint64_t start, end;
  uint64_t offset; /* of `start` in the file, in bytes */
  uint32_t device; /* as the kernel numbers it: major << 20 | minor */
  uint64_t inode;
  const char *path; /* as the target sees it, in the line; display only, "" for no file */
  size_t path_length;
};

/* A listing that is being read. */
struct listing {
  int fd;
  size_t from, until; /* what of the buffer is still to be read */
  char buffer[65536];
};

/* Begins to list the regions of a process; false when it has ended. */
bool listing_open(struct listing *listing, const struct target *target);

/* The next line, in order of address, without its end; 0 after the last. It is good until the next
 * call. */
char *listing_next(struct listing *listing, size_t *length);

void listing_close(struct listing *listing);

/* What a line says. False when it is not understood. */
bool region_parse(const char *line, size_t length, struct region *region);

/* A number that is another one when anything but its start is different. */
uint64_t region_identity(const struct region *region);

#endif
