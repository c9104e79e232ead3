/*
 * Start of a kernel, its output and its end. Before guest_main runs, the shared info page is mapped and the console chosen:
 * the domain's ring, or `console=io` on the command line for Xen's own.
 */
#include "guest.h"
#include <xen/errno.h>

start_info_t *start_info;
shared_info_t *shared_info;

/* Its mapping is replaced by that of the real shared info page. */
static char shared_info_page[PAGE_SIZE] PAGE_DATA;
static enum console console = CONSOLE_RING;

void guest_start(start_info_t *info) {
  start_info = info;
  map_frame(shared_info_page, info->shared_info >> 12, PTE_FLAGS);
  shared_info = (shared_info_t *)shared_info_page;
  if (info->console.domU.mfn == 0 || option_is("console", "io")) console = CONSOLE_IO;
  shutdown(guest_main());
}

void shutdown(unsigned reason) {
#ifdef LEGACY
  hypercall(__HYPERVISOR_sched_op_compat, SCHEDOP_shutdown, reason);
#else
  struct sched_shutdown argument = {.reason = reason};
  hypercall(__HYPERVISOR_sched_op, SCHEDOP_shutdown, &argument);
#endif
  for (;;) __asm__ volatile("ud2");
}

void yield_cpu(void) {
#ifdef LEGACY
  hypercall(__HYPERVISOR_sched_op_compat, SCHEDOP_yield, 0);
#else
  hypercall(__HYPERVISOR_sched_op, SCHEDOP_yield, 0);
#endif
}

void *memset(void *to, int byte, size_t length) {
  void *start = to;
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(length) : "a"(byte) : "memory");
  return start;
}

void *memcpy(void *to, const void *from, size_t length) {
  void *start = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
  return start;
}

size_t strlen(const char *text) {
  size_t length = 0;
  while (text[length] != 0) length++;
  return length;
}

int text_equal(const char *a, const char *b) {
  while (*a != 0 && *a == *b) a++, b++;
  return *a == *b;
}

/* ---- the command line ---- */

/* Where the value of KEY= starts, or NULL. */
static const char *option_text(const char *key) {
  const char *line = (const char *)start_info->cmd_line;
  size_t length = strlen(key);
  for (const char *at = line; *at != 0; at++) {
    if (at != line && at[-1] != ' ') continue;
    size_t i = 0;
    while (i < length && at[i] == key[i]) i++;
    if (i == length && at[i] == '=') return at + i + 1;
  }
  return NULL;
}

long option(const char *key, long otherwise) {
  const char *text = option_text(key);
  if (text == NULL || *text < '0' || *text > '9') return otherwise;
  long value = 0;
  for (; *text >= '0' && *text <= '9'; text++) value = value * 10 + (*text - '0');
  return value;
}

int option_is(const char *key, const char *value) {
  const char *text = option_text(key);
  if (text == NULL) return 0;
  while (*value != 0 && *text == *value) text++, value++;
  return *value == 0 && (*text == 0 || *text == ' ');
}

/* ---- output ---- */

void console_choose(enum console which) { console = which; }

static volatile struct xencons_interface *console_ring(void) { return address_of_frame(start_info->console.domU.mfn); }

static void ring_write(const char *text, size_t length) {
  volatile struct xencons_interface *ring = console_ring();
  while (length > 0) {
    XENCONS_RING_IDX produced = ring->out_prod;
    size_t room = sizeof(ring->out) - (produced - ring->out_cons);
    if (room == 0) {
      event_send(start_info->console.domU.evtchn);
      yield_cpu();
      continue;
    }
    for (; room > 0 && length > 0; room--, length--) ring->out[MASK_XENCONS_IDX(produced++, ring->out)] = *text++;
    memory_fence();
    ring->out_prod = produced;
  }
  event_send(start_info->console.domU.evtchn);
}

void console_write(const char *text, size_t length) {
  if (console == CONSOLE_IO) {
    hypercall(__HYPERVISOR_console_io, CONSOLEIO_write, length, text);
    return;
  }
  /* A terminal wants a carriage return before each line feed. */
  for (size_t from = 0; from < length;) {
    size_t to = from;
    while (to < length && text[to] != '\n') to++;
    if (to > from) ring_write(text + from, to - from);
    if (to < length) ring_write("\r\n", 2), to++;
    from = to;
  }
}

size_t console_read(char *into, size_t size) {
  volatile struct xencons_interface *ring = console_ring();
  XENCONS_RING_IDX consumed = ring->in_cons, produced = ring->in_prod;
  memory_fence();
  size_t count = 0;
  while (count < size && consumed != produced) into[count++] = ring->in[MASK_XENCONS_IDX(consumed++, ring->in)];
  memory_fence();
  ring->in_cons = consumed;
  if (count > 0) event_send(start_info->console.domU.evtchn);
  return count;
}

struct writer {
  char *into;
  size_t size, length;
};

static void put(struct writer *to, char c) {
  if (to->length + 1 < to->size) to->into[to->length++] = c;
}

static void put_number(struct writer *to, u64 value, unsigned base, int negative, int width, char pad) {
  char digits[24];
  int count = 0;
  do digits[count++] = "0123456789abcdef"[value % base];
  while ((value /= base) != 0);
  if (negative && pad == '0') put(to, '-');
  for (int i = count + negative; i < width; i++) put(to, pad);
  if (negative && pad != '0') put(to, '-');
  while (count > 0) put(to, digits[--count]);
}

size_t format_text(char *into, size_t size, const char *format, va_list arguments) {
  struct writer to = {.into = into, .size = size};
  for (; *format != 0; format++) {
    if (*format != '%') {
      put(&to, *format);
      continue;
    }
    char pad = ' ';
    int width = 0, wide = 0;
    format++;
    if (*format == '0') pad = '0';
    for (; *format >= '0' && *format <= '9'; format++) width = width * 10 + (*format - '0');
    for (; *format == 'l'; format++) wide = 1;
    switch (*format) {
      case 'd': {
        long value = wide ? va_arg(arguments, long) : va_arg(arguments, int);
        put_number(&to, value < 0 ? -(u64)value : (u64)value, 10, value < 0, width, pad);
        break;
      }
      case 'u':
      case 'x': {
        u64 value = wide ? va_arg(arguments, unsigned long) : va_arg(arguments, unsigned);
        put_number(&to, value, *format == 'u' ? 10 : 16, 0, width, pad);
        break;
      }
      case 'p': put_number(&to, (u64)va_arg(arguments, void *), 16, 0, 16, '0'); break;
      case 'c': put(&to, (char)va_arg(arguments, int)); break;
      case 's': {
        const char *text = va_arg(arguments, const char *);
        int length = (int)strlen(text);
        while (*text != 0) put(&to, *text++);
        for (; length < width; length++) put(&to, ' ');
        break;
      }
      default: put(&to, *format);
    }
  }
  if (size > 0) into[to.length] = 0;
  return to.length;
}

size_t format_to(char *into, size_t size, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  size_t length = format_text(into, size, format, arguments);
  va_end(arguments);
  return length;
}

void print(const char *format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  size_t length = format_text(line, sizeof(line), format, arguments);
  va_end(arguments);
  console_write(line, length);
}

const char *errno_name(long error) {
  static const struct {
    short value;
    char name[14];
  } names[] = {
#define XEN_ERRNO(name, value) {value, #name},
#undef __XEN_PUBLIC_ERRNO_H__
#include <xen/errno.h>
  };
  if (error < 0) error = -error;
  if (error == 0) return "0";
  for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
    if (names[i].value == error) return names[i].name;
  return "E?";
}

void got(const char *attempt, long result) {
  if (result < 0 && result > -4096 && errno_name(result)[1] != '?') print("%s: got -%s\n", attempt, errno_name(result));
  else print("%s: got %ld\n", attempt, result);
}
