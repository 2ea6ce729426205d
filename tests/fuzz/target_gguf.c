/* SPDX-License-Identifier: Apache-2.0 */
/* The parser of a model's header, which comes from wherever models come from. */
#include "fuzz.h"
#include "gguf.h"

#include <string.h>

struct input {
  const uint8_t *data;
  size_t size;
};

static ssize_t read_input(void *file, void *to, size_t length, uint64_t offset) {
  const struct input *input = file;
  size_t left = offset < input->size ? input->size - offset : 0;
  if (length > left)
    length = left;
  memcpy(to, input->data + (length ? offset : 0), length);
  return length;
}

/* `claimed`: the size that its file had when it was asked for. */
static void look(struct input *input, uint64_t claimed) {
  const char *problem = 0;
  uint64_t header = gguf_header_size(read_input, input, claimed, &problem);
  if (header > claimed || header > GGUF_HEADER_MAX || !header != !!problem)
    abort();
  if (problem)
    fuzz_look_at_text(problem);
}

void fuzz_one(const uint8_t *data, size_t size) {
  struct input input = {data, size};
  look(&input, size);
  look(&input, size + 100000); /* it became shorter */
  look(&input, size / 2);      /* or longer */
}
