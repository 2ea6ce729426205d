/* SPDX-License-Identifier: Apache-2.0 */
#include "open_files.h"
#include "harness.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 65536

static void write_model(const char *name, const char *magic, size_t size) {
  static char bytes[SIZE];
  memcpy(bytes, magic, strlen(magic));
  write_file(name, bytes, size);
}

static const char *name_of(const struct model *model) { return strrchr(model->path, '/') + 1; }

static void an_info_is_understood(void) {
  struct file_info info = file_info_parse("pos:\t7\nflags:\t0140002\nmnt_id:\t29\nino:\t1234567\n");
  CHECK_EQUAL(info.inode, 1234567);
  CHECK_EQUAL(info.mount, 29);
  CHECK_EQUAL(info.flags, 0140002);
  info = file_info_parse("pos:\t0\nflags:\t02\n");
  CHECK_EQUAL(info.inode, 0);
  CHECK_EQUAL(info.mount, -1);
  CHECK_EQUAL(file_info_parse("").mount, -1);
  CHECK_EQUAL(file_info_parse(0).mount, -1);
  CHECK_EQUAL(file_info_parse("ino:\nmnt_id:x\nflags").inode, 0);
}

/* As mappings number it. */
static void check_numbers(const struct model *model) {
  static struct listing listing;
  struct target target = target_open(getpid());
  struct region region;
  size_t length;
  char *line;
  bool is_found = false;
  void *mapped = mmap(0, SIZE, PROT_READ, MAP_SHARED, model->fd, 0);
  CHECK(mapped != MAP_FAILED && listing_open(&listing, &target));
  while ((line = listing_next(&listing, &length)))
    if (region_parse(line, length, &region) && region.start == (uintptr_t)mapped) {
      CHECK_EQUAL(model->inode, region.inode);
      CHECK_EQUAL(model->device, region.device);
      is_found = true;
    }
  CHECK(is_found);
  listing_close(&listing);
  munmap(mapped, SIZE);
}

static void models_that_are_open_are_kept(void) {
  struct target target = target_open(getpid());
  struct models models = {0};
  write_model("m.gguf", "GGUF", SIZE);
  write_model("other", "none", SIZE);
  write_model("written", "GGUF", SIZE);
  write_model("short", "GGUF", 100);
  int fds[] = {open("m.gguf", O_RDONLY), open("other", O_RDONLY), open("written", O_WRONLY),
               open("short", O_RDONLY), open("/dev/zero", O_RDONLY)};
  int pipes[2];
  CHECK(!pipe(pipes));
  unlink("m.gguf");
  for (unsigned i = 0; i < 3; i++) {
    open_files_look(&models, &target);
    CHECK_EQUAL(models.count, 1);
    CHECK_TEXT(name_of(&models.list[0]), "m.gguf");
    CHECK(models.list[0].is_seen && !models.list[0].is_direct);
  }
  check_numbers(&models.list[0]);
  models_close(&models);
  for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
    close(fds[i]);
}

static void direct_ones_are_told(void) {
  struct target target = target_open(getpid());
  struct models models = {0};
  write_model("m.gguf", "GGUF", SIZE);
  int fd = open("m.gguf", O_RDONLY);
  open_files_look(&models, &target);
  CHECK(models.count == 1 && !models.list[0].is_direct);
  int direct = open("m.gguf", O_RDONLY | O_DIRECT);
  if (direct < 0)
    return; /* not on every file system */
  open_files_look(&models, &target);
  CHECK(models.count == 1 && models.list[0].is_direct);
  close(fd);
  close(direct);
}

static void files_are_counted(void) {
  struct target target = target_open(getpid());
  uint64_t before = open_files_count(&target);
  int fd = open("/dev/null", O_RDONLY);
  CHECK(!before || open_files_count(&target) == before + 1);
  close(fd);
}

/* A process whose command line names them, relative to its folder, and that opens none. */
static void named_ones_are_not_seen(void) {
  struct models models = {0};
  int ends[2];
  write_model("m.gguf", "GGUF", SIZE);
  write_model("n-00001-of-00002.gguf", "GGUF", SIZE);
  write_model("n-00002-of-00002.gguf", "GGUF", SIZE);
  CHECK(!pipe2(ends, O_CLOEXEC));
  pid_t pid = fork();
  if (!pid) {
    dup2(ends[0], STDIN_FILENO);
    execl("/bin/sh", "sh", "-c", "read until_the_end", "m.gguf", "--model=n-00001-of-00002.gguf",
          (char *)0);
    _exit(1);
  }
  struct target target = target_open(pid);
  for (unsigned i = 0; i < 5000 && models.count < 3; i++, usleep(1000))
    open_files_look_at_names(&models, &target);
  CHECK_EQUAL(models.count, 3);
  CHECK(*models.list[0].path == '/');
  CHECK_TEXT(name_of(&models.list[0]), "m.gguf");
  CHECK_TEXT(name_of(&models.list[2]), "n-00002-of-00002.gguf");
  for (size_t i = 0; i < 3; i++) {
    CHECK(!models.list[i].is_seen);
    check_numbers(&models.list[i]);
  }
  close(ends[1]);
  waitpid(pid, 0, 0);
}

int main(void) {
  RUN(an_info_is_understood);
  RUN(models_that_are_open_are_kept);
  RUN(direct_ones_are_told);
  RUN(files_are_counted);
  RUN(named_ones_are_not_seen);
}
