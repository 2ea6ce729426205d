/* SPDX-License-Identifier: Apache-2.0 */
#include "elf_symbols.h"
#include "failure.h"

#include <stdlib.h>
#include <string.h>

/* Far above any dynamic loader (unstripped: 2,000 symbols), far below what would hurt. */
#define MAX_SECTIONS 1024
#define MAX_SYMBOLS 65536
#define MAX_STRINGS (4u << 20)
#define MAX_TAGS 4096

/* Bytes of the file in memory of its own, and a NUL behind them; 0 when they are not there or are
 * too many. */
static char *read_part(const struct elf_file *elf, uint64_t offset, uint64_t size, uint64_t most) {
  if (!size || size > most)
    return 0;
  char *part = allocate(size + 1, 1);
  if (elf_file_read_at(elf, part, size, offset))
    return part;
  free(part);
  return 0;
}

/* The file's offset of a virtual address in what is loaded with these permissions. */
static bool offset_of(const struct elf_file *elf, uint64_t vaddr, uint32_t flags,
                      uint64_t *offset) {
  for (size_t i = 0; i < elf->segment_count; i++) {
    const Elf64_Phdr *segment = &elf->segments[i];
    if (segment->p_type != PT_LOAD || ~segment->p_flags & flags || vaddr < segment->p_vaddr ||
        vaddr - segment->p_vaddr >= segment->p_filesz)
      continue;
    *offset = vaddr - segment->p_vaddr + segment->p_offset;
    return *offset < elf->size;
  }
  return false;
}

static bool is_one_of(const char *name, const char *const *names) {
  while (*names && strcmp(name, *names))
    names++;
  return *names;
}

/* Looks through a table of symbols and the strings that name them. */
static bool find(const struct elf_file *elf, const Elf64_Shdr *table, const Elf64_Shdr *strings,
                 const char *const *names, uint64_t *offset) {
  bool found = false;
  uint64_t count = table->sh_size / sizeof(Elf64_Sym);
  Elf64_Sym *symbols = (Elf64_Sym *)read_part(elf, table->sh_offset, count * sizeof(Elf64_Sym),
                                              MAX_SYMBOLS * sizeof(Elf64_Sym));
  char *text = symbols ? read_part(elf, strings->sh_offset, strings->sh_size, MAX_STRINGS) : 0;
  for (uint64_t i = 0; text && i < count && !found; i++)
    found = symbols[i].st_shndx != SHN_UNDEF && symbols[i].st_name < strings->sh_size &&
            ELF64_ST_TYPE(symbols[i].st_info) == STT_FUNC &&
            is_one_of(text + symbols[i].st_name, names) &&
            offset_of(elf, symbols[i].st_value, PF_X, offset);
  free(text);
  free(symbols);
  return found;
}

/* By the section headers; `has_any`: whether there are symbols at all. */
static bool find_in_sections(const struct elf_file *elf, const char *const *names, uint64_t *offset,
                             bool *has_any) {
  static const uint32_t types[] = {SHT_DYNSYM, SHT_SYMTAB};
  Elf64_Ehdr head;
  bool found = false;
  if (!elf_file_read_at(elf, &head, sizeof(head), 0) || head.e_shentsize != sizeof(Elf64_Shdr))
    return false;
  Elf64_Shdr *sections = (Elf64_Shdr *)read_part(
      elf, head.e_shoff, head.e_shnum * sizeof(Elf64_Shdr), MAX_SECTIONS * sizeof(Elf64_Shdr));
  for (size_t kind = 0; kind < 2; kind++)
    for (size_t i = 0; sections && i < head.e_shnum && !found; i++) {
      if (sections[i].sh_type != types[kind] || sections[i].sh_link >= head.e_shnum)
        continue;
      *has_any = true;
      found = find(elf, &sections[i], &sections[sections[i].sh_link], names, offset);
    }
  free(sections);
  return found;
}

/* As the loader itself would: boards may have it without section headers (sstrip). Linkers put the
 * strings right after the symbols, of which no tag says how many there are. */
static bool find_in_dynamic(const struct elf_file *elf, const char *const *names,
                            uint64_t *offset) {
  const Elf64_Phdr *segment = elf->segments, *end = segment + elf->segment_count;
  uint64_t symbols = 0, strings = 0, size = 0;
  Elf64_Shdr table = {0}, text = {0};
  while (segment < end && segment->p_type != PT_DYNAMIC)
    segment++;
  if (segment == end)
    return false;
  uint64_t count = segment->p_filesz / sizeof(Elf64_Dyn);
  Elf64_Dyn *tags = (Elf64_Dyn *)read_part(elf, segment->p_offset, count * sizeof(*tags),
                                           MAX_TAGS * sizeof(*tags));
  for (uint64_t i = 0; tags && i < count && tags[i].d_tag != DT_NULL; i++) {
    if (tags[i].d_tag == DT_SYMTAB)
      symbols = tags[i].d_un.d_ptr;
    if (tags[i].d_tag == DT_STRTAB)
      strings = tags[i].d_un.d_ptr;
    if (tags[i].d_tag == DT_STRSZ)
      size = tags[i].d_un.d_val;
  }
  free(tags);
  table.sh_size = strings - symbols;
  text.sh_size = size;
  return symbols < strings && offset_of(elf, symbols, PF_R, &table.sh_offset) &&
         offset_of(elf, strings, PF_R, &text.sh_offset) && find(elf, &table, &text, names, offset);
}

bool elf_symbols_find(const struct elf_file *elf, const char *const *names, uint64_t *offset) {
  bool has_any = false;
  return find_in_sections(elf, names, offset, &has_any) ||
         (!has_any && find_in_dynamic(elf, names, offset));
}
