/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * What a uprobe costs by the instruction it sits on: one function per kind that profinfer/sites.py
 * tells apart, to be probed at its first byte and called in a loop. This is user space, unlike the
 * rest of the folder; profinfer/hitcost.py loads it into its own process.
 */
#include <stdint.h>
#include <time.h>

/* 64 bytes each: none crosses a page, where wide NOPs are not rewritten. */
#define SITE(name, code)                                                                           \
  asm(".pushsection .text\n"                                                                       \
      ".balign 64\n"                                                                               \
      ".globl hit_" #name "\n"                                                                     \
      ".type hit_" #name ", %function\n"                                                           \
      "hit_" #name ":\n" code "\n"                                                                 \
      ".size hit_" #name ", . - hit_" #name "\n"                                                   \
      ".popsection\n")

#if defined(__x86_64__)
SITE(nop1, "nop; ret");
SITE(nop5, ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00; ret");
SITE(nop10, ".byte 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00; ret");
SITE(push, "push %rbp; pop %rbp; ret");
SITE(jcc, "je 1f; 1: ret");
SITE(jmp, "jmp 1f; 1: ret");
SITE(call, "call 1f; ret; 1: ret");
SITE(stepped, "mov %rdi, %rax; ret");
#elif defined(__aarch64__)
SITE(nop, "nop; ret");
SITE(hint, "hint #34; ret");
SITE(b, "b 1f; 1: ret");
SITE(b_cond, "b.eq 1f; 1: ret");
SITE(cbz, "cbz x0, 1f; 1: ret");
SITE(tbz, "tbz x0, #0, 1f; 1: ret");
SITE(br, "ret");
SITE(adr, "adr x9, 1f; 1: ret");
SITE(stp, "stp x29, x30, [sp, #-16]!; ldp x29, x30, [sp], #16; ret");
SITE(stepped, "mov x9, x0; ret");
#else
#error "this machine has no kinds of sites yet"
#endif

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Nanoseconds that n calls of f take. */
uint64_t hit_loop(void (*f)(void), uint64_t n) {
  uint64_t start = now();
  for (uint64_t i = 0; i < n; i++)
    f();
  return now() - start;
}
