/* SPDX-License-Identifier: Apache-2.0 */
#include "hit_sites.h"

#include <link.h>
#include <time.h>

/* 64 bytes each: none crosses a page, where wide NOPs are not rewritten. In assembly, and called
 * by address only: whatever the compiler's options, the probe sits on what is written here. */
#define SITE(name, code)                                                                           \
  asm(".pushsection .text\n"                                                                       \
      ".balign 64\n"                                                                               \
      ".globl hit_" #name "\n"                                                                     \
      ".type hit_" #name ", %function\n"                                                           \
      "hit_" #name ":\n" code "\n"                                                                 \
      ".size hit_" #name ", . - hit_" #name "\n"                                                   \
      ".popsection\n");                                                                            \
  extern void hit_##name(void)

#if defined(__x86_64__)
SITE(nop1, "nop; ret");
SITE(nop5, ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00; ret");
SITE(nop10, ".byte 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00; ret");
SITE(push, "push %rbp; pop %rbp; ret");
SITE(jcc, "je 1f; 1: ret");
SITE(jmp, "jmp 1f; 1: ret");
SITE(call, "call 1f; ret; 1: ret");
SITE(stepped, "mov %rdi, %rax; ret");

const struct hit_site hit_sites[] = {
    {"nop1", hit_nop1}, {"nop5", hit_nop5}, {"nop10", hit_nop10}, {"push", hit_push},
    {"jcc", hit_jcc},   {"jmp", hit_jmp},   {"call", hit_call},   {"stepped", hit_stepped},
};
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

const struct hit_site hit_sites[] = {
    {"nop", hit_nop}, {"hint", hit_hint},       {"b", hit_b},   {"b.cond", hit_b_cond},
    {"cbz", hit_cbz}, {"tbz", hit_tbz},         {"br", hit_br}, {"adr", hit_adr},
    {"stp", hit_stp}, {"stepped", hit_stepped},
};
#else
#error "this machine has no kinds of sites yet"
#endif
const size_t hit_site_count = sizeof(hit_sites) / sizeof(*hit_sites);

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Never inlined: a loop without a probe and one with it are the same code. */
__attribute__((noinline, noclone)) uint64_t hit_loop(void (*function)(void), uint64_t n) {
  uint64_t start = now();
  for (uint64_t i = 0; i < n; i++)
    function();
  return now() - start;
}

struct place {
  uint64_t address, offset;
};

static int find(struct dl_phdr_info *loaded, size_t size, void *data) {
  (void)size;
  struct place *place = data;
  uint64_t address = place->address - loaded->dlpi_addr;
  for (int i = 0; i < loaded->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &loaded->dlpi_phdr[i];
    if (segment->p_type == PT_LOAD && address >= segment->p_vaddr &&
        address - segment->p_vaddr < segment->p_filesz) {
      place->offset = address - segment->p_vaddr + segment->p_offset;
      return 1;
    }
  }
  return 0;
}

uint64_t hit_offset(void (*function)(void)) {
  struct place place = {.address = (uintptr_t)function};
  dl_iterate_phdr(find, &place);
  return place.offset;
}
