/* SPDX-License-Identifier: Apache-2.0 */
/* The page by which stubs of a process are switched, and the file of their rings (audit/rings.h):
 * found, made sure of, and held open. */
#ifndef PROFINFER_STUB_FILE_H
#define PROFINFER_STUB_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "../../audit/rings.h"
#include "target.h"

struct stub_file {
  int memory;    /* the target's */
  int file;      /* of its rings */
  uint64_t page; /* where the page is in its memory */
  uint64_t mask; /* records of a ring, less one */
  unsigned rings;
};

/* By the page's address; `size`: bytes of the records in all rings, where nobody has divided them
 * yet. Where they cannot be had: false, and in `why` the reason. */
bool stub_file_open(struct stub_file *file, const struct target *target, uint64_t page, size_t size,
                    const char **why);

/* Whether it could: on or off, by stub. `word`: of this recording. Of a process that has ended
 * nothing is to be switched. */
bool stub_file_switch(const struct stub_file *file, const bool *on, uint64_t word);

/* Whether it could: which operators they leave to a probe, those with one of two ops, where tensors
 * have that `op_at`; 0: none. */
bool stub_file_leave(const struct stub_file *file, uint64_t op_at, const int32_t ops[2]);

/* A ring's head, as far as it can be read; nothing of it is to be believed. */
bool stub_file_head(const struct stub_file *file, unsigned ring, struct stub_ring *head);

/* Records from number `from` on, up to the end of the ring's memory; how many there are. */
size_t stub_file_read(const struct stub_file *file, unsigned ring, uint64_t from, size_t count,
                      struct stub_record *records);

/* Tells the threads that there is room up to here. */
void stub_file_taken(const struct stub_file *file, unsigned ring, uint64_t taken);

/* What was lost of threads that have no ring. */
bool stub_file_lost(const struct stub_file *file, struct file_head *head);

#endif
