/* SPDX-License-Identifier: Apache-2.0 */
#include "elf_symbols.h"
#include "harness.h"

#include <fcntl.h>

#define CODE_AT 0x400
#define CODE_SIZE 0x100
#define CODE_VADDR 0x7400

enum { NOTHING, DYNSYM, DYNSTR, SYMTAB, STRTAB, SECTIONS };
enum { SYMBOLS = 3 };

/* Code, a table of dynamic symbols and one of all, each with its strings. */
static struct image {
  Elf64_Ehdr head;
  Elf64_Phdr segment;
  Elf64_Shdr sections[SECTIONS];
  Elf64_Sym symbols[2][SYMBOLS];
  char names[2][32];
  unsigned char rest[CODE_AT + CODE_SIZE - sizeof(Elf64_Ehdr) - sizeof(Elf64_Phdr) -
                     SECTIONS * sizeof(Elf64_Shdr) - 2 * SYMBOLS * sizeof(Elf64_Sym) - 64];
} image;

#define OFFSET(member) ((uint64_t)((char *)&image.member - (char *)&image))

static Elf64_Sym function(uint32_t name, uint64_t vaddr) {
  return (Elf64_Sym){name, ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), 0, 7, vaddr, 4};
}

static void make_image(void) {
  memset(&image, 0, sizeof(image));
  memcpy(image.head.e_ident, ELFMAG, SELFMAG);
  image.head.e_ident[EI_CLASS] = ELFCLASS64;
  image.head.e_ident[EI_DATA] = ELFDATA2LSB;
  image.head.e_phoff = OFFSET(segment);
  image.head.e_phentsize = sizeof(Elf64_Phdr);
  image.head.e_phnum = 1;
  image.head.e_shoff = OFFSET(sections);
  image.head.e_shentsize = sizeof(Elf64_Shdr);
  image.head.e_shnum = SECTIONS;
  image.segment = (Elf64_Phdr){PT_LOAD,    PF_R | PF_X, CODE_AT,   CODE_VADDR,
                               CODE_VADDR, CODE_SIZE,   CODE_SIZE, 0x1000};
  for (int i = 0; i < 2; i++) {
    image.sections[i ? SYMTAB : DYNSYM] = (Elf64_Shdr){.sh_type = i ? SHT_SYMTAB : SHT_DYNSYM,
                                                       .sh_offset = OFFSET(symbols[i]),
                                                       .sh_size = sizeof(image.symbols[i]),
                                                       .sh_link = i ? STRTAB : DYNSTR};
    image.sections[i ? STRTAB : DYNSTR] = (Elf64_Shdr){
        .sh_type = SHT_STRTAB, .sh_offset = OFFSET(names[i]), .sh_size = sizeof(image.names[i])};
  }
  memcpy(image.names[0], "\0other\0wanted", 14);
  memcpy(image.names[1], "\0wanted\0hidden", 15);
  image.symbols[0][1] = function(1, CODE_VADDR);
  image.symbols[0][2] = function(7, CODE_VADDR + 0x10);
  image.symbols[1][1] = function(1, CODE_VADDR + 0x20);
  image.symbols[1][2] = function(8, CODE_VADDR + 0x30);
}

/* The offset of the first of these functions; 0 for none. */
static uint64_t found(const char *name, const char *or_else) {
  const char *const names[] = {name, or_else, 0};
  struct elf_file elf;
  uint64_t offset = 0;
  write_file("image", &image, sizeof(image));
  CHECK(elf_file_read(&elf, open("image", O_RDONLY)));
  bool is_found = elf_symbols_find(&elf, names, &offset);
  elf_file_close(&elf);
  return is_found ? offset : 0;
}

static void dynamic_symbols_come_first(void) {
  make_image();
  CHECK_EQUAL(found("wanted", 0), CODE_AT + 0x10);
  CHECK_EQUAL(found("none", "wanted"), CODE_AT + 0x10);
  CHECK_EQUAL(found("hidden", 0), CODE_AT + 0x30);
  CHECK_EQUAL(found("want", 0), 0);
  CHECK_EQUAL(found("wanted-more", 0), 0);
}

static void what_is_no_function_here(void) {
  make_image();
  image.symbols[0][2].st_shndx = SHN_UNDEF; /* it is another file's */
  CHECK_EQUAL(found("wanted", 0), CODE_AT + 0x20);
  make_image();
  image.symbols[0][2].st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT);
  CHECK_EQUAL(found("wanted", 0), CODE_AT + 0x20);
  make_image();
  image.symbols[1][2].st_value = CODE_VADDR + CODE_SIZE; /* beyond what is loaded */
  CHECK_EQUAL(found("hidden", 0), 0);
  make_image();
  image.segment.p_flags = PF_R;
  CHECK_EQUAL(found("wanted", 0), 0);
}

static void damaged_tables(void) {
  make_image();
  image.symbols[1][2].st_name = UINT32_MAX;
  CHECK_EQUAL(found("hidden", 0), 0);
  make_image();
  image.sections[SYMTAB].sh_link = SECTIONS;
  CHECK_EQUAL(found("hidden", 0), 0);
  make_image();
  image.sections[SYMTAB].sh_size = UINT64_MAX;
  CHECK_EQUAL(found("hidden", 0), 0);
  make_image();
  image.sections[SYMTAB].sh_offset = UINT64_MAX - 8;
  CHECK_EQUAL(found("hidden", 0), 0);
  make_image();
  image.sections[STRTAB].sh_size = 11; /* the name is cut off: "hid" */
  CHECK_EQUAL(found("hidden", 0), 0);
  CHECK_EQUAL(found("hid", 0), CODE_AT + 0x30);
  make_image();
  image.head.e_shoff = sizeof(image) - 8;
  CHECK_EQUAL(found("wanted", 0), 0);
  make_image();
  image.head.e_shentsize = 32;
  CHECK_EQUAL(found("wanted", 0), 0);
  make_image();
  image.segment.p_offset = UINT64_MAX - 0x50; /* code that would lie beyond the file */
  CHECK_EQUAL(found("wanted", 0), 0);
}

/* The same without section headers: all of it is loaded, and its dynamic section says where. */
static void make_stripped_image(uint64_t symbols, uint64_t strings, uint64_t size) {
  const Elf64_Dyn tags[] = {{DT_STRTAB, {strings}},
                            {DT_SYMTAB, {symbols}},
                            {DT_STRSZ, {size}},
                            {DT_NULL, {0}},
                            {DT_SYMTAB, {1}}};
  Elf64_Phdr segments[2] = {{PT_LOAD, PF_R | PF_X, 0, CODE_VADDR - CODE_AT, 0, CODE_AT + CODE_SIZE,
                             CODE_AT + CODE_SIZE, 0x1000},
                            {.p_type = PT_DYNAMIC, .p_filesz = sizeof(tags)}};
  make_image();
  segments[1].p_offset = OFFSET(rest) + sizeof(segments);
  memcpy(image.rest, segments, sizeof(segments));
  memcpy(image.rest + sizeof(segments), tags, sizeof(tags));
  image.head.e_phoff = OFFSET(rest);
  image.head.e_phnum = 2;
  image.head.e_shoff = image.head.e_shnum = image.head.e_shentsize = 0;
}

static void without_section_headers(void) {
  const uint64_t base = CODE_VADDR - CODE_AT, symbols = base + OFFSET(symbols[0]),
                 strings = base + OFFSET(names[0]), size = sizeof(image.names[0]);
  make_stripped_image(symbols, strings, size);
  CHECK_EQUAL(found("wanted", 0), CODE_AT + 0x10);
  CHECK_EQUAL(found("none", 0), 0);
  make_stripped_image(strings, symbols, size);
  CHECK_EQUAL(found("wanted", 0), 0);
  make_stripped_image(symbols, strings, UINT64_MAX);
  CHECK_EQUAL(found("wanted", 0), 0);
  make_stripped_image(1, strings, size);
  CHECK_EQUAL(found("wanted", 0), 0);
  make_stripped_image(symbols, UINT64_MAX, size);
  CHECK_EQUAL(found("wanted", 0), 0);
}

int main(void) {
  RUN(dynamic_symbols_come_first);
  RUN(what_is_no_function_here);
  RUN(damaged_tables);
  RUN(without_section_headers);
}
