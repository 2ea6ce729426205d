/* Does what stdin says, one command a line, and answers each with a line. -DLINKED: object 0 is
 * the engine it is linked with.
 */
#define _GNU_SOURCE
#include "engine.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 64 };
static struct object {
  void *handle;
  void (*run)(const long *, struct seen *);
  void (*counts)(long *);
} objects[MOST];
static int object_count;

static void opened(void *handle) {
  if (!handle) {
    printf("error %s\n", dlerror());
    return;
  }
  objects[object_count] =
      (struct object){handle, (void (*)(const long *, struct seen *))dlsym(handle, "engine_run"),
                      (void (*)(long *))dlsym(handle, "engine_counts")};
  printf("%d\n", object_count++);
}

static struct job {
  struct object *object;
  long times[3];
  pthread_barrier_t start;
} job;

static void *work(void *seen) {
  pthread_barrier_wait(&job.start);
  job.object->run(job.times, seen);
  return NULL;
}

static void *spin(void *object) {
  struct seen seen = {0};
  while (!seen.wrong)
    ((struct object *)object)->run((long[]){1, 1, 1}, &seen);
  _exit(1);
}

static void run_threads(int count) {
  pthread_t threads[MOST];
  struct seen seen[MOST] = {{0}}, sum = {0};
  pthread_barrier_init(&job.start, NULL, count);
  for (int i = 0; i < count; i++)
    pthread_create(&threads[i], NULL, work, &seen[i]);
  for (int i = 0; i < count; i++) {
    pthread_join(threads[i], NULL);
    sum.wrong += seen[i].wrong, sum.wrapped += seen[i].wrapped;
  }
  printf("%ld %ld\n", sum.wrong, sum.wrapped);
}

static void obey(char *line, char **argv) {
  char word[4096];
  int index = 0, threads = 1;
  long n = 0, counts[3] = {0};
  struct object *object = objects;
  if (sscanf(line, "open %4095s", word) == 1) {
    opened(dlopen(word, RTLD_LAZY | RTLD_LOCAL));
  } else if (sscanf(line, "namespace %4095s", word) == 1) {
    opened(dlmopen(LM_ID_NEWLM, word, RTLD_LAZY));
  } else if (sscanf(line, "close %d", &index) == 1) {
    printf("%d\n", dlclose(objects[index].handle));
  } else if (sscanf(line, "run %d %d %ld %ld %ld", &index, &threads, &job.times[0], &job.times[1],
                    &job.times[2]) == 5) {
    job.object = &objects[index];
    run_threads(threads);
  } else if (sscanf(line, "counts %d", &index) == 1) {
    objects[index].counts(counts);
    printf("%ld %ld %ld\n", counts[0], counts[1], counts[2]);
  } else if (sscanf(line, "pointer %d %ld", &index, &n) == 2) {
    struct large (*barrier)(long) =
        (struct large(*)(long))dlsym(objects[index].handle, "ggml_barrier");
    for (long x = 0; x < n; x++)
      barrier(x);
    printf("%p\n", (void *)barrier);
  } else if (sscanf(line, "spin %d", &threads) == 1) {
    for (pthread_t thread; threads; threads--)
      pthread_create(&thread, NULL, spin, object);
    printf("spinning\n");
  } else if (!strcmp(line, "fork\n")) {
    /* The child obeys from here on; when it has exited, its parent does again. */
    pid_t child = fork();
    int status = 0;
    if (child)
      waitpid(child, &status, 0);
    printf("%d\n", child ? status : getpid());
  } else if (!strcmp(line, "exec\n")) {
    execv("/proc/self/exe", argv);
#ifdef LINKED
  } else if (sscanf(line, "direct %ld", &n) == 1) {
    for (long x = 0; x < n; x++)
      counts[0] += ggml_barrier(x).words[0] == x;
    printf("%ld\n", counts[0]);
#endif
  } else {
    printf("what?\n");
  }
}

int main(int argc, char **argv) {
  (void)argc;
  setvbuf(stdin, NULL, _IONBF, 0);
  setvbuf(stdout, NULL, _IOLBF, 0);
#ifdef LINKED
  objects[object_count++] = (struct object){RTLD_DEFAULT, engine_run, engine_counts};
#endif
  printf("ready\n");
  for (char line[4200]; fgets(line, sizeof line, stdin) && strcmp(line, "exit\n");)
    obey(line, argv);
  return 0;
}
