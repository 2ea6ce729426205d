/* SPDX-License-Identifier: Apache-2.0 */
/* The ELF parser: whatever the target has mapped, and what is said to be a dynamic loader. */
#include "elf_file.h"
#include "elf_symbols.h"
#include "fuzz.h"

void fuzz_one(const uint8_t *data, size_t size) {
  static const char *const names[] = {"_dl_debug_state", "r_brk", 0};
  struct elf_file elf;
  char id[BUILD_ID_TEXT], sum[65];
  uint64_t found;
  if (elf_file_read(&elf, fuzz_file(data, size))) {
    elf_file_build_id(&elf, id);
    fuzz_look_at_text(id);
    for (uint64_t offset = 0; offset <= size; offset += 512)
      elf_file_vaddr_of(&elf, offset, &found);
    elf_file_vaddr_of(&elf, UINT64_MAX, &found);
    if (elf_symbols_find(&elf, names, &found) && found >= size)
      abort(); /* a probe beyond the file */
    if (elf_file_sha256(&elf, sum))
      fuzz_look_at_text(sum);
  }
  elf_file_close(&elf);
}
