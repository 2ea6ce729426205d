/* SPDX-License-Identifier: Apache-2.0 */
#include "sha256.h"
#include "elf_file.h"
#include "harness.h"

static const char *sum_of(const char *data, size_t length, size_t piece) {
  static char hex[65];
  unsigned char sum[32];
  struct sha256 state;
  sha256_begin(&state);
  for (size_t at = 0; at < length; at += piece)
    sha256_add(&state, data + at, length - at < piece ? length - at : piece);
  sha256_end(&state, sum);
  to_hex(sum, sizeof(sum), hex);
  return hex;
}

/* The examples that NIST publishes with FIPS 180. */
static void published_examples(void) {
  static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  CHECK_TEXT(sum_of("", 0, 1), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK_TEXT(sum_of("abc", 3, 3),
             "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK_TEXT(sum_of(two_blocks, strlen(two_blocks), 56),
             "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  static char million[1000000];
  memset(million, 'a', sizeof(million));
  CHECK_TEXT(sum_of(million, sizeof(million), 4096),
             "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void pieces_do_not_matter(void) {
  char data[300], whole[65];
  for (size_t i = 0; i < sizeof(data); i++)
    data[i] = i * 7;
  for (size_t length = 0; length < sizeof(data); length++) {
    strcpy(whole, sum_of(data, length, sizeof(data)));
    for (size_t piece = 1; piece < 130; piece += 7)
      CHECK_TEXT(sum_of(data, length, piece), whole);
  }
}

int main(void) {
  RUN(published_examples);
  RUN(pieces_do_not_matter);
}
