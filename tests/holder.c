// Loads libraries as an engine would, says what they say of themselves, and waits to be killed.
// Built without versions of symbols (roots.py), so that the dynamic loader of any root runs it.
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

// Fewer than any engine has of them: asked for one more, it might say anything.
enum { OPS = 17, TYPES = 3 };

typedef struct {
  size_t mem_size;
  void *mem_buffer;
  _Bool no_alloc;
} parameters;

static void *find(const char *name) { return dlsym(RTLD_DEFAULT, name); }

// By functions of the public interface alone: nothing is looked for in memory.
static void say_facts(void) {
  const char *(*version)(void) = find("ggml_version");
  const char *(*op_name)(int) = find("ggml_op_name");
  const char *(*type_name)(int) = find("ggml_type_name");
  size_t (*type_size)(int) = find("ggml_type_size");
  if (!version || !op_name || !type_name || !type_size)
    return;
  dprintf(1, "version %s\n", version());
  for (int op = 0; op < OPS; op++)
    dprintf(1, "op %s\n", op_name(op));
  for (int type = 0; type < TYPES; type++)
    dprintf(1, "type %s %zu\n", type_name(type), type_size(type));
}

// Where a tensor has its name.
static void say_name(void) {
  void *(*init)(parameters) = find("ggml_init");
  const void *(*new_tensor)(void *, int, long, long, long, long) = find("ggml_new_tensor_4d");
  const char *(*get_name)(const void *) = find("ggml_get_name");
  if (!init || !new_tensor || !get_name)
    return;
  const void *made = new_tensor(init((parameters){1 << 20, NULL, 0}), 0, 1, 1, 1, 1);
  dprintf(1, "name %td\n", get_name(made) - (const char *)made);
}

int main(int count, char **words) {
  for (int i = 1; i < count; i++)
    if (!dlopen(words[i], RTLD_LAZY | RTLD_GLOBAL)) {
      dprintf(2, "holder: %s\n", dlerror());
      return 1;
    }
  say_facts();
  say_name();
  dprintf(1, "ready\n");
  for (;;)
    pause();
}
