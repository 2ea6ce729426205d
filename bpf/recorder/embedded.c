/* SPDX-License-Identifier: Apache-2.0 */
#include "embedded.h"

/* RING_OBJECT and PERF_OBJECT are paths. */
#define EMBED(name, path)                                                                          \
  __asm__(".pushsection .rodata\n"                                                                 \
          ".balign 16\n"                                                                           \
          ".global " #name "\n" #name ":\n"                                                        \
          ".incbin \"" path "\"\n"                                                                 \
          ".global " #name "_end\n" #name "_end:\n"                                                \
          ".byte 0\n"                                                                              \
          ".popsection\n")

EMBED(embedded_ring, RING_OBJECT);
EMBED(embedded_perf, PERF_OBJECT);
