/* SPDX-License-Identifier: Apache-2.0 */
#include "elf_file.h"
#include "harness.h"

#include <fcntl.h>

/* A file with three segments: a note at 0x200, code at 0x1240 that is mapped from 0x1000 on, and
 * data. */
static struct image {
  Elf64_Ehdr head;
  Elf64_Phdr segment[3];
  unsigned char rest[0x3000 - sizeof(Elf64_Ehdr) - 3 * sizeof(Elf64_Phdr)];
} image;

static unsigned char *at(size_t offset) { return (unsigned char *)&image + offset; }

static void make_image(void) {
  memset(&image, 0, sizeof(image));
  memcpy(image.head.e_ident, ELFMAG, SELFMAG);
  image.head.e_ident[EI_CLASS] = ELFCLASS64;
  image.head.e_ident[EI_DATA] = ELFDATA2LSB;
  image.head.e_phoff = sizeof(image.head);
  image.head.e_phentsize = sizeof(Elf64_Phdr);
  image.head.e_phnum = 3;
  image.segment[0] = (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = 0x200, .p_filesz = 36};
  image.segment[1] = (Elf64_Phdr){.p_type = PT_LOAD,
                                  .p_flags = PF_R | PF_X,
                                  .p_offset = 0x1240,
                                  .p_vaddr = 0x5240,
                                  .p_filesz = 0x900,
                                  .p_memsz = 0x900};
  image.segment[2] = (Elf64_Phdr){.p_type = PT_LOAD,
                                  .p_flags = PF_R | PF_W,
                                  .p_offset = 0x1b40,
                                  .p_vaddr = 0x7b40,
                                  .p_filesz = 0x100};
  memcpy(at(0x200), &(Elf64_Nhdr){4, 20, NT_GNU_BUILD_ID}, sizeof(Elf64_Nhdr));
  memcpy(at(0x20c), "GNU", 4);
  for (int i = 0; i < 20; i++)
    at(0x210)[i] = 0xa0 + i;
}

static bool read_image(struct elf_file *elf, size_t length) {
  write_file("image", &image, length);
  return elf_file_read(elf, open("image", O_RDONLY));
}

static void what_an_image_says(void) {
  struct elf_file elf;
  char id[BUILD_ID_TEXT];
  make_image();
  CHECK(read_image(&elf, sizeof(image)));
  CHECK_EQUAL(elf.segment_count, 3);
  CHECK_EQUAL(elf.size, sizeof(image));
  elf_file_build_id(&elf, id);
  CHECK_TEXT(id, "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3");
  elf_file_close(&elf);
  CHECK_EQUAL(elf.fd, -1);
}

static void where_mapped_code_lies(void) {
  struct elf_file elf;
  uint64_t vaddr = 0;
  make_image();
  CHECK(read_image(&elf, sizeof(image)));
  CHECK(elf_file_vaddr_of(&elf, 0x1240, &vaddr));
  CHECK_EQUAL(vaddr, 0x5240);
  CHECK(elf_file_vaddr_of(&elf, 0x1000, &vaddr)); /* a mapping begins with its page */
  CHECK_EQUAL(vaddr, 0x5000);
  CHECK(elf_file_vaddr_of(&elf, 0x1b3f, &vaddr));
  CHECK_EQUAL(vaddr, 0x5b3f);
  CHECK(!elf_file_vaddr_of(&elf, 0xfff, &vaddr));
  CHECK(!elf_file_vaddr_of(&elf, 0x1b40, &vaddr)); /* data */
  CHECK(!elf_file_vaddr_of(&elf, UINT64_MAX, &vaddr));
  elf_file_close(&elf);
}

static void what_is_no_elf_file(void) {
  struct elf_file elf;
  make_image();
  image.head.e_ident[EI_CLASS] = ELFCLASS32;
  CHECK(!read_image(&elf, sizeof(image)));
  make_image();
  image.head.e_ident[EI_DATA] = ELFDATA2MSB;
  CHECK(!read_image(&elf, sizeof(image)));
  make_image();
  image.head.e_phentsize = 32;
  CHECK(!read_image(&elf, sizeof(image)));
  make_image();
  image.head.e_phnum = 1025;
  CHECK(!read_image(&elf, sizeof(image)));
  make_image();
  image.head.e_phoff = UINT64_MAX - 8; /* the end of the table is beyond all numbers */
  CHECK(!read_image(&elf, sizeof(image)));
  make_image();
  CHECK(!read_image(&elf, sizeof(image.head) - 1));
  CHECK(!read_image(&elf, sizeof(image.head) + 2 * sizeof(Elf64_Phdr)));
  CHECK(!read_image(&elf, 0));
  CHECK(!elf_file_read(&elf, open(".", O_RDONLY)));
  CHECK(!elf_file_read(&elf, open("/dev/zero", O_RDONLY)));
}

static const char *id_now(void) {
  static char id[BUILD_ID_TEXT];
  struct elf_file elf;
  CHECK(read_image(&elf, sizeof(image)));
  elf_file_build_id(&elf, id);
  elf_file_close(&elf);
  return id;
}

static void notes_that_are_no_build_id(void) {
  make_image();
  image.segment[0].p_filesz = 35; /* the id is cut off */
  CHECK_TEXT(id_now(), "");
  make_image();
  image.segment[0].p_filesz = 20;
  CHECK_TEXT(id_now(), "");
  make_image();
  image.segment[0].p_offset = sizeof(image) - 8;
  CHECK_TEXT(id_now(), "");
  make_image();
  image.segment[0].p_filesz = UINT64_MAX;
  CHECK_TEXT(id_now(), "");
  make_image();
  memcpy(at(0x20c), "Go\0", 4);
  CHECK_TEXT(id_now(), "");
  make_image();
  memcpy(at(0x200), &(Elf64_Nhdr){UINT32_MAX, UINT32_MAX, NT_GNU_BUILD_ID}, sizeof(Elf64_Nhdr));
  CHECK_TEXT(id_now(), "");
}

static void the_id_may_follow_other_notes(void) {
  make_image();
  memmove(at(0x214), at(0x200), 36);
  memcpy(at(0x200), &(Elf64_Nhdr){3, 1, NT_GNU_ABI_TAG}, sizeof(Elf64_Nhdr));
  image.segment[0].p_filesz = 0x14 + 36;
  CHECK_TEXT(id_now(), "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3");
}

static void the_sum_of_all_bytes(void) {
  char sum[65];
  struct elf_file elf = {.fd = -1};
  write_file("abc", "abc", 3);
  elf.fd = open("abc", O_RDONLY);
  CHECK(elf_file_sha256(&elf, sum));
  CHECK_TEXT(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  close(elf.fd);
  elf.fd = open(".", O_RDONLY);
  CHECK(!elf_file_sha256(&elf, sum));
  close(elf.fd);
}

int main(void) {
  RUN(what_an_image_says);
  RUN(where_mapped_code_lies);
  RUN(what_is_no_elf_file);
  RUN(notes_that_are_no_build_id);
  RUN(the_id_may_follow_other_notes);
  RUN(the_sum_of_all_bytes);
}
