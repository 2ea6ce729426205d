/* SPDX-License-Identifier: Apache-2.0 */
#include "trial.h"
#include "description.h"
#include "engine.h"
#include "experiments.h"
#include "hook.h"
#include "peek.h"

#include <string.h>
#include <unistd.h>

/* Of the model that is handed in. */
#define VOCABULARY 64
#define SEQUENCES 8
#define MAX_TOKENS 32

/* The counts differ in these three, where the context for many sequences splits by sequence and
 * the one for a single sequence does not. */
#ifndef OTHER_TRIALS
const struct trial trials[TRIALS] = {
    {{5}, 1, 11, true, {11, 11, 1, 1}},
    {{5, 6}, 2, 7, true, {14, 7, 2, 2}},
    {{0}, 1, 13, false, {13, 1, 13, 1}},
};
#else
/* Must lead to the same offsets. */
const struct trial trials[TRIALS] = {
    {{3}, 1, 17, true, {17, 17, 1, 1}},
    {{1, 2, 3}, 3, 9, true, {27, 9, 3, 3}},
    {{0}, 1, 23, false, {23, 1, 23, 1}},
};
#endif

/* A parameter struct of unknown contents, larger than any: passed in memory like them all. */
struct opaque {
  uint32_t words[256];
};

/* `llama_batch`, with room for the members that old versions have at the end. */
struct batch {
  int32_t n_tokens;
  int32_t *token;
  float *embd;
  int32_t *pos, *n_seq_id, **seq_id;
  int8_t *logits;
  uint64_t spare[6];
};

struct columns {
  int count;
  int32_t token[MAX_TOKENS], pos[MAX_TOKENS], n_seq_id[MAX_TOKENS], seq_id[MAX_TOKENS];
  int32_t *seq_ids[MAX_TOKENS];
  int8_t output[MAX_TOKENS];
};

static const struct trial *current;
static struct observation *seen;
static struct columns columns;

static void fill(const struct trial *trial, int first) {
  int count = columns.count = trial->rows * trial->sequence_count;
  for (int i = 0; i < count; i++) {
    columns.token[i] = (7 + 11 * i + trial->rows) % VOCABULARY;
    columns.pos[i] = first + i % trial->rows;
    columns.n_seq_id[i] = 1;
    columns.output[i] = i % 3 == 1 || i == count - 1;
    columns.seq_id[i] = trial->sequences[i / trial->rows];
    columns.seq_ids[i] = &columns.seq_id[i];
  }
}

static bool are_sequences(uint64_t target) {
  uint64_t rows[MAX_TOKENS];
  size_t size = columns.count * sizeof(*rows);
  if (peek(target, rows, size) != size)
    return false;
  for (int i = 0; i < columns.count; i++)
    if (!peek_is(rows[i], &columns.seq_id[i], sizeof(int32_t)))
      return false;
  return true;
}

/* The offsets at which the struct there agrees with the trial; false when it cannot be it. */
static bool observe(void *pointer) {
  char raw[UBATCH_SIZE];
  size_t length = peek((uint64_t)pointer, raw, sizeof(raw));
  uint64_t *offsets = seen->offsets, target;
  memset(offsets, 0, sizeof(seen->offsets));
  for (size_t at = 0; at + 4 <= length; at += 4) {
    uint64_t bit = 1ull << at / 4;
    for (int i = 0; i < 4; i++)
      if (!memcmp(raw + at, &current->counts[i], 4))
        offsets[N_TOKENS + i] |= bit;
    if (at % 8 || at + 8 > length)
      continue;
    memcpy(&target, raw + at, sizeof(target));
    if (peek_is(target, columns.token, columns.count * 4))
      offsets[TOKEN] |= bit;
    if (peek_is(target, columns.pos, columns.count * 4))
      offsets[POS] |= bit;
    if (peek_is(target, columns.n_seq_id, columns.count * 4))
      offsets[N_SEQ_ID] |= bit;
    if (peek_is(target, columns.output, columns.count))
      offsets[OUTPUT] |= bit;
    if (are_sequences(target))
      offsets[SEQ_ID] |= bit;
  }
  return offsets[POS];
}

/* In the place of `process_ubatch`. */
static void *entered(void *first, void *second, void *third) {
  /* With a returned struct a hidden argument comes before `this`. */
  void *arguments[] = {first, second, third};
  for (int i = 1; i <= 2; i++)
    if (observe(arguments[i])) {
      seen->argument = i;
      *seen->error = 0;
      _exit(0);
    }
  strcpy(seen->error, "process_ubatch was given no such batch");
  _exit(0);
}

static const char *first_of(const char *name, const char *former) {
  return !engine_has(name) && engine_has(former) ? former : name;
}

static void *new_context(const struct trial *trial, const char *model) {
  struct opaque parameters = FUNCTION(struct opaque, "llama_model_default_params", void)();
  const char *load = first_of("llama_model_load_from_file", "llama_load_model_from_file");
  void *loaded = FUNCTION(void *, load, const char *, struct opaque)(model, parameters);
  if (!loaded)
    unfit("the tiny model was refused");
  parameters = FUNCTION(struct opaque, "llama_context_default_params", void)();
  /* n_ctx, n_batch, n_ubatch, n_seq_max come first; believed only where they look like it. */
  uint32_t *words = parameters.words;
  bool is_sane = words[3] == 1;
  for (int i = 1; i <= 2; i++)
    is_sane = is_sane && words[i] >= 32 && words[i] <= 1 << 16;
  if (trial->is_many) {
    if (!is_sane)
      unfit("llama_context_params starts with something unknown");
    words[0] = 256 * SEQUENCES;
    words[3] = SEQUENCES;
  }
  const char *make = first_of("llama_init_from_model", "llama_new_context_with_model");
  void *context = FUNCTION(void *, make, void *, struct opaque)(loaded, parameters);
  if (!context)
    unfit("no context for the tiny model");
  if (trial->is_many && engine_has("llama_n_seq_max") &&
      FUNCTION(uint32_t, "llama_n_seq_max", void *)(context) != SEQUENCES)
    unfit("n_seq_max is not where it was expected");
  return context;
}

void trial_run(const struct trial *trial, const char *model, struct observation *place) {
  static const int positions[] = {101, 0};
  int status = 0;
  current = trial;
  seen = place;
  FUNCTION(void, "llama_backend_init", void)();
  backends_load();
  void *context = new_context(trial, model);
  hook(engine_function("process_ubatch"), entered);
  for (int i = 0; i < 2; i++) {
    fill(trial, positions[i]);
    struct batch batch = {columns.count,   columns.token,  0,  columns.pos, columns.n_seq_id,
                          columns.seq_ids, columns.output, {0}};
    status = FUNCTION(int, "llama_decode", void *, struct batch)(context, batch);
  }
  unfit("llama_decode returned %d without process_ubatch", status);
}
