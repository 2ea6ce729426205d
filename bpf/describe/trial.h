/* SPDX-License-Identifier: Apache-2.0 */
/* One batch with unusual contents, decoded by the engine up to `process_ubatch`. */
#ifndef PROFINFER_TRIAL_H
#define PROFINFER_TRIAL_H

#include "description.h"

#include <stdbool.h>
#include <stdint.h>

/* Of the struct, this much is looked at: a bit for every four bytes of it. */
#define UBATCH_SIZE 192

/* Which bits of an observation are whose. */
enum ubatch_field {
  TOKEN,
  POS,
  N_SEQ_ID,
  OUTPUT,
  SEQ_ID,
  N_TOKENS,
  N_SEQ_TOKENS,
  N_SEQS,
  N_SEQS_UNQ
};

/* `rows` tokens for each of the sequences, in a context for one or for many of them. */
struct trial {
  int sequences[3];
  int sequence_count, rows;
  bool is_many;
  /* n_tokens, n_seq_tokens, n_seqs, n_seqs_unq as they will be. */
  uint32_t counts[4];
};

extern const struct trial trials[TRIALS];

/* Decodes it with that model, in a process of its own that ends when there is an observation. */
__attribute__((noreturn)) void trial_run(const struct trial *trial, const char *model,
                                         struct observation *seen);

#endif
