/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What adapters describe of engines (profinfer/engine/adapters/): how steps are called, and calls.
 */
#ifndef PROFINFER_STEPS_H
#define PROFINFER_STEPS_H

/* Of one that is no process_ubatch: which argument is what, from 1, 0 for none; and where fields
 * stand in what `batch` points to, -1 for none. Set by user space before the step's probe is
 * attached. */
#define STEPS_MAX 12
struct step {
  __u32 context;  /* tells contexts apart */
  __u32 batch;    /* points to a struct; or else, of one sequence: */
  __u32 tokens;   /* how many */
  __u32 position; /* of the first of them */
  __s32 n_tokens;
  __s32 pos;    /* array of __s32 */
  __s32 seq_id; /* array of arrays of __s32 */
  __s32 output; /* array of bytes */
};

/* Programs for calls of an engine's interface. Whoever reads their records knows which argument is
 * what. */
#define CALLS_MAX 48

#endif
