/* SPDX-License-Identifier: Apache-2.0 */
#include "hook.h"
#include "unfit.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct __attribute__((packed)) jump {
#if defined(__x86_64__)
  /* mov $target, %rax; jmp *%rax */
  unsigned char move[2];
  void *target;
  unsigned char jump[2];
#elif defined(__aarch64__)
  /* ldr x16, .+8; br x16 */
  uint32_t code[2];
  void *target;
#endif
};

void hook(void *function, void *(*replacement)(void *, void *, void *)) {
#if defined(__x86_64__)
  struct jump jump = {{0x48, 0xb8}, replacement, {0xff, 0xe0}};
#elif defined(__aarch64__)
  struct jump jump = {{0x58000050, 0xd61f0200}, replacement};
#endif
  uintptr_t page = sysconf(_SC_PAGESIZE), start = (uintptr_t)function & -page;
  size_t size = ((uintptr_t)function + sizeof(jump) - start + page - 1) & -page;
  /* Never writable and executable at once: some systems refuse it. */
  if (mprotect((void *)start, size, PROT_READ | PROT_WRITE))
    unfit("code cannot be replaced: %s", strerror(errno));
  memcpy(function, &jump, sizeof(jump));
  if (mprotect((void *)start, size, PROT_READ | PROT_EXEC))
    unfit("code cannot be replaced: %s", strerror(errno));
  __builtin___clear_cache((char *)function, (char *)function + sizeof(jump));
}
