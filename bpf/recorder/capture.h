/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The raw capture: frames in a file that only grows. profinfer/capture.py says what the frames hold
 * and reads them; this is its other end.
 */
#ifndef PROFINFER_CAPTURE_H
#define PROFINFER_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum frame_kind {
  FRAME_START = 1,
  FRAME_CLOCK = 2,
  FRAME_NAMES = 3,
  FRAME_WIDE = 4,
  FRAME_LOSS = 5,
  FRAME_RECORDS = 6,
  FRAME_BACKENDS = 7,
  FRAME_END = 8,
};

struct loss_entry {
  uint32_t cpu;
  uint32_t kind;
  uint64_t lost; /* in all so far */
  uint64_t first_ts;
  uint64_t last_ts;
};

/* Creates the file (EXIT_OUTPUT when that cannot be), for this user alone or, under sudo, the one
 * who called it. A file that is there is left as it is until the first frame. */
void capture_open(const char *path, bool force);

/* Appends one frame, whole. When it cannot (the disk is full) the file is cut back to the frames
 * that are whole and the process ends with EXIT_OUTPUT. `ts` is BOOTTIME in ns. */
void capture_frame(enum frame_kind kind, uint64_t ts, const void *data, size_t length);

/* The same, of a text. */
void capture_text(enum frame_kind kind, uint64_t ts, const char *json);

/* A CLOCK frame of now. */
void capture_clocks(void);

/* Bytes so far. */
uint64_t capture_size(void);

/* Closes the file; errors that a file system reports only now end the process, too. */
void capture_close(void);

/* CLOCK_BOOTTIME in ns: the clock of every record. */
uint64_t boot_ns(void);

#endif
