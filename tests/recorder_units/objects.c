/* SPDX-License-Identifier: Apache-2.0 */
#include "objects.h"
#include "elf_file.h"
#include "harness.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* ---- What a backend is called, by the address of its get_name: an engine at two addresses, and
 * above it a backend in a library of its own. */

#define ENGINE_1 (1ull << 30)
#define ENGINE_2 (2ull << 30)
#define VULKAN (3ull << 30)

static struct plan_object planned[] = {{.name = "libknown.so", .backend = ""},
                                       {.name = "libggml-vulkan.so", .backend = "Vulkan"}};
static struct plan_backend backends[] = {{0, 0x1000, "CPU"}, {0, 0x2000, "fake"}};
static struct plan plan = {
    .objects = planned, .object_count = 2, .backends = backends, .backend_count = 2};
static uint64_t engine_bases[] = {ENGINE_1, ENGINE_2}, vulkan_bases[] = {VULKAN};
static struct object found[] = {{.planned = 0, .bases = engine_bases, .base_count = 2},
                                {.planned = 1, .bases = vulkan_bases, .base_count = 1}};
static const struct objects objects = {.plan = &plan, .found = found, .count = 2};

static void by_symbol_and_by_file(void) {
  CHECK_TEXT(objects_backend(&objects, ENGINE_1 + 0x1000), "CPU");
  CHECK_TEXT(objects_backend(&objects, ENGINE_2 + 0x1000), "CPU");
  CHECK_TEXT(objects_backend(&objects, ENGINE_1 + 0x2000), "fake");
  CHECK_TEXT(objects_backend(&objects, ENGINE_2 + 0x2000), "fake");
  CHECK_TEXT(objects_backend(&objects, VULKAN + 0x1000), "Vulkan");
}

static void what_is_not_known_has_no_name(void) {
  /* In an object that says nothing, and below all. */
  CHECK(!objects_backend(&objects, ENGINE_1 + 0x1008));
  CHECK(!objects_backend(&objects, ENGINE_2 + 0x3000));
  CHECK(!objects_backend(&objects, 0));
}

/* ---- Which files are meant: this process maps some, and is the target */

#define CODE_AT 0x1000
#define CODE "\x55\x48\x89\xe5"

/* A library of two pages, the second one code at virtual address 0x3000, with a build id of 20
 * times this byte (0: none). */
static void make_library(const char *name, unsigned char id) {
  static struct {
    Elf64_Ehdr head;
    Elf64_Phdr segment[2];
    Elf64_Nhdr note;
    char owner[4];
    unsigned char id[20];
    unsigned char rest[0x2000 - sizeof(Elf64_Ehdr) - 2 * sizeof(Elf64_Phdr) - 36];
  } file;
  memset(&file, 0, sizeof(file));
  memcpy(file.head.e_ident, ELFMAG, SELFMAG);
  file.head.e_ident[EI_CLASS] = ELFCLASS64;
  file.head.e_ident[EI_DATA] = ELFDATA2LSB;
  file.head.e_phoff = sizeof(file.head);
  file.head.e_phentsize = sizeof(Elf64_Phdr);
  file.head.e_phnum = 2;
  file.segment[0] = (Elf64_Phdr){PT_LOAD,          PF_R | PF_X, CODE_AT, CODE_AT + 0x2000,
                                 CODE_AT + 0x2000, 0x1000,      0x1000,  0x1000};
  file.segment[1] = (Elf64_Phdr){.p_type = id ? PT_NOTE : PT_NULL,
                                 .p_offset = (char *)&file.note - (char *)&file,
                                 .p_filesz = 36};
  file.note = (Elf64_Nhdr){4, sizeof(file.id), NT_GNU_BUILD_ID};
  memcpy(file.owner, "GNU", 4);
  memset(file.id, id, sizeof(file.id));
  memcpy((char *)&file + CODE_AT, CODE, 4);
  write_file(name, &file, sizeof(file));
}

/* Maps its code, as a loader does; where. */
static uint64_t map_library(const char *name) {
  int fd = open(name, O_RDONLY);
  void *start = mmap(0, 0x1000, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, CODE_AT);
  CHECK(start != MAP_FAILED);
  close(fd);
  return (uintptr_t)start;
}

/* 20 times a byte, in hex. */
static const char *id_of(unsigned char byte) {
  unsigned char bytes[20];
  char *hex = malloc(41);
  memset(bytes, byte, sizeof(bytes));
  to_hex(bytes, sizeof(bytes), hex);
  return hex;
}

/* A plan for one file, with one probe where its code is. */
static struct plan plan_for(struct plan_object *object) {
  static struct plan_probe probe = {.handler = "h",
                                    .symbol = "ggml_compute",
                                    .offset = CODE_AT,
                                    .level = LEVEL_TOKEN,
                                    .required = true,
                                    .code = CODE,
                                    .code_size = 4};
  object->sha256 = object->sha256 ? object->sha256 : "";
  object->device = object->device ? object->device : "";
  object->build_id = object->build_id ? object->build_id : "";
  object->backend = "";
  return (struct plan){.path = "plan.json",
                       .objects = object,
                       .object_count = 1,
                       .probes = &probe,
                       .probe_count = 1};
}

static struct target target;

static bool are_mapped(const struct plan *plan) {
  struct objects objects;
  bool has_all = objects_try(plan, &target, LEVEL_TOKEN, &objects);
  if (has_all)
    objects_close(&objects);
  return has_all;
}

static void by_build_id_wherever_it_lies(void) {
  struct plan_object object = {.name = "libggml.so", .build_id = id_of(0xa1)};
  struct plan plan = plan_for(&object);
  make_library("renamed.so", 0xa1);
  uint64_t first = map_library("renamed.so"), second = map_library("renamed.so");
  struct objects found = objects_find(&plan, &target, LEVEL_TOKEN);
  CHECK_EQUAL(found.count, 1);
  CHECK_EQUAL(found.found[0].base_count, 2);
  uint64_t *bases = found.found[0].bases, low = first < second ? first : second;
  CHECK_EQUAL(bases[0], low - CODE_AT - 0x2000);
  CHECK_EQUAL(bases[1], first + second - low - CODE_AT - 0x2000);
  CHECK(are_mapped(&plan));
  /* The very file, whatever its path leads to now. */
  CHECK(!unlink("renamed.so"));
  CHECK_EQUAL(objects_find(&plan, &target, LEVEL_TOKEN).count, 1);
}

static void by_device_and_inode(void) {
  struct stat status;
  make_library("same-1.so", 0xb1);
  make_library("same-2.so", 0xb1);
  map_library("same-1.so");
  map_library("same-2.so");
  CHECK(!stat("same-2.so", &status));
  struct plan_object object = {.name = "same-2.so",
                               .build_id = id_of(0xb1),
                               .inode = status.st_ino,
                               .device =
                                   text("%02x:%02x", major(status.st_dev), minor(status.st_dev))};
  struct plan plan = plan_for(&object);
  struct objects found = objects_find(&plan, &target, LEVEL_TOKEN);
  CHECK_EQUAL(found.count, 1);
  CHECK_EQUAL(found.found[0].inode, status.st_ino);
  object.device = "ff:ff";
  CHECK(!are_mapped(&plan));
}

static void by_size_and_sum_where_there_is_no_build_id(void) {
  char sum[65];
  make_library("plain.so", 0);
  map_library("plain.so");
  struct elf_file elf = {.fd = open("plain.so", O_RDONLY)};
  CHECK(elf_file_sha256(&elf, sum));
  struct plan_object object = {.name = "plain.so", .size = 0x2000, .sha256 = sum};
  struct plan plan = plan_for(&object);
  CHECK_EQUAL(objects_find(&plan, &target, LEVEL_TOKEN).count, 1);
  object.size++;
  CHECK(!are_mapped(&plan));
  object.size--;
  sum[0] ^= 1;
  CHECK(!are_mapped(&plan));
}

static void another_file_of_that_name(void) {
  struct plan_object object = {.name = "namesake.so", .build_id = id_of(0xc1)};
  struct plan plan = plan_for(&object);
  make_library("namesake.so", 0xc2);
  map_library("namesake.so");
  CHECK_FAILS(EXIT_PROBES, "but plan.json was made for another file of that name (build id c1c1",
              objects_find(&plan, &target, LEVEL_TOKEN));
  CHECK(!are_mapped(&plan));
}

static void what_is_not_mapped_is_named(void) {
  struct plan_object object = {.name = "libnone.so", .build_id = id_of(0xd1)};
  struct plan plan = plan_for(&object);
  CHECK_FAILS(EXIT_PROBES, "has not mapped libnone.so, which plan.json needs for level token",
              objects_find(&plan, &target, LEVEL_TOKEN));
  plan.probes[0].level = LEVEL_BARRIER; /* nobody asks for that */
  CHECK_EQUAL(objects_find(&plan, &target, LEVEL_OPERATOR).count, 0);
  plan.probes[0].level = LEVEL_TOKEN;
}

static void other_code_at_a_probe(void) {
  struct plan_object object = {.name = "code.so", .build_id = id_of(0xe1)};
  struct plan plan = plan_for(&object);
  make_library("code.so", 0xe1);
  map_library("code.so");
  CHECK_EQUAL(objects_find(&plan, &target, LEVEL_TOKEN).count, 1);
  plan.probes[0].code[3] ^= 1;
  CHECK_FAILS(EXIT_PROBES, "its code at ggml_compute (offset 0x1000) is different",
              objects_find(&plan, &target, LEVEL_TOKEN));
  plan.probes[0].code[3] ^= 1;
}

int main(void) {
  target = target_open(getpid());
  RUN(by_symbol_and_by_file);
  RUN(what_is_not_known_has_no_name);
  if (geteuid()) /* map_files are root's */
    return 0;
  RUN(by_build_id_wherever_it_lies);
  RUN(by_device_and_inode);
  RUN(by_size_and_sum_where_there_is_no_build_id);
  RUN(another_file_of_that_name);
  RUN(what_is_not_mapped_is_named);
  RUN(other_code_at_a_probe);
}
