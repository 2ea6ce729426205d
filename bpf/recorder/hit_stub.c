/* SPDX-License-Identifier: Apache-2.0 */
/* The very code of the audit library, with a page, a ring and a function of our own. */
#include "hit_stub.h"

#include <stdint.h>

#include "../../audit/rings.h"

#if defined(__x86_64__)

#include "../../audit/record_x86_64.h"

#define ROOM 2048
#define HIDDEN __attribute__((visibility("hidden"), used))

HIDDEN struct stub_page stub_page = {.mask = ROOM - 1};
HIDDEN __thread struct {
  uint64_t word;
  struct stub_ring *ring;
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

asm(".pushsection .text\n"
    ".balign 64\n"
    "hit_stub_code:\n"
    "endbr64\n"
    "cmpq $0, stub_page(%rip)\n"
    "jne recorder\n"
    "jmp *slots(%rip)\n"
    ".balign 256\n"
    "recorder:\n"
    ".cfi_startproc\n"
    ".set stub, 0\n" RECORD(3, "mov %rdi, 8(%r11)\n",
                            "movq $0, 16(%r11)\n") ".cfi_endproc\n" RECORDER_MISS ".popsection\n");
extern HIDDEN void hit_stub_code(void);

static void nothing(void) {}

void (*const hit_stub)(void) = hit_stub_code;

void hit_stub_switch(bool on) {
  slots[0] = nothing;
  ring.head = (struct stub_ring){.limit = ROOM};
  stub_mine.ring = &ring.head;
  stub_mine.word = stub_page.switches[0] = on;
}

#else

void (*const hit_stub)(void) = 0;

void hit_stub_switch(bool on) { (void)on; }

#endif
