// Decoding that fails as llama.cpp's does where buffers cannot be allocated: by an exception, which
// is caught here. Prints how often.
#include <cstdio>
#include <stdexcept>
extern "C" {
#include "known.h"
}

static void fail() { throw std::runtime_error("failed to allocate compute buffers"); }

int main() {
  llama_backend_init();
  llama_model *model = llama_model_load_from_file("/proc/self/exe", llama_model_default_params());
  llama_context_params params = llama_context_default_params();
  params.n_ctx = 16, params.n_batch = params.n_ubatch = 4, params.n_seq_max = 1;
  llama_context *context = llama_init_from_model(model, params);
  int32_t token = 7;
  llama_batch batch = {};
  batch.n_tokens = 1, batch.token = &token;
  int caught = 0, decoded = 0;
  for (int i = 0; i < 6; i++) {
    known_config()->fail = i % 2 ? fail : nullptr;
    try {
      decoded += !llama_decode(context, batch);
    } catch (const std::exception &) {
      caught++;
    }
  }
  std::printf("%d decoded, %d caught\n", decoded, caught);
  llama_free(context);
  llama_model_free(model);
}
