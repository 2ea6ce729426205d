// A made-up engine: a decode of its own on the double's ggml (with -DWITHOUT_LLAMA).
//
// toy PROMPT DECODE WORK_US: prints how often toy_decode was called, and with how many tokens.
#include "known.h"

#include <stdlib.h>

struct toy {
  struct llama_context *ctx;
  struct llama_batch batch;
  long calls, tokens;
};

// There, and never called: what an adapter may take for the right one.
__attribute__((noinline, used)) int toy_decode_batch(struct toy *toy, int n) {
  __asm__ volatile("" : : "r"(toy), "r"(n) : "memory");
  return n;
}

__attribute__((noinline)) int toy_decode(struct toy *toy, const int *tokens, int n, int n_past) {
  toy->batch.n_tokens = n;
  for (int i = 0; i < n; i++) {
    toy->batch.token[i] = tokens[i];
    toy->batch.pos[i] = n_past + i;
    toy->batch.n_seq_id[i] = 1;
    toy->batch.seq_id[i][0] = 0;
    toy->batch.logits[i] = i == n - 1;
  }
  toy->calls++;
  toy->tokens += n;
  return llama_decode(toy->ctx, toy->batch);
}

int main(int argc, char **argv) {
  if (argc != 4)
    return 2;
  const int prompt = atoi(argv[1]), decode = atoi(argv[2]);
  known_config()->work_us = atoi(argv[3]);
  known_config()->samples = 0;
  llama_backend_init();
  struct llama_model *model = llama_model_load_from_file(argv[0], llama_model_default_params());
  struct llama_context_params params = llama_context_default_params();
  params.n_ctx = prompt + decode + 1;
  struct llama_context *ctx = llama_init_from_model(model, params);
  struct toy toy = {ctx, llama_batch_init(prompt, 0, 1), 0, 0};
  int *tokens = calloc(prompt, sizeof *tokens);
  toy_decode(&toy, tokens, prompt, 0);
  for (int i = 0; i < decode; i++)
    toy_decode(&toy, tokens, 1, prompt + i);
  printf("{\"calls\": %ld, \"tokens\": %ld}\n", toy.calls, toy.tokens);
}
