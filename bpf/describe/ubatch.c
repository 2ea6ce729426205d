/* SPDX-License-Identifier: Apache-2.0 */
/* `llama_ubatch` is internal, but a reference to it is an argument of
 * `llama_context::process_ubatch`. So a tiny model is given batches with unusual contents, and that
 * function's first instructions, in a copy of this process, are replaced by a jump to us. */
#include "description.h"
#include "engine.h"
#include "experiments.h"
#include "sieve.h"
#include "trial.h"

#include <stdio.h>
#include <string.h>

static const char *const names[TRIAL_FIELDS] = {"token",        "pos",    "n_seq_id",
                                                "output",       "seq_id", "n_tokens",
                                                "n_seq_tokens", "n_seqs", "n_seqs_unq"};
#define OFFSETS (UBATCH_SIZE / 4)

static pid_t copies[TRIALS];
static int next;
static const char *model_path;

static void run_next(void) { trial_run(&trials[next], model_path, &found->observations[next]); }

static void run_in_copy(void) { attempt(run_next, found->observations[next].error); }

static bool has(uint64_t set, int bit) { return bit >= 0 && bit < OFFSETS && set >> bit & 1; }

static int lowest(uint64_t set) { return set ? __builtin_ctzll(set) : -1; }

/* Past the end of the struct there may lie a stale copy of it: all its fields are as far from ours
 * as its `pos` is, and ours comes first. */
static uint64_t without_copies(uint64_t set, uint64_t positions) {
  uint64_t firsts = 0;
  for (int at = 0; at < OFFSETS; at++) {
    bool is_copy = false;
    for (int pos = lowest(positions) + 1; positions && pos < OFFSETS; pos++)
      if (has(positions, pos) && has(set, at - (pos - lowest(positions))))
        is_copy = true;
    if (has(set, at) && !is_copy)
      firsts |= 1ull << at;
  }
  return firsts;
}

static long choose(int field, uint64_t set, bool is_complete) {
  char what[64], text[OFFSETS * 5] = "";
  bool is_one = !(set & (set - 1));
  snprintf(what, sizeof(what), "ubatch.%s", names[field]);
  if (field >= N_TOKENS && !is_complete && !is_one) {
    note("%s: not told apart from others, a trial is missing", what);
    return ABSENT;
  }
  if (field < SEQ_ID && !is_one) {
    /* Past the end of the struct the heap may hold a stale copy: ours comes first. */
    for (int at = 0; at < OFFSETS; at++)
      if (has(set, at))
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%d", *text ? ", " : "",
                 4 * at);
    note("%s: first of [%s] taken", what, text);
    return 4 * lowest(set);
  }
  struct sieve sieve;
  sieve_begin(&sieve, UBATCH_SIZE, 4);
  for (int at = 0; at < OFFSETS; at++)
    sieve.is_out[4 * at] = !has(set, at);
  return sieve_only(&sieve, what);
}

/* What all trials that succeeded agree on. */
static void agree(const struct observation *seen, int count) {
  uint64_t common[TRIAL_FIELDS];
  int end = 0;
  for (int i = 1; i < count; i++)
    if (seen[i].argument != seen[0].argument) {
      note("ubatch: not always the same argument of process_ubatch");
      return;
    }
  for (int f = 0; f < TRIAL_FIELDS; f++) {
    common[f] = seen[0].offsets[f];
    for (int i = 1; i < count; i++)
      common[f] &= seen[i].offsets[f];
    if (f <= SEQ_ID && lowest(common[f]) > end)
      end = lowest(common[f]);
  }
  found->has_ubatch = true;
  fields_set(&found->ubatch, "arg", seen[0].argument);
  for (int f = 0; f < TRIAL_FIELDS; f++) {
    uint64_t firsts = without_copies(common[f], common[POS]);
    /* Numbers as small as these also turn up by chance, behind the struct. */
    uint64_t inside = firsts & ((1ull << end) - 1);
    if (f >= N_TOKENS && inside)
      firsts = inside;
    fields_set(&found->ubatch, names[f], choose(f, firsts, count == TRIALS));
  }
}

void describe_ubatch_begin(const char *model) {
  model_path = model;
  if (engine_has("process_ubatch") && engine_has("llama_decode"))
    for (next = 0; next < TRIALS; next++)
      copies[next] = copy_begin(run_in_copy);
}

void describe_ubatch_end(void) {
  struct observation *seen = found->observations;
  char failure[REASON_SIZE];
  int count = 0;
  found->is_ubatch_tried = true;
  if (!copies[0]) {
    note("ubatch: no process_ubatch in this engine");
    return;
  }
  for (int i = 0; i < TRIALS; i++) {
    copy_end(copies[i], failure);
    if (seen[i].argument)
      seen[count++] = seen[i];
    else
      note("ubatch: %s", *seen[i].error ? seen[i].error : failure);
  }
  if (count)
    agree(seen, count);
}
