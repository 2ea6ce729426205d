/* SPDX-License-Identifier: Apache-2.0 */
#include "known_files.h"
#include "engine_marks.h"
#include "kernel_types.h"
#include "loader_watch.h"

#include <bpf/bpf.h>
#include <string.h>
#include <sys/sysmacros.h>

/* What is known of a file, as in bpf/known_files.h. */
#define HARMLESS 1
#define WATCHED 2

/* As there, too. */
struct file_key {
  uint64_t inode, size, changed_s;
  uint32_t device, changed_ns;
};

/* The kernel's own numbers of devices have 20 bits for the second part. */
#define MINOR_BITS 20

static int known_files = -1; /* the map */

void known_files_parameters(struct source *source, bool wanted) {
  static const struct kernel_types nothing;
  const struct kernel_types *types = wanted ? kernel_types() : &nothing;
  const int functions[] = {types->areas_begin, types->areas_next, types->areas_end};
  const struct {
    const char *name;
    int value;
  } fields[] = {
      {"TASK_FS", types->task_fs},
      {"FS_ROOT", types->fs_root},
      {"AREA_FLAGS", types->area_flags},
      {"AREA_FILE", types->area_file},
      {"FILE_INODE", types->file_inode},
      {"INODE_NUMBER", types->inode_number},
      {"INODE_SIZE", types->inode_size},
      {"INODE_CHANGED_S", types->inode_changed_s},
      {"INODE_CHANGED_NS", types->inode_changed_ns},
      {"INODE_SUPER", types->inode_super},
      {"SUPER_DEVICE", types->super_device},
  };
  bool has_all = true;
  for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++)
    has_all &= functions[i] > 0;
  for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
    has_all &= fields[i].value >= 0;
    source_parameter(source, fields[i].name, fields[i].value);
  }
  source_parameter(source, "LOOKS_AT_FILES", has_all);
  source->function_count = has_all ? SOURCE_FUNCTIONS : 0;
  if (has_all)
    source_map(source, "known_files");
  memcpy(source->functions, functions, sizeof(functions));
}

void known_files_use(int map) { known_files = map; }

void known_files_add(const struct target *target, const struct mapping *mappings, size_t count) {
  for (size_t i = 0; known_files >= 0 && i < count; i++) {
    struct stat status;
    if (!target_stat_mapped(target, &mappings[i], &status) || !engine_marks_has_none(&status))
      continue;
    struct file_key key = {
        .inode = status.st_ino,
        .size = status.st_size,
        .changed_s = status.st_ctim.tv_sec,
        .changed_ns = status.st_ctim.tv_nsec,
        .device = major(status.st_dev) << MINOR_BITS | minor(status.st_dev),
    };
    uint32_t what = HARMLESS | (loader_is_watched(&mappings[i]) ? WATCHED : 0);
    bpf_map_update_elem(known_files, &key, &what, BPF_ANY);
  }
}
