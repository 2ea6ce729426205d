/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4): tells files apart that carry no build id. */
#ifndef PROFINFER_SHA256_H
#define PROFINFER_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
  uint32_t hash[8];
  uint64_t length; /* bytes so far */
  unsigned char block[64];
};

void sha256_begin(struct sha256 *state);
void sha256_add(struct sha256 *state, const void *data, size_t length);
void sha256_end(struct sha256 *state, unsigned char sum[32]);

#endif
