/* SPDX-License-Identifier: Apache-2.0 */
#include "elf_file.h"
#include "failure.h"
#include "sha256.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Far above any real engine, far below what would hurt. */
#define MAX_SEGMENTS 1024
#define MAX_NOTES 65536

bool elf_file_read_at(const struct elf_file *elf, void *data, uint64_t length, uint64_t offset) {
  return offset <= elf->size && length <= elf->size - offset &&
         pread(elf->fd, data, length, offset) == (ssize_t)length;
}

bool elf_file_read(struct elf_file *elf, int fd) {
  struct stat status;
  Elf64_Ehdr head;
  *elf = (struct elf_file){.fd = fd};
  if (fstat(fd, &status) || !S_ISREG(status.st_mode))
    return false;
  elf->size = status.st_size;
  if (!elf_file_read_at(elf, &head, sizeof(head), 0) || memcmp(head.e_ident, ELFMAG, SELFMAG) ||
      head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB ||
      head.e_phentsize != sizeof(Elf64_Phdr) || head.e_phnum > MAX_SEGMENTS)
    return false;
  elf->segments = allocate(head.e_phnum, sizeof(Elf64_Phdr));
  elf->segment_count = head.e_phnum;
  return elf_file_read_at(elf, elf->segments, head.e_phnum * sizeof(Elf64_Phdr), head.e_phoff);
}

void elf_file_close(struct elf_file *elf) {
  close(elf->fd);
  free(elf->segments);
  *elf = (struct elf_file){.fd = -1};
}

void to_hex(const unsigned char *bytes, size_t length, char *hex) {
  static const char digit[] = "0123456789abcdef";
  for (size_t i = 0; i < length; i++) {
    *hex++ = digit[bytes[i] >> 4];
    *hex++ = digit[bytes[i] & 15];
  }
  *hex = 0;
}

static bool find_id(const unsigned char *notes, size_t length, char id[BUILD_ID_TEXT]) {
  Elf64_Nhdr note;
  for (size_t at = 0; at + sizeof(note) <= length;) {
    memcpy(&note, notes + at, sizeof(note));
    size_t name = at + sizeof(note);
    size_t data = name + ((note.n_namesz + 3ull) & ~3ull);
    size_t end = data + ((note.n_descsz + 3ull) & ~3ull);
    bool is_id = note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && note.n_descsz >= 4 &&
                 note.n_descsz <= (BUILD_ID_TEXT - 1) / 2;
    if (is_id && data + note.n_descsz <= length && !memcmp(notes + name, "GNU", 4)) {
      to_hex(notes + data, note.n_descsz, id);
      return true;
    }
    at = end;
  }
  return false;
}

void elf_file_build_id(const struct elf_file *elf, char id[BUILD_ID_TEXT]) {
  id[0] = 0;
  for (size_t i = 0; i < elf->segment_count && !*id; i++) {
    const Elf64_Phdr *segment = &elf->segments[i];
    if (segment->p_type != PT_NOTE || segment->p_filesz > MAX_NOTES)
      continue;
    unsigned char *notes = allocate(segment->p_filesz, 1);
    if (elf_file_read_at(elf, notes, segment->p_filesz, segment->p_offset))
      find_id(notes, segment->p_filesz, id);
    free(notes);
  }
}

bool elf_file_vaddr_of(const struct elf_file *elf, uint64_t offset, uint64_t *vaddr) {
  for (size_t i = 0; i < elf->segment_count; i++) {
    const Elf64_Phdr *segment = &elf->segments[i];
    /* A mapping begins at a page boundary, which may lie before the segment's first byte: in the
     * tail of another segment, which has another address. */
    uint64_t first = segment->p_offset & -(uint64_t)sysconf(_SC_PAGESIZE);
    if (segment->p_type == PT_LOAD && segment->p_flags & PF_X && offset >= first &&
        offset - first < segment->p_filesz + (segment->p_offset - first)) {
      *vaddr = segment->p_vaddr + offset - segment->p_offset;
      return true;
    }
  }
  return false;
}

bool elf_file_sha256(const struct elf_file *elf, char hex[65]) {
  unsigned char block[16384], sum[32];
  struct sha256 state;
  uint64_t at = 0;
  ssize_t got;
  sha256_begin(&state);
  while ((got = pread(elf->fd, block, sizeof(block), at)) > 0) {
    sha256_add(&state, block, got);
    at += got;
  }
  sha256_end(&state, sum);
  to_hex(sum, sizeof(sum), hex);
  return got == 0;
}
