/* SPDX-License-Identifier: Apache-2.0 */
#include "embedded.h"
#include "failure.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* OBJECTS is a folder of what gzip has made of the objects. */
#define EMBED(name, file)                                                                          \
  __asm__(".pushsection .rodata\n"                                                                 \
          ".balign 16\n"                                                                           \
          ".global " #name "\n" #name ":\n"                                                        \
          ".incbin \"" OBJECTS "/" file ".bpf.o.gz\"\n"                                            \
          ".global " #name "_end\n" #name "_end:\n"                                                \
          ".byte 0\n"                                                                              \
          ".popsection\n");                                                                        \
  extern const unsigned char name[], name##_end[]

EMBED(embedded_profinfer_ring, "profinfer");
EMBED(embedded_profinfer_perf, "profinfer-perf");
EMBED(embedded_scheduler_ring, "scheduler");
EMBED(embedded_scheduler_perf, "scheduler-perf");
EMBED(embedded_launch, "launch");

static const struct {
  const char *name;
  const unsigned char *start[2], *end[2]; /* by ring, by perf */
} objects[] = {
    {"profinfer",
     {embedded_profinfer_ring, embedded_profinfer_perf},
     {embedded_profinfer_ring_end, embedded_profinfer_perf_end}},
    {"scheduler",
     {embedded_scheduler_ring, embedded_scheduler_perf},
     {embedded_scheduler_ring_end, embedded_scheduler_perf_end}},
    {"launch", {embedded_launch, embedded_launch}, {embedded_launch_end, embedded_launch_end}},
};
#define OBJECT_COUNT (sizeof(objects) / sizeof(*objects))

/* Of inflateInit2: what gzip writes. */
#define GZIP_WINDOW (16 + MAX_WBITS)

void *embedded_object(const char *name, bool by_perf, size_t *size) {
  size_t found = 0;
  while (found < OBJECT_COUNT && strcmp(objects[found].name, name))
    found++;
  if (found == OBJECT_COUNT)
    fail(EXIT_KERNEL, "", "there is no BPF object %s in this program", name);
  const unsigned char *start = objects[found].start[by_perf];
  const size_t packed = objects[found].end[by_perf] - start;
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
    fail(EXIT_KERNEL, "", "cannot unpack the BPF object %s in this program", name);
  inflateEnd(&stream);
  *size = unpacked;
  return object;
}
