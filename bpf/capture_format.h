/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The raw capture: what a recorder writes down, and the only thing that a trace is made of.
 *
 * File: 16 bytes of magic, the last of which is the format's number; then frames, one after
 * another. A file that ends within a frame (its recorder was killed, the disk is full) ends before
 * that frame. All numbers are little endian; times are CLOCK_BOOTTIME in ns; text is JSON in UTF-8.
 *
 * bpf/recorder/capture.c writes it, profinfer/records/capture.py reads it (tests/records compares
 * the two). Formats of before can still be read:
 *
 *   1  FRAME_MODELS in the place of FRAME_MODEL; a drain's records stand in one frame
 *   2  no KIND_CALL; no type of graph in KIND_UBATCH_BEGIN
 *   3  this one
 */
#ifndef PROFINFER_CAPTURE_FORMAT_H
#define PROFINFER_CAPTURE_FORMAT_H

#define CAPTURE_MAGIC "ProfInferRaw\0\0\0" /* and the format */
#define CAPTURE_FORMAT 3
#define CAPTURE_OLDEST 1
#define FRAME_MAX (1 << 30) /* bytes; a longer one is damage */

/* Stands before the bytes of each frame. */
struct frame_header {
  __u32 kind;
  __u32 reserved; /* 0 */
  __u64 ts;
  __u64 length; /* of what follows, without this */
};

enum frame_kind {
  /* JSON: target, layout, plan, configuration, machine, versions. The first. */
  FRAME_START = 1,
  /* 3 x u64: BOOTTIME, MONOTONIC, REALTIME, taken together. */
  FRAME_CLOCK = 2,
  /* JSON: {tid: thread name} of threads not named before. */
  FRAME_NAMES = 3,
  /* Records of the structure ring (records.h), WIDE_SIZE bytes each. */
  FRAME_WIDE = 4,
  /* struct loss_entry: every CPU and kind whose count has grown. */
  FRAME_LOSS = 5,
  /* struct record, of all rings; ts: nothing older than this comes any more. A drain ends with a
   * frame that has the new time, and may have no records. */
  FRAME_RECORDS = 6,
  /* JSON: {address of get_name: backend name} of backends not named before. */
  FRAME_BACKENDS = 7,
  /* JSON: why recording ended, totals, exit status. The last. */
  FRAME_END = 8,
  /* struct record, of the scheduler's rings; ts as of FRAME_RECORDS. */
  FRAME_SCHEDULER = 9,
  /* JSON: processes [pid, parent, name, whether that is only its main thread's] and threads [tid,
   * pid, name] of the machine; in the first one "since": from when on the scheduler is recorded. */
  FRAME_TASKS = 10,
  /* JSON: {"new": what the target has mapped since the last look, "gone": mappings that are gone}:
   * start, end, offset, device, inode and path, of what is gone the start. When it is much, several
   * frames of one time are one look. */
  FRAME_MAPPINGS = 20,
  /* JSON: the tensors of the GGUF files that it had mapped, or why they cannot be told. */
  FRAME_MODELS = 21,
  /* u32 length, so many bytes of JSON (path, device, inode, size, overlaid, problem; seen: mapped
   * or open, not only named on the command line; direct: open for direct I/O), then the header of
   * that GGUF file as far as it could be read. */
  FRAME_MODEL = 22,
};

/* `lost` in all so far; the last ones between the two times. What the kernel has not run at all
 * has no CPU: ANY_CPU. */
#define ANY_CPU 0xffffffff
struct loss_entry {
  __u32 cpu;
  __u32 kind;
  __u64 lost;
  __u64 first_ts;
  __u64 last_ts;
};

#endif
