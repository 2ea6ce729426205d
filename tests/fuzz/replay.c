/* SPDX-License-Identifier: Apache-2.0 */
/* In the place of libFuzzer: gives each file that is named to the target, once. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void replay(const char *path) {
  FILE *file = fopen(path, "r");
  if (!file || fseek(file, 0, SEEK_END)) {
    perror(path);
    exit(1);
  }
  size_t size = ftell(file);
  rewind(file);
  uint8_t *data = malloc(size ? size : 1); /* no byte more, so that reading on is noticed */
  if (!data || fread(data, 1, size, file) != size) {
    perror(path);
    exit(1);
  }
  fclose(file);
  puts(path);
  fflush(stdout);
  LLVMFuzzerTestOneInput(data, size);
  free(data);
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++)
    replay(argv[i]);
  return argc > 1 ? 0 : 1;
}
