/* SPDX-License-Identifier: Apache-2.0 */
/* The very code of the audit library, with a page, a ring and a function of our own. */
#include "hit_stub.h"

#include <stdint.h>

#include "../../audit/rings.h"

void hit_nothing(void) { __asm__ volatile(""); }

#if defined(__x86_64__)
#include "../../audit/record_x86_64.h"
#else
#include "../../audit/record_aarch64.h"
#endif

#define ROOM 2048
#define HIDDEN __attribute__((visibility("hidden"), used))

HIDDEN struct stub_page stub_page = {.mask = ROOM - 1};
HIDDEN __thread struct {
  uint64_t word;
  struct stub_ring *ring;
  const uint32_t *cpu;
} stub_mine;
HIDDEN void (*slots[1])(void);
HIDDEN int stub_miss(unsigned stub) {
  (void)stub;
  return 0;
}

static struct {
  struct stub_ring head;
  struct stub_record records[ROOM];
} ring;

#if defined(__x86_64__)
#define CODE                                                                                       \
  "endbr64\n"                                                                                      \
  "cmpq $0, stub_page(%rip)\n"                                                                     \
  "jne recorders\n"                                                                                \
  "jmp *slots(%rip)\n"                                                                             \
  ".balign 256\n"
#define RECORDED RECORD(3, "mov %rdi, 8(%r11)\n", "movq $0, 16(%r11)\n")
#else
#define CODE                                                                                       \
  "hint 34\n"                                                                                      \
  "adrp x16, stub_page\n"                                                                          \
  "ldr x16, [x16, :lo12:stub_page]\n"                                                              \
  "cbnz x16, recorders\n"                                                                          \
  "adrp x16, slots\n"                                                                              \
  "ldr x16, [x16, :lo12:slots]\n"                                                                  \
  "br x16\n"                                                                                       \
  ".balign 256\n"
#define RECORDED RECORD(3, "str x0, [x14, 136]\n", "str xzr, [x14, 144]\n")
#endif

asm(".pushsection .text\n"
    ".balign 64\n"
    "hit_stub_code:\n" CODE "recorders:\n"
    ".cfi_startproc\n"
    ".set stub, 0\n" RECORDED ".cfi_endproc\n" RECORDER_MISS ".popsection\n");
extern HIDDEN void hit_stub_code(void);

void (*const hit_stub)(void) = hit_stub_code;

void hit_stub_switch(bool on) {
  static const uint32_t cpu;
  slots[0] = hit_nothing;
  ring.head = (struct stub_ring){.limit = ROOM};
  stub_mine.ring = &ring.head;
  stub_mine.cpu = &cpu;
  stub_mine.word = stub_page.switches[0] = on;
}
