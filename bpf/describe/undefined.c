/* SPDX-License-Identifier: Apache-2.0 */
#include "undefined.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_SEGMENTS 1024
#define MAX_INDEX (1u << 20)

/* What lies at a virtual address, when `length` bytes from there are in the file. */
static const void *at(const struct undefined *u, uint64_t address, uint64_t length) {
  for (unsigned i = 0; i < u->segment_count; i++) {
    const Elf64_Phdr *s = &u->segments[i];
    if (s->p_type != PT_LOAD || address < s->p_vaddr || address - s->p_vaddr > s->p_filesz ||
        length > s->p_filesz - (address - s->p_vaddr))
      continue;
    uint64_t offset = s->p_offset + (address - s->p_vaddr);
    return offset <= u->size && length <= u->size - offset ? u->file + offset : 0;
  }
  return 0;
}

static uint64_t value(const struct undefined *u, int64_t tag) {
  for (size_t i = 0; i < u->dynamic_count; i++)
    if (u->dynamic[i].d_tag == tag)
      return u->dynamic[i].d_un.d_val;
  return 0;
}

static const char *text(const struct undefined *u, uint64_t offset) {
  uint64_t size = value(u, DT_STRSZ);
  const char *strings = at(u, value(u, DT_STRTAB), size);
  bool is_inside = strings && offset < size && memchr(strings + offset, 0, size - offset);
  return is_inside ? strings + offset : 0;
}

bool undefined_open(struct undefined *u, const char *path) {
  *u = (struct undefined){.path = path};
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
  if (size >= (off_t)sizeof(Elf64_Ehdr)) {
    void *file = mmap(0, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (file != MAP_FAILED) {
      u->file = file;
      u->size = size;
    }
  }
  if (fd >= 0)
    close(fd);
  const Elf64_Ehdr *head = (const void *)u->file;
  if (!head || memcmp(head->e_ident, ELFMAG, SELFMAG) || head->e_ident[EI_CLASS] != ELFCLASS64 ||
      head->e_phnum > MAX_SEGMENTS || head->e_phoff > u->size ||
      head->e_phnum * sizeof(Elf64_Phdr) > u->size - head->e_phoff)
    return undefined_close(u), false;
  u->segments = (const void *)(u->file + head->e_phoff);
  u->segment_count = head->e_phnum;
  for (unsigned i = 0; i < u->segment_count; i++)
    if (u->segments[i].p_type == PT_DYNAMIC) {
      u->dynamic_count = u->segments[i].p_filesz / sizeof(Elf64_Dyn);
      u->dynamic = at(u, u->segments[i].p_vaddr, u->dynamic_count * sizeof(Elf64_Dyn));
    }
  return u->dynamic || (undefined_close(u), false);
}

void undefined_close(struct undefined *u) {
  if (u->file)
    munmap((void *)u->file, u->size);
  free(u->names);
  *u = (struct undefined){0};
}

const char *undefined_needed(const struct undefined *u, unsigned number) {
  for (size_t i = 0; i < u->dynamic_count; i++)
    if (u->dynamic[i].d_tag == DT_NEEDED && !number--)
      return text(u, u->dynamic[i].d_un.d_val);
  return 0;
}

bool undefined_place(const struct undefined *u, unsigned number, const char *name, char *path,
                     size_t size) {
  static const char *const origins[] = {"$ORIGIN", "${ORIGIN}"};
  uint64_t offset = value(u, DT_RUNPATH);
  const char *place = text(u, offset ? offset : value(u, DT_RPATH)), *slash = strrchr(u->path, '/');
  if (!offset && !value(u, DT_RPATH))
    return false;
  while (place && number--)
    place = (place = strchr(place, ':')) ? place + 1 : 0;
  if (!place)
    return false;
  size_t length = strcspn(place, ":"), home = 0;
  for (unsigned i = 0; i < 2; i++) {
    size_t prefix = strlen(origins[i]);
    if (!strncmp(place, origins[i], prefix)) {
      place += prefix;
      length -= prefix;
      home = slash ? (size_t)(slash - u->path) : 0;
    }
  }
  snprintf(path, size, "%.*s%.*s/%s", (int)home, u->path, (int)length, place, name);
  return true;
}

static void collect(struct undefined *u, uint64_t table, uint64_t length, unsigned char *seen) {
  uint64_t symbols = value(u, DT_SYMTAB), versions = value(u, DT_VERSYM);
  const Elf64_Rela *entry = at(u, table, length);
  for (uint64_t i = 0; entry && i < length / sizeof(*entry); i++) {
    uint64_t index = ELF64_R_SYM(entry[i].r_info);
    if (!index || index >= MAX_INDEX || seen[index]++)
      continue;
    const Elf64_Sym *symbol = at(u, symbols + index * sizeof(*symbol), sizeof(*symbol));
    const uint16_t *version = versions ? at(u, versions + 2 * index, 2) : 0;
    if (!symbol || symbol->st_shndx != SHN_UNDEF || ELF64_ST_BIND(symbol->st_info) != STB_GLOBAL ||
        ELF64_ST_TYPE(symbol->st_info) == STT_TLS)
      continue;
    /* With a version it is known which library has it. */
    if (version && (*version & 0x7fff) > VER_NDX_GLOBAL)
      continue;
    const char *name = text(u, symbol->st_name);
    if (name && *name && !dlsym(RTLD_DEFAULT, name))
      u->names[u->name_count++] = name;
  }
}

size_t undefined_collect(struct undefined *u) {
  uint64_t length = value(u, DT_RELASZ), jumps = value(u, DT_PLTRELSZ);
  unsigned char *seen = calloc(MAX_INDEX, 1);
  size_t most = (length + jumps) / sizeof(Elf64_Rela);
  u->names = calloc(most < MAX_INDEX ? most + 1 : MAX_INDEX, sizeof(*u->names));
  if (seen && u->names) {
    collect(u, value(u, DT_RELA), length, seen);
    collect(u, value(u, DT_JMPREL), jumps, seen);
  }
  free(seen);
  return u->name_count;
}
