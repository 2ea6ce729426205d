// What the test programs and the engine double share: llama.cpp's public C ABI, and our options.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

// Then it is a program that has ggml alone.
#ifdef WITHOUT_LLAMA
#define llama_backend_init known_backend_init
#define llama_model_default_params known_model_default_params
#define llama_context_default_params known_context_default_params
#define llama_model_load_from_file known_model_load_from_file
#define llama_init_from_model known_init_from_model
#define llama_batch_init known_batch_init
#define llama_batch_free known_batch_free
#define llama_decode known_decode
#define llama_free known_free
#define llama_model_free known_model_free
#define llama_n_ctx known_n_ctx
#define llama_n_seq_max known_n_seq_max
#endif

struct llama_model;
struct llama_context;

struct llama_batch {
  int32_t n_tokens, *token;
  float *embd;
  int32_t *pos, *n_seq_id, **seq_id;
  int8_t *logits;
};
struct llama_model_params {
  void *devices;
  int32_t n_gpu_layers, reserved[13];
};
struct llama_context_params {
  uint32_t n_ctx, n_batch, n_ubatch, n_seq_max;
  int32_t n_threads, reserved[27];
};

void llama_backend_init(void);
struct llama_model_params llama_model_default_params(void);
struct llama_context_params llama_context_default_params(void);
struct llama_model *llama_model_load_from_file(const char *path, struct llama_model_params params);
struct llama_context *llama_init_from_model(struct llama_model *, struct llama_context_params);
struct llama_batch llama_batch_init(int32_t n_tokens, int32_t embd, int32_t n_seq_max);
void llama_batch_free(struct llama_batch batch);
int32_t llama_decode(struct llama_context *ctx, struct llama_batch batch);
void llama_free(struct llama_context *ctx);
void llama_model_free(struct llama_model *model);

struct known_config {
  int threads, layers, work_us, sleep, rebuild, no_fused, backend2, final_barrier, samples, touch,
      loop, experts, used, rows, no_pool, recur, mixed, even;
  void (*fail)(void); // called by llama_decode, which it need not return to
};
#define KNOWN_DEFAULTS                                                                             \
  { .threads = 2, .layers = 3, .work_us = 23, .rebuild = 7, .samples = 1, .used = 2 }
struct known_config *known_config(void);
long known_ubatches(void);                           // micro-batches run so far
void known_ask(struct llama_context *, int step);    // all but decoding
void known_asked(FILE *out);                         // what it has asked, likewise
void known_parts(FILE *out);                         // what steps did beside computing
void known_calibrate(void);                          // how fast --mixed works here
void known_truth(FILE *out, struct llama_context *); // JSON members, without the braces

// What a step does beside computing (parts.c).
struct ggml_tensor;
struct ggml_backend;
struct ggml_cgraph;
void known_split(void *sched, struct ggml_cgraph *);
void known_allocate(void *sched, struct ggml_cgraph *);
void known_set(struct ggml_tensor *, const void *data, size_t size);
void known_get(const struct ggml_tensor *, void *data, size_t size);
void known_wait(struct ggml_backend *);
void known_copy(struct ggml_backend *of, struct ggml_backend *by, struct ggml_tensor *from,
                struct ggml_tensor *to);
