// Runs the known schedule through the llama.cpp API and prints the truth about it (README.md).
// With KNOWN_DL the engine is not linked but dlopened, after --start-delay.
#define _GNU_SOURCE
#include "known.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef KNOWN_DL
#define API(f) NAMED(f)
#define NAMED(f) ((__typeof__(&f))engine_symbol(#f))
static void *engine_symbol(const char *name) {
  static void *library;
  if (!library)
    library = dlopen("libknown.so", RTLD_NOW); // by the program's RUNPATH
  void *symbol = library ? dlsym(library, name) : NULL;
  if (!symbol) {
    fprintf(stderr, "known-dl: %s\n", dlerror());
    exit(127);
  }
  return symbol;
}
#else
#define API(f) f
#endif

static int prompt = 13, decode = 11, sequences = 1, ubatch = 5, start_delay, hold, exit_code, forks,
           ask, again, pause_us;
static long n_decodes;

static void sleep_ms(int ms) { usleep(1000u * ms); }

// A number is a file descriptor to read one byte from, anything else a path to wait for.
static void wait_for(const char *what) {
  char *end, byte;
  const long fd = strtol(what, &end, 10);
  fprintf(stderr, "ready %d\n", getpid());
  if (!*end) {
    if (read(fd, &byte, 1) < 0)
      perror("known: --wait");
    return;
  }
  while (access(what, F_OK))
    sleep_ms(2);
}
// Reads a file from one end to the other.
static void read_file(const char *path) {
  static char buffer[1 << 16];
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got = fd;
  while (got > 0)
    got = read(fd, buffer, sizeof buffer);
  if (got < 0)
    perror("known: --read");
  close(fd);
}
// Tokens of the sequences [first, first + n_seqs), `each` at the positions from `pos` on.
static void decode_batch(struct llama_context *ctx, int first, int n_seqs, int each, int pos) {
  struct llama_batch b = API(llama_batch_init)(n_seqs * each, 0, 1);
  for (int s = first; s < first + n_seqs; s++)
    for (int i = 0; i < each; i++, b.n_tokens++) {
      b.token[b.n_tokens] = 7 * (pos + i) + s;
      b.pos[b.n_tokens] = pos + i;
      b.n_seq_id[b.n_tokens] = 1;
      b.seq_id[b.n_tokens][0] = s;
      b.logits[b.n_tokens] = i == each - 1;
    }
  n_decodes++;
  const int status = API(llama_decode)(ctx, b);
  if (status) {
    fprintf(stderr, "known: llama_decode: %d\n", status);
    exit(126);
  }
  API(llama_batch_free)(b);
}
int main(int argc, char **argv) {
  struct known_config c = KNOWN_DEFAULTS;
  const char *wait_what = NULL, *read_what = NULL;
  const struct {
    const char *name;
    int has_arg, *value;
  } spec[] = {{"threads", 1, &c.threads},
              {"layers", 1, &c.layers},
              {"prompt", 1, &prompt},
              {"decode", 1, &decode},
              {"sequences", 1, &sequences},
              {"work-us", 1, &c.work_us},
              {"sleep", 0, &c.sleep},
              {"rebuild", 1, &c.rebuild},
              {"ubatch", 1, &ubatch},
              {"backend2", 0, &c.backend2},
              {"start-delay", 1, &start_delay},
              {"hold", 1, &hold},
              {"no-fused", 0, &c.no_fused},
              {"final-barrier", 0, &c.final_barrier},
              {"samples", 1, &c.samples},
              {"touch", 1, &c.touch},
              {"loop", 1, &c.loop},
              {"experts", 1, &c.experts},
              {"used", 1, &c.used},
              {"rows", 1, &c.rows},
              {"no-pool", 0, &c.no_pool},
              {"recur", 0, &c.recur},
              {"mixed", 0, &c.mixed},
              {"even", 1, &c.even},
              {"again", 1, &again},
              {"pause-us", 1, &pause_us},
              {"exit-code", 1, &exit_code},
              {"fork", 0, &forks},
              {"ask", 0, &ask},
              {"read", 1, NULL},
              {"wait", 1, NULL}};
  enum { N = sizeof spec / sizeof *spec };
  struct option options[N + 1] = {0};
  for (int i = 0; i < N; i++)
    options[i] = (struct option){spec[i].name, spec[i].has_arg, NULL, 1};
  for (int i, o; (o = getopt_long(argc, argv, "", options, &i)) != -1;) {
    if (o != 1)
      return 2;
    if (spec[i].value)
      *spec[i].value = spec[i].has_arg ? atoi(optarg) : 1;
    else
      *(strcmp(spec[i].name, "read") ? &wait_what : &read_what) = optarg;
  }
  sleep_ms(start_delay);
  *API(known_config)() = c;
  if (c.mixed || c.even)
    API(known_calibrate)();

  API(llama_backend_init)();
  struct llama_model *model =
      API(llama_model_load_from_file)("/proc/self/exe", API(llama_model_default_params)());
  struct llama_context_params p = API(llama_context_default_params)();
  p.n_ctx = sequences * (prompt + decode) + 1;
  p.n_batch = prompt > sequences ? prompt : sequences;
  p.n_ubatch = ubatch;
  p.n_seq_max = sequences;
  struct llama_context *ctx = API(llama_init_from_model)(model, p);
  if (wait_what)
    wait_for(wait_what);
  if (read_what)
    read_file(read_what);
  const pid_t child = forks ? fork() : -1; // the engine has no threads before its first graph

  for (int s = 0; prompt > 0 && s < sequences; s++)
    decode_batch(ctx, s, 1, prompt, 0);
  const long n_prefill = API(known_ubatches)();
  for (int i = 0; i < decode; i++) {
    if (again && i && i % again == 0)
      wait_for(wait_what);
    usleep(pause_us);
    decode_batch(ctx, 0, sequences, 1, prompt + i);
    if (ask)
      API(known_ask)(ctx, i);
  }

  int child_status = 0;
  if (child > 0) // one line after the other
    waitpid(child, &child_status, 0);
  printf("{\"pid\": %d, \"child\": %d, \"llama_decode\": %ld, ", getpid(), child, n_decodes);
  printf("\"ubatches\": {\"prefill\": %ld, \"decode\": %ld}, ", n_prefill,
         API(known_ubatches)() - n_prefill);
  if (ask)
    API(known_asked)(stdout);
  API(known_parts)(stdout);
  API(known_truth)(stdout, ctx);
  puts("}");
  fflush(stdout);
  sleep_ms(hold);
  API(llama_free)(ctx);
  API(llama_model_free)(model);
  return exit_code;
}
