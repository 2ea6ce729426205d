/* SPDX-License-Identifier: Apache-2.0 */
#include "embedded.h"
#include "failure.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* RING_OBJECT and PERF_OBJECT are paths of files made by gzip. */
#define EMBED(name, path)                                                                          \
  __asm__(".pushsection .rodata\n"                                                                 \
          ".balign 16\n"                                                                           \
          ".global " #name "\n" #name ":\n"                                                        \
          ".incbin \"" path "\"\n"                                                                 \
          ".global " #name "_end\n" #name "_end:\n"                                                \
          ".byte 0\n"                                                                              \
          ".popsection\n");                                                                        \
  extern const unsigned char name[], name##_end[]

EMBED(embedded_ring, RING_OBJECT);
EMBED(embedded_perf, PERF_OBJECT);

/* Of inflateInit2: what gzip writes. */
#define GZIP_WINDOW (16 + MAX_WBITS)

void *embedded_object(bool by_perf, size_t *size) {
  const unsigned char *start = by_perf ? embedded_perf : embedded_ring;
  const size_t packed = (by_perf ? embedded_perf_end : embedded_ring_end) - start;
  uint32_t unpacked; /* gzip's last word, in the byte order of all machines there are */
  memcpy(&unpacked, start + packed - sizeof unpacked, sizeof unpacked);
  void *object = malloc(unpacked);
  z_stream stream = {
      .next_in = (unsigned char *)start,
      .avail_in = packed,
      .next_out = object,
      .avail_out = unpacked,
  };
  if (!object || inflateInit2(&stream, GZIP_WINDOW) != Z_OK ||
      inflate(&stream, Z_FINISH) != Z_STREAM_END)
    fail(EXIT_KERNEL, "", "cannot unpack the BPF object in this program");
  inflateEnd(&stream);
  *size = unpacked;
  return object;
}
