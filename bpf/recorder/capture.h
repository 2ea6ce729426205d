/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a raw capture: frames in a file that only grows. */
#ifndef PROFINFER_CAPTURE_H
#define PROFINFER_CAPTURE_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../capture_format.h"

/* Goes on in an open file, where `fd` is none of -1; its path is then for messages. Else creates
 * the file (EXIT_OUTPUT when that cannot be), for this user alone or, under sudo, the one who
 * called it. A file that is there, for which `force` is needed unless it is empty, is left as it is
 * until the first frame. */
void capture_open(const char *path, int fd, bool force);

/* Appends one frame, whole. When it cannot (the disk is full) the file is cut back to the frames
 * that are whole and the process ends with EXIT_OUTPUT. `ts` is BOOTTIME in ns. */
void capture_frame(enum frame_kind kind, uint64_t ts, const void *data, size_t length);

/* The same, of `length` bytes and then the first `copied` bytes of an open file, which need not fit
 * into memory. False, with errno, when that cannot be read so far: then there is no frame. */
bool capture_copy(enum frame_kind kind, uint64_t ts, const void *data, size_t length, int source,
                  uint64_t copied);

/* The same, of a text. */
void capture_text(enum frame_kind kind, uint64_t ts, const char *json);

/* A CLOCK frame of now. */
void capture_clocks(void);

/* Bytes so far. */
uint64_t capture_size(void);

/* What is to be said, once, when the trace threatens to become too large to be asked. */
const char *capture_outgrown(void);

/* Closes the file; errors that a file system reports only now end the process, too. */
void capture_close(void);

/* CLOCK_BOOTTIME in ns: the clock of every record. */
uint64_t boot_ns(void);

#endif
