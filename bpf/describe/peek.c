/* SPDX-License-Identifier: Apache-2.0 */
#include "peek.h"
#include "unfit.h"

#include <string.h>
#include <unistd.h>

/* No page is smaller. */
#define PAGE 4096

static int ends[2] = {-1, -1};

void peek_begin(void) {
  if (ends[0] >= 0) {
    close(ends[0]);
    close(ends[1]);
  }
  if (pipe(ends))
    unfit("no pipe");
}

size_t peek(uint64_t address, void *data, size_t count) {
  size_t done = 0;
  if (!address || address >> 63 || count > PEEK_MAX)
    return 0;
  /* write(2) checks the address for us, and needs no permission as ptrace calls would. Page by
   * page: an emulator writes all that is asked for or nothing. */
  while (done < count) {
    uint64_t at = address + done;
    size_t size = PAGE - at % PAGE;
    if (size > count - done)
      size = count - done;
    ssize_t written = write(ends[1], (const void *)at, size);
    if (written <= 0 || read(ends[0], (char *)data + done, written) != written)
      break;
    done += written;
  }
  return done;
}

void peek_all(uint64_t address, void *data, size_t count) {
  if (peek(address, data, count) != count)
    unfit("cannot read %zu bytes at %#llx", count, (unsigned long long)address);
}

bool peek_is(uint64_t address, const void *wanted, size_t count) {
  char data[PEEK_MAX];
  return peek(address, data, count) == count && !memcmp(data, wanted, count);
}

bool peek_text(uint64_t address, char *text, size_t size) {
  size_t length = 0, readable = peek(address, text, size);
  while (length < readable && text[length] >= ' ' && text[length] <= '~')
    length++;
  return length && length < readable && !text[length];
}
