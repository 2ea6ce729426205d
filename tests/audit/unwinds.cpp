/* An engine whose hot function throws, and who calls it. -DENGINE: the engine; else the program: it
 * is stepped through one call after the other, and from each instruction within the audit library
 * the stack is unwound to who has called. Says how many these were, and how many not. */
#include <cstdint>

extern "C" void ggml_barrier(void *);
extern "C" void engine_call(void *);

#ifdef ENGINE

extern "C" __attribute__((noinline)) void ggml_barrier(void *what) {
  if (what)
    throw 7;
}
extern "C" __attribute__((noinline)) void engine_call(void *what) {
  ggml_barrier(what);
  asm volatile("");
}

#else

#include <csignal>
#include <cstdio>
#include <cstring>
#include <ucontext.h>
#include <unwind.h>

static uintptr_t first, last; /* of the audit library's code */
static long unwound, lost;
static bool is_reached;

static _Unwind_Reason_Code look(_Unwind_Context *context, void *) {
  uintptr_t function = _Unwind_GetRegionStart(context);
  is_reached |= function == reinterpret_cast<uintptr_t>(&engine_call);
  return _URC_NO_REASON;
}

static void step(int, siginfo_t *, void *context) {
  uintptr_t at = static_cast<ucontext_t *>(context)->uc_mcontext.gregs[REG_RIP];
  if (at < first || at >= last)
    return;
  is_reached = false;
  _Unwind_Backtrace(look, nullptr);
  is_reached ? unwound++ : lost++;
}

static void find_library() {
  char line[512];
  std::FILE *maps = std::fopen("/proc/self/maps", "r");
  while (std::fgets(line, sizeof line, maps))
    if (std::strstr(line, "libprofinfer-audit") && std::strstr(line, " r-xp "))
      std::sscanf(line, "%lx-%lx", &first, &last);
  std::fclose(maps);
}

__attribute__((noinline)) static void call_stepped(void *what) {
  asm volatile("pushfq\norq $0x100, (%%rsp)\npopfq" ::: "cc", "memory");
  engine_call(what);
  asm volatile("pushfq\nandq $~0x100, (%%rsp)\npopfq" ::: "cc", "memory");
}

int main() {
  struct sigaction action = {};
  action.sa_sigaction = step;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGTRAP, &action, nullptr);
  find_library();
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::puts("ready");
  for (char line[16]; std::fgets(line, sizeof line, stdin) && std::strcmp(line, "exit\n");) {
    int caught = 0;
    unwound = lost = 0;
    if (!std::strcmp(line, "step\n"))
      call_stepped(nullptr);
    else
      try {
        engine_call(&caught);
      } catch (int thrown) {
        caught = thrown;
      }
    std::printf("%ld %ld %d\n", unwound, lost, caught);
  }
}

#endif
