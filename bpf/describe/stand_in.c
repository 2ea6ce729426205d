/* SPDX-License-Identifier: Apache-2.0 */
#include "stand_in.h"

#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* No processor of ours has larger pages. */
#define PAGE 65536
/* More than any object is that a program lends to a library. */
#define ZEROS (4 * PAGE)
#define DYNAMICS 6

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#endif

struct head {
  Elf64_Ehdr file;
  Elf64_Phdr load, dynamic, stack;
  Elf64_Dyn tags[DYNAMICS];
};

/* As the System V ABI has it: unlike the newer kind, every loader reads it. */
static uint32_t hash(const char *name) {
  uint32_t value = 0;
  for (; *name; name++) {
    value = (value << 4) + (unsigned char)*name;
    value ^= (value >> 24) & 0xf0;
    value &= 0x0fffffff;
  }
  return value;
}

static bool write_file(const char *path, const char *data, size_t size) {
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
  ssize_t written = 1;
  while (fd >= 0 && size && (written = write(fd, data, size)) > 0) {
    data += written;
    size -= written;
  }
  return fd >= 0 && !close(fd) && !size;
}

bool stand_in_write(const char *path, const char **names, size_t count) {
  size_t strings = 1, symbols_at = sizeof(struct head);
  for (size_t i = 0; i < count; i++)
    strings += strlen(names[i]) + 1;
  /* The hash has as many buckets as symbols: their number is the first symbol's, too. */
  size_t hash_at = symbols_at + (count + 1) * sizeof(Elf64_Sym);
  size_t strings_at = hash_at + (2 + count + count + 1) * sizeof(uint32_t);
  size_t size = strings_at + strings, zeros = (size + PAGE - 1) & -PAGE;
  char *data = calloc(1, size);
  if (!data)
    return false;
  *(struct head *)data = (struct head){
      .file = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
               .e_type = ET_DYN,
               .e_machine = MACHINE,
               .e_version = EV_CURRENT,
               .e_phoff = offsetof(struct head, load),
               .e_ehsize = sizeof(Elf64_Ehdr),
               .e_phentsize = sizeof(Elf64_Phdr),
               .e_phnum = 3},
      .load = {.p_type = PT_LOAD,
               .p_flags = PF_R | PF_W,
               .p_filesz = size,
               .p_memsz = zeros + ZEROS,
               .p_align = PAGE},
      .dynamic = {.p_type = PT_DYNAMIC,
                  .p_flags = PF_R | PF_W,
                  .p_offset = offsetof(struct head, tags),
                  .p_vaddr = offsetof(struct head, tags),
                  .p_filesz = sizeof(Elf64_Dyn) * DYNAMICS,
                  .p_memsz = sizeof(Elf64_Dyn) * DYNAMICS,
                  .p_align = 8},
      /* Without it loaders want a stack that can be executed. */
      .stack = {.p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W, .p_align = 16},
      .tags = {{DT_HASH, {hash_at}},
               {DT_SYMTAB, {symbols_at}},
               {DT_SYMENT, {sizeof(Elf64_Sym)}},
               {DT_STRTAB, {strings_at}},
               {DT_STRSZ, {strings}},
               {DT_NULL, {0}}},
  };
  Elf64_Sym *symbol = (Elf64_Sym *)(data + symbols_at) + 1;
  uint32_t *table = (uint32_t *)(data + hash_at), *buckets = table + 2, *chain = buckets + count;
  char *string = data + strings_at + 1;
  table[0] = count;
  table[1] = count + 1;
  for (size_t i = 0; i < count; i++, symbol++) {
    size_t length = strlen(names[i]) + 1;
    uint32_t *bucket = &buckets[hash(names[i]) % count];
    memcpy(string, names[i], length);
    /* In no section, but defined: loaders ask no more of that number. */
    *symbol = (Elf64_Sym){.st_name = string - (data + strings_at),
                          .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT),
                          .st_shndx = 1,
                          .st_value = zeros,
                          .st_size = ZEROS};
    string += length;
    chain[i + 1] = *bucket;
    *bucket = i + 1;
  }
  bool is_written = write_file(path, data, size);
  free(data);
  return is_written;
}
